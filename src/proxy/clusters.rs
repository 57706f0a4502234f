//! Makes the clusters of a plan.

use cluster::{Cluster, ClusterPlan};
use config::plan::Plan;
use process::log_file::Sink;
use std::{collections::BTreeMap, sync::Arc};
use tollgate_metrics::Metrics;

/// The clusters by name, which write their events to `events`. Those with a pool know the listeners whose
/// operations share it.
pub(super) fn make_clusters(
    plan: &Plan,
    metrics: &Metrics,
    events: Option<Sink>,
) -> BTreeMap<Arc<str>, Arc<Cluster>> {
    let make = |plan: &Arc<ClusterPlan>| {
        let cluster = Cluster::new(Arc::clone(plan), metrics);
        if let Some(file) = &events {
            cluster.log_events(file.clone());
        }
        (Arc::clone(&plan.name), cluster)
    };
    let clusters: BTreeMap<_, _> = plan.clusters.iter().map(make).collect();
    for listener in &plan.listeners {
        let cluster = listener.cluster.as_ref().and_then(|name| clusters.get(name));
        if let (Some(cluster), Some(handshake)) = (cluster, listener.protocol.pool_handshake()) {
            cluster.add_listener(handshake);
        }
    }
    clusters
}
