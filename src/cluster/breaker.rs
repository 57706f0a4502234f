//! How much may be under way in a cluster, and who waits when that is reached.
//!
//! Clients that find no room wait in the order in which they came, on whichever worker: the one
//! at the front holds the *turn* and tries again whenever a connection ends. Who comes meanwhile
//! goes to the end. The way of an operation meets one atomic, and that only if it is limited.

use super::{Cluster, events::Seldom};
use crate::config::plan::BreakerPlan;
use metrics::{Counter, Gauge};
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{self, Instant},
};
use tollgate_metrics::{Metrics, table as names};

/// What is under way in a cluster, and its limits.
pub(super) struct Breaker {
    cluster: Arc<str>,
    plan: BreakerPlan,
    /// Connections that are open or being opened.
    connections: AtomicUsize,
    /// How many of them are open.
    open: AtomicUsize,
    /// How many of them are being opened, and in how many of these cases not for the first time.
    opening: AtomicUsize,
    retrying: AtomicUsize,
    /// Clients that wait for room; `turn` is held by the first of them, `room` wakes it.
    pending: AtomicUsize,
    turn: Semaphore,
    room: Notify,
    operations: Arc<AtomicUsize>,
    /// What is said to who is refused an operation.
    busy: Box<str>,
    meters: Meters,
    /// Whether to tell an operator of each limit.
    said: [Seldom; Limit::ALL.len()],
}

struct Meters {
    pending: Gauge,
    refusals: [Counter; Limit::ALL.len()],
}

/// A limit that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of connections to the cluster.
    Connections,
    /// Of connections to each of its endpoints.
    ConnectionsPerEndpoint,
    /// Of operations.
    Operations,
    /// Of attempts to connect after the first.
    Retries,
}

impl Limit {
    const ALL: [Limit; 4] =
        [Limit::Connections, Limit::ConnectionsPerEndpoint, Limit::Operations, Limit::Retries];

    /// The key in the config, and the word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "max_connections",
            Limit::ConnectionsPerEndpoint => "max_connections_per_endpoint",
            Limit::Operations => "max_operations",
            Limit::Retries => "retry_percent",
        }
    }

    /// Whether there is such a limit.
    fn is_set(self, plan: &BreakerPlan) -> bool {
        match self {
            Limit::Connections => plan.max_connections.is_some(),
            Limit::ConnectionsPerEndpoint => plan.max_connections_per_endpoint.is_some(),
            Limit::Operations => plan.max_operations.is_some(),
            Limit::Retries => true,
        }
    }
}

/// Why a client that found no room is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may.
    Crowded(usize),
    /// It waited that long.
    Late(Duration),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Crowded(0) => f.write_str("no client may wait (max_pending)"),
            Refused::Crowded(1) => f.write_str("1 client waits already (max_pending)"),
            Refused::Crowded(n) => write!(f, "{n} clients wait already (max_pending)"),
            Refused::Late(time) => {
                let time = humantime::format_duration(*time);
                write!(f, "none was free within {time} (pending_timeout)")
            }
        }
    }
}

impl Breaker {
    pub(super) fn new(cluster: &Arc<str>, plan: &BreakerPlan, metrics: &Metrics) -> Self {
        let refusals = Limit::ALL.map(|limit| {
            let labels = [("cluster", &**cluster), ("limit", limit.as_str())];
            match limit.is_set(plan) {
                true => metrics.counter(names::BREAKER_REFUSALS_TOTAL, &labels),
                // What can't be reached needs no series.
                false => Counter::noop(),
            }
        });
        let pending = metrics.gauge(names::CONNECTIONS_PENDING, &[("cluster", cluster)]);
        let most = plan.max_operations.unwrap_or(usize::MAX);
        let busy = format!(
            "cluster `{cluster}` is at its limit of {most} operations \
             (circuit_breaker.max_operations)"
        );
        Self {
            cluster: Arc::clone(cluster),
            plan: plan.clone(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            room: Notify::new(),
            operations: Arc::default(),
            busy: busy.into(),
            meters: Meters { pending, refusals },
            said: Default::default(),
        }
    }

    /// The limit of connections to one endpoint.
    pub(super) fn per_endpoint(&self) -> usize {
        self.plan.max_connections_per_endpoint.unwrap_or(usize::MAX)
    }

    /// That a limit is reached, in words that name the key to change.
    pub(super) fn full(&self, limit: Limit) -> String {
        let BreakerPlan { max_connections, max_connections_per_endpoint, .. } = &self.plan;
        match limit {
            Limit::Connections => format!(
                "is at its limit of {} connections (circuit_breaker.max_connections)",
                max_connections.unwrap_or(usize::MAX)
            ),
            Limit::ConnectionsPerEndpoint => format!(
                "is at its limit of {} connections to each endpoint \
                 (circuit_breaker.max_connections_per_endpoint)",
                max_connections_per_endpoint.unwrap_or(usize::MAX)
            ),
            Limit::Operations => format!(
                "is at its limit of {} operations (circuit_breaker.max_operations)",
                self.plan.max_operations.unwrap_or(usize::MAX)
            ),
            Limit::Retries => "is at its limit of attempts to connect after the first \
                               (circuit_breaker.retry_percent, min_retries)"
                .to_owned(),
        }
    }

    /// Whether clients wait: who comes now has to wait behind them.
    pub(super) fn is_awaited(&self) -> bool {
        self.pending.load(SeqCst) > 0
    }

    /// There may be room for who waits first.
    pub(super) fn make_room(&self) {
        if self.is_awaited() {
            self.room.notify_one();
        }
    }

    /// Takes a place at the end of the queue; `Err` if there is none.
    fn queue(&self, limit: Limit) -> Result<Pending<'_>, Refused> {
        self.hit(limit);
        let most = self.plan.max_pending;
        if !raise(&self.pending, most) {
            self.count(limit);
            return Err(Refused::Crowded(most));
        }
        self.meters.pending.increment(1.0);
        Ok(Pending(self))
    }

