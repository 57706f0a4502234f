//! One client's connection: a slot at its listener, an upstream, and then its protocol.

mod first_byte;
pub mod session_info;

use crate::{
    config::plan::{ListenerPlan, UpstreamConnectMode},
    gate::{ConnectVerdict, ConnectionPermits},
    held::HeldBytesBudget,
    listener::{ConnectionSlot, Upstreams, WorkerListener},
    protocols,
    relay::linger,
    worker::Worker,
};
use cluster::{CloseRequest, Cluster, Lease, UpstreamConnection};
use operation::{
    Close, ConnectionInfo, Decision, Direction, Gate, Operation, Outcome, RejectMode, Rejection,
    RejectionRef, Revision, Settlement, Ticket, Verdict, Violation,
};
use process::panics::{Panic, caught};
use session_info::SessionInfo;
use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// A connection that was accepted.
pub struct Accepted {
    /// The client's end.
    pub socket: TcpStream,
    /// The client's address.
    pub peer: SocketAddr,
    /// When.
    pub at: Instant,
    /// Its slot at the listener; released when the connection ends.
    pub slot: ConnectionSlot,
}

/// A connection in transfer between workers, detached from the first worker's runtime.
pub struct HandOff {
    socket: std::net::TcpStream,
    peer: SocketAddr,
    at: Instant,
    slot: ConnectionSlot,
}

impl Accepted {
    /// Detaches the socket from this worker's runtime.
    ///
    /// # Errors
    /// The socket can't be detached.
    pub fn detach(self) -> io::Result<HandOff> {
        let Self { socket, peer, at, slot } = self;
        Ok(HandOff { socket: socket.into_std()?, peer, at, slot })
    }
}

impl HandOff {
    /// Attaches the socket to this worker's runtime.
    ///
    /// # Errors
    /// The socket can't be attached.
    pub fn attach(self) -> io::Result<Accepted> {
        let Self { socket, peer, at, slot } = self;
        Ok(Accepted { socket: TcpStream::from_std(socket)?, peer, at, slot })
    }
}

/// A connection being served, until it ends.
type Serving = Pin<Box<dyn Future<Output = Close>>>;

/// Serves one connection until it ends.
///
/// Connections are idle most of the time, so their memory counts. The future that opens one is boxed
/// and freed once it is open; the future that serves it has a box of its own size.
pub async fn serve(worker: Rc<Worker>, listener: Rc<WorkerListener>, accepted: Accepted) {
    let Accepted { socket, peer, at, slot } = accepted;
    listener.connection_opened();
    let opened = caught(Box::pin(open(&worker, &listener, socket, peer, at))).await;
    let ended = match opened {
        Ok(Ok(serving)) => caught(serving).await,
        Ok(Err(close)) => Ok(close),
        Err(panic) => Err(panic),
    };
    let close = ended.unwrap_or_else(|Panic { message, place }| { tracing::error!( listener = &*listener.plan().name, %peer, place, message, "a panic ended this connection, which is a bug in Tollgate; others go on" ); Close::Panic });
    listener.connection_closed(close);
    tracing::debug!(listener = &*listener.plan().name, %peer, reason = close.as_str(), "closed");
    drop(slot);
}

/// Connects the upstream. Returns the future that serves the connection.
async fn open(
    worker: &Rc<Worker>,
    listener: &Rc<WorkerListener>,
    mut client: TcpStream,
    peer: SocketAddr,
    at: Instant,
) -> Result<Serving, Close> {
    let address = client.local_addr().map_err(|error| {
        // The client went away between accept and here.
        tracing::debug!(listener = &*listener.plan().name, %peer, %error, "connection lost");
        Close::ClientReset
    })?;
    let link = ConnectionInfo { peer: plain(peer), local: plain(address) };
    let mut door = Door::new(worker, listener, link, at);
    match listener.gate().connect(&link, Instant::now()) {
        ConnectVerdict::Accept(delay, permits) => {
            door.holds(permits);
            if !delay.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = worker.closing() => return Err(Close::DrainTimeout),
                }
            }
        }
        ConnectVerdict::Reject(no) => match listener.upstreams() {
            Upstreams::Server(server) if no.mode == RejectMode::Reply => {
                return Ok(protocols::refuse(server, door, client, no));
            }
            _ => return Err(turned_away(worker, &door, &mut client, &no).await),
        },
    }
    let preconnects = match listener.upstreams() {
        Upstreams::Cluster(preconnects) => preconnects,
        Upstreams::Server(server) => return Ok(protocols::host(server, door, client)),
    };
    if listener.plan().upstream_connect_mode == UpstreamConnectMode::OnClientData {
        first_byte::wait_for_first_byte(&client, &door).await?;
    }
    let connecting = preconnects.connect(door.hash(preconnects.cluster()));
    let upstream = tokio::select! {
        upstream = connecting => upstream,
        // No client is served by an upstream connection that is still being opened.
        () = worker.closing() => return Err(Close::DrainTimeout),
    };
    match upstream {
        Ok(UpstreamConnection { stream, lease, .. }) => {
            door.leads_to(lease);
            Ok(protocols::serve(door, client, stream))
        }
        Err(error) => {
            listener.warn_unreachable(&error);
            let (close, (reason, message)) = (error.close_reason(), error.client_error());
            let why = RejectionRef::new(reason, &message);
            tokio::select! {
                () = protocols::turn_away(&door, &mut client, (close, RejectMode::Reply), &why) => {}
                () = worker.closing() => {}
            }
            Err(close)
        }
    }
}

