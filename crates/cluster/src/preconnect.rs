//! Preconnected sockets, so that a new client does not wait for the dial.
//!
//! Sockets belong to a worker's runtime, so each worker has its own. They count as connections of
//! the cluster only once a client uses them; idle ones must not make a client queue that another
//! endpoint could serve. A service that limits its connections needs room for `spare_connections` ×
//! workers more on each endpoint.

use super::{
    Cluster, ConnectError, ConnectOptions, Endpoint, UpstreamConnection,
    connect::{Preamble, dial},
};
use foldhash::HashMap;
use net::Stream;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::{JoinSet, spawn_local},
    time::{self, Instant},
};

/// The maximum age of a socket: servers close idle connections.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How often the pool is inspected, and the pause after a failed dial, which doubles up to
/// `MAX_RETRY`.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How many dials run at once.
const MAX_DIALS: usize = 16;

/// One worker's view of a cluster, with its preconnected sockets.
#[derive(Debug)]
pub struct PreconnectPool {
    cluster: Arc<Cluster>,
    by_endpoint: RefCell<HashMap<SocketAddr, EndpointPreconnects>>,
    closed: Cell<bool>,
    /// Whether `refill` runs.
    refilling: Cell<bool>,
    /// A socket was taken, or the pool was closed.
    changed: Notify,
}

/// The sockets for one endpoint.
#[derive(Debug)]
struct EndpointPreconnects {
    endpoint: Arc<Endpoint>,
    /// The oldest first.
    ready: VecDeque<Preconnected>,
    dialing: usize,
    /// Consecutive failed dials, and the time of the next one.
    failures: u32,
    next_dial: Instant,
}

/// A socket that no client uses yet.
#[derive(Debug)]
struct Preconnected {
    stream: Stream,
    since: Instant,
    /// The cluster's [`connect_generation`](Cluster::connect_generation) when it was dialed.
    generation: u64,
}

impl PreconnectPool {
    /// Starts preconnecting on the current worker, as the plan says, until closed. Without
    /// preconnecting this is only a handle of the cluster.
    pub fn start(cluster: Arc<Cluster>) -> Rc<Self> {
        let pool = Self::new(cluster);
        pool.follow_plan();
        pool
    }

    /// Begins to preconnect, if the plan says so by now.
    pub fn follow_plan(self: &Rc<Self>) {
        if self.cluster.plan().spare_connections > 0 && !self.refilling.replace(true) {
            let cluster = Arc::clone(&self.cluster);
            let dial = Rc::new(async move |address| dial(&cluster.plan.load_full(), address).await);
            spawn_local(Rc::clone(self).refill(dial));
        }
        self.changed.notify_one();
    }

    fn new(cluster: Arc<Cluster>) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            by_endpoint: RefCell::default(),
            closed: Cell::new(false),
            refilling: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Like [`Cluster::connect`], but uses a preconnected socket of the picked endpoint if there is
    /// one.
    ///
    /// # Errors
    /// If no endpoint can be connected to, or none may be.
    pub async fn connect(
        &self,
        options: impl Into<ConnectOptions>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let dial = async |address| dial(&self.cluster.plan.load_full(), address).await;
        let options = options.into();
        // A spare connection has begun without this request.
        let needs_new = options.starttls.is_some();
        let ready = |endpoint: &_| if needs_new { None } else { self.take(endpoint) };
        self.cluster.connect_with(options, ready, dial).await
    }

    /// Closes all sockets and stops preconnecting, since the worker drains.
    pub fn close(&self) {
        self.closed.set(true);
        self.by_endpoint.borrow_mut().clear();
        self.changed.notify_one();
    }

    /// How many sockets are ready.
    #[cfg(test)]
    fn ready(&self) -> usize {
        self.by_endpoint.borrow().values().map(|entry| entry.ready.len()).sum()
    }

