//! The TLS handshake with a client, before the connection's protocol.

use super::{
    Connections,
    starttls::{Opening, answer_requests},
};
use crate::listener::WorkerListener;
use config::plan::ListenerPlan;
use net::{Stream, peek};
use operation::Close;
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tls::{
    ClientHello, FirstBytes, HandshakeFailure, MAX_CLIENT_HELLO, StartTls, TlsInfo, TlsStream,
    name_matches, read_client_hello,
};
use tokio::{net::TcpStream, sync::Semaphore, task::yield_now, time::timeout};

/// The longest handshake, if the listener's `handshake_timeout` is longer.
const MAX_HANDSHAKE: Duration = Duration::from_secs(10);

/// The alert that no certificate is for the requested name (RFC 6066, 3): a fatal alert of two bytes
/// in a record of TLS 1.2.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// A client's connection after the handshake.
pub(super) struct Introduced {
    /// The connection's own bytes.
    pub(super) stream: Stream,
    /// The name that the client asked for (SNI).
    pub(super) server_name: Option<String>,
    /// What both sides have agreed upon, if the connection is encrypted.
    pub(super) tls: Option<TlsInfo>,
    /// The request for TLS that the client has begun with and that the endpoint has yet to get, where
    /// TLS passes through.
    pub(super) starttls: Option<StartTls>,
}

impl Introduced {
    fn plain(socket: TcpStream) -> Self {
        Self { stream: socket.into(), server_name: None, tls: None, starttls: None }
    }
}

/// Completes the handshake, if the listener has TLS; or reads the name that the client asks for, if
/// clusters are chosen by it.
///
/// # Errors
/// Why the connection is to be closed. The failure was counted and logged.
pub(super) async fn handshake(
    connections: &Connections,
    listener: &WorkerListener,
    socket: TcpStream,
    peer: SocketAddr,
) -> Result<Introduced, Close> {
    let plan = listener.plan();
    if plan.tls.is_none() && plan.sni.is_empty() {
        return Ok(Introduced::plain(socket));
    }
    let limit = plan.timeouts.handshake.map_or(MAX_HANDSHAKE, |limit| limit.min(MAX_HANDSHAKE));
    let began = Instant::now();
    let mut server_name = None;
    let accepted = tokio::select! {
        accepted = timeout(limit, accept(connections, plan, socket, &mut server_name)) => accepted,
        () = connections.closing() => return Err(Close::DrainTimeout),
    };
    match accepted.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok(introduced) => {
            if plan.tls.is_some() {
                listener.handshakes().record(introduced.tls.as_ref(), began.elapsed());
            }
            Ok(introduced)
        }
        Err(failure) => {
            listener.handshakes().record_failure(&failure, peer, server_name.as_deref());
            Err(Close::TlsHandshake)
        }
    }
}

/// The connection after the handshake. Sets `server_name` as soon as it is known, so that failures are
/// logged with it.
async fn accept(
    connections: &Connections,
    plan: &ListenerPlan,
    socket: TcpStream,
    server_name: &mut Option<String>,
) -> Result<Introduced, HandshakeFailure> {
    let opening = match plan.starttls {
        Some(starttls) => answer_requests(&socket, starttls).await?,
        None => Opening::Direct,
    };
    let hello = match client_hello(&socket).await? {
        FirstBytes::Hello(hello) => *hello,
        FirstBytes::Plaintext(_) if allows_plaintext(plan, opening) => {
            return Ok(Introduced::plain(socket));
        }
        FirstBytes::Plaintext(protocol) => {
            if let Some(starttls) = plan.starttls {
                send(&socket, &starttls.refusal());
            }
            return Err(HandshakeFailure::NotTls(protocol));
        }
        FirstBytes::Invalid(failure, alert) => {
            send(&socket, &alert);
            return Err(failure);
        }
        // It was waited for.
        FirstBytes::Incomplete => return Err(HandshakeFailure::Closed),
    };
    server_name.clone_from(&hello.server_name);
    let is_served = plan.tls.as_ref().is_none_or(|tls| tls.serves(&hello));
    if !is_served || !has_cluster(plan, hello.server_name.as_deref()) {
        send(&socket, &UNRECOGNIZED_NAME);
        return Err(HandshakeFailure::UnknownName);
    }
    let ClientHello { server_name, .. } = hello;
    let Some(tls) = &plan.tls else {
        // The hello is still in the socket, for the endpoint.
        let starttls = plan.starttls.filter(|_| opening == Opening::Asked);
        return Ok(Introduced { server_name, starttls, ..Introduced::plain(socket) });
    };
    let config = tls.config();
    let mut stream = TlsStream::server(socket, Arc::clone(&config))?;
    in_steps(&mut stream, &connections.handshakes).await?;
    let tls = Some(tls.info(&stream, &config, server_name.clone())?);
    Ok(Introduced { stream: stream.into(), server_name, tls, starttls: None })
}

/// Completes the handshake in steps, each of which keeps the core busy. A permit is held for a step and
/// until other tasks had their turn, so that a flood of handshakes delays open connections by a bounded
/// number of steps. It is not held while the client is waited for: clients that stall delay no others.
async fn in_steps(stream: &mut TlsStream, steps: &Semaphore) -> Result<(), HandshakeFailure> {
    loop {
        stream.handshake_ready().await?;
        let _permit = steps.acquire().await;
        let is_over = stream.handshake_step()?;
        yield_now().await;
        if is_over {
            return Ok(());
        }
    }
}

/// Whether a client without TLS is served: where TLS passes through, if there is a cluster for it. One that
/// has asked for TLS must use it. One that only cancels an operation need not, unless clients must have
/// certificates: psql before version 17 has no TLS then, and PostgreSQL's servers accept that too.
fn allows_plaintext(plan: &ListenerPlan, opening: Opening) -> bool {
    let Some(tls) = plan.tls.as_ref().map(|tls| tls.plan()) else {
        return opening != Opening::Asked && plan.cluster.is_some();
    };
    match opening {
        Opening::Direct => tls.allow_plaintext,
        Opening::Asked => false,
        Opening::Cancel => tls.client_certificates.as_ref().is_none_or(|it| !it.required),
    }
}

/// Whether a cluster serves clients that ask for this name.
fn has_cluster(plan: &ListenerPlan, name: Option<&str>) -> bool {
    let is_named = |name: &str| plan.sni.keys().any(|sni| name_matches(sni, name));
    plan.sni.is_empty() || plan.cluster.is_some() || name.is_some_and(is_named)
}

/// The client's ClientHello, or what comes in its place; it stays in the socket.
async fn client_hello(socket: &TcpStream) -> Result<FirstBytes, HandshakeFailure> {
    let judged = first_bytes(socket, MAX_CLIENT_HELLO, |bytes| match read_client_hello(bytes) {
        FirstBytes::Incomplete => None,
        known => Some(known),
    });
    judged.await
}

/// What `judge` makes of the client's first bytes, of which there are at most `most`; they stay in the
/// socket.
pub(super) async fn first_bytes<T>(
    socket: &TcpStream,
    most: usize,
    judge: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, HandshakeFailure> {
    peek(socket, most, judge).await.map_err(|error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => HandshakeFailure::Closed,
        ErrorKind::InvalidData => HandshakeFailure::Protocol,
        _ => HandshakeFailure::from_io(&error),
    })
}

/// Sends an alert or an answer, if the socket takes it at once: little was sent before, so it has room.
pub(super) fn send(socket: &TcpStream, bytes: &[u8]) {
    let _ = socket.try_write(bytes);
}
