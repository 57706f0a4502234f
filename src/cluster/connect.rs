//! Connecting to a cluster: pick, dial, and on failure try elsewhere.

mod race;

use super::{
    Ask, Cluster, Endpoint, Lease, balance,
    breaker::{Limit, Opening, Permit, Refused},
    endpoint::Failure,
};
use crate::config::plan::ClusterPlan;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

/// The longest pause before endpoints that all failed are tried again, the first time; it doubles
/// up to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Upstream {
    /// The socket.
    pub stream: TcpStream,
    /// Where it leads. Keeps the connection counted as active; drop it with the connection.
    pub lease: Lease,
    /// How long it waited for a place among the cluster's connections.
    pub queued: Duration,
}

/// Whom to connect to.
#[derive(Clone, Debug, Default)]
pub struct Whom {
    /// The hash of the client's key, where the cluster picks by one.
    pub hash: Option<u64>,
    /// The one that was picked already: it comes first.
    pub first: Option<Arc<Endpoint>>,
    /// Those that failed already, and come last.
    pub tried: Vec<Arc<Endpoint>>,
}

/// Whoever's turn it is.
impl From<Option<u64>> for Whom {
    fn from(hash: Option<u64>) -> Self {
        Self { hash, ..Self::default() }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing to connect to.
    #[error("cluster `{cluster}` has no endpoint{}", because(.why.as_deref()))]
    NoEndpoint {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How many are usable, or which name could not be looked up and why, where that is known.
        why: Option<String>,
    },
    /// Every attempt took longer than `connect_timeout`.
    #[error("no endpoint of cluster `{cluster}` accepted a connection in time: {}{}", list(.attempts), unless(*.retried))]
    Timeout {
        /// The cluster's name.
        cluster: Arc<str>,
        /// What was tried, in order; the last attempt for each endpoint.
        attempts: Vec<Attempt>,
        /// Whether it was tried as often as configured. The limit of retries was reached if not.
        retried: bool,
    },
    /// Every attempt failed, at least one of them sooner than `connect_timeout`.
    #[error("no endpoint of cluster `{cluster}` accepted a connection: {}{}", list(.attempts), unless(*.retried))]
    Failed {
        /// The cluster's name.
        cluster: Arc<str>,
        /// What was tried, in order; the last attempt for each endpoint.
        attempts: Vec<Attempt>,
        /// Whether it was tried as often as configured. The limit of retries was reached if not.
        retried: bool,
    },
    /// This machine lacked what a connection takes: no attempt told anything about an endpoint.
    #[error("this machine can't open a connection to cluster `{cluster}`: {}", list(.attempts))]
    Local {
        /// The cluster's name.
        cluster: Arc<str>,
        /// What was tried, in order; the last attempt for each endpoint.
        attempts: Vec<Attempt>,
    },
    /// There are as many connections as may be.
    #[error("cluster `{cluster}` {full}, and {refused}")]
    Overloaded {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The limit that was reached…
        limit: Limit,
        /// …in words.
        full: String,
        /// Why waiting did not help.
        refused: Refused,
    },
}

impl ConnectError {
    /// What a client is told: less than an operator, since addresses are none of its business.
    pub fn told(&self) -> (operation::RejectReason, String) {
        let words = match self {
            ConnectError::NoEndpoint { cluster, .. } => format!("`{cluster}` has no endpoint"),
            ConnectError::Timeout { cluster, .. } => {
                format!("no endpoint of `{cluster}` accepted a connection in time")
            }
            ConnectError::Failed { cluster, .. } => {
                format!("no endpoint of `{cluster}` accepted a connection")
            }
            ConnectError::Local { cluster, .. } => {
                format!("no connection to `{cluster}` can be opened just now")
            }
            ConnectError::Overloaded { cluster, full, .. } => format!("`{cluster}` {full}"),
        };
        let reason = match self {
            ConnectError::Local { .. } | ConnectError::Overloaded { .. } => {
                operation::RejectReason::Overloaded
            }
            _ => operation::RejectReason::NoEndpoint,
        };
        (reason, words)
    }

