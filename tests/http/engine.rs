//! Requests that the HTTP/1 engine serves itself, and the ones that it leaves to hyper, on one connection.

use crate::support::{
    ends::{End, Upstream},
    free_address,
    http::{
        Client, Content, RawHttpClient, Reply, Service, Version, at, endpoints, post, proxy,
        proxy_config, proxy_to,
    },
    tollgate::Tollgate,
};
use std::net::SocketAddr;

/// A proxy before this service, with policies.
fn guarded(service: &Service, policies: &str) -> Tollgate {
    let config = proxy_config(&service.endpoints(), "", "");
    Tollgate::start(&format!("{config}policies:\n{policies}"))
}

/// A proxy with these routes, before a cluster `shop` of this endpoint.
fn routed_to(routes: &[&str], endpoint: SocketAddr) -> Tollgate {
    let routes = routes.join(", ");
    Tollgate::start(&format!(
        "workers: 1\nlisteners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ routes: \
         [{routes}] }} }} }}\nclusters:\n  shop: {{ endpoints: [\"{endpoint}\"] }}\n"
    ))
}

#[test]
fn requests_of_both_kinds_are_answered_in_order() {
    let service = Service::start(Version::One, |_| Reply::echo());
    let tollgate = proxy(&service, "");
    let mut client = RawHttpClient::connect(at(&tollgate));
    let usual = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
    let chunked = "POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\ntwo\r\n0\r\n\r\n";
    let old = "POST /c HTTP/1.0\r\ncontent-length: 5\r\n\r\nthree";
    client.send([usual, chunked, usual, chunked, old].concat().as_bytes());
    for text in ["one", "two", "one", "two", "three"] {
        assert_eq!(client.answer().unwrap().text(), text);
    }
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(tollgate.logged(5, |line| line["outcome"] == "ok").len(), 5);
    tollgate.wait_for_metric("tollgate_connections_total", &[("listener", "web")], 1.0);
}

#[test]
fn a_request_is_admitted_once_if_others_serve_it() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = guarded(
        &service,
        "  - { name: few, rate_limit: { rate: 2/h, burst: 2 } }\n  \
         - { name: slow, fault: { delay: 1ms } }\n",
    );
    let mut client = RawHttpClient::connect(at(&tollgate));
    let statuses: Vec<_> = (0..3).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(service.received().len(), 2);
}

#[test]
fn a_rejected_request_leaves_the_connection_usable() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = guarded(&service, "  - { name: no, match: { path: /no }, deny: {} }\n");
    let mut client = RawHttpClient::connect(at(&tollgate));
    client.send(
        b"POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
          HEAD /no HTTP/1.1\r\nhost: a\r\n\r\n\
          GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let denied = client.answer().unwrap();
    assert_eq!((denied.status, denied.json()["policy"].as_str()), (403, Some("no")));
    assert_eq!(denied.json()["request_id"], denied.header("x-request-id"));
    assert_eq!(service.wait_for_requests(1).len(), 1);
    drop(client);
    let lines = tollgate.logged(2, |line| line["outcome"] == "rejected");
    assert!(lines.iter().all(|line| line["status"] == "403"), "{lines:?}");
}

#[test]
fn the_service_gets_names_and_lines_as_the_client_wrote_them() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(
        b"GET /?a HTTP/1.1\r\nHost: A-b.example\r\n\r\nGET /?a HTTP/1.1\r\nHost: a.example:80\r\n\
          X-Beta: 1\r\nAccept:  */*\r\nx-beta: 2\r\nX-Forwarded-For: 6.6.6.6\r\n\
          connection: keep-alive\r\nX-Request-Id: mine\r\n\r\n",
    );
    let mut service = upstream.accept();
    // A host in capitals is left to others.
    assert!(service.head().contains("A-b.example"));
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    drop(client);
    let mut client = End::connect(at(&tollgate));
    client.send(
        b"GET /?a HTTP/1.1\r\nHost: a.example:80\r\nX-Beta: 1\r\nAccept:  */*\r\nx-beta: 2\r\n\
          X-Forwarded-For: 6.6.6.6\r\nconnection: keep-alive\r\nX-Request-Id: mine\r\n\r\n",
    );
    let mut service = upstream.accept();
    let head = service.head();
    let expected = "GET /?a HTTP/1.1\r\nHost: a.example:80\r\nX-Beta: 1\r\nAccept:  */*\r\nx-beta: 2\r\n\
                    X-Request-Id: mine\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
                    x-forwarded-host: a.example:80\r\ntraceparent: 00-";
    assert!(head.starts_with(expected), "{head}");
    // A response without anything about connections is passed on as it is.
    let response = "HTTP/1.1 201 Made\r\nDate: today\r\nX-A:  b\r\nContent-Length: 2\r\n\r\nok";
    service.send(response.as_bytes());
    client.expect(response.as_bytes());
}

