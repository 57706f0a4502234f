//! A named set of endpoints: which there are, which one is next, how to connect to it.
//!
//! One cluster is shared by all workers. Picking reads a snapshot and atomics and never waits;
//! only look-ups of names and reports take a lock. No protocol is known here.

mod balance;
mod breaker;
mod connect;
mod discovery;
mod endpoint;
mod set;
mod spare;

pub use breaker::{Limit, OperationPermit, Refused};
pub use connect::{Attempt, ConnectError, Upstream};
pub use discovery::{Answer, Lookup, Resolve, Service, Services, SystemResolver};
pub use endpoint::{Endpoint, Lease, Out, Wish};
pub use spare::Spares;

use crate::config::plan::ClusterPlan;
use arc_swap::ArcSwap;
use balance::Turns;
use breaker::Breaker;
use discovery::Names;
use operation::Outcome;
use serde_json::{Value, json};
use set::{Member, Set};
use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

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
    /// Every metric is registered with `recorder` here, so nothing looks one up later.
    pub fn new(plan: Arc<ClusterPlan>, recorder: &dyn metrics::Recorder) -> Arc<Self> {
        Self::with_resolver(plan, recorder, Box::new(SystemResolver))
    }

    /// A cluster whose names are looked up by `resolver`.
    pub fn with_resolver(
        plan: Arc<ClusterPlan>,
        recorder: &dyn metrics::Recorder,
        resolver: Box<dyn Resolve>,
    ) -> Arc<Self> {
        let cluster = Self {
            set: ArcSwap::from_pointee(Set::new(&plan, Vec::new(), Instant::now())),
            changing: Mutex::default(),
            turns: Turns::default(),
            nudge: OnceLock::new(),
            breaker: Breaker::new(&plan.name, &plan.circuit_breaker, recorder),
            names: Names::new(&plan, recorder, resolver),
            plan,
        };
        cluster.publish();
        Arc::new(cluster)
    }

    /// Its name in logs and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.plan.name
    }

    /// The endpoints that there are now.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.set.load().endpoints().cloned().collect()
    }

    /// The endpoint whose turn it is; `None` if none is left.
    pub fn pick(&self, ask: Ask<'_>) -> Option<Arc<Endpoint>> {
        self.set.load().table.pick(ask, &self.turns).cloned()
    }

    /// Has `nudge` called whenever connections should look at what their endpoints wish.
    pub fn nudges(&self, nudge: impl Fn() + Send + Sync + 'static) {
        let _ = self.nudge.set(Box::new(nudge));
    }

    /// Takes note of how an operation on an endpoint ended, after it took so long. Called for
    /// each operation, by any worker: no lock, no allocation.
    fn observe(&self, _endpoint: &Arc<Endpoint>, _outcome: Outcome, _took: Duration) {}

    /// Makes the set anew: an endpoint's state has changed.
    #[expect(dead_code, reason = "states do not change yet")]
    fn refresh(&self) {
        self.change(<[Member]>::to_vec);
    }

    /// Makes the set anew from the members that `change` makes of those before.
    fn change(&self, change: impl FnOnce(&[Member]) -> Vec<Member>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let members = change(&self.set.load().members);
        self.set.store(Arc::new(Set::new(&self.plan, members, Instant::now())));
        // An endpoint more has room for who waits.
        self.breaker.make_room();
    }

    /// Has every connection look at what its endpoint wishes.
    fn nudge(&self) {
        if let Some(nudge) = self.nudge.get() {
            nudge();
        }
    }

    /// What the admin interface shows.
    pub fn report(&self) -> Value {
        let endpoints: Vec<Value> = self.set.load().endpoints().map(|e| e.report()).collect();
        json!({
            "name": &*self.plan.name,
            "lb_policy": balance::word(self.plan.lb_policy),
            "endpoints": endpoints,
            "dns": self.names.report(),
            "circuit_breaker": self.breaker.report(),
        })
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("plan", &self.plan).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
