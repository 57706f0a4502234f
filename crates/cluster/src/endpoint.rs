//! One endpoint: its address, load, state, and connect results.

mod metrics;
mod monitored_member;
mod pool_counts;
mod user_pools;

pub(super) use metrics::EndpointMetrics;
use metrics::{EJECTED, MEMBER, UP};
pub(super) use monitored_member::MonitoredMember;
pub use pool_counts::PoolReport;
pub(crate) use user_pools::UserPool;
use user_pools::UserPools;

use super::{
    Cluster,
    breaker::{ConnectionPermit, increment_below},
    certificate_end::CertificateEnd,
    cutover::OwnConnection,
    health::HealthCheckResult,
    outlier::{Ejection, OutlierStats},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use operation::{Close, Outcome, PinChange, Role};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::Notify;

/// One address that operations can go to.
///
/// It stays the same object while it is in its cluster, so its counters survive look-ups of its
/// name; connections keep it alive after that.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    name: Arc<str>,
    /// The name for TLS.
    server_name: ArcSwap<String>,
    metrics: Arc<EndpointMetrics>,
    /// Why it is not picked, as bits of [`Exclusion`].
    exclusions: AtomicU8,
    /// What its connections are asked to do, as a [`CloseRequest`].
    close_request: AtomicU8,
    /// Since when it has been usable in every set.
    usable_since: ArcSwapOption<Instant>,
    active_connections: AtomicUsize,
    active_operations: AtomicUsize,
    pools: UserPools,
    connects_ok: AtomicU64,
    connects_failed: AtomicU64,
    last_error: ArcSwapOption<String>,
    /// How its operations end.
    pub(super) stats: OutlierStats,
    /// Its last health check.
    pub(super) last_check: ArcSwapOption<HealthCheckResult>,
    /// While it is ejected: the detector, and the end.
    pub(super) ejection: ArcSwapOption<Ejection>,
    /// While an operator drains it: when its connections are closed.
    pub(super) drain_deadline: ArcSwapOption<tokio::time::Instant>,
    /// What it is in its replica set, as a [`Role`].
    role: AtomicU8,
    /// What its monitor has learned last.
    pub(super) member: ArcSwapOption<MonitoredMember>,
    /// Makes its monitor ask it again.
    pub(super) recheck: Notify,
    /// How the gauges count it; written under the cluster's update lock.
    gauge_state: AtomicU8,
}

