//! Policies say no, wait or break on purpose, whatever it is that passes.

use super::{No, Stage, client::Client, each};
use crate::support::{eventually, flaky::Mode, tollgate::Tollgate};
use serde_json::{Value, json};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

impl Stage<'_> {
    /// A proxy with a listener `it` before the stage's server, and these policies.
    pub(super) fn under(&self, policies: &str) -> Tollgate {
        self.guarding(self.upstream, policies)
    }

    /// The same before another server.
    fn guarding(&self, upstream: SocketAddr, policies: &str) -> Tollgate {
        let config = self.config(&format!("endpoints: [\"{upstream}\"]"));
        Tollgate::start(&format!("{config}policies:\n{policies}"))
    }

    /// What a client of its own hears.
    pub(super) fn receive(&self, tollgate: &Tollgate) -> ClientView {
        self.heard(self.answer(tollgate))
    }

    fn heard(&self, answer: std::io::Result<Vec<u8>>) -> ClientView {
        let answer = match answer {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return ClientView::No(No::Closed);
            }
            Err(_) => return ClientView::Reset,
            Ok(answer) => answer,
        };
        match (self.speaker.no)(&answer) {
            Some(no) => ClientView::No(no),
            None if (self.speaker.answered)(&answer) => ClientView::Answer,
            None => ClientView::Part((self.speaker.part)(&answer)),
        }
    }

    /// What stands for a reason.
    pub(super) fn no(&self, reason: &str) -> ClientView {
        ClientView::No((self.speaker.codes)(reason))
    }

    /// The same for a connection that is refused: a handshake would cost more than that saves.
    pub(super) fn no_connection(&self, reason: &str) -> ClientView {
        match self.tls {
            None => self.no(reason),
            Some(_) => ClientView::No(No::Closed),
        }
    }

    /// Whether a connection that is refused leaves an operation to be logged.
    pub(super) fn logs_connections(&self) -> bool {
        self.tls.is_none() || self.speaker.protocol == "tcp"
    }

    /// A client whose request gets no answer.
    fn waits(&self, tollgate: &Tollgate, others: f64) -> Client {
        let client = self.asks(tollgate);
        tollgate.wait_for_metric("tollgate_operations_active", &[], others + 1.0);
        client
    }
}

/// What a client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientView {
    /// What it asked for.
    Answer,
    /// A refusal.
    No(No),
    /// This many bytes of an answer, and then the connection's end.
    Part(usize),
    /// The connection was reset.
    Reset,
}

pub(super) fn refused(tollgate: &Tollgate, policy: &str, reason: &str, times: f64) {
    let labels = [("listener", "it"), ("policy", policy), ("reason", reason)];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, times);
}

/// The lines of the access log that a policy touched.
pub(super) fn touched(tollgate: &Tollgate, policy: &str, count: usize) -> Vec<Value> {
    tollgate.logged(count, |line| line["policy"] == policy)
}

#[test]
fn a_denied_operation_is_counted_logged_and_not_forwarded() {
    each(|stage| {
        let tollgate = stage.under(&format!(
            "- {{ name: stop, match: {{ operation: {} }}, deny: {{ message: ask us }} }}\n",
            stage.speaker.operation
        ));
        assert_eq!(stage.receive(&tollgate), stage.no("denied"));
        refused(&tollgate, "stop", "denied", 1.0);
        let lines = touched(&tollgate, "stop", 1);
        assert_eq!(
            (&lines[0]["outcome"], &lines[0]["reason"]),
            (&json!("rejected"), &json!("denied"))
        );
        let sent = [("direction", "request")];
        assert_eq!(tollgate.metric("tollgate_operation_bytes_total", &sent), 0.0);
    });
}

#[test]
fn a_policy_leaves_alone_what_it_does_not_match() {
    each(|stage| {
        // What nothing is called can't be written.
        let (operation, resource) = match stage.speaker.protocol {
            "mongo" => ("operation: [drop, create*]", "resource: elsewhere.*"),
            "http" => ("operation: [DELETE, PUR*]", "not: { resource: def* }"),
            "grpc" => ("operation: [no.Such/Call, none*]", "not: { resource: def* }"),
            _ => ("not: { operation: sess* }", "resource: elsewhere.*"),
        };
        for other in [
            operation,
            resource,
            "peer: 10.0.0.0/8",
            "endpoint: nowhere*",
            "not: { peer: 127.0.0.0/8 }",
            "not: { endpoint: \"*\" }",
        ] {
            if stage.speaker.pools && other.contains("endpoint") {
                continue;
            }
            let tollgate =
                stage.under(&format!("- {{ name: stop, match: {{ {other} }}, deny: {{}} }}\n"));
            assert_eq!(stage.receive(&tollgate), ClientView::Answer, "{other}");
        }
    });
}

