//! A rate limit on one worker, for one listener: admits, delays or rejects.

use super::{
    Plan,
    limiter::{Buckets, Limiter},
};
use crate::{
    ConnectDecision, Decision, PolicyEnv, Rule, SeriesPolicy, Settled, WorkerPolicy,
    key::KeyHasher, series::SeriesKey,
};
use operation::{Attributes, Operation, Rejection};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::table as names;

/// A rate limit on one worker, for one listener.
pub(super) struct LocalLimit {
    listener: Arc<str>,
    protocol: &'static str,
    own: Rc<LocalLimitState>,
}

/// What all series have in common.
struct LocalLimitState {
    plan: Arc<Plan>,
    limiter: Limiter,
    rejection: Rejection,
}

impl LocalLimit {
    pub(super) fn new(
        plan: &Arc<Plan>,
        buckets: &Arc<Buckets>,
        rule: &Rule,
        from: &PolicyEnv,
    ) -> Self {
        let labels = [("policy", &*rule.name)];
        let overflow = from.metrics.counter(names::RATE_LIMIT_OVERFLOW_TOTAL, &labels);
        let limiter = Limiter::new(Arc::clone(buckets), overflow);
        let own = LocalLimitState {
            plan: Arc::clone(plan),
            limiter,
            rejection: plan.rejection(&rule.name),
        };
        Self {
            listener: Arc::clone(&from.listener),
            protocol: from.protocol.name,
            own: Rc::new(own),
        }
    }
}

impl WorkerPolicy for LocalLimit {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        let key_hasher = self.own.plan.key_spec.hasher(&self.listener, key);
        Some(Box::new(RateLimitSeries { key_hasher, own: Rc::clone(&self.own) }))
    }

    fn connect(&self, connection: &dyn Attributes, now: Instant) -> ConnectDecision {
        let LocalLimitState { plan, limiter, rejection } = &*self.own;
        let key = plan.key_spec.connection_key(&self.listener, self.protocol, connection);
        if limiter.take(key, now) {
            return ConnectDecision::Accept;
        }
        let wait = plan.over.delays().then(|| limiter.reserve(key, now, plan.max_delay));
        wait.flatten()
            .map_or_else(|| ConnectDecision::Reject(rejection.clone()), ConnectDecision::Delay)
    }
}

/// A rate limit as it applies to one series.
struct RateLimitSeries {
    key_hasher: KeyHasher,
    own: Rc<LocalLimitState>,
}

impl SeriesPolicy for RateLimitSeries {
    fn admit(&self, operation: &Operation<'_>, now: Instant, state: &mut u64) -> Decision {
        // What waits by design is no load, and drivers that lose it take the service for lost.
        if operation.long_poll {
            return Decision::Admit;
        }
        let LocalLimitState { plan, limiter, rejection } = &*self.own;
        let key = self.key_hasher.key(operation);
        *state = key;
        if plan.unit.is_paid_before() {
            if limiter.take(key, now) {
                return Decision::Admit;
            }
        } else if limiter.debt(key, now).is_zero() {
            return Decision::Admit;
        }
        match plan.over.delays_operation(operation).then(|| self.own.wait(key, now)).flatten() {
            Some(wait) => Decision::delay(wait),
            None => Decision::Reject(rejection.clone()),
        }
    }

    fn settle(&self, done: &Settled<'_>, state: u64) {
        let amount = self.own.plan.unit.paid_after(done.how);
        if amount > 0 && !done.long_poll {
            self.own.limiter.charge(state, amount, done.how.now);
        }
    }
}

impl LocalLimitState {
    /// How long an operation that found nothing left has to wait; `None` if for too long.
    fn wait(&self, key: u64, now: Instant) -> Option<Duration> {
        let LocalLimitState { plan, limiter, .. } = self;
        if plan.unit.is_paid_before() {
            return limiter.reserve(key, now, plan.max_delay);
        }
        let wait = limiter.debt(key, now);
        (wait <= plan.max_delay).then_some(wait)
    }
}
