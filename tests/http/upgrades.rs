//! Connections that change to another protocol, and those that are not let.

use crate::support::{
    ends::{End, Upstream},
    http::{at, endpoints},
    tollgate::Tollgate,
};

fn before(upstream: &Upstream, route: &str) -> Tollgate {
    Tollgate::start(&format!(
        "listeners:\n  web:\n    address: \"127.0.0.1:0\"\n    protocol:\n      http:\n        \
         routes:\n          - {{ name: all, cluster: shop, {route} }}\n\
         clusters:\n  shop: {{ {} }}\n",
        endpoints(&[upstream.address()])
    ))
}

const ASK: &[u8] = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn bytes_pass_both_ways_after_an_upgrade() {
    let upstream = Upstream::start();
    let tollgate = before(&upstream, "upgrade: [websocket]");
    let mut client = End::connect(at(&tollgate));
    client.send(ASK);
    let mut service = upstream.accept();
    let head = service.head();
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"));
    assert!(head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{head}");
    service.send(&[SWITCHED, b"\x81\x05first"].concat());
    let head = client.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    client.expect(b"\x81\x05first");
    client.send(b"GET / HTTP/1.1\r\n\r\n\x00\xff");
    service.expect(b"GET / HTTP/1.1\r\n\r\n\x00\xff");
    let large = vec![b'x'; 1 << 20];
    let (mut writes, sent) = (service.try_clone(), large.clone());
    let writing = std::thread::spawn(move || writes.send(&sent));
    client.expect(&large);
    writing.join().expect("no panic");
    // Each way ends by itself.
    client.finish();
    assert_eq!(service.rest(), b"");
    service.send(b"last");
    service.finish();
    assert_eq!(client.rest(), b"last");
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["status"], &line["flags"]), (&"101".into(), &"upgraded".into()), "{line}");
    assert_eq!(line["outcome"], "ok");
}

#[test]
fn an_upgrade_that_the_service_refuses_stays_http() {
    let upstream = Upstream::start();
    let tollgate = before(&upstream, "upgrade: true");
    let mut client = End::connect(at(&tollgate));
    client.send(ASK);
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno");
    assert!(client.head().starts_with("HTTP/1.1 400"));
    client.expect(b"no");
    client.send(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(service.head().starts_with("GET /next"));
    service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.expect(b"ok");
}

#[test]
fn an_upgrade_that_is_not_configured_is_a_plain_request() {
    for route in ["", "upgrade: [other]"] {
        let upstream = Upstream::start();
        let tollgate = before(&upstream, route);
        let mut client = End::connect(at(&tollgate));
        client.send(ASK);
        let mut service = upstream.accept();
        let head = service.head();
        assert!(!head.contains("upgrade"), "{head}");
        service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect(b"ok");
    }
}

#[test]
fn connect_makes_a_tunnel_where_its_route_has_it_so() {
    let upstream = Upstream::start();
    let tollgate = before(&upstream, "connect: true");
    let mut client = End::connect(at(&tollgate));
    client.send(b"CONNECT db.example:443 HTTP/1.1\r\nhost: db.example:443\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("content-length"), "{head}");
    let mut service = upstream.accept();
    service.send(b"hello");
    client.expect(b"hello");
    client.send(b"and you");
    service.expect(b"and you");
    client.finish();
    service.expect_end();
}

#[test]
fn connect_is_refused_where_no_route_has_it() {
    let upstream = Upstream::start();
    let tollgate = before(&upstream, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"CONNECT db.example:443 HTTP/1.1\r\nhost: db.example:443\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(!upstream.was_called());
}

/// Opens a WebSocket on which nothing moves.
fn rests(upstream: &Upstream, tollgate: &Tollgate) -> (End, End) {
    let mut client = End::connect(at(tollgate));
    client.send(ASK);
    let mut service = upstream.accept();
    service.head();
    service.send(SWITCHED);
    client.head();
    (client, service)
}

#[test]
fn a_tunnel_that_the_proxy_closes_logs_the_reason() {
    for (limit, reason) in [
        ("idle_timeout: 300ms", "idle_timeout"),
        ("max_connection_duration: 300ms", "max_duration"),
    ] {
        let upstream = Upstream::start();
        let tollgate = Tollgate::start(&format!(
            "listeners:\n  web: {{ address: \"127.0.0.1:0\", {limit}, protocol: {{ http: {{ routes: [\
             {{ name: all, cluster: shop, upgrade: true }}] }} }} }}\nclusters:\n  shop: {{ {} }}\n",
            endpoints(&[upstream.address()])
        ));
        let (mut client, mut service) = rests(&upstream, &tollgate);
        client.read_until_reset();
        service.read_until_reset();
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["outcome"], &line["reason"]), (&"ok".into(), &reason.into()), "{line}");
        let labels = [("listener", "web"), ("reason", reason)];
        tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
    }
}

#[test]
fn a_bandwidth_limit_holds_for_a_tunnel_too() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ routes: [\
         {{ name: all, cluster: shop, upgrade: true }}] }} }} }}\nclusters:\n  shop: {{ {} }}\n\
         policies: [{{ name: narrow, bandwidth_limit: {{ down: 200KiB/s }} }}]\n",
        endpoints(&[upstream.address()])
    ));
    let (mut client, mut service) = rests(&upstream, &tollgate);
    let began = std::time::Instant::now();
    let sent = [7; 120_000];
    service.send(&sent);
    client.expect(&sent);
    let took = began.elapsed();
    assert!(took >= std::time::Duration::from_millis(350), "{took:?}");
    client.send(&sent);
    service.expect(&sent);
    let labels = [("listener", "web"), ("policy", "narrow")];
    tollgate.wait_for_metric("tollgate_policy_effects_total", &labels, 1.0);
}

