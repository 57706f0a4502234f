use super::*;
use crate::{
    Cluster,
    endpoint::EndpointMetrics,
    plan::{ClusterPlan, OutlierPlan},
    set::Member,
    tests::{plan, plan_at},
};
use metrics::Counter;
use operation::Outcome;
use process::log_file;
use std::time::Duration;
use tollgate_metrics::Metrics;

/// The lines written while `test` runs.
fn written(plan: ClusterPlan, test: impl FnOnce(&Arc<Cluster>)) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let log = log_file::open(&path, "event log", log_file::LINES, Counter::noop()).unwrap();
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    cluster.log_events(Some(log.sink().clone()));
    test(&cluster);
    drop(cluster);
    log.close(std::time::Instant::now() + Duration::from_secs(20));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn two() -> ClusterPlan {
    let addresses = [([10, 0, 0, 1], 5000).into(), ([10, 0, 0, 2], 5000).into()];
    let outlier = OutlierPlan { max_ejection_percent: 0, ..OutlierPlan::default() };
    ClusterPlan { outlier_detection: Some(outlier), ..plan_at(&addresses) }
}

/// The line without its time, which every line starts with.
fn timeless(mut line: Value) -> Value {
    let time = line.as_object_mut().unwrap().remove("time").unwrap();
    humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    line
}

#[test]
fn ejections_and_returns_are_lines_with_their_reasons() {
    let lines = written(two(), |cluster| {
        let endpoints = cluster.endpoints();
        (0..5).for_each(|_| cluster.observe(&endpoints[0], Outcome::Failed, Duration::ZERO));
        (0..5).for_each(|_| cluster.observe(&endpoints[1], Outcome::Lost, Duration::ZERO));
        cluster.operator_return("10.0.0.1:5000").unwrap();
    });
    let lines: Vec<_> = lines.into_iter().map(timeless).collect();
    let expected = [
        json!({
            "cluster": "orders", "event": "ejected", "endpoint": "10.0.0.1:5000",
            "name": "10.0.0.1:5000", "detector": "consecutive_failures", "count": 1,
            "seconds": 30.0, "reason": "5 operations failed in a row",
        }),
        json!({
            "cluster": "orders", "event": "not_ejected", "endpoint": "10.0.0.2:5000",
            "name": "10.0.0.2:5000", "detector": "consecutive_local_failures",
            "reason": "5 operations were lost or connections failed in a row",
            "why_not": "no other endpoint is usable",
        }),
        json!({
            "cluster": "orders", "event": "returned", "endpoint": "10.0.0.1:5000",
            "name": "10.0.0.1:5000", "reason": "an operator said so",
        }),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn operator_actions_are_logged() {
    let lines = written(two(), |cluster| {
        cluster.operator_eject("10.0.0.2:5000").unwrap();
        cluster.operator_drain("10.0.0.1:5000").unwrap();
        cluster.operator_return("10.0.0.1:5000").unwrap();
    });
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    // With one drained and one ejected, only a panic has endpoints to pick.
    let expected = ["ejected", "drained", "panic_entered", "undrained", "panic_left"];
    assert_eq!(events, expected);
    assert_eq!(lines[0]["detector"], "operator");
    assert_eq!(lines[0]["seconds"], Value::Null);
}

#[test]
fn a_changed_set_is_logged_with_added_and_removed_endpoints() {
    let lines = written(plan(&[]), |cluster| {
        let meters = Arc::new(EndpointMetrics::new(
            &"orders".into(),
            "db:5000".into(),
            true,
            &Metrics::new(),
        ));
        let member = |i: u8| {
            let address = ([10, 0, 0, i], 5000).into();
            let endpoint = Arc::new(Endpoint::new(address, "db:5000".into(), Arc::clone(&meters)));
            Member { endpoint, weight: 1, priority: 0, zone: None }
        };
        cluster.update_set(|_| vec![member(1), member(2)]);
        cluster.update_set(|before| vec![before[1].clone(), member(3)]);
        // The same endpoints again are no change.
        cluster.refresh();
    });
    let lines: Vec<_> = lines.into_iter().map(timeless).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[1],
        json!({
            "cluster": "orders", "event": "set_changed", "reason": "1 added, 1 removed",
            "added": ["db:5000 (10.0.0.3:5000)"], "removed": ["db:5000 (10.0.0.1:5000)"],
        })
    );
}

#[test]
fn health_and_panic_are_logged_as_text() {
    let cluster = Cluster::new(Arc::new(two()), &Metrics::new());
    let endpoint = &cluster.endpoints()[0];
    let line = |event: Event<'_>| timeless(cluster.events.line(&event, SystemTime::now()));
    assert_eq!(
        line(Event::Health { endpoint, healthy: false, reason: "connection refused" }),
        json!({
            "cluster": "orders", "event": "health_changed", "endpoint": "10.0.0.1:5000",
            "name": "10.0.0.1:5000", "healthy": false, "reason": "connection refused",
        })
    );
    let reason = "0 of 2 endpoints are usable";
    assert_eq!(
        line(Event::Panic { entered: true, reason }),
        json!({ "cluster": "orders", "event": "panic_entered", "reason": reason })
    );
    assert_eq!(line(Event::Panic { entered: false, reason })["event"], "panic_left");
}
