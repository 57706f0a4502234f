//! What a listener needs on one worker: its gate, and its share of a pool.

use super::SharedState;
use crate::listener::Listener;
use cluster::{Cluster, ConnectionPool};
use config::plan::ListenerPlan;
use policy::{PolicyEnv, access_log::LineBuffer, gate::Gate, series::CardinalityLimit};
use shapes::WorkerShapes;
use std::{collections::BTreeMap, rc::Rc, sync::Arc};
use tollgate_metrics::table as names;

/// This worker's share of the pool of a listener's cluster, if operations share connections. The listeners
/// of a cluster share it.
pub(super) fn pool(
    shared: &SharedState,
    plan: &ListenerPlan,
    cluster: &Arc<Cluster>,
    worker: usize,
    pools: &mut BTreeMap<Arc<str>, Rc<ConnectionPool>>,
) -> Option<Rc<ConnectionPool>> {
    let clusters = shared.plan.clusters.iter();
    let pool = clusters.filter(|it| it.name == *cluster.name()).find_map(|it| it.pool.as_ref())?;
    let start =
        || ConnectionPool::start(Arc::clone(cluster), pool.share(worker, shared.plan.workers));
    let pool = pools.entry(Arc::clone(cluster.name())).or_insert_with(start);
    plan.protocol.pool_handshake().into_iter().for_each(|handshake| pool.join(handshake));
    Some(Rc::clone(pool))
}

/// The gate of a listener: the built-in policies, and the configured ones in force.
pub(super) fn gate(
    shared: &SharedState,
    listener: &Listener,
    cluster: Option<&Arc<Cluster>>,
    (series, callsites): &(Arc<CardinalityLimit>, Arc<CardinalityLimit>),
    (lines, shapes): (Option<&Rc<LineBuffer>>, &Rc<WorkerShapes>),
) -> Gate {
    let name = &listener.plan.name;
    let env = PolicyEnv {
        access_log: shared.plan.access_log.clone(),
        metrics: shared.metrics.clone(),
        listener: Arc::clone(name),
        protocol: listener.plan.protocol.describe(),
        has_preface: listener.plan.has_preface(),
        cluster: cluster.cloned(),
        callsites: Arc::clone(callsites),
        shapes: listener.plan.protocol.has_query_shapes().then(|| Rc::clone(shapes)),
        lines: lines.cloned(),
    };
    let active = shared.metrics.gauge(names::OPERATIONS_ACTIVE, &[("listener", name)]);
    Gate::live(Arc::clone(&shared.live), env, Arc::clone(series), active)
}