#[test]
fn a_half_closed_tunnel_stays_for_half_close_timeout() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", half_close_timeout: 300ms, protocol: {{ \
         http: {{ routes: [{{ name: all, cluster: shop, upgrade: true }}] }} }} }}\n\
         clusters:\n  shop: {{ {} }}\n",
        endpoints(&[upstream.address()])
    ));
    let (client, mut service) = rests(&upstream, &tollgate);
    drop(client);
    assert!(service.rest().is_empty(), "the client's end is passed on at once");
    assert_eq!(tollgate.logged(1, |_| true)[0]["reason"], "half_close_timeout");
    assert!(service.try_send(b"anybody?").is_err(), "the service was not reset");
}

#[test]
fn a_tunnel_ends_whose_endpoint_was_drained() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ routes: [\
         {{ name: all, cluster: shop, upgrade: true }}] }} }} }}\n\
         clusters:\n  shop: {{ drain_timeout: 300ms, {} }}\n",
        endpoints(&[upstream.address()])
    ));
    let (mut client, mut service) = rests(&upstream, &tollgate);
    let endpoint = format!("/clusters/shop/endpoints/{}?state=drained", upstream.address());
    assert_eq!(tollgate.post(&endpoint).0, 200);
    client.expect_end();
    service.expect_end();
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!(line["reason"], "endpoint_removed", "{line}");
}

#[test]
fn the_reason_of_a_tunnel_names_the_side_that_closed() {
    let upstream = Upstream::start();
    let tollgate = before(&upstream, "upgrade: true");
    let (mut client, service) = rests(&upstream, &tollgate);
    service.reset();
    client.read_until_reset();
    let (client, mut service) = rests(&upstream, &tollgate);
    client.reset();
    service.read_until_reset();
    let lines = tollgate.logged(2, |_| true);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["reason"]),
        (&"lost".into(), &"upstream_reset".into())
    );
    let told = (&lines[1]["outcome"], &lines[1]["reason"]);
    assert_eq!(told, (&"cancelled".into(), &"client_reset".into()));
}
