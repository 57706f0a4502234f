//! Traffic stays on endpoints that work, whatever it speaks.

use super::{Stage, each};
use crate::support::{
    self, eventually,
    flaky::{Flaky, Mode},
    tollgate::{self, Tollgate},
};
use std::net::SocketAddr;

impl Stage<'_> {
    /// A proxy with a listener `it` before these endpoints, its cluster with these settings.
    fn before(&self, endpoints: &[SocketAddr], settings: &str) -> Tollgate {
        let list: Vec<String> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
        self.cluster(&format!("endpoints: [{}], {settings}", list.join(", ")))
    }

    /// A proxy with a listener `it` and a cluster like this.
    fn cluster(&self, settings: &str) -> Tollgate {
        Tollgate::start(&self.config(settings))
    }

    /// Waits for an operation to be ended for this reason, that concerns its endpoint.
    fn ends(&self, tollgate: &Tollgate, reason: &str) {
        if self.speaker.pools {
            tollgate.logged(1, |line| line["reason"] == reason);
        } else {
            let reason = [("reason", reason)];
            tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 1.0);
        }
    }

    /// Whether a client hears that its endpoint is gone.
    fn is_lost(&self, answer: std::io::Result<Vec<u8>>) -> bool {
        let answer = answer.unwrap_or_default();
        match self.speaker.pools {
            true => (self.speaker.no)(&answer) == Some((self.speaker.codes)("lost")),
            false => answer.is_empty(),
        }
    }

    /// Asks once, on a connection of its own; whether that was answered.
    fn round_trip(&self, tollgate: &Tollgate) -> bool {
        self.answer(tollgate).is_ok_and(|answer| (self.speaker.answered)(&answer))
    }
}

fn gauge_becomes(tollgate: &Tollgate, gauge: &str, endpoint: &Flaky, value: f64) {
    let endpoint = endpoint.address().to_string();
    tollgate.wait_for_metric(gauge, &[("cluster", "it"), ("endpoint", &endpoint)], value);
}

