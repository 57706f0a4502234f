//! A worker's pool of connections to one cluster.

mod connector;

use crate::{
    h2::{H2Connection, H2Stream},
    request_attributes::WaitTimes,
    settings::UpstreamVersion,
    upstream_conn::{H1Connection, UpstreamConn},
};
use cluster::{Cluster, ConnectOptions, Endpoint, PickOptions, UpstreamConnection};
pub(crate) use connector::{Connector, Unreachable};
use foldhash::HashMap;
use operation::{Close, RejectReason};
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{select, sync::Notify, task::spawn_local, time::sleep};

/// How often idle connections are checked for expiry.
const SWEEP: Duration = Duration::from_secs(1);

/// Protocol and limits of a cluster's connections.
#[derive(Clone, Copy, Debug)]
pub struct PoolPlan {
    /// The HTTP version of the endpoints.
    pub version: UpstreamVersion,
    /// Most requests per connection.
    pub max_requests: u64,
    /// Most concurrent requests per HTTP/2 connection.
    pub max_streams: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Option<Duration>,
    /// Largest head of a response, in bytes.
    pub max_head: usize,
    /// Most idle connections per endpoint.
    pub max_idle: usize,
}

impl Default for PoolPlan {
    fn default() -> Self {
        Self {
            version: UpstreamVersion::Http1,
            max_requests: u64::MAX,
            max_streams: 100,
            idle_timeout: Some(Duration::from_secs(4)),
            max_head: 64 * 1024,
            max_idle: 1024,
        }
    }
}

/// A worker's connections to one cluster.
pub(crate) struct Pool {
    connector: Rc<dyn Connector>,
    plan: PoolPlan,
    connections: RefCell<HashMap<usize, EndpointConnections>>,
    /// Notified when a connection becomes available.
    ready: Notify,
    sweeping: Cell<bool>,
}

/// The connections of one endpoint.
#[derive(Default)]
struct EndpointConnections {
    /// Idle ones; the most recently used last.
    #[expect(clippy::vec_box, reason = "they go to and fro, and a pointer is all that moves")]
    idle: Vec<Box<H1Connection>>,
    shared: Vec<Rc<H2Connection>>,
    /// A shared connection is being made.
    connecting: bool,
    /// The last connection that was opened speaks HTTP/1.1, where TLS agrees on the version.
    agreed_http1: bool,
}

impl Pool {
    pub(crate) fn new(connector: Rc<dyn Connector>, plan: PoolPlan) -> Rc<Self> {
        Rc::new(Self {
            connector,
            plan,
            connections: RefCell::default(),
            ready: Notify::new(),
            sweeping: Cell::new(false),
        })
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        self.connector.cluster()
    }

    pub(crate) fn connector(&self) -> Rc<dyn Connector> {
        Rc::clone(&self.connector)
    }

    /// The HTTP version of the endpoints.
    pub(crate) fn version(&self) -> UpstreamVersion {
        self.plan.version
    }

    /// Largest head of a response, in bytes.
    pub(crate) fn max_head(&self) -> usize {
        self.plan.max_head
    }

    /// Gets a connection to the endpoint that the load balancer picks, not one of `tried`.
    pub(crate) async fn get(
        self: &Rc<Self>,
        hash: Option<u64>,
        tried: &[Arc<Endpoint>],
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        self.cluster().wait_while_paused().await?;
        let preferred =
            self.cluster().pick(PickOptions { hash, exclude: tried, ..PickOptions::default() });
        if let Some(conn) = preferred.as_ref().and_then(|endpoint| self.take_idle(endpoint)) {
            return Ok(conn);
        }
        let tried = tried.to_vec();
        let options = ConnectOptions { hash, preferred, tried, ..ConnectOptions::default() };
        Box::pin(self.connect_or_wait(options, waits)).await
    }

    /// Makes a new connection: idle ones may be stale.
    pub(crate) async fn connect_new(
        self: &Rc<Self>,
        hash: Option<u64>,
        endpoint: Arc<Endpoint>,
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        self.close_endpoint_idle(&endpoint);
        let options =
            ConnectOptions { hash, preferred: Some(endpoint), ..ConnectOptions::default() };
        Box::pin(self.connect_or_wait(options, waits)).await
    }

