//! Listeners: one socket each, with slots for connections, spread evenly over the workers.
//!
//! One worker accepts for a listener and gives each connection to the worker with the fewest of that
//! listener's connections. Databases have few, long-lived connections: with the kernel's hashing
//! (`SO_REUSEPORT`) one worker could get most of them.

mod budget;
mod drain;
mod handshakes;
mod server_names;
mod socket;

pub use budget::{ConnectionBudget, ListenerShare};
use cluster::{ConnectError, ConnectionPool, ListenerRegistration, Mirror, PreconnectPool};
use config::plan::ListenerPlan;
pub use drain::{Drain, DrainOptions};
use foldhash::HashMap;
pub use handshakes::Handshakes;
use metrics::{Counter, Gauge};
use operation::{Close, RejectReason, Violation};
use policy::{gate::Gate, series::CardinalityLimit};
use protocols::Server;
use rustix::process::{Resource, getrlimit};
pub use server_names::ServerNames;
use session::HeldBytesBudget;
pub use socket::{ListenSocket, bind, prepare};
use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt, io,
    net::SocketAddr,
    os::fd::AsRawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tollgate_metrics::{Metrics, table as names};

/// Descriptors of a worker's runtime, rounded up, and its pipes.
const DESCRIPTORS_A_WORKER: usize = 4 + 2 * relay::MAX_PIPES;

/// Descriptors reserved for name look-ups, the admin interface, and other open files.
const SPARE_DESCRIPTORS: usize = 24;

/// Minimum interval between repeated warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A listener, shared by all workers: as one config has it.
pub struct Listener {
    /// The configuration.
    pub plan: Arc<ListenerPlan>,
    /// The bound address.
    pub address: SocketAddr,
    /// What outlives a reload of the config.
    state: Arc<ListenerState>,
    /// It uses the pool of its cluster.
    _pooled: Option<ListenerRegistration>,
}

/// What a listener keeps when a reload of the config changes it.
pub struct ListenerState {
    /// Identifies the listener among all that this process has had.
    pub id: u64,
    /// Open connections, by worker.
    open: Vec<AtomicUsize>,
    /// Open connections on all workers, and those reserved.
    pub share: ListenerShare,
    /// The most connections at a time.
    pub max_connections: AtomicUsize,
    /// Request bytes buffered until policies can decide.
    held: Arc<HeldBytesBudget>,
    /// The limits of distinct series, and of distinct call sites.
    pub cardinality: [Arc<CardinalityLimit>; 2],
}

impl ListenerState {
    /// The state of a listener that this many workers serve. `cardinality` limits its distinct series, and its
    /// distinct call sites.
    pub fn new(
        plan: &ListenerPlan,
        workers: usize,
        cardinality: [Arc<CardinalityLimit>; 2],
    ) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            open: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            share: ListenerShare::default(),
            max_connections: AtomicUsize::new(usize::MAX),
            held: HeldBytesBudget::new(plan.max_held_bytes),
            cardinality,
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener bound to `address`. `pooled`: it uses the pool of its cluster.
    pub fn new(
        plan: Arc<ListenerPlan>,
        address: SocketAddr,
        state: Arc<ListenerState>,
        pooled: Option<ListenerRegistration>,
    ) -> Arc<Self> {
        state.held.set_most(plan.max_held_bytes);
        Arc::new(Self { plan, address, state, _pooled: pooled })
    }

    /// What it keeps when a reload of the config changes it.
    pub fn state(&self) -> &Arc<ListenerState> {
        &self.state
    }

    /// The listener's entry in the admin interface.
    pub fn report(&self) -> serde_json::Value {
        let open: Vec<usize> = self.state.open.iter().map(|open| open.load(Relaxed)).collect();
        serde_json::json!({
            "name": &*self.plan.name,
            "address": self.address.to_string(),
            "protocol": self.plan.protocol.name(),
            "cluster": self.plan.cluster.as_deref(),
            "clusters": self.plan.clusters().iter().map(|name| &**name).collect::<Vec<_>>(),
            "connections": open.iter().sum::<usize>(),
            "connections_by_worker": open,
            "max_connections": self.state.max_connections.load(Relaxed),
            "held_bytes": self.state.held.used(),
            "max_held_bytes": self.state.held.most(),
            "reserved_connections": self.state.share.reserved(),
        })
    }

