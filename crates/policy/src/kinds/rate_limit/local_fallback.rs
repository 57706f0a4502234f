//! What decides while the store of a shared limit is away: the buckets of this process.

use super::{limiter::Buckets, shared};
use crate::{PolicyEnv, Rule};
use governor::nanos::Nanos;
use metrics::Counter;
use shared::LimitDecision;
use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::table as names;

/// This process's buckets, for all workers and the thread that sends requests to the store.
pub(super) struct LocalFallback {
    buckets: Arc<Buckets>,
    overflow: Counter,
}

impl LocalFallback {
    pub(super) fn new(buckets: &Arc<Buckets>, rule: &Rule, from: &PolicyEnv) -> Self {
        let labels = [("policy", &*rule.name)];
        let overflow = from.metrics.counter(names::RATE_LIMIT_OVERFLOW_TOTAL, &labels);
        Self { buckets: Arc::clone(buckets), overflow }
    }

    /// Changes the time at which a key's bucket is full again, given that and the time now.
    fn update<T, E>(
        &self,
        key: u64,
        now: Instant,
        change: impl Fn(u64, u64) -> Result<(T, u64), E>,
    ) -> Result<T, E> {
        let now = self.buckets.time(now);
        let updated = self.buckets.table.update(key, now, |time| {
            change(time.max(now), now).map(|(value, full)| (value, Nanos::new(full)))
        });
        if updated.overflow {
            self.overflow.increment(1);
        }
        updated.result
    }
}

impl shared::FallbackLimiter for LocalFallback {
    fn take(&self, key: u64, n: u64, now: Instant) -> LimitDecision {
        let allowance = self.buckets.allowance;
        let cost = allowance.nanos(n).max(1);
        // More than the burst is there when nothing else was for a while.
        let room = allowance.nanos(allowance.burst).max(cost);
        let taken = self.update(key, now, |full, now| {
            let full = full.saturating_add(cost);
            match full.saturating_sub(now).saturating_sub(room) {
                0 => Ok(((), full)),
                wait => Err(Duration::from_nanos(wait)),
            }
        });
        taken.map_or_else(|wait| LimitDecision::Limited(Some(wait)), |()| LimitDecision::Allowed)
    }

    fn spend(&self, key: u64, n: u64, now: Instant) {
        let cost = self.buckets.allowance.nanos(n);
        let spent: Result<(), Infallible> =
            self.update(key, now, |full, _| Ok(((), full.saturating_add(cost))));
        let Ok(()) = spent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds::rate_limit::Allowance,
        testing::{policy_env, rule},
    };
    use shared::FallbackLimiter as _;

    const MS: Duration = Duration::from_millis(1);

    /// Ten a second and five at once, and a moment after it came to be.
    fn local() -> (LocalFallback, Instant) {
        let (rule, from, now) = (rule("deny: {}"), policy_env(), Instant::now());
        let rate = values::Rate { amount: 10, per: Duration::from_secs(1) };
        let buckets = Buckets::new(Allowance { rate, burst: 5 }, 100, now);
        (LocalFallback::new(&Arc::new(buckets), &rule, &from), now)
    }

    #[test]
    fn it_holds_this_process_to_the_rate_and_the_burst() {
        let (local, now) = local();
        let got = |now| (0..10).filter(|_| local.take(1, 1, now) == LimitDecision::Allowed).count();
        assert_eq!((got(now), got(now + 99 * MS), got(now + 300 * MS)), (5, 0, 3));
        assert_eq!(local.take(1, 1, now + 350 * MS), LimitDecision::Limited(Some(50 * MS)));
        assert_eq!(local.take(2, 1, now), LimitDecision::Allowed, "another key");
    }

    #[test]
    fn more_than_the_burst_is_taken_from_a_full_bucket_only() {
        let (local, now) = local();
        assert_eq!(local.take(1, 20, now), LimitDecision::Allowed);
        assert_eq!(local.take(1, 1, now), LimitDecision::Limited(Some(1600 * MS)));
        assert_eq!(local.take(1, 20, now + 1999 * MS), LimitDecision::Limited(Some(MS)));
        assert_eq!(local.take(1, 20, now + 2000 * MS), LimitDecision::Allowed);
    }

    #[test]
    fn what_was_spent_has_to_be_earned_again() {
        let (local, now) = local();
        local.spend(1, 24, now);
        assert_eq!(local.take(1, 1, now), LimitDecision::Limited(Some(2000 * MS)));
        assert_eq!(local.take(1, 1, now + 2000 * MS), LimitDecision::Allowed);
    }
}
