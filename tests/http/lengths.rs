//! Answers and requests have one length, and it is right: also from services that contradict
//! themselves, break off, or take less than they are sent.

use crate::support::{
    ends::{End, Upstream},
    http::{
        Answer, Client, Content, RawHttpClient, Reply, Service, Version, at, endpoints, get, post,
        proxy, proxy_to, routed,
    },
    tollgate::Tollgate,
};
use http::Method;
use serde_json::{Value, json};

const VERSIONS: [Version; 2] = [Version::One, Version::Two];

/// Asks a service of HTTP/1.1 that says this and closes. Returns the answer, and its line in the log.
fn scripted_reply(
    said: &str,
    client_version: Version,
    method: &str,
) -> (Result<Answer, String>, Value) {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let client = Client::connect(at(&tollgate), client_version);
    let ask = crate::support::http::TestRequest::new(method.parse::<Method>().unwrap(), "/");
    let pending = client.begin(ask);
    let mut service = upstream.accept();
    service.head();
    service.send(said.as_bytes());
    drop(service);
    (pending.try_answer(), tollgate.logged(1, |_| true).remove(0))
}

#[test]
fn chunks_override_a_content_length() {
    for client_version in VERSIONS {
        for length in ["3", "10", "5", "five"] {
            let said = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n"
            );
            let (answer, line) = scripted_reply(&said, client_version, "GET");
            let answer = answer.unwrap();
            assert!(
                answer.text() == "hello" && !answer.broken,
                "{client_version:?} {length} {answer:?}"
            );
            assert_eq!(answer.header("content-length"), "", "{client_version:?} {length}");
            assert_eq!((&line["outcome"], &line["status"]), (&json!("ok"), &json!("200")));
        }
    }
}

#[test]
fn a_repeated_length_is_forwarded_once() {
    for client_version in VERSIONS {
        for lengths in ["Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 5"] {
            let said = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nhello");
            let answer = scripted_reply(&said, client_version, "GET").0.unwrap();
            let told: Vec<_> = answer.headers.get_all("content-length").iter().collect();
            assert_eq!(told, ["5"], "{client_version:?}");
            assert_eq!(answer.text(), "hello");
            assert_eq!(
                scripted_reply(&said, client_version, "HEAD").0.unwrap().header("content-length"),
                "5"
            );
        }
    }
}

#[test]
fn an_answer_that_contradicts_itself_is_a_502() {
    for client_version in VERSIONS {
        for (method, heads) in [
            ("GET", "content-length: 5\r\ncontent-length: 6"),
            ("GET", "content-length: 5, 6"),
            ("HEAD", "content-length: 5, 6"),
            ("HEAD", "content-length: five"),
            // A proxy that removes chunks would have to remove this, too.
            ("GET", "transfer-encoding: gzip, chunked"),
        ] {
            let said = format!("HTTP/1.1 200 OK\r\n{heads}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
            let (answer, line) = scripted_reply(&said, client_version, method);
            assert_eq!(answer.unwrap().status, 502, "{client_version:?} {heads}");
            let told = (&line["outcome"], &line["reason"], &line["status"]);
            assert_eq!(told, (&json!("lost"), &json!("upstream_violation"), &json!("502")));
        }
    }
}

#[test]
fn a_truncated_response_reaches_its_client_as_far_as_it_came() {
    for body in ["hello", ""] {
        let said = format!("HTTP/1.1 200 OK\r\nx-it: is\r\ncontent-length: 10\r\n\r\n{body}");
        for client_version in VERSIONS.repeat(10) {
            let (answer, line) = scripted_reply(&said, client_version, "GET");
            let answer = answer.unwrap_or_else(|why| panic!("no head: {client_version:?} {why}"));
            assert!(answer.broken && answer.status == 200, "{client_version:?} {answer:?}");
            assert_eq!(
                (answer.text(), &*answer.header("x-it")),
                (body, "is"),
                "{client_version:?}"
            );
            let told = (&line["outcome"], &line["status"], &line["flags"]);
            assert_eq!(told, (&json!("lost"), &json!("200"), &json!("answer_cut")), "{line}");
        }
    }
}

/// What a service of HTTP/1.1 is asked by.
fn heard(tollgate: &Tollgate, upstream: &Upstream, ask: impl FnOnce(&Tollgate)) -> String {
    ask(tollgate);
    let mut service = upstream.accept();
    let head = service.head();
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    head
}

#[test]
fn a_method_that_expects_a_body_gets_a_zero_length() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    for client_version in VERSIONS {
        for (method, length) in [("POST", "0"), ("PUT", "0"), ("PATCH", "0"), ("GET", "")] {
            let client = Client::connect(at(&tollgate), client_version);
            let ask = crate::support::http::TestRequest::new(method.parse().unwrap(), "/");
            let mut pending = None;
            let head = heard(&tollgate, &upstream, |_| pending = Some(client.begin(ask)));
            assert_eq!(pending.unwrap().answer().status, 200);
            let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(told.unwrap_or_default(), length, "{client_version:?} {method} {head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
        }
    }
}

#[test]
fn the_host_header_comes_first() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    for client_version in VERSIONS {
        let client = Client::connect(at(&tollgate), client_version);
        let ask = get("/").header("accept", "a/b").header("accept", "c/d").header("x-z", "1");
        let mut pending = None;
        let head = heard(&tollgate, &upstream, |_| pending = Some(client.begin(ask)));
        assert_eq!(pending.unwrap().answer().status, 200);
        assert_eq!(head.lines().nth(1), Some("host: shop.example"), "{client_version:?} {head}");
        assert!(head.find("accept: a/b").unwrap() < head.find("accept: c/d").unwrap(), "{head}");
    }
    let mut last = End::connect(at(&tollgate));
    let head = heard(&tollgate, &upstream, |_| {
        last.send(b"GET / HTTP/1.1\r\nx-a: 1\r\nx-b: 2\r\nhost: a.example\r\n\r\n");
    });
    assert_eq!(head.lines().nth(1), Some("host: a.example"), "{head}");
}

