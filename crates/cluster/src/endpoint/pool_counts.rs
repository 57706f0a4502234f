//! How many connections of an endpoint operations share, over all workers.

use metrics::Gauge;
use serde::Serialize;
use std::{
    ops::Add,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The states of pooled connections, and of the operations that wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Connections that no operation uses.
    pub idle: usize,
    /// Connections that operations use.
    pub active: usize,
    /// Connections that long polls use.
    pub awaiting: usize,
    /// Connections that are being opened.
    pub connecting: usize,
    /// Operations that wait for a connection.
    pub waiting: usize,
}

impl PoolReport {
    /// The numbers in the order of the fields.
    pub(super) fn values(self) -> [usize; 5] {
        let Self { idle, active, awaiting, connecting, waiting } = self;
        [idle, active, awaiting, connecting, waiting]
    }
}

impl Add for PoolReport {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            active: self.active + other.active,
            awaiting: self.awaiting + other.awaiting,
            connecting: self.connecting + other.connecting,
            waiting: self.waiting + other.waiting,
        }
    }
}

/// The sums over all workers.
#[derive(Debug, Default)]
pub(super) struct PoolCounts([AtomicUsize; 5]);

impl PoolCounts {
    /// Adds what has changed in one worker's pool.
    pub(super) fn add_change(&self, before: PoolReport, now: PoolReport, gauges: &[Gauge; 5]) {
        let changes = before.values().into_iter().zip(now.values());
        for ((count, gauge), (before, now)) in self.0.iter().zip(gauges).zip(changes) {
            if now > before {
                count.fetch_add(now - before, Relaxed);
                gauge.increment((now - before) as f64);
            } else if now < before {
                count.fetch_sub(before - now, Relaxed);
                gauge.decrement((before - now) as f64);
            }
        }
    }

    /// The current sums.
    pub(super) fn report(&self) -> PoolReport {
        let [idle, active, awaiting, connecting, waiting] =
            self.0.each_ref().map(|count| count.load(Relaxed));
        PoolReport { idle, active, awaiting, connecting, waiting }
    }
}
