//! One client's connection: a slot at its listener, an upstream, and then its protocol.

mod client_session;
mod connections;
mod first_byte;
mod handshake;
mod preface_attributes;
mod proxy_header;
pub mod session_info;
mod starttls;

use crate::listener::{ConnectionSlot, Upstreams, WorkerListener};
pub use client_session::ClientSession;
use cluster::ConnectOptions;
use config::plan::UpstreamConnectMode;
pub use connections::Connections;
use handshake::{Introduced, handshake};
use net::Stream;
use operation::{Close, ConnectionInfo, RejectMode, Rejection, RejectionRef};
use policy::attributes::ConnectPhase;
use process::panics::{Panic, caught};
use proxy_header::read_proxy_header;
use relay::RelayUpstream;
use session::linger;
use std::{io, net::SocketAddr, pin::Pin, rc::Rc, time::Instant};
use tls::StartTls;
use tokio::net::TcpStream;

/// A connection that was accepted.
pub struct Accepted {
    /// The client's end.
    pub socket: TcpStream,
    /// The client's address.
    pub peer: SocketAddr,
    /// When it was accepted.
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
/// and freed once it is open; the future that serves it has a box of its own size. What only the first one
/// needs is no part of the connection's task.
pub fn serve(
    connections: Rc<Connections>,
    listener: Rc<WorkerListener>,
    accepted: Accepted,
) -> impl Future<Output = ()> {
    let Accepted { socket, peer, at, slot } = accepted;
    let opened_for = Rc::clone(&listener);
    let opening = Box::pin(async move { open(&connections, &opened_for, socket, peer, at).await });
    async move {
        listener.connection_opened();
        let ended = match caught(opening).await {
            Ok(Ok(serving)) => caught(serving).await,
            Ok(Err(close)) => Ok(close),
            Err(panic) => Err(panic),
        };
        let close = ended.unwrap_or_else(|panic| panicked(&listener, peer, panic));
        listener.connection_closed(close);
        tracing::debug!(listener = &*listener.plan().name, %peer, reason = close.as_str(), "closed");
        drop(slot);
    }
}

fn panicked(listener: &WorkerListener, peer: SocketAddr, panic: Panic) -> Close {
    let Panic { message, place } = panic;
    tracing::error!(
        listener = &*listener.plan().name,
        %peer,
        place,
        message,
        "a panic ended this connection, which is a bug in Tollgate; others go on"
    );
    Close::Panic
}

/// Completes what comes before the protocol, and connects the upstream. Returns the future that serves
/// the connection.
async fn open(
    connections: &Rc<Connections>,
    listener: &Rc<WorkerListener>,
    socket: TcpStream,
    peer: SocketAddr,
    at: Instant,
) -> Result<Serving, Close> {
    let address = socket.local_addr().map_err(|error| {
        // The client went away between accept and here.
        tracing::debug!(listener = &*listener.plan().name, %peer, %error, "connection lost");
        Close::ClientReset
    })?;
    let header = read_proxy_header(connections, listener, &socket, peer).await?;
    let sender = unmapped(peer);
    // The client that a load balancer speaks for, and the address that this client reached.
    let ends = header.as_ref().and_then(|header| header.addresses);
    let (peer, address) = ends.unwrap_or((peer, address));
    let link = ConnectionInfo { peer: unmapped(peer), local: unmapped(address) };
    let session = Rc::new(ClientSession::new(connections, listener, link, at));
    if let Some(header) = header {
        session.set_proxy_header(header, sender);
    }
    let early = ask_policies(connections, &session, ConnectPhase::BeforeHandshake).await?;
    if let Some(mut rejection) = early {
        if listener.plan().tls.is_some() && rejection.mode == RejectMode::Reply {
            // A handshake costs more than the rejection saves; drivers understand a close before it.
            rejection.mode = RejectMode::Close;
        }
        return reject(connections, listener, session, socket.into(), rejection).await;
    }
    let Introduced { stream, server_name, tls, starttls } =
        handshake(connections, listener, socket, link.peer).await?;
    session.set_tls(server_name, tls);
    match ask_policies(connections, &session, ConnectPhase::AfterHandshake).await? {
        Some(rejection) => reject(connections, listener, session, stream, rejection).await,
        None => connect(connections, listener, session, stream, starttls).await,
    }
}

/// Asks the policies about connections that know enough in this phase, and waits as long as they
/// delay the connection. Returns the rejection, if one of them rejects it.
async fn ask_policies(
    connections: &Connections,
    session: &ClientSession,
    phase: ConnectPhase,
) -> Result<Option<Rejection>, Close> {
    let delay = match session.ask_policies(phase) {
        Ok(delay) => delay,
        Err(rejection) => return Ok(Some(rejection)),
    };
    if !delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = connections.closing() => return Err(Close::DrainTimeout),
        }
    }
    Ok(None)
}

