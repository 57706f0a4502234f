//! The pooled connections of one endpoint, without I/O: how many there are, and whose turn it is.

use super::{Handed, IdleConnection, PooledSocket, wait_queue::WaitQueue};
use crate::{Endpoint, PoolReport, endpoint::UserPool, plan::PoolPlan};
use operation::{Identity, Role};
use std::sync::Arc;
use tokio::{sync::oneshot, time::Instant};

/// What a connection is used for. Each use has a limit of its own, so that operations which wait for
/// news (long polls) leave connections for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// An operation that is answered soon.
    Operation,
    /// An operation whose answer may take for ever.
    LongPoll,
}

/// The connections that are in use, being opened, or waited for.
#[derive(Debug, Default)]
pub(super) struct UseCounts {
    /// The most connections.
    limit: usize,
    active: usize,
    connecting: usize,
    waiting: WaitQueue<oneshot::Sender<Handed>>,
}

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct EndpointPool {
    pub(super) endpoint: Arc<Endpoint>,
    /// What its connections have introduced themselves as.
    pub(super) identity: Identity,
    /// Its role when operations were last made to pick again.
    pub(super) role: Role,
    /// The one that was used last is at the end.
    pub(super) idle: Vec<IdleConnection>,
    operations: UseCounts,
    long_polls: UseCounts,
    /// The most connections that are opened at the same time.
    max_connecting: usize,
    /// The sums over all workers.
    user_pool: Arc<UserPool>,
    /// What was added to them.
    published: PoolReport,
}

impl EndpointPool {
    pub(super) fn new(endpoint: &Arc<Endpoint>, identity: &Identity, plan: &PoolPlan) -> Self {
        let limited = |limit| UseCounts { limit, ..UseCounts::default() };
        Self {
            endpoint: Arc::clone(endpoint),
            identity: identity.clone(),
            role: endpoint.role(),
            idle: Vec::new(),
            operations: limited(plan.max_pool_size),
            long_polls: limited(plan.max_awaiting),
            max_connecting: plan.max_connecting,
            user_pool: endpoint.user_pool(user_name(identity)),
            published: PoolReport::default(),
        }
    }

    /// Replaces the limits. Returns the idle connections that are too many now; operations go on.
    pub(super) fn set_limits(&mut self, plan: &PoolPlan) -> Vec<IdleConnection> {
        self.operations.limit = plan.max_pool_size;
        self.long_polls.limit = plan.max_awaiting;
        self.max_connecting = plan.max_connecting;
        let Self { operations, idle, .. } = self;
        let open = operations.active + operations.connecting + idle.len();
        let surplus = open.saturating_sub(operations.limit).min(idle.len());
        let surplus = idle.drain(..surplus).collect();
        self.publish();
        surplus
    }

    pub(super) fn counts(&mut self, usage: Use) -> &mut UseCounts {
        match usage {
            Use::Operation => &mut self.operations,
            Use::LongPoll => &mut self.long_polls,
        }
    }

