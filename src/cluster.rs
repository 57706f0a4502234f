//! A named set of endpoints: which there are, which one is next, how to connect to it.
//!
//! One cluster is shared by all workers. Picking reads a snapshot and atomics and never waits;
//! only look-ups of names and reports take a lock. No protocol is known here.

mod balance;
mod breaker;
mod by_hand;
mod connect;
mod discovery;
mod endpoint;
mod events;
mod health;
mod outlier;
mod preconnect;
mod report;
mod set;

pub use breaker::{Limit, OperationPermit, Refused};
pub use by_hand::NoSuchEndpoint;
pub use connect::{Attempt, ConnectError, Upstream, Whom, is_local};
pub use discovery::{Answer, Lookup, Resolve, Service, Services, SystemResolver};
pub use endpoint::{Endpoint, Lease, Out, Wish};
pub use preconnect::PreconnectPool;

use crate::{config::plan::ClusterPlan, protocols::Pooling};
use arc_swap::ArcSwap;
use balance::Turns;
use breaker::Breaker;
use discovery::Names;
use events::{Event, Events, Seldom};
use metrics::Gauge;
use process::log_file::Sink;
use set::{Member, Set};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;
use tollgate_metrics::{Metrics, table};

/// A named set of endpoints.
pub struct Cluster {
    plan: Arc<ClusterPlan>,
    set: ArcSwap<Set>,
    /// Held while a set is made from the one before, so that no change is lost.
    changing: Mutex<()>,
    turns: Turns,
    breaker: Breaker,
    names: Names,
    /// Has every connection look at what its endpoint wishes.
    nudge: OnceLock<Nudge>,
    /// Held while it is decided who is ejected, so that all together are not too many.
    ejecting: Mutex<()>,
    /// Endpoints have come or gone.
    set_changed: Notify,
    /// Health checks have changed an endpoint's state.
    stale: Notify,
    /// An ejection or a drain has begun, whose end has to be awaited.
    wake: Notify,
    events: Events,
    /// Whether to tell an operator that this machine lacks what a connection takes.
    local_errors: Seldom,
    /// 1 while it panics.
    panic: Gauge,
}

/// See [`Cluster::nudges`].
type Nudge = Box<dyn Fn() + Send + Sync>;

/// What decides which endpoint is picked, beside the cluster's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The hash of the key, for policies that pick by key: see [`Cluster::hash`].
    pub hash: Option<u64>,
    /// Endpoints to be left out: those tried already.
    pub except: &'a [Arc<Endpoint>],
}

impl Cluster {
    /// A cluster whose names are looked up the way the system does it. Addresses are there at
    /// once, names after [`resolve`](Cluster::resolve) or [`discover`](Cluster::discover).
    ///
    /// What it counts is registered with `metrics`: the gauges here, the rest of an endpoint's when
    /// it is used first. Nothing looks one up for an operation.
    pub fn new(plan: Arc<ClusterPlan>, metrics: &Metrics) -> Arc<Self> {
        Self::with_resolver(plan, metrics, Box::new(SystemResolver))
    }

    /// A cluster whose names are looked up by `resolver`.
    pub fn with_resolver(
        plan: Arc<ClusterPlan>,
        metrics: &Metrics,
        resolver: Box<dyn Resolve>,
    ) -> Arc<Self> {
        let cluster = Self {
            set: ArcSwap::from_pointee(Set::new(&plan, Vec::new(), Instant::now())),
            changing: Mutex::default(),
            turns: Turns::new(&plan),
            nudge: OnceLock::new(),
            ejecting: Mutex::default(),
            set_changed: Notify::new(),
            stale: Notify::new(),
            wake: Notify::new(),
            events: Events::new(Arc::clone(&plan.name)),
            local_errors: Seldom::default(),
            panic: metrics.gauge(table::CLUSTER_PANIC, &[("cluster", &plan.name)]),
            breaker: Breaker::new(&plan.name, &plan.circuit_breaker, metrics),
            names: Names::new(&plan, metrics, resolver),
            plan,
        };
        cluster.publish();
        Arc::new(cluster)
    }

    /// Its name in logs and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.plan.name
    }

    /// How its endpoints are spoken to, where connections are shared by operations.
    pub fn pooling(&self) -> &Pooling {
        &self.plan.pooling
    }

    /// The endpoints that there are now.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.set.load().endpoints().cloned().collect()
    }

    /// Whether it has no endpoint at all: none of its names could be looked up so far.
    pub fn is_empty(&self) -> bool {
        self.set.load().members.is_empty()
    }

    /// The endpoint whose turn it is; `None` if none is left.
    pub fn pick(&self, ask: Ask<'_>) -> Option<Arc<Endpoint>> {
        self.set.load().table.pick(ask, &self.turns).cloned()
    }

    /// Has `nudge` called whenever connections should look at what their endpoints wish.
    pub fn nudges(&self, nudge: impl Fn() + Send + Sync + 'static) {
        let _ = self.nudge.set(Box::new(nudge));
    }

    /// Has every connection look at what its endpoint wishes.
    fn nudge(&self) {
        if let Some(nudge) = self.nudge.get() {
            nudge();
        }
    }

    /// Has what happens to endpoints written to `file`, as JSON lines.
    pub fn log_events(&self, file: Sink) {
        self.events.write_to(file);
    }

    /// Makes the set anew: an endpoint's state has changed.
    fn refresh(&self) {
        self.change(<[Member]>::to_vec);
    }

    /// Makes the set anew from the members that `change` makes of those before.
    fn change(&self, change: impl FnOnce(&[Member]) -> Vec<Member>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.set.load_full();
        let members = change(&before.members);
        let (added, removed) = difference(&before.members, &members);
        if self.plan.health_check.as_ref().is_some_and(|check| !check.initial_healthy) {
            for endpoint in &added {
                endpoint.take_out(Out::Unhealthy);
            }
        }
        // Virtual, where tests have it so.
        let now = tokio::time::Instant::now().into_std();
        let set = Arc::new(Set::new(&self.plan, members, now));
        self.set.store(Arc::clone(&set));
        set.endpoints().for_each(|endpoint| endpoint.count(true));
        removed.iter().for_each(|endpoint| endpoint.count(false));
        if !added.is_empty() || !removed.is_empty() {
            self.events.tell(&Event::Set { added: &added, removed: &removed });
            self.set_changed.notify_one();
        }
        self.tell_panic(&before, &set);
        // An endpoint more has room for who waits.
        self.breaker.make_room();
    }

    /// Tells that panic was entered or left.
    fn tell_panic(&self, before: &Set, now: &Set) {
        match (before.panics(), now.panics()) {
            (None, Some(reason)) => {
                self.panic.increment(1.0);
                self.events.tell(&Event::Panic { entered: true, reason: &reason });
            }
            (Some(_), None) => {
                self.panic.decrement(1.0);
                self.events.tell(&Event::Panic { entered: false, reason: &now.words() });
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
        f.debug_struct("Cluster").field("plan", &self.plan).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
