//! Counters, gauges and histograms: our own recorder behind the `metrics` facade, since recording
//! must neither allocate nor contend, and the number of series must stay bounded.
//!
//! `table` lists the metrics, `cells` stores values per worker, `buckets` has the histograms, `exemplar`
//! has traces of slow operations, `text` exports, and `operations` and `policies` read for the admin interface. This crate knows
//! neither clusters nor policies nor the config.

mod buckets;
mod cells;
mod exemplar;
mod operations;
mod policies;
pub mod table;
#[cfg(test)]
mod tests;
mod text;

pub use buckets::{BUCKETS, Distribution, bounds_ms, bucket};
pub use cells::enter_worker;
pub use exemplar::ExemplarSlot;
pub use operations::{CallsiteRow, OperationRow, RefusalRow, Times};
pub use policies::{EffectCounts, Effects};

use ::metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use cells::{CounterCell, SeriesCells};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use table::{Kind, Metric, TABLE};

/// How many series a recorder holds by default.
const MAX_SERIES: usize = 200_000;

/// Longer label values are cut to this many bytes: clients choose names of any length.
const MAX_VALUE: usize = 256;

/// The recorder. Clones share the series.
///
/// Making a handle looks its series up under a lock: do it once, and keep the handle. Using a
/// handle is one or two atomic additions to a cell that only this worker writes ([`enter_worker`]).
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    families: RwLock<BTreeMap<&'static str, Arc<Family>>>,
    max_series: usize,
    held: AtomicUsize,
    /// The cell of [`table::METRICS_DROPPED_TOTAL`], made first so that it exists when there is no
    /// room.
    dropped: Arc<CounterCell>,
}

/// The values of a series' labels, in the order of its metric's labels.
type Values = Arc<[Box<str>]>;

/// One metric and its series.
#[derive(Debug)]
struct Family {
    metric: Metric,
    series: Mutex<BTreeMap<Values, Arc<SeriesCells>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A recorder of the metrics in the table.
    pub fn new() -> Self {
        Self::with_max_series(MAX_SERIES)
    }

    /// A recorder that holds at most `max_series` series. Handles for more do nothing.
    pub(crate) fn with_max_series(max_series: usize) -> Self {
        let mut families: BTreeMap<_, _> =
            TABLE.iter().map(|metric| (metric.name, Arc::new(Family::new(*metric)))).collect();
        let dropped = cells::Shards::default();
        let cell = dropped.own();
        if let Some(family) = families.get_mut(table::METRICS_DROPPED_TOTAL) {
            family.lock().insert(Values::from([]), Arc::new(SeriesCells::Counter(dropped)));
        }
        Self(Arc::new(Inner {
            families: RwLock::new(families),
            max_series,
            held: AtomicUsize::new(0),
            dropped: cell,
        }))
    }

    /// Adds the metrics of `protocol` to the table. Repeating it is harmless.
    pub fn declare(&self, protocol: &operation::Protocol) {
        let mut families = self.0.families.write().unwrap_or_else(PoisonError::into_inner);
        for metric in table::extras(protocol) {
            families.entry(metric.name).or_insert_with(|| Arc::new(Family::new(metric)));
        }
    }

