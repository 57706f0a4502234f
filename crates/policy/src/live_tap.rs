//! The last operations, for people who look at them: recorded only while there is a watcher.
//!
//! Without one an operation costs one relaxed load. A watcher's filter is applied where
//! operations settle, so it can be about outcomes and durations, and rare operations are not lost among many.

mod filter;
mod record;

use crate::{PolicyEnv, SeriesPolicy, Settled, WorkerPolicy, series_key::SeriesKey};
use arc_swap::ArcSwap;
pub use filter::{TapFilter, TapOutcome};
use operation::{Decision, Operation, Outcome};
pub use record::TappedOperation;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How many operations are kept.
const KEPT: usize = 200;

/// For how long after a look operations are recorded.
pub const WATCHED_FOR: Duration = Duration::from_secs(5);

/// The interval in which at most `PER_WINDOW` operations are recorded: 100 a second, spread over it.
const WINDOW_MS: u64 = 100;
const PER_WINDOW: u64 = 10;

/// How many of these are left to operations that did not succeed.
const FOR_FAILURES: u64 = 2;

/// How many filters are watched at once; the one that was used longest ago gives way.
const MAX_WATCHES: usize = 8;

/// The last operations of all workers, while there is a watcher.
#[derive(Debug)]
pub struct LiveTap {
    /// The zero of the times below.
    epoch: Instant,
    /// Until when operations are recorded, in milliseconds; 0 without a watcher.
    watched_until: AtomicU64,
    /// A window, and how many operations were recorded in it.
    window: AtomicU64,
    watches: ArcSwap<Vec<Watch>>,
    ring: Mutex<Ring>,
}

#[derive(Clone, Debug)]
struct Watch {
    filter: TapFilter,
    until: u64,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the last operation; numbers are never used again.
    last: u64,
    operations: VecDeque<Arc<TappedOperation>>,
}

/// What a watcher gets.
#[derive(Clone, Debug, Default)]
pub struct TapReport {
    /// Pass this number next time, to get what comes later.
    pub next: u64,
    /// The operations, the oldest first.
    pub operations: Vec<Arc<TappedOperation>>,
}

impl Default for LiveTap {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            watched_until: AtomicU64::new(0),
            window: AtomicU64::new(0),
            watches: ArcSwap::default(),
            ring: Mutex::default(),
        }
    }
}

impl LiveTap {
    /// The recorded operations after this number that the filter selects. Operations that it selects are
    /// recorded for [`WATCHED_FOR`] from now on.
    pub fn watch(&self, filter: &TapFilter, after: u64, now: Instant) -> TapReport {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.millis(now);
        if self.watched_until.load(Relaxed) < now {
            // What was recorded for an earlier watcher is old.
            ring.operations.clear();
        }
        let until = now + WATCHED_FOR.as_millis() as u64;
        self.keep_watching(filter, now, until);
        self.watched_until.store(until, Relaxed);
        let wanted = |it: &&Arc<TappedOperation>| it.id > after && filter.selects_recorded(it);
        let operations = ring.operations.iter().filter(wanted).cloned().collect();
        TapReport { next: ring.last, operations }
    }

    /// Adds a filter or prolongs it. The caller holds the ring's lock.
    fn keep_watching(&self, filter: &TapFilter, now: u64, until: u64) {
        let watches = self.watches.load();
        let others = watches.iter().filter(|it| it.until > now && it.filter != *filter);
        let mut watches: Vec<Watch> = others.cloned().collect();
        // Those used last come last.
        watches.push(Watch { filter: filter.clone(), until });
        let too_many = watches.len().saturating_sub(MAX_WATCHES);
        watches.drain(..too_many);
        self.watches.store(Arc::new(watches));
    }

    /// Records an operation if a filter selects it and there is room.
    fn record(&self, listener: &Arc<str>, done: &Settled<'_>, housekeeping: bool, until: u64) {
        let now = self.millis(done.how.now);
        if now > until {
            // A watcher may have come back meanwhile.
            let _ = self.watched_until.compare_exchange(until, 0, Relaxed, Relaxed);
            return;
        }
        let selects = |watch: &Watch| watch.filter.selects(listener, done, housekeeping);
        if !self.watches.load().iter().any(selects) || !self.takes_room(now, done.how.outcome) {
            return;
        }
        let mut recorded = TappedOperation::new(listener, done, housekeeping);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        recorded.id = ring.last;
        if ring.operations.len() >= KEPT {
            ring.operations.pop_front();
        }
        ring.operations.push_back(Arc::new(recorded));
    }

    /// Takes a place in the current window. When it is full, workers only read it.
    fn takes_room(&self, now: u64, outcome: Outcome) -> bool {
        let most = if outcome == Outcome::Ok { PER_WINDOW - FOR_FAILURES } else { PER_WINDOW };
        let mut seen = self.window.load(Relaxed);
        loop {
            // Another worker may have begun the next window already.
            let window = (now / WINDOW_MS).max(seen >> 8);
            let taken = if seen >> 8 == window { seen & 0xff } else { 0 };
            if taken >= most {
                return false;
            }
            let next = (window << 8) | (taken + 1);
            match self.window.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Milliseconds since the epoch, at least 1.
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64 + 1
    }
}

/// The tap of one listener on one worker.
pub(crate) struct ListenerTap {
    tap: Arc<LiveTap>,
    listener: Arc<str>,
}

impl ListenerTap {
    pub(crate) fn new(env: &PolicyEnv) -> Self {
        Self { tap: Arc::clone(&env.tap), listener: Arc::clone(&env.listener) }
    }
}

impl WorkerPolicy for ListenerTap {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        let (tap, listener) = (Arc::clone(&self.tap), Arc::clone(&self.listener));
        Some(Box::new(SeriesTap(Self { tap, listener })))
    }
}

/// The same for the operations of a series.
struct SeriesTap(ListenerTap);

impl SeriesPolicy for SeriesTap {
    fn admit(&self, operation: &Operation<'_>, _: Instant, state: &mut u64) -> Decision {
        *state = operation.limit_exempt.into();
        Decision::Admit
    }

    fn settle(&self, done: &Settled<'_>, state: u64) {
        let ListenerTap { tap, listener } = &self.0;
        let until = tap.watched_until.load(Relaxed);
        if until != 0 {
            tap.record(listener, done, state != 0, until);
        }
    }
}

#[cfg(test)]
mod tests;
