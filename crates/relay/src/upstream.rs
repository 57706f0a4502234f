//! The connection to the endpoint: one for the client's whole connection, or one of a pool for each
//! operation.

use super::{mirrored_reads::MirroredReads, relay_upstream::RelayUpstream};
use cluster::{
    CloseRequest, ConnectionPool, Endpoint, Lease, PooledConnection, TakeError, TakeOptions,
    UpstreamConnection,
};
use net::Stream;
use operation::{Orphan, Outcome, Placement, PoolUser, ResendReason, ServiceQuery, TakenUpstream};
use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// How often a request is sent again because an endpoint has lost its role.
const MAX_RESENDS: u8 = 2;

/// The connection to the endpoint.
pub(super) enum Upstream {
    /// One for the client's whole connection.
    Own {
        stream: Stream,
        /// Counts the connection at its endpoint, until the server is done with.
        lease: Option<Lease>,
    },
    /// One of a pool for each operation.
    Pooled(Box<PooledUpstream>),
}

/// The connections that operations take of a pool.
pub(super) struct PooledUpstream {
    pool: Rc<ConnectionPool>,
    options: TakeOptions,
    state: PooledState,
    /// A copy of the request under way, which may have to be sent to another endpoint.
    kept: Option<Box<[u8]>>,
    /// How often the request under way was sent again.
    resends: u8,
    /// Why it was sent again last.
    resent: Option<ResendReason>,
    /// How often the cluster had been switched when the client came.
    seen_switches: u64,
    /// What a mirror gets, if there is one.
    mirrored: Option<MirroredReads>,
}

enum PooledState {
    /// No operation is in flight.
    None,
    /// The operation at the front needs one.
    Wanted,
    /// None was idle, at this endpoint if one was picked: the operation at the front has to wait for one.
    NoneIdle(Option<Arc<Endpoint>>),
    /// The operation at the front waits for one.
    Taking(Pin<Box<dyn Future<Output = Result<PooledConnection, TakeError>>>>),
    /// The answer to the operation at the front depends on a question to the service.
    Asking(Pin<Box<dyn Future<Output = Result<(), TakeError>>>>),
    /// An operation uses this one.
    Taken(PooledConnection),
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Upstream::Own { .. } => "Own",
            Upstream::Pooled(_) => "Pooled",
        })
    }
}

impl From<RelayUpstream> for Upstream {
    fn from(upstream: RelayUpstream) -> Self {
        match upstream {
            RelayUpstream::Connected(UpstreamConnection { stream, lease, .. }) => {
                Self::Own { stream, lease: Some(lease) }
            }
            RelayUpstream::Pool { pool, options, mirror } => {
                Self::Pooled(Box::new(PooledUpstream {
                    seen_switches: pool.switches(),
                    pool,
                    options,
                    state: PooledState::None,
                    kept: None,
                    resends: 0,
                    resent: None,
                    mirrored: mirror.map(MirroredReads::new),
                }))
            }
        }
    }
}

