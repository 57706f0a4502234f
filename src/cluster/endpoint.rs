//! One endpoint: where it is, how busy it is, and how connecting to it went.

use super::{
    Cluster,
    breaker::{Permit, raise},
};
use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge};
use operation::Outcome;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// One address that operations can go to.
///
/// It stays the same object for as long as it stays in its cluster, so what it counts survives
/// each new look-up of its name; connections keep it alive after that.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    meters: Arc<Meters>,
    /// Why it is out of use, as bits of [`Out`].
    out: AtomicU8,
    /// What its connections are asked to do, as a [`Wish`].
    wish: AtomicU8,
    active_connections: AtomicUsize,
    active_operations: AtomicUsize,
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
            out: AtomicU8::new(0),
            wish: AtomicU8::new(Wish::Stay as u8),
            active_connections: AtomicUsize::new(0),
            active_operations: AtomicUsize::new(0),
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

    /// How many operations are under way.
    pub fn active_operations(&self) -> usize {
        self.active_operations.load(Relaxed)
    }

    /// How busy it is, beside others: what `least_request` compares. Connections count as well,
    /// since those that rest now have been opened for operations to come.
    pub fn load(&self) -> usize {
        self.active_operations() + self.active_connections()
    }

    /// Whether it may be picked: nothing speaks against it.
    pub fn usable(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    /// Whether this speaks against it.
    pub fn is_out(&self, why: Out) -> bool {
        self.out.load(Relaxed) & why as u8 != 0
    }

    /// Takes it out of use; `false` if it was already, for the same reason. Whoever does so has
    /// the cluster make its set anew.
    pub(super) fn take_out(&self, why: Out) -> bool {
        self.out.fetch_or(why as u8, Relaxed) & why as u8 == 0
    }

    /// This speaks against it no more; `false` if it did not before.
    pub(super) fn bring_back(&self, why: Out) -> bool {
        self.out.fetch_and(!(why as u8), Relaxed) & why as u8 != 0
    }

    /// What its connections are asked to do.
    pub fn wish(&self) -> Wish {
        match self.wish.load(Relaxed) {
            wish if wish == Wish::Stay as u8 => Wish::Stay,
            wish if wish == Wish::Rest as u8 => Wish::Rest,
            wish if wish == Wish::Unhealthy as u8 => Wish::Unhealthy,
            _ => Wish::Removed,
        }
    }

    /// Asks its connections to do this; they hear of it when the cluster nudges them.
    pub(super) fn wishes(&self, wish: Wish) {
        self.wish.store(wish as u8, Relaxed);
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
}

/// Why an endpoint is not picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Out {
    /// Its health checks fail.
    Unhealthy = 1,
    /// Its operations fail.
    Ejected = 2,
    /// An operator has said so.
    Drained = 4,
    /// It is in the cluster no more.
    Removed = 8,
}

/// What an endpoint asks of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wish {
    /// Go on.
    Stay,
    /// Close as soon as nothing is under way.
    Rest,
    /// Close now: the endpoint is unhealthy, and the cluster is configured so.
    Unhealthy,
    /// Close now: the endpoint has left the cluster, or an operator drained it, and
    /// `drain_timeout` is over.
    Removed,
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
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// Its being counted as one of the cluster's connections; given back with the lease.
    permit: Option<Permit>,
}

impl Lease {
    /// Counts one more connection, whatever the limit.
    #[cfg(test)]
    pub(super) fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active_connections.fetch_add(1, Relaxed);
        Self::counted(cluster, endpoint)
    }

    /// Counts one more connection, if the endpoint has fewer than `most`.
    pub(super) fn within(
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        most: usize,
    ) -> Option<Self> {
        raise(&endpoint.active_connections, most).then(|| Self::counted(cluster, endpoint))
    }

    fn counted(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.meters.active.increment(1.0);
        Self { cluster: Arc::clone(cluster), endpoint: Arc::clone(endpoint), permit: None }
    }

    /// Keeps the permit for as long as the lease.
    pub(super) fn hold(&mut self, permit: Option<Permit>) {
        self.permit = permit;
    }

    /// Where the connection leads.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// An operation goes to the endpoint.
    pub fn began(&self) {
        self.endpoint.active_operations.fetch_add(1, Relaxed);
    }

    /// An operation that [`began`](Lease::began) is over, after it `took` so long.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        self.endpoint.active_operations.fetch_sub(1, Relaxed);
        self.cluster.observe(&self.endpoint, outcome, took);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active_connections.fetch_sub(1, Relaxed);
        self.endpoint.meters.active.decrement(1.0);
        self.cluster.breaker.make_room();
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
            active: gauge(
                recorder,
                crate::metrics::table::UPSTREAM_CONNECTIONS_ACTIVE,
                &[("cluster", cluster), ("endpoint", &endpoint)],
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

/// Registers a gauge.
pub(super) fn gauge(
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
