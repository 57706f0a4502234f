//! grpcio's client and grpcio's server: `tests/drivers/grpc_scenarios.py`.

use crate::{Stage, play};
use std::thread;

#[test]
fn every_kind_of_call_carries_its_messages_and_is_counted() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("kinds");
        let lines = stage.tollgate.logged(7, |_| true);
        let of = |name: &str| -> Vec<_> {
            lines
                .iter()
                .filter(|line| line["operation"] == format!("real.v1.Echo/{name}"))
                .collect()
        };
        assert_eq!((of("Unary").len(), of("Down").len(), of("Up").len()), (1, 3, 2), "{lines:?}");
        let messages = |name: &str| of(name)[0]["messages"].as_u64();
        assert_eq!((messages("Unary"), messages("Down")), (Some(1), Some(50)), "{lines:?}");
        assert_eq!(messages("Both"), Some(30), "{lines:?}");
        let last = of("Down")[2];
        assert_eq!((&last["outcome"], &last["code"]), (&"failed".into(), &"DATA_LOSS".into()));
        let count = |direction| {
            let labels = [("listener", "rpc"), ("direction", direction)];
            stage.tollgate.metric("tollgate_grpc_messages_total", &labels)
        };
        assert_eq!((count("request"), count("reply")), (84.0, 86.0));
    }
}

#[test]
fn errors_arrive_with_message_and_details() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("errors");
        let lines = stage.tollgate.logged(6, |line| line["outcome"] == "rejected");
        assert_eq!(lines.iter().filter(|line| line["code"] == "NOT_FOUND").count(), 3, "{lines:?}");
    }
}

#[test]
fn metadata_passes_both_ways_and_in_binary() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("metadata");
    }
}

#[test]
fn messages_of_eight_megabytes_pass() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("big");
    }
}

#[test]
fn compressed_messages_stay_as_they_are() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("packed");
        let lines = stage.tollgate.logged(2, |_| true);
        // 160 kB of them would not be.
        assert!(lines.iter().all(|line| line["request_bytes"].as_u64() < Some(5000)), "{lines:?}");
        assert!(lines.iter().all(|line| line["reply_bytes"].as_u64() < Some(5000)), "{lines:?}");
    }
}

#[test]
fn a_deadline_ends_a_call_and_is_forwarded() {
    let hold = "policies:\n  - { name: hold, fault: { delay: 300ms } }\n";
    for stage in Stage::plain_and_encrypted("", hold) {
        stage.plays("left");
        stage.plays("deadline");
    }
}

#[test]
fn a_stream_whose_route_s_time_is_over_ends_with_a_status() {
    let routes = "routes: [{ name: brief, cluster: rpc, timeout: 1s }]";
    for stage in Stage::plain_and_encrypted(routes, "") {
        stage.plays("cut");
        let line = &stage.tollgate.logged(1, |_| true)[0];
        let told = (&line["outcome"], &line["reason"], &line["flags"]);
        assert_eq!(told, (&"lost".into(), &"timed_out".into(), &"answer_cut".into()), "{line}");
    }
}

#[test]
fn a_call_that_is_cancelled_is_so_at_the_service_too() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("cancel");
        let lines = stage.tollgate.logged(5, |line| line["outcome"] == "cancelled");
        assert!(lines.iter().all(|line| line["operation"] == "real.v1.Echo/Down"), "{lines:?}");
    }
}

#[test]
fn a_stream_longer_than_the_drain_ends_as_unavailable() {
    for mut stage in Stage::plain_and_encrypted("", "drain_timeout: 1s\n") {
        let (address, encrypted) = (stage.address(), stage.encrypted);
        let plays = thread::spawn(move || play("outlives", &address, encrypted));
        stage.tollgate.wait_for_metric("tollgate_operations_active", &[], 1.0);
        assert!(stage.tollgate.stop().success());
        plays.join().expect("the scenario is as it should be");
        let line = &stage.tollgate.access_log()[0];
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&"cancelled".into(), &"drain_timeout".into())
        );
    }
}

#[test]
fn two_hundred_calls_share_a_connection() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("many");
        stage.tollgate.wait_for_metric("tollgate_operations_total", &[("outcome", "ok")], 400.0);
        let labels = [("listener", "rpc")];
        assert_eq!(stage.tollgate.metric("tollgate_connections_total", &labels), 1.0);
    }
}

#[test]
fn what_one_client_sends_breaks_no_call_of_another() {
    let Some(stage) = Stage::new("", "workers: 1\n") else { return };
    stage.plays("shared");
    let opened = [("cluster", "rpc"), ("result", "ok")];
    assert_eq!(stage.tollgate.metric("tollgate_upstream_connect_total", &opened), 1.0);
    let lines = stage.tollgate.logged(3, |line| line["reason"] == "invalid");
    assert!(lines.iter().all(|line| line["outcome"] == "rejected"), "{lines:?}");
}

#[test]
fn a_client_s_keepalive_pings_are_answered() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("pings");
    }
}

#[test]
fn health_and_reflection_are_calls_like_any_other() {
    for stage in Stage::plain_and_encrypted("", "") {
        stage.plays("infrastructure");
        stage.tollgate.logged(1, |line| line["operation"] == "grpc.health.v1.Health/Check");
    }
}