impl Upstream {
    /// The socket; `None` while no operation uses a connection of the pool.
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Own { stream, .. } => Some(stream),
            Self::Pooled(pooled) => match &mut pooled.state {
                PooledState::Taken(connection) => Some(&mut connection.socket.stream),
                _ => None,
            },
        }
    }

    /// What counts the connection at its endpoint.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Own { lease, .. } => lease.as_ref(),
            Self::Pooled(pooled) => match &pooled.state {
                PooledState::Taken(connection) => Some(&connection.socket.lease),
                _ => None,
            },
        }
    }

    /// What the endpoint asks of the connection. A pooled one is asked when it is given back.
    pub(super) fn close_request(&self) -> CloseRequest {
        match self {
            Self::Own { lease, .. } => {
                lease.as_ref().map_or(CloseRequest::None, Lease::close_request)
            }
            Self::Pooled(_) => {
                let asked = self.lease().map(Lease::shared_close_request);
                asked.filter(|it| it.close_now().is_some()).unwrap_or(CloseRequest::None)
            }
        }
    }

    /// Whether the cluster of the pool was switched since the client came.
    pub(super) fn was_switched(&self) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        pooled.seen_switches != pooled.pool.switches()
    }

    /// Whether operations take their connections of a pool.
    pub(super) fn is_pooled(&self) -> bool {
        matches!(self, Self::Pooled(_))
    }

    /// Whether an operation needs a connection and has none yet.
    pub(super) fn is_wanted(&self) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        matches!(
            pooled.state,
            PooledState::Wanted
                | PooledState::NoneIdle(_)
                | PooledState::Taking(_)
                | PooledState::Asking(_)
        )
    }

    /// Whether an operation uses a connection of the pool.
    pub(super) fn is_taken(&self) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        matches!(pooled.state, PooledState::Taken(_))
    }

    /// How long the operation has waited for its pooled connection, and how long of that it was held.
    pub(super) fn waited(&self) -> Option<(Duration, Duration)> {
        let Self::Pooled(pooled) = self else { return None };
        let PooledState::Taken(connection) = &pooled.state else { return None };
        Some((connection.waited, connection.held)).filter(|(waited, _)| !waited.is_zero())
    }

    /// Whether the server's stream has ended in a way that may hide missing bytes.
    pub(super) fn is_truncated(&mut self) -> bool {
        self.stream().is_some_and(|stream| stream.is_truncated())
    }

    /// Says that an operation needs a connection. Returns whether it has to wait for
    /// [`poll_take`](Upstream::poll_take).
    pub(super) fn want(
        &mut self,
        long_poll: bool,
        placement: Placement,
        waits_when_unreachable: bool,
    ) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        if matches!(pooled.state, PooledState::Taken(_)) {
            return false;
        }
        pooled.options.long_poll = long_poll;
        pooled.options.is_held_when_unreachable = waits_when_unreachable;
        pooled.options.placement = match placement {
            Placement::Pinned(key) => {
                pooled.pool.pinned(key).map_or(placement, Placement::Endpoint)
            }
            placed => placed,
        };
        pooled.options.exclude.clear();
        pooled.state = PooledState::Wanted;
        true
    }

    /// The attribute by which the operation that wants a connection takes its turn, unless it waits already.
    pub(super) fn fair_by(&self) -> Option<Arc<str>> {
        let Self::Pooled(pooled) = self else { return None };
        pooled.pool.fair_by().filter(|_| matches!(pooled.state, PooledState::Wanted))
    }

    /// Records whether the operation continues a state at the service.
    pub(super) fn set_continues_state(&mut self, continues: bool) {
        if let Self::Pooled(pooled) = self {
            pooled.options.continues_state = continues;
        }
    }

    pub(super) fn set_fair_key(&mut self, key: u64) {
        if let Self::Pooled(pooled) = self {
            pooled.options.fair_key = key;
        }
    }

    /// Whether its connections have to introduce themselves, and it is not known yet as what.
    pub(super) fn lacks_identity(&self) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        pooled.pool.is_by_app() && pooled.options.identity.application.is_none()
    }

    pub(super) fn set_application(&mut self, application: Option<Arc<str>>) {
        if let Self::Pooled(pooled) = self {
            pooled.options.identity.application = application;
        }
    }

    /// Sets the user with whose rights operations are done.
    pub(super) fn set_user(&mut self, user: Option<&PoolUser>) {
        if let Self::Pooled(pooled) = self
            && pooled.options.identity.user.as_ref() != user
        {
            pooled.options.identity.user = user.cloned();
        }
    }

    /// Asks the service before the operation at the front is answered. Returns whether that was begun.
    pub(super) fn ask(&mut self, query: ServiceQuery) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        if !matches!(pooled.state, PooledState::None) {
            return false;
        }
        pooled.state = PooledState::Asking(Box::pin(Rc::clone(&pooled.pool).ask(query)));
        true
    }

    /// Whether a copy of the request under way is kept.
    pub(super) fn has_copy(&self) -> bool {
        matches!(self, Self::Pooled(pooled) if pooled.kept.is_some())
    }

    /// Keeps a copy of the request under way, for [`resend`](Upstream::resend).
    pub(super) fn keep(&mut self, request: &[u8]) {
        if let Self::Pooled(pooled) = self {
            pooled.kept = Some(request.into());
        }
    }

    /// What a mirror gets of the operations, if there is one.
    pub(super) fn mirrored(&mut self) -> Option<&mut MirroredReads> {
        let Self::Pooled(pooled) = self else { return None };
        pooled.mirrored.as_mut()
    }

    /// Whether the request under way may be sent again.
    pub(super) fn may_resend(&self) -> bool {
        matches!(self, Self::Pooled(pooled) if pooled.may_resend())
    }

    /// Gives the connection back, and wants one to an endpoint that the request was not sent to. Returns
    /// the request.
    pub(super) fn resend(&mut self, reason: ResendReason) -> Option<Box<[u8]>> {
        let Self::Pooled(pooled) = self else { return None };
        let request = pooled.kept.clone()?;
        match std::mem::replace(&mut pooled.state, PooledState::Wanted) {
            PooledState::Taken(connection) => {
                pooled.resends = pooled.resends.saturating_add(1);
                pooled.resent = Some(reason);
                match reason {
                    ResendReason::NotHeld => {
                        pooled.options.exclude.push(connection.socket.lease.endpoint().clone());
                        pooled.options.placement = Placement::Any;
                    }
                    ResendReason::LostRole => connection.socket.lease.doubt_endpoint(),
                    ResendReason::Unsupported => {}
                    // It is closed.
                    ResendReason::LostConnection => return Some(request),
                }
                connection.give_back();
                Some(request)
            }
            other => {
                pooled.state = other;
                None
            }
        }
    }

    /// The endpoint of the connection that the operation has taken.
    pub(super) fn taken(&self) -> Option<TakenUpstream> {
        let Self::Pooled(pooled) = self else { return None };
        let PooledState::Taken(connection) = &pooled.state else { return None };
        let endpoint = connection.socket.lease.endpoint();
        let looks_for_state =
            matches!(pooled.options.placement, Placement::Pinned(_) | Placement::Any);
        let has_untried = pooled.kept.is_some() && looks_for_state && {
            let mut tried = pooled.options.exclude.clone();
            tried.push(endpoint.clone());
            pooled.pool.has_others(&tried)
        };
        let may_resend = pooled.may_resend();
        Some(TakenUpstream { endpoint: endpoint.address(), has_untried, may_resend })
    }

    /// The connection that the operation has taken was lost: see [`ConnectionPool::connection_lost`].
    pub(super) fn record_loss(&self) {
        if let Self::Pooled(pooled) = self
            && let PooledState::Taken(connection) = &pooled.state
        {
            pooled.pool.connection_lost(connection.socket.lease.endpoint());
        }
    }

    /// Forgets which endpoint holds the state with this key.
    pub(super) fn unpin(&self, key: u64) {
        if let Self::Pooled(pooled) = self {
            pooled.pool.unpin(key);
        }
    }

    /// Lets the service end the operation that has taken a connection, without its client.
    pub(super) fn finish_without_client(&mut self) {
        let Self::Pooled(pooled) = self else { return };
        match std::mem::replace(&mut pooled.state, PooledState::None) {
            PooledState::Taken(connection) => pooled.pool.finish(connection),
            other => pooled.state = other,
        }
    }

    /// Takes an idle connection for the operation that wants one. Returns whether none is idle, so that it
    /// has to [begin to wait](Upstream::begin_to_wait).
    pub(super) fn try_take(&mut self) -> bool {
        let Self::Pooled(pooled) = self else { return false };
        if matches!(pooled.state, PooledState::Wanted) {
            pooled.state = match pooled.pool.try_take(&pooled.options) {
                Ok(ready) => PooledState::Taken(ready),
                Err(picked) => PooledState::NoneIdle(picked),
            };
        }
        matches!(pooled.state, PooledState::NoneIdle(_))
    }

    /// Has the operation wait for a connection, at most until its own time limit.
    pub(super) fn begin_to_wait(&mut self, time_limit: Option<Duration>) {
        let Self::Pooled(pooled) = self else { return };
        if let PooledState::NoneIdle(picked) = &mut pooled.state {
            pooled.options.time_limit = time_limit;
            let take = Rc::clone(&pooled.pool).take(pooled.options.clone(), picked.take());
            pooled.state = PooledState::Taking(Box::pin(take));
        }
    }

    /// Ready when the operation at the front has its connection, or can't get one.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TakeError>> {
        let Self::Pooled(pooled) = self else { return Poll::Ready(Ok(())) };
        if let PooledState::Asking(asking) = &mut pooled.state {
            let answered = ready!(asking.as_mut().poll(cx));
            pooled.state = PooledState::None;
            return Poll::Ready(answered);
        }
        if let PooledState::Taking(taking) = &mut pooled.state {
            let taken = ready!(taking.as_mut().poll(cx));
            pooled.state = PooledState::None;
            pooled.state = PooledState::Taken(taken?);
        }
        Poll::Ready(Ok(()))
    }

    /// Ends what the client has left behind at the services of the pool.
    pub(super) fn end_orphans(&self, left: impl FnOnce() -> Vec<Box<dyn Orphan>>) {
        if let Self::Pooled(pooled) = self {
            pooled.pool.end_orphans(&pooled.options.identity, left());
        }
    }

    /// Counts an operation that has ended, if its request was sent again. Returns how often it was sent.
    pub(super) fn count_replay(&mut self, outcome: Outcome) -> u8 {
        let Self::Pooled(pooled) = self else { return 1 };
        if let Some(cause) = pooled.resent.take() {
            pooled.pool.count_replay(cause, outcome);
        }
        1 + pooled.resends
    }

    /// Forgets the copy of a request that has ended.
    pub(super) fn forget_request(&mut self) {
        if let Self::Pooled(pooled) = self {
            (pooled.kept, pooled.resends, pooled.resent) = (None, 0, None);
            pooled.mirrored.iter_mut().for_each(MirroredReads::forget);
        }
    }

    /// Gives the connection back to the pool.
    pub(super) fn give_back(&mut self) {
        self.forget_request();
        let Self::Pooled(pooled) = self else { return };
        match std::mem::replace(&mut pooled.state, PooledState::None) {
            PooledState::Taken(connection) => connection.give_back(),
            other => pooled.state = other,
        }
    }

    /// Keeps the connection for the client, out of the pool.
    pub(super) fn detach(&mut self) {
        let Self::Pooled(pooled) = self else { return };
        match std::mem::replace(&mut pooled.state, PooledState::None) {
            PooledState::Taken(connection) => {
                *self = RelayUpstream::Connected(connection.detach()).into();
            }
            other => pooled.state = other,
        }
    }

    /// Closes the connection, and releases its place at the endpoint.
    pub(super) fn close(&mut self) {
        match self {
            Self::Own { stream, lease } => {
                *lease = None;
                stream.close();
            }
            Self::Pooled(pooled) => {
                pooled.state = PooledState::None;
                self.forget_request();
            }
        }
    }

    /// Makes dropping the connection reset it.
    pub(super) fn reset_on_drop(&mut self) {
        self.stream().into_iter().for_each(|stream| stream.reset_on_drop());
    }
}

impl PooledUpstream {
    fn may_resend(&self) -> bool {
        self.kept.is_some() && self.resends < MAX_RESENDS
    }
}
