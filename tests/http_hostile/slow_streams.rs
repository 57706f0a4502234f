//! Clients that are slow or silent, over HTTP/2.

use crate::{
    LARGE, closes, proxy, service,
    support::http::{
        Client, Content, RawHttpClient, Reply, Service, Version, at,
        frames::{
            ACK, CONTINUATION, END_STREAM, Frames, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM,
            SETTINGS, head,
        },
        get, post,
    },
};

/// Does this on a connection of its own, and waits for its end. It must come without an answer to
/// what was begun, and no other stream.
fn ends(settings: &str, reason: &str, act: impl Fn(&mut Frames)) {
    let service = service();
    let tollgate = proxy(&service, settings, "");
    let mut client = Frames::connect(at(&tollgate), &[]);
    act(&mut client);
    let last = client.rest();
    assert!(last.iter().all(|it| it.kind != HEADERS && it.kind != RST_STREAM), "{last:?}");
    closes(&tollgate, reason, 1.0);
    assert_eq!(Client::connect(at(&tollgate), Version::Two).round_trip(get("/a")).text(), "hello");
}

/// Sends a GET and reads the response.
fn get_and_read(client: &mut Frames, stream: u32) {
    client.get(stream, "/a");
    client.until(|it| it.ends(stream));
}

#[test]
fn a_client_that_stops_after_the_preface_is_closed() {
    ends("handshake_timeout: 300ms", "handshake_timeout", |_| {});
}

#[test]
fn a_client_that_stops_in_the_preface_is_closed() {
    let service = service();
    let tollgate = proxy(&service, "handshake_timeout: 300ms", "");
    let mut client = RawHttpClient::connect(at(&tollgate));
    client.send(b"PRI * HTTP/2.0\r\n");
    assert!(client.rest().is_ok_and(|rest| rest.is_empty()));
    closes(&tollgate, "handshake_timeout", 1.0);
}

#[test]
fn a_head_that_does_not_end_is_cut_off() {
    ends("handshake_timeout: 300ms", "handshake_timeout", |client| {
        // What acknowledges settings may not come between the frames of a head.
        client.until(|it| it.kind == SETTINGS && it.flags & ACK == 0);
        let head = head("/a");
        client.send(HEADERS, END_STREAM, 1, &head[..10]);
        client.send(CONTINUATION, 0, 1, &head[10..]);
    });
}

#[test]
fn a_client_idle_between_requests_is_closed() {
    ends("idle_timeout: 300ms", "idle_timeout", |client| get_and_read(client, 1));
}

#[test]
fn a_later_head_that_does_not_end_is_no_request() {
    ends("idle_timeout: 300ms", "idle_timeout", |client| {
        get_and_read(client, 1);
        client.send(HEADERS, END_STREAM, 3, &head("/a"));
    });
}

#[test]
fn no_connection_lives_longer_than_it_may() {
    ends("max_connection_duration: 500ms", "max_duration", |client| get_and_read(client, 1));
}

#[test]
fn a_body_that_does_not_end_ends_its_stream_alone() {
    let service = service();
    let tollgate = proxy(&service, "", "stream_idle_timeout: 300ms");
    let client = Client::connect(at(&tollgate), Version::Two);
    let (feed, content) = Content::fed();
    let stalls = client.begin(post("/a", content));
    feed.send("begun");
    let answer = stalls.answer();
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"timed_out".into()), "{answer:?}");
    assert_eq!(client.round_trip(get("/b")).text(), "hello");
    let whole = service.received().into_iter().filter(|asked| asked.whole_body().is_some());
    assert_eq!(whole.map(|asked| asked.target).collect::<Vec<_>>(), ["/b"]);
    let line = &tollgate.logged(1, |line| line["path"] == "/a")[0];
    assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"idle_timeout".into()));
}

#[test]
fn a_client_without_flow_control_window_is_closed() {
    let service = service();
    let tollgate = proxy(&service, "write_timeout: 500ms", "");
    let before = tollgate.resident_memory();
    let mut client = Frames::connect(at(&tollgate), &[(INITIAL_WINDOW_SIZE, 0)]);
    (0..100).for_each(|n| client.get(2 * n + 1, "/large"));
    assert!(client.rest().iter().all(|it| !(0..100).any(|n| it.ends(2 * n + 1))));
    closes(&tollgate, "write_timeout", 1.0);
    let grown = tollgate.resident_memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[test]
fn responses_that_are_not_read_hold_up_no_others() {
    let large = bytes::Bytes::from(vec![b'x'; LARGE]);
    let service = Service::start(Version::Two, move |asked| match asked.target.as_str() {
        "/large" => Reply::ok(large.clone()),
        _ => Reply::ok("hello"),
    });
    let tollgate = proxy(&service, "", "");
    let mut reads_nothing = Frames::connect(at(&tollgate), &[(INITIAL_WINDOW_SIZE, 0)]);
    (0..64).for_each(|n| reads_nothing.get(2 * n + 1, "/large"));
    (0..64).for_each(|_| drop(reads_nothing.until(|it| it.kind == HEADERS)));
    assert_eq!(Client::connect(at(&tollgate), Version::Two).round_trip(get("/a")).text(), "hello");
    assert_eq!(service.connections(), 1);
}
