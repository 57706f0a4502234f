//! The circuit breaker: limits on connections and operations of a cluster, and the queue of clients
//! that wait for capacity.
//!
//! Waiting clients are served in the order of arrival, whichever worker they are on: the one at the
//! front holds `queue_head` and retries whenever a connection ends. The hot path of an operation
//! touches one atomic, and only if operations are limited.

use super::{Cluster, log_throttle::LogThrottle};
use crate::plan::BreakerPlan;
use arc_swap::ArcSwap;
use metrics::{Counter, Gauge};
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, OnceLock,
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

/// The counters of a cluster and their limits.
pub(super) struct Breaker {
    cluster: Arc<str>,
    plan: ArcSwap<BreakerPlan>,
    /// Connections that are open or being opened.
    connections: AtomicUsize,
    /// How many of them are open.
    open: AtomicUsize,
    /// How many of them are being opened, and how many of these are retries.
    opening: AtomicUsize,
    retrying: AtomicUsize,
    /// Waiting clients. The first of them holds `queue_head`, and `capacity_freed` wakes it.
    pending: AtomicUsize,
    queue_head: Semaphore,
    capacity_freed: Notify,
    operations: Arc<AtomicUsize>,
    metrics: BreakerMetrics,
    /// Throttles the log message of each limit.
    log_throttles: [LogThrottle; BreakerLimit::ALL.len()],
}

struct BreakerMetrics {
    pending: Gauge,
    refusals: [OnceLock<Counter>; BreakerLimit::ALL.len()],
    metrics: Metrics,
}

/// A limit of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerLimit {
    /// On connections to the cluster.
    Connections,
    /// On connections to each of its endpoints.
    ConnectionsPerEndpoint,
    /// On operations.
    Operations,
    /// On attempts to connect after the first.
    Retries,
}

impl BreakerLimit {
    const ALL: [BreakerLimit; 4] = [
        BreakerLimit::Connections,
        BreakerLimit::ConnectionsPerEndpoint,
        BreakerLimit::Operations,
        BreakerLimit::Retries,
    ];

    /// The config key, and the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerLimit::Connections => "max_connections",
            BreakerLimit::ConnectionsPerEndpoint => "max_connections_per_endpoint",
            BreakerLimit::Operations => "max_operations",
            BreakerLimit::Retries => "retry_percent",
        }
    }

    /// Whether this limit is configured.
    fn is_set(self, plan: &BreakerPlan) -> bool {
        match self {
            BreakerLimit::Connections => plan.max_connections.is_some(),
            BreakerLimit::ConnectionsPerEndpoint => plan.max_connections_per_endpoint.is_some(),
            BreakerLimit::Operations => plan.max_operations.is_some(),
            BreakerLimit::Retries => true,
        }
    }
}

/// Why a client that found no capacity is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The queue is full; the number of waiting clients.
    QueueFull(usize),
    /// The client has waited for this long.
    TimedOut(Duration),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::QueueFull(0) => f.write_str("no client may wait (max_pending)"),
            QueueError::QueueFull(1) => f.write_str("1 client waits already (max_pending)"),
            QueueError::QueueFull(n) => write!(f, "{n} clients wait already (max_pending)"),
            QueueError::TimedOut(time) => {
                let time = humantime::format_duration(*time);
                write!(f, "none was free within {time} (pending_timeout)")
            }
        }
    }
}

impl Breaker {
    pub(super) fn new(cluster: &Arc<str>, plan: &BreakerPlan, metrics: &Metrics) -> Self {
        let pending = metrics.gauge(names::CONNECTIONS_PENDING, &[("cluster", cluster)]);
        let breaker_metrics =
            BreakerMetrics { pending, refusals: Default::default(), metrics: metrics.clone() };
        let this = Self {
            cluster: Arc::clone(cluster),
            plan: ArcSwap::from_pointee(plan.clone()),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            queue_head: Semaphore::new(1),
            capacity_freed: Notify::new(),
            operations: Arc::default(),
            metrics: breaker_metrics,
            log_throttles: Default::default(),
        };
        this.register_limits(plan);
        this
    }

