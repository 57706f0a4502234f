//! Connects to a cluster: picks, dials, and on failure tries another endpoint.

mod establish;
mod race;

use super::{
    Cluster, Endpoint, Lease, PauseError, PickOptions, balance,
    breaker::{BreakerLimit, ConnectionPermit, OpeningConnection, QueueError},
    endpoint::ConnectFailure,
};
use crate::plan::ClusterPlan;
pub(crate) use establish::{Preamble, connect_without_client, establish, header_without_client};
use net::Stream;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tls::{HandshakeFailure, StartTls};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

/// The longest pause before the first retry of endpoints that all failed; it doubles up to
/// `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A connection to an endpoint.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// The socket.
    pub stream: Stream,
    /// Counts the connection as active at its endpoint; drop it with the connection.
    pub lease: Lease,
    /// How long it waited for the circuit breaker.
    pub queued: Duration,
}

/// Options of one connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The hash of the client's key, if the cluster picks by key.
    pub hash: Option<u64>,
    /// An endpoint that the caller has picked; it is tried first.
    pub preferred: Option<Arc<Endpoint>>,
    /// No other endpoint than the preferred one is tried, and that only once.
    pub only_preferred: bool,
    /// Endpoints that have failed; they are tried last.
    pub tried: Vec<Arc<Endpoint>>,
    /// The PROXY protocol header that is sent first, if the cluster has one.
    pub header: Option<Vec<u8>>,
    /// The request for TLS that the endpoint gets before what the client sends, where the client's TLS
    /// passes through. No spare connection is used then.
    pub starttls: Option<StartTls>,
}

impl ConnectOptions {
    /// How many attempts are made, one after the other.
    fn most_attempts(&self, plan: &ClusterPlan) -> usize {
        if self.only_preferred { 1 } else { plan.connect_attempts.max(1) }
    }
}

/// Options that leave the choice of the endpoint to load balancing.
impl From<Option<u64>> for ConnectOptions {
    fn from(hash: Option<u64>) -> Self {
        Self { hash, ..Self::default() }
    }
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The cluster has no usable endpoint.
    #[error("cluster `{cluster}` has no endpoint{}", cause_suffix(.why.as_deref()))]
    NoEndpoint {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The number of usable endpoints, or the name that failed to resolve and its error.
        why: Option<String>,
    },
    /// Every attempt took longer than `connect_timeout`.
    #[error(
        "no endpoint of cluster `{cluster}` accepted a connection in time: {}{}",
        list(.attempts),
        retry_note(*.retried)
    )]
    Timeout {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The failed attempts in order; the last one for each endpoint.
        attempts: Vec<FailedAttempt>,
        /// `false` if the retry limit stopped it before `connect_attempts`.
        retried: bool,
    },
    /// Every attempt failed, at least one of them sooner than `connect_timeout`.
    #[error(
        "no endpoint of cluster `{cluster}` accepted a connection: {}{}",
        list(.attempts),
        retry_note(*.retried)
    )]
    Failed {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The failed attempts in order; the last one for each endpoint.
        attempts: Vec<FailedAttempt>,
        /// `false` if the retry limit stopped it before `connect_attempts`.
        retried: bool,
    },
    /// This machine lacks a resource (ports, descriptors, memory); no endpoint is to blame.
    #[error("this machine can't open a connection to cluster `{cluster}`: {}", list(.attempts))]
    Local {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The failed attempts in order; the last one for each endpoint.
        attempts: Vec<FailedAttempt>,
    },
    /// An operator has paused the cluster.
    #[error("{}", paused(.cluster, .refused))]
    Paused {
        /// The cluster's name.
        cluster: Arc<str>,
        /// Why waiting did not help.
        refused: PauseError,
    },
    /// A connection limit is reached.
    #[error("cluster `{cluster}` {full}, and {refused}")]
    Overloaded {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The limit that was reached.
        limit: BreakerLimit,
        /// The limit as text.
        full: String,
        /// Why waiting did not help.
        refused: QueueError,
    },
}

impl ConnectError {
    /// The reason and message for the client. It names no addresses, unlike the message for the
    /// operator.
    pub fn client_error(&self) -> (operation::RejectReason, String) {
        let message = match self {
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
            ConnectError::Paused { cluster, refused } => paused(cluster, refused),
            ConnectError::Overloaded { cluster, full, .. } => format!("`{cluster}` {full}"),
        };
        let reason = match self {
            ConnectError::Local { .. }
            | ConnectError::Paused { .. }
            | ConnectError::Overloaded { .. } => operation::RejectReason::Overloaded,
            _ => operation::RejectReason::NoEndpoint,
        };
        (reason, message)
    }

    /// The close reason of a client that cannot be served because of this.
    pub fn close_reason(&self) -> operation::Close {
        match self {
            ConnectError::NoEndpoint { .. } => operation::Close::NoEndpoint,
            ConnectError::Timeout { .. } => operation::Close::ConnectTimeout,
            ConnectError::Failed { .. } => operation::Close::ConnectFailed,
            ConnectError::Local { .. } => operation::Close::LocalError,
            ConnectError::Paused { .. } | ConnectError::Overloaded { .. } => {
                operation::Close::Overloaded
            }
        }
    }
}

