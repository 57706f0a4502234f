//! Health of the store of a shared limit: what is decided, counted and logged while it fails.

use super::{FallbackLimiter, LimitDecision, OnStoreFailure, Plan};
use metrics::{Counter, Histogram};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tollgate_metrics::{Metrics, table as names};

/// A store is unavailable after this many failures in a row; at once if it can't be reached.
const MAX_FAILURES: u32 = 3;
/// The time until the next attempt, in milliseconds; it doubles up to `MAX_PAUSE`.
const MIN_PAUSE: u64 = 50;
const MAX_PAUSE: u64 = 2000;
/// How often the log says so.
const WARN: Duration = Duration::from_secs(60);

/// Why a round trip brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFailure {
    /// It took too long.
    Timeout,
    /// There is no connection.
    Unreachable,
    /// The store answered something else.
    Error,
    /// Too many wait already.
    Full,
}

impl StoreFailure {
    const ALL: [StoreFailure; 4] =
        [StoreFailure::Timeout, StoreFailure::Unreachable, StoreFailure::Error, StoreFailure::Full];

    fn as_str(self) -> &'static str {
        match self {
            StoreFailure::Timeout => "timeout",
            StoreFailure::Unreachable => "unreachable",
            StoreFailure::Error => "error",
            StoreFailure::Full => "full",
        }
    }
}

/// Why a store is unreachable, with the error's text.
pub(super) type StoreError = (StoreFailure, String);

/// The warnings that were logged.
#[derive(Default)]
struct WarningState {
    /// When it was last logged that the store is unavailable.
    at: Option<Instant>,
    /// Whether the recovery is still to be logged.
    away: bool,
}

/// Whether a store answers.
pub(super) struct StoreHealth {
    pub(super) policy: Arc<str>,
    store: &'static str,
    on_failure: OnStoreFailure,
    local: Arc<dyn FallbackLimiter>,
    /// How long an operation waits, and a round trip takes, at most.
    pub(super) timeout: Duration,
    began: Instant,
    failures: AtomicU32,
    /// The time of the next attempt, in milliseconds since `began`. 0: the store is available.
    away_until: AtomicU64,
    pause: AtomicU64,
    warned: Mutex<WarningState>,
    granted: Counter,
    refused: Counter,
    took: Histogram,
    errors: [Counter; 4],
    fallbacks: Counter,
}

impl StoreHealth {
    pub(super) fn new(
        plan: &Plan,
        store: &'static str,
        policy: &Arc<str>,
        local: Arc<dyn FallbackLimiter>,
        metrics: &Metrics,
    ) -> Self {
        let labels = [("policy", &**policy), ("store", store)];
        let requests = |result| {
            let labels = [labels[0], labels[1], ("result", result)];
            metrics.counter(names::SHARED_LIMIT_REQUESTS_TOTAL, &labels)
        };
        let errors = |failure: StoreFailure| {
            let labels = [labels[0], labels[1], ("kind", failure.as_str())];
            metrics.counter(names::SHARED_LIMIT_ERRORS_TOTAL, &labels)
        };
        Self {
            policy: Arc::clone(policy),
            store,
            on_failure: plan.on_failure,
            local,
            timeout: plan.timeout,
            began: Instant::now(),
            failures: AtomicU32::new(0),
            away_until: AtomicU64::new(0),
            pause: AtomicU64::new(MIN_PAUSE),
            warned: Mutex::default(),
            granted: requests("granted"),
            refused: requests("refused"),
            took: metrics.histogram(names::SHARED_LIMIT_DURATION_SECONDS, &labels),
            errors: StoreFailure::ALL.map(errors),
            fallbacks: metrics.counter(names::SHARED_LIMIT_FALLBACKS_TOTAL, &labels),
        }
    }

    /// Whether the store may be asked. While it is away, one operation may now and then, to find
    /// out whether it is back; the others need not wait for it.
    pub(super) fn may_ask(&self) -> bool {
        let until = self.away_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.millis();
        let pause = self.pause.load(Relaxed);
        let first = now >= until
            && self.away_until.compare_exchange(until, now + pause, Relaxed, Relaxed).is_ok();
        if first {
            self.pause.store((pause * 2).min(MAX_PAUSE), Relaxed);
        }
        first
    }

    /// Whether the store is known not to answer.
    pub(super) fn is_away(&self) -> bool {
        self.away_until.load(Relaxed) != 0
    }

    /// Decides without the store.
    pub(super) fn decide(&self, key: u64, n: u64, now: Instant) -> LimitDecision {
        self.fallbacks.increment(1);
        match self.on_failure {
            OnStoreFailure::Allow => LimitDecision::Allowed,
            OnStoreFailure::Refuse => LimitDecision::Limited(None),
            OnStoreFailure::Local => self.local.take(key, n, now),
        }
    }

    /// Records locally what was taken while the store is unreachable.
    pub(super) fn spend(&self, key: u64, n: u64, now: Instant) {
        self.fallbacks.increment(1);
        if self.on_failure == OnStoreFailure::Local {
            self.local.spend(key, n, now);
        }
    }

    /// The store answered.
    pub(super) fn answered(&self, granted: bool, took: Duration) {
        match granted {
            true => self.granted.increment(1),
            false => self.refused.increment(1),
        }
        self.took.record(took.as_secs_f64());
        self.back();
    }

    /// The store accepts connections. That is no answer yet: it may reject all requests, as a
    /// replica does. One request may try that at once.
    pub(super) fn reachable(&self) {
        let soon = |until| (until != 0).then_some(1);
        let _ = self.away_until.fetch_update(Relaxed, Relaxed, soon);
    }

    /// The store is there.
    fn back(&self) {
        self.failures.store(0, Relaxed);
        self.pause.store(MIN_PAUSE, Relaxed);
        if self.away_until.swap(0, Relaxed) == 0 {
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut warned.away) {
            tracing::info!(policy = %self.policy, store = self.store, "the store answers again");
        }
    }

    /// The store did not answer.
    pub(super) fn failed(&self, failure: StoreFailure, error: &str) {
        let place = StoreFailure::ALL.iter().position(|it| *it == failure);
        if let Some(counter) = place.and_then(|place| self.errors.get(place)) {
            counter.increment(1);
        }
        // A full queue says nothing about the store.
        if failure == StoreFailure::Full {
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failure == StoreFailure::Unreachable || failures >= MAX_FAILURES {
            let until = self.millis() + self.pause.load(Relaxed);
            let _ = self.away_until.compare_exchange(0, until, Relaxed, Relaxed);
            self.warn(failure, error);
        }
    }

    fn warn(&self, failure: StoreFailure, error: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.at.is_some_and(|at| at.elapsed() < WARN) {
            return;
        }
        *warned = WarningState { at: Some(Instant::now()), away: true };
        tracing::warn!(
            policy = %self.policy,
            store = self.store,
            kind = failure.as_str(),
            %error,
            meanwhile = ?self.on_failure,
            "the store of a shared limit can't be asked: on_store_failure decides"
        );
    }

    /// Since the start; never 0.
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2) + 1
    }
}