impl Endpoint {
    /// An endpoint at `address`; `metrics` are shared by all addresses of one name.
    pub(super) fn new(address: SocketAddr, name: Arc<str>, meters: Arc<EndpointMetrics>) -> Self {
        Self {
            address,
            server_name: ArcSwap::from_pointee(host(&name).to_owned()),
            name,
            metrics: meters,
            exclusions: AtomicU8::new(0),
            close_request: AtomicU8::new(CloseRequest::None as u8),
            usable_since: ArcSwapOption::empty(),
            active_connections: AtomicUsize::new(0),
            active_operations: AtomicUsize::new(0),
            pools: UserPools::default(),
            connects_ok: AtomicU64::new(0),
            connects_failed: AtomicU64::new(0),
            last_error: ArcSwapOption::empty(),
            stats: OutlierStats::default(),
            last_check: ArcSwapOption::empty(),
            ejection: ArcSwapOption::empty(),
            drain_deadline: ArcSwapOption::empty(),
            role: AtomicU8::new(Role::Unknown as u8),
            member: ArcSwapOption::empty(),
            recheck: Notify::new(),
            gauge_state: AtomicU8::new(0),
        }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name as configured: `db-1:27017`. Several addresses may share it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name that it is asked for and that its certificate must have, in TLS.
    pub fn server_name(&self) -> Arc<String> {
        self.server_name.load_full()
    }

    /// Sets the name for TLS of connections to come.
    pub(super) fn set_server_name(&self, name: &str) {
        if **self.server_name.load() != name {
            self.server_name.store(Arc::new(name.to_owned()));
        }
    }

    /// How many connections are open or being opened.
    pub fn active_connections(&self) -> usize {
        self.active_connections.load(Relaxed)
    }

    /// How many operations are in flight.
    pub fn active_operations(&self) -> usize {
        self.active_operations.load(Relaxed)
    }

    /// Its load, which `least_request` compares. Connections count too, since idle ones were opened
    /// for operations to come.
    pub fn load(&self) -> usize {
        self.active_operations() + self.active_connections()
    }

    /// Whether it may be picked: it has no exclusion.
    pub fn usable(&self) -> bool {
        self.exclusions.load(Relaxed) == 0
    }

    /// Whether it is excluded for this reason.
    pub fn is_excluded(&self, why: Exclusion) -> bool {
        self.exclusions.load(Relaxed) & why as u8 != 0
    }

    /// Whether this is the only reason to exclude it.
    pub(super) fn is_excluded_only(&self, why: Exclusion) -> bool {
        self.exclusions.load(Relaxed) == why as u8
    }

    /// What it is in its replica set.
    pub fn role(&self) -> Role {
        role_from(self.role.load(Relaxed))
    }

    /// Changes its role. Returns the one before.
    pub(super) fn set_role(&self, role: Role) -> Role {
        let before = role_from(self.role.swap(role as u8, Relaxed));
        if before != role {
            self.metrics.set_primary(role == Role::Primary);
        }
        before
    }

    /// Shows that it is no primary, before it is known what it is.
    pub(super) fn show_unknown_role(&self) {
        self.metrics.set_primary(false);
    }

    /// Records what its monitor has learned, as the result of a health check.
    pub(super) fn record_answer(&self, good: bool, message: &str, took: Option<Duration>) {
        let (at, took) = (tokio::time::Instant::now(), took.unwrap_or_default());
        let check = HealthCheckResult { good, message: message.to_owned(), at, took };
        self.last_check.store(Some(Arc::new(check)));
    }

    /// Shows how far it is behind the primary of its replica set.
    pub(super) fn set_lag(&self, lag: Duration) {
        self.metrics.set_lag(lag);
    }

    /// For how long it has been usable, according to the sets built until `now`; `None` if it is
    /// not.
    pub(super) fn usable_for(&self, now: Instant) -> Option<Duration> {
        if !self.usable() {
            self.usable_since.store(None);
            return None;
        }
        let since = self.usable_since.load().as_deref().copied().unwrap_or_else(|| {
            self.usable_since.store(Some(Arc::new(now)));
            now
        });
        Some(now.saturating_duration_since(since))
    }

    /// Excludes it; `false` if it already was, for the same reason. The caller must refresh the
    /// set.
    pub(super) fn exclude(&self, why: Exclusion) -> bool {
        self.exclusions.fetch_or(why as u8, Relaxed) & why as u8 == 0
    }

    /// Removes an exclusion; `false` if there was none.
    pub(super) fn readmit(&self, why: Exclusion) -> bool {
        self.exclusions.fetch_and(!(why as u8), Relaxed) & why as u8 != 0
    }

    /// What its connections are asked to do.
    pub fn close_request(&self) -> CloseRequest {
        match self.close_request.load(Relaxed) {
            request if request == CloseRequest::None as u8 => CloseRequest::None,
            request if request == CloseRequest::WhenIdle as u8 => CloseRequest::WhenIdle,
            request if request == CloseRequest::RoleLost as u8 => CloseRequest::RoleLost,
            request if request == CloseRequest::Unhealthy as u8 => CloseRequest::Unhealthy,
            _ => CloseRequest::Removed,
        }
    }

    /// What its connections are asked to do while it is a healthy member of its cluster.
    pub(super) fn default_close_request(&self) -> CloseRequest {
        if self.is_excluded(Exclusion::Drained) {
            CloseRequest::WhenIdle
        } else {
            CloseRequest::None
        }
    }

    /// Asks its connections to close now. Returns whether that is new.
    pub(super) fn interrupt_connections(&self) -> bool {
        [CloseRequest::None, CloseRequest::WhenIdle, CloseRequest::RoleLost]
            .into_iter()
            .any(|from| self.compare_set_close_request(from, CloseRequest::Unhealthy))
    }

    /// Ends an [interruption](Endpoint::interrupt_connections).
    pub(super) fn end_interruption(&self) {
        let usual = self.default_close_request();
        self.compare_set_close_request(CloseRequest::Unhealthy, usual);
    }

    /// Asks its connections to do this. They notice when the cluster notifies them.
    pub(super) fn set_close_request(&self, request: CloseRequest) {
        self.close_request.store(request as u8, Relaxed);
    }

    /// Asks the connections that need the primary to leave it, or not any more. Returns whether that is
    /// new.
    pub(super) fn set_role_lost(&self, lost: bool) -> bool {
        let (from, to) = (CloseRequest::None, CloseRequest::RoleLost);
        let (from, to) = if lost { (from, to) } else { (to, from) };
        self.compare_set_close_request(from, to)
    }

    /// Changes the close request from `now` to `request`; `false` if it is another one.
    pub(super) fn compare_set_close_request(
        &self,
        now: CloseRequest,
        request: CloseRequest,
    ) -> bool {
        self.close_request.compare_exchange(now as u8, request as u8, Relaxed, Relaxed).is_ok()
    }

    /// How many connects succeeded and failed, and the last error if the last one failed.
    pub(super) fn connect_stats(&self) -> (u64, u64, Option<Arc<String>>) {
        let (ok, failed) = (self.connects_ok.load(Relaxed), self.connects_failed.load(Relaxed));
        (ok, failed, self.last_error.load_full())
    }

    /// Whether the last connect or the health checks failed.
    pub(super) fn is_failing(&self) -> bool {
        self.last_error.load().is_some() || self.is_excluded(Exclusion::Unhealthy)
    }

    /// Updates the gauges to its current state, or removes it from them if it is not `here`. Only
    /// one thread at a time may call this.
    pub(super) fn update_gauges(&self, here: bool) {
        let mut now = if here { MEMBER } else { 0 };
        if here && !self.is_excluded(Exclusion::Unhealthy) {
            now |= UP;
        }
        if here && self.is_excluded(Exclusion::Ejected) {
            now |= EJECTED;
        }
        let before = self.gauge_state.swap(now, Relaxed);
        if before != now {
            self.metrics.gauge_changed(before, now);
        }
    }

    /// Records an established connection, and clears `last_error`.
    pub(super) fn record_connected(&self) {
        self.connects_ok.fetch_add(1, Relaxed);
        self.metrics.used().ok.increment(1);
        if self.last_error.load().is_some() {
            self.last_error.store(None);
        }
    }

    /// Records a failed connect.
    pub(super) fn record_connect_failure(&self, how: ConnectFailure, error: String) {
        let used = self.metrics.used();
        match how {
            ConnectFailure::Refused => used.refused.increment(1),
            ConnectFailure::Timeout => used.timeout.increment(1),
            ConnectFailure::Error => used.error.increment(1),
            ConnectFailure::Tls(reason) => self.metrics.record_tls_failure(reason),
            // The endpoint is not to blame.
            ConnectFailure::Local => return used.local.increment(1),
        }
        self.connects_failed.fetch_add(1, Relaxed);
        self.last_error.store(Some(Arc::new(error)));
    }

    /// The pooled connections of a user.
    pub(super) fn user_pool(&self, user: &str) -> Arc<UserPool> {
        self.pools.of(user, &self.metrics)
    }

    /// How many connections operations of each user share, over all workers.
    pub(super) fn user_pools(&self) -> Vec<(Arc<str>, PoolReport)> {
        self.pools.users()
    }

    /// How many connections operations share, over all workers.
    pub fn pool(&self) -> PoolReport {
        self.pools.total()
    }

    pub(super) fn metrics(&self) -> &Arc<EndpointMetrics> {
        &self.metrics
    }
}

fn role_from(number: u8) -> Role {
    match number {
        number if number == Role::Primary as u8 => Role::Primary,
        number if number == Role::Secondary as u8 => Role::Secondary,
        _ => Role::Unknown,
    }
}

/// The host of `host:port`.
pub(super) fn host(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(host, _)| host)
}