    /// Why a client's connection ends that can't be served because of this.
    pub fn close(&self) -> operation::Close {
        match self {
            ConnectError::NoEndpoint { .. } => operation::Close::NoEndpoint,
            ConnectError::Timeout { .. } => operation::Close::ConnectTimeout,
            ConnectError::Failed { .. } => operation::Close::ConnectFailed,
            ConnectError::Local { .. } => operation::Close::LocalError,
            ConnectError::Overloaded { .. } => operation::Close::Overloaded,
        }
    }
}

/// One attempt to connect that failed.
#[derive(Debug)]
pub struct Attempt {
    /// What was tried.
    pub endpoint: Arc<Endpoint>,
    /// How that went.
    pub error: io::Error,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.endpoint.address().to_string();
        match &**self.endpoint.name() {
            name if name == address => write!(f, "{address}: {}", words(&self.error)),
            name => write!(f, "{name} ({address}): {}", words(&self.error)),
        }
    }
}

impl Cluster {
    /// Connects to an endpoint, trying up to `connect_attempts` times.
    ///
    /// While there are endpoints not tried yet, the next attempt goes to one of them at once;
    /// after that a pause comes first. At a limit of connections it waits its turn.
    ///
    /// On a worker that holds spare connections, [`Spares::connect`](super::Spares::connect) takes
    /// these first.
    pub async fn connect(
        self: &Arc<Self>,
        whom: impl Into<Whom>,
    ) -> Result<Upstream, ConnectError> {
        self.connect_by(whom, async |address| dial(&self.plan, address).await).await
    }

