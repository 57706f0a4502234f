//! `expect: 100-continue`, where a client's body waits until the service wants it; and what else a
//! service says before its answer.

use crate::support::{
    ends::{End, Upstream},
    http::{Client, Content, Version, at, endpoints, post, proxy_to},
    tollgate::Tollgate,
};
use std::time::Duration;

const ASK: &[u8] =
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";

fn asked() -> (Upstream, Tollgate, End, End, String) {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(ASK);
    let mut service = upstream.accept();
    let head = service.head();
    (upstream, tollgate, client, service, head)
}

#[test]
fn the_body_is_sent_when_the_service_wants_it() {
    let (_upstream, tollgate, mut client, mut service, head) = asked();
    assert!(head.contains("expect: 100-continue"), "{head}");
    service.send(b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"hello");
    service.expect(b"hello");
    service.send(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.head().starts_with("HTTP/1.1 201"));
    client.expect(b"ok");
    assert_eq!(tollgate.logged(1, |_| true)[0]["outcome"], "ok");
}

#[test]
fn a_service_that_says_no_is_never_sent_the_body() {
    for status in ["417 Expectation Failed", "401 Unauthorized"] {
        let (upstream, tollgate, mut client, mut service, _) = asked();
        let no = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno");
        service.send(no.as_bytes());
        // The client hears that, and no 100 before it.
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        client.expect(b"no");
        // What the service was promised never comes: its connection carries nothing else.
        assert_eq!(service.rest(), b"");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(
            (&line["outcome"], &line["flags"]),
            (&"rejected".into(), &"early_answer".into())
        );
        drop(upstream);
    }
}

#[test]
fn a_service_that_says_nothing_gets_the_body_after_a_second() {
    let (_upstream, _tollgate, mut client, mut service, _) = asked();
    service.expect_silence(Duration::from_millis(300));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"hello");
    service.expect(b"hello");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_does_not_wait_has_its_body_passed_on() {
    let (_upstream, _tollgate, mut client, mut service, _) = asked();
    client.send(b"hello");
    service.send(b"HTTP/1.1 100 Continue\r\n\r\n");
    service.expect(b"hello");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    while !client.head().starts_with("HTTP/1.1 200") {}
}

#[test]
fn hints_before_the_answer_do_not_end_the_request() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let client = Client::connect(at(&tollgate), Version::Two);
    let pending = client.begin(post("/", Content::from("hello")));
    let mut service = upstream.accept();
    service.head();
    service.expect(b"hello");
    service.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    service.send(b"HTTP/1.1 100 Continue\r\n\r\n");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let answer = pending.answer();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

#[test]
fn hints_before_the_answer_are_the_clients() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 102 Processing\r\n\r\n");
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\n\r\n";
    service.send(hints.replace("\r\n\r\n", "\r\nkeep-alive: 5\r\n\r\n").as_bytes());
    assert_eq!(client.head(), hints);
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.head().starts_with("HTTP/1.1 200 OK"));
    client.expect(b"ok");
    // One that comes with its answer, on a connection that was used before.
    service.head();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    service.send([hints, answer].concat().as_bytes());
    assert_eq!(client.head(), hints);
    assert!(client.head().starts_with("HTTP/1.1 200 OK"));
    client.expect(b"ok");
    assert_eq!(tollgate.logged(2, |line| line["outcome"] == "ok").len(), 2);
}

#[test]
fn an_http_1_0_client_gets_no_early_hints() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.head().starts_with("HTTP/1.0 200 OK"));
    client.expect(b"ok");
}
