//! The listeners of one worker: made of what runs, and made again where a reload of the config has changed it.

use super::shared::{Running, SharedState};
use crate::listener::{Listener, ServerNames, Upstreams, WorkerListener};
use cluster::{Cluster, ConnectionPool, ListenerRegistration, Mirror, PreconnectPool};
use config::plan::ListenerPlan;
use operation::MirrorOutcome;
use policy::{PolicyEnv, access_log::LineBuffer, gate::Gate};
use protocols::Pools;
use shapes::{WorkerShapes, listener_key};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};
use tollgate_metrics::table as names;

/// What the listeners of one worker are made of.
pub(super) struct WorkerListeners {
    shared: Arc<SharedState>,
    worker: usize,
    lines: Rc<LineBuffer>,
    shapes: Rc<WorkerShapes>,
    upstreams: BTreeMap<Arc<str>, Rc<PreconnectPool>>,
    /// This worker's shares of the pools, by their clusters. The listeners of a cluster share one.
    pools: BTreeMap<Arc<str>, Rc<ConnectionPool>>,
    http_pools: Pools,
    /// Those that were made last.
    latest: Vec<Rc<WorkerListener>>,
}

impl WorkerListeners {
    /// The listeners of the worker with this index. Called on the worker.
    pub(super) fn new(shared: &Arc<SharedState>, worker: usize, lines: &Rc<LineBuffer>) -> Self {
        Self {
            shapes: WorkerShapes::new(Arc::clone(&shared.shapes)),
            shared: Arc::clone(shared),
            worker,
            lines: Rc::clone(lines),
            upstreams: BTreeMap::new(),
            pools: BTreeMap::new(),
            http_pools: Pools::default(),
            latest: Vec::new(),
        }
    }

    /// The listeners that run now; those that have not changed are the same objects as last time.
    pub(super) fn make(&mut self) -> Vec<Rc<WorkerListener>> {
        let running = self.shared.running();
        self.follow_clusters(&running);
        let mut listeners = Vec::new();
        for it in &running.listeners {
            let known = self.latest.iter().find(|known| Arc::ptr_eq(known.shared(), &it.listener));
            listeners.extend(known.cloned().or_else(|| self.listener(&it.listener, &running)));
        }
        self.latest.clone_from(&listeners);
        listeners
    }

    /// Adds new clusters, follows changed plans, and closes what leads to clusters that are gone.
    fn follow_clusters(&mut self, running: &Running) {
        let is_gone = |cluster: &Arc<Cluster>| {
            running.clusters.get(cluster.name()).is_none_or(|it| !Arc::ptr_eq(it, cluster))
        };
        self.pools.retain(|_, pool| {
            let gone = is_gone(pool.cluster());
            gone.then(|| pool.close());
            !gone
        });
        self.upstreams.retain(|_, upstream| {
            let gone = is_gone(upstream.cluster());
            gone.then(|| upstream.close());
            !gone
        });
        for (name, cluster) in &running.clusters {
            match self.upstreams.get(name) {
                Some(known) => known.follow_plan(),
                None => {
                    let new = PreconnectPool::start(Arc::clone(cluster));
                    self.upstreams.insert(Arc::clone(name), new);
                }
            }
            let plan = running.plan.cluster(name).and_then(|it| it.pool.as_ref());
            if let (Some(pool), Some(plan)) = (self.pools.get(name), plan) {
                pool.set_plan(plan.share(self.worker, self.shared.workers));
            }
        }
    }

