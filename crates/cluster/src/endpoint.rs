//! One endpoint: its address, load, state, and connect results.

mod close_request;
mod lease;
mod metrics;
mod monitored_member;
mod pool_counts;
mod user_pools;

pub use close_request::CloseRequest;
pub use lease::Lease;
pub(super) use metrics::EndpointMetrics;
use metrics::{EJECTED, MEMBER, UP};
pub(super) use monitored_member::MonitoredMember;
pub use pool_counts::PoolReport;
pub(crate) use user_pools::UserPool;
use user_pools::UserPools;

use super::{
    health::HealthCheckResult,
    outlier::{Ejection, OutlierStats},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use net::Stream;
use operation::Role;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tls::CertificateInfo;
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
    /// When its exclusions changed last, or when it was made.
    changed: ArcSwap<tokio::time::Instant>,
    /// Until when the certificate is valid that it showed last, in seconds since 1970; 0 if it has shown
    /// none.
    certificate_end: AtomicU64,
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
            changed: ArcSwap::from_pointee(tokio::time::Instant::now()),
            certificate_end: AtomicU64::new(0),
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
        let changes = self.exclusions.fetch_or(why as u8, Relaxed) & why as u8 == 0;
        self.note_change(changes)
    }

    /// Removes an exclusion; `false` if there was none.
    pub(super) fn readmit(&self, why: Exclusion) -> bool {
        let changes = self.exclusions.fetch_and(!(why as u8), Relaxed) & why as u8 != 0;
        self.note_change(changes)
    }

    /// Keeps the time of a change of its exclusions. Returns its argument.
    fn note_change(&self, changes: bool) -> bool {
        if changes {
            self.changed.store(Arc::new(tokio::time::Instant::now()));
        }
        changes
    }

    /// When it was excluded or readmitted last.
    pub(super) fn changed(&self) -> tokio::time::Instant {
        **self.changed.load()
    }

    /// Until when the certificate is valid that it showed last, in seconds since 1970.
    pub(super) fn certificate_end(&self) -> Option<u64> {
        Some(self.certificate_end.load(Relaxed)).filter(|end| *end > 0)
    }

    /// Keeps the end of the certificate that it has shown.
    fn note_certificate(&self, stream: &Stream) {
        let shown = stream.peer_certificates().next().and_then(CertificateInfo::read);
        if let Some(shown) = shown {
            self.certificate_end.store(shown.not_after, Relaxed);
        }
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
    pub(super) fn record_connected(&self, stream: &Stream) {
        self.note_certificate(stream);
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
