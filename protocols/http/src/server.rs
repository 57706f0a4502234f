//! The HTTP server of a listener on one worker.

use crate::{
    buffer_account::BufferAccount,
    dialect::Dialect,
    h1_validator::RequestLimits,
    header_policy::HeaderPolicy,
    pool::{Pool, PoolPlan},
    retry::{RequestInFlight, RouteLoad},
    routes::Route,
    settings::UpstreamVersion,
};
use cluster::PreconnectPool;
use foldhash::HashMap;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

/// A worker's connection pools by cluster, and its buffer account.
#[derive(Clone, Default)]
pub struct Pools(Rc<RefCell<ByCluster>>, BufferAccount);

/// By cluster name and the HTTP version of its endpoints.
type ByCluster = HashMap<(Arc<str>, UpstreamVersion), Rc<Pool>>;

impl Pools {
    /// The pool of a cluster; created on first use.
    pub(crate) fn of(&self, cluster: Rc<PreconnectPool>, plan: PoolPlan) -> Rc<Pool> {
        let key = (Arc::clone(cluster.cluster().name()), plan.version);
        let mut pools = self.0.borrow_mut();
        Rc::clone(pools.entry(key).or_insert_with(|| Pool::new(cluster, plan)))
    }
}

/// Limits and header handling of a listener.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Largest head of a request, in bytes.
    pub max_head: usize,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Longest target, in bytes.
    pub max_target: usize,
    /// Most concurrent requests per HTTP/2 connection.
    pub max_streams: u32,
    /// Whether half-closed HTTP/1 clients get a response.
    pub half_close: bool,
    /// How long a client may take to send a request, from the end of its head.
    pub request_timeout: Option<Duration>,
    /// Most requests per connection.
    pub max_requests: Option<u64>,
    /// How headers are processed.
    pub header_policy: HeaderPolicy,
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

/// The HTTP server of a listener on one worker.
pub struct Server {
    pub(crate) dialect: Arc<dyn Dialect>,
    pub(crate) plan: Arc<ServerPlan>,
    pub(crate) buffers: BufferAccount,
    clusters: HashMap<Arc<str>, Rc<Pool>>,
    loads: RefCell<HashMap<usize, Rc<RouteLoad>>>,
}

impl Server {
    /// A server for these clusters.
    pub fn new(
        dialect: Arc<dyn Dialect>,
        plan: Arc<ServerPlan>,
        clusters: impl IntoIterator<Item = (Rc<PreconnectPool>, PoolPlan)>,
        pools: &Pools,
    ) -> Rc<Self> {
        let pool = |(cluster, plan): (Rc<PreconnectPool>, PoolPlan)| {
            (Arc::clone(cluster.cluster().name()), pools.of(cluster, plan))
        };
        let clusters = clusters.into_iter().map(pool).collect();
        let buffered = pools.1.clone();
        Rc::new(Self { dialect, plan, buffers: buffered, clusters, loads: RefCell::default() })
    }

    /// Closes idle connections that their endpoints no longer want.
    pub fn close_unwanted(&self) {
        self.clusters.values().for_each(|pool| pool.close_unwanted());
    }

    /// Closes all idle connections: the worker drains.
    pub fn close_idle(&self) {
        self.clusters.values().for_each(|pool| pool.close_idle());
    }

    /// The pool of a cluster.
    pub(crate) fn pool(&self, cluster: &str) -> Option<&Rc<Pool>> {
        self.clusters.get(cluster)
    }

    /// Counts a request of a route that has a retry budget.
    pub(crate) fn begin_request(&self, route: &Route) -> Option<RequestInFlight> {
        route.retry.as_ref()?;
        let key = std::ptr::from_ref(route).addr();
        Some(self.loads.borrow_mut().entry(key).or_default().begin())
    }
}
