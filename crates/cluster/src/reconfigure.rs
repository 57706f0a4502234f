//! Reconfiguration: a reload of the config replaces a cluster's plan while operations go on.
//!
//! The cluster stays the same object, so that what it has learned lives on: health, ejections, counts, pools,
//! pins, a pause. Endpoints that both plans have stay too, with their connections.

use crate::{
    Cluster, Exclusion,
    plan::{ClusterPlan, ReplicaSetPlan},
};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tls::ClientTls;

/// The reason in the event of an endpoint that is healthy because no check is configured.
const UNCHECKED: &str = "it is not checked any more";

impl Cluster {
    /// Replaces the plan by one with the same name. Operations under way end as they began. Endpoints that the new
    /// plan does not have are drained; connections that operations share close, as soon as they are idle, if
    /// new ones are made in another way.
    ///
    /// The caller updates the pools of workers: see [`ConnectionPool::set_plan`](crate::ConnectionPool::set_plan) and
    /// [`PreconnectPool::follow_plan`](crate::PreconnectPool::follow_plan).
    pub fn reconfigure(&self, plan: Arc<ClusterPlan>) {
        let before = self.plan.swap(Arc::clone(&plan));
        self.breaker.set_plan(&plan.circuit_breaker);
        let load = self.endpoints().iter().map(|endpoint| endpoint.load()).sum();
        self.lb_state.set_plan(&plan, load);
        self.follow_destination(&before, &plan);
        if before.starttls != plan.starttls || before.proxy_protocol != plan.proxy_protocol {
            self.begin_connect_generation();
        }
        if plan.health_check.is_none() {
            self.forget_health();
        }
        // With other weights, or another load balancing policy.
        self.refresh();
        self.plan_changes.send_replace(());
        self.notify_change();
        self.notify_connections();
    }

    /// Drains the endpoints: the config does not have the cluster any more. Connections close when they are idle,
    /// and at the latest after `drain_timeout`.
    pub fn retire(&self) {
        self.set_destination(None, None);
        self.replace_endpoints(Vec::new());
        self.notify_change();
        self.notify_connections();
    }

    /// Whether connections to endpoints that have left may be open.
    pub fn is_draining(&self) -> bool {
        !self.leaving_endpoints().is_empty()
    }

    /// Runs a task that depends on the plan, and runs it again whenever the plan was replaced. Never ends.
    pub async fn follow_plan<F: Future<Output = ()>>(self: Arc<Self>, task: fn(Arc<Self>) -> F) {
        let mut changes = self.plan_changes.subscribe();
        loop {
            // The sender lives as long as the cluster.
            tokio::select! {
                () = task(Arc::clone(&self)) => { let _ = changes.changed().await; }
                _ = changes.changed() => {}
            }
        }
    }

    /// New connections are made in another way from now on. Those that operations share close when idle.
    pub(crate) fn begin_connect_generation(&self) {
        self.connect_generation.fetch_add(1, Relaxed);
    }

    /// Leads connections where the new plan says, if that is elsewhere than before. A switch by an operator
    /// holds otherwise.
    fn follow_destination(&self, before: &ClusterPlan, plan: &ClusterPlan) {
        let same_tls = is_same_tls(before.tls.as_ref(), plan.tls.as_ref());
        let same_set = is_same_set(before.replica_set.as_ref(), plan.replica_set.as_ref());
        let same_endpoints = before.endpoints == plan.endpoints && before.file() == plan.file();
        let name = |plan: &ClusterPlan| plan.replica_set.as_ref().map(|set| set.name.clone());
        if same_tls && same_set && same_endpoints {
            return;
        }
        if !same_tls || !same_set {
            if name(before) != name(plan) {
                self.forget_term();
            }
            self.lead_to(plan.replica_set.clone(), plan.tls.clone());
            if !same_tls {
                self.begin_connect_generation();
            }
        }
        // Of another set, or of an operator's switch, nothing is kept.
        let keeps_members = name(before).is_some() && name(before) == name(plan)
            || before.file().is_some() && before.file() == plan.file();
        self.cutover.forget_switch();
        self.set_configured(plan, keeps_members);
    }

    /// Endpoints that are not checked any more are not unhealthy.
    fn forget_health(&self) {
        for endpoint in &self.endpoints() {
            if endpoint.is_excluded(Exclusion::Unhealthy) {
                self.health_changed(endpoint, true, UNCHECKED);
            }
        }
    }
}

impl ClusterPlan {
    fn file(&self) -> Option<&std::path::Path> {
        self.endpoints_file.as_ref().map(|file| &*file.path)
    }
}

/// Whether connections are encrypted in the same way. Of equal settings the config keeps the object.
fn is_same_tls(before: Option<&Arc<ClientTls>>, now: Option<&Arc<ClientTls>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (before, now) => before.is_none() && now.is_none(),
    }
}

fn is_same_set(before: Option<&ReplicaSetPlan>, now: Option<&ReplicaSetPlan>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            (&before.name, &before.seeds, &before.members) == (&now.name, &now.seeds, &now.members)
        }
        (before, now) => before.is_none() && now.is_none(),
    }
}

#[cfg(test)]
mod tests;
