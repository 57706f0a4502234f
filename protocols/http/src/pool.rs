//! A cluster's connections on one worker, kept for the next request.

use crate::{
    facts::WaitTimes,
    proxy::{Cluster, Endpoint, Unreachable, Whom},
    wire::{H1Connection, H2Connection, H2Stream, UpstreamConn},
};
use foldhash::HashMap;
use operation::{Close, Reason};
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};
use tokio::{select, sync::Notify, task::spawn_local, time::sleep};

/// How often it is looked which connections have rested for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// What connections to a cluster speak, and how many are kept for how long.
#[derive(Clone, Copy, Debug)]
pub struct PoolPlan {
    /// HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
    /// How many requests a connection carries at most.
    pub max_requests: u64,
    /// How many of them at once, where it can carry more than one.
    pub max_streams: usize,
    /// How long a connection is kept that carries none.
    pub idle_timeout: Option<Duration>,
    /// How many bytes an answer's head may have.
    pub max_head: usize,
    /// How many such connections are kept for one endpoint.
    pub max_idle: usize,
}

impl Default for PoolPlan {
    fn default() -> Self {
        Self {
            http2: false,
            max_requests: u64::MAX,
            max_streams: 100,
            idle_timeout: Some(Duration::from_secs(4)),
            max_head: 64 * 1024,
            max_idle: 1024,
        }
    }
}

/// A cluster's connections on one worker.
pub(crate) struct Pool {
    cluster: Rc<dyn Cluster>,
    plan: PoolPlan,
    kept: RefCell<HashMap<usize, EndpointConnections>>,
    /// Something that can carry a request has come.
    came: Notify,
    swept: Cell<bool>,
}

/// What there is for one endpoint.
#[derive(Default)]
struct EndpointConnections {
    /// At rest; the one that rests for the shortest time last.
    #[expect(clippy::vec_box, reason = "they go to and fro, and a pointer is all that moves")]
    idle: Vec<Box<H1Connection>>,
    shared: Vec<Rc<H2Connection>>,
    /// One more that can be shared is on its way.
    dialing: bool,
}

