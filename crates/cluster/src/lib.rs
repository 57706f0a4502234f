//! A cluster: a named set of endpoints, the choice of the next one, and connections to it.
//!
//! One cluster is shared by all workers. Picking reads a snapshot and atomics and never blocks;
//! only look-ups and reports take a lock. This module knows no protocol.

mod balance;
mod breaker;
mod certificate_end;
mod connect;
mod connection_pool;
mod count;
mod cutover;
mod destination;
mod discovery;
mod endpoint;
mod events;
mod exchange;
mod health;
mod listener_handshakes;
mod log_throttle;
mod mirror;
mod operator;
mod outlier;
mod pins;
mod plan;
mod preconnect;
mod reconfigure;
mod replica_set;
mod report;
mod set;
mod tls_hint;

pub use breaker::{BreakerLimit, OperationPermit, QueueError};
pub use connect::{ConnectError, ConnectOptions, FailedAttempt, UpstreamConnection, is_local};
pub use connection_pool::{ConnectionPool, PooledConnection, PooledSocket, TakeError, TakeOptions};
pub use cutover::{
    NotPaused, PauseError, PauseOptions, PauseReport, PausedWork, SwitchError, SwitchReport,
    SwitchTarget,
};
pub use discovery::{HostAnswer, Lookup, Resolver, SrvAnswer, SrvRecord, SystemResolver};
pub use endpoint::{CloseRequest, Endpoint, Exclusion, Lease, PoolReport};
pub use listener_handshakes::ListenerRegistration;
pub use mirror::{Mirror, MirrorPlan};
pub use operator::NoSuchEndpoint;
pub use plan::{
    BreakerPlan, ClusterPlan, DnsPlan, EndpointPlan, EndpointsFile, FailoverPlan,
    FailurePercentagePlan, HashPlan, HealthCheckPlan, InitialHealth, KeepalivePlan, LbPolicy,
    LostRequests, OnPanic, OutlierPlan, PanicPlan, PoolPlan, ProbeConfig, RateDetector,
    ReadEndpoints, ReplicaSetPlan, RetryableWrites, SessionFailures, SlowStartPlan,
    SuccessRatePlan,
};
pub use preconnect::PreconnectPool;

use arc_swap::{ArcSwap, Guard};
use balance::LbState;
use breaker::Breaker;
use certificate_end::CertificateEnds;
use cutover::Cutover;
use destination::Destination;
use discovery::Discovery;
use events::{Event, Events};
use log_throttle::LogThrottle;
use metrics::Gauge;
use operation::Placement;
use pins::Pins;
use process::log_file::Sink;
use replica_set::Topology;
use set::{Member, Set};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tls_hint::TlsHint;
use tokio::sync::{Notify, watch};
use tollgate_metrics::{Metrics, table};

/// A named set of endpoints.
pub struct Cluster {
    name: Arc<str>,
    /// As configured; a reload of the config replaces it.
    plan: ArcSwap<ClusterPlan>,
    /// Marked as changed when the plan was replaced.
    plan_changes: watch::Sender<()>,
    /// Incremented when connections are made in another way: see `reconfigure`.
    connect_generation: AtomicU64,
    /// Where its connections lead: what the plan says, or what a switch has replaced.
    destination: ArcSwap<Destination>,
    /// Whether its endpoints have roles.
    has_roles: AtomicBool,
    /// The pause, and what depends on it.
    cutover: Arc<Cutover>,
    set: ArcSwap<Set>,
    /// Held while a new set replaces the old one, so that no change is lost.
    update_lock: Mutex<()>,
    lb_state: LbState,
    breaker: Breaker,
    names: Discovery,
    /// Makes every connection check its endpoint's close request.
    close_notifier: OnceLock<CloseNotifier>,
    /// Held while an ejection is decided, so that `max_ejection_percent` holds for all together.
    ejection_lock: Mutex<()>,
    /// Endpoints were added or removed.
    set_changed: Notify,
    /// Health checks have changed an endpoint's state.
    refresh_needed: Notify,
    /// Marked as changed when endpoints are added or removed, or change their role.
    changes: watch::Sender<()>,
    /// What is known of the replica set as a whole.
    topology: Topology,
    /// Which endpoint holds what.
    pins: Pins,
    /// An ejection or a drain has begun, whose end must be scheduled.
    sweep_needed: Notify,
    events: Events,
    /// When connections close because of the certificate that they were opened with.
    certificate_ends: CertificateEnds,
    tls_hint: TlsHint,
    /// Throttles the log message about missing local resources.
    local_errors: LogThrottle,
    /// 1 while the cluster is in panic.
    panic: Gauge,
    /// For what is counted on first use.
    metrics: Metrics,
}

