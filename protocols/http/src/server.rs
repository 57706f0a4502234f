//! What serves a listener's clients on one worker.

use crate::{
    buffered::BufferAccount,
    dialect::Dialect,
    hygiene::HeaderPolicy,
    pool::{Pool, PoolPlan},
    proxy::Cluster,
    retry::{RequestInFlight, RouteLoad},
    routes::Route,
    screen::RequestLimits,
};
use foldhash::HashMap;
use operation::Protocol;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

/// A worker's pools of connections, by cluster, and what it holds of bodies.
#[derive(Clone, Default)]
pub struct Pools(Rc<RefCell<ByCluster>>, BufferAccount);

/// By a cluster's name, and by whether it is spoken to by HTTP/2.
type ByCluster = HashMap<(Arc<str>, bool), Rc<Pool>>;

impl Pools {
    /// The pool of a cluster, made at first sight.
    pub(crate) fn of(&self, cluster: &Rc<dyn Cluster>, plan: PoolPlan) -> Rc<Pool> {
        let key = (Arc::clone(cluster.name()), plan.http2);
        let mut pools = self.0.borrow_mut();
        Rc::clone(pools.entry(key).or_insert_with(|| Pool::new(Rc::clone(cluster), plan)))
    }
}

/// How requests of a listener are served, whatever they ask for.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// How large the head of a request may be, in bytes.
    pub max_head: usize,
    /// How many headers it may have.
    pub max_headers: usize,
    /// How long its target may be, in bytes.
    pub max_target: usize,
    /// How many requests a connection may have under way.
    pub max_streams: u32,
    /// Whether a client of HTTP/1 is answered that ends its half while its answer is due.
    pub half_close: bool,
    /// How long a client may take to send a request, once its head is here.
    pub request_timeout: Option<Duration>,
    /// After how many requests a connection is closed.
    pub max_requests: Option<u64>,
    /// What is done to heads on their way.
    pub hygiene: HeaderPolicy,
}

impl ServerPlan {
    pub(crate) fn limits(&self) -> RequestLimits {
        RequestLimits {
            head_bytes: self.max_head,
            target_bytes: self.max_target,
            headers: self.max_headers,
            ..RequestLimits::default()
        }
    }
}

/// What serves a listener's clients on one worker.
pub struct Server {
    pub(crate) dialect: Rc<dyn Dialect>,
    pub(crate) plan: Arc<ServerPlan>,
    pub(crate) buffered: BufferAccount,
    clusters: HashMap<Arc<str>, Rc<Pool>>,
    loads: RefCell<HashMap<usize, Rc<RouteLoad>>>,
}

impl Server {
    /// A server whose requests go to these clusters.
    pub fn new(
        dialect: Rc<dyn Dialect>,
        plan: Arc<ServerPlan>,
        clusters: impl IntoIterator<Item = (Rc<dyn Cluster>, PoolPlan)>,
        pools: &Pools,
    ) -> Rc<Self> {
        let pool = |(cluster, plan): (Rc<dyn Cluster>, PoolPlan)| {
            (Arc::clone(cluster.name()), pools.of(&cluster, plan))
        };
        let clusters = clusters.into_iter().map(pool).collect();
        let buffered = pools.1.clone();
        Rc::new(Self { dialect, plan, buffered, clusters, loads: RefCell::default() })
    }

    /// Closes the connections at rest whose endpoints no longer want them.
    pub fn look(&self) {
        self.clusters.values().for_each(|pool| pool.look());
    }

    /// Closes every connection at rest: the worker drains.
    pub fn close(&self) {
        self.clusters.values().for_each(|pool| pool.close());
    }

    /// What it serves.
    pub fn protocol(&self) -> &'static Protocol {
        self.dialect.protocol()
    }

    /// The connections to a cluster.
    pub(crate) fn pool(&self, cluster: &str) -> Option<&Rc<Pool>> {
        self.clusters.get(cluster)
    }

    /// One more of a route's requests is under way, where it is counted how many are.
    pub(crate) fn attempting(&self, route: &Route) -> Option<RequestInFlight> {
        route.retry.as_ref()?;
        let key = std::ptr::from_ref(route).addr();
        Some(self.loads.borrow_mut().entry(key).or_default().begin())
    }
}
