//! Clients that are slow, silent or too much, over HTTP/1.

use crate::{
    closes, proxy, service,
    support::{
        ends::Upstream,
        http::{
            Client, Content, RawHttpClient, Reply, Service, Version, endpoints, get, post, proxy_to,
        },
        tollgate::Tollgate,
    },
};
use std::{
    thread,
    time::{Duration, Instant},
};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// Does this on a connection of its own, and waits for the end without an answer.
fn ends_unanswered(settings: &str, reason: &str, act: impl Fn(&mut RawHttpClient)) {
    let service = service();
    let tollgate = proxy(&service, settings, "");
    let mut client = RawHttpClient::connect(tollgate.listener("web"));
    act(&mut client);
    assert_eq!(client.rest().map(|rest| rest.len()).unwrap_or(0), 0, "{reason}");
    closes(&tollgate, reason, 1.0);
    assert_eq!(RawHttpClient::connect(tollgate.listener("web")).get("/a").status, 200);
}

#[test]
fn a_silent_client_is_closed() {
    ends_unanswered("first_byte_timeout: 300ms", "first_byte_timeout", |_| {});
}

#[test]
fn a_head_that_does_not_end_is_cut_off() {
    ends_unanswered("handshake_timeout: 300ms", "handshake_timeout", |client| {
        client.send(&GET[..20]);
    });
}

#[test]
fn a_later_head_that_does_not_end_is_cut_off() {
    ends_unanswered("message_timeout: 300ms", "message_timeout", |client| {
        assert_eq!(client.get("/a").status, 200);
        client.send(&GET[..20]);
    });
}

#[test]
fn a_client_idle_between_requests_is_closed() {
    ends_unanswered("idle_timeout: 300ms", "idle_timeout", |client| {
        assert_eq!(client.get("/a").status, 200);
    });
}

#[test]
fn no_connection_lives_longer_than_it_may() {
    ends_unanswered("max_connection_duration: 500ms", "max_duration", |client| {
        assert_eq!(client.get("/a").status, 200);
    });
}

#[test]
fn a_body_that_does_not_end_is_a_408() {
    for heads in ["content-length: 10\r\n", "transfer-encoding: chunked\r\n"] {
        let service = service();
        let tollgate = proxy(&service, "message_timeout: 300ms", "");
        let mut client = RawHttpClient::connect(tollgate.listener("web"));
        client.send(format!("POST /a HTTP/1.1\r\nhost: a\r\n{heads}\r\n1\r\n").as_bytes());
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.header("connection")), (408, "close".to_owned()));
        assert_eq!(answer.json()["error"], "message_timeout");
        assert!(client.rest().unwrap().is_empty());
        closes(&tollgate, "message_timeout", 1.0);
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "cancelled", "{line}");
        assert_eq!(line["reason"], "message_timeout", "{line}");
        assert_eq!(line["status"], "408", "{line}");
    }
}

#[test]
fn an_endless_body_is_a_408_on_its_stream_alone() {
    let service = service();
    let tollgate = proxy(&service, "message_timeout: 300ms", "");
    let client = Client::connect(tollgate.listener("web"), Version::Two);
    let (feed, content) = Content::fed();
    let pending = client.begin(post("/a", content));
    feed.send("one");
    let answer = pending.answer();
    assert_eq!((answer.status, &answer.json()["error"]), (408, &"message_timeout".into()));
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!(
        (&line["outcome"], &line["reason"]),
        (&"cancelled".into(), &"message_timeout".into())
    );
    assert_eq!(client.round_trip(get("/a")).status, 200);
}

#[test]
fn an_upload_that_flows_may_take_as_long_as_it_takes() {
    for version in [Version::One, Version::Two] {
        let service = Service::start(Version::One, |_| Reply::echo());
        let tollgate = proxy(&service, "message_timeout: 1s", "");
        let client = Client::connect(tollgate.listener("web"), version);
        let (feed, content) = Content::fed();
        let pending = client.begin(post("/a", content));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1500) {
            feed.send("x");
            thread::park_timeout(Duration::from_millis(50));
        }
        drop(feed);
        assert_eq!(pending.answer().status, 200, "{version:?}");
        assert_eq!(tollgate.logged(1, |_| true)[0]["outcome"], "ok", "{version:?}");
    }
}

#[test]
fn a_service_that_is_slow_to_read_is_no_pause_of_the_client() {
    const LONG: usize = 24 << 20;
    for version in [Version::One, Version::Two] {
        let upstream = Upstream::start();
        let cluster = endpoints(&[upstream.address()]);
        let tollgate = proxy_to(&cluster, "", "message_timeout: 300ms");
        let client = Client::connect(tollgate.listener("web"), version);
        let pending = client.begin(post("/a", vec![b'x'; LONG]));
        let mut service = upstream.accept();
        service.head();
        thread::park_timeout(Duration::from_millis(800));
        let mut body = vec![0; LONG];
        service.try_read(&mut body).unwrap();
        service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(pending.answer().text(), "ok", "{version:?}");
    }
}