    /// Whether there are descriptors for one more connection.
    pub(crate) fn fits_another(&self, all: &ConnectionBudget) -> bool {
        all.fits_another(&self.state.share)
    }

    /// Takes a slot at the worker with the fewest of this listener's connections; `first` wins a
    /// tie. Returns `None` if the listener is full, or if only slots reserved for other listeners
    /// are left.
    pub(crate) fn take_slot(
        &self,
        all: &Arc<ConnectionBudget>,
        first: usize,
    ) -> Option<(usize, ConnectionSlot)> {
        let state = &self.state;
        let full = state.share.open() >= state.max_connections.load(Relaxed);
        if full || !all.acquire(&state.share) {
            return None;
        }
        let workers = state.open.len();
        let worker = (0..workers)
            .map(|step| (first + step) % workers)
            .min_by_key(|worker| state.open[*worker].load(Relaxed))?;
        state.open[worker].fetch_add(1, Relaxed);
        let (listener, budget) = (Arc::clone(state), Arc::clone(all));
        Some((worker, ConnectionSlot { listener, budget, worker }))
    }
}

/// How many connections the process's descriptor limit allows, at least 1.
///
/// Each needs two: a client without a descriptor for its upstream can't be served. Call this after
/// the listeners are open and before the workers start.
pub fn connections_that_fit(workers: usize) -> usize {
    let needed = workers.saturating_mul(DESCRIPTORS_A_WORKER) + SPARE_DESCRIPTORS;
    (descriptors_left().saturating_sub(needed) / 2).max(1)
}

/// How many more descriptors the process may open.
pub fn descriptors_left() -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return usize::MAX };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // The kernel returns the lowest free descriptor number.
    let next = rustix::io::dup(io::stderr()).map(|next| next.as_raw_fd().unsigned_abs() as usize);
    next.map_or(0, |next| limit.saturating_sub(next))
}

/// A connection's slot at its listener and worker; released when dropped.
pub struct ConnectionSlot {
    listener: Arc<ListenerState>,
    budget: Arc<ConnectionBudget>,
    worker: usize,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.listener.open[self.worker].fetch_sub(1, Relaxed);
        self.budget.release(&self.listener.share);
    }
}

/// Where a listener's operations go.
pub enum Upstreams {
    /// To one cluster, with one upstream connection per client connection.
    Cluster(Rc<PreconnectPool>),
    /// To one cluster, whose connections operations share.
    Pool {
        /// The pool.
        pool: Rc<ConnectionPool>,
        /// What gets reads too.
        mirror: Option<Rc<Mirror>>,
        /// The listener's part in the pools.
        listener: Vec<ListenerRegistration>,
    },
    /// To the cluster for the name that the client asks for by TLS, each client connection with an
    /// upstream connection of its own.
    ByServerName(ServerNames),
    /// To a server that chooses a cluster for each request.
    Server(Rc<Server>),
}

impl From<Rc<PreconnectPool>> for Upstreams {
    fn from(preconnects: Rc<PreconnectPool>) -> Self {
        Upstreams::Cluster(preconnects)
    }
}

impl Upstreams {
    /// The cluster, where there is one.
    #[cfg(test)]
    pub(crate) fn preconnects(&self) -> &Rc<PreconnectPool> {
        match self {
            Upstreams::Cluster(preconnects) => preconnects,
            _ => panic!("there is no single cluster"),
        }
    }

    /// Closes idle pooled connections to endpoints that no longer want them. Connections to a
    /// single cluster check this themselves.
    pub fn close_unwanted(&self) {
        match self {
            Upstreams::Cluster(_) | Upstreams::ByServerName(_) | Upstreams::Pool { .. } => {}
            Upstreams::Server(server) => server.close_unwanted(),
        }
    }

    /// Closes idle connections: the worker drains.
    pub fn close(&self) {
        match self {
            Upstreams::Cluster(preconnects) => preconnects.close(),
            Upstreams::ByServerName(names) => names.close(),
            Upstreams::Pool { pool, mirror, .. } => {
                pool.close();
                mirror.iter().for_each(|mirror| mirror.close());
            }
            Upstreams::Server(server) => server.close_idle(),
        }
    }
}

