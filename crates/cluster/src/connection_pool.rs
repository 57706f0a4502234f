//! Connections that operations share: an operation takes one, and gives it back when it has ended.
//!
//! Sockets belong to a worker's runtime, so each worker has a pool of its own, with its share of the
//! limits. A pool knows no protocol: a [`Handshake`] makes a new connection ready for operations.
//!
//! - `endpoint_pool`: the connections of one endpoint, and their limits
//! - `wait_queue`: whose turn it is
//! - `pooled_connection`: a connection while an operation uses it
//! - `take_error`: why there is none
//! - `handshake`: the first exchange on a new connection
//! - `upkeep`: what happens to connections and queues without an operation

mod endpoint_pool;
mod handshake;
mod pooled_connection;
mod take_error;
mod upkeep;
mod wait_queue;

pub use pooled_connection::PooledConnection;
pub use take_error::TakeError;

use crate::{
    Cluster, ConnectError, ConnectOptions, Endpoint, Lease, PickOptions, PoolReport,
    UpstreamConnection, plan::PoolPlan,
};
use endpoint_pool::{EndpointPool, Use};
use foldhash::HashMap;
use handshake::shake_hands;
use metrics::Histogram;
use net::Stream;
use operation::{HandshakeConfig, Placement};
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
    sync::oneshot,
    task::spawn_local,
    time::{self, Instant},
};
use tollgate_metrics::table as names;

/// From this idle time on the system is asked whether a connection is still open before it is used
/// again: servers and firewalls close idle connections.
const CHECKED_AFTER: Duration = Duration::from_secs(1);

/// One worker's pool of connections to a cluster.
pub struct ConnectionPool {
    cluster: Arc<Cluster>,
    /// This worker's share.
    plan: PoolPlan,
    handshake: Option<Arc<dyn HandshakeConfig>>,
    endpoints: RefCell<HashMap<SocketAddr, EndpointPool>>,
    wait_seconds: Histogram,
    closed: Cell<bool>,
}

/// How a connection is taken.
#[derive(Clone, Debug, Default)]
pub struct TakeOptions {
    /// The hash of the client's key, if the cluster picks by key.
    pub hash: Option<u64>,
    /// Where the operation may go.
    pub placement: Placement,
    /// Endpoints that the operation must not go to.
    pub exclude: Vec<Arc<Endpoint>>,
    /// The operation's answer may take for ever: it counts against `max_awaiting`.
    pub long_poll: bool,
    /// Operations that wait take turns by this key.
    pub fair_key: u64,
}

impl TakeOptions {
    fn usage(&self) -> Use {
        if self.long_poll { Use::LongPoll } else { Use::Operation }
    }
}

/// A connection that no operation uses.
#[derive(Debug)]
struct IdleConnection {
    stream: Stream,
    lease: Lease,
    opened: Instant,
    since: Instant,
}

/// What an operation that waited gets.
#[derive(Debug)]
enum Handed {
    Connection(Box<PooledConnection>),
    Failed(Box<ConnectError>),
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
    pub fn start(
        cluster: Arc<Cluster>,
        plan: PoolPlan,
        handshake: Option<Arc<dyn HandshakeConfig>>,
    ) -> Rc<Self> {
        let labels = [("cluster", &**cluster.name())];
        let wait_seconds = cluster.metrics.histogram(names::POOL_WAIT_SECONDS, &labels);
        let pool = Rc::new(Self {
            wait_seconds,
            cluster,
            plan,
            handshake,
            endpoints: RefCell::default(),
            closed: Cell::new(false),
        });
        spawn_local(Rc::clone(&pool).inspect());
        spawn_local(Rc::clone(&pool).follow_changes());
        pool
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Whether its connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.cluster.plan.tls.is_some()
    }

    /// Closes all idle connections, since the worker drains. Those in use close when they come back and no
    /// operation waits for them.
    pub fn close(&self) {
        self.closed.set(true);
        let idle: Vec<_> = self
            .endpoints
            .borrow_mut()
            .values_mut()
            .flat_map(|it| {
                let idle = it.remove_idle(|_| true);
                it.publish();
                idle
            })
            .collect();
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
        let Some(endpoint) = self.pick(options) else { return Err(None) };
        self.try_take_at(&endpoint, options).ok_or(Some(endpoint))
    }

    /// Takes an idle connection to this endpoint.
    fn try_take_at(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        options: &TakeOptions,
    ) -> Option<PooledConnection> {
        let mut unusable = Vec::new();
        let taken = self.with_endpoint(endpoint, |pool| {
            let now = Instant::now();
            loop {
                let mut connection = pool.take_idle(options.usage())?;
                let is_open = if now - connection.since < CHECKED_AFTER {
                    connection.stream.seems_idle()
                } else {
                    connection.stream.is_idle()
                };
                if is_open && connection.is_usable(&self.plan, now) {
                    return Some(connection);
                }
                pool.release(options.usage());
                unusable.push(connection);
            }
        });
        drop(unusable);
        Some(self.in_use(taken?, options.usage(), Duration::ZERO))
    }

