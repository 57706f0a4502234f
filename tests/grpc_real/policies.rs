//! What grpcio's client makes of refusals, of services that are gone, and of retries.

use crate::{
    Stage, before,
    support::{
        eventually,
        http::{Version, origin},
        python,
    },
};
use std::thread;

#[test]
fn a_call_over_the_rate_gets_a_retry_delay() {
    let few =
        "policies:\n  - { name: few, rate_limit: { rate: 1/h, burst: 1, base_backoff: 250ms } }\n";
    let Some(stage) = Stage::new("", few) else { return };
    stage.plays("limited");
    let labels = [("listener", "rpc"), ("policy", "few"), ("reason", "rate_limited")];
    stage.tollgate.wait_for_metric("tollgate_refusals_total", &labels, 2.0);
}

#[test]
fn a_denied_call_must_not_be_retried() {
    let stop = "policies:\n  - { name: stop, match: { operation: real.v1.Echo/Unary }, \
                deny: { message: ask us } }\n";
    if let Some(stage) = Stage::new("", stop) {
        stage.plays("denied");
    }
}

#[test]
fn a_killed_service_is_unavailable_to_all_calls() {
    let Some(Stage { mut service, tollgate, .. }) = Stage::new("", "") else { return };
    let address = tollgate.listener("rpc").to_string();
    let caller = {
        let address = address.clone();
        thread::spawn(move || python::run("grpc_scenarios.py", &["broken", &address]))
    };
    eventually("a stream to begin", || {
        let rows = tollgate.operations();
        let begun = rows.iter().any(|row| row["operation"] == "real.v1.Echo/Down");
        let sent = tollgate.metric("tollgate_upstream_connections_active", &[]) > 0.0;
        (begun || sent).then_some(())
    });
    // Its first message has to be there too, which only the caller sees.
    thread::park_timeout(std::time::Duration::from_millis(500));
    service.kill();
    caller.join().unwrap();
    let line = &tollgate.logged(1, |line| line["operation"] == "real.v1.Echo/Down")[0];
    assert_eq!(line["outcome"], "lost", "{line}");
    python::run("grpc_scenarios.py", &["gone", &address]);
}

#[test]
fn a_service_says_when_it_is_to_be_called_again() {
    let routes = "routes: [{ name: all, cluster: rpc, retry: { on: [unavailable] } }]";
    let Some(stage) = Stage::new(routes, "") else { return };
    stage.plays("pushed_back");
    stage.tollgate.logged(2, |line| line["flags"] == "pushed_back");
    stage.tollgate.logged(1, |line| line["flags"] == "retried");
}

#[test]
fn unavailable_in_headers_or_trailers_is_retried() {
    let routes = "routes: [{ name: all, cluster: rpc, retry: { on: [unavailable] } }]";
    let Some(stage) = Stage::new(routes, "") else { return };
    stage.plays("retries");
    let lines = stage.tollgate.logged(2, |line| line["flags"] == "retried");
    assert!(lines.iter().all(|line| line["outcome"] == "ok"), "{lines:?}");
    // Without that, the first answer is the client's.
    let Some(plain) = Stage::new("", "") else { return };
    let out = std::panic::catch_unwind(|| plain.plays("retries"));
    assert!(out.is_err(), "it was tried again, though nobody asked for that");
}

#[test]
fn a_service_that_ignores_deadlines_is_given_up_by_the_proxy() {
    let service = origin(Version::Two);
    let tollgate = before(service.address(), "", "");
    let address = tollgate.listener("rpc").to_string();
    python::run("grpc_others.py", &["late", &address]);
}

#[test]
fn a_service_s_health_is_asked_in_grpc() {
    let Some(Stage { mut service, tollgate, .. }) = Stage::new("", "") else { return };
    drop(tollgate);
    let address = service.address();
    let tollgate = crate::support::tollgate::Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: grpc, cluster: rpc }}\n\
         clusters:\n  rpc: {{ endpoints: [\"{address}\"], health_check: {{ interval: 500ms, \
         timeout: 500ms, unhealthy_threshold: 1, probe: grpc }} }}\n"
    ));
    let checks = |result: &str| {
        let labels = [("cluster", "rpc"), ("result", result)];
        tollgate.metric("tollgate_health_checks_total", &labels)
    };
    eventually("a check to succeed", || (checks("ok") >= 2.0).then_some(()));
    assert_eq!(checks("failed"), 0.0);
    service.kill();
    eventually("a check to fail", || (checks("failed") >= 1.0).then_some(()));
}