    /// A live socket for this endpoint.
    fn take(&self, endpoint: &Arc<Endpoint>) -> Option<Stream> {
        let mut entries = self.by_endpoint.borrow_mut();
        let entry = entries.get_mut(&endpoint.address())?;
        if !Arc::ptr_eq(&entry.endpoint, endpoint) {
            return None;
        }
        self.changed.notify_one();
        while let Some(mut ready) = entry.ready.pop_front() {
            let end = ready.stream.certificate_end();
            let expired = end.is_some_and(|end| end <= SystemTime::now());
            if self.is_fresh(&ready) && !expired && ready.stream.is_alive() {
                return Some(ready.stream);
            }
        }
        None
    }

    /// Whether a socket is young, and was made as new ones are.
    fn is_fresh(&self, ready: &Preconnected) -> bool {
        ready.since.elapsed() < MAX_AGE && ready.generation == self.cluster.connect_generation()
    }

    /// Keeps the pool filled until closed.
    async fn refill<D>(self: Rc<Self>, dial: Rc<D>)
    where
        D: AsyncFn(SocketAddr) -> io::Result<TcpStream> + 'static,
    {
        let mut dials = JoinSet::new();
        while !self.closed.get() {
            for endpoint in self.missing(MAX_DIALS - dials.len()) {
                let (pool, dial) = (Rc::clone(&self), Rc::clone(&dial));
                let generation = self.cluster.connect_generation();
                dials.spawn_local(async move {
                    let result = pool
                        .cluster
                        .dial_with_timeout(&endpoint, Preamble::default(), &*dial)
                        .await;
                    pool.cluster.record_dial(&endpoint, &result);
                    let now = Instant::now();
                    let ready =
                        result.ok().map(|stream| Preconnected { stream, since: now, generation });
                    pool.dial_ended(&endpoint, ready);
                });
            }
            tokio::select! {
                Some(_) = dials.join_next() => {}
                () = self.changed.notified() => {}
                () = time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Drops sockets that are too old or whose endpoint is gone or unusable. Returns up to `most`
    /// endpoints to dial, which count as being dialed from now on.
    fn missing(&self, most: usize) -> Vec<Arc<Endpoint>> {
        let now = Instant::now();
        let set = self.cluster.set.load();
        let mut old = std::mem::take(&mut *self.by_endpoint.borrow_mut());
        let mut entries = HashMap::default();
        let mut missing = Vec::new();
        let wanted = self.cluster.plan().spare_connections;
        for endpoint in set.endpoints().filter(|endpoint| endpoint.usable()) {
            let known = old.remove(&endpoint.address());
            let known = known.filter(|entry| Arc::ptr_eq(&entry.endpoint, endpoint));
            let mut entry = known.unwrap_or_else(|| EndpointPreconnects::new(endpoint, now));
            entry.ready.retain(|ready| self.is_fresh(ready));
            entry.ready.truncate(wanted);
            while entry.ready.len() + entry.dialing < wanted
                && missing.len() < most
                && now >= entry.next_dial
            {
                entry.dialing += 1;
                missing.push(Arc::clone(endpoint));
            }
            entries.insert(endpoint.address(), entry);
        }
        *self.by_endpoint.borrow_mut() = entries;
        missing
    }

    /// Records the end of a dial.
    fn dial_ended(&self, endpoint: &Arc<Endpoint>, ready: Option<Preconnected>) {
        let mut entries = self.by_endpoint.borrow_mut();
        let entry = entries.get_mut(&endpoint.address());
        let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.endpoint, endpoint)) else {
            return;
        };
        // The entry may have been removed and created again meanwhile.
        entry.dialing = entry.dialing.saturating_sub(1);
        let now = Instant::now();
        match ready {
            Some(ready) => {
                entry.failures = 0;
                if entry.ready.len() < self.cluster.plan().spare_connections {
                    entry.ready.push_back(ready);
                }
            }
            None => {
                let retry = INTERVAL.saturating_mul(2u32.saturating_pow(entry.failures));
                entry.next_dial = now + retry.min(MAX_RETRY);
                entry.failures = entry.failures.saturating_add(1);
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
            next_dial: now,
        }
    }
}

#[cfg(test)]
mod tests;
