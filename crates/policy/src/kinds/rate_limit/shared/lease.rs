//! A lease: how much of one key this process may admit without another request.

use std::{
    sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::Duration,
};

/// What a retired lease has left; what comes and goes meanwhile makes no difference.
const RETIRED: i64 = i64::MIN / 2;

/// A lease takes as much from the store as is used in this time...
const AHEAD: Duration = Duration::from_millis(20);

/// A refusal of the store is believed for so long at most.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What this process holds of one key.
pub(super) struct QuotaLease {
    /// What the store calls the key.
    pub(super) name: Box<str>,
    /// Whether it may take more than it needs at once. A lease that is in no table may not: its
    /// rest would be lost.
    pub(super) listed: bool,
    /// What is left of it; less than 0 is owed to the store.
    left: AtomicI64,
    /// With less than this left, more is requested. 0: nothing is requested in advance.
    low: AtomicI64,
    /// When the store has more again, in nanoseconds since the table's start.
    refused_until: AtomicU64,
    /// When the next request is made although the store had nothing left: the key may be free again.
    asks_again: AtomicU64,
    /// Whether a refill is under way.
    refilling: AtomicBool,
    /// It was of use since the last sweep.
    used: AtomicBool,
    /// What was left after the last request, and when that was.
    held: AtomicI64,
    held_at: AtomicU64,
    /// How much is requested in advance.
    ahead: AtomicU64,
}

/// The result of taking from a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakeResult {
    /// It is taken.
    Taken,
    /// It is taken, and the caller should have the lease refilled.
    Last,
    /// There is not enough left.
    Out,
    /// The lease is not in use any more.
    Retired,
}

impl QuotaLease {
    pub(super) fn new(name: Box<str>, listed: bool, now: u64) -> Self {
        Self {
            name,
            listed,
            left: AtomicI64::new(0),
            low: AtomicI64::new(0),
            refused_until: AtomicU64::new(0),
            asks_again: AtomicU64::new(0),
            refilling: AtomicBool::new(false),
            used: AtomicBool::new(true),
            held: AtomicI64::new(0),
            held_at: AtomicU64::new(now),
            ahead: AtomicU64::new(1),
        }
    }

    /// Takes `n` if that much is left.
    pub(super) fn take(&self, n: i64) -> TakeResult {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        let taken = self.left.fetch_update(AcqRel, Acquire, |left| (left >= n).then(|| left - n));
        match taken {
            Ok(before) if before - n < self.low.load(Relaxed) && self.begins_refill() => {
                TakeResult::Last
            }
            Ok(_) => TakeResult::Taken,
            Err(left) if left < RETIRED / 2 => TakeResult::Retired,
            Err(_) => TakeResult::Out,
        }
    }

    /// Takes `n` in any case.
    pub(super) fn spend(&self, n: i64) -> TakeResult {
        self.used.store(true, Relaxed);
        let left = self.left.fetch_sub(n, AcqRel) - n;
        match left {
            left if left < RETIRED / 2 => TakeResult::Retired,
            left if left < self.low.load(Relaxed) && self.begins_refill() => TakeResult::Last,
            _ => TakeResult::Taken,
        }
    }

    /// Starts a refill. Returns `true` if none was under way: the caller must then ask the store.
    fn begins_refill(&self) -> bool {
        !self.refilling.load(Relaxed) && !self.refilling.swap(true, AcqRel)
    }

    /// Ends the refill that is under way.
    pub(super) fn ends_refill(&self) {
        self.refilling.store(false, Release);
    }

    /// For how long the store has nothing left, if that is known and it need not be asked again.
    pub(super) fn refused_for(&self, now: u64) -> Option<Duration> {
        let until = self.refused_until.load(Relaxed);
        let holds = until > now && self.asks_again.load(Relaxed) > now;
        holds.then(|| Duration::from_nanos(until - now))
    }

    /// Records that the store has nothing left for `wait` from `now` on.
    pub(super) fn refuse_for(&self, wait: Duration, now: u64) {
        let after =
            |wait: Duration| now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.refused_until.store(after(wait), Relaxed);
        self.asks_again.store(after(wait.min(ASK_AGAIN)), Relaxed);
    }

    /// Takes what is left, or owed (below 0), for a request to the store: on behalf of operations
    /// that wait for more than is left, or to pay what is owed.
    pub(super) fn empty(&self, all: bool) -> i64 {
        let taken = self.left.fetch_update(AcqRel, Acquire, |left| {
            (left > RETIRED / 2 && (all || left < 0)).then_some(0)
        });
        taken.unwrap_or(0)
    }

    /// Puts back, or in.
    pub(super) fn add(&self, n: i64) {
        self.left.fetch_add(n, AcqRel);
    }