#[test]
fn an_http_1_0_request_without_host_gets_the_endpoint_s_name() {
    for answers in VERSIONS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let mut client = End::connect(at(&tollgate));
        client.send(b"GET /x HTTP/1.0\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.0 200 OK"));
        assert_eq!(service.received()[0].authority, service.address().to_string(), "{answers:?}");
    }
}

#[test]
fn an_http_1_0_client_gets_no_keepalive_if_the_end_is_a_close() {
    let service = Service::start(Version::One, |_| Reply::ok(Content::pieces(&[b"hel", b"lo"])));
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let head = client.head().to_lowercase();
    assert!(!head.contains("keep-alive"), "{head}");
    assert_eq!(client.rest(), b"hello");
}

#[test]
fn a_truncated_response_is_a_reset_to_an_http_1_0_client() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    client.head();
    client.expect(b"half");
    service.reset();
    assert!(client.read_until_reset().is_empty());
}

#[test]
fn a_response_to_an_unread_request_closes_the_connection() {
    let refusing = |asked: &[u8], service: &Service| {
        let tollgate = routed(
            &[
                "{ name: here, match: { path: /here }, reply: { status: 403 } }",
                "{ name: all, cluster: shop, max_request_body: 10 }",
            ],
            &[("shop", service)],
        );
        let mut client = RawHttpClient::connect(at(&tollgate));
        client.send(asked);
        let answer = client.answer().unwrap();
        let rest = client.rest().unwrap();
        assert!(rest.is_empty());
        (answer.status, answer.header("connection"))
    };
    let close = |status| (status, "close".to_owned());
    let service = Service::start(Version::One, |_| Reply::status(401).early());
    let expecting =
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(refusing(expecting, &service), close(401));
    let began = b"POST /here HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhe";
    assert_eq!(refusing(began, &service), close(403));
    let chunks = b"POST /here HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
    assert_eq!(refusing(chunks, &service), close(403));
    let service = Service::replying(Version::One, "read");
    let long = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123456789abcdef";
    assert_eq!(refusing(long, &service), close(413));
}

#[test]
fn a_connection_goes_on_after_a_small_request_that_was_refused() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = routed(
        &[
            "{ name: here, match: { path: /here }, reply: { status: 403 } }",
            "{ name: all, cluster: shop }",
        ],
        &[("shop", &service)],
    );
    let mut client = RawHttpClient::connect(at(&tollgate));
    client.send(b"POST /here HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, &*answer.header("connection")), (403, ""));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn heads_over_a_limit_are_called_that_by_the_limit_s_name() {
    for answers in VERSIONS {
        let service =
            Service::start(answers, |_| Reply::ok("ok").header("x-long", &"v".repeat(10 << 10)));
        let cluster = service.endpoints().replace("version", "max_head: 8KiB, version");
        let tollgate = proxy_to(&cluster, "", "");
        let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
        assert_eq!((answer.status, &answer.json()["error"]), (502, &json!("too_large")));
        assert!(answer.json()["message"].to_string().contains("max_head"), "{answer:?}");
        let line = &tollgate.logged(1, |_| true)[0];
        let told = (&line["outcome"], &line["reason"], &line["status"]);
        assert_eq!(told, (&json!("lost"), &json!("too_large"), &json!("502")), "{answers:?}");
    }
    for client_version in VERSIONS {
        let service = Service::replying(Version::One, "ok");
        let tollgate = proxy(&service, "max_head: 8KiB");
        let ask = get("/").header("x-long", &"v".repeat(9 << 10));
        let answer = Client::connect(at(&tollgate), client_version).round_trip(ask);
        assert_eq!((answer.status, &answer.json()["error"]), (431, &json!("head_too_large")));
        assert!(
            answer.json()["message"].to_string().contains("max_head"),
            "{client_version:?} {answer:?}"
        );
    }
}

#[test]
fn a_head_of_an_answer_that_does_not_end_is_over_its_limit() {
    for client_version in VERSIONS {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000));
        let (answer, line) = scripted_reply(&endless, client_version, "GET");
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (502, &json!("too_large")));
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("lost"), &json!("too_large")));
    }
}

#[test]
fn a_head_that_http_2_rejects_harms_no_other_stream() {
    // The service takes heads of 16 KiB, and says so.
    let service = Service::start(Version::Two, |_| Reply::echo());
    let tollgate = proxy(&service, "");
    let honest = Client::connect(at(&tollgate), Version::Two);
    let (feed, content) = Content::fed();
    let pending = honest.begin(post("/", content));
    feed.send("hel");
    service.wait_for_requests(1);
    for client_version in VERSIONS {
        let ask = get("/").header("x-long", &"v".repeat(20 << 10));
        let answer = Client::connect(at(&tollgate), client_version).round_trip(ask);
        assert_eq!((answer.status, &answer.json()["error"]), (431, &json!("too_large")));
        assert!(answer.json()["message"].to_string().contains("16384"), "{answer:?}");
        let line = &tollgate.logged(1, |line| line["status"] == "431")[0];
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("rejected"), &json!("too_large")));
    }
    feed.send("lo");
    drop(feed);
    assert_eq!(pending.answer().text(), "hello");
    assert_eq!((service.received().len(), service.connections()), (1, 1));
}
