//! The table of one worker: a row for each shape, the least recently used ones out.

use crate::{Call, bounded_names::BoundedNames, mirrored_shape::MirroredShape, shape::Shape};
use foldhash::HashMap;
use operation::Outcome;
use std::{sync::Arc, time::Instant};
use tollgate_metrics::{Distribution, bucket};

/// How many rows a table has at most.
pub(crate) const MAX_ROWS: usize = 1000;

/// How many rows are evicted at once, so that a flood of shapes does not search the table each time.
const EVICTED_AT_ONCE: usize = 50;

/// The call sites of the first operations are all read, and later on that of one in [`CALLSITE_SAMPLE`]: to
/// read it takes time.
const FIRST_CALLSITES: u64 = 32;
const CALLSITE_SAMPLE: u64 = 16;

/// The counts of one shape on one worker.
#[derive(Clone, Debug)]
pub(crate) struct CountedShape {
    pub(crate) shape: Arc<Shape>,
    pub(crate) counts: Counts,
    /// How long operations took.
    pub(crate) durations: Distribution,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    pub(crate) apps: BoundedNames,
    pub(crate) callsites: BoundedNames,
    /// The call site of the last run of lookups that was long enough for a finding.
    pub(crate) run_callsite: Option<Box<str>>,
    /// What a mirror has answered, if there is one.
    pub(crate) mirror: Option<Box<MirroredShape>>,
    /// The client of the last operation.
    last_client: u32,
}

/// The numbers of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Operations of the shape, with any outcome.
    pub(crate) calls: u64,
    /// How many of them, or of their continuations, did not succeed.
    pub(crate) errors: u64,
    /// How many of them the proxy has rejected.
    pub(crate) refused: u64,
    /// How often their cursors were continued.
    pub(crate) continuations: u64,
    /// The time that operations and continuations took, in nanoseconds.
    pub(crate) nanos: u64,
    pub(crate) items: u64,
    pub(crate) request_bytes: u64,
    pub(crate) reply_bytes: u64,
}

/// The rows of one worker.
#[derive(Debug, Default)]
pub(crate) struct ShapeTable {
    rows: HashMap<u64, Box<CountedShape>>,
    evicted: u64,
}

/// The rows of one worker when they were read.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    pub(crate) rows: Vec<CountedShape>,
    /// How many rows were evicted since the start or the last reset.
    pub(crate) evicted: u64,
}

