//! One endpoint: where it is, how busy it is, how it is doing, and how connecting to it went.

mod meters;

pub(super) use meters::Meters;
use meters::{EJECTED, HERE, UP};

use super::{
    Cluster,
    breaker::{Permit, raise},
    health::Check,
    outlier::{Ejection, Tally},
};
use arc_swap::ArcSwapOption;
use operation::Outcome;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// One address that operations can go to.
///
/// It stays the same object for as long as it stays in its cluster, so what it counts survives
/// each new look-up of its name; connections keep it alive after that.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    name: Arc<str>,
    meters: Arc<Meters>,
    /// Why it is out of use, as bits of [`Out`].
    out: AtomicU8,
    /// What its connections are asked to do, as a [`Wish`].
    wish: AtomicU8,
    /// Since when sets have had it in use, without a break.
    in_use: ArcSwapOption<Instant>,
    active_connections: AtomicUsize,
    active_operations: AtomicUsize,
    connects_ok: AtomicU64,
    connects_failed: AtomicU64,
    last_error: ArcSwapOption<String>,
    /// How operations on it end.
    pub(super) tally: Tally,
    /// Its last health check.
    pub(super) check: ArcSwapOption<Check>,
    /// While it is ejected: by whom, and until when.
    pub(super) ejection: ArcSwapOption<Ejection>,
    /// While it is drained by hand: when its connections are closed.
    pub(super) drained: ArcSwapOption<tokio::time::Instant>,
    /// What the gauges count it as; written by who holds the cluster's lock on changes.
    counted: AtomicU8,
}

impl Endpoint {
    /// An endpoint at `address`; `meters` are shared by all addresses of one name.
    pub(super) fn new(address: SocketAddr, name: Arc<str>, meters: Arc<Meters>) -> Self {
        Self {
            address,
            name,
            meters,
            out: AtomicU8::new(0),
            wish: AtomicU8::new(Wish::Stay as u8),
            in_use: ArcSwapOption::empty(),
            active_connections: AtomicUsize::new(0),
            active_operations: AtomicUsize::new(0),
            connects_ok: AtomicU64::new(0),
            connects_failed: AtomicU64::new(0),
            last_error: ArcSwapOption::empty(),
            tally: Tally::default(),
            check: ArcSwapOption::empty(),
            ejection: ArcSwapOption::empty(),
            drained: ArcSwapOption::empty(),
            counted: AtomicU8::new(0),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name as the config writes it: `db-1:27017`. Several addresses may share it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many connections are open or being opened.
    pub fn active_connections(&self) -> usize {
        self.active_connections.load(Relaxed)
    }

    /// How many operations are under way.
    pub fn active_operations(&self) -> usize {
        self.active_operations.load(Relaxed)
    }

    /// How busy it is, beside others: what `least_request` compares. Connections count as well,
    /// since those that rest now have been opened for operations to come.
    pub fn load(&self) -> usize {
        self.active_operations() + self.active_connections()
    }

    /// Whether it may be picked: nothing speaks against it.
    pub fn usable(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    /// Whether this speaks against it.
    pub fn is_out(&self, why: Out) -> bool {
        self.out.load(Relaxed) & why as u8 != 0
    }

    /// For how long it has been usable, as sets found it, of which one is made `now`; `None` if
    /// it is not.
    pub(super) fn used(&self, now: Instant) -> Option<Duration> {
        if !self.usable() {
            self.in_use.store(None);
            return None;
        }
        let since = self.in_use.load().as_deref().copied().unwrap_or_else(|| {
            self.in_use.store(Some(Arc::new(now)));
            now
        });
        Some(now.saturating_duration_since(since))
    }

    /// Takes it out of use; `false` if it was already, for the same reason. Whoever does so has
    /// the cluster make its set anew.
    pub(super) fn take_out(&self, why: Out) -> bool {
        self.out.fetch_or(why as u8, Relaxed) & why as u8 == 0
    }

    /// This speaks against it no more; `false` if it did not before.
    pub(super) fn bring_back(&self, why: Out) -> bool {
        self.out.fetch_and(!(why as u8), Relaxed) & why as u8 != 0
    }

    /// What its connections are asked to do.
    pub fn wish(&self) -> Wish {
        match self.wish.load(Relaxed) {
            wish if wish == Wish::Stay as u8 => Wish::Stay,
            wish if wish == Wish::Rest as u8 => Wish::Rest,
            wish if wish == Wish::Unhealthy as u8 => Wish::Unhealthy,
            _ => Wish::Removed,
        }
    }

    /// What its connections are asked to do while it is a healthy member of its cluster.
    pub(super) fn usual_wish(&self) -> Wish {
        if self.is_out(Out::Drained) { Wish::Rest } else { Wish::Stay }
    }

    /// Asks its connections to do this; they hear of it when the cluster nudges them.
    pub(super) fn wishes(&self, wish: Wish) {
        self.wish.store(wish as u8, Relaxed);
    }

    /// Asks its connections to do `wish` if they are asked for `now`; `false` if they are not.
    pub(super) fn wishes_instead(&self, now: Wish, wish: Wish) -> bool {
        self.wish.compare_exchange(now as u8, wish as u8, Relaxed, Relaxed).is_ok()
    }

    /// How many connections to it came about, how many did not, and why the last one did not.
    pub(super) fn connects(&self) -> (u64, u64, Option<Arc<String>>) {
        let (ok, failed) = (self.connects_ok.load(Relaxed), self.connects_failed.load(Relaxed));
        (ok, failed, self.last_error.load_full())
    }

    /// Whether the last connection to it did not come about, or its checks fail.
    pub(super) fn is_failing(&self) -> bool {
        self.last_error.load().is_some() || self.is_out(Out::Unhealthy)
    }

    /// Has the gauges count it as it is now, or no more if it is not `here`. Only one thread at a
    /// time may call this.
    pub(super) fn count(&self, here: bool) {
        let mut now = if here { HERE } else { 0 };
        if here && !self.is_out(Out::Unhealthy) {
            now |= UP;
        }
        if here && self.is_out(Out::Ejected) {
            now |= EJECTED;
        }
        let before = self.counted.swap(now, Relaxed);
        if before != now {
            self.meters.moved(before, now);
        }
    }

    /// Takes note of a connection that came about. It ends what `last_error` tells.
    pub(super) fn connected(&self) {
        self.connects_ok.fetch_add(1, Relaxed);
        self.meters.used().ok.increment(1);
        if self.last_error.load().is_some() {
            self.last_error.store(None);
        }
    }

    /// Takes note of a connection that did not come about.
    pub(super) fn failed(&self, how: Failure, error: String) {
        let used = self.meters.used();
        match how {
            Failure::Refused => used.refused.increment(1),
            Failure::Timeout => used.timeout.increment(1),
            Failure::Error => used.error.increment(1),
            // It is not the endpoint's.
            Failure::Local => return used.local.increment(1),
        }
        self.connects_failed.fetch_add(1, Relaxed);
        self.last_error.store(Some(Arc::new(error)));
    }

    pub(super) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }
}

/// Why an endpoint is not picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Out {
    /// Its health checks fail.
    Unhealthy = 1,
    /// Its operations fail.
    Ejected = 2,
    /// An operator has said so.
    Drained = 4,
    /// It is in the cluster no more.
    Removed = 8,
}

/// What an endpoint asks of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wish {
    /// Go on.
    Stay,
    /// Close as soon as nothing is under way.
    Rest,
    /// Close now: the endpoint is unhealthy, and the cluster is configured so.
    Unhealthy,
    /// Close now: the endpoint has left the cluster, or an operator drained it, and
    /// `drain_timeout` is over.
    Removed,
}