    /// Whether its connections lead to this endpoint, and introduce themselves so.
    pub(super) fn leads_to(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint) && self.identity == *identity
    }

    /// Where its connections lead, and what they introduce themselves as.
    pub(super) fn destination(&self) -> (Arc<Endpoint>, Identity) {
        (Arc::clone(&self.endpoint), self.identity.clone())
    }

    /// An address that has left the cluster and has come back is another endpoint.
    pub(super) fn move_to(&mut self, endpoint: &Arc<Endpoint>) {
        let published = std::mem::take(&mut self.published);
        self.user_pool.add_change(published, PoolReport::default());
        self.user_pool = endpoint.user_pool(user_name(&self.identity));
        self.endpoint = Arc::clone(endpoint);
    }

    /// How many operations wait.
    pub(super) fn waiting(&self) -> usize {
        self.operations.waiting.len() + self.long_polls.waiting.len()
    }

    /// Whether nothing belongs to it.
    pub(super) fn is_empty(&self) -> bool {
        let unused = |counts: &UseCounts| {
            counts.active == 0 && counts.connecting == 0 && counts.waiting.len() == 0
        };
        self.idle.is_empty() && unused(&self.operations) && unused(&self.long_polls)
    }

    /// Whether the limit allows one more connection for this use.
    fn has_room(&self, usage: Use) -> bool {
        match usage {
            Use::Operation => {
                let counts = &self.operations;
                counts.active + counts.connecting + self.idle.len() < counts.limit
            }
            Use::LongPoll => {
                self.long_polls.active + self.long_polls.connecting < self.long_polls.limit
            }
        }
    }

    /// Takes the idle connection that was used last, unless others wait for one.
    pub(super) fn take_idle(&mut self, usage: Use) -> Option<IdleConnection> {
        let others_wait = self.operations.waiting.len() > 0;
        let within = usage == Use::Operation || self.has_room(usage);
        if others_wait || !within {
            return None;
        }
        let connection = self.idle.pop()?;
        self.counts(usage).active += 1;
        Some(connection)
    }

    /// Records that a connection is no longer in use.
    pub(super) fn release(&mut self, usage: Use) {
        let counts = self.counts(usage);
        counts.active = counts.active.saturating_sub(1);
    }

    /// Adds an operation that waits.
    pub(super) fn enqueue(&mut self, usage: Use, key: u64) -> oneshot::Receiver<Handed> {
        let (sender, receiver) = oneshot::channel();
        self.counts(usage).waiting.push(key, sender);
        receiver
    }

    /// Forgets operations that have given up.
    pub(super) fn prune(&mut self) {
        self.operations.waiting.retain(|waiter| !waiter.is_closed());
        self.long_polls.waiting.retain(|waiter| !waiter.is_closed());
    }

    /// The next operation that may have a connection, which counts as in use from now on.
    pub(super) fn next_waiter(&mut self) -> Option<(Use, oneshot::Sender<Handed>)> {
        for usage in [Use::Operation, Use::LongPoll] {
            // Connections that are being opened count too: they may come at any time.
            let within = self.has_room(usage);
            let counts = self.counts(usage);
            while within && let Some(waiter) = counts.waiting.pop() {
                if !waiter.is_closed() {
                    counts.active += 1;
                    return Some((usage, waiter));
                }
            }
        }
        None
    }

    /// Keeps a connection that no operation waits for, if the limit allows. Returns it otherwise.
    pub(super) fn keep(&mut self, connection: IdleConnection) -> Option<IdleConnection> {
        if self.has_room(Use::Operation) {
            self.idle.push(connection);
            return None;
        }
        Some(connection)
    }

    /// For which uses connections must be opened now; they count as being opened from now on.
    /// `min_idle`: how many operations could begin at once, if nothing waits.
    pub(super) fn begin_connecting(&mut self, min_pool_size: usize) -> Vec<Use> {
        let mut begun = Vec::new();
        for usage in [Use::Operation, Use::LongPoll] {
            while self.needs_connection(usage, min_pool_size) {
                self.counts(usage).connecting += 1;
                begun.push(usage);
            }
        }
        begun
    }

    fn needs_connection(&self, usage: Use, min_pool_size: usize) -> bool {
        let counts = match usage {
            Use::Operation => &self.operations,
            Use::LongPoll => &self.long_polls,
        };
        let total = counts.active + counts.connecting + self.idle.len();
        let wanted = counts.waiting.len() > counts.connecting
            || (usage == Use::Operation && total < min_pool_size);
        let connecting = self.operations.connecting + self.long_polls.connecting;
        wanted && connecting < self.max_connecting && self.has_room(usage)
    }

    /// Records that a connection was opened, or could not be.
    pub(super) fn connecting_ended(&mut self, usage: Use) {
        let counts = self.counts(usage);
        counts.connecting = counts.connecting.saturating_sub(1);
    }

    /// Removes and returns the operations that wait.
    pub(super) fn take_waiters(&mut self) -> Vec<oneshot::Sender<Handed>> {
        let mut waiters = Vec::new();
        for usage in [Use::Operation, Use::LongPoll] {
            let waiting = &mut self.counts(usage).waiting;
            waiters.extend(std::iter::from_fn(|| waiting.pop()).filter(|it| !it.is_closed()));
        }
        waiters
    }

    /// Removes and returns idle connections that `expired` names.
    pub(super) fn remove_idle(
        &mut self,
        mut expired: impl FnMut(&mut PooledSocket) -> bool,
    ) -> Vec<IdleConnection> {
        self.idle.extract_if(.., |connection| expired(connection)).collect()
    }

    /// How many connections there are, and how many operations wait.
    pub(super) fn report(&self) -> PoolReport {
        PoolReport {
            idle: self.idle.len(),
            active: self.operations.active,
            awaiting: self.long_polls.active,
            connecting: self.operations.connecting + self.long_polls.connecting,
            waiting: self.waiting(),
        }
    }

    /// Adds what has changed to the sums over all workers.
    pub(super) fn publish(&mut self) {
        let now = self.report();
        let before = std::mem::replace(&mut self.published, now);
        if before != now {
            self.user_pool.add_change(before, now);
        }
    }
}

fn user_name(identity: &Identity) -> &str {
    identity.user.as_ref().map_or("", |user| &user.name)
}

/// Removes what was added to the sums over all workers.
impl Drop for EndpointPool {
    fn drop(&mut self) {
        self.user_pool.add_change(self.published, PoolReport::default());
    }
}

impl PooledSocket {
    /// Whether it may be used again: its endpoint asks for no close, and it is not too old.
    pub(super) fn is_usable(&self, plan: &PoolPlan, now: Instant) -> bool {
        self.lease.shared_close_request() == crate::CloseRequest::None
            && plan.max_lifetime.is_none_or(|most| now - self.opened < most)
    }
}