/// See [`Cluster::on_close_request`].
type CloseNotifier = Box<dyn Fn() + Send + Sync>;

/// Options of one pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickOptions<'a> {
    /// The hash of the key, for policies that pick by key: see [`Cluster::hash`].
    pub hash: Option<u64>,
    /// Endpoints to leave out: those tried already.
    pub exclude: &'a [Arc<Endpoint>],
    /// Where the operation may go; `None`: to the primary, where endpoints have roles.
    pub placement: Option<&'a Placement>,
}

impl Cluster {
    /// A cluster that resolves names as the system does. Addresses are known at once, names after
    /// [`resolve`](Cluster::resolve) or [`discover`](Cluster::discover).
    ///
    /// Its gauges are registered with `metrics` here, the other metrics of an endpoint on first
    /// use. No operation looks one up.
    pub fn new(plan: Arc<ClusterPlan>, metrics: &Metrics) -> Arc<Self> {
        Self::with_resolver(plan, metrics, Box::new(SystemResolver))
    }

    /// A cluster whose names are resolved by `resolver`.
    pub(crate) fn with_resolver(
        plan: Arc<ClusterPlan>,
        metrics: &Metrics,
        resolver: Box<dyn Resolver>,
    ) -> Arc<Self> {
        let cluster = Self {
            destination: ArcSwap::from_pointee(Destination::of(&plan)),
            has_roles: AtomicBool::new(plan.replica_set.is_some()),
            cutover: Arc::new(Cutover::new(&plan.name, metrics)),
            set: ArcSwap::from_pointee(Set::new(&plan, Vec::new(), Instant::now())),
            update_lock: Mutex::default(),
            lb_state: LbState::new(&plan),
            close_notifier: OnceLock::new(),
            ejection_lock: Mutex::default(),
            set_changed: Notify::new(),
            refresh_needed: Notify::new(),
            changes: watch::Sender::new(()),
            topology: Topology::default(),
            pins: Pins::default(),
            sweep_needed: Notify::new(),
            events: Events::new(Arc::clone(&plan.name)),
            certificate_ends: CertificateEnds::default(),
            tls_hint: TlsHint::default(),
            local_errors: LogThrottle::default(),
            panic: metrics.gauge(table::CLUSTER_PANIC, &[("cluster", &plan.name)]),
            breaker: Breaker::new(&plan.name, &plan.circuit_breaker, metrics),
            names: Discovery::new(&plan, metrics, resolver),
            metrics: metrics.clone(),
            name: Arc::clone(&plan.name),
            plan: ArcSwap::new(plan),
            plan_changes: watch::Sender::new(()),
            connect_generation: AtomicU64::new(0),
        };
        cluster.publish();
        Arc::new(cluster)
    }

    /// The version of the PROXY protocol header that connections begin with, if they do.
    pub fn proxy_protocol(&self) -> Option<proxy_protocol::Version> {
        self.plan().proxy_protocol
    }

    /// Differs between connections that were made in different ways.
    fn connect_generation(&self) -> u64 {
        self.connect_generation.load(Relaxed)
    }

    /// As configured now.
    pub(crate) fn plan(&self) -> Guard<Arc<ClusterPlan>> {
        self.plan.load()
    }

