//! Chooses the operations that the dashboard sends: a proxy may have thousands of series, and those that
//! take most time now need not be those that took most since the start.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};
use tollgate_metrics::OperationRow;

/// How many operations are chosen: those that take most time, and of the others those that fail most often.
const BY_TIME: usize = 80;
const BY_ERRORS: usize = 20;

/// How much of an activity is left at the next reading, so that a chosen operation stays for a while.
const DECAY: f64 = 0.8;

/// After this time without a reading, activities are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// The recent activity of each operation, by a hash of its names.
#[derive(Debug, Default)]
pub(super) struct Busiest {
    read: Option<Instant>,
    activities: BTreeMap<u64, Activity>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    /// The counts at the last reading.
    total_ms: f64,
    errors: u64,
    /// What has been added of late.
    recent_ms: f64,
    recent_errors: f64,
}

impl Activity {
    /// The activity at the next reading.
    fn next(self, row: &OperationRow) -> Self {
        let (total_ms, errors) = (row.times.total_ms, row.errors);
        let more_ms = (total_ms - self.total_ms).max(0.0);
        let more_errors = errors.saturating_sub(self.errors) as f64;
        Self {
            total_ms,
            errors,
            recent_ms: self.recent_ms * DECAY + more_ms,
            recent_errors: self.recent_errors * DECAY + more_errors,
        }
    }
}

impl Busiest {
    /// The operations that are busiest at `now`, in the order in which they came. At the first reading,
    /// everything since the start is recent.
    pub(super) fn choose(&mut self, rows: Vec<OperationRow>, now: Instant) -> Vec<OperationRow> {
        if self.read.replace(now).is_none_or(|read| now.saturating_duration_since(read) > FORGET) {
            self.activities.clear();
        }
        let before = std::mem::take(&mut self.activities);
        let activity = |row: &OperationRow| {
            let id = id(row);
            (id, before.get(&id).copied().unwrap_or_default().next(row))
        };
        self.activities = rows.iter().map(activity).collect();
        if rows.len() <= BY_TIME + BY_ERRORS {
            return rows;
        }
        let mut order: Vec<(u64, Activity)> = self.activities.clone().into_iter().collect();
        order.sort_by(|(_, a), (_, b)| b.recent_ms.total_cmp(&a.recent_ms));
        order[BY_TIME..].sort_by(|(_, a), (_, b)| b.recent_errors.total_cmp(&a.recent_errors));
        let chosen: BTreeSet<u64> =
            order.iter().take(BY_TIME + BY_ERRORS).map(|(id, _)| *id).collect();
        rows.into_iter().filter(|row| chosen.contains(&id(row))).collect()
    }
}

fn id(row: &OperationRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&row.listener, &row.protocol, &row.operation, &row.resource).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_metrics::Times;

    fn row(number: usize, total_ms: f64, errors: u64) -> OperationRow {
        let times = Times { total_ms, ..Times::default() };
        OperationRow { operation: format!("op{number}"), times, errors, ..OperationRow::default() }
    }

    fn has(rows: &[OperationRow], number: usize) -> bool {
        rows.iter().any(|row| row.operation == format!("op{number}"))
    }

    #[test]
    fn what_is_busy_now_replaces_what_was_busy_long_ago() {
        let (mut busiest, now) = (Busiest::default(), Instant::now());
        let rows = |late_ms, late_errors| -> Vec<OperationRow> {
            let old = (0..150).map(|i| row(i, 1000.0 + i as f64, 0));
            old.chain([row(900, late_ms, 0), row(901, 0.0, late_errors)]).collect()
        };
        let first = busiest.choose(rows(1.0, 0), now);
        assert_eq!(first.len(), BY_TIME + BY_ERRORS);
        assert!(has(&first, 149) && !has(&first, 900) && !has(&first, 901));
        let second = busiest.choose(rows(90_000.0, 7), now + Duration::from_secs(1));
        assert_eq!(second.len(), BY_TIME + BY_ERRORS);
        assert!(has(&second, 900), "an operation that takes much time now");
        assert!(has(&second, 901), "an operation that fails now");
    }

    #[test]
    fn few_operations_are_all_chosen() {
        let rows: Vec<_> = (0..BY_TIME + BY_ERRORS).map(|i| row(i, 0.0, 0)).collect();
        assert_eq!(Busiest::default().choose(rows.clone(), Instant::now()), rows);
    }
}
