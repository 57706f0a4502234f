//! Connecting to a cluster: pick, dial, and on failure try elsewhere.

use super::{Ask, Cluster, Endpoint, Lease, balance, endpoint::Failure};
use socket2::{SockRef, TcpKeepalive};
use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

/// An idle connection is probed after 60 s, every 10 s, and given up after 6 silent probes: a
/// vanished peer is found within two minutes, and firewalls see traffic before they forget.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(6);

/// The first pause before the same endpoint is tried again; it doubles up to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Upstream {
    /// The socket.
    pub stream: TcpStream,
    /// Where it leads. Keeps the connection counted as active; drop it with the connection.
    pub lease: Lease,
}

/// Why there is no connection. Always the cluster's fault, never the client's.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing to connect to.
    #[error("cluster `{cluster}` has no endpoint{}", because(.why.as_deref()))]
    NoEndpoint {
        /// The cluster's name.
        cluster: Arc<str>,
        /// Which name could not be looked up, and why, where that is known.
        why: Option<String>,
    },
    /// Every attempt took longer than `connect_timeout`.
    #[error("no endpoint of cluster `{cluster}` accepted a connection in time: {}", list(.attempts))]
    Timeout {
        /// The cluster's name.
        cluster: Arc<str>,
        /// What was tried, in order; the last attempt for each endpoint.
        attempts: Vec<Attempt>,
    },
    /// Every attempt failed, at least one of them sooner than `connect_timeout`.
    #[error("no endpoint of cluster `{cluster}` accepted a connection: {}", list(.attempts))]
    Failed {
        /// The cluster's name.
        cluster: Arc<str>,
        /// What was tried, in order; the last attempt for each endpoint.
        attempts: Vec<Attempt>,
    },
}

impl ConnectError {
    /// What a client is told: less than an operator, since addresses are none of its business.
    pub fn told(&self) -> (operation::Reason, String) {
        let words = match self {
            ConnectError::NoEndpoint { cluster, .. } => format!("`{cluster}` has no endpoint"),
            ConnectError::Timeout { cluster, .. } => {
                format!("no endpoint of `{cluster}` accepted a connection in time")
            }
            ConnectError::Failed { cluster, .. } => {
                format!("no endpoint of `{cluster}` accepted a connection")
            }
        };
        (operation::Reason::NoEndpoint, words)
    }

    /// Why a client's connection ends that can't be served because of this.
    pub fn close(&self) -> operation::Close {
        match self {
            ConnectError::NoEndpoint { .. } => operation::Close::NoEndpoint,
            ConnectError::Timeout { .. } => operation::Close::ConnectTimeout,
            ConnectError::Failed { .. } => operation::Close::ConnectFailed,
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
    /// after that a short pause comes first.
    ///
    /// `hash` is that of the client's key, where the cluster picks by one.
    pub async fn connect(self: &Arc<Self>, hash: Option<u64>) -> Result<Upstream, ConnectError> {
        self.connect_by(hash, dial).await
    }

    /// Connects by means of `dial`, which need not keep any time limit.
    pub(super) async fn connect_by(
        self: &Arc<Self>,
        hash: Option<u64>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<Upstream, ConnectError> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut rounds = 0;
        for _ in 0..self.plan.connect_attempts.max(1) {
            let mut next = self.pick(Ask { hash, except: &tried });
            if next.is_none() && !tried.is_empty() {
                time::sleep(pause(rounds, balance::share())).await;
                rounds += 1;
                tried.clear();
                next = self.pick(Ask { hash, except: &tried });
            }
            let Some(endpoint) = next else { break };
            // Held while dialing, so that an endpoint with many connections on the way looks busy.
            let lease = Lease::new(self, &endpoint);
            match self.attempt(&endpoint, &dial).await {
                Ok(stream) => return Ok(Upstream { stream, lease }),
                Err(error) => {
                    attempts.retain(|a| !Arc::ptr_eq(&a.endpoint, &endpoint));
                    attempts.push(Attempt { endpoint: endpoint.clone(), error });
                    tried.push(endpoint);
                }
            }
        }
        Err(self.connect_error(attempts))
    }

    /// One attempt, counted.
    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        dial: &impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> io::Result<TcpStream> {
        let dialed = time::timeout(self.plan.connect_timeout, dial(endpoint.address())).await;
        let result = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.observe_connect(endpoint, result.is_ok());
        match &result {
            Ok(_) => endpoint.connected(),
            Err(error) => endpoint.failed(failure(error), words(error)),
        }
        result
    }

    fn connect_error(&self, attempts: Vec<Attempt>) -> ConnectError {
        let cluster = self.plan.name.clone();
        if attempts.is_empty() {
            ConnectError::NoEndpoint { cluster, why: self.names.failing() }
        } else if attempts.iter().all(|a| failure(&a.error) == Failure::Timeout) {
            ConnectError::Timeout { cluster, attempts }
        } else {
            ConnectError::Failed { cluster, attempts }
        }
    }
}

/// Connects to `address`.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    // Four system calls, so only for connections that came about.
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    Ok(stream)
}

/// The pause before round number `round` (from 0) over endpoints that all failed: between half
/// and the whole of a limit that doubles, so that clients cut off together spread out.
fn pause(round: u32, share: f64) -> Duration {
    let limit = MIN_PAUSE.saturating_mul(2u32.saturating_pow(round)).min(MAX_PAUSE);
    limit.mul_f64(0.5 + share / 2.0)
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Error,
    }
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

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
