//! Storage of values: one cell per series and worker, so that no two workers contend.

use super::{
    buckets::{BUCKETS, Distribution, bucket},
    exemplar::ExemplarSlot,
    table::Kind,
};
use ::metrics::{CounterFn, GaugeFn, HistogramFn};
use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

thread_local! {
    /// The cell of a series that this thread writes. All threads that are not workers share the
    /// first.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes this thread worker `index`: handles made on it from now on write cells that no
/// other worker writes.
pub fn enter_worker(index: usize) {
    SHARD.set(index.saturating_add(1));
}

/// One series, with a cell for each thread that has a handle of it.
#[derive(Debug)]
pub(super) enum SeriesCells {
    Counter(Shards<CounterCell>),
    Gauge(Shards<GaugeCell>),
    Histogram(Shards<HistogramCell>, Arc<ExemplarSlot>),
}

impl SeriesCells {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => SeriesCells::Counter(Shards::default()),
            Kind::Gauge => SeriesCells::Gauge(Shards::default()),
            Kind::Histogram => SeriesCells::Histogram(Shards::default(), Arc::default()),
        }
    }
}

/// The cells of one series, with the shard that writes each.
#[derive(Debug, Default)]
pub(super) struct Shards<C>(Mutex<Vec<(usize, Arc<C>)>>);

impl<C: Default> Shards<C> {
    /// The cell of this thread's shard. The thread allocates it, so an allocator with arenas puts
    /// it on a cache line that other workers do not write.
    pub(super) fn own(&self) -> Arc<C> {
        let shard = SHARD.get();
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cell)) = cells.iter().find(|(owner, _)| *owner == shard) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(C::default());
        cells.push((shard, Arc::clone(&cell)));
        cell
    }

    /// The number of cells.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn each(&self, mut read: impl FnMut(&C)) {
        for (_, cell) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            read(cell);
        }
    }
}

impl Shards<CounterCell> {
    pub(super) fn total(&self) -> u64 {
        let mut total = 0u64;
        self.each(|cell| total = total.wrapping_add(cell.0.load(Relaxed)));
        total
    }
}

impl Shards<GaugeCell> {
    pub(super) fn total(&self) -> i64 {
        let mut total = 0i64;
        self.each(|cell| total = total.wrapping_add(cell.0.load(Relaxed)));
        total
    }
}

impl Shards<HistogramCell> {
    pub(super) fn total(&self) -> Distribution {
        let mut total = Distribution::default();
        self.each(|cell| {
            for (sum, held) in total.buckets.iter_mut().zip(&cell.buckets) {
                *sum = sum.wrapping_add(held.load(Relaxed));
            }
            total.sum = total.sum.wrapping_add(cell.sum.load(Relaxed));
        });
        total
    }
}

/// A count.
#[derive(Debug, Default)]
pub(super) struct CounterCell(AtomicU64);

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    /// Correct only for a series that one thread writes.
    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

/// A level, in whole numbers. One worker may subtract what another added: only the sum counts.
#[derive(Debug, Default)]
pub(super) struct GaugeCell(AtomicI64);

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        self.0.fetch_add(value as i64, Relaxed);
    }

    fn decrement(&self, value: f64) {
        self.0.fetch_sub(value as i64, Relaxed);
    }

    /// Correct only for a series that one thread writes.
    fn set(&self, value: f64) {
        self.0.store(value as i64, Relaxed);
    }
}

/// Durations. There is no count: it is the sum of the buckets, so the two cannot disagree.
#[derive(Debug)]
pub(super) struct HistogramCell {
    buckets: [AtomicU64; BUCKETS],
    /// In nanoseconds.
    sum: AtomicU64,
}

impl Default for HistogramCell {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl HistogramFn for HistogramCell {
    /// `value` is in seconds. Negative values and NaN count as 0.
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        // Rounded, so that whole nanoseconds stay so; `as` saturates.
        let nanos = (value * 1e9 + 0.5) as u64;
        let count = count as u64;
        self.buckets[bucket(nanos)].fetch_add(count, Relaxed);
        self.sum.fetch_add(nanos.saturating_mul(count), Relaxed);
    }
}
