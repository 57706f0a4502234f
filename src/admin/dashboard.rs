//! `/dashboard`: everything that the page needs once a second, in one JSON document of bounded size.

mod busiest;

use super::{View, guard::Rules, policies};
use axum::http::HeaderMap;
use busiest::Busiest;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tollgate_metrics::{Distribution, OperationRow, bounds_ms};

/// How many endpoints of a cluster are listed; those out of use come first.
const MAX_ENDPOINTS: usize = 50;

/// What is kept between two answers.
pub(super) struct Dashboard {
    rules: Arc<Rules>,
    began: Instant,
    busiest: Mutex<Busiest>,
}

impl Dashboard {
    /// The dashboard of a socket with these access rules.
    pub(super) fn new(rules: Arc<Rules>) -> Arc<Self> {
        Arc::new(Self { rules, began: Instant::now(), busiest: Mutex::default() })
    }

    /// The document for a client that sends these headers.
    pub(super) fn report(&self, view: &View, headers: &HeaderMap) -> Value {
        let now = Instant::now();
        let rows = view.metrics.operations();
        let (all, totals) = (rows.len(), totals(&rows));
        let mut busiest = self.busiest.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = busiest.choose(rows, now);
        let clusters = (view.clusters)();
        let certificates = view.certificates.report();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "time_ms": millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            "uptime_ms": millis(now.saturating_duration_since(self.began)),
            "ready": (view.ready)(),
            "changes": self.rules.changes(headers),
            "last_reload": (view.last_reload)(),
            "bounds_ms": bounds_ms().collect::<Vec<_>>(),
            "totals": totals,
            "operations_left_out": all - rows.len(),
            "operations": rows.iter().map(row).collect::<Value>(),
            "listeners": (view.listeners)(),
            "clusters": clusters.iter().map(|it| shortened(it.report())).collect::<Value>(),
            "pools": clusters.iter().filter_map(|it| it.pool_report()).collect::<Value>(),
            "policies": policies::summary(&view.policies),
            "refusals": view.metrics.refusals(),
            "findings": view.shapes.shared.findings().len(),
            "certificates": certificates["certificates"],
        })
    }
}

/// All operations together.
fn totals(rows: &[OperationRow]) -> Value {
    let mut durations = Distribution::default();
    rows.iter().for_each(|row| durations.add(&row.durations));
    let sum = |count: fn(&OperationRow) -> u64| rows.iter().map(count).sum::<u64>();
    json!({
        "count": sum(|row| row.count),
        "errors": sum(|row| row.errors),
        "refused": sum(|row| row.refused),
        "total_ms": rows.iter().map(|row| row.times.total_ms).sum::<f64>(),
        "request_bytes": sum(|row| row.request_bytes),
        "reply_bytes": sum(|row| row.reply_bytes),
        "durations": sparse(&durations),
    })
}

/// As in `/operations`, with the durations by bucket.
fn row(row: &OperationRow) -> Value {
    let mut json = serde_json::to_value(row).unwrap_or_default();
    json["durations"] = sparse(&row.durations);
    json
}

/// The buckets that hold something: pairs of the bucket's number and its count.
fn sparse(durations: &Distribution) -> Value {
    let held = durations.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
    held.map(|(bucket, count)| json!([bucket, count])).collect()
}

/// A cluster's report with a bounded number of endpoints: those out of use are the first.
pub(super) fn shortened(mut report: Value) -> Value {
    let Some(endpoints) = report["endpoints"].as_array_mut() else { return report };
    let all = endpoints.len();
    let in_use = endpoints.iter().filter(|it| it["state"] == "in_use").count();
    if all > MAX_ENDPOINTS {
        endpoints.sort_by_key(|it| it["state"] == "in_use");
        endpoints.truncate(MAX_ENDPOINTS);
    }
    report["endpoints_in_use"] = in_use.into();
    report["endpoints_in_all"] = all.into();
    report
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
