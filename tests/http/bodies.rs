//! Bodies and trailers pass both ways, byte for byte, and no faster than they are taken.

use crate::support::{
    ends::{End, Upstream},
    eventually,
    http::{
        Client, Content, PAIRINGS, Reply, Service, Version, at, endpoints, get, post, proxy,
        proxy_to, soon,
    },
};
use bytes::Bytes;
use h2::SendStream;
use http::Request;
use http_body_util::BodyExt;
use std::{future::poll_fn, sync::atomic::Ordering, task::Poll, time::Duration};
use tokio::net::TcpStream;

/// Bytes that show when any of them is lost, doubled or moved.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn bodies_of_any_size_come_back_as_they_were_sent() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::echo());
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        // The last is more than all windows of a connection.
        for len in [0, 1, 64 << 10, 3 << 20] {
            let whole = client.round_trip(post("/echo", bytes(len)));
            assert_eq!(whole.status, 200, "{client_version:?} {answers:?} {len}");
            assert!(
                !whole.broken && whole.body == bytes(len),
                "{client_version:?} {answers:?} {len}"
            );
            let streamed =
                client.round_trip(post("/echo", Content::from(bytes(len)).unknown_length()));
            assert!(
                !streamed.broken && streamed.body == bytes(len),
                "{client_version:?} {answers:?} {len}"
            );
        }
        assert_eq!(service.connections(), 1, "{client_version:?} {answers:?}");
    }
}

#[test]
fn a_known_length_is_kept_and_an_unknown_one_not_invented() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |asked| match asked.target.as_str() {
            "/known" => Reply::ok("hello"),
            _ => Reply::ok(Content::pieces(&[b"hel", b"lo"])),
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let known = client.round_trip(post("/known", "hello"));
        assert_eq!((known.text(), &*known.header("content-length")), ("hello", "5"));
        let unknown = client.round_trip(post("/unknown", Content::pieces(&[b"hel", b"lo"])));
        assert_eq!((unknown.text(), &*unknown.header("content-length")), ("hello", ""));
        let [first, second] = &service.received()[..] else { panic!("two requests") };
        assert_eq!((&*first.body, &*first.header("content-length")), (&b"hello"[..], "5"));
        assert_eq!((&*second.body, &*second.header("content-length")), (&b"hello"[..], ""));
    }
}

#[test]
fn requests_without_a_body_are_given_none() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "hello");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        assert_eq!(client.round_trip(get("/")).text(), "hello");
        let asked = &service.received()[0];
        assert_eq!(asked.header("content-length") + &asked.header("transfer-encoding"), "");
    }
}

#[test]
fn trailers_pass_both_ways() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| {
            let content = Content::from("hello").trailers(&[("x-sum", "42"), ("x-end", "yes")]);
            Reply::ok(content).header("trailer", "x-sum, x-end")
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let sent = Content::from("abc").trailers(&[("x-count", "3")]);
        let ask = post("/", sent).header("te", "trailers").header("trailer", "x-count");
        let answer = client.round_trip(ask);
        assert_eq!(answer.text(), "hello");
        assert_eq!(
            answer.trailers.get("x-sum").expect("a trailer"),
            "42",
            "{client_version:?} {answers:?}"
        );
        assert_eq!(answer.trailers.get("x-end").expect("a trailer"), "yes");
        let asked = &service.received()[0];
        assert_eq!(asked.body, b"abc");
        assert_eq!(
            asked.trailers.get("x-count").expect("a trailer"),
            "3",
            "{client_version:?} {answers:?}"
        );
        assert_eq!(asked.header("te"), "trailers");
    }
}

#[test]
fn pieces_of_an_answer_pass_as_they_come() {
    for (client_version, answers) in PAIRINGS {
        let (feed, content) = Content::fed();
        let service = Service::once(answers, content);
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let mut answer = client.open(get("/events"));
        for piece in ["one", "two"] {
            // It is only sent now: a reader that waits for more than a piece never gets it.
            feed.send(piece);
            let frame = crate::support::http::soon("a piece", answer.frame());
            let frame = frame.expect("a frame").expect("no error").into_data().expect("data");
            assert_eq!(frame, piece, "{client_version:?} {answers:?}");
        }
    }
}

#[test]
fn pieces_of_a_request_pass_as_they_come() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "done");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let (feed, content) = Content::fed();
        let pending = client.begin(post("/", content));
        feed.send("one");
        eventually("the first piece", || {
            (service.received().first()?.body == b"one").then_some(())
        });
        feed.send("two");
        eventually("the second", || (service.received().first()?.body == b"onetwo").then_some(()));
        assert!(!pending.is_answered());
        drop(feed);
        assert_eq!(pending.answer().text(), "done");
    }
}

