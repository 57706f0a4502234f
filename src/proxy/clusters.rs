//! Makes the clusters of a plan.

use super::shared::Running;
use cluster::{Cluster, ClusterPlan};
use config::plan::Plan;
use std::{collections::BTreeMap, sync::Arc};
use tollgate_metrics::Metrics;

/// The clusters of a plan, by name.
pub(super) type Clusters = BTreeMap<Arc<str>, Arc<Cluster>>;

/// The clusters of a plan. Those that run already are the same objects.
pub(super) fn make_clusters(plan: &Plan, running: Option<&Running>, metrics: &Metrics) -> Clusters {
    let make = |plan: &Arc<ClusterPlan>| {
        let known = running.and_then(|running| running.clusters.get(&plan.name));
        let cluster = known.cloned().unwrap_or_else(|| Cluster::new(Arc::clone(plan), metrics));
        (Arc::clone(&plan.name), cluster)
    };
    plan.clusters.iter().map(make).collect()
}

/// Those of `clusters` that are not in `others`.
pub(super) fn missing(clusters: &Clusters, others: &Clusters) -> Vec<Arc<Cluster>> {
    let is_missing = |cluster: &&Arc<Cluster>| {
        others.get(cluster.name()).is_none_or(|other| !Arc::ptr_eq(other, cluster))
    };
    clusters.values().filter(is_missing).cloned().collect()
}
