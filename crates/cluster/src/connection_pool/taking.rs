//! An operation takes a connection: an idle one at once, or it waits, for a connection or for an endpoint.

use super::{ConnectionPool, Handed, PooledConnection, TakeError, TakeOptions};
use crate::{ConnectError, Endpoint, PauseError, count::Counted};
use operation::Placement;
use std::{io, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// The pause after all endpoints have failed, before an operation that is held tries them again, and before
/// one that is not gets its error: its client may try again at once.
const FAILED_PAUSE: Duration = Duration::from_millis(200);

impl ConnectionPool {
    /// Takes a connection: an idle one, or else the first that is given back or opened. `picked` is the
    /// endpoint to begin with, if one was picked already.
    ///
    /// As long as no endpoint fits the operation, or none can be reached, the operation is held for
    /// `failover.hold`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(
        self: Rc<Self>,
        mut options: TakeOptions,
        mut picked: Option<Arc<Endpoint>>,
    ) -> Result<PooledConnection, TakeError> {
        let mut wait = Wait::begin(&self, options.time_limit);
        // It was sent to others already, which do not hold what it continues.
        let is_search = !options.exclude.is_empty();
        let mut attempts = 0;
        loop {
            wait.wait_while_paused(&options).await?;
            let mut changes = self.cluster.changes.subscribe();
            let Some(endpoint) = picked.take().or_else(|| self.pick(&options)) else {
                self.check_may_hold(&options).await?;
                wait.hold_until_changed(&options, &mut changes).await?;
                continue;
            };
            if let Some(mut ready) = self.try_take_at(&endpoint, &options) {
                wait.end(&mut ready);
                return Ok(ready);
            }
            let handed = self.enqueue(&endpoint, &options)?;
            match time::timeout_at(wait.queue_deadline(), handed).await {
                Ok(Ok(Handed::Connection(mut connection))) => {
                    wait.end(&mut connection);
                    self.wait_seconds.record(connection.waited);
                    return Ok(connection);
                }
                Ok(Ok(Handed::Failed(error))) => {
                    attempts += 1;
                    if error.is_refusal() {
                        return Err(*error);
                    }
                    if !self.picks_again(&endpoint, &mut options, attempts) {
                        if is_search {
                            return Err(*error);
                        }
                        let error = self.check_may_try_again(&options, *error).await?;
                        wait.hold_after_failure(&options, error).await?;
                        attempts = 0;
                        options.exclude.clear();
                    }
                }
                Ok(Ok(Handed::PickAgain) | Err(_)) => {}
                Err(_) => return Err(wait.queue_error()),
            }
        }
    }

    /// Whether waiting can help an operation that no endpoint fits now.
    async fn check_may_hold(&self, options: &TakeOptions) -> Result<(), TakeError> {
        let is_bound = matches!(options.placement, Placement::Endpoint(_));
        if self.failover.get().hold.is_some() && options.exclude.is_empty() && !is_bound {
            return Ok(());
        }
        self.pause_before_error(options).await;
        if is_bound || self.cluster.has_roles() {
            return Err(self.no_member(options, Duration::ZERO));
        }
        Err(self.cluster.no_endpoint().into())
    }

    /// A client that may repeat the end of a transaction does so at once, again and again.
    async fn pause_before_error(&self, options: &TakeOptions) {
        if !options.is_held_when_unreachable {
            time::sleep(FAILED_PAUSE).await;
        }
    }

    /// After every endpoint has failed: returns why, if the operation may try them again.
    async fn check_may_try_again(
        &self,
        options: &TakeOptions,
        error: TakeError,
    ) -> Result<Arc<ConnectError>, TakeError> {
        let error = match error {
            TakeError::Connect(error) if is_unreachable(&error) => error,
            other => return Err(other),
        };
        let is_bound = matches!(options.placement, Placement::Endpoint(_));
        let is_held = options.is_held_when_unreachable && !is_bound;
        if is_held && self.failover.get().hold.is_some() {
            return Ok(error);
        }
        self.pause_before_error(options).await;
        Err(error.into())
    }

    fn no_member(&self, options: &TakeOptions, held: Duration) -> TakeError {
        let cluster = self.cluster.name.clone();
        TakeError::NoMember { cluster, placement: options.placement.clone(), held }
    }

    /// After a failed attempt to connect to `endpoint`: whether another one is tried at once. A member of a
    /// replica set is in doubt then, and the operation is held until its monitor has asked it again.
    fn picks_again(
        &self,
        endpoint: &Arc<Endpoint>,
        options: &mut TakeOptions,
        attempts: usize,
    ) -> bool {
        self.cluster.doubt(endpoint);
        if matches!(options.placement, Placement::Endpoint(_)) {
            return false;
        }
        if self.cluster.has_roles() {
            return options.is_held_when_unreachable;
        }
        options.exclude.push(Arc::clone(endpoint));
        attempts < self.cluster.plan().connect_attempts && self.cluster.has_others(&options.exclude)
    }
}