/// One worker's part of a listener: its gate, upstreams and counters.
pub struct WorkerListener {
    listener: Arc<Listener>,
    gate: Gate,
    upstreams: Upstreams,
    metrics: Metrics,
    opened: Counter,
    active: Gauge,
    paused: Counter,
    unreachable_warned: Cell<Option<Instant>>,
    not_held_warned: Cell<Option<Instant>>,
    closed: RefCell<HashMap<Close, Counter>>,
    violations: RefCell<HashMap<Violation, Counter>>,
    overloaded: OnceCell<Counter>,
    handshakes: Handshakes,
    /// The end of its connections, if a reload of the config has changed or removed it.
    drain: Drain,
}

impl WorkerListener {
    /// `listener` on the calling worker.
    pub fn new(
        listener: Arc<Listener>,
        gate: Gate,
        upstreams: impl Into<Upstreams>,
        metrics: Metrics,
    ) -> Rc<Self> {
        let labels = [("listener", &*listener.plan.name)];
        Rc::new(Self {
            opened: metrics.counter(names::CONNECTIONS_TOTAL, &labels),
            active: metrics.gauge(names::CONNECTIONS_ACTIVE, &labels),
            paused: metrics.counter(names::ACCEPT_PAUSED_TOTAL, &labels),
            unreachable_warned: Cell::default(),
            not_held_warned: Cell::default(),
            closed: RefCell::default(),
            violations: RefCell::default(),
            overloaded: OnceCell::new(),
            drain: Drain::default(),
            handshakes: Handshakes::new(&listener.plan.name, &metrics),
            gate,
            upstreams: upstreams.into(),
            metrics,
            listener,
        })
    }

    /// The configuration.
    pub fn plan(&self) -> &Arc<ListenerPlan> {
        &self.listener.plan
    }

    /// What it keeps when a reload of the config changes it.
    pub fn state(&self) -> &Arc<ListenerState> {
        &self.listener.state
    }