    /// A handle of the counter with these labels, in any order.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Counter {
        match self.series(name, Kind::Counter, labels).as_deref() {
            Some(SeriesCells::Counter(cells)) => Counter::from_arc(cells.own()),
            _ => Counter::noop(),
        }
    }

    /// A handle of the gauge with these labels, in any order. Gauges hold whole numbers; `set` is
    /// for a series that one thread writes, increments and decrements for all.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Gauge {
        match self.series(name, Kind::Gauge, labels).as_deref() {
            Some(SeriesCells::Gauge(cells)) => Gauge::from_arc(cells.own()),
            _ => Gauge::noop(),
        }
    }

    /// A handle of the histogram with these labels, in any order. It records seconds.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        match self.series(name, Kind::Histogram, labels).as_deref() {
            Some(SeriesCells::Histogram(cells, _)) => Histogram::from_arc(cells.own()),
            _ => Histogram::noop(),
        }
    }

    /// The place for the exemplar of the histogram with these labels, in any order; `None` if there is
    /// no room for the series.
    pub fn exemplar(&self, name: &str, labels: &[(&str, &str)]) -> Option<Arc<ExemplarSlot>> {
        match self.series(name, Kind::Histogram, labels).as_deref() {
            Some(SeriesCells::Histogram(_, exemplar)) => Some(Arc::clone(exemplar)),
            _ => None,
        }
    }

    /// Removes the series of a metric with these labels, and maybe others: those of a removed
    /// endpoint. Handles in use stay valid.
    pub fn forget(&self, name: &str, labels: &[(&str, &str)]) {
        let Some(family) = self.family(name) else { return };
        let place = |(label, value): &(&str, &str)| {
            let place = family.metric.labels.iter().position(|it| it == label)?;
            Some((place, clean(value)))
        };
        let Some(wanted) = labels.iter().map(place).collect::<Option<Vec<_>>>() else { return };
        if wanted.is_empty() {
            return;
        }
        let mut series = family.lock();
        let before = series.len();
        series.retain(|values, _| wanted.iter().any(|(place, value)| values[*place] != *value));
        self.0.held.fetch_sub(before - series.len(), Relaxed);
    }

    /// The series with these labels; created if there is none and there is room.
    fn series(&self, name: &str, kind: Kind, labels: &[(&str, &str)]) -> Option<Arc<SeriesCells>> {
        let declared = self.family(name).filter(|family| family.metric.kind == kind);
        let Some((family, values)) = declared.and_then(|f| Some((f.clone(), f.values(labels)?)))
        else {
            let labels: Vec<&str> = labels.iter().map(|(label, _)| *label).collect();
            tracing::warn!(name, ?kind, ?labels, "a metric that is not declared is not recorded");
            self.0.dropped.increment(1);
            return None;
        };
        let mut all = family.lock();
        if let Some(series) = all.get(&values) {
            return Some(Arc::clone(series));
        }
        if self.0.held.fetch_add(1, Relaxed) >= self.0.max_series {
            self.0.held.fetch_sub(1, Relaxed);
            self.0.dropped.increment(1);
            return None;
        }
        let series = Arc::new(SeriesCells::new(kind));
        all.insert(values, Arc::clone(&series));
        Some(series)
    }

    fn family(&self, name: &str) -> Option<Arc<Family>> {
        self.0.families.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every family, by name.
    fn families(&self) -> Vec<Arc<Family>> {
        let families = self.0.families.read().unwrap_or_else(PoisonError::into_inner);
        families.values().cloned().collect()
    }
}

impl Family {
    fn new(metric: Metric) -> Self {
        Self { metric, series: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Values, Arc<SeriesCells>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every series, by labels. Reading them does not need the lock, so a worker that asks for a
    /// handle meanwhile hardly waits.
    fn all(&self) -> Vec<(Values, Arc<SeriesCells>)> {
        self.lock().iter().map(|(values, series)| (values.clone(), series.clone())).collect()
    }

    /// The label values in this metric's order; `None` if the labels differ. One may be left out
    /// (see [`table::REASON`]).
    fn values(&self, labels: &[(&str, &str)]) -> Option<Values> {
        if labels.iter().any(|(label, _)| !self.metric.labels.contains(label)) {
            return None;
        }
        let value = |name: &&str| match labels.iter().find(|(label, _)| label == name) {
            Some((_, value)) => Some(clean(value)),
            None => (*name == table::REASON).then(Box::default),
        };
        self.metric.labels.iter().map(value).collect()
    }
}

/// A label value as stored: cut, and without characters that some parsers of the text format cannot
/// read.
fn clean(value: &str) -> Box<str> {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let kept = &value[..end];
    if kept.contains(char::is_control) {
        return kept.replace(char::is_control, "\u{fffd}").into();
    }
    kept.into()
}

/// The labels of one series.
#[derive(Debug)]
pub struct Labels<'a> {
    names: &'a [&'a str],
    values: &'a [Box<str>],
}

impl Labels<'_> {
    /// The value of the label `name`, if the series has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.names.iter().position(|label| *label == name)?;
        self.values.get(place).map(|value| &**value)
    }
}

/// For the facade's macros, on slow paths. Descriptions are ignored: the table has them.
impl Recorder for Metrics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.counter(key.name(), &pairs(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.gauge(key.name(), &pairs(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.histogram(key.name(), &pairs(key))
    }
}

fn pairs(key: &Key) -> Vec<(&str, &str)> {
    key.labels().map(|label| (label.key(), label.value())).collect()
}
