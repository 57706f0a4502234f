//! The metrics of one configured endpoint.

use crate::outlier::Detector;
use metrics::{Counter, Gauge, Histogram};
use operation::Outcome;
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tollgate_metrics::{Metrics, table as names};

/// How the gauges count an address, as bits: it is a member, its checks succeed, it is ejected.
pub(super) const MEMBER: u8 = 1;
pub(super) const UP: u8 = 2;
pub(super) const EJECTED: u8 = 4;

/// The metrics that an endpoint gets with its first connection or check.
const ON_FIRST_USE: [&str; 12] = [
    names::UPSTREAM_CONNECT_TOTAL,
    names::UPSTREAM_CONNECTIONS_ACTIVE,
    names::ENDPOINT_OPERATIONS_ACTIVE,
    names::ENDPOINT_OPERATIONS_TOTAL,
    names::ENDPOINT_DURATION_SECONDS,
    names::EJECTIONS_TOTAL,
    names::EJECTIONS_NOT_ENFORCED_TOTAL,
    names::HEALTH_CHECKS_TOTAL,
    names::POOL_CONNECTIONS,
    names::POOL_WAITING,
    names::ENDPOINT_PRIMARY,
    names::ENDPOINT_LAG_SECONDS,
];

/// The metrics of one configured endpoint. Its label is the name, not the addresses, since those
/// change without bound.
///
/// There may be a thousand unused clusters: until something happens at an endpoint it has two
/// gauges. All other series start together, so that its failures start at 0.
pub(crate) struct EndpointMetrics {
    metrics: Metrics,
    cluster: Arc<str>,
    endpoint: Arc<str>,
    presence: Mutex<Presence>,
    used: OnceLock<UsedMetrics>,
    /// Of health checks: ok, failed, local_error.
    checks: OnceLock<[Counter; 3]>,
    /// Of a member of a replica set: whether it is the primary, and its lag.
    member: OnceLock<[Gauge; 2]>,
}

/// How many of a name's addresses are in the cluster, and their gauges.
#[derive(Default)]
struct Presence {
    /// Plus one if the name is in the config, so that it is exported as 0 instead of missing.
    addresses: usize,
    /// While there is something to count: how many are up, and how many ejected.
    gauges: Option<[Gauge; 2]>,
}

/// The metrics of an endpoint that is used.
pub(super) struct UsedMetrics {
    pub(super) ok: Counter,
    pub(super) refused: Counter,
    pub(super) timeout: Counter,
    pub(super) error: Counter,
    pub(super) local: Counter,
    pub(super) active: Gauge,
    pub(super) operations_active: Gauge,
    /// Each in the order of [`Detector::ALL`].
    ejections: [Counter; Detector::ALL.len()],
    not_enforced: [Counter; Detector::ALL.len()],
    /// In the order of [`Outcome::ALL`].
    outcomes: [Counter; Outcome::ALL.len()],
    duration: Histogram,
}

impl EndpointMetrics {
    /// The metrics of an endpoint; `written` if its name is in the config.
    pub(crate) fn new(
        cluster: &Arc<str>,
        endpoint: Arc<str>,
        written: bool,
        metrics: &Metrics,
    ) -> Self {
        let meters = Self {
            metrics: metrics.clone(),
            cluster: Arc::clone(cluster),
            endpoint,
            presence: Mutex::default(),
            used: OnceLock::new(),
            checks: OnceLock::new(),
            member: OnceLock::new(),
        };
        if written {
            meters.gauge_changed(0, MEMBER);
        }
        meters
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [("cluster", &self.cluster), ("endpoint", &self.endpoint)]
    }

    fn counter(&self, name: &str, label: &'static str, value: &str) -> Counter {
        let [cluster, endpoint] = self.labels();
        self.metrics.counter(name, &[cluster, endpoint, (label, value)])
    }