    fn listener(
        &mut self,
        listener: &Arc<Listener>,
        running: &Running,
    ) -> Option<Rc<WorkerListener>> {
        let plan = &listener.plan;
        let server = plan.protocol.server(&self.upstreams, &running.plan.pooling, &self.http_pools);
        let cluster = plan.cluster.as_ref().filter(|_| server.is_none());
        let preconnects = cluster.and_then(|name| self.upstreams.get(name)).cloned();
        let only = preconnects.as_ref().filter(|_| plan.sni.is_empty());
        let cluster = only.map(|pool| Arc::clone(pool.cluster()));
        let gate = self.gate(listener, cluster.as_ref());
        let pool = cluster.as_ref().and_then(|cluster| self.pool(cluster, running));
        let upstreams = match (server, pool) {
            (Some(server), _) => Upstreams::Server(server),
            (None, Some(pool)) => self.pooled(plan, &gate, pool, running),
            (None, None) if plan.sni.is_empty() => Upstreams::Cluster(preconnects?),
            (None, None) => {
                let upstreams = &self.upstreams;
                let named = plan.sni.iter();
                let named = named.filter_map(|(sni, name)| Some((&**sni, upstreams.get(name)?)));
                let named = named.map(|(sni, cluster)| (sni, Rc::clone(cluster)));
                Upstreams::ByServerName(ServerNames::new(named, preconnects))
            }
        };
        let metrics = self.shared.metrics.clone();
        Some(WorkerListener::new(Arc::clone(listener), gate, upstreams, metrics))
    }

    /// A listener whose operations share connections, and what gets its reads too.
    fn pooled(
        &mut self,
        plan: &ListenerPlan,
        gate: &Gate,
        pool: Rc<ConnectionPool>,
        running: &Running,
    ) -> Upstreams {
        let handshake = plan.protocol.pool_handshake();
        let mut listener: Vec<_> = handshake.map(|it| pool.join(it)).into_iter().collect();
        let mirror = self.mirror(plan, gate, running).map(|(mirror, registration)| {
            listener.extend(registration);
            mirror
        });
        Upstreams::Pool { pool, mirror, listener }
    }

    /// What gets a listener's reads too: the shapes of these show what it has answered.
    fn mirror(
        &mut self,
        plan: &ListenerPlan,
        gate: &Gate,
        running: &Running,
    ) -> Option<(Rc<Mirror>, Option<ListenerRegistration>)> {
        let mirror = plan.protocol.mirror()?;
        let pool = self.pool(running.clusters.get(&mirror.cluster)?, running)?;
        let registration = plan.protocol.mirror_handshake().map(|handshake| pool.join(handshake));
        let (shapes, listener_key) = (gate.shapes().cloned(), listener_key(&plan.name));
        let observer = move |outcome: &MirrorOutcome<'_>| {
            shapes.iter().for_each(|shapes| shapes.record_mirrored(listener_key, outcome));
        };
        Some((Mirror::new(pool, mirror, Box::new(observer)), registration))
    }

    /// This worker's share of the pool of a cluster, if that has one.
    fn pool(&mut self, cluster: &Arc<Cluster>, running: &Running) -> Option<Rc<ConnectionPool>> {
        let plan = running.plan.cluster(cluster.name())?.pool.as_ref()?;
        let share = || plan.share(self.worker, self.shared.workers);
        let start = || ConnectionPool::start(Arc::clone(cluster), share());
        let pool = self.pools.entry(Arc::clone(cluster.name())).or_insert_with(start);
        Some(Rc::clone(pool))
    }

    /// The gate of a listener: the built-in policies, and the configured ones in force.
    fn gate(&self, listener: &Listener, cluster: Option<&Arc<Cluster>>) -> Gate {
        let (name, shared) = (&listener.plan.name, &self.shared);
        let [series, callsites] = &listener.state().cardinality;
        let counts_shapes = listener.plan.protocol.has_query_shapes();
        let env = PolicyEnv {
            metrics: shared.metrics.clone(),
            listener: Arc::clone(name),
            protocol: listener.plan.protocol.describe(),
            has_preface: listener.plan.has_preface(),
            cluster: cluster.cloned(),
            callsites: Arc::clone(callsites),
            shapes: counts_shapes.then(|| Rc::clone(&self.shapes)),
            lines: Some(Rc::clone(&self.lines)),
            tap: Arc::clone(&shared.tap),
            tracer: Arc::clone(&shared.tracer),
        };
        let active = shared.metrics.gauge(names::OPERATIONS_ACTIVE, &[("listener", name)]);
        Gate::live(Arc::clone(&shared.live), env, Arc::clone(series), active)
    }
}
