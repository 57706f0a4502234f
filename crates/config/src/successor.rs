//! A plan as the successor of the one that runs: what both have is the same object, so that a reload leaves it
//! alone.

use crate::{
    changes::{Changes, ConfigObject},
    plan::{ListenerPlan, Plan},
};
use cluster::ClusterPlan;
use std::sync::Arc;

impl Plan {
    /// This plan, with the objects of the running one where they are the same, and what differs. What a running
    /// process can't change is as it was.
    pub fn succeeding(mut self, running: &Plan) -> (Plan, Changes) {
        let mut changes = Changes::between(&running.to_json(), &self.to_json());
        self.workers = running.workers;
        self.upgrade_socket.clone_from(&running.upgrade_socket);
        self.admin.clone_from(&running.admin);
        self.keep_clusters(running, &mut changes);
        self.keep_listeners(running, &mut changes);
        for rule in &self.policies {
            let known = running.policies.iter().find(|known| known.name == rule.name);
            if known.is_some_and(|known| known.source != rule.source) {
                changes.add_hidden(ConfigObject::Policy, &rule.name);
            }
        }
        if !self.has_same_tracing(running) {
            changes.add_hidden(ConfigObject::Setting, "tracing");
        }
        (self, changes)
    }

    /// Whether spans go to the same place, and the same ones.
    pub fn has_same_tracing(&self, other: &Plan) -> bool {
        match (&self.tracing, &other.tracing) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn keep_clusters(&mut self, running: &Plan, changes: &mut Changes) {
        for plan in &mut self.clusters {
            let Some(known) = running.cluster(&plan.name) else {
                continue;
            };
            if known.source != plan.source {
                changes.add_hidden(ConfigObject::Cluster, &plan.name);
            }
            if !changes.has(ConfigObject::Cluster, &plan.name) && known.zone == plan.zone {
                *plan = Arc::clone(known);
                continue;
            }
            // The files are watched, and their sessions go on.
            let (was, is) = (known.tls.as_ref(), plan.tls.as_ref());
            let is_same_tls = was.zip(is).is_some_and(|(was, is)| was.plan() == is.plan());
            if let Some(plan) = Arc::get_mut(plan).filter(|_| is_same_tls) {
                plan.tls.clone_from(&known.tls);
            }
        }
    }

    fn keep_listeners(&mut self, running: &Plan, changes: &mut Changes) {
        let mut listeners = std::mem::take(&mut self.listeners);
        for plan in &mut listeners {
            let Some(known) = running.listeners.iter().find(|known| known.name == plan.name) else {
                continue;
            };
            if known.source != plan.source {
                changes.add_hidden(ConfigObject::Listener, &plan.name);
            }
            let is_changed = changes.differ_beyond_limits(&plan.name);
            if !is_changed && self.reaches_clusters_alike(running, plan) {
                *plan = Arc::clone(known);
                continue;
            }
            let (was, is) = (known.tls.as_ref(), plan.tls.as_ref());
            let is_same_tls = was.zip(is).is_some_and(|(was, is)| was.plan() == is.plan());
            if let Some(plan) = Arc::get_mut(plan).filter(|_| is_same_tls) {
                plan.tls.clone_from(&known.tls);
            }
        }
        self.listeners = listeners;
    }

    /// Whether a listener reaches its clusters in the same way as before: with or without a pool, with the same
    /// settings of HTTP, and with the same recovery.
    fn reaches_clusters_alike(&self, running: &Plan, listener: &ListenerPlan) -> bool {
        listener.clusters().iter().all(|name| {
            let [was, is] = [running, self].map(|plan| plan.cluster(name));
            let shape = |plan: Option<&Arc<ClusterPlan>>| {
                plan.map(|it| (it.pool.is_some(), it.failover, it.replica_set.is_some()))
            };
            let pooling = |plan: &Plan| serde_json::to_value(plan.pooling.get(name)).ok();
            shape(was) == shape(is) && pooling(running) == pooling(self)
        })
    }

    /// The cluster with this name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<ClusterPlan>> {
        self.clusters.iter().find(|cluster| *cluster.name == *name)
    }
}
