//! JSON that is deep, large, or never ends.

use crate::{
    TREE, before, service,
    support::{
        eventually,
        http::{
            Answer, Client, Content, Feed, Pending, Reply, Service, TestRequest, Version, get, post,
        },
        tollgate::Tollgate,
    },
};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// As long as `max_message` lets a body be, all but.
const LONG: usize = (4 << 20) - 100;
/// What the process may take beside what it takes at rest while it reads such a body, in bytes: the
/// body, the message, the frame with it, and what each buffer has to grow.
const STATED: u64 = 32 << 20;

fn transcoding() -> String {
    format!("transcode: {{ descriptors: \"{TREE}\" }}")
}

fn to(tollgate: &Tollgate, version: Version) -> Client {
    Client::connect(tollgate.listener("rpc"), version)
}

fn json(target: &str, body: impl Into<Content>) -> TestRequest {
    post(target, body).header("content-type", "application/json")
}

/// A body of this item again and again.
fn list(open: &str, item: &str, close: &str) -> Bytes {
    let count = (LONG - open.len() - close.len()) / (item.len() + 1);
    format!("{open}{item}{}{close}", format!(",{item}").repeat(count - 1)).into()
}

#[test]
fn a_query_of_950_levels_is_refused_and_the_process_lives() {
    let service = service();
    let mut tollgate = before(&service.endpoints(), &transcoding(), "");
    for version in [Version::One, Version::Two] {
        let client = to(&tollgate, version);
        let answer = client.round_trip(get(&format!("/v1/tree?{}v=1", "a.".repeat(950))));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &3.into()), "{answer:?}");
        assert!(answer.text().contains("deeper than 32 names"), "{answer:?}");
        assert_eq!(client.round_trip(get("/v1/tree?a.a.a.v=1")).status, 200);
        let deep = ["{\"a\":".repeat(5000), "{}".to_owned(), "}".repeat(5000)].concat();
        assert_eq!(client.round_trip(json("/v1/tree", deep)).status, 400);
    }
    assert!(tollgate.is_running());
}

#[test]
fn long_bodies_take_bounded_memory_and_delay_no_other_request() {
    let service = service();
    let tollgate = before(&service.endpoints(), &transcoding(), "");
    let (large, small) = (to(&tollgate, Version::Two), to(&tollgate, Version::Two));
    assert_eq!(small.round_trip(get("/v1/tree")).status, 200);
    let rest = tollgate.resident_memory();
    let (mut reading, mut waiting) = (Duration::ZERO, Duration::ZERO);
    for (open, item, close, status) in [
        ("{\"r\":[", "{\"\":0}", "]}", 400),
        ("[", "[]", "]", 400),
        ("{\"nodes\":[", "{\"nope\":0}", "]}", 400),
        ("{\"r\":[", "\"\"", "]}", 200),
        ("{\"nodes\":[", "{}", "]}", 200),
        ("{\"nodes\":[", "{\"v\":\"\"}", "]}", 200),
        ("{\"numbers\":{\"packed\":[", "1", "]}}", 200),
        // Each number takes eleven bytes more than here.
        ("{\"list\":[", "1", "]}", 429),
    ] {
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        let pending = large.begin(json("/v1/tree", list(open, item, close)));
        while !pending.is_answered() {
            let began = Instant::now();
            assert_eq!(small.round_trip(get("/v1/tree")).status, 200);
            longest = longest.max(began.elapsed());
        }
        let took = began.elapsed();
        let answer = pending.answer();
        assert_eq!(answer.status, status, "{open}{item}: {answer:?}");
        println!(
            "{open}{item},…{close}: {status} in {took:?}, the longest GET beside it {longest:?}, \
             {} KiB above rest at most",
            (tollgate.peak_memory() - rest) >> 10
        );
        if status == 200 {
            reading += took;
            waiting += longest;
        }
    }
    // On the worker's own thread, the longest GET beside a body takes as long as all of its reading.
    assert!(waiting < reading * 7 / 10, "GETs waited {waiting:?} of {reading:?}");
    assert!(tollgate.peak_memory() - rest < STATED, "{} bytes", tollgate.peak_memory() - rest);
}

/// A client of which each request has a body that does not end.
struct Endless {
    _client: Client,
    _feeds: Vec<Feed>,
    waiting: Vec<Pending>,
    refused: Vec<Answer>,
}