#[test]
fn a_request_may_have_a_time_for_all_of_it() {
    for version in [Version::One, Version::Two] {
        let service = Service::start(Version::One, |_| Reply::ok("read"));
        let tollgate = proxy(&service, "", "request_timeout: 500ms");
        let client = Client::connect(tollgate.listener("web"), version);
        let (feed, content) = Content::fed();
        let pending = client.begin(post("/a", content));
        while !pending.is_answered() {
            feed.send("x");
            thread::park_timeout(Duration::from_millis(20));
        }
        let answer = pending.answer();
        assert_eq!((answer.status, &answer.json()["error"]), (408, &"message_timeout".into()));
        let words = answer.json()["message"].to_string();
        assert!(words.contains("500 ms (request_timeout)"), "{words}");
    }
}

#[test]
fn a_client_that_does_not_read_a_large_response_is_closed() {
    let service = service();
    let tollgate = proxy(&service, "write_timeout: 500ms", "");
    let mut client = RawHttpClient::connect(tollgate.listener("web"));
    client.send(b"GET /large HTTP/1.1\r\nhost: a.example\r\n\r\n");
    closes(&tollgate, "write_timeout", 1.0);
    client.answer().unwrap_err();
}

#[test]
fn the_last_request_of_a_connection_gets_connection_close() {
    let service = service();
    let tollgate = proxy(&service, "", "max_requests_per_connection: 2");
    let mut client = RawHttpClient::connect(tollgate.listener("web"));
    assert_eq!(client.get("/a").header("connection"), "");
    assert_eq!(client.get("/a").header("connection"), "close");
    assert!(client.rest().unwrap().is_empty());
    closes(&tollgate, "max_requests", 1.0);
}

#[test]
fn what_is_larger_than_it_may_be_is_refused_in_words() {
    let service = service();
    let limits = "max_head: 1KiB, max_headers: 5, max_target: 100, max_request_body: 10";
    let tollgate = proxy(&service, "", limits);
    let head = |more: &str| format!("POST /a HTTP/1.1\r\nhost: a\r\n{more}\r\n");
    let cases = [
        (431, head(&format!("x: {}\r\n", "y".repeat(2000)))),
        (431, head(&"x: y\r\n".repeat(6))),
        (414, format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(200))),
        (413, head("content-length: 11\r\n") + "hello world"),
        (413, head("transfer-encoding: chunked\r\n") + "b\r\nhello world\r\n0\r\n\r\n"),
    ];
    for (status, bytes) in cases {
        let mut client = RawHttpClient::connect(tollgate.listener("web"));
        client.send(bytes.as_bytes());
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, status, "{bytes}");
        assert!(answer.json()["message"].is_string(), "{bytes}");
    }
    assert!(
        service.received().iter().all(|asked| asked.whole_body().is_none()),
        "nothing seems complete"
    );
}

#[test]
fn hundreds_of_unfinished_heads_delay_no_other_client() {
    let service = service();
    let tollgate = proxy(&service, "handshake_timeout: 2s", "");
    let before = tollgate.resident_memory();
    let mut honest = RawHttpClient::connect(tollgate.listener("web"));
    let slow: Vec<RawHttpClient> = (0..500)
        .map(|_| {
            let mut client = RawHttpClient::connect(tollgate.listener("web"));
            client.try_send(&GET[..20]);
            client
        })
        .collect();
    assert_eq!(honest.get("/a").status, 200);
    let grown = tollgate.resident_memory().saturating_sub(before);
    assert!(grown < slow.len() as u64 * (64 << 10), "{grown} bytes for {}", slow.len());
    closes(&tollgate, "handshake_timeout", slow.len() as f64);
    assert_eq!(honest.get("/a").status, 200);
}

#[test]
fn a_call_may_go_on_for_as_long_as_its_client_likes() {
    let service = Service::start(Version::Two, |_| {
        let message = Content::from("\0\0\0\0\0").trailers(&[("grpc-status", "0")]);
        Reply::ok(message).header("content-type", "application/grpc")
    });
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  \
         web: {{ address: \"127.0.0.1:0\", message_timeout: 300ms, protocol: http, cluster: shop }}\n  \
         rpc: {{ address: \"127.0.0.1:0\", message_timeout: 300ms, protocol: grpc, cluster: shop }}\n\
         clusters:\n  shop: {{ {} }}\n",
        service.endpoints()
    ));
    let [web, rpc] =
        ["web", "rpc"].map(|name| Client::connect(tollgate.listener(name), Version::Two));
    let (call, messages) = Content::fed();
    let asked = post("/a.B/C", messages).header("content-type", "application/grpc");
    let answer = rpc.begin(asked.header("te", "trailers"));
    call.send("\0\0\0\0\0");
    // A request that began later is too late before it.
    let (_request, body) = Content::fed();
    assert_eq!(web.round_trip(post("/a", body)).status, 408);
    call.send("\0\0\0\0\0");
    drop(call);
    assert_eq!(answer.answer().text(), "\0\0\0\0\0");
    let line = &tollgate.logged(1, |line| line["listener"] == "rpc")[0];
    assert_eq!((&line["outcome"], &line["listener"]), (&"ok".into(), &"rpc".into()), "{line}");
}
