//! Statistics of one endpoint's operations: runs of failures, and counts and durations per
//! interval.

use arc_swap::ArcSwap;
use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tollgate_metrics::{BUCKETS, Distribution, bucket};

/// Atomics that every worker writes for each operation: no lock, no allocation.
#[derive(Debug)]
pub(crate) struct OutlierStats {
    /// Consecutive operations that the service failed.
    consecutive_failed: AtomicU32,
    /// Consecutive operations that were lost on the way…
    consecutive_lost: AtomicU32,
    /// …and consecutive failed connects. Both count as one run, but an established connection ends
    /// only its own part: an endpoint that resets each operation has to be connected each time.
    consecutive_connect_failures: AtomicU32,
    /// This interval's.
    good: AtomicU64,
    bad: AtomicU64,
    durations: [AtomicU64; BUCKETS],
    /// The last interval's.
    last: ArcSwap<IntervalStats>,
    /// The number of its ejections, minus the intervals in which it did well.
    pub(super) ejection_count: AtomicU32,
    /// It has returned from an ejection and had no success since.
    pub(super) on_probation: AtomicBool,
    /// It was ejected within this interval.
    pub(super) ejected_this_interval: AtomicBool,
    /// A suppressed ejection was reported within this interval: once is enough.
    pub(super) reported_this_interval: AtomicBool,
}

/// Statistics of one interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntervalStats {
    /// Operations that the service answered properly.
    pub(crate) good: u64,
    /// Operations that failed or were lost, including failed connects.
    pub(crate) bad: u64,
    /// Their durations.
    pub(crate) durations: Distribution,
}

impl IntervalStats {
    /// The number of operations.
    pub(crate) fn volume(&self) -> u64 {
        self.good + self.bad
    }

    /// The percentage of successes; `None` without operations.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        (self.volume() > 0).then(|| 100.0 * self.good as f64 / self.volume() as f64)
    }
}

impl Default for OutlierStats {
    fn default() -> Self {
        Self {
            consecutive_failed: AtomicU32::default(),
            consecutive_lost: AtomicU32::default(),
            consecutive_connect_failures: AtomicU32::default(),
            good: AtomicU64::default(),
            bad: AtomicU64::default(),
            durations: array::from_fn(|_| AtomicU64::default()),
            last: ArcSwap::default(),
            ejection_count: AtomicU32::default(),
            on_probation: AtomicBool::default(),
            ejected_this_interval: AtomicBool::default(),
            reported_this_interval: AtomicBool::default(),
        }
    }
}

impl OutlierStats {
    /// Records a success.
    pub(super) fn record_success(&self, took: Duration) {
        // Reading is cheaper than writing what other threads read.
        for run in
            [&self.consecutive_failed, &self.consecutive_lost, &self.consecutive_connect_failures]
        {
            if run.load(Relaxed) != 0 {
                run.store(0, Relaxed);
            }
        }
        if self.on_probation.load(Relaxed) {
            self.on_probation.store(false, Relaxed);
        }
        self.good.fetch_add(1, Relaxed);
        self.record_duration(took);
    }

    /// Records a failed operation. Returns the length of the run.
    pub(super) fn record_failure(&self, took: Duration) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        self.record_duration(took);
        self.consecutive_failed.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Records a lost operation. Returns the length of the run of lost operations and failed
    /// connects.
    pub(super) fn record_lost(&self, took: Duration) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        self.record_duration(took);
        let lost = self.consecutive_lost.fetch_add(1, Relaxed).saturating_add(1);
        lost.saturating_add(self.consecutive_connect_failures.load(Relaxed))
    }

    /// Records a failed connect. Returns the length of the run of lost operations and failed
    /// connects.
    pub(super) fn record_connect_failure(&self) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        let unconnected = self.consecutive_connect_failures.fetch_add(1, Relaxed).saturating_add(1);
        unconnected.saturating_add(self.consecutive_lost.load(Relaxed))
    }

    /// Records an established connection.
    pub(super) fn record_connected(&self) {
        if self.consecutive_connect_failures.load(Relaxed) != 0 {
            self.consecutive_connect_failures.store(0, Relaxed);
        }
    }

    fn record_duration(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.durations[bucket(nanos)].fetch_add(1, Relaxed);
    }

    /// Ends the interval: takes its counts, and resets them.
    pub(crate) fn end_interval(&self) -> Arc<IntervalStats> {
        let mut window = IntervalStats {
            good: self.good.swap(0, Relaxed),
            bad: self.bad.swap(0, Relaxed),
            durations: Distribution::default(),
        };
        for (taken, held) in window.durations.buckets.iter_mut().zip(&self.durations) {
            *taken = held.swap(0, Relaxed);
        }
        let window = Arc::new(window);
        self.last.store(Arc::clone(&window));
        self.reported_this_interval.store(false, Relaxed);
        window
    }

    /// The last interval that ended.
    pub(crate) fn last(&self) -> Arc<IntervalStats> {
        self.last.load_full()
    }

    /// Resets the runs, so that a returning endpoint is judged by new operations only.
    pub(super) fn clear(&self) {
        for run in
            [&self.consecutive_failed, &self.consecutive_lost, &self.consecutive_connect_failures]
        {
            run.store(0, Relaxed);
        }
        self.on_probation.store(false, Relaxed);
        self.good.store(0, Relaxed);
        self.bad.store(0, Relaxed);
    }
}