    /// The metrics of a used endpoint.
    pub(super) fn used(&self) -> &UsedMetrics {
        self.used.get_or_init(|| {
            let connects = |result| self.counter(names::UPSTREAM_CONNECT_TOTAL, "result", result);
            let gauge = |name| self.metrics.gauge(name, &self.labels());
            let detected = |name: &'static str| {
                Detector::ALL.map(|it| self.counter(name, "detector", it.as_str()))
            };
            UsedMetrics {
                ok: connects("ok"),
                refused: connects("refused"),
                timeout: connects("timeout"),
                error: connects("error"),
                local: connects("local_error"),
                active: gauge(names::UPSTREAM_CONNECTIONS_ACTIVE),
                operations_active: gauge(names::ENDPOINT_OPERATIONS_ACTIVE),
                ejections: detected(names::EJECTIONS_TOTAL),
                not_enforced: detected(names::EJECTIONS_NOT_ENFORCED_TOTAL),
                outcomes: Outcome::ALL.map(|outcome| {
                    self.counter(names::ENDPOINT_OPERATIONS_TOTAL, "outcome", outcome.as_str())
                }),
                duration: self.metrics.histogram(names::ENDPOINT_DURATION_SECONDS, &self.labels()),
            }
        })
    }

    /// The gauges of a user's pooled connections, and of operations that wait for one.
    pub(super) fn pool(&self, user: &str) -> [Gauge; 5] {
        let [cluster, endpoint] = self.labels();
        let user = ("user", user);
        let of = |state| {
            let labels = [cluster, endpoint, user, ("state", state)];
            self.metrics.gauge(names::POOL_CONNECTIONS, &labels)
        };
        let waiting = self.metrics.gauge(names::POOL_WAITING, &[cluster, endpoint, user]);
        [of("idle"), of("active"), of("awaiting"), of("connecting"), waiting]
    }

    /// Shows whether a member of a replica set is the primary.
    pub(super) fn set_primary(&self, is_primary: bool) {
        self.member()[0].set(f64::from(u8::from(is_primary)));
    }

    /// Shows how far a member of a replica set is behind.
    pub(super) fn set_lag(&self, lag: Duration) {
        self.member()[1].set(lag.as_secs_f64());
    }

    fn member(&self) -> &[Gauge; 2] {
        self.member.get_or_init(|| {
            [names::ENDPOINT_PRIMARY, names::ENDPOINT_LAG_SECONDS]
                .map(|name| self.metrics.gauge(name, &self.labels()))
        })
    }

    /// Counts a connect whose TLS handshake failed.
    pub(super) fn record_tls_failure(&self, reason: &str) {
        let result = format!("tls_{reason}");
        self.counter(names::UPSTREAM_CONNECT_TOTAL, "result", &result).increment(1);
    }

    /// Counts a finished operation. One that the client cancelled is counted but not timed.
    pub(crate) fn record_operation(&self, outcome: Outcome, took: Duration) {
        let used = self.used();
        used.outcomes[outcome as usize].increment(1);
        if outcome != Outcome::Cancelled {
            used.duration.record(took);
        }
    }

    /// Counts a health check; `None` could not be made for lack of local resources.
    pub(crate) fn record_check(&self, good: Option<bool>) {
        let checks = |result| self.counter(names::HEALTH_CHECKS_TOTAL, "result", result);
        let [ok, failed, local] =
            self.checks.get_or_init(|| ["ok", "failed", "local_error"].map(checks));
        let counter = match good {
            Some(true) => ok,
            Some(false) => failed,
            None => local,
        };
        counter.increment(1);
    }

    /// Counts an ejection, or one that was not enforced.
    pub(crate) fn record_ejection(&self, detector: Detector, enforced: bool) {
        let used = self.used();
        let counters = if enforced { &used.ejections } else { &used.not_enforced };
        counters[detector as usize].increment(1);
    }

    /// Changes the gauges of an address from `before` to `now`. With the last address the gauges
    /// are removed: a missing endpoint is not down.
    pub(super) fn gauge_changed(&self, before: u8, now: u8) {
        let mut here = self.lock();
        if now & MEMBER > before & MEMBER {
            here.addresses += 1;
        }
        let gauges = here.gauges.get_or_insert_with(|| {
            [names::ENDPOINT_UP, names::ENDPOINT_EJECTED]
                .map(|name| self.metrics.gauge(name, &self.labels()))
        });
        for (bit, gauge) in [UP, EJECTED].into_iter().zip(gauges) {
            match (before & bit, now & bit) {
                (0, 1..) => gauge.increment(1.0),
                (1.., 0) => gauge.decrement(1.0),
                _ => {}
            }
        }
        if now & MEMBER < before & MEMBER {
            here.addresses -= 1;
            if here.addresses == 0 {
                here.gauges = None;
                self.metrics.forget(names::ENDPOINT_UP, &self.labels());
                self.metrics.forget(names::ENDPOINT_EJECTED, &self.labels());
            }
        }
    }

    /// Whether any of its addresses is in the cluster, or its name in the config.
    pub(crate) fn is_present(&self) -> bool {
        self.lock().addresses > 0
    }

    /// Removes the series. Call it when nothing counts there any more.
    pub(crate) fn forget(&self) {
        for name in ON_FIRST_USE {
            self.metrics.forget(name, &self.labels());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
