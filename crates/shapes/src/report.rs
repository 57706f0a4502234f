//! The rows of all workers, merged, in the order that was asked for.

use crate::{WorkerReport, mirrored_shape::MirrorReport, shape_table::CountedShape};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};
use tollgate_metrics::Times;

/// The shapes of all workers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShapeReport {
    /// How many rows were evicted from full tables. What they had counted is missing here.
    pub evicted: u64,
    /// The shapes.
    pub shapes: Vec<ShapeRow>,
}

/// The operations of one shape, since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShapeRow {
    /// The key of the shape: the same on every machine.
    pub shape: String,
    /// The listener's name.
    pub listener: String,
    /// The operation's name.
    pub operation: String,
    /// Its resource.
    pub resource: String,
    /// The query without values.
    pub query: String,
    /// The attribute `query_hash` of the first operation, as in the log; empty if there is none.
    pub query_hash: String,
    /// The number of ended operations, with any outcome.
    pub calls: u64,
    /// How many of them, or of the requests that continued their cursors, did not succeed.
    pub errors: u64,
    /// How many of them the proxy has rejected.
    pub refused: u64,
    /// How many requests have continued their cursors.
    pub continuations: u64,
    /// The durations of operations. The sum includes those of continuations.
    #[serde(flatten)]
    pub times: Times,
    /// How many documents the service has returned or changed.
    pub documents: u64,
    /// Bytes from clients.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// When the first operation ended (RFC 3339).
    pub first_seen: String,
    /// When the last one ended (RFC 3339).
    pub last_seen: String,
    /// Applications that sent it: the first eight.
    pub apps: Vec<String>,
    /// Places in clients' programs that it comes from: the first eight that were read.
    pub callsites: Vec<String>,
    /// What the mirror has answered, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorReport>,
}

/// Which shapes come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapeOrder {
    /// Those that take the most time in all.
    #[default]
    Time,
    /// The most frequent ones.
    Calls,
    /// Those that fail most often.
    Errors,
    /// Those with the most documents.
    Documents,
    /// Those with the most bytes, both ways.
    Bytes,
}

impl ShapeOrder {
    fn measure(self, row: &CountedShape) -> u64 {
        let counts = &row.counts;
        match self {
            ShapeOrder::Time => counts.nanos,
            ShapeOrder::Calls => counts.calls,
            ShapeOrder::Errors => counts.errors,
            ShapeOrder::Documents => counts.items,
            ShapeOrder::Bytes => counts.request_bytes + counts.reply_bytes,
        }
    }
}

impl ShapeReport {
    /// The reports of all workers, merged: at most `limit` shapes in this order.
    pub fn merge(workers: Vec<WorkerReport>, order: ShapeOrder, limit: usize) -> Self {
        let (now, mut rows) = (Instant::now(), BTreeMap::<_, CountedShape>::new());
        let mut evicted = 0;
        for worker in workers {
            evicted += worker.evicted;
            for row in worker.rows {
                let shape = &row.shape;
                let id = (shape.listener.clone(), shape.operation.clone(), shape.resource.clone());
                match rows.get_mut(&(id.clone(), shape.key)) {
                    Some(merged) => merged.merge(&row),
                    None => _ = rows.insert((id, shape.key), row),
                }
            }
        }
        let mut rows: Vec<CountedShape> = rows.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(order.measure(row)));
        rows.truncate(limit);
        Self { evicted, shapes: rows.iter().map(|row| row.report(now)).collect() }
    }
}