    fn count(&self, limit: Limit) {
        self.meters.refusals[limit as usize].increment(1);
    }

    /// Tells an operator that a limit is reached, though not for each of many.
    fn hit(&self, limit: Limit) {
        if self.said[limit as usize].is_due() {
            tracing::warn!(cluster = &*self.cluster, "the cluster {}", self.full(limit));
        }
    }

    /// What is under way beside its limits, for people; `None` where there is no limit.
    pub(super) fn words(&self) -> Option<String> {
        let of = |now: &AtomicUsize, most: Option<usize>| {
            let now = now.load(Relaxed);
            most.map_or(now.to_string(), |most| format!("{now} of {most}"))
        };
        let BreakerPlan { max_connections, max_operations, .. } = self.plan;
        let each = self.plan.max_connections_per_endpoint;
        if (max_connections, each, max_operations) == (None, None, None) {
            return None;
        }
        let mut words = format!("{} connections", of(&self.connections, max_connections));
        if let Some(each) = each {
            let _ = write!(words, " (up to {each} to each endpoint)");
        }
        if max_operations.is_some() {
            let _ = write!(words, ", {} operations", of(&self.operations, max_operations));
        }
        let waiting = of(&self.pending, Some(self.plan.max_pending));
        let _ = write!(words, ", {waiting} clients waiting");
        Some(words)
    }

    /// What the admin interface shows.
    pub(super) fn report(&self) -> Value {
        let plan = &self.plan;
        json!({
            "connections": self.connections.load(Relaxed),
            "max_connections": plan.max_connections,
            "max_connections_per_endpoint": plan.max_connections_per_endpoint,
            "pending": self.pending.load(Relaxed),
            "max_pending": plan.max_pending,
            // Counted only where limited.
            "operations": plan.max_operations.map(|_| self.operations.load(Relaxed)),
            "max_operations": plan.max_operations,
        })
    }
}

impl Cluster {
    /// Lets one more operation begin; `None` at the limit, and then the answer is a refusal for
    /// [`Reason::Overloaded`](operation::Reason::Overloaded) with the words of
    /// [`overloaded`](Cluster::overloaded).
    pub fn admit_operation(&self) -> Option<OperationPermit> {
        let breaker = &self.breaker;
        let Some(most) = breaker.plan.max_operations else { return Some(OperationPermit(None)) };
        // Two that meet at the limit may both be refused; never do both pass it.
        if breaker.operations.fetch_add(1, Relaxed) < most {
            return Some(OperationPermit(Some(Arc::clone(&breaker.operations))));
        }
        breaker.operations.fetch_sub(1, Relaxed);
        breaker.hit(Limit::Operations);
        breaker.count(Limit::Operations);
        None
    }

    /// Whether any connection to the cluster is open.
    pub fn is_connected(&self) -> bool {
        self.breaker.open.load(Relaxed) > 0
    }

    /// Whether a client waits for a connection to end: one at rest is better closed then than kept.
    pub fn is_awaited(&self) -> bool {
        self.breaker.is_awaited()
    }

    /// Whether operations are limited at all.
    pub fn limits_operations(&self) -> bool {
        self.breaker.plan.max_operations.is_some()
    }

    /// What is said to who is refused by [`admit_operation`](Cluster::admit_operation).
    pub fn overloaded(&self) -> &str {
        &self.breaker.busy
    }

