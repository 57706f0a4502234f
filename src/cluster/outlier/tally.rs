//! What one endpoint's operations came to: runs of failures, and an interval's counts and times.

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

/// Atomics that every worker writes, for each operation: no lock, no allocation.
#[derive(Debug)]
pub(in crate::cluster) struct Tally {
    /// Operations in a row that the service failed.
    failed_run: AtomicU32,
    /// Operations in a row that were lost on the way…
    lost_run: AtomicU32,
    /// …and connections in a row that did not come about. The two make one run, but a connection
    /// that comes about ends its own part only: what is reset again and again has to be connected
    /// each time.
    unconnected_run: AtomicU32,
    /// This interval's.
    good: AtomicU64,
    bad: AtomicU64,
    times: [AtomicU64; BUCKETS],
    /// The last interval's.
    last: ArcSwap<Window>,
    /// How many ejections it has behind it, less the intervals in which it did well.
    pub(super) multiplier: AtomicU32,
    /// It has returned from an ejection, and has done nothing well since.
    pub(super) on_probation: AtomicBool,
    /// Ejected within this interval.
    pub(super) ejected_lately: AtomicBool,
    /// Told within this interval that an ejection was not carried out: once is enough.
    pub(super) told_lately: AtomicBool,
}

/// What operations came to in one interval.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct Window {
    /// How many the service answered as it should.
    pub(in crate::cluster) good: u64,
    /// How many failed or were lost, connections that did not come about among them.
    pub(in crate::cluster) bad: u64,
    /// How long they took.
    pub(in crate::cluster) times: Distribution,
}

impl Window {
    /// How many there were.
    pub(in crate::cluster) fn volume(&self) -> u64 {
        self.good + self.bad
    }

    /// How many of a hundred were good; `None` if there were none.
    pub(in crate::cluster) fn success_rate(&self) -> Option<f64> {
        (self.volume() > 0).then(|| 100.0 * self.good as f64 / self.volume() as f64)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            failed_run: AtomicU32::default(),
            lost_run: AtomicU32::default(),
            unconnected_run: AtomicU32::default(),
            good: AtomicU64::default(),
            bad: AtomicU64::default(),
            times: array::from_fn(|_| AtomicU64::default()),
            last: ArcSwap::default(),
            multiplier: AtomicU32::default(),
            on_probation: AtomicBool::default(),
            ejected_lately: AtomicBool::default(),
            told_lately: AtomicBool::default(),
        }
    }
}

impl Tally {
    /// An operation that the service answered as it should.
    pub(super) fn good(&self, took: Duration) {
        // Reading is cheaper than writing what others read.
        for run in [&self.failed_run, &self.lost_run, &self.unconnected_run] {
            if run.load(Relaxed) != 0 {
                run.store(0, Relaxed);
            }
        }
        if self.on_probation.load(Relaxed) {
            self.on_probation.store(false, Relaxed);
        }
        self.good.fetch_add(1, Relaxed);
        self.took(took);
    }

    /// An operation that the service failed; how many in a row that makes.
    pub(super) fn failed(&self, took: Duration) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        self.took(took);
        self.failed_run.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// An operation that was lost on the way; how many failures of the way in a row that makes.
    pub(super) fn lost(&self, took: Duration) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        self.took(took);
        let lost = self.lost_run.fetch_add(1, Relaxed).saturating_add(1);
        lost.saturating_add(self.unconnected_run.load(Relaxed))
    }

    /// A connection that did not come about; how many failures of the way in a row that makes.
    pub(super) fn unconnected(&self) -> u32 {
        self.bad.fetch_add(1, Relaxed);
        let unconnected = self.unconnected_run.fetch_add(1, Relaxed).saturating_add(1);
        unconnected.saturating_add(self.lost_run.load(Relaxed))
    }

    /// A connection that came about.
    pub(super) fn connected(&self) {
        if self.unconnected_run.load(Relaxed) != 0 {
            self.unconnected_run.store(0, Relaxed);
        }
    }

    fn took(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times[bucket(nanos)].fetch_add(1, Relaxed);
    }

    /// Ends the interval: takes its counts, and begins with none.
    pub(in crate::cluster) fn end_interval(&self) -> Arc<Window> {
        let mut window = Window {
            good: self.good.swap(0, Relaxed),
            bad: self.bad.swap(0, Relaxed),
            times: Distribution::default(),
        };
        for (taken, held) in window.times.buckets.iter_mut().zip(&self.times) {
            *taken = held.swap(0, Relaxed);
        }
        let window = Arc::new(window);
        self.last.store(Arc::clone(&window));
        self.told_lately.store(false, Relaxed);
        window
    }

    /// The last interval that ended.
    pub(in crate::cluster) fn last(&self) -> Arc<Window> {
        self.last.load_full()
    }

    /// Forgets failures, so that who returns is judged by what comes.
    pub(super) fn clear(&self) {
        for run in [&self.failed_run, &self.lost_run, &self.unconnected_run] {
            run.store(0, Relaxed);
        }
        self.on_probation.store(false, Relaxed);
        self.good.store(0, Relaxed);
        self.bad.store(0, Relaxed);
    }
}