/// Rejects a client that a policy does not admit.
async fn turned_away(
    worker: &Worker,
    door: &Door,
    client: &mut TcpStream,
    no: &Rejection,
) -> Close {
    let why = no.as_ref();
    let told = async {
        protocols::turn_away(door, client, (no.reason.close(), no.mode), &why).await;
        match no.mode {
            // It may be gone already.
            RejectMode::Reset => drop(client.set_zero_linger()),
            RejectMode::Reply | RejectMode::Close => linger(client).await,
        }
    };
    tokio::select! {
        () = told => {}
        () = worker.closing() => {}
    }
    no.reason.close()
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The gate as one connection sees it, with what is known of the connection.
pub struct Door {
    worker: Rc<Worker>,
    session: Rc<SessionInfo>,
    /// Where it leads, and its being counted there.
    upstream: Option<Lease>,
    /// What policies hold for it.
    permits: RefCell<ConnectionPermits>,
    /// Which set of policies that is of.
    generation: Cell<u64>,
    /// Where the worker finds the connection to wake it.
    place: usize,
    /// Whether the worker has the waker of this connection.
    wakes: Cell<bool>,
}

impl Gate for Door {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        self.listener().gate().admit(operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        self.listener().gate().resume(ticket, answer, operation, now)
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.listener().gate().record_rejected(operation, began, how);
    }
}

impl Door {
    /// A connection that was accepted, and leads nowhere yet.
    pub fn new(
        worker: &Rc<Worker>,
        listener: &Rc<WorkerListener>,
        link: ConnectionInfo,
        accepted: Instant,
    ) -> Self {
        let session = SessionInfo::new(listener, link, accepted);
        Self {
            worker: Rc::clone(worker),
            place: worker.register(&session),
            session,
            upstream: None,
            permits: RefCell::default(),
            generation: Cell::new(listener.gate().generation()),
            wakes: Cell::new(false),
        }
    }

    /// It has an upstream now.
    pub fn leads_to(&mut self, lease: Lease) {
        *self.session.endpoint.borrow_mut() = Some(Arc::clone(lease.endpoint().name()));
        self.upstream = Some(lease);
    }

    /// Its upstream is done with.
    pub fn leads_nowhere(&mut self) {
        self.upstream = None;
    }

    /// The worker that serves the connection.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// What operators see of the connection.
    pub fn session(&self) -> &Rc<SessionInfo> {
        &self.session
    }

    /// Its listener, on this worker.
    fn listener(&self) -> &WorkerListener {
        self.session.listener()
    }

    /// The listener that the connection came in by.
    pub fn plan(&self) -> &Arc<ListenerPlan> {
        self.listener().plan()
    }

    /// The hash of the client's key, where the cluster picks by one: the address without the
    /// port, which differs with each connection.
    fn hash(&self, cluster: &Cluster) -> Option<u64> {
        cluster.hash_client(self.session.link.peer.ip())
    }

    /// An operation goes to the endpoint.
    pub fn began(&self) {
        if let Some(lease) = &self.upstream {
            lease.operation_started();
        }
    }

    /// An operation that [`began`](Door::began) is over, after it took so long.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        if let Some(lease) = &self.upstream {
            lease.operation_ended(outcome, took);
        }
    }

    /// A connection that is one operation is over; `reset` if the endpoint reset it.
    pub fn session_ended(&self, outcome: Outcome, reset: bool, took: Duration) {
        if let Some(lease) = &self.upstream {
            lease.session_ended(outcome, reset, took);
        }
    }

    /// An operation that [`began`](Door::began) went well, and says nothing about the endpoint.
    pub fn greeted(&self, took: Duration) {
        if let Some(lease) = &self.upstream {
            lease.handshake_ended(took);
        }
    }

    /// Whether any connection to its cluster is open.
    pub fn is_cluster_connected(&self) -> bool {
        match self.listener().upstreams() {
            Upstreams::Cluster(preconnects) => preconnects.cluster().is_connected(),
            Upstreams::Server(_) => false,
        }
    }

    /// What the endpoint asks of the connection.
    pub fn wish(&self) -> CloseRequest {
        self.upstream.as_ref().map_or(CloseRequest::None, Lease::close_request)
    }

    /// The connection's two ends on the client's side.
    pub fn link(&self) -> ConnectionInfo {
        self.session.link
    }

    /// Policies hold this for the connection.
    pub fn holds(&mut self, permits: ConnectionPermits) {
        *self.permits.get_mut() = permits;
    }

    /// Whether policies hold nothing for the connection.
    pub fn is_free(&self) -> bool {
        self.permits.borrow().is_empty()
    }

    /// The most bytes that should pass this way in one go.
    pub fn most(&self, way: Direction) -> usize {
        self.permits.borrow().most(way)
    }

    /// Records `bytes` that passed this way, of the operation in this slot of the gate, if that is
    /// known. Returns the earliest time at which further bytes should pass.
    pub fn passed(
        &self,
        way: Direction,
        bytes: usize,
        now: Instant,
        slot: Option<u32>,
    ) -> Option<Instant> {
        let gate = self.listener().gate();
        self.permits.borrow().passed(way, bytes, now, |entry, first| match slot {
            Some(slot) => gate.record_throttled(entry, slot),
            None if first => entry.count_throttled(),
            None => {}
        })
    }

    /// Updates the permits if policies came into force, or were removed, since the last call.
    /// Returns whether any were.
    pub fn follow(&self) -> bool {
        let gate = self.listener().gate();
        let generation = gate.generation();
        let changed = self.generation.replace(generation) != generation;
        if changed {
            gate.refresh_permits(
                &self.session.link,
                &mut self.permits.borrow_mut(),
                Instant::now(),
            );
        }
        changed
    }

    /// What policies ask now of the operation that the gate keeps in this place.
    pub fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revision> {
        self.listener().gate().revise(slot, operation, now)
    }

    /// When the connection was accepted.
    pub fn accepted(&self) -> Instant {
        self.session.accepted
    }

    /// A fact about the connection.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "peer" => Some(self.session.link.peer.to_string().into()),
            "local" => Some(self.session.link.local.to_string().into()),
            "endpoint" => self.endpoint().map(Cow::from),
            "cluster" => self.plan().cluster.as_deref().map(Cow::from),
            _ => None,
        }
    }

    /// The name of the endpoint that the connection leads to.
    fn endpoint(&self) -> Option<&str> {
        self.upstream.as_ref().map(|lease| &**lease.endpoint().name())
    }

    /// Whether a policy keeps something out: what can't be read can't be allowed then.
    pub fn is_guarded(&self) -> bool {
        self.listener().gate().guards()
    }

    /// The refusal of a request that can't be read, where a policy guards.
    pub fn refuse_unreadable(&self) -> Option<Rejection> {
        self.listener().gate().refuse_unreadable()
    }

    /// Counts a protocol violation.
    pub fn violation(&self, violation: Violation) {
        self.listener().count_violation(violation);
    }

    /// What its listener may hold of requests until policies can decide.
    pub fn held_bytes(&self) -> &Arc<HeldBytesBudget> {
        self.listener().held_bytes()
    }

    /// Logs, for operators, that a request could not be held any longer.
    pub fn out_of_held_bytes(&self) {
        self.listener().report_not_held();
    }

    /// Counts an operation rejected by its cluster's circuit breaker.
    pub fn overloaded(&self) {
        self.listener().count_overloaded();
    }

    /// Logs what was done about lost framing.
    pub fn explain(&self, violation: Violation, done: &str) {
        tracing::warn!( listener = &*self.plan().name, protocol = self.plan().protocol.name(), peer = %self.session.link.peer, endpoint = self.endpoint(), violation = violation.0, "the bytes can't be read as the listener's protocol: connection {done}" );
    }

    /// That the endpoint does not speak the listener's protocol, for its clients.
    pub fn speaks_something_else(&self, protocol: &str, violation: Violation) -> String {
        let cluster = self.plan().cluster.as_deref().unwrap_or_default();
        let endpoint = self.endpoint().unwrap_or_default();
        format!("endpoint {endpoint} of `{cluster}` does not speak {protocol}: {violation}")
    }

    /// Logs what a codec has noticed about the service.
    pub fn notice(&self, notice: &str) {
        tracing::warn!(
            listener = &*self.plan().name,
            cluster = self.plan().cluster.as_deref(),
            endpoint = self.endpoint(),
            "{notice}"
        );
    }

    /// Lets the worker wake this connection's task, for a drain.
    pub fn wakes(&self, waker: &Waker) {
        if !self.wakes.replace(true) {
            self.worker.set_waker(self.place, waker);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.worker.deregister(self.place);
    }
}