    /// Replaces the limits. What is counted stays counted.
    pub(super) fn set_plan(&self, plan: &BreakerPlan) {
        self.register_limits(plan);
        self.plan.store(Arc::new(plan.clone()));
        // A higher limit has room for clients that wait.
        self.notify_capacity();
    }

    /// A limit that is not set needs no series.
    fn register_limits(&self, plan: &BreakerPlan) {
        let set = BreakerLimit::ALL.into_iter().filter(|limit| limit.is_set(plan));
        set.for_each(|limit| _ = self.refusals(limit));
    }

    fn refusals(&self, limit: BreakerLimit) -> &Counter {
        self.metrics.refusals[limit as usize].get_or_init(|| {
            let labels = [("cluster", &*self.cluster), ("limit", limit.as_str())];
            self.metrics.metrics.counter(names::BREAKER_REFUSALS_TOTAL, &labels)
        })
    }

    /// The limit of connections to one endpoint.
    pub(super) fn per_endpoint(&self) -> usize {
        self.plan.load().max_connections_per_endpoint.unwrap_or(usize::MAX)
    }

    /// That a limit is reached, as text that names the config key.
    pub(super) fn describe_limit(&self, limit: BreakerLimit) -> String {
        let plan = self.plan.load();
        let BreakerPlan { max_connections, max_connections_per_endpoint, .. } = &**plan;
        match limit {
            BreakerLimit::Connections => format!(
                "is at its limit of {} connections (circuit_breaker.max_connections)",
                max_connections.unwrap_or(usize::MAX)
            ),
            BreakerLimit::ConnectionsPerEndpoint => format!(
                "is at its limit of {} connections to each endpoint \
                 (circuit_breaker.max_connections_per_endpoint)",
                max_connections_per_endpoint.unwrap_or(usize::MAX)
            ),
            BreakerLimit::Operations => format!(
                "is at its limit of {} operations (circuit_breaker.max_operations)",
                plan.max_operations.unwrap_or(usize::MAX)
            ),
            BreakerLimit::Retries => "is at its limit of attempts to connect after the first \
                               (circuit_breaker.retry_percent, min_retries)"
                .to_owned(),
        }
    }

    /// Whether clients are waiting; later ones queue behind them.
    pub(super) fn has_waiters(&self) -> bool {
        self.pending.load(SeqCst) > 0
    }

    /// Wakes the first waiting client, because capacity may have been freed.
    pub(super) fn notify_capacity(&self) {
        if self.has_waiters() {
            self.capacity_freed.notify_one();
        }
    }

    /// Joins the queue; `Err` if it is full.
    fn enqueue(&self, limit: BreakerLimit) -> Result<QueuePosition<'_>, QueueError> {
        self.log_limit(limit);
        let most = self.plan.load().max_pending;
        if !increment_below(&self.pending, most) {
            self.count_refusal(limit);
            return Err(QueueError::QueueFull(most));
        }
        self.metrics.pending.increment(1.0);
        Ok(QueuePosition(self))
    }

    fn count_refusal(&self, limit: BreakerLimit) {
        self.refusals(limit).increment(1);
    }

    /// Logs that a limit is reached, at most once a minute.
    fn log_limit(&self, limit: BreakerLimit) {
        if self.log_throttles[limit as usize].is_due() {
            tracing::warn!(cluster = &*self.cluster, "the cluster {}", self.describe_limit(limit));
        }
    }

    /// The counters with their limits, as text; `None` without any limit.
    pub(super) fn describe(&self) -> Option<String> {
        let of = |now: &AtomicUsize, most: Option<usize>| {
            let now = now.load(Relaxed);
            most.map_or(now.to_string(), |most| format!("{now} of {most}"))
        };
        let plan = self.plan.load();
        let BreakerPlan { max_connections, max_operations, .. } = **plan;
        let each = plan.max_connections_per_endpoint;
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
        let waiting = of(&self.pending, Some(plan.max_pending));
        let _ = write!(words, ", {waiting} clients waiting");
        Some(words)
    }

    /// The JSON for the admin interface.
    pub(super) fn report(&self) -> Value {
        let plan = self.plan.load();
        json!({
            "connections": self.connections.load(Relaxed),
            "max_connections": plan.max_connections,
            "max_connections_per_endpoint": plan.max_connections_per_endpoint,
            "pending": self.pending.load(Relaxed),
            "max_pending": plan.max_pending,
            // Counted only if limited.
            "operations": plan.max_operations.map(|_| self.operations.load(Relaxed)),
            "max_operations": plan.max_operations,
        })
    }
}

