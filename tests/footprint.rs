//! What many listeners and clusters cost where nothing happens.
#![allow(clippy::unwrap_used, reason = "this is all test, helpers too")]

mod support;

use std::fmt::Write;
use support::{metrics::Sample, tollgate::Tollgate};

/// A proxy with this many listeners of a protocol, each with a cluster of its own.
fn pairs(count: usize, protocol: &str, cluster: &str) -> Tollgate {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for i in 0..count {
        let to = format!("{{ address: 127.0.0.1:0, protocol: {protocol}, cluster: orders-{i} }}");
        writeln!(listeners, "  orders-{i}: {to}").unwrap();
        writeln!(clusters, "  orders-{i}: {{ endpoints: [\"127.0.0.1:1\"]{cluster} }}").unwrap();
    }
    Tollgate::start(&format!("workers: 2\nlisteners:\n{listeners}clusters:\n{clusters}"))
}

/// Its memory in use and the length of its metrics, both in bytes.
fn costs(tollgate: &Tollgate) -> [usize; 2] {
    // Once before, so that what serves it is there.
    tollgate.get("/metrics");
    [tollgate.resident_memory() as usize, tollgate.get("/metrics").1.len()]
}

#[test]
fn a_thousand_unused_listeners_fit_in_150_mb() {
    let checked = ", health_check: {}, outlier_detection: {}";
    let others = ["mongo", "http", "grpc"].map(|protocol| (protocol, ""));
    for (protocol, cluster) in [("tcp", ""), ("tcp", checked)].into_iter().chain(others) {
        let [few, many] = [2, 202].map(|count| {
            let tollgate = pairs(count, protocol, cluster);
            if !cluster.is_empty() {
                let checks = "tollgate_health_checks_total";
                let failed = |it: &Sample| it.is(checks, &[("result", "failed")]) && it.value > 0.0;
                let checked = || tollgate.metrics().iter().filter(|it| failed(it)).count();
                support::eventually("all to be checked", || (checked() == count).then_some(()));
            }
            costs(&tollgate)
        });
        let [memory, scrape] = [0, 1].map(|it| many[it].saturating_sub(few[it]) / 200);
        println!("{protocol}{cluster}: {memory} bytes of memory and {scrape} of metrics each");
        // 150 MB less what the proxy is without any.
        assert!(memory < 50_000, "{memory} bytes of memory for a listener and a cluster");
        assert!(scrape < 1_000, "{scrape} bytes of metrics for a listener and a cluster");
    }
}