/// A reason not to pick an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exclusion {
    /// Its health checks fail.
    Unhealthy = 1,
    /// Outlier detection has ejected it.
    Ejected = 2,
    /// An operator drains it.
    Drained = 4,
    /// It is no longer in the cluster.
    Removed = 8,
}

/// What an endpoint asks of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseRequest {
    /// Stay open.
    None,
    /// Close when idle.
    WhenIdle,
    /// Close when idle, if the connection serves all operations of a client: they need the primary, which
    /// the endpoint is not.
    RoleLost,
    /// Close now: the endpoint is unhealthy, and the cluster is configured so.
    Unhealthy,
    /// Close now: `drain_timeout` is over since the endpoint left the cluster or was drained by an
    /// operator.
    Removed,
    /// Close when idle: the certificate that the connection was opened with is about to expire. Asked
    /// of connections only, as the next one.
    Expiring,
    /// Close now: the certificate expires.
    Expired,
}

impl CloseRequest {
    /// The close reason, if a connection must close even during an operation.
    pub fn close_now(self) -> Option<Close> {
        match self {
            CloseRequest::None
            | CloseRequest::WhenIdle
            | CloseRequest::RoleLost
            | CloseRequest::Expiring => None,
            CloseRequest::Unhealthy => Some(Close::EndpointUnhealthy),
            CloseRequest::Removed => Some(Close::EndpointRemoved),
            CloseRequest::Expired => Some(Close::CertificateExpired),
        }
    }
}

/// How a connect failed, as the metric labels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectFailure {
    Refused,
    Timeout,
    Error,
    /// The TLS handshake, with its reason.
    Tls(&'static str),
    /// This machine lacks a resource.
    Local,
}