impl Pool {
    pub(crate) fn new(cluster: Rc<dyn Cluster>, plan: PoolPlan) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            plan,
            kept: RefCell::default(),
            came: Notify::new(),
            swept: Cell::new(false),
        })
    }

    pub(crate) fn cluster(&self) -> &Rc<dyn Cluster> {
        &self.cluster
    }

    /// How many bytes an answer's head may have.
    pub(crate) fn max_head(&self) -> usize {
        self.plan.max_head
    }

    pub(crate) fn speaks_http2(&self) -> bool {
        self.plan.http2
    }

    /// What carries a request to the endpoint whose turn it is, but none of `tried`.
    pub(crate) async fn reach(
        self: &Rc<Self>,
        hash: Option<u64>,
        tried: &[Endpoint],
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        let first = self.cluster.pick(hash, tried);
        if let Some(wire) = first.as_ref().and_then(|endpoint| self.take(endpoint)) {
            return Ok(wire);
        }
        Box::pin(self.dial(Whom { hash, first, tried: tried.to_vec() }, waits)).await
    }

    /// A connection that was not used before: what is kept may be stale.
    pub(crate) async fn fresh(
        self: &Rc<Self>,
        hash: Option<u64>,
        endpoint: Endpoint,
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        self.drop_idle(&endpoint);
        let whom = Whom { hash, first: Some(endpoint), tried: Vec::new() };
        Box::pin(self.dial(whom, waits)).await
    }

    /// What there is for this endpoint.
    fn take(&self, endpoint: &Endpoint) -> Option<UpstreamConn> {
        let mut kept = self.kept.borrow_mut();
        let kept = kept.get_mut(&endpoint.key())?;
        if self.plan.http2 {
            let (streams, requests) = (self.plan.max_streams, self.plan.max_requests);
            kept.shared.retain(|it| it.is_alive() || it.streams() > 0);
            let free = kept.shared.iter().filter(|it| it.is_free(streams, requests));
            let least = free.min_by_key(|it| it.streams())?;
            return Some(UpstreamConn::Stream(H2Stream::begin(least)));
        }
        while let Some(mut own) = kept.idle.pop() {
            if !self.is_old(own.rests_since) && own.is_free() {
                return Some(UpstreamConn::Own(own));
            }
        }
        None
    }

    /// Connects, unless something comes meanwhile that can carry the request.
    async fn dial(
        self: &Rc<Self>,
        whom: Whom,
        waits: &Cell<WaitTimes>,
    ) -> Result<UpstreamConn, Unreachable> {
        let began = Instant::now();
        let wire = match whom.first.clone() {
            Some(endpoint) if self.plan.http2 => self.dial_shared(endpoint, whom).await,
            Some(endpoint) => self.dial_own(endpoint, whom).await,
            None => self.connect(whom).await,
        };
        let (took, WaitTimes { queue, connect }) = (began.elapsed(), waits.get());
        let queued = match &wire {
            Ok(wire) if wire.is_fresh() => wire.queued().min(took),
            // Another request's connection became free first.
            Ok(_) => took,
            Err(unreachable) if unreachable.reason == Reason::Overloaded => took,
            Err(_) => Duration::ZERO,
        };
        waits.set(WaitTimes { queue: queue + queued, connect: connect + (took - queued) });
        wire
    }

    async fn dial_own(
        self: &Rc<Self>,
        to: Endpoint,
        whom: Whom,
    ) -> Result<UpstreamConn, Unreachable> {
        let pool = Rc::clone(self);
        let mut dialing = Box::pin(async move { pool.connect(whom).await });
        loop {
            select! {
                biased;
                wire = &mut dialing => return wire,
                () = self.came.notified() => {}
            }
            if let Some(wire) = self.take(&to) {
                let pool = Rc::clone(self);
                // What is being dialed is of use to the next request.
                spawn_local(async move {
                    if let Ok(wire) = dialing.await {
                        pool.give_back(wire);
                    }
                });
                return Ok(wire);
            }
        }
    }

    /// Many requests at once need one connection, and not many.
    async fn dial_shared(
        self: &Rc<Self>,
        to: Endpoint,
        whom: Whom,
    ) -> Result<UpstreamConn, Unreachable> {
        loop {
            if let Some(_dialing) = ConnectGuard::begin(self, to.key()) {
                return self.connect(whom).await;
            }
            self.came.notified().await;
            if let Some(wire) = self.take(&to) {
                return Ok(wire);
            }
        }
    }

    async fn connect(self: &Rc<Self>, whom: Whom) -> Result<UpstreamConn, Unreachable> {
        let dialed = Rc::clone(&self.cluster).connect(whom).await?;
        self.begin(dialed).await
    }

    async fn begin(
        self: &Rc<Self>,
        dialed: crate::proxy::Dialed,
    ) -> Result<UpstreamConn, Unreachable> {
        let crate::proxy::Dialed { stream, lease, queued } = dialed;
        let name = Rc::clone(&lease);
        let failed = |error: hyper::Error| {
            tracing::debug!(endpoint = &**name.name(), %error, "no HTTP can be spoken");
            Unreachable {
                reason: Reason::NoEndpoint,
                message: format!("`{}` speaks no HTTP", self.cluster.name()),
                close: Close::UpstreamViolation,
            }
        };
        self.sweeps();
        if !self.plan.http2 {
            let mut own =
                H1Connection::begin(stream, lease, self.plan.max_head).await.map_err(failed)?;
            own.queued = queued;
            return Ok(UpstreamConn::Own(own));
        }
        let key = lease.endpoint().key();
        let shared =
            H2Connection::begin(stream, lease, self.plan.max_head).await.map_err(failed)?;
        self.kept.borrow_mut().entry(key).or_default().shared.push(Rc::clone(&shared));
        shared.queued.set(queued);
        Ok(UpstreamConn::Stream(H2Stream::begin(&shared)))
    }

    /// Keeps a connection that has done its work, if it can do more.
    pub(crate) fn give_back(&self, wire: UpstreamConn) {
        let UpstreamConn::Own(mut own) = wire else {
            drop(wire);
            self.came.notify_one();
            return;
        };
        // Where somebody waits for a connection to end, this one does.
        if own.carried >= self.plan.max_requests || self.cluster.is_awaited() || !own.is_free() {
            return;
        }
        own.rests_since = Instant::now();
        let mut kept = self.kept.borrow_mut();
        let idle = &mut kept.entry(own.endpoint().key()).or_default().idle;
        if idle.len() < self.plan.max_idle {
            idle.push(own);
            self.came.notify_one();
        }
    }

    /// Closes what rests for this endpoint.
    fn drop_idle(&self, endpoint: &Endpoint) {
        if let Some(kept) = self.kept.borrow_mut().get_mut(&endpoint.key()) {
            kept.idle.clear();
            kept.shared.iter().filter(|it| it.streams() == 0).for_each(|it| it.retired.set(true));
        }
    }

    /// Closes everything that rests: the worker drains.
    pub(crate) fn close(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.values_mut().for_each(|kept| {
            kept.idle.clear();
            kept.shared.clear();
        });
    }

    /// Sees to it that what rests for too long is closed, for as long as there is anything.
    fn sweeps(self: &Rc<Self>) {
        if self.swept.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        spawn_local(async move {
            loop {
                sleep(SWEEP).await;
                let Some(pool) = Weak::upgrade(&pool) else { return };
                if pool.sweep() {
                    pool.swept.set(false);
                    return;
                }
            }
        });
    }

    /// Whether a connection has rested for too long.
    fn is_old(&self, since: Instant) -> bool {
        self.plan.idle_timeout.is_some_and(|most| since.elapsed() >= most)
    }

    /// Closes what rests and is not wanted any more.
    pub(crate) fn look(&self) {
        self.sweep();
    }

    /// Closes what has rested for too long, or is of no use. Returns whether nothing is left.
    fn sweep(&self) -> bool {
        let awaited = self.cluster.is_awaited();
        let mut kept = self.kept.borrow_mut();
        kept.retain(|_, kept| {
            kept.idle.retain_mut(|own| !awaited && !self.is_old(own.rests_since) && own.is_free());
            kept.shared.retain(|shared| {
                let rests = shared.streams() == 0;
                let old = rests && (awaited || self.is_old(shared.rests_since.get()));
                !old && !shared.retired.get() && (shared.is_alive() || !rests)
            });
            !kept.idle.is_empty() || !kept.shared.is_empty() || kept.dialing
        });
        kept.is_empty()
    }
}

/// A connection that many will share is on its way, until dropped.
struct ConnectGuard<'p> {
    pool: &'p Pool,
    key: usize,
}

impl<'p> ConnectGuard<'p> {
    /// `None` if one is on its way already.
    fn begin(pool: &'p Pool, key: usize) -> Option<Self> {
        let mut kept = pool.kept.borrow_mut();
        let under_way = std::mem::replace(&mut kept.entry(key).or_default().dialing, true);
        drop(kept);
        (!under_way).then(|| Self { pool, key })
    }
}

impl Drop for ConnectGuard<'_> {
    fn drop(&mut self) {
        if let Some(kept) = self.pool.kept.borrow_mut().get_mut(&self.key) {
            kept.dialing = false;
        }
        self.pool.came.notify_waiters();
    }
}

impl H1Connection {
    fn endpoint(&self) -> &Endpoint {
        self.lease().endpoint()
    }
}

#[cfg(test)]
mod tests;