/// Whether the endpoints are down, or the network between. One that refuses the handshake is there, and will
/// refuse the next one too.
fn is_unreachable(error: &ConnectError) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, TimedOut, UnexpectedEof,
    };
    let is_down = |kind| {
        matches!(
            kind,
            BrokenPipe
                | ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | HostUnreachable
                | NetworkUnreachable
                | TimedOut
                | UnexpectedEof
        )
    };
    match error {
        ConnectError::Timeout { .. } => true,
        ConnectError::Failed { attempts, .. } => {
            attempts.iter().all(|attempt| is_down(attempt.error.kind()))
        }
        _ => false,
    }
}

/// How long an operation has waited, and may go on waiting.
struct Wait<'a> {
    pool: &'a ConnectionPool,
    began: Instant,
    /// How long no endpoint fitted, or none could be reached.
    held: Duration,
    /// When the operation's own time limit ends.
    limit: Option<(Instant, Duration)>,
    /// Counts the operation while it is held.
    place: Option<Counted>,
}

impl<'a> Wait<'a> {
    fn begin(pool: &'a ConnectionPool, time_limit: Option<Duration>) -> Self {
        let began = Instant::now();
        let limit = time_limit.and_then(|limit| Some((began.checked_add(limit)?, limit)));
        Self { pool, began, held: Duration::ZERO, limit, place: None }
    }

    /// When the operation gives up waiting for a connection. The time for which it was held does not count.
    fn queue_deadline(&self) -> Instant {
        self.earliest(self.began + self.held + self.pool.plan().wait_queue_timeout)
    }

    fn hold_deadline(&self, now: Instant) -> Instant {
        let left = self.pool.failover.get().hold.unwrap_or_default().saturating_sub(self.held);
        self.earliest(now + left)
    }

    fn earliest(&self, deadline: Instant) -> Instant {
        self.limit.map_or(deadline, |(limit, _)| deadline.min(limit))
    }

    /// Waits for the end of a pause that holds the operation back.
    async fn wait_while_paused(&self, options: &TakeOptions) -> Result<(), TakeError> {
        if !self.pool.is_held_back(options) {
            return Ok(());
        }
        let ended = self.pool.wait_while_paused(options, self.queue_deadline()).await;
        ended.map_err(|refused| {
            self.limit_error().unwrap_or_else(|| {
                self.pool.count_refusal("paused");
                let cluster = self.pool.cluster.name.clone();
                match refused {
                    PauseError::QueueFull(waiting) => {
                        TakeError::PausedQueueFull { cluster, waiting }
                    }
                    PauseError::TimedOut(_) => {
                        TakeError::Paused { cluster, waited: self.began.elapsed() }
                    }
                }
            })
        })
    }

    /// Waits until the endpoints have changed.
    async fn hold_until_changed(
        &mut self,
        options: &TakeOptions,
        changes: &mut watch::Receiver<()>,
    ) -> Result<(), TakeError> {
        self.occupy()?;
        let now = Instant::now();
        let ended = time::timeout_at(self.hold_deadline(now), changes.changed()).await;
        self.held += now.elapsed();
        match ended {
            Ok(_) => Ok(()),
            Err(_) => Err(self.limit_error().unwrap_or_else(|| {
                self.pool.count_refusal("no_endpoint");
                self.pool.no_member(options, self.held)
            })),
        }
    }

    /// Waits before endpoints that have all failed are tried again.
    async fn hold_after_failure(
        &mut self,
        options: &TakeOptions,
        error: Arc<ConnectError>,
    ) -> Result<(), TakeError> {
        self.occupy()?;
        let now = Instant::now();
        let deadline = self.hold_deadline(now);
        time::sleep_until(deadline.min(now + FAILED_PAUSE)).await;
        self.held += now.elapsed();
        if Instant::now() < deadline {
            return Ok(());
        }
        debug_assert!(options.is_held_when_unreachable, "others get the error at once");
        Err(self.limit_error().unwrap_or_else(|| {
            self.pool.count_refusal("no_endpoint");
            TakeError::Unreachable { error, held: self.held }
        }))
    }

    /// Takes a place among the operations that are held.
    fn occupy(&mut self) -> Result<(), TakeError> {
        if self.place.is_some() {
            return Ok(());
        }
        let (held, most) = (self.pool.held.get(), self.pool.plan().wait_queue_size);
        if held >= most {
            self.pool.count_refusal("queue_full");
            let cluster = self.pool.cluster.name.clone();
            return Err(TakeError::QueueFull { cluster, waiting: held });
        }
        self.place = Some(self.pool.held.add());
        Ok(())
    }

    /// The error if the operation's own time limit has ended.
    fn limit_error(&self) -> Option<TakeError> {
        let (ends, limit) = self.limit?;
        let cluster = self.pool.cluster.name.clone();
        (Instant::now() >= ends).then_some(TakeError::TimeLimit { cluster, limit })
    }

    fn queue_error(&self) -> TakeError {
        self.limit_error().unwrap_or_else(|| {
            self.pool.count_refusal("timeout");
            let cluster = self.pool.cluster.name.clone();
            TakeError::TimedOut { cluster, waited: self.began.elapsed() }
        })
    }

    /// The operation has its connection.
    fn end(&self, connection: &mut PooledConnection) {
        connection.waited = self.began.elapsed();
        connection.held = self.held;
    }
}

/// The operation waits no longer.
impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.held.is_zero() {
            self.pool.held_seconds.record(self.held);
        }
    }
}
