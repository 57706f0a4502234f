//! The proxy, as a protocol sees it that ends both connections itself.

use operation::{Close, Gate, Link, No, Outcome, Reason, Violation};
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

/// One client's connection: the gate, and what the proxy knows of it.
pub trait Door: Gate {
    /// The connection's two ends.
    fn link(&self) -> Link;

    /// The listener's time limits.
    fn patience(&self) -> Timeouts;

    /// How often what endpoints wish of their connections has changed.
    fn nudges(&self) -> u64;

    /// Has `waker` woken when the phase changes, or what endpoints wish.
    fn wakes(&self, waker: &Waker);

    /// Whether an operator wants the connection to end.
    fn is_killed(&self) -> bool;

    /// So many bytes of the connection have moved this way.
    fn moved(&self, way: Way, bytes: usize, now: Instant);

    /// How far the proxy has come.
    fn phase(&self) -> Phase;

    /// Counts bytes that broke the protocol's rules.
    fn violation(&self, violation: Violation);

    /// Counts an operation that its cluster had no room for. Returns whose limit that is.
    fn overloaded(&self) -> &'static str;

    /// The refusal of a request that can't be read, where a policy guards.
    fn refuse_unreadable(&self) -> Option<No>;

    /// Whether policies hold something for this connection's bytes. They may come and go.
    fn is_paced(&self) -> bool;

    /// The most bytes that should pass this way in one go.
    fn most(&self, way: Way) -> usize;

    /// So many bytes have passed this way. Returns the moment before which no more should.
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

/// How far the proxy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes new connections.
    Working,
    /// Connections close as soon as they come to a rest.
    Draining,
    /// Connections close now.
    Leaving,
}

/// How long is waited for a client. `None` is for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// For its first byte.
    pub first_byte: Option<Duration>,
    /// For the end of its first request's head.
    pub handshake: Option<Duration>,
    /// For the end of a request that it began.
    pub message: Option<Duration>,
    /// For it to take any of the bytes meant for it.
    pub write: Option<Duration>,
    /// For any byte of a tunnel one side of which has ended.
    pub half_close: Option<Duration>,
    /// For another request.
    pub idle: Option<Duration>,
    /// From its beginning to its end.
    pub life: Option<Duration>,
}

/// An endpoint, which only the proxy knows more of.
#[derive(Clone)]
pub struct Endpoint(pub Arc<dyn Any + Send + Sync>);

impl Endpoint {
    /// What tells it from all others that there are.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>().addr()
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// A cluster, as one worker sees it.
pub trait Cluster {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// The hash of a client, where endpoints are picked by one.
    fn hash(&self, client: IpAddr) -> Option<u64>;

    /// The endpoint whose turn it is, but none of `tried`.
    fn pick(&self, hash: Option<u64>, tried: &[Endpoint]) -> Option<Endpoint>;

    /// Connects to this endpoint, and to another one but `tried` if that fails.
    fn connect(self: Rc<Self>, whom: Whom) -> Connecting;

    /// Lets one more operation begin, until what is returned is dropped.
    ///
    /// # Errors
    /// Too many are under way, in words.
    fn admit(&self) -> Result<Option<Box<dyn Any>>, String>;

    /// Whether somebody, on whichever worker, waits for a connection to end.
    fn is_awaited(&self) -> bool;
}

/// A connection on its way.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Dialed, Unreachable>>>>;

/// Whom to connect to.
#[derive(Clone, Default)]
pub struct Whom {
    /// The hash of the client's key.
    pub hash: Option<u64>,
    /// This one first.
    pub first: Option<Endpoint>,
    /// None of these.
    pub tried: Vec<Endpoint>,
}

/// A connection that was made.
pub struct Dialed {
    /// Its socket.
    pub stream: TcpStream,
    /// Its being counted; dropped with it.
    pub lease: Rc<dyn Lease>,
    /// How long it waited for a place among the cluster's connections.
    pub queued: Duration,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// What the client is told.
    pub reason: Reason,
    /// …in words.
    pub message: String,
    /// What logs tell.
    pub close: Close,
}

/// A connection's being counted at its endpoint.
pub trait Lease {
    /// Where it leads.
    fn endpoint(&self) -> &Endpoint;

    /// The endpoint's name: `db-1:27017`.
    fn name(&self) -> &Arc<str>;

    /// An operation goes to the endpoint.
    fn began(&self);

    /// An operation that began is over, after it took so long.
    fn ended(&self, outcome: Outcome, took: Duration);

    /// What the endpoint asks of the connection.
    fn wish(&self) -> Wish;
}

/// What an endpoint asks of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Stay,
    /// Close as soon as nothing is under way.
    Rest,
    /// Close now.
    Close(Close),
}
