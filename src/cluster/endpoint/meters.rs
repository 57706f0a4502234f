//! The metrics of one endpoint as written.

use crate::cluster::outlier::Detector;
use crate::metrics::table as names;
use metrics::{Counter, Gauge, Histogram};
use operation::Outcome;
use std::{sync::Arc, time::Duration};

/// The metrics of one endpoint as written. Its label is the name and not the addresses that the
/// name stands for, since those come and go without bound.
pub(in crate::cluster) struct Meters {
    pub(super) endpoint: Arc<str>,
    pub(super) ok: Counter,
    pub(super) refused: Counter,
    pub(super) timeout: Counter,
    pub(super) error: Counter,
    pub(super) active: Gauge,
    pub(super) operations_active: Gauge,
    /// How many of its addresses are up, and how many ejected.
    pub(super) up: Gauge,
    pub(super) ejected: Gauge,
    checks_ok: Counter,
    checks_failed: Counter,
    /// Each in the order of [`Detector::ALL`].
    ejections: [Counter; Detector::ALL.len()],
    not_enforced: [Counter; Detector::ALL.len()],
    /// In the order of [`Outcome::ALL`].
    outcomes: [Counter; Outcome::ALL.len()],
    took: Histogram,
}

impl Meters {
    pub(in crate::cluster) fn new(
        cluster: &str,
        endpoint: Arc<str>,
        recorder: &dyn metrics::Recorder,
    ) -> Self {
        let both = [("cluster", cluster), ("endpoint", &*endpoint)];
        let with = |name: &'static str, label: &'static str, value: &'static str| {
            counter(recorder, name, &[both[0], both[1], (label, value)])
        };
        let gauge = |name| gauge(recorder, name, &both);
        let connects = |result| with(names::UPSTREAM_CONNECT_TOTAL, "result", result);
        let checks = |result| with(names::HEALTH_CHECKS_TOTAL, "result", result);
        Self {
            ok: connects("ok"),
            refused: connects("refused"),
            timeout: connects("timeout"),
            error: connects("error"),
            active: gauge(names::UPSTREAM_CONNECTIONS_ACTIVE),
            operations_active: gauge(names::ENDPOINT_OPERATIONS_ACTIVE),
            up: gauge(names::ENDPOINT_UP),
            ejected: gauge(names::ENDPOINT_EJECTED),
            checks_ok: checks("ok"),
            checks_failed: checks("failed"),
            ejections: Detector::ALL.map(|d| with(names::EJECTIONS_TOTAL, "detector", d.as_str())),
            not_enforced: Detector::ALL
                .map(|d| with(names::EJECTIONS_NOT_ENFORCED_TOTAL, "detector", d.as_str())),
            outcomes: Outcome::ALL
                .map(|o| with(names::ENDPOINT_OPERATIONS_TOTAL, "outcome", o.as_str())),
            took: recorder
                .register_histogram(&key(names::ENDPOINT_DURATION_SECONDS, &both), &METADATA),
            endpoint,
        }
    }

    /// Counts an operation that is over. What the client gave up is counted, and not timed.
    pub(in crate::cluster) fn operation(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].increment(1);
        if outcome != Outcome::Cancelled {
            self.took.record(took);
        }
    }

    /// Counts a health check.
    pub(in crate::cluster) fn checked(&self, ok: bool) {
        if ok { &self.checks_ok } else { &self.checks_failed }.increment(1);
    }

    /// Counts an ejection, or one that was not carried out.
    pub(in crate::cluster) fn ejection(&self, detector: Detector, enforced: bool) {
        let counters = if enforced { &self.ejections } else { &self.not_enforced };
        counters[detector as usize].increment(1);
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

const METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

/// Registers a counter.
pub(in crate::cluster) fn counter(
    recorder: &dyn metrics::Recorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Counter {
    recorder.register_counter(&key(name, labels), &METADATA)
}

/// Registers a gauge.
pub(in crate::cluster) fn gauge(
    recorder: &dyn metrics::Recorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Gauge {
    recorder.register_gauge(&key(name, labels), &METADATA)
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> metrics::Key {
    let labels: Vec<_> =
        labels.iter().map(|&(k, v)| metrics::Label::new(k, v.to_owned())).collect();
    metrics::Key::from_parts(name, labels)
}