#[test]
fn a_policy_applies_to_matching_clients_only() {
    each(|stage| {
        for this in [
            "peer: 127.0.0.0/8",
            "peer: [10.0.0.1, 127.0.0.1]",
            "listener: \"i*\"",
            "not: { peer: 10.0.0.0/8 }",
            "not: { app: reports }",
        ] {
            let tollgate =
                stage.under(&format!("- {{ name: stop, match: {{ {this} }}, deny: {{}} }}\n"));
            let of_connections = !this.contains("app");
            let no =
                if of_connections { stage.no_connection("denied") } else { stage.no("denied") };
            assert_eq!(stage.receive(&tollgate), no, "{this}");
            refused(&tollgate, "stop", "denied", 1.0);
        }
    });
}

#[test]
fn a_dry_run_counts_and_logs_and_does_nothing() {
    each(|stage| {
        let tollgate = stage.under("- { name: stop, dry_run: true, deny: {} }\n");
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        let labels = [("policy", "stop"), ("reason", "denied")];
        tollgate.wait_for_metric("tollgate_dry_run_refusals_total", &labels, 1.0);
        assert_eq!(tollgate.metric("tollgate_refusals_total", &[("policy", "stop")]), 0.0);
    });
}

#[test]
fn the_log_line_of_an_operation_names_a_dry_run() {
    each(|stage| {
        let tollgate = stage.under(&format!(
            "- {{ name: stop, match: {{ operation: {} }}, dry_run: true, deny: {{}} }}\n",
            stage.speaker.operation
        ));
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        let lines = tollgate.logged(1, |line| line["dry_run"] == "stop");
        assert_eq!((&lines[0]["outcome"], &lines[0]["policy"]), (&json!("ok"), &Value::Null));
    });
}

#[test]
fn a_rate_limit_lets_its_burst_through_and_no_more() {
    each(|stage| {
        let tollgate =
            stage.under("- { name: few, rate_limit: { rate: 1/h, burst: 3, key: [peer] } }\n");
        let heard: Vec<ClientView> = (0..5).map(|_| stage.receive(&tollgate)).collect();
        let no = stage.no("rate_limited");
        assert_eq!(heard, [ClientView::Answer, ClientView::Answer, ClientView::Answer, no, no]);
        refused(&tollgate, "few", "rate_limited", 2.0);
        assert_eq!(touched(&tollgate, "few", 2).len(), 2);
    });
}

#[test]
fn a_rate_limit_may_make_operations_wait_instead() {
    each(|stage| {
        let tollgate = stage.under(
            "- { name: slow, rate_limit: { rate: 8/s, burst: 1, over: delay, max_delay: 1m } }\n",
        );
        let begun = Instant::now();
        let heard: Vec<ClientView> = (0..5).map(|_| stage.receive(&tollgate)).collect();
        assert_eq!(heard, [ClientView::Answer; 5]);
        assert!(begun.elapsed() >= Duration::from_millis(495), "{:?}", begun.elapsed());
        tollgate.wait_for_metric("tollgate_policy_effects_total", &[("policy", "slow")], 4.0);
        assert_eq!(touched(&tollgate, "slow", 4).len(), 4);
    });
}

#[test]
fn connections_are_limited_in_rate_and_number() {
    each(|stage| {
        let tollgate = stage
            .under("- { name: few, rate_limit: { rate: 1/h, burst: 2, unit: connections } }\n");
        let heard: Vec<ClientView> = (0..3).map(|_| stage.receive(&tollgate)).collect();
        assert_eq!(
            heard,
            [ClientView::Answer, ClientView::Answer, stage.no_connection("rate_limited")]
        );
        refused(&tollgate, "few", "rate_limited", 1.0);

        let hangs = stage.flaky();
        let tollgate = stage.guarding(
            hangs.address(),
            "- { name: two, connection_limit: { max: 2, key: [peer] } }\n",
        );
        hangs.set_mode(Mode::Hangs);
        let both = (stage.waits(&tollgate, 0.0), stage.waits(&tollgate, 1.0));
        assert_eq!(stage.receive(&tollgate), stage.no_connection("overloaded"));
        refused(&tollgate, "two", "overloaded", 1.0);
        both.0.leaves();
        both.1.leaves();
        tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
        hangs.set_mode(Mode::Works);
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
    });
}

