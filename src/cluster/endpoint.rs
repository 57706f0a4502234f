//! One endpoint: where it is, how busy it is, and how connecting to it went.

use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// One address that operations can go to.
///
/// It stays the same object for as long as it stays in its cluster, so what it counts survives
/// each new look-up of its name; connections keep it alive after that.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    meters: Arc<Meters>,
    active_connections: AtomicUsize,
    connects_ok: AtomicU64,
    connects_failed: AtomicU64,
    last_error: ArcSwapOption<String>,
}

impl Endpoint {
    /// An endpoint at `address`; `meters` are shared by all addresses of one name.
    pub(super) fn new(address: SocketAddr, meters: Arc<Meters>) -> Self {
        Self {
            address,
            meters,
            active_connections: AtomicUsize::new(0),
            connects_ok: AtomicU64::new(0),
            connects_failed: AtomicU64::new(0),
            last_error: ArcSwapOption::empty(),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name as the config writes it: `db-1:27017`. Several addresses may share it.
    pub fn name(&self) -> &Arc<str> {
        &self.meters.endpoint
    }

    /// How many connections are open or being opened.
    pub fn active_connections(&self) -> usize {
        self.active_connections.load(Relaxed)
    }

    /// Whether it may be picked. Whatever takes endpoints out of use (health, ejection) speaks
    /// here, so that picking asks once.
    pub fn usable(&self) -> bool {
        true
    }

    /// What the admin interface shows.
    pub fn report(&self) -> Value {
        json!({
            "address": self.address.to_string(),
            "name": &**self.name(),
            "active_connections": self.active_connections(),
            "connects_ok": self.connects_ok.load(Relaxed),
            "connects_failed": self.connects_failed.load(Relaxed),
            "last_error": self.last_error.load().as_deref(),
        })
    }

    /// Takes note of a connection that came about. It ends what `last_error` tells.
    pub(super) fn connected(&self) {
        self.connects_ok.fetch_add(1, Relaxed);
        self.meters.ok.increment(1);
        if self.last_error.load().is_some() {
            self.last_error.store(None);
        }
    }

    /// Takes note of a connection that did not come about.
    pub(super) fn failed(&self, how: Failure, error: String) {
        self.connects_failed.fetch_add(1, Relaxed);
        match how {
            Failure::Refused => self.meters.refused.increment(1),
            Failure::Timeout => self.meters.timeout.increment(1),
            Failure::Error => self.meters.error.increment(1),
        }
        self.last_error.store(Some(Arc::new(error)));
    }

    pub(super) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }
}

/// How an attempt to connect failed, as a metric tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Timeout,
    Error,
}

/// Counts as one of its endpoint's active connections until dropped.
#[derive(Debug)]
pub struct Lease(Arc<Endpoint>);

impl Lease {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active_connections.fetch_add(1, Relaxed);
        endpoint.meters.active.increment(1.0);
        Self(endpoint.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active_connections.fetch_sub(1, Relaxed);
        self.0.meters.active.decrement(1.0);
    }
}

/// The metrics of one endpoint as written. Its label is the name and not the addresses that the
/// name stands for, since those come and go without bound.
pub(super) struct Meters {
    endpoint: Arc<str>,
    ok: Counter,
    refused: Counter,
    timeout: Counter,
    error: Counter,
    active: Gauge,
}

impl Meters {
    pub(super) fn new(cluster: &str, endpoint: Arc<str>, recorder: &dyn metrics::Recorder) -> Self {
        let connects = |result: &'static str| {
            counter(
                recorder,
                crate::metrics::table::UPSTREAM_CONNECT_TOTAL,
                &[("cluster", cluster), ("endpoint", &endpoint), ("result", result)],
            )
        };
        Self {
            ok: connects("ok"),
            refused: connects("refused"),
            timeout: connects("timeout"),
            error: connects("error"),
            active: recorder.register_gauge(
                &key(
                    crate::metrics::table::UPSTREAM_CONNECTIONS_ACTIVE,
                    &[("cluster", cluster), ("endpoint", &endpoint)],
                ),
                &METADATA,
            ),
            endpoint,
        }
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
pub(super) fn counter(
    recorder: &dyn metrics::Recorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Counter {
    recorder.register_counter(&key(name, labels), &METADATA)
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> metrics::Key {
    let labels: Vec<_> =
        labels.iter().map(|&(k, v)| metrics::Label::new(k, v.to_owned())).collect();
    metrics::Key::from_parts(name, labels)
}