    /// Its name in logs and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The current endpoints.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.set.load().endpoints().cloned().collect()
    }

    /// Whether it has no endpoint at all: no name could be resolved so far.
    pub fn is_empty(&self) -> bool {
        self.set.load().members.is_empty()
    }

    /// The next endpoint; `None` if none is left.
    pub fn pick(&self, options: PickOptions<'_>) -> Option<Arc<Endpoint>> {
        let set = self.set.load();
        if self.has_roles() {
            return set.select(options).cloned();
        }
        // Between one there is no choice.
        if let [only] = &*set.members
            && only.endpoint.usable()
            && options.exclude.is_empty()
        {
            return Some(Arc::clone(&only.endpoint));
        }
        match options.placement {
            Some(Placement::Endpoint(address)) => set.at(*address).cloned(),
            _ => set.table.pick(options, &self.lb_state).cloned(),
        }
    }

    /// Whether it has an endpoint besides these.
    pub(crate) fn has_others(&self, these: &[Arc<Endpoint>]) -> bool {
        let set = self.set.load();
        let is_other = |it: &Arc<Endpoint>| !these.iter().any(|one| Arc::ptr_eq(one, it));
        set.members.len() > these.len()
            && set.endpoints().any(|endpoint| endpoint.usable() && is_other(endpoint))
    }

    /// Notifies operations that wait for another endpoint, and what follows the members.
    fn notify_change(&self) {
        self.changes.send_replace(());
    }

    /// Registers `notify`, which is called whenever connections should check the close request of
    /// their endpoints.
    pub fn on_close_request(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.close_notifier.set(Box::new(notify));
    }

    /// Makes every connection check its endpoint's close request.
    fn notify_connections(&self) {
        if let Some(notify) = self.close_notifier.get() {
            notify();
        }
    }

    /// Writes endpoint events to `file`, as JSON lines; `None`: to none.
    pub fn log_events(&self, file: Option<Sink>) {
        self.events.write_to(file);
    }

    /// Rebuilds the set after an endpoint's state has changed.
    fn refresh(&self) {
        self.update_set(<[Member]>::to_vec);
    }

    /// Rebuilds the set from the members that `change` returns for the current ones.
    fn update_set(&self, change: impl FnOnce(&[Member]) -> Vec<Member>) {
        let _changing = self.update_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.set.load_full();
        let members = change(&before.members);
        let (added, removed) = difference(&before.members, &members);
        let plan = self.plan();
        let check = plan.health_check.as_ref();
        if check.is_some_and(|check| check.initial == InitialHealth::Unhealthy) {
            for endpoint in &added {
                endpoint.exclude(Exclusion::Unhealthy);
            }
        }
        // Paused in some tests.
        let now = tokio::time::Instant::now().into_std();
        let set = Arc::new(Set::new(&plan, members, now));
        self.set.store(Arc::clone(&set));
        set.endpoints().for_each(|endpoint| endpoint.update_gauges(true));
        removed.iter().for_each(|endpoint| endpoint.update_gauges(false));
        if !added.is_empty() || !removed.is_empty() {
            self.events.report(&Event::Set { added: &added, removed: &removed });
            self.set_changed.notify_one();
            self.notify_change();
        }
        self.report_panic(&before, &set);
        // An added endpoint has capacity for waiting clients.
        self.breaker.notify_capacity();
    }

    /// Reports that panic was entered or left.
    fn report_panic(&self, before: &Set, now: &Set) {
        if self.has_roles() {
            // Roles decide which member is used, and not how many there are.
            return;
        }
        match (before.panic_reason(), now.panic_reason()) {
            (None, Some(reason)) => {
                self.panic.increment(1.0);
                self.events.report(&Event::Panic { entered: true, reason: &reason });
            }
            (Some(_), None) => {
                self.panic.decrement(1.0);
                self.events.report(&Event::Panic { entered: false, reason: &now.describe() });
            }
            _ => {}
        }
    }
}

/// The endpoints of `after` that are not in `before`, and the reverse.
fn difference(before: &[Member], after: &[Member]) -> (Vec<Arc<Endpoint>>, Vec<Arc<Endpoint>>) {
    let same = |(a, b): (&Member, &Member)| Arc::ptr_eq(&a.endpoint, &b.endpoint);
    if before.len() == after.len() && before.iter().zip(after).all(same) {
        return Default::default();
    }
    let without = |these: &[Member], those: &[Member]| {
        let known: BTreeSet<_> = those.iter().map(|m| Arc::as_ptr(&m.endpoint)).collect();
        let endpoints = these.iter().map(|m| &m.endpoint);
        endpoints.filter(|e| !known.contains(&Arc::as_ptr(e))).cloned().collect()
    };
    (without(after, before), without(before, after))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("plan", &**self.plan()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
