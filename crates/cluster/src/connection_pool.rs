//! Connections that operations share: an operation takes one, and gives it back when it has ended.
//!
//! Sockets belong to a worker's runtime, so each worker has a pool of its own, with its share of the
//! limits. A pool knows no protocol: a [`Handshake`] makes a new connection ready for operations.
//!
//! - `endpoint_pool`: the connections of one endpoint, and their limits
//! - `wait_queue`: whose turn it is
//! - `pooled_connection`: a connection while an operation uses it
//! - `taking`: how an operation gets one, and how long it waits
//! - `take_error`: why there is none
//! - `finishing`: operations whose client has vanished
//! - `opening`, `handshake`: new connections, and the first exchange on them
//! - `queries`: questions of codecs to the service
//! - `orphans`: what clients that vanished have left
//! - `pausing`: operations that wait because the cluster is paused
//! - `upkeep`: what happens to connections and queues without an operation

mod endpoint_pool;
mod finishing;
mod handshake;
mod opening;
mod orphans;
mod pausing;
mod pooled_connection;
mod queries;
mod take_error;
mod taking;
mod upkeep;
mod wait_queue;

pub use pooled_connection::{PooledConnection, PooledSocket};
pub use take_error::TakeError;

pub(crate) use handshake::shake_hands;

use crate::{
    Cluster, Endpoint, PickOptions, PoolReport,
    count::Count,
    listener_handshakes::{ListenerHandshakes, ListenerRegistration},
    plan::{FailoverPlan, PoolPlan},
};
use bytes::Bytes;
use endpoint_pool::{EndpointPool, Use};
use foldhash::HashMap;
use metrics::Histogram;
use operation::{HandshakeConfig, Identity, Outcome, Placement, ResendReason};
use pausing::Pausing;
use pooled_connection::Slot;
use std::{
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::spawn_local,
    time::Instant,
};
use tollgate_metrics::table as names;

/// From this idle time on the system is asked whether a connection is still open before it is used
/// again: servers and firewalls close idle connections.
const CHECKED_AFTER: Duration = Duration::from_secs(1);

/// One worker's pool of connections to a cluster.
pub struct ConnectionPool {
    cluster: Arc<Cluster>,
    /// This worker's share.
    plan: RefCell<Rc<PoolPlan>>,
    failover: Cell<FailoverPlan>,
    /// Those of the listeners that use the pool. The first one makes connections ready.
    handshakes: ListenerHandshakes,
    /// Questions that are being asked, by their subject.
    queries: RefCell<HashMap<Arc<str>, watch::Receiver<()>>>,
    /// The first reply of the newest handshake.
    greeting: RefCell<Bytes>,
    endpoints: RefCell<HashMap<PoolKey, SharedEndpointPool>>,
    /// The connections that were looked up last: most operations go to the same endpoint.
    latest: RefCell<Option<SharedEndpointPool>>,
    wait_seconds: Histogram,
    held_seconds: Histogram,
    /// How many operations are held until an endpoint fits them.
    held: Count,
    closed: Cell<bool>,
    /// What the cluster holds back.
    pausing: Pausing,
}

/// Which connections are alike: those to one endpoint, with one identity.
type PoolKey = (SocketAddr, Identity);

/// The connections of one endpoint, as the pool and the connections in use hold them.
type SharedEndpointPool = Rc<RefCell<EndpointPool>>;

/// How a connection is taken.
#[derive(Clone, Debug)]
pub struct TakeOptions {
    /// The hash of the client's key, if the cluster picks by key.
    pub hash: Option<u64>,
    /// What the connection has introduced itself as to the service.
    pub identity: Identity,
    /// Where the operation may go.
    pub placement: Placement,
    /// Endpoints that the operation must not go to.
    pub exclude: Vec<Arc<Endpoint>>,
    /// The operation's answer may take for ever: it counts against `max_awaiting`.
    pub long_poll: bool,
    /// The operation continues a transaction or a cursor.
    pub continues_state: bool,
    /// Operations that wait take turns by this key.
    pub fair_key: u64,
    /// The operation is held while no endpoint can be reached. Others fail then, such as the statements of
    /// a transaction that has ended with its endpoint.
    pub is_held_when_unreachable: bool,
    /// How long the operation may take, waiting included.
    pub time_limit: Option<Duration>,
}

