//! What a listener needs on one worker: its gate, and its share of a pool.

use super::SharedState;
use crate::listener::Listener;
use cluster::{Cluster, ConnectionPool, Mirror};
use config::plan::ListenerPlan;
use operation::MirrorOutcome;
use policy::{PolicyEnv, access_log::LineBuffer, gate::Gate, series::CardinalityLimit};
use shapes::{WorkerShapes, listener_key};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};
use tollgate_metrics::table as names;

/// The pools of one worker, by their clusters.
type WorkerPools = BTreeMap<Arc<str>, Rc<ConnectionPool>>;

/// This worker's share of the pool of a listener's cluster, if operations share connections. The listeners
/// of a cluster share it.
pub(super) fn pool(
    shared: &SharedState,
    plan: &ListenerPlan,
    cluster: &Arc<Cluster>,
    worker: usize,
    pools: &mut WorkerPools,
) -> Option<Rc<ConnectionPool>> {
    let pool = worker_pool(shared, cluster, worker, pools)?;
    plan.protocol.pool_handshake().into_iter().for_each(|handshake| pool.join(handshake));
    Some(pool)
}

/// What gets a listener's reads too: the shapes of these show what it has answered.
pub(super) fn mirror(
    shared: &SharedState,
    plan: &ListenerPlan,
    gate: &Gate,
    worker: usize,
    pools: &mut WorkerPools,
) -> Option<Rc<Mirror>> {
    let mirror = plan.protocol.mirror()?;
    let pool = worker_pool(shared, shared.clusters.get(&mirror.cluster)?, worker, pools)?;
    plan.protocol.mirror_handshake().into_iter().for_each(|handshake| pool.join(handshake));
    let (shapes, listener_key) = (gate.shapes().cloned(), listener_key(&plan.name));
    let observer = move |outcome: &MirrorOutcome<'_>| {
        shapes.iter().for_each(|shapes| shapes.record_mirrored(listener_key, outcome));
    };
    Some(Mirror::new(pool, mirror, Box::new(observer)))
}

/// This worker's share of the pool of a cluster, if that has one.
fn worker_pool(
    shared: &SharedState,
    cluster: &Arc<Cluster>,
    worker: usize,
    pools: &mut WorkerPools,
) -> Option<Rc<ConnectionPool>> {
    let clusters = shared.plan.clusters.iter();
    let pool = clusters.filter(|it| it.name == *cluster.name()).find_map(|it| it.pool.as_ref())?;
    let start =
        || ConnectionPool::start(Arc::clone(cluster), pool.share(worker, shared.plan.workers));
    Some(Rc::clone(pools.entry(Arc::clone(cluster.name())).or_insert_with(start)))
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