impl CountedShape {
    /// Adds the counts of another worker.
    fn merge(&mut self, other: &Self) {
        let (counts, more) = (&mut self.counts, &other.counts);
        counts.calls += more.calls;
        counts.errors += more.errors;
        counts.refused += more.refused;
        counts.continuations += more.continuations;
        counts.nanos += more.nanos;
        counts.items = counts.items.saturating_add(more.items);
        counts.request_bytes = counts.request_bytes.saturating_add(more.request_bytes);
        counts.reply_bytes = counts.reply_bytes.saturating_add(more.reply_bytes);
        self.durations.add(&other.durations);
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
        self.apps.merge(&other.apps);
        self.callsites.merge(&other.callsites);
        if let Some(mirror) = &other.mirror {
            self.mirror.get_or_insert_default().merge(mirror);
        }
    }

    fn report(&self, now: Instant) -> ShapeRow {
        let Self { shape, counts, .. } = self;
        let times = Times::of(&self.durations);
        ShapeRow {
            shape: format!("{:016x}", shape.key),
            listener: shape.listener.to_string(),
            operation: shape.operation.to_string(),
            resource: shape.resource.to_string(),
            query: shape.query.to_string(),
            query_hash: shape.query_hash.to_string(),
            calls: counts.calls,
            errors: counts.errors,
            refused: counts.refused,
            continuations: counts.continuations,
            times: Times { total_ms: (counts.nanos as f64 / 1e3).round() / 1e3, ..times },
            documents: counts.items,
            request_bytes: counts.request_bytes,
            reply_bytes: counts.reply_bytes,
            first_seen: wall_clock(self.first, now),
            last_seen: wall_clock(self.last, now),
            apps: self.apps.to_vec(),
            callsites: self.callsites.to_vec(),
            mirror: self.mirror.as_ref().map(|mirror| mirror.report()),
        }
    }
}

/// A time as text (RFC 3339, UTC).
pub(crate) fn wall_clock(at: Instant, now: Instant) -> String {
    let time = SystemTime::now().checked_sub(now.saturating_duration_since(at));
    humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Call,
        shape::Shape,
        shape_table::ShapeTable,
        testing::{Sent, call},
    };
    use operation::Outcome;
    use std::time::Duration;

    /// A worker's report of operations, each with its name, its documents and its milliseconds.
    fn worker(app: &str, operations: &[(&str, u64, u64)]) -> WorkerReport {
        let (mut table, sent) = (ShapeTable::default(), Sent::new(app));
        for (operation, items, millis) in operations {
            let call = call(&sent, operation);
            let outcome = if *items == 0 { Outcome::Failed } else { Outcome::Ok };
            let ended = call.began + Duration::from_millis(*millis);
            let call = Call { items: *items, outcome, ended, ..call };
            let (row, _) = table.row(call.row_key(), ended, || Shape::of(&call));
            row.count(&call, call.nanos());
            row.apps.add(app);
        }
        table.report()
    }

    #[test]
    fn workers_are_merged_and_sorted_as_asked() {
        let workers = || {
            vec![
                worker("shop", &[("find", 10, 1), ("find", 10, 3), ("update", 1, 50)]),
                worker("jobs", &[("find", 5, 2), ("update", 0, 5), ("count", 1000, 1)]),
            ]
        };
        let merged = ShapeReport::merge(workers(), ShapeOrder::Time, 10);
        let names = |report: &ShapeReport| -> Vec<String> {
            report.shapes.iter().map(|row| row.operation.clone()).collect()
        };
        assert_eq!(names(&merged), ["update", "find", "count"]);
        let find = &merged.shapes[1];
        assert_eq!((find.calls, find.errors, find.documents), (3, 0, 25));
        assert_eq!(find.times.total_ms, 6.0);
        assert_eq!(find.apps, ["shop", "jobs"]);
        assert!(find.times.p50_ms.unwrap() >= 1.0 && find.times.p99_ms.unwrap() <= 3.2);
        for (order, first) in [
            (ShapeOrder::Calls, "find"),
            (ShapeOrder::Errors, "update"),
            (ShapeOrder::Documents, "count"),
        ] {
            let sorted = ShapeReport::merge(workers(), order, 1);
            assert_eq!(names(&sorted), [first], "{order:?}");
        }
    }
}
