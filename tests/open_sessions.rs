//! Policies and faults that are switched on, changed or taken back reach connections that are open.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::{
    ends::{End, Upstream},
    tollgate::Tollgate,
};

/// Switches a fault on, and returns it.
fn fault(tollgate: &Tollgate, what: &str) -> Value {
    let body = format!("{{{what}, \"for\": \"1m\"}}");
    let (status, body) = tollgate.send("POST", "/faults", &body);
    assert_eq!(status, 201, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Takes it back.
fn end(tollgate: &Tollgate, fault: &Value) {
    let id = fault["id"].as_str().unwrap();
    assert_eq!(tollgate.send("DELETE", &format!("/faults/{id}"), "").0, 204);
}

/// How long a byte takes there and back.
fn round_trip_time(client: &mut End, server: &mut End) -> Duration {
    let began = Instant::now();
    client.send(b"?");
    server.expect(b"?");
    server.send(b"!");
    client.expect(b"!");
    began.elapsed()
}

fn opened(upstream: &Upstream, tollgate: &Tollgate) -> (End, End) {
    let (mut client, mut server) = upstream.session(tollgate);
    round_trip_time(&mut client, &mut server);
    (client, server)
}

#[test]
fn a_fault_resets_a_session_that_is_open_already() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = opened(&upstream, &tollgate);
    let known = fault(&tollgate, r#""fault": {"reset": "request", "times": 1}"#);
    client.read_until_reset();
    server.expect_end();
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["reason"], &line["policy"]), (&"injected".into(), &known["name"]), "{line}");
    let labels = [("listener", "wire"), ("policy", "fault")];
    tollgate.wait_for_metric("tollgate_policy_effects_total", &labels, 1.0);
    // It has struck as often as it may.
    opened(&upstream, &tollgate);
}

#[test]
fn a_fault_ends_an_open_session_at_its_next_reply() {
    for (settings, heard) in [
        (r#"{"close": "reply"}"#, ""),
        (r#"{"truncate": "5B"}"#, "an an"),
        (r#"{"close": "end"}"#, "an answer"),
    ] {
        let upstream = Upstream::start();
        let tollgate = Tollgate::tcp(upstream.address(), "");
        let (mut client, mut server) = opened(&upstream, &tollgate);
        fault(&tollgate, &format!("\"fault\": {settings}"));
        client.send(b"question");
        server.expect(b"question");
        client.expect_silence(Duration::from_millis(50));
        server.send(b"an answer");
        server.finish();
        assert_eq!(String::from_utf8(client.rest()).unwrap(), heard, "{settings}");
        assert_eq!(tollgate.logged(1, |_| true)[0]["reason"], "injected");
    }
}

#[test]
fn a_fault_delays_what_an_open_session_says_next() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = opened(&upstream, &tollgate);
    fault(&tollgate, r#""fault": {"delay": "300ms"}"#);
    assert!(round_trip_time(&mut client, &mut server) >= Duration::from_millis(250));
    assert!(round_trip_time(&mut client, &mut server) < Duration::from_millis(250), "once");
}

#[test]
fn a_fault_that_is_taken_back_lets_go_of_open_sessions() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = opened(&upstream, &tollgate);
    for _ in 0..3 {
        let known = fault(&tollgate, r#""fault": {"throttle": "10B/s"}"#);
        client.send(&[7]);
        server.expect(&[7]);
        end(&tollgate, &known);
    }
    let began = Instant::now();
    client.send(&[7; 100_000]);
    server.expect(&[7; 100_000]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop((client, server));
    assert_eq!(tollgate.logged(1, |_| true)[0]["policy"], "fault");
}

#[test]
fn a_fault_that_does_not_match_changes_no_session() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = opened(&upstream, &tollgate);
    let settings = r#""match": {"peer": "10.9.9.9"}, "fault": {"reset": "request"}"#;
    let others = fault(&tollgate, settings);
    round_trip_time(&mut client, &mut server);
    let (_, body) = tollgate.get("/faults");
    let all: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!((&all[0]["id"], &all[0]["modified"]), (&others["id"], &0.into()), "{body}");
}

/// How long this many bytes take to the client.
fn takes(client: &mut End, server: &mut End, bytes: usize) -> Duration {
    let began = Instant::now();
    let block = vec![7; bytes];
    let mut sender = server.try_clone();
    let sent = block.clone();
    let sending = std::thread::spawn(move || sender.send(&sent));
    client.expect(&block);
    sending.join().unwrap();
    began.elapsed()
}

#[test]
fn a_bandwidth_limit_applies_to_open_sessions_at_once() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
         clusters:\n  wire: {{ endpoints: [\"{}\"] }}\n\
         policies:\n  - {{ name: narrow, enabled: false, bandwidth_limit: {{ down: 400KiB/s }} }}\n",
        upstream.address()
    ));
    let (mut client, mut server) = opened(&upstream, &tollgate);
    let change = |body: &str| {
        let (status, told) = tollgate.send("PUT", "/policies/narrow", body);
        assert_eq!(status, 200, "{told}");
    };
    const BYTES: usize = 440 * 1024;
    change(r#"{"enabled": true}"#);
    let narrow = takes(&mut client, &mut server, BYTES);
    assert!(narrow >= Duration::from_millis(900), "{narrow:?}");
    change(r#"{"bandwidth_limit": {"down": "800KiB/s"}}"#);
    let wider = takes(&mut client, &mut server, BYTES);
    assert!(wider >= Duration::from_millis(400), "{wider:?}");
    assert!(wider < narrow - Duration::from_millis(100), "{wider:?}, and {narrow:?} before");
    change(r#"{"enabled": false}"#);
    let open = takes(&mut client, &mut server, BYTES);
    assert!(open < Duration::from_millis(300), "{open:?}");
    drop((client, server));
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!(line["policy"], "narrow", "a limit that slowed the session down is named");
    let labels = [("listener", "wire"), ("policy", "narrow")];
    tollgate.wait_for_metric("tollgate_policy_effects_total", &labels, 1.0);
}

#[test]
fn a_bandwidth_limit_without_effect_is_not_logged() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
         clusters:\n  wire: {{ endpoints: [\"{}\"] }}\n\
         policies:\n  - {{ name: wide, bandwidth_limit: {{ down: 1MiB/s }} }}\n",
        upstream.address()
    ));
    drop(opened(&upstream, &tollgate));
    assert_eq!(tollgate.logged(1, |_| true)[0].get("policy"), None);
    assert_eq!(tollgate.metric("tollgate_policy_effects_total", &[]), 0.0);
}

#[test]
fn a_bandwidth_limit_reaches_an_open_connection_of_http() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{}\"] }}\n\
         policies:\n  - {{ name: narrow, enabled: false, bandwidth_limit: {{ down: 200KiB/s }} }}\n",
        upstream.address()
    ));
    let mut client = End::connect(tollgate.listener("web"));
    let mut service: Option<End> = None;
    let mut asked = |client: &mut End| {
        let began = Instant::now();
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let service = service.get_or_insert_with(|| upstream.accept());
        service.head();
        service.send(b"HTTP/1.1 200 OK\r\ncontent-length: 120000\r\n\r\n");
        service.send(&[b'x'; 120_000]);
        client.head();
        client.expect(&[b'x'; 120_000]);
        began.elapsed()
    };
    assert!(asked(&mut client) < Duration::from_millis(400));
    assert_eq!(tollgate.send("PUT", "/policies/narrow", r#"{"enabled": true}"#).0, 200);
    let narrow = asked(&mut client);
    assert!(narrow >= Duration::from_millis(400), "{narrow:?}");
}