/// One attempt to connect that failed.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The endpoint that was tried.
    pub endpoint: Arc<Endpoint>,
    /// Why it failed.
    pub error: io::Error,
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.endpoint.address().to_string();
        match &**self.endpoint.name() {
            name if name == address => write!(f, "{address}: {}", describe(&self.error)),
            name => write!(f, "{name} ({address}): {}", describe(&self.error)),
        }
    }
}

impl Cluster {
    /// Connects to an endpoint, trying up to `connect_attempts` times.
    ///
    /// While there are untried endpoints, the next attempt goes to one of them at once; after that
    /// there is a pause first. At a connection limit it queues.
    ///
    /// On a worker with preconnected sockets,
    /// [`PreconnectPool::connect`](super::PreconnectPool::connect) uses these first.
    pub async fn connect(
        self: &Arc<Self>,
        options: impl Into<ConnectOptions>,
    ) -> Result<UpstreamConnection, ConnectError> {
        self.connect_with_dial(options, async |address| dial(&self.plan.load_full(), address).await)
            .await
    }

    /// Connects with `dial`, which need not enforce a time limit.
    pub(super) async fn connect_with_dial(
        self: &Arc<Self>,
        options: impl Into<ConnectOptions>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<UpstreamConnection, ConnectError> {
        self.connect_with(options, |_| None, dial).await
    }

    /// Connects with the socket that `ready` returns for the picked endpoint, or else with `dial`.
    pub(super) async fn connect_with(
        self: &Arc<Self>,
        options: impl Into<ConnectOptions>,
        ready: impl Fn(&Arc<Endpoint>) -> Option<Stream>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let options = options.into();
        self.wait_for_service(&options).await?;
        let mut opening = OpeningConnection::new(&self.breaker);
        let (mut permit, mut deadline) = (None, None);
        let mut attempts: Vec<FailedAttempt> = Vec::new();
        let most = options.most_attempts(&self.plan());
        let ConnectOptions { hash, preferred: first, mut tried, header, starttls, .. } = options;
        let preamble = Preamble { header: header.as_deref(), starttls };
        let first = first.as_ref();
        let mut rounds = 0;
        let mut queued = Duration::ZERO;
        for number in 0..most {
            if number > 0 && !opening.may_retry() {
                return Err(self.connect_error(attempts, false));
            }
            let queued_at = Instant::now();
            let mut lease = self
                .reserve(&mut deadline, &mut permit, || self.pick_lease(hash, first, &tried))
                .await;
            queued += queued_at.elapsed();
            if matches!(lease, Ok(None)) && !tried.is_empty() {
                time::sleep(retry_pause(rounds, balance::share())).await;
                rounds += 1;
                tried.clear();
                lease = self
                    .reserve(&mut deadline, &mut permit, || self.pick_lease(hash, first, &tried))
                    .await;
            }
            let lease = match lease {
                Ok(Some(lease)) => lease,
                Ok(None) => break,
                Err((limit, refused)) => {
                    let (cluster, full) = (self.name.clone(), self.breaker.describe_limit(limit));
                    return Err(ConnectError::Overloaded { cluster, limit, full, refused });
                }
            };
            let connected = match ready(lease.endpoint()) {
                Some(stream) => Ok(UpstreamConnection { stream, lease, queued }),
                None => self.dial_racing(lease, &tried, preamble, &dial).await,
            };
            match connected {
                Ok(mut upstream) => {
                    upstream.lease.set_certificate_end(upstream.stream.certificate_end());
                    upstream.lease.hold_permit(permit.map(ConnectionPermit::opened));
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

    /// Waits for the end of a pause, and until the primary is known; not for a connection to a certain endpoint.
    async fn wait_for_service(&self, options: &ConnectOptions) -> Result<(), ConnectError> {
        if options.preferred.is_none() {
            self.wait_while_paused().await?;
        }
        self.wait_for_primary(options).await;
        Ok(())
    }

    /// A lease on the next endpoint, or on another one if that is full. `None` if all were tried.
    ///
    /// It is held while dialing, so that an endpoint with many pending connections counts as busy.
    fn pick_lease(
        self: &Arc<Self>,
        hash: Option<u64>,
        first: Option<&Arc<Endpoint>>,
        tried: &[Arc<Endpoint>],
    ) -> Result<Option<Lease>, BreakerLimit> {
        let most = self.breaker.per_endpoint();
        let is_tried = |endpoint: &Arc<Endpoint>| tried.iter().any(|t| Arc::ptr_eq(t, endpoint));
        let preferred = first.filter(|endpoint| !is_tried(endpoint));
        let picked = preferred.cloned().or_else(|| self.pick(pick_options(hash, tried)));
        let Some(mut picked) = picked else { return Ok(None) };
        let mut exclude = tried.to_vec();
        loop {
            if let Some(lease) = Lease::try_new(self, &picked, most) {
                return Ok(Some(lease));
            }
            // All full endpoints are excluded at once: there may be a thousand.
            exclude.push(picked);
            let set = self.set.load();
            exclude.extend(set.endpoints().filter(|e| e.active_connections() >= most).cloned());
            match self.pick(pick_options(hash, &exclude)) {
                Some(next) => picked = next,
                None => return Err(BreakerLimit::ConnectionsPerEndpoint),
            }
        }
    }

    /// Why there is no connection, if no endpoint can be picked.
    pub(super) fn no_endpoint(&self) -> ConnectError {
        self.connect_error(Vec::new(), true)
    }

    /// Why there is no connection, if the endpoint has refused the handshake.
    pub(super) fn handshake_error(&self, lease: &Lease, error: io::Error) -> ConnectError {
        let endpoint = Arc::clone(lease.endpoint());
        self.connect_error(vec![FailedAttempt { endpoint, error }], true)
    }

    fn connect_error(&self, attempts: Vec<FailedAttempt>, retried: bool) -> ConnectError {
        let cluster = self.name.clone();
        if attempts.is_empty() {
            self.request_refresh();
            // There may be endpoints, but none that load balancing may pick.
            let unusable =
                self.set.load().panic_reason().map(|reason| format!("{reason} (on_panic: fail)"));
            let why = unusable.or_else(|| self.missing_primary());
            ConnectError::NoEndpoint { cluster, why: why.or_else(|| self.names.first_error()) }
        } else if attempts.iter().all(|a| classify(&a.error) == ConnectFailure::Timeout) {
            ConnectError::Timeout { cluster, attempts, retried }
        } else if attempts.iter().all(|a| classify(&a.error) == ConnectFailure::Local) {
            ConnectError::Local { cluster, attempts }
        } else {
            ConnectError::Failed { cluster, attempts, retried }
        }
    }
}

fn pick_options(hash: Option<u64>, exclude: &[Arc<Endpoint>]) -> PickOptions<'_> {
    PickOptions { hash, exclude, ..PickOptions::default() }
}

/// Connects to `address`.
pub(super) async fn dial(plan: &ClusterPlan, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(timeout) = plan.tcp_user_timeout {
        // Set before connecting, so that it holds for the handshake too.
        SockRef::from(&socket).set_tcp_user_timeout(Some(timeout))?;
    }
    let stream = socket.connect(address).await?;
    // Four system calls, so only for connections that were established.
    let keepalive = TcpKeepalive::new()
        .with_time(plan.keepalive.idle)
        .with_interval(plan.keepalive.interval)
        .with_retries(plan.keepalive.probes);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The pause before retry round `round` (from 0), up to a limit that doubles (full jitter), so that
/// clients cut off together spread out.
fn retry_pause(round: u32, share: f64) -> Duration {
    let limit = MIN_PAUSE.saturating_mul(2u32.saturating_pow(round)).min(MAX_PAUSE);
    limit.mul_f64(share)
}

fn classify(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        _ if is_local(error) => ConnectFailure::Local,
        _ if tls_failure(error).is_some() => {
            ConnectFailure::Tls(tls_failure(error).map_or("internal", HandshakeFailure::reason))
        }
        io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
        io::ErrorKind::TimedOut => ConnectFailure::Timeout,
        _ => ConnectFailure::Error,
    }
}

/// The failure of a TLS handshake, if it is one.
fn tls_failure(error: &io::Error) -> Option<&HandshakeFailure> {
    error.get_ref()?.downcast_ref()
}

/// Whether an attempt failed because this machine lacks a resource: ports, descriptors, memory.
/// That says nothing about the endpoint.
pub fn is_local(error: &io::Error) -> bool {
    const LOCAL: [Errno; 7] = [
        // Every local port that could be used is taken; some kernels return EAGAIN for that.
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

/// The error as text: the plain kind for common network errors, otherwise the full message.
pub(super) fn describe(error: &io::Error) -> String {
    use io::ErrorKind::*;
    match error.kind() {
        kind @ (ConnectionRefused | ConnectionReset | ConnectionAborted | TimedOut
        | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable
        | PermissionDenied) => kind.to_string(),
        _ => error.to_string(),
    }
}

fn list(attempts: &[FailedAttempt]) -> String {
    attempts.iter().map(FailedAttempt::to_string).collect::<Vec<_>>().join("; ")
}

fn retry_note(retried: bool) -> &'static str {
    match retried {
        true => "",
        false => {
            "; not retried, because the limit of concurrent retries is reached \
             (circuit_breaker.retry_percent, min_retries)"
        }
    }
}

fn paused(cluster: &str, refused: &PauseError) -> String {
    let why = match refused {
        PauseError::QueueFull(waiting) => format!("{waiting} clients wait already (max_pending)"),
        PauseError::TimedOut(time) => {
            let time = humantime::format_duration(*time);
            format!("the pause did not end within {time} (pending_timeout)")
        }
    };
    format!("`{cluster}` is paused by an operator, and {why}")
}

fn cause_suffix(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