/// Counts one active connection of an endpoint, until dropped.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// The endpoint was already unhealthy: it was picked in panic.
    in_panic: bool,
    /// Its place among the cluster's connections, returned with the lease.
    permit: Option<ConnectionPermit>,
    /// The end of the certificate that the connection was opened with.
    certificate_end: Option<CertificateEnd>,
    /// The connection belongs to one client.
    own: Option<OwnConnection>,
}

impl Lease {
    /// Counts one more connection, whatever the limit.
    #[cfg(test)]
    pub(super) fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active_connections.fetch_add(1, Relaxed);
        Self::counted(cluster, endpoint)
    }

    /// Counts one more connection, if the endpoint has fewer than `most`.
    pub(super) fn try_new(
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        most: usize,
    ) -> Option<Self> {
        increment_below(&endpoint.active_connections, most)
            .then(|| Self::counted(cluster, endpoint))
    }

    fn counted(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        cluster.lb_state.add_load();
        endpoint.metrics.used().active.increment(1.0);
        Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            in_panic: endpoint.close_request() == CloseRequest::Unhealthy,
            permit: None,
            certificate_end: None,
            own: None,
        }
    }

    /// Records that the connection belongs to one client from now on.
    pub fn set_own(&mut self) {
        self.own.get_or_insert_with(|| self.cluster.cutover.own_connections().add());
    }

    /// Keeps the permit as long as the lease.
    pub(super) fn hold_permit(&mut self, permit: Option<ConnectionPermit>) {
        self.permit = permit;
    }

    /// Bounds the connection by the certificate that it was opened with.
    pub(super) fn set_certificate_end(&mut self, end: Option<SystemTime>) {
        self.certificate_end = end.and_then(|end| self.cluster.bound_by(end));
    }

    /// The endpoint of the connection.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the endpoint, or the end of the connection's certificate, asks of the connection.
    pub fn close_request(&self) -> CloseRequest {
        match self.endpoint.close_request() {
            CloseRequest::Unhealthy if self.in_panic => CloseRequest::None,
            CloseRequest::None => self.certificate_close_request(),
            request => request,
        }
    }

    /// What is asked of a connection that operations share: they may go to any member.
    pub fn shared_close_request(&self) -> CloseRequest {
        match self.close_request() {
            CloseRequest::RoleLost => self.certificate_close_request(),
            request => request,
        }
    }

    fn certificate_close_request(&self) -> CloseRequest {
        let end = self.certificate_end;
        end.map_or(CloseRequest::None, |end| self.cluster.certificate_ends.close_request(end))
    }

    /// Records that the endpoint did not answer the first request of the connection: it closed it, or
    /// sent what can't be read. Servers that expect TLS do that.
    pub fn record_no_answer(&self) {
        self.cluster.hint_at_tls(self.endpoint.name());
    }

    /// Marks the endpoint, which has closed the connection or lost its role: see [`Cluster::doubt`].
    pub fn doubt_endpoint(&self) {
        self.cluster.doubt(&self.endpoint);
    }

    /// Records which endpoint holds what later operations continue.
    pub fn change_pin(&self, change: PinChange) {
        self.cluster.change_pin(change, self.endpoint.address());
    }

    /// Records that an operation goes to the endpoint.
    pub fn operation_started(&self) {
        self.endpoint.active_operations.fetch_add(1, Relaxed);
        self.cluster.lb_state.add_load();
        self.endpoint.metrics.used().operations_active.increment(1.0);
    }

    /// Records the end of an operation that [started](Lease::operation_started), after `took`.
    pub fn operation_ended(&self, outcome: Outcome, took: Duration) {
        self.release_operation();
        self.cluster.observe(&self.endpoint, outcome, took);
    }

    /// Records the end of a connection that is one [started](Lease::operation_started) operation;
    /// `reset` if the endpoint reset it.
    pub fn session_ended(&self, outcome: Outcome, reset: bool, took: Duration) {
        if outcome == Outcome::Lost && !self.cluster.session_counts(reset) {
            self.release_operation();
            return self.endpoint.metrics.record_operation(outcome, took);
        }
        self.operation_ended(outcome, took);
    }

    /// Records a successful operation that says nothing about the endpoint's work, such as a
    /// handshake: it neither ends a run of failures nor counts as a success.
    pub fn handshake_ended(&self, took: Duration) {
        self.release_operation();
        self.endpoint.metrics.record_operation(Outcome::Ok, took);
    }

    fn release_operation(&self) {
        self.endpoint.active_operations.fetch_sub(1, Relaxed);
        self.cluster.lb_state.remove_load();
        self.endpoint.metrics.used().operations_active.decrement(1.0);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active_connections.fetch_sub(1, Relaxed);
        self.cluster.lb_state.remove_load();
        self.endpoint.metrics.used().active.decrement(1.0);
        self.cluster.breaker.notify_capacity();
    }
}
