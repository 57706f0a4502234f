use super::*;
use crate::{
    Lease,
    health::HealthCheckResult,
    plan::{BreakerPlan, ClusterPlan, OutlierPlan},
    tests::{plan, plan_at},
};
use operation::Outcome;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time;
use tollgate_metrics::Metrics;

fn cluster() -> Arc<Cluster> {
    let addresses: [SocketAddr; 3] = [1, 2, 3].map(|i| ([10, 0, 0, i], 27017).into());
    let outlier_detection = Some(OutlierPlan::default());
    Cluster::new(
        Arc::new(ClusterPlan { outlier_detection, ..plan_at(&addresses) }),
        &Metrics::new(),
    )
}

/// The first is busy and healthy, the second fails its checks, the third was ejected 10 s ago.
async fn busy() -> (Arc<Cluster>, Lease) {
    let cluster = cluster();
    let endpoints = cluster.endpoints();
    let lease = Lease::new(&cluster, &endpoints[0]);
    for i in 0..1000u32 {
        lease.operation_started();
        let outcome = if i.is_multiple_of(100) { Outcome::Failed } else { Outcome::Ok };
        lease.operation_ended(outcome, Duration::from_micros(if i < 950 { 800 } else { 45_000 }));
    }
    lease.operation_started();
    cluster.end_interval();
    endpoints[1].exclude(Exclusion::Unhealthy);
    endpoints[1].last_check.store(Some(Arc::new(HealthCheckResult {
        good: false,
        message: "recovering".to_owned(),
        at: Instant::now(),
        took: Duration::from_micros(1_300),
    })));
    (0..5).for_each(|_| cluster.observe_connect(&endpoints[2], false));
    time::advance(Duration::from_secs(10)).await;
    (cluster, lease)
}

#[tokio::test(start_paused = true)]
async fn a_report_has_the_state_of_each_endpoint() {
    let (cluster, _lease) = busy().await;
    let report = cluster.report();
    assert_eq!(report["panic"], false);
    let [well, ill, out] = [0, 1, 2].map(|i| report["endpoints"][i].clone());
    assert_eq!(
        well,
        json!({
            "address": "10.0.0.1:27017", "name": "10.0.0.1:27017",
            "weight": 1, "priority": 0, "zone": null,
            "state": "in_use", "state_seconds": 10.0, "healthy": true, "last_check": null, "ejection": null,
            "drained": false, "active_connections": 1, "active_operations": 1,
            "connects_ok": 0, "connects_failed": 0, "last_error": null,
            "last_interval": well["last_interval"], "certificate_expires_in_seconds": null,
        })
    );
    let last = &well["last_interval"];
    assert_eq!((&last["operations"], &last["success_rate"]), (&json!(1000), &json!(99.0)));
    let ms = |quantile: &str| last[quantile].as_f64().unwrap();
    assert!((0.63..=0.8).contains(&ms("p50_ms")), "{last}");
    assert!((0.63..=0.8).contains(&ms("p90_ms")), "{last}");
    assert!((40.0..=50.0).contains(&ms("p99_ms")), "{last}");

    assert_eq!((&ill["state"], &ill["healthy"]), (&json!("unhealthy"), &json!(false)));
    time::advance(Duration::from_secs(5)).await;
    cluster.endpoints()[1].readmit(Exclusion::Unhealthy);
    let readmitted = cluster.report()["endpoints"][1].clone();
    assert_eq!(
        (&readmitted["state"], &readmitted["state_seconds"]),
        (&json!("in_use"), &json!(0.0))
    );
    let check = json!({ "ok": false, "words": "recovering", "seconds_ago": 10.0, "took_ms": 1.3 });
    assert_eq!(ill["last_check"], check);
    assert_eq!(
        ill["last_interval"],
        json!({
            "operations": 0, "success_rate": null, "p50_ms": null, "p90_ms": null, "p99_ms": null,
        })
    );

    assert_eq!(out["state"], "ejected");
    let reason = "5 operations were lost or connections failed in a row";
    let ejection = json!({
        "detector": "consecutive_local_failures", "reason": reason, "count": 1,
        "seconds_left": 20.0,
    });
    assert_eq!(out["ejection"], ejection);
}

#[tokio::test(start_paused = true)]
async fn the_table_for_people_is_aligned() {
    let (cluster, _lease) = busy().await;
    cluster.operator_drain("10.0.0.2:27017").unwrap();
    let text = cluster.report_text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "orders: round_robin, 1 of 3 endpoints in use");
    assert!(lines[1].starts_with("  ENDPOINT       STATE   CONN OPS"), "{text}");
    assert_eq!(lines.len(), 5);
    for (line, state) in lines[2..].iter().zip(["in_use", "drained", "ejected"]) {
        assert_eq!(line.find(state), lines[1].find("STATE"), "{text}");
    }
    assert!(lines[3].ends_with(" recovering"), "{text}");
    assert!(lines[4].contains("20 s left: 5 operations"), "{text}");
    let notes = lines[1].find("NOTES").unwrap();
    assert!(notes < 64, "no room for notes within 80 columns: {text}");
}

#[test]
fn a_name_with_several_addresses_precedes_each() {
    let cluster = Cluster::new(Arc::new(plan(&[("::1", 5000)])), &Metrics::new());
    assert!(cluster.report_text().contains("\n  [::1]:5000 in_use"), "{}", cluster.report_text());
}

#[tokio::test(start_paused = true)]
async fn the_table_shows_what_is_in_flight_where_limited() {
    let limited = |limits: BreakerPlan| {
        let address: SocketAddr = ([10, 0, 0, 1], 5000).into();
        let plan = ClusterPlan { circuit_breaker: limits, ..plan_at(&[address]) };
        Cluster::new(Arc::new(plan), &Metrics::new())
    };
    let second_line = |cluster: &Cluster| {
        cluster.report_text().lines().nth(1).unwrap_or_default().trim_start().to_owned()
    };
    assert!(second_line(&limited(BreakerPlan::default())).starts_with("ENDPOINT"));
    let max_operations = Some(20);
    let cluster = limited(BreakerPlan { max_operations, ..BreakerPlan::default() });
    let _permits = [(); 3].map(|()| cluster.admit_operation().unwrap());
    let expected = "0 connections, 3 of 20 operations, 0 of 1024 clients waiting";
    assert_eq!(second_line(&cluster), expected);
    let cluster = limited(BreakerPlan {
        max_connections: Some(100),
        max_connections_per_endpoint: Some(10),
        max_pending: 5,
        ..BreakerPlan::default()
    });
    let expected = "0 of 100 connections (up to 10 to each endpoint), 0 of 5 clients waiting";
    assert_eq!(second_line(&cluster), expected);
}
