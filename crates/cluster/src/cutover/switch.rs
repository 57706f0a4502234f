//! The switch of a paused cluster: other endpoints replace its own.

use super::pause_error::NotPaused;
use crate::{
    Cluster, Endpoint, PickOptions,
    events::{CutoverStep, Event},
    plan::{ClusterPlan, EndpointPlan, ReplicaSetPlan},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tls::ClientTls;
use tokio::time;

/// How long the primary of a replica set may take to be found after a switch.
const FIND_PRIMARY: Duration = Duration::from_secs(5);

/// What a cluster points to.
#[derive(Clone, Debug, Default)]
pub struct SwitchTarget {
    /// In words: the cluster of the config, or the addresses.
    pub name: String,
    /// Fixed endpoints.
    pub endpoints: Vec<EndpointPlan>,
    /// The replica set whose members are the endpoints.
    pub replica_set: Option<ReplicaSetPlan>,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<Arc<ClientTls>>,
}

/// The result of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// What the cluster points to.
    pub to: String,
    /// Its endpoints.
    pub endpoints: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Why a cluster was not switched. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It is not paused.
    #[error(transparent)]
    NotPaused(#[from] NotPaused),
    /// The endpoints to come can't serve.
    #[error("nothing has changed: {0}")]
    Unusable(String),
    /// The other cluster differs in what a switch does not take over.
    #[error("nothing has changed: {0}")]
    Differs(String),
}

impl ClusterPlan {
    /// What a cluster with this plan points to.
    fn target(&self) -> SwitchTarget {
        SwitchTarget {
            name: format!("cluster `{}` of the config", self.name),
            endpoints: self.endpoints.clone(),
            replica_set: self.replica_set.clone(),
            tls: self.tls.clone(),
        }
    }
}

impl Cluster {
    /// What another cluster of the config points to, for a switch of this one.
    ///
    /// # Errors
    /// It differs in what a switch does not take over.
    pub fn target_of(&self, other: &Cluster) -> Result<SwitchTarget, SwitchError> {
        let (own, plan) = (self.plan(), other.plan());
        let key = match () {
            () if plan.endpoints_file.is_some() => "endpoints_file",
            () if own.starttls != plan.starttls => "starttls",
            () if own.proxy_protocol != plan.proxy_protocol => "proxy_protocol",
            () => return Ok(plan.target()),
        };
        Err(SwitchError::Differs(format!(
            "a switch does not take over `{key}` of cluster `{}`: name its endpoints instead",
            plan.name
        )))
    }

    /// These endpoints, reached as those of the cluster are now.
    pub fn target_at(&self, endpoints: Vec<EndpointPlan>) -> SwitchTarget {
        let name = endpoints.iter().map(|it| it.at.to_string()).collect::<Vec<_>>().join(", ");
        let tls = self.destination.load().tls.clone();
        SwitchTarget { name, endpoints, replica_set: None, tls }
    }

    /// This replica set, whose members are reached as the endpoints of the cluster are now.
    pub fn target_set(&self, replica_set: ReplicaSetPlan) -> SwitchTarget {
        let seeds: Vec<_> = replica_set.seeds.iter().map(ToString::to_string).collect();
        let name = format!("replica set `{}` at {}", replica_set.name, seeds.join(", "));
        let tls = self.destination.load().tls.clone();
        SwitchTarget { name, endpoints: Vec::new(), replica_set: Some(replica_set), tls }
    }

    /// Points the cluster to other endpoints, until the process ends. It stays paused.
    ///
    /// # Errors
    /// It is not paused, or the endpoints to come can't serve. Nothing has changed then.
    pub async fn switch(
        self: &Arc<Self>,
        target: SwitchTarget,
    ) -> Result<SwitchReport, SwitchError> {
        let _request = self.cutover.requests.acquire().await;
        let began = time::Instant::now();
        self.check_paused()?;
        let greeting = self.check_successor(&target).await.map_err(SwitchError::Unusable)?;
        // It may have resumed meanwhile.
        self.check_paused()?;
        let to = target.name.clone();
        self.point_to(target, greeting);
        self.resolve().await;
        let endpoints = self.found_endpoints().await;
        let reason = format!(
            "an operator said so: operations go to {to} ({}); a restart returns to what the config says",
            endpoints.join(", ")
        );
        self.events.report(&Event::Cutover { step: CutoverStep::Switched, reason: &reason });
        Ok(SwitchReport { to, endpoints, took: began.elapsed() })
    }

    fn check_paused(&self) -> Result<(), NotPaused> {
        let paused = self.cutover.current().is_some();
        paused.then_some(()).ok_or_else(|| NotPaused(self.name.clone()))
    }

    fn point_to(&self, target: SwitchTarget, greeting: Option<Bytes>) {
        let SwitchTarget { name, endpoints, replica_set, tls } = target;
        // Before the endpoints: connections to them begin as they need it.
        self.set_destination(replica_set, tls);
        self.cutover.switched(name);
        if let Some(greeting) = greeting {
            self.cutover.listeners.lock().iter().for_each(|it| it.switched(&greeting));
        }
        self.replace_endpoints(endpoints);
        self.notify_change();
        // Clients that can't go on at another service leave, as do those at the endpoints of before.
        self.notify_connections();
    }

    /// The names of the endpoints, once one of them can be picked.
    async fn found_endpoints(&self) -> Vec<String> {
        let mut changes = self.changes.subscribe();
        let found = async {
            while self.pick(PickOptions::default()).is_none() {
                // The sender lives as long as the cluster.
                let _ = changes.changed().await;
            }
        };
        let _ = time::timeout(FIND_PRIMARY, found).await;
        self.endpoints().iter().map(|endpoint| endpoint.name().to_string()).collect()
    }
}

impl Cluster {
    /// The endpoints, and those that have left and may still be in use.
    pub(super) fn endpoints_with_leaving(&self) -> Vec<Arc<Endpoint>> {
        let mut endpoints = self.endpoints();
        endpoints.extend(self.leaving_endpoints());
        endpoints
    }
}
