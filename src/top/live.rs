//! The table of the last operations, the latest first.

use super::{
    columns::{self, ListColumn, loud_if, plain},
    layout::{RED, YELLOW},
    table::{SLOW_MS, duration},
};
use serde::Deserialize;

/// An operation that has ended, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LiveOperation {
    time_ms: u64,
    operation: String,
    resource: String,
    outcome: String,
    reason: Option<String>,
    code: Option<String>,
    policies: Vec<String>,
    duration_ms: f64,
    peer: Option<String>,
    app: Option<String>,
    endpoint: Option<String>,
}

impl LiveOperation {
    fn client(&self) -> String {
        [&self.app, &self.peer].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    }

    fn why(&self) -> String {
        let words = [&self.reason, &self.code].into_iter().flatten().chain(&self.policies);
        words.cloned().collect::<Vec<_>>().join(" ")
    }

    /// The time of day, in UTC.
    fn ended(&self) -> String {
        let seconds = self.time_ms / 1000 % 86_400;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

const COLUMNS: [ListColumn<LiveOperation>; 8] = [
    ListColumn { head: "OPERATION", width: None, from: 0, show: |it| plain(&*it.operation) },
    ListColumn { head: "RESOURCE", width: None, from: 0, show: |it| plain(&*it.resource) },
    ListColumn { head: "CLIENT", width: None, from: 70, show: |it| plain(it.client()) },
    ListColumn {
        head: "ENDPOINT",
        width: None,
        from: 130,
        show: |it| plain(it.endpoint.clone().unwrap_or_default()),
    },
    ListColumn { head: "WHY", width: None, from: 90, show: |it| plain(it.why()) },
    ListColumn {
        head: "OUTCOME",
        width: Some(9),
        from: 0,
        show: |it| loud_if(it.outcome != "ok", it.outcome.clone(), RED),
    },
    ListColumn {
        head: "TOOK",
        width: Some(7),
        from: 40,
        show: |it| loud_if(it.duration_ms >= SLOW_MS, duration(Some(it.duration_ms)), YELLOW),
    },
    ListColumn { head: "ENDED", width: Some(8), from: 60, show: |it| plain(it.ended()) },
];

/// The table as text, no line longer than `width` columns. With `colour` it holds escape codes.
pub fn render(operations: &[LiveOperation], shape: (usize, bool)) -> String {
    let latest: Vec<LiveOperation> = operations.iter().rev().cloned().collect();
    columns::render(&latest, &COLUMNS, "waiting for the next operation", shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_operation_comes_first() {
        let operations: Vec<LiveOperation> = serde_json::from_value(serde_json::json!([
            { "id": 1, "time_ms": 3_723_000, "operation": "find", "resource": "shop.orders",
              "outcome": "ok", "duration_ms": 250.0, "peer": "10.0.0.7:5", "app": "cart" },
            { "id": 2, "time_ms": 3_724_000, "operation": "drop", "resource": "shop.orders",
              "outcome": "rejected", "reason": "denied", "policies": ["no-drops"], "duration_ms": 0.1,
              "peer": "10.0.0.8:6", "app": null },
        ]))
        .unwrap();
        let expected = "\
OPERATION RESOURCE    CLIENT          WHY               OUTCOME    TOOK    ENDED
drop      shop.orders 10.0.0.8:6      denied no-drops  rejected   100µs 01:02:04
find      shop.orders cart 10.0.0.7:5                        ok   250ms 01:02:03";
        assert_eq!(render(&operations, (100, false)), expected);
        let coloured = render(&operations, (100, true));
        assert!(coloured.contains(RED) && coloured.contains(YELLOW), "{coloured}");
    }
}