impl Cluster {
    /// Starts one more operation; `None` at the limit. The caller then rejects it for
    /// [`Reason::Overloaded`](operation::RejectReason::Overloaded) with the message of
    /// [`overloaded`](Cluster::overloaded).
    pub fn admit_operation(&self) -> Option<OperationPermit> {
        let breaker = &self.breaker;
        let Some(most) = breaker.plan.load().max_operations else {
            return Some(OperationPermit(None));
        };
        // Two that meet at the limit may both be rejected; both never pass it.
        if breaker.operations.fetch_add(1, Relaxed) < most {
            return Some(OperationPermit(Some(Arc::clone(&breaker.operations))));
        }
        breaker.operations.fetch_sub(1, Relaxed);
        breaker.log_limit(BreakerLimit::Operations);
        breaker.count_refusal(BreakerLimit::Operations);
        None
    }

    /// Whether any connection to the cluster is open.
    pub fn is_connected(&self) -> bool {
        self.breaker.open.load(Relaxed) > 0
    }

    /// Whether a client waits for a connection to end. An idle connection is then better closed
    /// than kept.
    pub fn has_waiters(&self) -> bool {
        self.breaker.has_waiters()
    }

    /// Whether operations are limited.
    pub fn limits_operations(&self) -> bool {
        self.breaker.plan.load().max_operations.is_some()
    }

    /// The message for an operation rejected by [`admit_operation`](Cluster::admit_operation).
    pub fn overloaded(&self) -> String {
        let limit = self.breaker.describe_limit(BreakerLimit::Operations);
        format!("cluster `{}` {limit}", self.name)
    }

    /// Takes a permit, unless there is one, and what `take` reserves in addition. Waits for both
    /// until `deadline`, which is set when the wait begins.
    ///
    /// `take` returns the limit that was reached. The owner of a reservation calls
    /// [`Breaker::notify_capacity`] when it returns it.
    pub(super) async fn reserve<T>(
        self: &Arc<Self>,
        deadline: &mut Option<Instant>,
        permit: &mut Option<ConnectionPermit>,
        mut take: impl FnMut() -> Result<T, BreakerLimit>,
    ) -> Result<T, (BreakerLimit, QueueError)> {
        let breaker = &self.breaker;
        // A client that queues does not know yet which limit holds it back.
        let mut limit = match breaker.plan.load().max_connections {
            Some(_) => BreakerLimit::Connections,
            None => BreakerLimit::ConnectionsPerEndpoint,
        };
        // The holder of a permit was served before those that wait.
        if permit.is_some() || !breaker.has_waiters() {
            match self.try_reserve(permit, &mut take) {
                Ok(taken) => return Ok(taken),
                Err(full) => limit = full,
            }
            // An earlier client must not wait for what this one holds.
            *permit = None;
        }
        let pending = breaker.enqueue(limit).map_err(|refused| (limit, refused))?;
        let timeout = breaker.plan.load().pending_timeout;
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
        let served = time::timeout_at(deadline, async {
            // The semaphore is never closed. The new head tries at once, so a notification is not
            // lost if its predecessor gave up.
            let _turn = breaker.queue_head.acquire().await;
            loop {
                match self.try_reserve(permit, &mut take) {
                    Ok(taken) => return taken,
                    Err(full) => limit = full,
                }
                breaker.capacity_freed.notified().await;
            }
        });
        let served = served.await;
        drop(pending);
        served.map_err(|_| {
            breaker.count_refusal(limit);
            (limit, QueueError::TimedOut(timeout))
        })
    }