    /// Connects by means of `dial`, which need not keep any time limit.
    pub(super) async fn connect_by(
        self: &Arc<Self>,
        whom: impl Into<Whom>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<Upstream, ConnectError> {
        self.connect_with(whom, |_| None, dial).await
    }

    /// Connects by what `ready` has for the endpoint that is picked, or by means of `dial`.
    pub(super) async fn connect_with(
        self: &Arc<Self>,
        whom: impl Into<Whom>,
        ready: impl Fn(&Arc<Endpoint>) -> Option<TcpStream>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<Upstream, ConnectError> {
        let mut opening = Opening::new(&self.breaker);
        let (mut permit, mut deadline) = (None, None);
        let mut attempts: Vec<Attempt> = Vec::new();
        let Whom { hash, first, mut tried } = whom.into();
        let first = first.as_ref();
        let mut rounds = 0;
        let mut queued = Duration::ZERO;
        for number in 0..self.plan.connect_attempts.max(1) {
            if number > 0 && !opening.may_retry() {
                return Err(self.connect_error(attempts, false));
            }
            let came = Instant::now();
            let mut lease =
                self.reserve(&mut deadline, &mut permit, || self.lease(hash, first, &tried)).await;
            queued += came.elapsed();
            if matches!(lease, Ok(None)) && !tried.is_empty() {
                time::sleep(pause(rounds, balance::share())).await;
                rounds += 1;
                tried.clear();
                lease = self
                    .reserve(&mut deadline, &mut permit, || self.lease(hash, first, &tried))
                    .await;
            }
            let lease = match lease {
                Ok(Some(lease)) => lease,
                Ok(None) => break,
                Err((limit, refused)) => {
                    let (cluster, full) = (self.plan.name.clone(), self.breaker.full(limit));
                    return Err(ConnectError::Overloaded { cluster, limit, full, refused });
                }
            };
            let connected = match ready(lease.endpoint()) {
                Some(stream) => Ok(Upstream { stream, lease, queued }),
                None => self.attempt(lease, &tried, &dial).await,
            };
            match connected {
                Ok(mut upstream) => {
                    upstream.lease.hold(permit.map(Permit::opened));
                    upstream.queued = queued;
                    return Ok(upstream);
                }
                Err(failed) => {
                    for attempt in failed {
                        attempts.retain(|a| !Arc::ptr_eq(&a.endpoint, &attempt.endpoint));
                        tried.push(Arc::clone(&attempt.endpoint));
                        attempts.push(attempt);
                    }
                }
            }
        }
        Err(self.connect_error(attempts, true))
    }

    /// A place at the endpoint whose turn it is; at another one where that is full. `None` if
    /// there is none but those tried.
    ///
    /// It is held while dialing, so that an endpoint with many connections on the way looks busy.
    fn lease(
        self: &Arc<Self>,
        hash: Option<u64>,
        first: Option<&Arc<Endpoint>>,
        tried: &[Arc<Endpoint>],
    ) -> Result<Option<Lease>, Limit> {
        let most = self.breaker.per_endpoint();
        let preferred = first.filter(|it| !tried.iter().any(|tried| Arc::ptr_eq(tried, it)));
        let picked = preferred.cloned().or_else(|| self.pick(Ask { hash, except: tried }));
        let Some(mut picked) = picked else { return Ok(None) };
        let mut except = tried.to_vec();
        loop {
            if let Some(lease) = Lease::within(self, &picked, most) {
                return Ok(Some(lease));
            }
            // All that are full are passed over at once: there may be a thousand.
            except.push(picked);
            let set = self.set.load();
            except.extend(set.endpoints().filter(|e| e.active_connections() >= most).cloned());
            match self.pick(Ask { hash, except: &except }) {
                Some(next) => picked = next,
                None => return Err(Limit::ConnectionsPerEndpoint),
            }
        }
    }

    fn connect_error(&self, attempts: Vec<Attempt>, retried: bool) -> ConnectError {
        let cluster = self.plan.name.clone();
        if attempts.is_empty() {
            self.hurry();
            // There may be some, none of which is picked.
            let unusable =
                self.set.load().panics().map(|words| format!("{words} (on_panic: fail)"));
            ConnectError::NoEndpoint { cluster, why: unusable.or_else(|| self.names.failing()) }
        } else if attempts.iter().all(|a| failure(&a.error) == Failure::Timeout) {
            ConnectError::Timeout { cluster, attempts, retried }
        } else if attempts.iter().all(|a| failure(&a.error) == Failure::Local) {
            ConnectError::Local { cluster, attempts }
        } else {
            ConnectError::Failed { cluster, attempts, retried }
        }
    }
}

/// Connects to `address`.
pub(super) async fn dial(plan: &ClusterPlan, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(timeout) = plan.tcp_user_timeout {
        // Before the connection is made, so that it holds for the handshake as well.
        SockRef::from(&socket).set_tcp_user_timeout(Some(timeout))?;
    }
    let stream = socket.connect(address).await?;
    // Four system calls, so only for connections that came about.
    let keepalive = TcpKeepalive::new()
        .with_time(plan.keepalive.idle)
        .with_interval(plan.keepalive.interval)
        .with_retries(plan.keepalive.probes);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The pause before round number `round` (from 0) over endpoints that all failed: anything up to a
/// limit that doubles (full jitter), so that clients cut off together spread out.
fn pause(round: u32, share: f64) -> Duration {
    let limit = MIN_PAUSE.saturating_mul(2u32.saturating_pow(round)).min(MAX_PAUSE);
    limit.mul_f64(share)
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        _ if is_local(error) => Failure::Local,
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Error,
    }
}

/// Whether an attempt failed for want of something on this machine: ports, descriptors, memory.
/// That says nothing about the other side.
pub fn is_local(error: &io::Error) -> bool {
    const LOCAL: [Errno; 7] = [
        // Every local port that could lead there is taken; so says EAGAIN on some kernels.
        Errno::ADDRNOTAVAIL,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        // Too many sockets are watched (`fs.epoll.max_user_watches`).
        Errno::NOSPC,
    ];
    Errno::from_io_error(error).is_some_and(|error| LOCAL.contains(&error))
}

/// What people read: plain words for what goes wrong in networks, all there is for the rest.
pub(super) fn words(error: &io::Error) -> String {
    use io::ErrorKind::*;
    match error.kind() {
        kind @ (ConnectionRefused | ConnectionReset | ConnectionAborted | TimedOut
        | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable
        | PermissionDenied) => kind.to_string(),
        _ => error.to_string(),
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

fn unless(retried: bool) -> &'static str {
    match retried {
        true => "",
        false => {
            "; not tried again, since as many connections as may be are retried already \
             (circuit_breaker.retry_percent, min_retries)"
        }
    }
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