#[test]
fn a_hint_passes_before_its_response() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: keep-alive\r\n\r\n");
    client.expect(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    service.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\ndate: x\r\n\r\n");
    client.expect(b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n");
}

#[test]
fn long_bodies_pass_both_ways_unchanged() {
    let service = Service::start(Version::One, |_| Reply::echo());
    let tollgate = proxy(&service, "");
    let text: String = (0..200_000).map(|n| format!("{n} ")).collect();
    let client = Client::connect(at(&tollgate), Version::One);
    for _ in 0..3 {
        let answer = client.round_trip(post("/", Content::from(text.clone())));
        assert!(answer.text() == text && !answer.broken);
    }
    assert_eq!(service.connections(), 1);
}

#[test]
fn a_route_edits_heads_and_leaves_the_rest_as_written() {
    let upstream = Upstream::start();
    let route = "{ name: api, match: { path_prefix: /api }, cluster: shop, rewrite: { prefix: /v2, host: \
                 \"inner:8080\" }, cors: { origins: [\"https://a.example\"] }, request_headers: { \
                 remove: [x-gone], set: { x-set: \"%{method} %{header.x-request-id}\" }, add: { \
                 x-added: \"%{path}\" } }, response_headers: { remove: [server], set: { x-id: \
                 \"%{request_id} %{cluster}\" } } }";
    let tollgate = routed_to(&[route], upstream.address());
    let mut client = End::connect(at(&tollgate));
    client.send(
        b"GET /api/x?q=/api HTTP/1.1\r\nHost: a.example\r\nX-Gone: 1\r\nAccept: */*\r\nX-Set: 0\r\n\
          X-Gone: 2\r\nOrigin: https://a.example\r\nX-Request-Id: mine\r\n\r\n",
    );
    let mut service = upstream.accept();
    let head = service.head();
    let begin = "GET /v2/x?q=/api HTTP/1.1\r\nHost: inner:8080\r\nAccept: */*\r\nOrigin: https://a.example\r\n\
                 X-Request-Id: mine\r\n";
    assert!(head.starts_with(begin), "{head}");
    assert!(head.contains("\r\nx-forwarded-host: a.example\r\n"), "{head}");
    assert!(head.ends_with("\r\nx-set: GET mine\r\nx-added: /api/x\r\n\r\n"), "{head}");
    service.send(
        b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nX-A: b\r\nAccess-Control-Allow-Origin: *\r\n\
          Content-Length: 2\r\n\r\nok",
    );
    client.expect(
        b"HTTP/1.1 200 OK\r\nDate: x\r\nX-A: b\r\nContent-Length: 2\r\nx-id: mine shop\r\n",
    );
    let rest = client.head();
    assert!(rest.contains("access-control-allow-origin: https://a.example\r\n"), "{rest}");
    client.expect(b"ok");
}

#[test]
fn a_retry_sends_the_body_again_as_far_as_it_is_kept() {
    let upstream = Upstream::start();
    let retry = "retry: { on: [503], attempts: 2, max_body: 100kB, backoff: { base: 1ms } }";
    let route = format!("{{ name: all, cluster: shop, {retry} }}");
    let tollgate = routed_to(&[&route], upstream.address());
    for (length, attempts) in [(50_000, 3), (150_000, 1)] {
        let body: String = (0..length).map(|n| (b'a' + (n % 26) as u8) as char).collect();
        let mut client = End::connect(at(&tollgate));
        client.send(
            format!("POST / HTTP/1.1\r\nhost: a\r\nX-Case: 1\r\ncontent-length: {length}\r\n\r\n")
                .as_bytes(),
        );
        for attempt in 0..attempts {
            let mut service = upstream.accept();
            let head = service.head();
            assert!(head.contains("\r\nX-Case: 1\r\n"), "{head}");
            if attempt == 0 {
                client.send(body.as_bytes());
            }
            service.expect(body.as_bytes());
            service.send(b"HTTP/1.1 503 Away\r\ncontent-length: 4\r\n\r\naway");
        }
        assert!(client.head().starts_with("HTTP/1.1 503 Away\r\n"));
        client.expect(b"away");
    }
    let lines = tollgate.logged(2, |_| true);
    let flags: Vec<_> = lines.iter().map(|line| line["flags"].as_str().unwrap()).collect();
    assert_eq!(flags, ["retried", "too_large_to_retry"]);
}

#[test]
fn a_redirect_and_a_reply_are_made_without_a_service() {
    let upstream = Upstream::start();
    let tollgate = routed_to(
        &[
            "{ name: moved, match: { path_prefix: /old }, redirect: { prefix: /new, status: 308 } }",
            "{ name: fixed, reply: { status: 204 }, response_headers: { set: { x-a: \"%{path}\" } } }",
        ],
        upstream.address(),
    );
    let mut client = RawHttpClient::connect(at(&tollgate));
    let moved = client.get("/old/x?q");
    assert_eq!((moved.status, &*moved.header("location")), (308, "http://a.example/new/x?q"));
    let fixed = client.get("/y");
    assert_eq!((fixed.status, &*fixed.header("x-a")), (204, "/y"));
    assert_eq!((fixed.header("content-length"), fixed.text()), Default::default());
    drop(client);
    let lines = tollgate.logged(2, |line| line["outcome"] == "ok");
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["308", "204"]);
}