/// How an attempt to connect failed, as a metric tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Timeout,
    Error,
    /// For want of something on this machine.
    Local,
}

/// Counts as one of its endpoint's active connections until dropped.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// The endpoint was unhealthy already: it was picked in a panic, for want of better ones.
    in_panic: bool,
    /// Its being counted as one of the cluster's connections; given back with the lease.
    permit: Option<Permit>,
}

impl Lease {
    /// Counts one more connection, whatever the limit.
    #[cfg(test)]
    pub(super) fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active_connections.fetch_add(1, Relaxed);
        Self::counted(cluster, endpoint)
    }

    /// Counts one more connection, if the endpoint has fewer than `most`.
    pub(super) fn within(
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        most: usize,
    ) -> Option<Self> {
        raise(&endpoint.active_connections, most).then(|| Self::counted(cluster, endpoint))
    }

    fn counted(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        cluster.turns.more();
        endpoint.meters.used().active.increment(1.0);
        Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            in_panic: endpoint.wish() == Wish::Unhealthy,
            permit: None,
        }
    }

    /// Keeps the permit for as long as the lease.
    pub(super) fn hold(&mut self, permit: Option<Permit>) {
        self.permit = permit;
    }

    /// Where the connection leads.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the endpoint asks of the connection.
    pub fn wish(&self) -> Wish {
        match self.endpoint.wish() {
            Wish::Unhealthy if self.in_panic => Wish::Stay,
            wish => wish,
        }
    }

    /// An operation goes to the endpoint.
    pub fn began(&self) {
        self.endpoint.active_operations.fetch_add(1, Relaxed);
        self.cluster.turns.more();
        self.endpoint.meters.used().operations_active.increment(1.0);
    }

    /// An operation that [`began`](Lease::began) is over, after it `took` so long.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        self.over();
        self.cluster.observe(&self.endpoint, outcome, took);
    }

    /// A connection that is one operation, which [`began`](Lease::began), is over; `reset` if the
    /// endpoint reset it.
    pub fn session_ended(&self, outcome: Outcome, reset: bool, took: Duration) {
        if outcome == Outcome::Lost && !self.cluster.blames_for_session(reset) {
            self.over();
            return self.endpoint.meters.operation(outcome, took);
        }
        self.ended(outcome, took);
    }

    /// An operation that [`began`](Lease::began) went well, but says nothing about the endpoint's
    /// work: it neither ends a run of failures nor counts as a success.
    pub fn greeted(&self, took: Duration) {
        self.over();
        self.endpoint.meters.operation(Outcome::Ok, took);
    }

    fn over(&self) {
        self.endpoint.active_operations.fetch_sub(1, Relaxed);
        self.cluster.turns.less();
        self.endpoint.meters.used().operations_active.decrement(1.0);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active_connections.fetch_sub(1, Relaxed);
        self.cluster.turns.less();
        self.endpoint.meters.used().active.decrement(1.0);
        self.cluster.breaker.make_room();
    }
}