impl Endless {
    /// Sends so many bodies at once, and waits until no more than `held` of them are left and no byte
    /// is on its way any more: from there on none of them asks for more room.
    fn new(tollgate: &Tollgate, streams: usize, held: usize) -> Self {
        let client = to(tollgate, Version::Two);
        let (mut feeds, mut waiting) = (Vec::new(), Vec::new());
        let unsent: Arc<[u8]> = vec![b' '; LONG].into();
        for _ in 0..streams {
            let (feed, content) = Content::fed();
            feed.send(Bytes::from_owner(unsent.clone()));
            feeds.push(feed);
            waiting.push(client.begin(json("/v1/tree", content)));
        }
        eventually("bodies to be refused", || {
            let refused = waiting.iter().filter(|it| it.is_answered()).count();
            (refused >= streams - held && Arc::strong_count(&unsent) == 1).then_some(())
        });
        let (refused, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|it| it.is_answered());
        let refused = refused.into_iter().map(Pending::answer).collect();
        Self { _client: client, _feeds: feeds, waiting, refused }
    }
}

#[test]
fn endless_bodies_take_bounded_memory_and_release_it() {
    let service = service();
    let tollgate = before(&service.endpoints(), &transcoding(), "");
    let other = to(&tollgate, Version::Two);
    assert_eq!(other.round_trip(get("/v1/tree")).status, 200);
    let rest = tollgate.resident_memory();
    let endless = Endless::new(&tollgate, 40, 8);
    assert!(!endless.waiting.is_empty(), "some have room");
    for answer in &endless.refused {
        assert_eq!((answer.status, &answer.json()["code"]), (429, &8.into()), "{answer:?}");
        assert!(answer.text().contains("`max_buffered_per_connection`"), "{answer:?}");
    }
    let peak = tollgate.peak_memory() - rest;
    println!("40 bodies of 4 MiB on one connection: {} KiB above rest at most", peak >> 10);
    assert!(peak < 64 << 20, "{peak} bytes above rest");
    assert_eq!(other.round_trip(json("/v1/tree", "{\"v\":\"x\"}")).status, 200);
    drop(endless);
    let left = eventually("memory to come back", || {
        let left = tollgate.resident_memory().saturating_sub(rest);
        (left < 24 << 20).then_some(left)
    });
    println!("and {} KiB once it is gone", left >> 10);
}

#[test]
fn a_worker_holds_no_more_than_its_bound_for_all_connections() {
    let service = service();
    let settings = format!("{}, max_buffered: 6MiB", transcoding());
    let tollgate = before(&service.endpoints(), &settings, "");
    let endless = Endless::new(&tollgate, 12, 1);
    for answer in &endless.refused {
        assert!(answer.text().contains("`max_buffered`"), "{answer:?}");
    }
    let other = to(&tollgate, Version::Two);
    let answer = other.round_trip(json("/v1/tree", list("{\"r\":[", "\"\"", "]}")));
    assert_eq!(answer.status, 429, "{answer:?}");
    drop(endless);
    eventually("room", || {
        let answer = other.round_trip(json("/v1/tree", list("{\"r\":[", "\"\"", "]}")));
        (answer.status == 200).then_some(())
    });
}

/// A field of bytes, as protobuf has it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len > 0x7f {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

/// A service whose answer is this message.
fn answering(message: &[u8]) -> Service {
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let frame = Bytes::from(frame);
    Service::start(Version::Two, move |_| {
        let content = Content::from(frame.clone()).trailers(&[("grpc-status", "0")]);
        Reply::ok(content).header("content-type", "application/grpc")
    })
}

#[test]
fn a_deeply_nested_message_is_an_error() {
    let (mut deep, mut any) = (Vec::new(), Vec::new());
    for _ in 0..5000 {
        deep = field(1, &deep);
        any = [field(1, b"x/google.protobuf.Any"), field(2, &any)].concat();
    }
    for message in [deep, field(9, &any)] {
        let service = answering(&message);
        let mut tollgate = before(&service.endpoints(), &transcoding(), "");
        let answer = to(&tollgate, Version::Two).round_trip(get("/v1/tree"));
        assert_eq!((answer.status, &answer.json()["code"]), (500, &13.into()), "{answer:?}");
        assert!(tollgate.is_running());
    }
}

#[test]
fn a_service_s_long_message_is_written_within_a_stated_memory() {
    for item in [&[0x1a, 0][..], &[0x1a, 3, 0x12, 1, b'x'], &[0x22, 0]] {
        let service = answering(&item.repeat(LONG / item.len()));
        let tollgate = before(&service.endpoints(), &transcoding(), "");
        let client = to(&tollgate, Version::Two);
        let rest = tollgate.resident_memory();
        let answer = client.round_trip(get("/v1/tree"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.len() > LONG);
        let peak = tollgate.peak_memory() - rest;
        println!("{item:?}…: {} KiB above rest at most", peak >> 10);
        assert!(peak < STATED, "{peak} bytes above rest");
    }
}