impl ShapeTable {
    /// The row with this key; if there is none, a new one of the shape that `make` returns.
    pub(crate) fn row(
        &mut self,
        key: u64,
        now: Instant,
        make: impl FnOnce() -> Arc<Shape>,
    ) -> (&mut CountedShape, usize) {
        let evicted = match self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            true => self.evict(),
            false => 0,
        };
        let row = self.rows.entry(key).or_insert_with(|| Box::new(CountedShape::new(make(), now)));
        (row, evicted)
    }

    /// The row with this key, if there is one.
    pub(crate) fn get(&self, key: u64) -> Option<&CountedShape> {
        self.rows.get(&key).map(|row| &**row)
    }

    /// The same, mutable.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut CountedShape> {
        self.rows.get_mut(&key).map(|row| &mut **row)
    }

    /// Evicts the rows that were used least recently. Returns how many.
    fn evict(&mut self) -> usize {
        let mut last: Vec<Instant> = self.rows.values().map(|row| row.last).collect();
        let (_, newest_evicted, _) = last.select_nth_unstable(EVICTED_AT_ONCE - 1);
        let (newest_evicted, before) = (*newest_evicted, self.rows.len());
        self.rows.retain(|_, row| row.last > newest_evicted);
        let evicted = before - self.rows.len();
        self.evicted += evicted as u64;
        evicted
    }

    /// A copy of all rows.
    pub(crate) fn report(&self) -> WorkerReport {
        let rows = self.rows.values().map(|row| CountedShape::clone(row)).collect();
        WorkerReport { rows, evicted: self.evicted }
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl CountedShape {
    fn new(shape: Arc<Shape>, now: Instant) -> Self {
        Self {
            shape,
            counts: Counts::default(),
            durations: Distribution::default(),
            first: now,
            last: now,
            apps: BoundedNames::default(),
            callsites: BoundedNames::default(),
            run_callsite: None,
            mirror: None,
            last_client: 0,
        }
    }

    /// Counts an operation of this shape.
    pub(crate) fn count(&mut self, call: &Call<'_>, nanos: u64) {
        self.counts.calls += 1;
        if self.add(call, nanos) {
            self.durations.buckets[bucket(nanos)] += 1;
            self.durations.sum += nanos;
        }
        let calls = self.counts.calls;
        let is_read = calls <= FIRST_CALLSITES || calls.is_multiple_of(CALLSITE_SAMPLE);
        if is_read && call.may_have_callsite && !self.callsites.is_full() {
            call.callsite().into_iter().for_each(|site| self.callsites.add(&site));
        }
    }

    /// Counts an operation that continues the cursor of an operation of this shape.
    pub(crate) fn count_continuation(&mut self, call: &Call<'_>) {
        self.counts.continuations += 1;
        self.add(call, call.nanos());
    }

    /// Returns whether the time that the operation took is latency.
    fn add(&mut self, call: &Call<'_>, nanos: u64) -> bool {
        let counts = &mut self.counts;
        counts.errors += u64::from(call.outcome != Outcome::Ok);
        counts.refused += u64::from(call.is_rejected);
        let is_latency = !call.is_long_poll && !call.is_rejected;
        counts.nanos += if is_latency { nanos } else { 0 };
        // A service may report any number.
        counts.items = counts.items.saturating_add(call.items);
        counts.request_bytes = counts.request_bytes.saturating_add(call.request_bytes);
        counts.reply_bytes = counts.reply_bytes.saturating_add(call.reply_bytes);
        self.last = call.ended;
        is_latency
    }

    /// Whether the last operation came from another client than this one; it is the last one now.
    pub(crate) fn changes_client(&mut self, client: u32) -> bool {
        std::mem::replace(&mut self.last_client, client) != client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sent, call};
    use std::time::Duration;

    fn count(table: &mut ShapeTable, operation: &str, at: Instant) -> usize {
        let sent = Sent::new("app");
        let call = Call { began: at, ended: at, ..call(&sent, operation) };
        let (row, evicted) = table.row(call.row_key(), at, || Shape::of(&call));
        row.count(&call, call.nanos());
        evicted
    }

    #[test]
    fn a_flood_of_shapes_evicts_the_least_recently_used() {
        let (mut table, began) = (ShapeTable::default(), Instant::now());
        let at = |second| began + Duration::from_secs(second);
        let mut evicted = 0;
        for number in 0..5000 {
            evicted += count(&mut table, &format!("shape-{number}"), at(2 * number));
            evicted += count(&mut table, "find", at(2 * number + 1));
            assert!(table.rows.len() <= MAX_ROWS);
        }
        let report = table.report();
        assert_eq!(report.evicted, evicted as u64);
        assert_eq!(report.rows.len() + evicted, 5001);
        let find = report.rows.iter().find(|row| &*row.shape.operation == "find").unwrap();
        assert_eq!(find.counts.calls, 5000, "what is used stays");
        table.reset();
        assert_eq!((table.report().rows.len(), table.report().evicted), (0, 0));
    }

    #[test]
    fn impossible_numbers_of_items_add_up_to_the_most() {
        let (mut table, now, sent) = (ShapeTable::default(), Instant::now(), Sent::new("app"));
        for _ in 0..2 {
            let call = Call { items: u64::MAX, ..call(&sent, "insert") };
            let (row, _) = table.row(call.row_key(), now, || Shape::of(&call));
            row.count(&call, call.nanos());
        }
        assert_eq!(table.report().rows[0].counts.items, u64::MAX);
    }
}
