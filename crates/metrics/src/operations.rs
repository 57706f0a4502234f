//! Rows for `/operations`, `/callsites` and `/dashboard`, joined from the series of several metrics.

use super::{
    Metrics, Values,
    buckets::{Distribution, seconds},
    cells::SeriesCells,
    table::{
        CALLSITE_DURATION_SECONDS, CALLSITE_OPERATIONS_TOTAL, DRY_RUN_REFUSALS_TOTAL,
        OPERATION_BYTES_TOTAL, OPERATION_DURATION_SECONDS, OPERATIONS_TOTAL, REFUSALS_TOTAL,
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// Operations with one name on one resource, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OperationRow {
    /// The listener's name.
    pub listener: String,
    /// The protocol's name.
    pub protocol: String,
    /// The operation's name.
    pub operation: String,
    /// The resource.
    pub resource: String,
    /// The number of ended operations, with any outcome.
    pub count: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many of them the proxy rejected.
    pub refused: u64,
    /// The number of operations by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Their durations.
    #[serde(flatten)]
    pub times: Times,
    /// Bytes from clients.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// The durations by bucket, for quantiles of the time between two readings.
    #[serde(skip)]
    pub durations: Distribution,
}

/// Operations from one place in the client's code, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallsiteRow {
    /// The listener's name.
    pub listener: String,
    /// The place, from the client's comment.
    pub callsite: String,
    /// The operation's name.
    pub operation: String,
    /// The resource.
    pub resource: String,
    /// The number of ended operations, with any outcome.
    pub count: u64,
    /// Their durations.
    #[serde(flatten)]
    pub times: Times,
}

/// Operations and connections that a policy has refused for one reason, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusalRow {
    /// The listener's name.
    pub listener: String,
    /// The policy's name.
    pub policy: String,
    /// Why it refused them.
    pub reason: String,
    /// It only would have refused them.
    pub dry_run: bool,
    /// How many.
    pub count: u64,
}

/// Durations of operations, in milliseconds. Quantiles are `None` without operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// The sum.
    pub total_ms: f64,
    /// The median.
    pub p50_ms: Option<f64>,
    /// The 90th percentile.
    pub p90_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
}

impl Times {
    /// The times of these durations.
    pub fn of(held: &Distribution) -> Self {
        // To the microsecond: more digits would suggest precision that is not there.
        let ms = |nanos: f64| (nanos / 1e3).round() / 1e3;
        Self {
            total_ms: ms(seconds(held.sum) * 1e9),
            p50_ms: held.quantile(0.5).map(ms),
            p90_ms: held.quantile(0.9).map(ms),
            p99_ms: held.quantile(0.99).map(ms),
        }
    }
}

/// The identity of a row: the labels that its metrics have in common.
type Id = [Box<str>; 4];

impl Metrics {
    /// One row for each listener, protocol, operation and resource, in that order.
    pub fn operations(&self) -> Vec<OperationRow> {
        let mut rows: BTreeMap<Id, OperationRow> = BTreeMap::new();
        for (id, rest, series) in self.joined(OPERATIONS_TOTAL) {
            let SeriesCells::Counter(cells) = &*series else { continue };
            let (row, count) = (rows.entry(id).or_default(), cells.total());
            row.count += count;
            let [outcome, reason] = rest;
            if &*outcome != operation::Outcome::Ok.as_str() {
                row.errors += count;
            }
            if !reason.is_empty() {
                row.refused += count;
            }
            if count > 0 {
                *row.outcomes.entry(outcome.into()).or_default() += count;
            }
        }
        for (id, _, series) in self.joined(OPERATION_DURATION_SECONDS) {
            let SeriesCells::Histogram(cells, _) = &*series else { continue };
            let row = rows.entry(id).or_default();
            row.durations = cells.total();
            row.times = Times::of(&row.durations);
        }
        for (id, [rest, _], series) in self.joined(OPERATION_BYTES_TOTAL) {
            let SeriesCells::Counter(cells) = &*series else { continue };
            let row = rows.entry(id).or_default();
            match &*rest {
                "request" => row.request_bytes += cells.total(),
                _ => row.reply_bytes += cells.total(),
            }
        }
        let named = |(id, row): (Id, OperationRow)| {
            let [listener, protocol, operation, resource] = id.map(String::from);
            OperationRow { listener, protocol, operation, resource, ..row }
        };
        rows.into_iter().map(named).collect()
    }

    /// One row for each listener, policy and reason.
    pub fn refusals(&self) -> Vec<RefusalRow> {
        let read = |name, dry_run| {
            let all = self.family(name).map(|family| family.all()).unwrap_or_default();
            all.into_iter().filter_map(move |(values, series): (Values, _)| {
                let (SeriesCells::Counter(cells), [listener, policy, reason]) =
                    (&*series, &*values)
                else {
                    return None;
                };
                Some(RefusalRow {
                    listener: listener.to_string(),
                    policy: policy.to_string(),
                    reason: reason.to_string(),
                    dry_run,
                    count: cells.total(),
                })
            })
        };
        read(REFUSALS_TOTAL, false).chain(read(DRY_RUN_REFUSALS_TOTAL, true)).collect()
    }

    /// One row for each listener, callsite, operation and resource, in that order.
    pub fn callsites(&self) -> Vec<CallsiteRow> {
        let mut rows: BTreeMap<Id, CallsiteRow> = BTreeMap::new();
        for (id, _, series) in self.joined(CALLSITE_OPERATIONS_TOTAL) {
            let SeriesCells::Counter(cells) = &*series else { continue };
            rows.entry(id).or_default().count = cells.total();
        }
        for (id, _, series) in self.joined(CALLSITE_DURATION_SECONDS) {
            let SeriesCells::Histogram(cells, _) = &*series else { continue };
            rows.entry(id).or_default().times = Times::of(&cells.total());
        }
        let named = |(id, row): (Id, CallsiteRow)| {
            let [listener, callsite, operation, resource] = id.map(String::from);
            CallsiteRow { listener, callsite, operation, resource, ..row }
        };
        rows.into_iter().map(named).collect()
    }

    /// The series of a metric whose first four labels identify a row, with the next two labels, if
    /// any.
    fn joined(&self, name: &str) -> impl Iterator<Item = (Id, [Box<str>; 2], Arc<SeriesCells>)> {
        let all = self.family(name).map(|family| family.all()).unwrap_or_default();
        all.into_iter().filter_map(|(values, series): (Values, _)| {
            let [a, b, c, d, rest @ ..] = &*values else { return None };
            let id = [a.clone(), b.clone(), c.clone(), d.clone()];
            let more = [0, 1].map(|at| rest.get(at).cloned().unwrap_or_default());
            Some((id, more, series))
        })
    }
}