/// The value, once it has stayed the same for a while.
fn settled(look: impl Fn() -> u64) -> u64 {
    let (mut last, mut same) = (0, 0);
    eventually("a standstill", || {
        let now = look();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same > 50).then_some(now)
    })
}

#[test]
fn a_client_that_does_not_read_holds_the_service_up() {
    for (client_version, answers) in PAIRINGS {
        let content = Content::endless(bytes(16 << 10));
        let taken = content.taken();
        let service = Service::once(answers, content);
        let tollgate = proxy(&service, "");
        let before = tollgate.resident_memory();
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.open(get("/"));
        let taken = settled(|| taken.load(Ordering::Relaxed));
        // The kernel's buffers of two connections, and HTTP/2's windows.
        assert!(taken < 32 << 20, "{taken} bytes, {client_version:?} {answers:?}");
        let grown = tollgate.resident_memory().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more, {client_version:?} {answers:?}");
        drop(answer);
    }
}

#[test]
fn a_service_that_does_not_read_holds_the_client_up() {
    for client_version in [Version::One, Version::Two] {
        let upstream = Upstream::start();
        let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
        let before = tollgate.resident_memory();
        let client = Client::connect(at(&tollgate), client_version);
        let content = Content::endless(bytes(16 << 10));
        let taken = content.taken();
        let _pending = client.begin(post("/", content));
        let mut service = upstream.accept();
        service.head();
        let taken = settled(|| taken.load(Ordering::Relaxed));
        assert!(taken < 32 << 20, "{taken} bytes, {client_version:?}");
        let grown = tollgate.resident_memory().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more, {client_version:?}");
    }
}

#[test]
fn a_response_to_head_has_the_length_but_no_body() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| {
            Reply::empty(200).header("content-length", "12345").header("etag", "\"a\"")
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        for _ in 0..2 {
            let answer =
                client.round_trip(crate::support::http::TestRequest::new(http::Method::HEAD, "/"));
            assert_eq!((answer.status, &*answer.body), (200, &b""[..]));
            assert_eq!(answer.header("content-length"), "12345", "{client_version:?} {answers:?}");
            assert_eq!(answer.header("etag"), "\"a\"");
            assert!(!answer.broken);
        }
        assert_eq!(service.connections(), 1, "{client_version:?} {answers:?}");
    }
}

#[test]
fn answers_that_never_have_a_body_have_none() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |asked| match asked.target.as_str() {
            "/204" => Reply::empty(204),
            _ => Reply::empty(304).header("etag", "\"a\"").header("content-length", "77"),
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        for _ in 0..2 {
            let answer = client.round_trip(get("/204"));
            assert_eq!((answer.status, answer.header("content-length").as_str()), (204, ""));
            let answer = client.round_trip(get("/304"));
            assert_eq!((answer.status, answer.header("etag").as_str()), (304, "\"a\""));
            assert!(answer.body.is_empty() && !answer.broken);
        }
        assert_eq!(service.connections(), 1, "{client_version:?} {answers:?}");
    }
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 200 OK\r\n\r\nhello");
    service.finish();
    assert!(client.head().contains("transfer-encoding: chunked"));
    client.expect(b"5\r\nhello\r\n0\r\n\r\n");
    // The client's connection goes on.
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    client.expect_silence(Duration::from_millis(10));
}

/// Whether the other side has reset this stream.
async fn is_reset(stream: &mut SendStream<Bytes>) -> bool {
    poll_fn(|cx| Poll::Ready(stream.poll_reset(cx).is_ready())).await
}

#[test]
fn a_request_may_say_that_it_has_ended_after_its_answer() {
    let service = Service::start(Version::One, |_| Reply::ok("answer"));
    let tollgate = proxy(&service, "");
    soon("answers", async {
        let stream = TcpStream::connect(at(&tollgate)).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut asked = Vec::new();
        for _ in 0..90 {
            client = client.ready().await.unwrap();
            let request = Request::post("http://shop.example/").header("content-length", "5");
            let request = request.body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            body.send_data("hello".into(), false).unwrap();
            asked.push((answer, body));
        }
        let mut answered = Vec::new();
        for (answer, body) in asked {
            let mut answer = answer.await.unwrap().into_body();
            assert_eq!(answer.data().await.unwrap().unwrap(), "answer");
            assert!(answer.data().await.is_none());
            answered.push(body);
        }
        // What was said before this answer has come before it.
        let (answer, _) = client
            .send_request(Request::get("http://shop.example/").body(()).unwrap(), true)
            .unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        for body in &mut answered {
            assert!(!is_reset(body).await);
            body.send_data(Bytes::new(), true).unwrap();
        }
    });
    assert_eq!(tollgate.logged(91, |line| line["outcome"] == "ok").len(), 91);
}