/// The endpoint of every operation logged, in order.
fn served_by(tollgate: &Tollgate, count: usize) -> Vec<String> {
    let lines = tollgate.logged(count, |line| line["outcome"] == "ok");
    lines.iter().map(|line| line["endpoint"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_operation() {
    each(|stage| {
        let (refuses, works) = (stage.flaky(), stage.flaky());
        refuses.set_mode(Mode::Refuses);
        let endpoints = [refuses.address(), works.address()];
        let tollgate = stage.before(&endpoints, "lb_policy: round_robin");
        assert_eq!((0..20).filter(|_| stage.round_trip(&tollgate)).count(), 20);
    });
}

#[test]
fn an_unhealthy_endpoint_is_left_and_found_again() {
    each(|stage| {
        let (hangs, works) = (stage.flaky(), stage.flaky());
        let tollgate = stage.before(
            &[hangs.address(), works.address()],
            &format!(
                "lb_policy: round_robin, health_check: {{ interval: 250ms, timeout: 250ms, \
                 unhealthy_threshold: 1, probe: {} }}",
                stage.speaker.probe
            ),
        );
        gauge_becomes(&tollgate, "tollgate_endpoint_up", &hangs, 1.0);
        hangs.set_mode(Mode::Hangs);
        gauge_becomes(&tollgate, "tollgate_endpoint_up", &hangs, 0.0);
        gauge_becomes(&tollgate, "tollgate_endpoint_up", &works, 1.0);
        assert_eq!((0..10).filter(|_| stage.round_trip(&tollgate)).count(), 10);
        let works = works.address().to_string();
        assert_eq!(served_by(&tollgate, 10), vec![works; 10]);
        hangs.set_mode(Mode::Works);
        gauge_becomes(&tollgate, "tollgate_endpoint_up", &hangs, 1.0);
        assert_eq!((0..10).filter(|_| stage.round_trip(&tollgate)).count(), 10);
        let both = served_by(&tollgate, 20);
        let back = hangs.address().to_string();
        assert_eq!(both[10..].iter().filter(|at| **at == back).count(), 5, "{both:?}");
    });
}

#[test]
fn connections_to_an_unhealthy_endpoint_close_if_configured() {
    each(|stage| {
        let (hangs, works) = (stage.flaky(), stage.flaky());
        let tollgate = stage.before(
            &[hangs.address()],
            &format!(
                "health_check: {{ interval: 250ms, timeout: 250ms, unhealthy_threshold: 1, \
                 close_connections_on_unhealthy: true, probe: {} }}",
                stage.speaker.probe
            ),
        );
        gauge_becomes(&tollgate, "tollgate_endpoint_up", &hangs, 1.0);
        hangs.set_mode(Mode::Hangs);
        assert!(stage.is_lost(stage.answer(&tollgate)));
        stage.ends(&tollgate, "endpoint_unhealthy");
        drop(works);
    });
}

#[test]
fn an_endpoint_that_breaks_operations_is_ejected_and_returns() {
    each(|stage| {
        let (breaks, works) = (stage.flaky(), stage.flaky());
        let tollgate = stage.before(
            &[breaks.address(), works.address()],
            "lb_policy: round_robin, outlier_detection: { consecutive_local_failures: 3, \
             interval: 50ms, base_ejection_time: 2s }",
        );
        breaks.set_mode(Mode::Resets);
        let failed = (0..10).filter(|_| !stage.round_trip(&tollgate)).count();
        assert_eq!(failed, 3, "each second one, until it was ejected");
        gauge_becomes(&tollgate, "tollgate_endpoint_ejected", &breaks, 1.0);
        let labels = [("cluster", "it"), ("detector", "consecutive_local_failures")];
        tollgate.wait_for_metric("tollgate_ejections_total", &labels, 1.0);
        breaks.set_mode(Mode::Works);
        gauge_becomes(&tollgate, "tollgate_endpoint_ejected", &breaks, 0.0);
        assert_eq!((0..20).filter(|_| stage.round_trip(&tollgate)).count(), 20);
    });
}

#[test]
fn the_last_endpoint_is_never_ejected() {
    each(|stage| {
        let breaks = stage.flaky();
        let tollgate = stage
            .before(&[breaks.address()], "outlier_detection: { consecutive_local_failures: 2 }");
        breaks.set_mode(Mode::Resets);
        assert_eq!((0..10).filter(|_| stage.round_trip(&tollgate)).count(), 0);
        breaks.set_mode(Mode::Works);
        assert!(stage.round_trip(&tollgate));
        gauge_becomes(&tollgate, "tollgate_endpoint_ejected", &breaks, 0.0);
    });
}

#[test]
fn a_connection_too_many_waits_until_another_ends() {
    each(|stage| {
        let hangs = stage.flaky();
        let breaker = "circuit_breaker: { max_connections: 1, pending_timeout: 1m }";
        let tollgate = stage.before(&[hangs.address()], breaker);
        hangs.set_mode(Mode::Hangs);
        let first = stage.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 1.0);
        let mut second = stage.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_connections_pending", &[("cluster", "it")], 1.0);
        hangs.set_mode(Mode::Works);
        first.leaves();
        assert!((stage.speaker.answered)(&second.receive(stage).unwrap()));
        tollgate.wait_for_metric("tollgate_connections_pending", &[("cluster", "it")], 0.0);
    });
}

#[test]
fn a_client_gets_an_error_after_the_pending_timeout() {
    each(|stage| {
        let hangs = stage.flaky();
        let breaker = "circuit_breaker: { max_connections: 1, pending_timeout: 10ms }";
        let tollgate = stage.before(&[hangs.address()], breaker);
        hangs.set_mode(Mode::Hangs);
        let _first = stage.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 1.0);
        let answer = stage.answer(&tollgate).unwrap_or_default();
        assert_eq!((stage.speaker.no)(&answer), Some((stage.speaker.codes)("overloaded")));
        stage.ends(&tollgate, "overloaded");
        let lines = tollgate.logged(1, |line| line["reason"] == "overloaded");
        assert_eq!(lines[0]["outcome"], "rejected");
        let told_apart = [("outcome", "rejected"), ("reason", "overloaded")];
        tollgate.wait_for_metric("tollgate_operations_total", &told_apart, 1.0);
    });
}

#[test]
fn an_operation_too_many_is_refused() {
    each(|stage| {
        let hangs = stage.flaky();
        let tollgate = stage.before(&[hangs.address()], "circuit_breaker: { max_operations: 1 }");
        hangs.set_mode(Mode::Hangs);
        let first = stage.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "it")], 1.0);
        let answer = stage.answer(&tollgate).unwrap_or_default();
        assert_eq!((stage.speaker.no)(&answer), Some((stage.speaker.codes)("overloaded")));
        let labels = [("listener", "it"), ("policy", "circuit_breaker"), ("reason", "overloaded")];
        tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
        let told_apart = [("outcome", "rejected"), ("reason", "overloaded")];
        tollgate.wait_for_metric("tollgate_operations_total", &told_apart, 1.0);
        first.leaves();
        tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "it")], 0.0);
        hangs.set_mode(Mode::Works);
        assert!(stage.round_trip(&tollgate));
    });
}

