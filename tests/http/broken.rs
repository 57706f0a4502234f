//! Clients and services that leave in the middle: the other side is closed at once, and the
//! log says which side left.

use crate::support::{
    ends::{End, Upstream},
    eventually,
    http::{
        Client, Content, PAIRINGS, Reply, Service, State, Version, at, endpoints, get, post, proxy,
        proxy_to, soon,
    },
};
use http_body_util::BodyExt;
use std::time::Duration;

#[test]
fn an_early_response_passes_at_once() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::status(403).early());
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let (feed, content) = Content::fed();
        let pending = client.begin(post("/", content));
        feed.send("one");
        let answer = pending.answer();
        assert_eq!((answer.status, answer.text()), (403, "403"), "{client_version:?} {answers:?}");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["flags"], "early_answer", "{client_version:?} {answers:?} {line}");
        assert_eq!(line["outcome"], "rejected");
    }
}

#[test]
fn the_rest_of_a_request_after_its_response_harms_no_other() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |asked| match asked.target.as_str() {
            "/early" => Reply::status(403).early(),
            _ => Reply::echo(),
        });
        let tollgate = proxy(&service, "");
        for _ in 0..3 {
            let client = Client::connect(at(&tollgate), client_version);
            let early = client.begin(post("/early", vec![b'x'; 1 << 20])).try_answer();
            assert_eq!(early.map(|it| it.status), Ok(403), "{client_version:?} {answers:?}");
            let client = Client::connect(at(&tollgate), client_version);
            assert_eq!(
                client.round_trip(post("/", "hello")).text(),
                "hello",
                "{client_version:?} {answers:?}"
            );
        }
    }
}

#[test]
fn a_response_passes_though_the_service_closes_early() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let body = vec![b'x'; 10 << 20];
    for _ in 0..50 {
        let mut client = End::connect(at(&tollgate));
        client.send(
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())
                .as_bytes(),
        );
        let mut uploading = client.try_clone();
        let all = std::thread::scope(|scope| {
            // The proxy may close before it has all of it.
            scope.spawn(|| drop(uploading.try_send(&body)));
            let mut service = upstream.accept();
            service.head();
            service.send(
                b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\n413",
            );
            drop(service);
            client.rest()
        });
        let all = String::from_utf8(all).expect("text");
        assert!(all.starts_with("HTTP/1.1 413") && all.ends_with("\r\n413"), "{all}");
    }
    for line in tollgate.logged(50, |_| true) {
        assert_eq!(line["outcome"], "rejected", "{line}");
    }
}

#[test]
fn a_client_that_ended_its_half_is_answered() {
    let service = Service::start(Version::One, |_| Reply::echo());
    let tollgate = proxy(&service, "half_close: true");
    let mut client = End::connect(at(&tollgate));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    client.finish();
    let all = String::from_utf8(client.rest()).expect("text");
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("hello"), "{all}");
    assert_eq!(tollgate.logged(1, |_| true)[0]["outcome"], "ok");
}

#[test]
fn a_client_that_closes_in_its_body_cancels_the_request() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "never");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let (feed, content) = Content::fed();
        let pending = client.begin(post("/", content));
        feed.send("one");
        eventually("the first piece", || {
            (service.received().first()?.body == b"one").then_some(())
        });
        drop(pending);
        drop(client);
        eventually("the service to hear", || {
            (service.received()[0].state == State::Broken).then_some(())
        });
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "cancelled", "{client_version:?} {answers:?} {line}");
    }
}

#[test]
fn a_client_that_closes_before_the_response_cancels_it() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::never());
        let tollgate = proxy(&service, "");
        let address = at(&tollgate);
        if client_version == Version::One {
            let mut client = End::connect(address);
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            service.wait_for_requests(1);
            client.reset();
        } else {
            // Only this stream ends.
            let client = Client::connect(address, client_version);
            let pending = client.begin(get("/"));
            service.wait_for_requests(1);
            drop(pending);
            eventually("the stream's end", || {
                (service.received()[0].state == State::Dropped).then_some(())
            });
            assert!(!client.has_ended());
        }
        eventually("the service to hear", || {
            (service.received()[0].state == State::Dropped).then_some(())
        });
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "cancelled", "{client_version:?} {answers:?} {line}");
    }
}

#[test]
fn a_client_that_closes_in_the_response_stops_the_service() {
    for (client_version, answers) in PAIRINGS {
        let (feed, content) = Content::fed();
        let service = Service::once(answers, content);
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let mut answer = client.open(get("/"));
        feed.send("one");
        soon("a piece", answer.frame()).expect("a frame").expect("no error");
        drop(answer);
        drop(client);
        eventually("the service to hear", || {
            // Only a write shows that the peer has closed.
            feed.send("more");
            (!feed.is_read()).then_some(())
        });
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "cancelled", "{client_version:?} {answers:?} {line}");
        tollgate.wait_for_metric("tollgate_operations_active", &[], 0.0);
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |asked| match asked.target.as_str() {
            "/length" => Reply::ok(Content::from("hello").broken()),
            _ => Reply::ok(Content::from("hello").broken().unknown_length()),
        });
        let tollgate = proxy(&service, "");
        for target in ["/length", "/stream"] {
            let client = Client::connect(at(&tollgate), client_version);
            // What came before may be lost with it, but an end it never looks like.
            let answer = client.begin(get(target)).try_answer();
            let whole = answer.is_ok_and(|it| it.status == 200 && !it.broken);
            assert!(!whole, "{client_version:?} {answers:?} {target}");
        }
        for line in tollgate.logged(2, |_| true) {
            assert_eq!(line["outcome"], "lost", "{client_version:?} {answers:?} {line}");
        }
    }
}

#[test]
fn a_service_that_leaves_before_its_answer_is_a_502() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::reset());
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.round_trip(get("/"));
        assert_eq!(answer.status, 502, "{client_version:?} {answers:?}");
        assert_eq!(answer.json()["error"], "lost", "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"upstream_reset".into()));
    }
}

#[test]
fn a_service_that_speaks_no_http_is_a_502() {
    let replies: [&[u8]; 4] = [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09",
    ];
    for reply in replies {
        let upstream = Upstream::start();
        let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
        let client = Client::connect(at(&tollgate), Version::One);
        let pending = client.begin(get("/"));
        let mut service = upstream.accept();
        service.head();
        service.send(reply);
        service.finish();
        let answer = pending.answer();
        assert_eq!(answer.status, 502, "{answer:?}");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "lost", "{line}");
    }
}

#[test]
fn bytes_after_a_response_reach_no_other_client() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nX",
    );
    client.head();
    client.expect(b"1");
    client.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    assert!(service.head().starts_with("GET /2"));
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2");
    client.head();
    client.expect(b"2");
    client.expect_silence(Duration::from_millis(10));
}
