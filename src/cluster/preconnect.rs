//! Connections held ready, so that a new client does not pay for the dial.
//!
//! Sockets belong to a worker's runtime, so each worker has its own. They count as connections of
//! the cluster only once a client has them: held ready, they must not keep a client waiting that
//! would be served at an endpoint without any. A service that limits its connections needs room
//! for `spare_connections` × workers more on each endpoint.

use super::{Cluster, ConnectError, Endpoint, Upstream, Whom, connect::dial};
use foldhash::HashMap;
use rustix::net::{RecvFlags, recv};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::{JoinSet, spawn_local},
    time::{self, Instant},
};

/// How long one is held: servers close connections that rest for long.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How often it is looked whether some are too old or missing; and how long after a failed dial the
/// next one comes, which doubles up to `MAX_RETRY`.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How many are dialed at once.
const MAX_DIALS: usize = 16;

/// A cluster as one worker sees it, with the connections that are held ready there.
#[derive(Debug)]
pub struct PreconnectPool {
    cluster: Arc<Cluster>,
    by_endpoint: RefCell<HashMap<SocketAddr, EndpointPreconnects>>,
    closed: Cell<bool>,
    /// Something was taken, or all is closed.
    changed: Notify,
}

/// What is held for one endpoint.
#[derive(Debug)]
struct EndpointPreconnects {
    endpoint: Arc<Endpoint>,
    /// The oldest first, each with the time when it was opened.
    ready: VecDeque<(TcpStream, Instant)>,
    dialing: usize,
    /// Failed dials in a row, and when the next one may come.
    failures: u32,
    due: Instant,
}

impl PreconnectPool {
    /// Holds as many ready as the plan says, on the worker that this is called on, until closed.
    /// Where the plan says none this is nothing but the cluster.
    pub fn start(cluster: Arc<Cluster>) -> Rc<Self> {
        let pool = Self::new(cluster);
        if pool.cluster.plan.spare_connections > 0 {
            let plan = Arc::clone(&pool.cluster.plan);
            let dial = Rc::new(async move |address| dial(&plan, address).await);
            spawn_local(Rc::clone(&pool).maintain(dial));
        }
        pool
    }

    fn new(cluster: Arc<Cluster>) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            by_endpoint: RefCell::default(),
            closed: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Like [`Cluster::connect`], with what is held ready for the endpoint that is picked.
    ///
    /// # Errors
    /// When no endpoint can be connected to, or none may be.
    pub async fn connect(&self, whom: impl Into<Whom>) -> Result<Upstream, ConnectError> {
        let dial = async |address| dial(&self.cluster.plan, address).await;
        self.cluster.connect_with(whom, |endpoint| self.take(endpoint), dial).await
    }

    /// Closes what is held and holds no more: the worker drains.
    pub fn close(&self) {
        self.closed.set(true);
        self.by_endpoint.borrow_mut().clear();
        self.changed.notify_one();
    }

    /// How many are held ready now.
    #[cfg(test)]
    fn ready(&self) -> usize {
        self.by_endpoint.borrow().values().map(|held| held.ready.len()).sum()
    }

    /// One that is held for this endpoint and still stands.
    fn take(&self, endpoint: &Arc<Endpoint>) -> Option<TcpStream> {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let held = by_endpoint.get_mut(&endpoint.address())?;
        if !Arc::ptr_eq(&held.endpoint, endpoint) {
            return None;
        }
        self.changed.notify_one();
        while let Some((stream, since)) = held.ready.pop_front() {
            if since.elapsed() < MAX_AGE && is_alive(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps the by_endpoint filled until closed.
    async fn maintain<D>(self: Rc<Self>, dial: Rc<D>)
    where
        D: AsyncFn(SocketAddr) -> io::Result<TcpStream> + 'static,
    {
        let mut dials = JoinSet::new();
        while !self.closed.get() {
            for endpoint in self.missing(MAX_DIALS - dials.len()) {
                let (pool, dial) = (Rc::clone(&self), Rc::clone(&dial));
                dials.spawn_local(async move {
                    let result = pool.cluster.dialed(endpoint.address(), &*dial).await;
                    pool.cluster.judge(&endpoint, &result);
                    pool.finish_dial(&endpoint, result.ok());
                });
            }
            tokio::select! {
                Some(_) = dials.join_next() => {}
                () = self.changed.notified() => {}
                () = time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Drops what is too old or leads to an endpoint that is gone or out of use, and tells for which
    /// endpoints to dial, at most so many; these count as being dialed from now on.
    fn missing(&self, most: usize) -> Vec<Arc<Endpoint>> {
        let now = Instant::now();
        let set = self.cluster.set.load();
        let mut old = std::mem::take(&mut *self.by_endpoint.borrow_mut());
        let mut by_endpoint = HashMap::default();
        let mut missing = Vec::new();
        for endpoint in set.endpoints().filter(|endpoint| endpoint.usable()) {
            let known = old.remove(&endpoint.address());
            let known = known.filter(|held| Arc::ptr_eq(&held.endpoint, endpoint));
            let mut held = known.unwrap_or_else(|| EndpointPreconnects::new(endpoint, now));
            held.ready.retain(|(_, since)| now - *since < MAX_AGE);
            while held.ready.len() + held.dialing < self.cluster.plan.spare_connections
                && missing.len() < most
                && now >= held.due
            {
                held.dialing += 1;
                missing.push(Arc::clone(endpoint));
            }
            by_endpoint.insert(endpoint.address(), held);
        }
        *self.by_endpoint.borrow_mut() = by_endpoint;
        missing
    }

    /// A dial has come to its end.
    fn finish_dial(&self, endpoint: &Arc<Endpoint>, stream: Option<TcpStream>) {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let held = by_endpoint.get_mut(&endpoint.address());
        let Some(held) = held.filter(|held| Arc::ptr_eq(&held.endpoint, endpoint)) else {
            return;
        };
        // The held may have been cleared away and be another one.
        held.dialing = held.dialing.saturating_sub(1);
        let now = Instant::now();
        match stream {
            Some(stream) => {
                held.failures = 0;
                if held.ready.len() < self.cluster.plan.spare_connections {
                    held.ready.push_back((stream, now));
                }
            }
            None => {
                let retry = INTERVAL.saturating_mul(2u32.saturating_pow(held.failures));
                held.due = now + retry.min(MAX_RETRY);
                held.failures = held.failures.saturating_add(1);
            }
        }
    }
}

impl EndpointPreconnects {
    fn new(endpoint: &Arc<Endpoint>, now: Instant) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            ready: VecDeque::new(),
            dialing: 0,
            failures: 0,
            due: now,
        }
    }
}

/// Whether a connection still stands. What the service has said already stays in the socket: it is
/// for the client to read.
fn is_alive(stream: &TcpStream) -> bool {
    match recv(stream, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((read, _)) => read > 0,
        Err(error) => error == rustix::io::Errno::WOULDBLOCK,
    }
}

#[cfg(test)]
mod tests;
