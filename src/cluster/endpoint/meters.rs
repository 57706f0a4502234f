//! The metrics of one endpoint as written.

use crate::cluster::outlier::Detector;
use metrics::{Counter, Gauge, Histogram};
use operation::Outcome;
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tollgate_metrics::{Metrics, table as names};

/// Bits of what the gauges count an address as: it is here at all, its checks are good, it is
/// ejected.
pub(super) const HERE: u8 = 1;
pub(super) const UP: u8 = 2;
pub(super) const EJECTED: u8 = 4;

/// The metrics that an endpoint has from its first connection or check on.
const LATER: [&str; 8] = [
    names::UPSTREAM_CONNECT_TOTAL,
    names::UPSTREAM_CONNECTIONS_ACTIVE,
    names::ENDPOINT_OPERATIONS_ACTIVE,
    names::ENDPOINT_OPERATIONS_TOTAL,
    names::ENDPOINT_DURATION_SECONDS,
    names::EJECTIONS_TOTAL,
    names::EJECTIONS_NOT_ENFORCED_TOTAL,
    names::HEALTH_CHECKS_TOTAL,
];

/// The metrics of one endpoint as written. Its label is the name and not the addresses that the
/// name stands for, since those come and go without bound.
///
/// There may be a thousand clusters that nobody uses: until something happens at an endpoint it
/// has two gauges. What there is from then on comes all at once, so that its failures begin at 0.
pub(in crate::cluster) struct Meters {
    metrics: Metrics,
    cluster: Arc<str>,
    endpoint: Arc<str>,
    here: Mutex<Here>,
    used: OnceLock<Used>,
    /// Of health checks: ok, failed, local_error.
    checks: OnceLock<[Counter; 3]>,
}

/// How many of a name's addresses are in the cluster, and what counts them.
#[derive(Default)]
struct Here {
    /// One more where the name stands in the config: it is told as 0 then, rather than not at all.
    addresses: usize,
    /// While there is anything to count: how many are up, and how many ejected.
    gauges: Option<[Gauge; 2]>,
}

/// What is counted of an endpoint that is used.
pub(super) struct Used {
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
    took: Histogram,
}

impl Meters {
    /// Those of the endpoint, whose name is `written` in the config, or comes and goes.
    pub(in crate::cluster) fn new(
        cluster: &Arc<str>,
        endpoint: Arc<str>,
        written: bool,
        metrics: &Metrics,
    ) -> Self {
        let meters = Self {
            metrics: metrics.clone(),
            cluster: Arc::clone(cluster),
            endpoint,
            here: Mutex::default(),
            used: OnceLock::new(),
            checks: OnceLock::new(),
        };
        if written {
            meters.moved(0, HERE);
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

    /// What is counted of it when it is used.
    pub(super) fn used(&self) -> &Used {
        self.used.get_or_init(|| {
            let connects = |result| self.counter(names::UPSTREAM_CONNECT_TOTAL, "result", result);
            let gauge = |name| self.metrics.gauge(name, &self.labels());
            let detected = |name: &'static str| {
                Detector::ALL.map(|it| self.counter(name, "detector", it.as_str()))
            };
            Used {
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
                took: self.metrics.histogram(names::ENDPOINT_DURATION_SECONDS, &self.labels()),
            }
        })
    }

    /// Counts an operation that is over. What the client gave up is counted, and not timed.
    pub(in crate::cluster) fn operation(&self, outcome: Outcome, took: Duration) {
        let used = self.used();
        used.outcomes[outcome as usize].increment(1);
        if outcome != Outcome::Cancelled {
            used.took.record(took);
        }
    }

    /// Counts a health check; `None` is one that could not be made on this machine.
    pub(in crate::cluster) fn checked(&self, good: Option<bool>) {
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

    /// Counts an ejection, or one that was not carried out.
    pub(in crate::cluster) fn ejection(&self, detector: Detector, enforced: bool) {
        let used = self.used();
        let counters = if enforced { &used.ejections } else { &used.not_enforced };
        counters[detector as usize].increment(1);
    }

    /// An address that the gauges counted as the one is the other `now`. With the last address the
    /// gauges go: what is not there is not down.
    pub(super) fn moved(&self, before: u8, now: u8) {
        let mut here = self.lock();
        if now & HERE > before & HERE {
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
        if now & HERE < before & HERE {
            here.addresses -= 1;
            if here.addresses == 0 {
                here.gauges = None;
                self.metrics.forget(names::ENDPOINT_UP, &self.labels());
                self.metrics.forget(names::ENDPOINT_EJECTED, &self.labels());
            }
        }
    }

    /// Whether any of its addresses is in the cluster, or its name in the config.
    pub(in crate::cluster) fn is_here(&self) -> bool {
        self.lock().addresses > 0
    }

    /// Forgets what was counted. To be called when nobody counts any more.
    pub(in crate::cluster) fn forget(&self) {
        for name in LATER {
            self.metrics.forget(name, &self.labels());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
