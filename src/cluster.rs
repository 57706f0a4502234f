//! A named set of endpoints: which there are, which one is next, how to connect to it.
//!
//! One cluster is shared by all workers. Picking reads a snapshot and atomics and never waits;
//! only look-ups of names and reports take a lock. No protocol is known here.

mod balance;
mod connect;
mod discovery;
mod endpoint;

pub use connect::{Attempt, ConnectError, Upstream};
pub use discovery::{Answer, Lookup, Resolve, SystemResolver};
pub use endpoint::{Endpoint, Lease};

use crate::config::plan::ClusterPlan;
use arc_swap::ArcSwap;
use balance::Balance;
use discovery::Names;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// A named set of endpoints.
pub struct Cluster {
    plan: Arc<ClusterPlan>,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    balance: Balance,
    names: Names,
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
            endpoints: ArcSwap::default(),
            balance: Balance::new(plan.lb_policy),
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
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// The endpoint whose turn it is, leaving out those in `except`; `None` if none is left.
    pub fn pick(&self, except: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        self.balance.pick(&self.endpoints.load(), except).cloned()
    }

    /// What the admin interface shows.
    pub fn report(&self) -> Value {
        let endpoints: Vec<Value> = self.endpoints().iter().map(|e| e.report()).collect();
        json!({
            "name": &*self.plan.name,
            "lb_policy": balance::word(self.plan.lb_policy),
            "endpoints": endpoints,
            "dns": self.names.report(),
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