/// Rejects a client that a policy does not admit. Returns the future that does it, where that is an
/// answer to a request.
async fn reject(
    connections: &Connections,
    listener: &WorkerListener,
    session: Rc<ClientSession>,
    mut client: Stream,
    rejection: Rejection,
) -> Result<Serving, Close> {
    match listener.upstreams() {
        Upstreams::Server(server) if rejection.mode == RejectMode::Reply => {
            Ok(Rc::clone(server).reject(session, client, rejection))
        }
        _ => Err(reject_client(connections, listener, &session, &mut client, &rejection).await),
    }
}

/// Connects the upstream, which is asked for TLS by `starttls` if the client passes its own through.
/// Returns the future that serves the connection.
async fn connect(
    connections: &Rc<Connections>,
    listener: &Rc<WorkerListener>,
    session: Rc<ClientSession>,
    mut client: Stream,
    starttls: Option<StartTls>,
) -> Result<Serving, Close> {
    let protocol = &listener.plan().protocol;
    let preconnects = match listener.upstreams() {
        Upstreams::Pool { pool, mirror, .. } => {
            let (options, mirror) = (session.take_options(pool), mirror.clone());
            let upstream = RelayUpstream::Pool { pool: Rc::clone(pool), options, mirror };
            return Ok(protocol.serve(session, &connections.buffers, client, upstream));
        }
        Upstreams::Cluster(preconnects) => preconnects,
        Upstreams::ByServerName(names) => {
            let found = names.find(session.server_name()).ok_or(Close::NoEndpoint)?;
            session.set_cluster(found.cluster().name());
            found
        }
        Upstreams::Server(server) => return Ok(Rc::clone(server).serve(session, client)),
    };
    if listener.plan().upstream_connect_mode != Some(UpstreamConnectMode::Immediate) {
        first_byte::wait_for_first_byte(&mut client, &*session).await?;
    }
    let options = ConnectOptions { starttls, ..session.connect_options(preconnects.cluster()) };
    let connecting = preconnects.connect(options);
    let upstream = tokio::select! {
        upstream = connecting => upstream,
        // No operation depends on an upstream connection that is still being opened.
        () = connections.closing() => return Err(Close::DrainTimeout),
    };
    match upstream {
        Ok(mut upstream) => {
            upstream.lease.set_own();
            session.set_endpoint(upstream.lease.endpoint());
            Ok(protocol.serve(session, &connections.buffers, client, upstream.into()))
        }
        Err(error) => {
            listener.warn_unreachable(&error);
            let (close, (reason, message)) = (error.close_reason(), error.client_error());
            let (rejection, end) =
                (RejectionRef::new(reason, &message), (close, RejectMode::Reply));
            tokio::select! {
                () = protocol.reject(&*session, &mut client, end, &rejection) => {}
                () = connections.closing() => {}
            }
            Err(close)
        }
    }
}

/// Rejects a client that a policy does not admit.
async fn reject_client(
    connections: &Connections,
    listener: &WorkerListener,
    session: &ClientSession,
    client: &mut Stream,
    rejection: &Rejection,
) -> Close {
    let end = (rejection.reason.close(), rejection.mode);
    let reject = async {
        listener.plan().protocol.reject(session, client, end, &rejection.as_ref()).await;
        match rejection.mode {
            RejectMode::Reset => client.reset_on_drop(),
            RejectMode::Reply | RejectMode::Close => linger(client).await,
        }
    };
    tokio::select! {
        () = reject => {}
        () = connections.closing() => {}
    }
    rejection.reason.close()
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