#[test]
fn a_hash_policy_sends_a_client_to_the_same_endpoint() {
    each(|stage| {
        for policy in ["ring_hash", "maglev"] {
            let servers = [stage.flaky(), stage.flaky(), stage.flaky()];
            let endpoints = servers.each_ref().map(Flaky::address);
            let tollgate = stage.before(&endpoints, &format!("lb_policy: {policy}"));
            assert_eq!((0..10).filter(|_| stage.round_trip(&tollgate)).count(), 10);
            let mut by = served_by(&tollgate, 10);
            by.dedup();
            assert_eq!(by.len(), 1, "{policy}: {by:?}");
        }
    });
}

#[test]
fn an_endpoint_that_leaves_the_file_is_drained() {
    each(|stage| {
        let (leaves, stays) = (stage.flaky(), stage.flaky());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("endpoints.yaml");
        std::fs::write(&file, format!("[\"{}\"]\n", leaves.address())).unwrap();
        let tollgate =
            stage.cluster(&format!("endpoints_file: \"{}\", drain_timeout: 50ms", file.display()));
        leaves.set_mode(Mode::Hangs);
        let mut busy = stage.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "it")], 1.0);
        std::fs::write(&file, format!("[\"{}\"]\n", stays.address())).unwrap();
        stage.ends(&tollgate, "endpoint_removed");
        assert!(stage.is_lost(busy.receive(stage)));
        assert!(stage.round_trip(&tollgate));
        assert_eq!(served_by(&tollgate, 1), [stays.address().to_string()]);
    });
}

#[test]
fn an_operator_takes_an_endpoint_out_of_use_and_back() {
    each(|stage| {
        let (out, stays) = (stage.flaky(), stage.flaky());
        let endpoints = [out.address(), stays.address()];
        let tollgate = stage.before(&endpoints, "lb_policy: round_robin");
        let path = format!("/clusters/it/endpoints/{}?state=", out.address());
        let (status, text) = tollgate.post(&format!("{path}drained"));
        assert_eq!(status, 200, "{text}");
        assert_eq!((0..4).filter(|_| stage.round_trip(&tollgate)).count(), 4);
        assert_eq!(served_by(&tollgate, 4), vec![stays.address().to_string(); 4]);
        assert_eq!(tollgate.post(&format!("{path}in_use")).0, 200);
        assert_eq!((0..4).filter(|_| stage.round_trip(&tollgate)).count(), 4);
        let by = served_by(&tollgate, 8);
        assert_eq!(by[4..].iter().filter(|at| **at == out.address().to_string()).count(), 2);
    });
}

#[test]
fn what_happens_to_endpoints_is_written_to_the_event_log() {
    each(|stage| {
        let (breaks, works) = (stage.flaky(), stage.flaky());
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("events.log");
        let cluster = format!(
            "endpoints: [\"{}\", \"{}\"], outlier_detection: {{ \
             consecutive_local_failures: 1, base_ejection_time: 100ms, interval: 50ms }}",
            breaks.address(),
            works.address()
        );
        let tollgate = Tollgate::start_as(
            tollgate::program(),
            "",
            &format!("event_log: {{ path: \"{}\" }}\n{}", log.display(), stage.config(&cluster)),
        );
        breaks.set_mode(Mode::Resets);
        eventually("an ejection", || (!stage.round_trip(&tollgate)).then_some(()));
        let told = |event: &str| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines =
                text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.any(|line| {
                line["event"] == event && line["endpoint"] == breaks.address().to_string()
            })
        };
        eventually("the ejection in the log", || told("ejected").then_some(()));
        eventually("the return in the log", || told("returned").then_some(()));
    });
}

#[test]
fn an_unreachable_cluster_is_an_error_in_the_protocol() {
    each(|stage| {
        let tollgate = stage.before(&[support::free_address()], "connect_attempts: 1");
        assert!(!stage.round_trip(&tollgate));
        stage.ends(&tollgate, "connect_failed");
    });
}