impl Default for TakeOptions {
    fn default() -> Self {
        Self {
            hash: None,
            identity: Identity::default(),
            placement: Placement::default(),
            exclude: Vec::new(),
            long_poll: false,
            continues_state: false,
            fair_key: 0,
            is_held_when_unreachable: true,
            time_limit: None,
        }
    }
}

impl TakeOptions {
    fn usage(&self) -> Use {
        if self.long_poll { Use::LongPoll } else { Use::Operation }
    }
}

/// A connection that no operation uses. It moves between the pool and operations, so it has a place of its
/// own in memory.
type IdleConnection = Box<PooledSocket>;

/// What an operation that waited gets.
#[derive(Debug)]
enum Handed {
    Connection(PooledConnection),
    Failed(Box<TakeError>),
    /// Its endpoint is not used any more.
    PickAgain,
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl ConnectionPool {
    /// Starts a pool on the current worker, with this worker's share of the limits.
    pub fn start(cluster: Arc<Cluster>, plan: PoolPlan) -> Rc<Self> {
        let labels = [("cluster", &**cluster.name())];
        let wait_seconds = cluster.metrics.histogram(names::POOL_WAIT_SECONDS, &labels);
        let held_seconds = cluster.metrics.histogram(names::HELD_SECONDS, &labels);
        let pool = Rc::new(Self {
            wait_seconds,
            held_seconds,
            failover: Cell::new(cluster.plan().failover.unwrap_or_default()),
            pausing: Pausing::new(&cluster),
            cluster,
            plan: RefCell::new(Rc::new(plan)),
            handshakes: ListenerHandshakes::default(),
            queries: RefCell::default(),
            greeting: RefCell::default(),
            endpoints: RefCell::default(),
            latest: RefCell::default(),
            held: Count::default(),
            closed: Cell::new(false),
        });
        spawn_local(Rc::clone(&pool).inspect());
        spawn_local(Rc::clone(&pool).follow_changes());
        spawn_local(Rc::clone(&pool).follow_pauses());
        pool
    }

    /// Replaces this worker's share of the limits, and what happens when an endpoint fails, by what the
    /// config says now.
    pub fn set_plan(self: &Rc<Self>, plan: PoolPlan) {
        self.failover.set(self.cluster.plan().failover.unwrap_or_default());
        let pools: Vec<_> = self.endpoints.borrow().values().cloned().collect();
        let set_limits = |pool: &SharedEndpointPool| pool.borrow_mut().set_limits(&plan);
        let surplus: Vec<_> = pools.iter().flat_map(set_limits).collect();
        self.plan.replace(Rc::new(plan));
        drop(surplus);
        // A higher limit has room for operations that wait.
        pools.iter().for_each(|pool| self.connect_missing(pool));
    }

    fn plan(&self) -> Rc<PoolPlan> {
        Rc::clone(&self.plan.borrow())
    }

    /// Adds the handshake of another listener that uses the pool, until the result is dropped.
    pub fn join(&self, handshake: Arc<dyn HandshakeConfig>) -> ListenerRegistration {
        let greeting = self.greeting.borrow();
        if !greeting.is_empty() {
            handshake.connected(&greeting);
        }
        self.handshakes.add(handshake)
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The attribute by whose values operations that wait take turns; `None`: they wait in one queue.
    pub fn fair_by(&self) -> Option<Arc<str>> {
        self.plan.borrow().fair_by.clone()
    }

    /// Whether connections introduce themselves as the client's application.
    pub fn is_by_app(&self) -> bool {
        self.plan.borrow().by_app
    }

    /// Whether its connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.cluster.destination.load().tls.is_some()
    }

    /// How often the cluster was switched.
    pub fn switches(&self) -> u64 {
        self.cluster.cutover.switches()
    }

    /// Closes all idle connections, since the worker drains. Those in use close when they come back and no
    /// operation waits for them.
    pub fn close(&self) {
        self.closed.set(true);
        let mut idle = Vec::new();
        for pool in self.endpoints.borrow().values() {
            let mut pool = pool.borrow_mut();
            idle.extend(pool.remove_idle(|_| true));
            pool.publish();
        }
        drop(idle);
    }

    /// Takes a connection that is ready at once.
    ///
    /// # Errors
    /// The endpoint that was picked, for [`take`](Self::take).
    pub fn try_take(
        self: &Rc<Self>,
        options: &TakeOptions,
    ) -> Result<PooledConnection, Option<Arc<Endpoint>>> {
        if self.is_held_back(options) {
            return Err(None);
        }
        let Some(endpoint) = self.pick(options) else { return Err(None) };
        self.try_take_at(&endpoint, options).ok_or(Some(endpoint))
    }

    /// Takes an idle connection to this endpoint.
    fn try_take_at(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        options: &TakeOptions,
    ) -> Option<PooledConnection> {
        let pool = self.endpoint_pool(endpoint, &options.identity);
        let mut unusable = Vec::new();
        let taken = {
            let mut pool = pool.borrow_mut();
            let now = Instant::now();
            let taken = loop {
                let Some(mut connection) = pool.take_idle(options.usage()) else { break None };
                let is_open = if now - connection.since < CHECKED_AFTER {
                    connection.stream.seems_idle()
                } else {
                    connection.stream.is_idle()
                };
                if is_open && connection.is_usable(&self.plan.borrow(), now) {
                    break Some(connection);
                }
                pool.release(options.usage());
                unusable.push(connection);
            };
            pool.publish();
            taken
        };
        drop(unusable);
        Some(self.in_use(taken?, pool, options.usage()))
    }

    /// The endpoint that holds the state with this key; `None` if that is not known, or if it can't be used.
    pub fn pinned(&self, key: u64) -> Option<SocketAddr> {
        self.cluster.pinned(key)
    }

    /// Forgets which endpoint holds the state with this key: it has ended with its endpoint.
    pub fn unpin(&self, key: u64) {
        self.cluster.unpin(key);
    }

    /// A connection to this endpoint was lost: the others that are idle are likely to be dead too, and it is
    /// [in doubt](Cluster::doubt).
    pub fn connection_lost(&self, endpoint: &Arc<Endpoint>) {
        let mut idle = Vec::new();
        for pool in self.endpoints.borrow().values() {
            let mut pool = pool.borrow_mut();
            if Arc::ptr_eq(&pool.endpoint, endpoint) {
                idle.extend(pool.remove_idle(|_| true));
                pool.publish();
            }
        }
        drop(idle);
        self.cluster.doubt(endpoint);
    }

    /// Counts an operation of which the request was sent again.
    pub fn count_replay(&self, cause: ResendReason, outcome: Outcome) {
        let labels = [
            ("cluster", &**self.cluster.name()),
            ("cause", cause.as_str()),
            ("outcome", outcome.as_str()),
        ];
        self.cluster.metrics.counter(names::REPLAYS_TOTAL, &labels).increment(1);
    }

    /// Whether there are endpoints besides `these`.
    pub fn has_others(&self, these: &[Arc<Endpoint>]) -> bool {
        self.cluster.has_others(these)
    }

    fn count_refusal(&self, reason: &'static str) {
        let labels = [("cluster", &**self.cluster.name()), ("reason", reason)];
        self.cluster.metrics.counter(names::POOL_REFUSALS_TOTAL, &labels).increment(1);
    }

    fn pick(&self, options: &TakeOptions) -> Option<Arc<Endpoint>> {
        let placement = Some(&options.placement);
        self.cluster.pick(PickOptions { hash: options.hash, exclude: &options.exclude, placement })
    }

    /// Waits for a connection to a picked endpoint, and opens one if that is allowed.
    fn enqueue(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        options: &TakeOptions,
    ) -> Result<oneshot::Receiver<Handed>, TakeError> {
        let pool = self.endpoint_pool(endpoint, &options.identity);
        let queued = {
            let mut pool = pool.borrow_mut();
            let most = self.plan.borrow().wait_queue_size;
            if pool.waiting() >= most {
                pool.prune();
            }
            let waiting = pool.waiting();
            if waiting >= most {
                self.count_refusal("queue_full");
                let cluster = self.cluster.name.clone();
                return Err(TakeError::QueueFull { cluster, waiting });
            }
            pool.enqueue(options.usage(), options.fair_key)
        };
        self.connect_missing(&pool);
        Ok(queued)
    }

    /// The connections of an endpoint with this identity.
    fn endpoint_pool(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> SharedEndpointPool {
        if let Some(latest) = &*self.latest.borrow()
            && latest.borrow().leads_to(endpoint, identity)
        {
            return Rc::clone(latest);
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.entry((endpoint.address(), identity.clone())).or_insert_with(|| {
            Rc::new(RefCell::new(EndpointPool::new(endpoint, identity, &self.plan.borrow())))
        });
        if !Arc::ptr_eq(&pool.borrow().endpoint, endpoint) {
            pool.borrow_mut().move_to(endpoint);
        }
        self.latest.replace(Some(Rc::clone(pool)));
        Rc::clone(pool)
    }

    fn in_use(
        self: &Rc<Self>,
        connection: IdleConnection,
        endpoint_pool: SharedEndpointPool,
        usage: Use,
    ) -> PooledConnection {
        let slot = Slot { pool: Rc::clone(self), endpoint_pool, usage, released: false };
        PooledConnection { socket: connection, waited: Duration::ZERO, held: Duration::ZERO, slot }
    }

    /// A connection in use was closed.
    fn lost(self: &Rc<Self>, endpoint_pool: &SharedEndpointPool, usage: Use) {
        endpoint_pool.borrow_mut().release(usage);
        self.connect_missing(endpoint_pool);
    }

    /// Gives a connection to the next operation that waits for one, or keeps it. Closes it if it is not
    /// to be used again.
    fn hand_out(
        self: &Rc<Self>,
        endpoint_pool: &SharedEndpointPool,
        mut connection: IdleConnection,
    ) {
        if !connection.is_usable(&self.plan.borrow(), Instant::now()) {
            drop(connection);
            self.connect_missing(endpoint_pool);
            return;
        }
        loop {
            let waiter = endpoint_pool.borrow_mut().next_waiter();
            let Some((usage, waiter)) = waiter else { break };
            match self.send(connection, endpoint_pool, usage, waiter) {
                Some(unsent) => connection = unsent,
                None => return,
            }
        }
        let surplus = if self.closes_idle() {
            Some(connection)
        } else {
            endpoint_pool.borrow_mut().keep(connection)
        };
        endpoint_pool.borrow_mut().publish();
        drop(surplus);
    }

    /// Whether no connection stays idle: the worker drains, or an operation elsewhere waits because the
    /// cluster has as many connections as it may.
    fn closes_idle(&self) -> bool {
        self.closed.get() || self.cluster.has_waiters()
    }

    /// Gives a connection to this operation. Returns it if the operation has given up just now.
    fn send(
        self: &Rc<Self>,
        connection: IdleConnection,
        endpoint_pool: &SharedEndpointPool,
        usage: Use,
        waiter: oneshot::Sender<Handed>,
    ) -> Option<IdleConnection> {
        endpoint_pool.borrow_mut().publish();
        let connection = self.in_use(connection, Rc::clone(endpoint_pool), usage);
        let refused = waiter.send(Handed::Connection(connection)).err()?;
        let Handed::Connection(refused) = refused else { return None };
        let connection = refused.into_idle();
        endpoint_pool.borrow_mut().release(usage);
        Some(connection)
    }

    /// How many connections this worker has to each endpoint, and how many operations wait.
    pub fn report(&self) -> Vec<(Arc<Endpoint>, PoolReport)> {
        let endpoints = self.endpoints.borrow();
        let row = |pool: &SharedEndpointPool| {
            let pool = pool.borrow();
            (Arc::clone(&pool.endpoint), pool.report())
        };
        endpoints.values().map(row).collect()
    }
}

#[cfg(test)]
mod tests;
