//! A refusal has a reason of its own, and what is refused reaches no later policy and no service.

use super::{
    each,
    policies::{ClientView, refused, touched},
};
use serde_json::{Value, json};

/// Policies that a connection from here never gets to, and one that does not let it in.
const BEHIND: [&str; 3] = [
    "- { name: half, fault: { every: 2, delay: 1ms } }\n",
    "- { name: once, rate_limit: { rate: 1/h, burst: 1 } }\n",
    "- { name: one, concurrency_limit: { max: 1 } }\n",
];
const SHUT: &str = "- { name: shut, match: { peer: 127.0.0.1 }, deny: {} }\n";

#[test]
fn a_refused_connection_counts_nowhere_behind_the_refusal() {
    each(|stage| {
        for policies in [[SHUT, &BEHIND.concat()].concat(), [&BEHIND.concat(), SHUT].concat()] {
            let tollgate = stage.under(&policies);
            for _ in 0..4 {
                assert_eq!(stage.receive(&tollgate), stage.no_connection("denied"));
            }
            refused(&tollgate, "shut", "denied", 4.0);
            if stage.logs_connections() {
                assert_eq!(touched(&tollgate, "shut", 4).len(), 4, "by no other name");
            }
            let told: Value = serde_json::from_str(&tollgate.get("/policies").1).unwrap();
            for policy in told.as_array().unwrap().iter().filter(|it| it["name"] != "shut") {
                assert_eq!(
                    (&policy["modified"], &policy["refused"]),
                    (&json!(0), &json!(0)),
                    "{policy}"
                );
            }
            let open = r#"{"enabled": false}"#;
            assert_eq!(tollgate.send("PUT", "/policies/shut", open).0, 200);
            assert_eq!(stage.receive(&tollgate), ClientView::Answer, "the limit is not used up");
        }
    });
}

#[test]
fn log_and_metrics_have_one_word_for_a_refused_connection() {
    each(|stage| {
        for (policy, word) in [
            ("match: { peer: 127.0.0.1 }, deny: {}", "denied"),
            ("rate_limit: { unit: connections, rate: 1/h, burst: 1 }", "rate_limited"),
            ("connection_limit: { max: 1 }", "overloaded"),
        ] {
            let tollgate = stage.under(&format!("- {{ name: it, {policy} }}\n"));
            let _open = match word {
                "rate_limited" => {
                    assert_eq!(stage.receive(&tollgate), ClientView::Answer);
                    None
                }
                "overloaded" => {
                    let open = stage.connect(&tollgate);
                    tollgate.wait_for_metric("tollgate_connections_active", &[], 1.0);
                    Some(open)
                }
                _ => None,
            };
            assert_eq!(stage.receive(&tollgate), stage.no_connection(word));
            if stage.logs_connections() {
                assert_eq!(touched(&tollgate, "it", 1)[0]["reason"], word);
            }
            refused(&tollgate, "it", word, 1.0);
            let reason = [("listener", "it"), ("reason", word)];
            tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 1.0);
        }
    });
}

#[test]
fn rejections_of_proxy_and_service_are_distinguished() {
    each(|stage| {
        let stop = format!("match: {{ operation: {} }}", stage.speaker.operation);
        let tollgate = stage.under(&format!("- {{ name: stop, {stop}, deny: {{}} }}\n"));
        assert_eq!(stage.receive(&tollgate), stage.no("denied"));
        let labels = [("outcome", "rejected"), ("reason", "denied")];
        tollgate.wait_for_metric("tollgate_operations_total", &labels, 1.0);
        let rejected: f64 =
            tollgate.metric("tollgate_operations_total", &[("outcome", "rejected")]);
        assert_eq!(rejected, 1.0, "and nothing else counts it");
        let rows = tollgate.operations();
        let refused: u64 = rows.iter().filter_map(|row| row["refused"].as_u64()).sum();
        assert_eq!(refused, 1, "{rows:?}");
    });
}