    /// An available connection to this endpoint.
    fn take_idle(&self, endpoint: &Arc<Endpoint>) -> Option<UpstreamConn> {
        let mut entry = self.connections.borrow_mut();
        let entry = entry.get_mut(&key(endpoint))?;
        if self.plan.version != UpstreamVersion::Http1 {
            let (streams, requests) = (self.plan.max_streams, self.plan.max_requests);
            entry.shared.retain(|it| it.streams() > 0 || it.is_alive());
            let free = entry.shared.iter().filter(|it| it.has_capacity(streams, requests));
            if let Some(least) = free.min_by_key(|it| it.streams()) {
                return Some(UpstreamConn::H2Stream(H2Stream::new(least)));
            }
        }
        while let Some(mut h1) = entry.idle.pop() {
            if !self.is_expired(h1.idle_since) && h1.is_reusable() {
                return Some(UpstreamConn::H1(h1));
            }
        }
        None
    }

    /// Connects, unless another connection becomes available first.
    async fn connect_or_wait(
        self: &Rc<Self>,
        options: ConnectOptions,
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        let began = Instant::now();
        let conn = match options.preferred.clone() {
            Some(to) if self.expects_http2(&to) => self.connect_shared(to, options).await,
            Some(to) => self.connect_or_reuse(to, options).await,
            None => self.connect(options).await,
        };
        let (took, WaitTimes { queue, connect }) = (began.elapsed(), waits.get());
        let queued = match &conn {
            Ok(conn) if conn.is_new() => conn.queue_time().min(took),
            // Another request's connection became available first.
            Ok(_) => took,
            Err(unreachable) if unreachable.reason == RejectReason::Overloaded => took,
            Err(_) => Duration::ZERO,
        };
        waits.set(WaitTimes { queue: queue + queued, connect: connect + (took - queued) });
        conn
    }

    /// Whether the next connection to this endpoint can probably be shared.
    fn expects_http2(&self, to: &Arc<Endpoint>) -> bool {
        match self.plan.version {
            UpstreamVersion::Http1 => false,
            UpstreamVersion::Http2 => true,
            UpstreamVersion::Auto => {
                self.connections.borrow().get(&key(to)).is_none_or(|entry| !entry.agreed_http1)
            }
        }
    }

    async fn connect_or_reuse(
        self: &Rc<Self>,
        to: Arc<Endpoint>,
        options: ConnectOptions,
    ) -> Result<UpstreamConn, Unreachable> {
        let pool = Rc::clone(self);
        let mut dialing = Box::pin(async move { pool.connect(options).await });
        loop {
            select! {
                biased;
                conn = &mut dialing => return conn,
                () = self.ready.notified() => {}
            }
            if let Some(conn) = self.take_idle(&to) {
                let pool = Rc::clone(self);
                // The next request can use the connection that is being made.
                spawn_local(async move {
                    if let Ok(conn) = dialing.await {
                        pool.put(conn);
                    }
                });
                return Ok(conn);
            }
        }
    }

    /// Many concurrent requests need one connection, not many.
    async fn connect_shared(
        self: &Rc<Self>,
        to: Arc<Endpoint>,
        options: ConnectOptions,
    ) -> Result<UpstreamConn, Unreachable> {
        loop {
            if let Some(_dialing) = ConnectGuard::begin(self, key(&to)) {
                return self.connect(options).await;
            }
            self.ready.notified().await;
            if let Some(conn) = self.take_idle(&to) {
                return Ok(conn);
            }
            if !self.expects_http2(&to) {
                return self.connect_or_reuse(to, options).await;
            }
        }
    }

    async fn connect(
        self: &Rc<Self>,
        options: ConnectOptions,
    ) -> Result<UpstreamConn, Unreachable> {
        let dialed = self.connector().connect(options).await?;
        self.handshake(dialed).await
    }

    async fn handshake(
        self: &Rc<Self>,
        dialed: UpstreamConnection,
    ) -> Result<UpstreamConn, Unreachable> {
        let UpstreamConnection { stream, lease, queued } = dialed;
        let lease = Rc::new(lease);
        let endpoint = Arc::clone(lease.endpoint());
        let unusable = |fault: &str| Unreachable {
            reason: RejectReason::NoEndpoint,
            message: format!("`{}` {fault}", self.cluster().name()),
            close: Close::UpstreamViolation,
        };
        let failed = |error: &dyn fmt::Display| {
            tracing::debug!(endpoint = &**endpoint.name(), %error, "handshake failed");
            unusable("speaks no HTTP")
        };
        let Some(http2) = self.plan.version.is_http2(stream.alpn()) else {
            return Err(unusable("has agreed on HTTP/1.1, and HTTP/2 is needed"));
        };
        if self.plan.version == UpstreamVersion::Auto {
            let mut entries = self.connections.borrow_mut();
            entries.entry(key(&endpoint)).or_default().agreed_http1 = !http2;
        }
        self.start_sweeping();
        if !http2 {
            let mut h1 = H1Connection::new(stream, lease, self.plan.max_head);
            h1.queue_time = queued;
            return Ok(UpstreamConn::H1(h1));
        }
        let key = key(lease.endpoint());
        let shared =
            H2Connection::handshake(stream, lease, (self.plan.max_head, self.plan.max_streams))
                .await
                .map_err(|error| failed(&error))?;
        self.connections.borrow_mut().entry(key).or_default().shared.push(Rc::clone(&shared));
        shared.queue_time.set(queued);
        Ok(UpstreamConn::H2Stream(H2Stream::new(&shared)))
    }