    /// Takes a connection: an idle one, or else the first that is given back or opened. `picked` is the
    /// endpoint to begin with, if one was picked already.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(
        self: Rc<Self>,
        mut options: TakeOptions,
        mut picked: Option<Arc<Endpoint>>,
    ) -> Result<PooledConnection, TakeError> {
        let began = Instant::now();
        let deadline = began + self.plan.wait_queue_timeout;
        let mut attempts = 0;
        loop {
            let mut changes = self.cluster.changes.subscribe();
            let Some(endpoint) = picked.take().or_else(|| self.pick(&options)) else {
                self.check_may_wait(&options)?;
                if time::timeout_at(deadline, changes.changed()).await.is_err() {
                    return Err(self.no_member(&options, began.elapsed()));
                }
                continue;
            };
            if let Some(ready) = self.try_take_at(&endpoint, &options) {
                return Ok(ready);
            }
            let handed = self.enqueue(&endpoint, &options)?;
            match time::timeout_at(deadline, handed).await {
                Ok(Ok(Handed::Connection(mut connection))) => {
                    connection.waited = began.elapsed();
                    self.wait_seconds.record(connection.waited);
                    return Ok(*connection);
                }
                Ok(Ok(Handed::Failed(error))) => {
                    attempts += 1;
                    if !self.picks_again(&endpoint, &mut options, attempts) {
                        return Err((*error).into());
                    }
                }
                Ok(Ok(Handed::PickAgain) | Err(_)) => {}
                Err(_) => {
                    self.count_refusal("timeout");
                    let (cluster, waited) = (self.cluster.plan.name.clone(), began.elapsed());
                    return Err(TakeError::TimedOut { cluster, waited });
                }
            }
        }
    }

    /// Whether waiting can help an operation that no endpoint fits now.
    fn check_may_wait(&self, options: &TakeOptions) -> Result<(), TakeError> {
        match options.placement {
            Placement::Endpoint(_) => Err(self.no_member(options, Duration::ZERO)),
            _ if self.cluster.has_roles() && options.exclude.is_empty() => Ok(()),
            _ => Err(self.cluster.no_endpoint().into()),
        }
    }

    fn no_member(&self, options: &TakeOptions, waited: Duration) -> TakeError {
        let cluster = self.cluster.plan.name.clone();
        TakeError::NoMember { cluster, placement: options.placement.clone(), waited }
    }

    /// After a failed attempt to connect to `endpoint`: whether another one is tried. A member of a replica
    /// set is in doubt then, and the operation waits until its monitor has asked it again.
    fn picks_again(
        &self,
        endpoint: &Arc<Endpoint>,
        options: &mut TakeOptions,
        attempts: usize,
    ) -> bool {
        if matches!(options.placement, Placement::Endpoint(_)) {
            return false;
        }
        if self.cluster.has_roles() {
            self.cluster.doubt(endpoint);
            return true;
        }
        options.exclude.push(Arc::clone(endpoint));
        attempts < self.cluster.plan.connect_attempts && self.cluster.has_others(&options.exclude)
    }

    /// The endpoint that holds the state with this key; `None` if that is not known, or if it can't be used.
    pub fn pinned(&self, key: u64) -> Option<SocketAddr> {
        self.cluster.pinned(key)
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
        let most = self.plan.wait_queue_size;
        let queued = self.with_endpoint(endpoint, |pool| {
            if pool.waiting() >= most {
                pool.prune();
            }
            let waiting = pool.waiting();
            if waiting >= most {
                return Err(waiting);
            }
            Ok(pool.enqueue(options.usage(), options.fair_key))
        });
        let queued = queued.map_err(|waiting| {
            self.count_refusal("queue_full");
            TakeError::QueueFull { cluster: self.cluster.plan.name.clone(), waiting }
        })?;
        self.connect_missing(endpoint);
        Ok(queued)
    }

    /// Calls `act` with the pool of an endpoint. `act` must not drop a connection in use.
    fn with_endpoint<R>(
        &self,
        endpoint: &Arc<Endpoint>,
        act: impl FnOnce(&mut EndpointPool) -> R,
    ) -> R {
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints
            .entry(endpoint.address())
            .or_insert_with(|| EndpointPool::new(endpoint, &self.plan));
        if !Arc::ptr_eq(&pool.endpoint, endpoint) {
            pool.move_to(endpoint);
        }
        let result = act(pool);
        pool.publish();
        result
    }

    fn in_use(
        self: &Rc<Self>,
        connection: IdleConnection,
        usage: Use,
        waited: Duration,
    ) -> PooledConnection {
        let IdleConnection { stream, lease, opened, .. } = connection;
        let address = lease.endpoint().address();
        let slot = Slot { pool: Rc::clone(self), address, usage, opened, released: false };
        PooledConnection { stream, lease, waited, slot }
    }

    /// A connection was given back.
    fn returned(self: &Rc<Self>, usage: Use, connection: IdleConnection) {
        let address = connection.lease.endpoint().address();
        if let Some(pool) = self.endpoints.borrow_mut().get_mut(&address) {
            pool.release(usage);
            pool.publish();
        }
        self.hand_out(connection);
    }

    /// A connection in use was closed.
    fn lost(self: &Rc<Self>, address: SocketAddr, usage: Use) {
        let endpoint = self.endpoints.borrow_mut().get_mut(&address).map(|pool| {
            pool.release(usage);
            pool.publish();
            Arc::clone(&pool.endpoint)
        });
        if let Some(endpoint) = endpoint {
            self.connect_missing(&endpoint);
        }
    }

    /// Gives a connection to the next operation that waits for one, or keeps it. Closes it if it is not
    /// to be used again.
    fn hand_out(self: &Rc<Self>, mut connection: IdleConnection) {
        let endpoint = Arc::clone(connection.lease.endpoint());
        if !connection.is_usable(&self.plan, Instant::now()) {
            drop(connection);
            self.connect_missing(&endpoint);
            return;
        }
        while let Some((usage, waiter)) = self.with_endpoint(&endpoint, EndpointPool::next_waiter) {
            match self.send(connection, usage, waiter) {
                Some(unsent) => connection = unsent,
                None => return,
            }
        }
        if self.closes_idle() {
            drop(connection);
            return;
        }
        let surplus = self.with_endpoint(&endpoint, |pool| pool.keep(connection));
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
        usage: Use,
        waiter: oneshot::Sender<Handed>,
    ) -> Option<IdleConnection> {
        let connection = self.in_use(connection, usage, Duration::ZERO);
        let refused = waiter.send(Handed::Connection(Box::new(connection))).err()?;
        let Handed::Connection(refused) = refused else { return None };
        let connection = refused.into_idle();
        self.with_endpoint(connection.lease.endpoint(), |pool| pool.release(usage));
        Some(connection)
    }

    /// Opens connections to an endpoint, as many as are waited for and allowed.
    fn connect_missing(self: &Rc<Self>, endpoint: &Arc<Endpoint>) {
        let idle = if self.closed.get() { 0 } else { self.plan.min_pool_size };
        let missing = self.with_endpoint(endpoint, |pool| pool.begin_connecting(idle));
        for usage in missing {
            let (pool, endpoint) = (Rc::clone(self), Arc::clone(endpoint));
            spawn_local(async move {
                let opened = pool.open(&endpoint).await;
                pool.connecting_ended(&endpoint, usage, opened);
            });
        }
    }

    async fn open(&self, endpoint: &Arc<Endpoint>) -> Result<UpstreamConnection, ConnectError> {
        let preferred = Some(Arc::clone(endpoint));
        // With other endpoints, the operation picks again.
        let only_preferred =
            self.cluster.has_roles() || self.cluster.has_others(std::slice::from_ref(endpoint));
        let options = ConnectOptions { preferred, only_preferred, ..ConnectOptions::default() };
        let mut upstream = self.cluster.connect(options).await?;
        if let Some(handshake) = &self.handshake {
            let shaken = shake_hands(&mut upstream.stream, handshake.begin());
            let limit = self.cluster.plan.connect_timeout;
            let shaken = time::timeout(limit, shaken).await.unwrap_or_else(|_| {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply to the handshake"))
            });
            if let Err(error) = shaken {
                if error.kind() != std::io::ErrorKind::TimedOut {
                    upstream.lease.record_no_answer();
                }
                return Err(self.cluster.handshake_error(&upstream.lease, error));
            }
        }
        Ok(upstream)
    }

    fn connecting_ended(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        usage: Use,
        opened: Result<UpstreamConnection, ConnectError>,
    ) {
        self.with_endpoint(endpoint, |pool| pool.connecting_ended(usage));
        match opened {
            Ok(UpstreamConnection { stream, lease, .. }) => {
                let now = Instant::now();
                self.hand_out(IdleConnection { stream, lease, opened: now, since: now });
            }
            Err(error) => {
                if let Some(waiter) = self.with_endpoint(endpoint, |pool| pool.pop_waiter(usage)) {
                    // It may have given up.
                    let _ = waiter.send(Handed::Failed(Box::new(error)));
                }
            }
        }
        self.connect_missing(endpoint);
    }

    /// How many connections this worker has to each endpoint, and how many operations wait.
    pub fn report(&self) -> Vec<(Arc<Endpoint>, PoolReport)> {
        let endpoints = self.endpoints.borrow();
        let row = |pool: &EndpointPool| (Arc::clone(&pool.endpoint), pool.report());
        endpoints.values().map(row).collect()
    }
}

#[cfg(test)]
mod tests;
