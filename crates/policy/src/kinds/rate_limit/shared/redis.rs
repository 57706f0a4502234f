//! Asks Redis for leases: one round trip at a time for each key, many keys at once.

use super::{
    LimitDecision, RedisPlan, SharedLimitSpec, StoreHealth,
    lease::QuotaLease,
    leases::{LeaseRequest, LeaseTable, Waiter},
    script::{Grant, LimitScript, TakeRequest},
    store_health::{StoreError, StoreFailure},
    store_socket::StoreSocket,
};
use foldhash::{HashMap, HashMapExt as _};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, aio::MultiplexedConnection};
use std::{
    cell::{Cell, RefCell},
    collections::hash_map::Entry,
    io,
    path::PathBuf,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc::Receiver},
    task::{JoinSet, spawn_blocking, spawn_local},
    time::{self, MissedTickBehavior, interval, timeout},
};

/// The most keys in one request.
const MAX_TRIPS: usize = 256;
/// How often idle leases are dropped. What is left of them is lost, which is little.
const SWEEP: Duration = Duration::from_secs(10);
/// The time until the next request after the store granted nothing, while its bucket fills.
const REST: Duration = Duration::from_millis(5);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// A lease has at most this share of a second's worth.
const LEASES_A_SECOND: f64 = 20.0;

/// The longest file with a password that is read, in bytes.
const MAX_PASSWORD_FILE: u64 = 64 << 10;

/// The state of the thread that sends requests to Redis.
pub(super) struct RedisTask {
    plan: RedisPlan,
    bucket: LimitScript,
    /// The most that may be requested in advance.
    most_ahead: u64,
    health: Arc<StoreHealth>,
    table: Arc<LeaseTable>,
    connection: RefCell<Option<MultiplexedConnection>>,
    connecting: Cell<bool>,
    connected: Notify,
    /// The operations that wait for the round trip under way, by key.
    waiting: RefCell<HashMap<u64, Vec<Waiter>>>,
}

/// Runs until the last sender is dropped.
pub(super) async fn serve(redis: RedisTask, mut inbox: Receiver<LeaseRequest>) {
    let redis = Rc::new(redis);
    let mut trips = JoinSet::new();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ask = inbox.recv(), if trips.len() < MAX_TRIPS => match ask {
                Some(ask) => if let Some(lease) = redis.joins(&ask.lease, ask.key, ask.waiter) {
                    trips.spawn_local(Rc::clone(&redis).refill(ask.key, lease));
                },
                None => return,
            },
            Some(_) = trips.join_next() => {}
            _ = sweep.tick() => redis.table.sweep(),
        }
    }
}

impl RedisTask {
    pub(super) fn new(
        plan: RedisPlan,
        limit: &SharedLimitSpec,
        health: Arc<StoreHealth>,
        table: Arc<LeaseTable>,
    ) -> Self {
        let lease = limit.rate() / LEASES_A_SECOND;
        // A bucket smaller than a lease would lose what it can't hold between two round trips.
        let burst = limit.burst.max(lease as u64).max(1);
        Self {
            plan,
            bucket: LimitScript::new(limit.rate(), burst),
            most_ahead: lease as u64,
            health,
            table,
            connection: RefCell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
            waiting: RefCell::new(HashMap::new()),
        }
    }

