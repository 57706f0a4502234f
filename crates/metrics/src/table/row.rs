//! A row of the table of metrics.

/// The kind of a metric, which decides how it is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Increases and decreases; whole numbers.
    Gauge,
    /// Durations in fixed buckets.
    Histogram,
}

impl Kind {
    /// The keyword of the Prometheus text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The whole name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What is counted, in the plural: `seconds`, `bytes`, `connections`.
    pub unit: &'static str,
    /// The labels' names, in the order of the exported text.
    pub labels: &'static [&'static str],
    /// The help text, in one line.
    pub help: &'static str,
}

pub(super) const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

pub(super) const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "seconds", labels, help }
}