#[test]
fn operations_in_flight_are_limited_and_may_queue() {
    each(|stage| {
        let hangs = stage.flaky();
        let tollgate = stage.guarding(
            hangs.address(),
            "- { name: one, concurrency_limit: { max: 1, key: [peer] } }\n",
        );
        hangs.set_mode(Mode::Hangs);
        let first = stage.waits(&tollgate, 0.0);
        assert_eq!(stage.receive(&tollgate), stage.no("overloaded"));
        refused(&tollgate, "one", "overloaded", 1.0);
        first.leaves();
        tollgate.wait_for_metric("tollgate_operations_active", &[], 0.0);
        hangs.set_mode(Mode::Works);
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);

        let queue = "- { name: one, concurrency_limit: { max: 1, queue: 5, queue_timeout: 1m } }\n";
        let tollgate = stage.guarding(hangs.address(), queue);
        hangs.set_mode(Mode::Hangs);
        let first = stage.waits(&tollgate, 0.0);
        let mut second = stage.waits(&tollgate, 1.0);
        hangs.set_mode(Mode::Works);
        first.leaves();
        assert_eq!(stage.heard(second.receive(stage)), ClientView::Answer);
        drop(second);
        assert_eq!(touched(&tollgate, "one", 1)[0]["outcome"], "ok", "it had to wait");
    });
}

#[test]
fn an_operation_is_rejected_after_its_time_in_the_queue() {
    each(|stage| {
        let hangs = stage.flaky();
        let queue =
            "- { name: one, concurrency_limit: { max: 1, queue: 5, queue_timeout: 50ms } }\n";
        let tollgate = stage.guarding(hangs.address(), queue);
        hangs.set_mode(Mode::Hangs);
        let first = stage.waits(&tollgate, 0.0);
        assert_eq!(stage.receive(&tollgate), stage.no("overloaded"));
        refused(&tollgate, "one", "overloaded", 1.0);
        let line = &touched(&tollgate, "one", 1)[0];
        assert!(line["duration_ms"].as_f64().unwrap() >= 50.0, "{line}");
        first.leaves();
    });
}

#[test]
fn a_service_that_takes_too_long_is_not_waited_for() {
    each(|stage| {
        let hangs = stage.flaky();
        let tollgate =
            stage.guarding(hangs.address(), "- { name: quick, time_limit: { timeout: 250ms } }\n");
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        hangs.set_mode(Mode::Hangs);
        assert_eq!(stage.receive(&tollgate), stage.no("timed_out"));
        refused(&tollgate, "quick", "timed_out", 1.0);
        let words = stage.no("timed_out") != ClientView::No(No::Closed);
        let late = if words { "timed_out" } else { "operation_timeout" };
        let line = &touched(&tollgate, "quick", 1)[0];
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("lost"), &json!(late)), "{line}");
    });
}

#[test]
fn a_fault_delays_and_refuses() {
    each(|stage| {
        let tollgate = stage.under("- { name: slow, fault: { delay: 100ms } }\n");
        let begun = Instant::now();
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        assert_eq!(touched(&tollgate, "slow", 1).len(), 1);
        let tollgate = stage.under("- { name: bad, fault: { refuse: { message: on purpose } } }\n");
        assert_eq!(stage.receive(&tollgate), stage.no("injected"));
        refused(&tollgate, "bad", "injected", 1.0);
    });
}

#[test]
fn a_fault_strikes_the_operation_that_it_was_meant_for() {
    each(|stage| {
        let tollgate = stage.under("- { name: bad, fault: { nth: 2, refuse: {} } }\n");
        let heard: Vec<ClientView> = (0..4).map(|_| stage.receive(&tollgate)).collect();
        assert_eq!(
            heard,
            [ClientView::Answer, stage.no("injected"), ClientView::Answer, ClientView::Answer]
        );
        let choices = || {
            let tollgate = stage
                .under("- { name: bad, fault: { percent: 50, seed: 7, times: 3, refuse: {} } }\n");
            (0..20).map(|_| stage.receive(&tollgate)).collect::<Vec<ClientView>>()
        };
        let first = choices();
        assert_eq!(first.iter().filter(|heard| **heard != ClientView::Answer).count(), 3);
        assert_eq!(first, choices(), "a seed's choices can be repeated");
    });
}