    /// The listener that all workers share.
    pub(crate) fn shared(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Its policies.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Where its operations go.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The end of its connections, if a reload of the config has changed or removed it.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Its TLS handshakes.
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Counts a new connection.
    pub fn connection_opened(&self) {
        self.opened.increment(1);
        self.active.increment(1.0);
    }

    /// Counts a connection that was closed at once because the listener is full.
    pub(crate) fn count_full(&self) {
        self.opened.increment(1);
        self.count_close(Close::ConnectionLimit);
    }

    /// Counts a pause of accepting.
    pub(crate) fn count_pause(&self) {
        self.paused.increment(1);
    }

    /// Counts a connection that ended.
    pub fn connection_closed(&self, close: Close) {
        self.active.decrement(1.0);
        self.count_close(close);
    }

    /// Logs, at a limited rate, that no upstream could be reached for a client.
    pub fn warn_unreachable(&self, error: &ConnectError) {
        if is_due(&self.unreachable_warned) {
            tracing::warn!(
                listener = &*self.plan().name,
                %error,
                "no upstream could be reached: the client connection is closed"
            );
        }
    }

    /// The budget of request bytes buffered until policies can decide.
    pub fn held_bytes(&self) -> &Arc<HeldBytesBudget> {
        &self.listener.state.held
    }

    /// Counts a request that exceeded `max_held_bytes`, and logs it at a limited rate.
    pub fn report_not_held(&self) {
        let labels = [("listener", &*self.plan().name)];
        self.metrics.counter(names::REQUESTS_NOT_HELD_TOTAL, &labels).increment(1);
        if is_due(&self.not_held_warned) {
            tracing::warn!(
                listener = &*self.plan().name,
                used = self.listener.state.held.used(),
                max = self.listener.state.held.most(),
                "max_held_bytes is used up, so policies decide about a request before they know all \
                 of its attributes: policies that guard treat an unknown attribute as a match; \
                 raise max_held_bytes if clients are rejected for that"
            );
        }
    }

    fn count_close(&self, close: Close) {
        let mut closed = self.closed.borrow_mut();
        let counter = closed.entry(close).or_insert_with(|| {
            let labels = [("listener", &*self.plan().name), ("reason", close.as_str())];
            self.metrics.counter(names::CONNECTION_CLOSE_TOTAL, &labels)
        });
        counter.increment(1);
    }

    /// Counts an operation rejected by its cluster's circuit breaker.
    pub fn count_overloaded(&self) {
        let counter = self.overloaded.get_or_init(|| {
            let reason = RejectReason::Overloaded.as_str();
            let name = &*self.plan().name;
            let labels = [("listener", name), ("policy", policy::BREAKER), ("reason", reason)];
            self.metrics.counter(names::REFUSALS_TOTAL, &labels)
        });
        counter.increment(1);
    }

    /// Counts a protocol violation.
    pub fn count_violation(&self, violation: Violation) {
        let mut violations = self.violations.borrow_mut();
        let counter = violations.entry(violation).or_insert_with(|| {
            let protocol = self.plan().protocol.name();
            let name = &*self.plan().name;
            let labels = [("listener", name), ("protocol", protocol), ("kind", violation.0)];
            self.metrics.counter(names::VIOLATIONS_TOTAL, &labels)
        });
        counter.increment(1);
    }
}

/// Whether to log a repeated event now. `last_logged` is the time of the last log line.
pub(crate) fn is_due(last_logged: &Cell<Option<Instant>>) -> bool {
    let due = last_logged.get().is_none_or(|logged| logged.elapsed() >= WARN_INTERVAL);
    if due {
        last_logged.set(Some(Instant::now()));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(workers: usize, max_connections: usize) -> Arc<Listener> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let protocol = protocols::plain("tcp").unwrap();
        let plan = ListenerPlan::new("test", address, protocol, "test");
        let limit = || Arc::new(CardinalityLimit::new(100, Counter::noop()));
        let state = ListenerState::new(&plan, workers, [limit(), limit()]);
        state.max_connections.store(max_connections, Relaxed);
        Listener::new(Arc::new(plan), address, state, None)
    }

    #[test]
    fn sixteen_connections_on_four_workers_are_four_each() {
        let (listener, total) = (listener(4, 100), ConnectionBudget::new(100, 100));
        let slots: Vec<_> = (0..16).map(|_| listener.take_slot(&total, 2).unwrap()).collect();
        assert!(listener.state.open.iter().all(|open| open.load(Relaxed) == 4));
        drop(slots);
        assert!(listener.state.open.iter().all(|open| open.load(Relaxed) == 0));
    }

    #[test]
    fn released_slots_are_taken_again_first() {
        let (listener, total) = (listener(4, 100), ConnectionBudget::new(100, 100));
        let mut slots: Vec<_> = (0..16).map(|_| listener.take_slot(&total, 0).unwrap()).collect();
        slots.retain(|(worker, _)| *worker != 3);
        for _ in 0..4 {
            let (worker, slot) = listener.take_slot(&total, 0).unwrap();
            assert_eq!(worker, 3);
            slots.push((worker, slot));
        }
    }

    #[test]
    fn no_slot_is_left_at_the_limit_of_the_listener_or_the_proxy() {
        let (one, two, total) = (listener(2, 2), listener(2, 100), ConnectionBudget::new(3, 100));
        let first = (one.take_slot(&total, 0).unwrap(), one.take_slot(&total, 0).unwrap());
        assert!(one.take_slot(&total, 0).is_none(), "the listener is full");
        let third = two.take_slot(&total, 0).unwrap();
        assert!(two.take_slot(&total, 0).is_none(), "the proxy is full");
        drop(first);
        assert!(one.take_slot(&total, 0).is_some());
        drop(third);
    }

    #[test]
    fn a_closed_connection_frees_descriptors_for_another() {
        let (listener, total) = (listener(1, 100), ConnectionBudget::new(100, 1));
        let fits_another = || total.fits_another(&listener.state.share);
        assert!(fits_another());
        let slot = listener.take_slot(&total, 0).unwrap();
        assert!(!fits_another());
        drop(slot);
        assert!(fits_another());
    }
}