    /// How much to ask for ahead, now that `more` are wanted at once: as much as is used in a
    /// short while, and at most `most`. `now` is in nanoseconds since the table's start.
    pub(super) fn wants_ahead(&self, more: u64, most: u64, now: u64) -> u64 {
        if !self.listed {
            return 0;
        }
        let left = self.left.load(Relaxed).max(0);
        let used = u64::try_from(self.held.load(Relaxed) - left).unwrap_or(0).saturating_add(more);
        let took = now.saturating_sub(self.held_at.load(Relaxed)).max(1);
        let use_ahead = used as f64 * AHEAD.as_nanos() as f64 / took as f64;
        // Quick to grow and slow to shrink: a pause of some milliseconds says little.
        let ahead = (use_ahead as u64).max(self.ahead.load(Relaxed) / 2).min(most);
        self.ahead.store(ahead, Relaxed);
        self.low.store(i64::try_from(ahead / 2).unwrap_or(0), Relaxed);
        match ahead {
            0 | 1 => 0,
            ahead => ahead,
        }
    }

    /// Notes what is left, to know what is used until the next time.
    pub(super) fn note(&self, now: u64) {
        self.held.store(self.left.load(Relaxed).max(0), Relaxed);
        self.held_at.store(now, Relaxed);
    }

    /// Takes it out of use if it was of none since the last time, and owes nothing.
    pub(super) fn retire(&self) -> bool {
        if self.used.swap(false, Relaxed) || self.refilling.load(Acquire) {
            return false;
        }
        let retired =
            self.left.fetch_update(AcqRel, Acquire, |left| (left >= 0).then_some(RETIRED));
        retired.is_ok()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.left.load(Relaxed) < RETIRED / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn lease() -> QuotaLease {
        QuotaLease::new("x".into(), true, 0)
    }

    #[test]
    fn a_long_refusal_is_reported_in_full_and_asked_again_soon() {
        let (lease, hour) = (lease(), Duration::from_secs(3600));
        lease.refuse_for(hour, 7 * MS);
        assert_eq!(lease.refused_for(7 * MS), Some(hour));
        let second = 1000 * MS;
        let wait = lease.refused_for(7 * MS + 4 * second);
        assert_eq!(wait, Some(hour.checked_sub(Duration::from_secs(4)).unwrap()));
        assert_eq!(lease.refused_for(7 * MS + 5 * second), None, "it is asked again");
        lease.refuse_for(Duration::from_millis(20), 0);
        assert_eq!(
            (lease.refused_for(19 * MS).is_some(), lease.refused_for(20 * MS)),
            (true, None)
        );
    }

    #[test]
    fn a_lease_never_gives_more_than_it_has() {
        let lease = lease();
        assert_eq!(lease.take(1), TakeResult::Out);
        lease.add(3);
        assert_eq!(
            [lease.take(2), lease.take(2), lease.take(1)],
            [TakeResult::Taken, TakeResult::Out, TakeResult::Taken]
        );
        assert_eq!(lease.take(1), TakeResult::Out);
    }

    #[test]
    fn a_low_lease_is_refilled_once() {
        let lease = lease();
        assert_eq!(lease.wants_ahead(10, 100, 20 * MS), 10);
        lease.add(10);
        let grips: Vec<TakeResult> = (0..10).map(|_| lease.take(1)).collect();
        assert_eq!(grips.iter().filter(|grip| **grip == TakeResult::Last).count(), 1);
        assert_eq!(grips[5], TakeResult::Last);
        lease.ends_refill();
        lease.add(1);
        assert_eq!(lease.take(1), TakeResult::Last);
    }

    #[test]
    fn what_is_asked_for_ahead_follows_what_is_used() {
        let lease = lease();
        assert_eq!(lease.wants_ahead(1, 1000, 1000 * MS), 0, "one a second needs no lease");
        lease.note(1000 * MS);
        assert_eq!(lease.wants_ahead(10, 1000, 1001 * MS), 200);
        lease.add(200);
        lease.note(1001 * MS);
        assert_eq!(lease.take(100), TakeResult::Taken);
        assert_eq!(lease.wants_ahead(0, 1000, 1011 * MS), 200, "a hundred in 10 ms");
        assert_eq!(lease.wants_ahead(0, 50, 1011 * MS), 50, "never more than a bound");
        lease.note(1011 * MS);
        assert_eq!(lease.wants_ahead(0, 1000, 9000 * MS), 25, "and less after a pause");
    }

    #[test]
    fn an_unused_lease_is_retired_and_gives_nothing() {
        let lease = lease();
        lease.add(5);
        assert!(!lease.retire(), "it was made since the last sweep");
        assert!(lease.retire());
        lease.add(5);
        assert_eq!((lease.take(1), lease.is_retired()), (TakeResult::Retired, true));
        assert_eq!(lease.empty(true), 0);
    }

    #[test]
    fn a_debt_is_paid_before_the_lease_is_dropped() {
        let lease = lease();
        lease.add(2);
        assert_eq!(lease.spend(5), TakeResult::Last);
        lease.ends_refill();
        assert!(!lease.retire());
        assert!(!lease.retire(), "it owes 3");
        assert_eq!(lease.empty(false), -3);
        assert!(lease.retire());
    }
}