#[test]
fn a_fault_closes_connections_at_the_configured_point() {
    each(|stage| {
        for (fault, heard) in [
            ("close: request", ClientView::Part(0)),
            ("close: reply", ClientView::Part(0)),
            ("close: end", ClientView::Answer),
            ("truncate: 4", ClientView::Part(4)),
            ("reset: request", ClientView::Reset),
            ("reset: reply", ClientView::Reset),
        ] {
            let tollgate = stage.under(&format!("- {{ name: cut, fault: {{ {fault} }} }}\n"));
            let answer = stage.answer(&tollgate);
            let alone = answer.as_ref().is_ok_and(|answer| (stage.speaker.cut)(answer));
            let got = match answer {
                Ok(answer) if answer.is_empty() => ClientView::Part(0),
                // It has no other way to end before its end.
                Ok(_) if alone && heard == ClientView::Reset => ClientView::Reset,
                answer => stage.heard(answer),
            };
            assert_eq!(got, heard, "{fault}");
            let reason = [("reason", "injected")];
            if !alone {
                tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 1.0);
            }
            let line = &touched(&tollgate, "cut", 1)[0];
            if fault != "close: end" {
                assert_eq!(line["reason"], "injected", "{line}");
            }
        }
    });
}

#[test]
fn bytes_pass_no_faster_than_they_may() {
    each(|stage| {
        // Four questions a second, however long they are.
        let rate = 4 * (stage.speaker.question)().len();
        let tollgate = stage.under(&format!(
            "- {{ name: slow, bandwidth_limit: {{ up: {rate}B/s, burst: 1, of: all }} }}\n"
        ));
        let begun = Instant::now();
        let heard: Vec<ClientView> = (0..5).map(|_| stage.receive(&tollgate)).collect();
        assert_eq!(heard, [ClientView::Answer; 5]);
        // What the last one brings has to be paid by those after it.
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_policy_changes_while_the_proxy_runs() {
    each(|stage| {
        let tollgate = stage.under("- { name: stop, enabled: false, deny: {} }\n");
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        let (status, text) = tollgate.send("PUT", "/policies/stop", r#"{"enabled": true}"#);
        assert_eq!(status, 200, "{text}");
        eventually("the policy at work", || {
            (stage.receive(&tollgate) == stage.no_connection("denied")).then_some(())
        });
        assert_eq!(tollgate.send("PUT", "/policies/stop", r#"{"dry_run": true}"#).0, 200);
        eventually("the policy's dry run", || {
            (stage.receive(&tollgate) == ClientView::Answer).then_some(())
        });
        let (status, text) = tollgate.send("PUT", "/policies/stop", r#"{"denied": true}"#);
        assert_eq!(status, 400, "{text}");
        assert_eq!(tollgate.send("PUT", "/policies/stopp", r#"{"enabled": true}"#).0, 404);
    });
}

#[test]
fn a_fault_is_switched_on_for_one_scenario() {
    each(|stage| {
        let tollgate = stage.under("  []\n");
        let body = r#"{"fault": {"refuse": {}}, "for": "1m"}"#;
        let (status, text) = tollgate.send("POST", "/faults", body);
        assert_eq!(status, 201, "{text}");
        let fault: Value = serde_json::from_str(&text).unwrap();
        let (id, name) = (fault["id"].as_str().unwrap(), fault["name"].as_str().unwrap());
        assert_eq!(stage.receive(&tollgate), stage.no("injected"));
        assert!(tollgate.get("/faults").1.contains(&format!("\"id\":\"{id}\"")));
        assert_eq!(touched(&tollgate, name, 1).len(), 1);
        assert_eq!(tollgate.send("DELETE", &format!("/faults/{id}"), "").0, 204);
        assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        assert_eq!(tollgate.send("DELETE", &format!("/faults/{id}"), "").0, 404);
        let (status, _) =
            tollgate.send("POST", "/faults", r#"{"fault": {"refuse": {}}, "for": "1ms"}"#);
        assert_eq!(status, 201);
        eventually("its end", || (stage.receive(&tollgate) == ClientView::Answer).then_some(()));
    });
}
