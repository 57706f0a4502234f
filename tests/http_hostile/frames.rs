//! HTTP/2 as no honest client speaks it: see `attacks.py`.

use crate::{
    proxy, service,
    support::{http::RawHttpClient, tollgate::Tollgate, tools},
};
use serde_json::Value;
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;

/// Runs an attack while an honest client asks; `None` where there is no Python.
fn attack(tollgate: &Tollgate, name: &str) -> Option<Value> {
    let python = tools::python_with_frames()?.join("python");
    let address = tollgate.listener("web");
    let before = tollgate.resident_memory();
    let mut attacker = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http_hostile/attacks.py"))
        .args([&address.ip().to_string(), &address.port().to_string(), name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut honest = RawHttpClient::connect(address);
    let mut served = 0;
    while served == 0 || attacker.try_wait().unwrap().is_none() {
        assert_eq!(honest.get("/a").status, 200, "beside {name}");
        served += 1;
    }
    let output = attacker.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}");
    let grown = tollgate.resident_memory().saturating_sub(before);
    assert!(grown < 32 * MIB, "{name}: {grown} bytes more");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Whether this stream was refused: by a status of 4xx, a reset, or the connection's end.
fn refused(told: &Value, stream: &str) -> bool {
    let status = told["statuses"][stream].as_u64();
    status.is_some_and(|status| (400..500).contains(&status))
        || status.is_none() && (told["resets"][stream].is_u64() || ended(told))
}

fn ended(told: &Value) -> bool {
    told["goaway"].as_u64().is_some_and(|code| code > 0) || told["closed"] == true
}

#[test]
fn heads_that_break_the_rules_are_refused_and_reach_no_service() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    let Some(told) = attack(&tollgate, "heads") else { return };
    assert!(told.as_object().unwrap().len() > 40);
    for (name, told) in told.as_object().unwrap() {
        if name == "a path with a fragment" {
            // It is dropped on the way in, so no later stage sees it.
            assert_eq!(told["statuses"]["1"], 200, "{name}");
            continue;
        }
        assert!(refused(told, "1"), "{name}: {told}");
        // Where the framing still holds, its neighbours go on.
        assert!(ended(told) || told["statuses"]["3"] == 200, "{name}: {told}");
    }
    assert!(service.received().iter().all(|asked| asked.method == "GET" && asked.target == "/a"));
    for kind in ["host_mismatch", "host", "userinfo", "no_host", "scheme"] {
        let labels = [("listener", "web"), ("kind", kind)];
        assert!(tollgate.metric("tollgate_violations_total", &labels) > 0.0, "{kind}");
    }
}

#[test]
fn invalid_streams_are_reset_or_close_the_connection() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    let Some(told) = attack(&tollgate, "streams") else { return };
    assert!(told.as_object().unwrap().len() > 30);
    let mut ends = 0.0;
    for (name, told) in told.as_object().unwrap() {
        if name == "pseudo_trailer" {
            // It is dropped, so no later stage sees it.
            assert_eq!(told["statuses"]["1"], 200, "{name}");
            continue;
        }
        assert!(refused(told, "1") || ended(told), "{name}: {told}");
        ends += f64::from(u8::from(ended(told)));
    }
    crate::closes(&tollgate, "client_violation", ends);
    tollgate.wait_for_metric("tollgate_violations_total", &[("listener", "web")], ends);
}

#[test]
fn floods_end_the_connection_and_are_counted() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    let floods = [
        "continuation_flood",
        "empty_continuation_flood",
        "rapid_reset",
        "made_you_reset",
        "empty_data_flood",
        "hpack_bomb",
        "large_head",
    ];
    for (n, name) in floods.into_iter().enumerate() {
        let Some(told) = attack(&tollgate, name) else { return };
        assert!(ended(&told), "{name}: {told}");
        let labels = [("listener", "web"), ("kind", "http2_flood")];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, n as f64 + 1.0);
        crate::closes(&tollgate, "client_violation", n as f64 + 1.0);
    }
}

#[test]
fn few_bytes_that_stand_for_many_headers_reach_no_service() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    for (n, name) in ["repeated_line", "repeated_trailer"].into_iter().enumerate() {
        let Some(told) = attack(&tollgate, name) else { return };
        assert_eq!((&told["goaway"], &told["statuses"]["1"]), (&11.into(), &200.into()), "{told}");
        let labels = [("listener", "web"), ("kind", "header_flood")];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, n as f64 + 1.0);
        crate::closes(&tollgate, "client_violation", n as f64 + 1.0);
    }
    for asked in service.received() {
        let lines = asked.headers.get_all("a").iter().count() + asked.trailers.len();
        assert!(lines <= 1, "{} {lines}", asked.method);
    }
}

#[test]
fn frames_that_are_to_be_answered_or_ignored_cost_no_memory() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    for name in ["priority_flood", "unknown_flood", "settings_flood"] {
        let Some(told) = attack(&tollgate, name) else { return };
        assert_eq!(told["statuses"]["1"], 200, "{name}");
    }
    let Some(told) = attack(&tollgate, "too_many_streams") else { return };
    assert_eq!(told["resets"]["257"], 7, "refused, and never served: {told}");
    assert_eq!(told["goaway"], 11, "and too many of those end the connection: {told}");
}

#[test]
fn the_limits_of_heads_hold_for_http_2() {
    let service = service();
    let tollgate = proxy(&service, "", "");
    for (name, status, kind) in
        [("many_headers", 431, "too_many_headers"), ("long_target", 414, "target_too_long")]
    {
        let Some(told) = attack(&tollgate, name) else { return };
        assert_eq!(told["statuses"]["1"], status, "{name}");
        let labels = [("listener", "web"), ("kind", kind)];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, 1.0);
    }
}

#[test]
fn a_client_that_takes_no_answer_to_its_pings_is_closed() {
    let service = service();
    let tollgate = proxy(&service, "write_timeout: 1s", "");
    let Some(told) = attack(&tollgate, "ping_flood") else { return };
    assert_eq!(told["closed"], true);
    crate::closes(&tollgate, "write_timeout", 1.0);
}