#[test]
fn a_response_may_begin_before_its_request_has_ended() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na");
    let mut service = upstream.accept();
    service.head();
    service.expect(b"a");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
    client.head();
    client.send(b"bc");
    service.expect(b"bc");
    service.send(b"ok");
    client.expect(b"ok");
}

#[test]
fn a_service_gets_chunks_of_the_proxys_own() {
    let upstream = Upstream::start();
    let tollgate = proxy_to(&endpoints(&[upstream.address()]), "", "");
    let mut client = End::connect(at(&tollgate));
    client.send(
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Case: 1\r\n\r\n3;x=y\r\non",
    );
    let mut service = upstream.accept();
    let head = service.head();
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\nX-Case: 1\r\n"), "{head}");
    service.expect(b"2\r\non\r\n");
    client.send(b"e\r\n0\r\nx-trailer: z\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nX-Case: 2\r\n\r\n");
    service.expect(b"1\r\ne\r\n0\r\n\r\n");
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    client.head();
    let head = service.head();
    assert!(head.starts_with("GET /b HTTP/1.1\r\n") && head.contains("X-Case: 2"), "{head}");
    service.send(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 204 "));
}

#[test]
fn a_chunked_request_may_be_cut_anywhere() {
    let service = Service::start(Version::One, |_| Reply::echo());
    let tollgate = proxy(&service, "");
    let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
    let mut client = RawHttpClient::connect(at(&tollgate));
    for cut in 0..request.len() {
        let (front, back) = request.split_at(cut);
        client.send(front.as_bytes());
        // The next request begins in the same segment as this one ends.
        client.send(format!("{back}{request}").as_bytes());
        for _ in 0..2 {
            assert_eq!(client.answer().unwrap().text(), "hello0123456789", "{front:?}");
        }
    }
    assert_eq!(service.connections(), 1);
}

#[test]
fn a_body_that_turns_out_invalid_or_too_long_is_answered() {
    let upstream = Upstream::start();
    let route = "{ name: all, cluster: shop, max_request_body: 10 }";
    for (rest, status) in [("x\r\n", "400"), ("B\r\n01234567890\r\n", "413")] {
        let tollgate = routed_to(&[route], upstream.address());
        let mut client = End::connect(at(&tollgate));
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
        let mut service = upstream.accept();
        service.head();
        service.expect(b"1\r\na\r\n");
        client.send(rest.as_bytes());
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        drop(client);
        let lines = tollgate.logged(1, |line| line["outcome"] == "rejected");
        assert_eq!(lines[0]["status"], status);
    }
}

#[test]
fn a_connection_ends_though_its_request_waits_for_a_policy() {
    let upstream = Upstream::start();
    let http = "protocol: { http: {} }, cluster: shop";
    let tollgate = Tollgate::start(&format!(
        "workers: 1\nlisteners:\n  web: {{ address: \"127.0.0.1:0\", {http} }}\n  \
         short: {{ address: \"127.0.0.1:0\", {http}, max_connection_duration: 300ms }}\n\
         clusters:\n  shop: {{ {} }}\npolicies:\n  \
         - {{ name: one, concurrency_limit: {{ max: 1, queue: 5, queue_timeout: 1m }} }}\n",
        endpoints(&[upstream.address()])
    ));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = End::connect(at(&tollgate));
    first.send(request);
    let mut service = upstream.accept();
    service.head();
    let mut waiting = End::connect(tollgate.listener("short"));
    waiting.send(request);
    assert!(waiting.rest().is_empty());
    // The one that was first is served yet.
    service.send(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(first.head().starts_with("HTTP/1.1 204 "));
}

#[test]
fn a_local_reply_to_chunks_leaves_the_next_request_alone() {
    let tollgate = routed_to(&["{ name: all, cluster: shop }"], free_address());
    let mut client = RawHttpClient::connect(at(&tollgate));
    client.send(
        b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
          GET /b HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    for _ in 0..2 {
        assert_eq!(client.answer().unwrap().status, 503);
    }
}
