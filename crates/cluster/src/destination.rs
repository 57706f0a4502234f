//! Where a cluster's connections lead, besides its endpoints.

use crate::{
    Cluster,
    plan::{ClusterPlan, ReplicaSetPlan},
};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tls::ClientTls;

/// What a switch of the cluster replaces together with its endpoints.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The replica set whose members are the endpoints.
    pub(crate) replica_set: Option<Arc<ReplicaSetPlan>>,
    /// How connections are encrypted; `None`: not at all.
    pub(crate) tls: Option<Arc<ClientTls>>,
}

impl Destination {
    /// What the config says.
    pub(crate) fn of(plan: &ClusterPlan) -> Self {
        Self { replica_set: plan.replica_set.clone().map(Arc::new), tls: plan.tls.clone() }
    }
}

impl Cluster {
    /// Whether its endpoints have roles.
    pub(crate) fn has_roles(&self) -> bool {
        self.has_roles.load(Relaxed)
    }

    /// The replica set whose members are the endpoints.
    pub(crate) fn replica_set(&self) -> Option<Arc<ReplicaSetPlan>> {
        self.destination.load().replica_set.clone()
    }

    /// Sets the replica set and the encryption.
    pub(crate) fn lead_to(&self, replica_set: Option<ReplicaSetPlan>, tls: Option<Arc<ClientTls>>) {
        self.has_roles.store(replica_set.is_some(), Relaxed);
        let replica_set = replica_set.map(Arc::new);
        self.destination.store(Arc::new(Destination { replica_set, tls }));
    }

    /// Connections lead elsewhere from now on. The caller replaces the endpoints.
    pub(crate) fn set_destination(
        &self,
        replica_set: Option<ReplicaSetPlan>,
        tls: Option<Arc<ClientTls>>,
    ) {
        self.forget_term();
        self.lead_to(replica_set, tls);
        self.begin_connect_generation();
    }
}
