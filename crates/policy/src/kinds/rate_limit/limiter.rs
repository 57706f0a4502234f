//! One worker's access to the buckets of a rate limit.
//!
//! Governor decides whether single things may pass. What it does not do is reckoned here, on the
//! same buckets: a place in the queue, and what is paid for afterwards.

use super::{allowance::Allowance, table::ArrivalTable};
use governor::{
    RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use metrics::Counter;
use std::{
    cell::Cell,
    convert::Infallible,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// The buckets of a rate limit, as all workers share them.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) allowance: Allowance,
    pub(super) table: ArrivalTable,
    /// From when on all workers count nanoseconds.
    epoch: Instant,
}

impl Buckets {
    /// Full ones, for up to `most` keys.
    pub(super) fn new(allowance: Allowance, most: usize, epoch: Instant) -> Self {
        Self { allowance, table: ArrivalTable::new(most), epoch }
    }

    /// From 1 on, so that 0 is always past.
    pub(super) fn time(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()) + 1
    }
}

/// A worker's way to the buckets.
pub(super) struct Limiter {
    store: BucketStore,
    governor: RateLimiter<u64, BucketStore, SetClock, NoOpMiddleware<Nanos>>,
}

impl Limiter {
    /// A way to these. `overflow` counts what went to the bucket that many share.
    pub(super) fn new(buckets: Arc<Buckets>, overflow: Counter) -> Self {
        let quota = buckets.allowance.quota();
        let clock = SetClock::default();
        let store = BucketStore { buckets, clock: clock.clone(), overflow };
        // The clock stands at 0, so that all workers' limiters begin then.
        Self { governor: RateLimiter::new(quota, store.clone(), clock), store }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, key: u64, now: Instant) -> bool {
        self.set_clock(now);
        self.governor.check_key(&key).is_ok()
    }

    /// Takes one in advance and returns the time until it is earned; `None` if that is longer than
    /// `most`. Later callers wait longer.
    pub(super) fn reserve(&self, key: u64, now: Instant, most: Duration) -> Option<Duration> {
        let now = self.set_clock(now);
        let Allowance { burst, .. } = self.buckets().allowance;
        let each = self.buckets().allowance.nanos(1).max(1);
        let tolerance = each.saturating_mul(burst.saturating_sub(1));
        let reserved = self.store.measure_and_replace(&key, |time| {
            let time = time.map_or(now, Nanos::as_u64).max(now);
            let wait = Duration::from_nanos(time.saturating_sub(tolerance).saturating_sub(now));
            match wait <= most {
                true => Ok((wait, Nanos::new(time.saturating_add(each)))),
                false => Err(()),
            }
        });
        reserved.ok()
    }

    /// How long until a bucket is out of debt: nothing, if it has something left.
    pub(super) fn debt(&self, key: u64, now: Instant) -> Duration {
        let Buckets { allowance, table, .. } = self.buckets();
        let now = self.set_clock(now);
        // The bucket is empty.
        let full = now.saturating_add(allowance.nanos(allowance.burst).saturating_sub(1));
        Duration::from_nanos(table.time(key, now).saturating_sub(full))
    }

    /// Takes as much as was used, also where so much is not there.
    pub(super) fn charge(&self, key: u64, amount: u64, now: Instant) {
        let now = self.set_clock(now);
        let cost = self.buckets().allowance.nanos(amount);
        if cost == 0 {
            return;
        }
        let charged: Result<(), Infallible> = self.store.measure_and_replace(&key, |time| {
            let time = time.map_or(now, Nanos::as_u64).max(now);
            Ok(((), Nanos::new(time.saturating_add(cost))))
        });
        let Ok(()) = charged;
    }

    fn buckets(&self) -> &Buckets {
        &self.store.buckets
    }

    fn set_clock(&self, now: Instant) -> u64 {
        let now = self.buckets().time(now);
        self.store.clock.0.set(Nanos::new(now));
        now
    }
}

/// The buckets, as governor sees them.
#[derive(Clone)]
struct BucketStore {
    buckets: Arc<Buckets>,
    clock: SetClock,
    overflow: Counter,
}

impl StateStore for BucketStore {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, change: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let now = self.clock.now().as_u64();
        let change = |time| change(Some(Nanos::new(time)));
        let updated = self.buckets.table.update(*key, now, change);
        if updated.overflow {
            self.overflow.increment(1);
        }
        updated.result
    }
}

/// A clock that the caller sets: the time was read when the operation arrived.
#[derive(Clone, Debug, Default)]
struct SetClock(Rc<Cell<Nanos>>);

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

#[cfg(test)]
mod tests;