    /// Returns a connection to the pool, if it can carry another request.
    pub(crate) fn put(&self, conn: UpstreamConn) {
        let UpstreamConn::H1(mut h1) = conn else {
            drop(conn);
            self.ready.notify_one();
            return;
        };
        // If a request waits for a connection slot, this connection makes room.
        if h1.requests >= self.plan.max_requests
            || self.connector.has_waiters()
            || !h1.is_reusable()
        {
            return;
        }
        h1.idle_since = Instant::now();
        let mut entry = self.connections.borrow_mut();
        let idle = &mut entry.entry(key(h1.endpoint())).or_default().idle;
        if idle.len() < self.plan.max_idle {
            idle.push(h1);
            self.ready.notify_one();
        }
    }

    /// Closes the endpoint's idle connections.
    fn close_endpoint_idle(&self, endpoint: &Arc<Endpoint>) {
        if let Some(entry) = self.connections.borrow_mut().get_mut(&key(endpoint)) {
            entry.idle.clear();
            entry.shared.iter().filter(|it| it.streams() == 0).for_each(|it| it.closing.set(true));
        }
    }

    /// Closes all idle connections: the worker drains.
    pub(crate) fn close_idle(&self) {
        let mut entry = self.connections.borrow_mut();
        entry.values_mut().for_each(|entry| {
            entry.idle.clear();
            entry.shared.clear();
        });
    }

    /// Starts the sweeper, which runs as long as the pool has connections.
    fn start_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        spawn_local(async move {
            loop {
                sleep(SWEEP).await;
                let Some(pool) = Weak::upgrade(&pool) else { return };
                if pool.sweep() {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// Whether a connection was idle for too long.
    fn is_expired(&self, since: Instant) -> bool {
        self.plan.idle_timeout.is_some_and(|most| since.elapsed() >= most)
    }

    /// Closes idle connections that are not wanted any more.
    pub(crate) fn close_unwanted(&self) {
        self.sweep();
    }

    /// Closes expired and unusable connections. Returns whether none is left.
    fn sweep(&self) -> bool {
        let awaited = self.connector.has_waiters();
        let mut entry = self.connections.borrow_mut();
        entry.retain(|_, entry| {
            entry
                .idle
                .retain_mut(|h1| !awaited && !self.is_expired(h1.idle_since) && h1.is_reusable());
            entry.shared.retain(|shared| {
                let rests = shared.streams() == 0;
                let old = rests && (awaited || self.is_expired(shared.idle_since.get()));
                !old && !shared.closing.get() && (shared.is_alive() || !rests)
            });
            !entry.idle.is_empty() || !entry.shared.is_empty() || entry.connecting
        });
        entry.is_empty()
    }
}

/// Identifies an endpoint. It is not compared after its connections are gone.
fn key(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

/// A shared connection is being made, until this is dropped.
struct ConnectGuard<'p> {
    pool: &'p Pool,
    key: usize,
}

impl<'p> ConnectGuard<'p> {
    /// `None` if one is being made already.
    fn begin(pool: &'p Pool, key: usize) -> Option<Self> {
        let mut entry = pool.connections.borrow_mut();
        let under_way = std::mem::replace(&mut entry.entry(key).or_default().connecting, true);
        drop(entry);
        (!under_way).then(|| Self { pool, key })
    }
}

impl Drop for ConnectGuard<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.pool.connections.borrow_mut().get_mut(&self.key) {
            entry.connecting = false;
        }
        self.pool.ready.notify_waiters();
    }
}

impl H1Connection {
    fn endpoint(&self) -> &Arc<Endpoint> {
        self.lease().endpoint()
    }
}

#[cfg(test)]
mod tests;
