//! What the HTTP server needs of the proxy.

use operation::{Close, ConnectionInfo, Gate, Outcome, RejectReason, Rejection, Violation};
use std::{
    any::Any,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// A client's connection: the gate, and what the proxy knows about it.
pub trait Door: Gate {
    /// Local and peer address.
    fn link(&self) -> ConnectionInfo;

    /// The listener's time limits.
    fn patience(&self) -> Timeouts;

    /// Changes whenever an endpoint's close requests may have changed.
    fn nudges(&self) -> u64;

    /// Registers `waker` for changes of the phase or of close requests.
    fn wakes(&self, waker: &Waker);

    /// Whether an operator closes the connection.
    fn is_killed(&self) -> bool;

    /// Counts bytes of this direction.
    fn moved(&self, way: Way, bytes: usize, now: Instant);

    /// The proxy's current phase.
    fn phase(&self) -> Phase;

    /// Counts a protocol violation.
    fn violation(&self, violation: Violation);

    /// Counts an operation that exceeds its cluster's limit. Returns that limit's name.
    fn overloaded(&self) -> &'static str;

    /// The rejection of an invalid request, if a policy has one.
    fn refuse_unreadable(&self) -> Option<Rejection>;

    /// Whether policies limit this connection's bandwidth. They may be added and removed.
    fn is_paced(&self) -> bool;

    /// Most bytes that should pass at once in this direction.
    fn most(&self, way: Way) -> usize;

    /// Records passed bytes. Returns the earliest time at which further bytes should pass.
    fn passed(&self, way: Way, bytes: usize, now: Instant) -> Option<Instant>;
}

/// A direction of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// The proxy's current phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// New connections are accepted.
    Working,
    /// Connections close when they become idle.
    Draining,
    /// Connections close now.
    Leaving,
}

/// Timeouts of a client's connection. `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// For the first byte.
    pub first_byte: Option<Duration>,
    /// For the head of the first request.
    pub handshake: Option<Duration>,
    /// For a request that has started.
    pub message: Option<Duration>,
    /// For the client to read any byte sent to it.
    pub write: Option<Duration>,
    /// For any byte of a tunnel after one side has ended.
    pub half_close: Option<Duration>,
    /// For another request.
    pub idle: Option<Duration>,
    /// For the whole connection.
    pub life: Option<Duration>,
}

/// An endpoint; opaque to this crate.
#[derive(Clone)]
pub struct UpstreamEndpoint(pub Arc<dyn Any + Send + Sync>);

impl UpstreamEndpoint {
    /// Identifies the endpoint.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>().addr()
    }
}

impl PartialEq for UpstreamEndpoint {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// A cluster, as one worker sees it.
pub trait UpstreamCluster {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// The hash of a client, if the load balancer uses one.
    fn hash(&self, client: IpAddr) -> Option<u64>;

    /// The endpoint that the load balancer picks, not one of `tried`.
    fn pick(&self, hash: Option<u64>, tried: &[UpstreamEndpoint]) -> Option<UpstreamEndpoint>;

    /// Connects to this endpoint, and to another one that is not in `tried` if that fails.
    fn connect(self: Rc<Self>, whom: Whom) -> Connecting;

    /// Counts one more operation until the result is dropped.
    ///
    /// # Errors
    /// The message if too many are in flight.
    fn admit(&self) -> Result<Option<Box<dyn Any>>, String>;

    /// Whether a request on any worker waits for a connection slot.
    fn is_awaited(&self) -> bool;
}

/// A connection in progress.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Dialed, Unreachable>>>>;

/// What to connect to.
#[derive(Clone, Default)]
pub struct Whom {
    /// The hash of the client's key.
    pub hash: Option<u64>,
    /// First choice.
    pub first: Option<UpstreamEndpoint>,
    /// Endpoints to skip.
    pub tried: Vec<UpstreamEndpoint>,
}

/// An established connection.
pub struct Dialed {
    /// Its socket.
    pub stream: TcpStream,
    /// Counts the connection; dropped with it.
    pub lease: Rc<dyn Lease>,
    /// How long it waited for a connection slot of the cluster.
    pub queued: Duration,
}

/// Why no connection could be made.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// The response to the client.
    pub reason: RejectReason,
    /// Message for the client.
    pub message: String,
    /// Reason for logs.
    pub close: Close,
}

/// Counts a connection at its endpoint.
pub trait Lease {
    /// The endpoint.
    fn endpoint(&self) -> &UpstreamEndpoint;

    /// The endpoint's name: `db-1:27017`.
    fn name(&self) -> &Arc<str>;

    /// Counts an operation that starts.
    fn began(&self);

    /// Records the end of an operation and its duration.
    fn ended(&self, outcome: Outcome, took: Duration);

    /// Whether the endpoint wants the connection closed.
    fn wish(&self) -> Wish;
}

/// Whether an endpoint wants its connections closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Keep it open.
    Stay,
    /// Close it when it is idle.
    Rest,
    /// Close it now.
    Close(Close),
}