    /// Waits for the round trip that is under way for its key, or is to begin one.
    fn joins(
        &self,
        lease: &Arc<QuotaLease>,
        key: u64,
        waiter: Option<Waiter>,
    ) -> Option<Arc<QuotaLease>> {
        match self.waiting.borrow_mut().entry(key) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().extend(waiter);
                None
            }
            Entry::Vacant(entry) => {
                entry.insert(Vec::from_iter(waiter));
                Some(Arc::clone(lease))
            }
        }
    }

    /// Requests more for a key until no operation waits for it.
    async fn refill(self: Rc<Self>, key: u64, lease: Arc<QuotaLease>) {
        loop {
            let (first, all) = self.waiters(key);
            let ahead = lease.wants_ahead(all, self.most_ahead, self.table.nanos(Instant::now()));
            let left = lease.empty(all > 0);
            let (held, owed) = (left.max(0).unsigned_abs(), left.min(0).unsigned_abs());
            let least = first.saturating_sub(held).max(ahead.min(1));
            let most = all.saturating_sub(held).saturating_add(ahead);
            if (owed, most) == (0, 0) {
                self.share_out(key, &lease, held, Grant { granted: 0, wait: None });
                break;
            }
            match self.ask(&lease.name, TakeRequest { owed, least, most }).await {
                Ok(grant) => {
                    if self.share_out(key, &lease, held, grant) {
                        break;
                    }
                }
                Err((failure, error)) => {
                    lease.add(left);
                    self.health.failed(failure, &error);
                    if self.health.is_away() {
                        self.connection.take();
                    }
                    break;
                }
            }
        }
        // Dropping the waiters' senders means to them that there is no answer.
        self.waiting.borrow_mut().remove(&key);
        lease.ends_refill();
    }

    /// How many the first who still waits needs, and how many all of them need.
    fn waiters(&self, key: u64) -> (u64, u64) {
        let mut waiting = self.waiting.borrow_mut();
        let Some(waiters) = waiting.get_mut(&key) else { return (0, 0) };
        waiters.retain(|waiter| !waiter.answer.is_closed());
        let all = waiters.iter().fold(0u64, |sum, waiter| sum.saturating_add(waiter.n));
        (waiters.first().map_or(0, |waiter| waiter.n), all)
    }

    /// Distributes a grant to the waiters, and the rest to the lease. Returns whether none waits.
    fn share_out(&self, key: u64, lease: &QuotaLease, held: u64, grant: Grant) -> bool {
        let mut pool = held.saturating_add(grant.granted);
        let mut waiting = self.waiting.borrow_mut();
        let waiters = waiting.get_mut(&key).map(std::mem::take).unwrap_or_default();
        let mut left = Vec::new();
        for waiter in waiters {
            if waiter.n > pool {
                left.push(waiter);
            } else if waiter.answer.send(LimitDecision::Allowed).is_ok() {
                pool -= waiter.n;
            }
        }
        lease.add(i64::try_from(pool).unwrap_or(i64::MAX / 1024));
        let now = self.table.nanos(Instant::now());
        lease.note(now);
        if let Some(wait) = grant.wait {
            lease.refuse_for(wait.max(REST), now);
            for waiter in left.drain(..) {
                let _ = waiter.answer.send(LimitDecision::Limited(Some(wait.max(REST))));
            }
        }
        let nobody = left.is_empty();
        if let Some(waiters) = waiting.get_mut(&key) {
            *waiters = left;
        }
        nobody
    }

    /// One round trip, within the plan's time-out.
    async fn ask(self: &Rc<Self>, name: &str, wish: TakeRequest) -> Result<Grant, StoreError> {
        let began = Instant::now();
        let trip = async {
            let mut connection = self.connection().await?;
            self.bucket.take(&mut connection, name, wish).await.map_err(store_error)
        };
        let slow = |_| (StoreFailure::Timeout, "no answer in time".to_owned());
        let grant = timeout(self.health.timeout, trip).await.map_err(slow)??;
        self.health.answered(grant.granted > 0 || wish.most == 0, began.elapsed());
        Ok(grant)
    }

    /// The connection. A missing one is made by a task of its own, since the caller may give up
    /// earlier.
    async fn connection(self: &Rc<Self>) -> Result<MultiplexedConnection, StoreError> {
        let known = self.connection.borrow().clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connected = self.connected.notified();
        if !self.connecting.replace(true) {
            spawn_local(Rc::clone(self).connect());
        }
        connected.await;
        let gone = || (StoreFailure::Unreachable, "it can't be connected to".to_owned());
        self.connection.borrow().clone().ok_or_else(gone)
    }

    async fn connect(self: Rc<Self>) {
        let made = match time::timeout(CONNECT, self.dial()).await {
            Ok(made) => made,
            Err(_) => Err((StoreFailure::Unreachable, format!("no answer within {CONNECT:?}"))),
        };
        self.connecting.set(false);
        match made {
            Ok((connection, lifetime)) => {
                self.health.reachable();
                self.connection.replace(Some(connection));
                if let Some(lifetime) = lifetime {
                    spawn_local(Self::close_after(Rc::downgrade(&self), lifetime));
                }
            }
            Err((_, error)) => self.health.failed(StoreFailure::Unreachable, &error),
        }
        self.connected.notify_waiters();
    }

    /// Has later requests open another connection, since this one's certificate is about to expire.
    async fn close_after(redis: Weak<Self>, lifetime: Duration) {
        time::sleep(lifetime).await;
        if let Some(redis) = redis.upgrade() {
            redis.connection.take();
        }
    }

    /// Connects, logs in, and awaits one reply: a server that hangs accepts connections too. Returns
    /// the connection, and how long it may be used if that is bounded.
    async fn dial(&self) -> Result<(MultiplexedConnection, Option<Duration>), StoreError> {
        let login = self.login().await?;
        let socket = StoreSocket { address: self.plan.address.clone(), tls: self.plan.tls.clone() };
        let unreachable = |error: io::Error| (StoreFailure::Unreachable, error.to_string());
        let lifetime = socket.lifetime();
        let stream = socket.connect().await.map_err(unreachable)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, config)
                .await
                .map_err(store_error)?;
        // It ends with the last clone of the connection.
        spawn_local(driver);
        let () = redis::cmd("PING").exec_async(&mut connection).await.map_err(store_error)?;
        Ok((connection, lifetime))
    }

    async fn login(&self) -> Result<RedisConnectionInfo, StoreError> {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.plan.database));
        if let Some(user) = &self.plan.user {
            login = login.set_username(user);
        }
        if let Some(file) = &self.plan.password_file {
            let password = password(file.clone()).await.map_err(|error| {
                let file = file.display();
                (StoreFailure::Unreachable, format!("can't read the password in {file}: {error}"))
            })?;
            login = login.set_password(&password);
        }
        Ok(login)
    }
}

/// The password in the first line of a file.
async fn password(file: PathBuf) -> io::Result<String> {
    let read = spawn_blocking(move || values::read_secret(&file, MAX_PASSWORD_FILE)).await;
    read.map_err(io::Error::other)?
}

fn store_error(error: RedisError) -> StoreError {
    let gone = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    let failure = if gone { StoreFailure::Unreachable } else { StoreFailure::Error };
    (failure, error.to_string())
}