    /// Takes a permit, if there is none yet, and what `take` reserves beside it; waits for both
    /// until `deadline`, which is set when waiting begins.
    ///
    /// `take` says which limit leaves no room. Who gives back what it reserved calls
    /// [`Breaker::make_room`].
    pub(super) async fn reserve<T>(
        self: &Arc<Self>,
        deadline: &mut Option<Instant>,
        permit: &mut Option<Permit>,
        mut take: impl FnMut() -> Result<T, Limit>,
    ) -> Result<T, (Limit, Refused)> {
        let breaker = &self.breaker;
        // Who waits behind others knows only that there is a limit.
        let mut limit = match breaker.plan.max_connections {
            Some(_) => Limit::Connections,
            None => Limit::ConnectionsPerEndpoint,
        };
        // Who holds a permit was served before those that wait.
        if permit.is_some() || !breaker.is_awaited() {
            match self.seize(permit, &mut take) {
                Ok(taken) => return Ok(taken),
                Err(full) => limit = full,
            }
            // Whoever waits before this client must not wait for what it holds.
            *permit = None;
        }
        let pending = breaker.queue(limit).map_err(|refused| (limit, refused))?;
        let timeout = breaker.plan.pending_timeout;
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
        let served = time::timeout_at(deadline, async {
            // It is never closed, so the turn comes. Whoever has it looks for room at once, and so
            // nothing is lost when the one before gave up.
            let _turn = breaker.turn.acquire().await;
            loop {
                match self.seize(permit, &mut take) {
                    Ok(taken) => return taken,
                    Err(full) => limit = full,
                }
                breaker.room.notified().await;
            }
        });
        let served = served.await;
        drop(pending);
        served.map_err(|_| {
            breaker.count(limit);
            (limit, Refused::Late(timeout))
        })
    }

    fn seize<T>(
        self: &Arc<Self>,
        permit: &mut Option<Permit>,
        take: &mut impl FnMut() -> Result<T, Limit>,
    ) -> Result<T, Limit> {
        if permit.is_none() {
            *permit = Some(Permit::take(self)?);
        }
        take()
    }
}

/// A client that waits, until dropped.
struct Pending<'b>(&'b Breaker);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, SeqCst);
        self.0.meters.pending.decrement(1.0);
    }
}

/// A connection of the cluster, open or being opened, until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    cluster: Arc<Cluster>,
    open: bool,
}

impl Permit {
    /// Counts one more connection, if there is room.
    pub(super) fn take(cluster: &Arc<Cluster>) -> Result<Self, Limit> {
        let breaker = &cluster.breaker;
        let most = breaker.plan.max_connections.unwrap_or(usize::MAX);
        match raise(&breaker.connections, most) {
            true => Ok(Self { cluster: Arc::clone(cluster), open: false }),
            false => Err(Limit::Connections),
        }
    }

    /// Its connection is open now.
    pub(super) fn opened(mut self) -> Self {
        self.cluster.breaker.open.fetch_add(1, Relaxed);
        self.open = true;
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let breaker = &self.cluster.breaker;
        if self.open {
            breaker.open.fetch_sub(1, Relaxed);
        }
        breaker.connections.fetch_sub(1, SeqCst);
        breaker.make_room();
    }
}

/// A connection that is being opened, until dropped: what retries are measured by.
pub(super) struct Opening<'b> {
    breaker: &'b Breaker,
    retrying: bool,
}

impl<'b> Opening<'b> {
    pub(super) fn new(breaker: &'b Breaker) -> Self {
        breaker.opening.fetch_add(1, Relaxed);
        Self { breaker, retrying: false }
    }

    /// Whether another attempt may follow one that failed. It is asked before each.
    pub(super) fn may_retry(&mut self) -> bool {
        let Breaker { opening, retrying, plan, .. } = self.breaker;
        let share = opening.load(Relaxed).saturating_mul(plan.retry_percent.into()) / 100;
        if self.retrying || raise(retrying, share.max(plan.min_retries)) {
            self.retrying = true;
            return true;
        }
        self.breaker.hit(Limit::Retries);
        self.breaker.count(Limit::Retries);
        false
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.breaker.opening.fetch_sub(1, Relaxed);
        if self.retrying {
            self.breaker.retrying.fetch_sub(1, Relaxed);
        }
    }
}

/// An operation of the cluster, until dropped. Costs nothing where operations are not limited.
#[derive(Debug)]
pub struct OperationPermit(Option<Arc<AtomicUsize>>);

impl Drop for OperationPermit {
    fn drop(&mut self) {
        if let Some(operations) = &self.0 {
            operations.fetch_sub(1, Relaxed);
        }
    }
}

/// Adds one to `count`, unless it is at `most` already. Never beyond, on no thread.
pub(super) fn raise(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_update(SeqCst, SeqCst, |now| (now < most).then(|| now + 1)).is_ok()
}

#[cfg(test)]
mod tests;