    fn try_reserve<T>(
        self: &Arc<Self>,
        permit: &mut Option<ConnectionPermit>,
        take: &mut impl FnMut() -> Result<T, BreakerLimit>,
    ) -> Result<T, BreakerLimit> {
        if permit.is_none() {
            *permit = Some(ConnectionPermit::take(self)?);
        }
        take()
    }
}

/// A waiting client's place in the queue, held until dropped.
struct QueuePosition<'b>(&'b Breaker);

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, SeqCst);
        self.0.metrics.pending.decrement(1.0);
    }
}

/// Counts one connection of the cluster, open or being opened, until dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    cluster: Arc<Cluster>,
    open: bool,
}

impl ConnectionPermit {
    /// Counts one more connection, if there is room.
    pub(super) fn take(cluster: &Arc<Cluster>) -> Result<Self, BreakerLimit> {
        let breaker = &cluster.breaker;
        let most = breaker.plan.load().max_connections.unwrap_or(usize::MAX);
        match increment_below(&breaker.connections, most) {
            true => Ok(Self { cluster: Arc::clone(cluster), open: false }),
            false => Err(BreakerLimit::Connections),
        }
    }

    /// Marks the connection as open.
    pub(super) fn opened(mut self) -> Self {
        self.cluster.breaker.open.fetch_add(1, Relaxed);
        self.open = true;
        self
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let breaker = &self.cluster.breaker;
        if self.open {
            breaker.open.fetch_sub(1, Relaxed);
        }
        breaker.connections.fetch_sub(1, SeqCst);
        breaker.notify_capacity();
    }
}

/// Counts one connection being opened, until dropped. Retries are limited relative to these.
pub(super) struct OpeningConnection<'b> {
    breaker: &'b Breaker,
    retrying: bool,
}

impl<'b> OpeningConnection<'b> {
    pub(super) fn new(breaker: &'b Breaker) -> Self {
        breaker.opening.fetch_add(1, Relaxed);
        Self { breaker, retrying: false }
    }

    /// Whether another attempt may follow a failed one. Called before each retry.
    pub(super) fn may_retry(&mut self) -> bool {
        let Breaker { opening, retrying, plan, .. } = self.breaker;
        let plan = plan.load();
        let share = opening.load(Relaxed).saturating_mul(plan.retry_percent.into()) / 100;
        if self.retrying || increment_below(retrying, share.max(plan.min_retries)) {
            self.retrying = true;
            return true;
        }
        self.breaker.log_limit(BreakerLimit::Retries);
        self.breaker.count_refusal(BreakerLimit::Retries);
        false
    }
}

impl Drop for OpeningConnection<'_> {
    fn drop(&mut self) {
        self.breaker.opening.fetch_sub(1, Relaxed);
        if self.retrying {
            self.breaker.retrying.fetch_sub(1, Relaxed);
        }
    }
}

/// Counts one operation of the cluster, until dropped. Free where operations are not limited.
#[derive(Debug)]
pub struct OperationPermit(Option<Arc<AtomicUsize>>);

impl Drop for OperationPermit {
    fn drop(&mut self) {
        if let Some(operations) = &self.0 {
            operations.fetch_sub(1, Relaxed);
        }
    }
}

/// Increments `count` unless it has reached `most`. Never exceeds it, across threads.
pub(super) fn increment_below(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_update(SeqCst, SeqCst, |now| (now < most).then(|| now + 1)).is_ok()
}

#[cfg(test)]
mod tests;
