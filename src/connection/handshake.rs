//! The TLS handshake with a client, before the connection's protocol.

use super::Connections;
use crate::listener::WorkerListener;
use net::{Stream, peek};
use operation::Close;
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::{Duration, Instant},
};
use tls::{
    ClientHello, FirstBytes, HandshakeFailure, MAX_CLIENT_HELLO, ServerTls, TlsInfo, TlsStream,
    read_client_hello,
};
use tokio::{net::TcpStream, time::timeout};

/// The longest handshake, if the listener's `handshake_timeout` is longer.
const MAX_HANDSHAKE: Duration = Duration::from_secs(10);

/// The alert that no certificate is for the requested name (RFC 6066, 3): a fatal alert of two bytes
/// in a record of TLS 1.2.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// Completes the handshake, if the listener has TLS. Returns the stream of the connection's own bytes,
/// and what both sides have agreed upon if it is encrypted.
///
/// # Errors
/// Why the connection is to be closed. The failure was counted and logged.
pub(super) async fn handshake(
    connections: &Connections,
    listener: &WorkerListener,
    socket: TcpStream,
    peer: SocketAddr,
) -> Result<(Stream, Option<TlsInfo>), Close> {
    let plan = listener.plan();
    let Some(tls) = &plan.tls else { return Ok((socket.into(), None)) };
    let limit = plan.timeouts.handshake.map_or(MAX_HANDSHAKE, |limit| limit.min(MAX_HANDSHAKE));
    let began = Instant::now();
    let accepted = tokio::select! {
        accepted = timeout(limit, accept(connections, tls, socket)) => accepted,
        () = connections.closing() => return Err(Close::DrainTimeout),
    };
    match accepted.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok((stream, info)) => {
            listener.handshakes().record(info.as_ref(), began.elapsed());
            Ok((stream, info))
        }
        Err(failure) => {
            listener.handshakes().record_failure(&failure, peer);
            Err(Close::TlsHandshake)
        }
    }
}

async fn accept(
    connections: &Connections,
    tls: &ServerTls,
    socket: TcpStream,
) -> Result<(Stream, Option<TlsInfo>), HandshakeFailure> {
    let hello = match first_bytes(&socket).await? {
        FirstBytes::Hello(hello) => *hello,
        FirstBytes::Plaintext(_) if tls.plan().allow_plaintext => {
            return Ok((socket.into(), None));
        }
        FirstBytes::Plaintext(protocol) => return Err(HandshakeFailure::NotTls(protocol)),
        FirstBytes::Invalid(failure, alert) => {
            send(&socket, &alert);
            return Err(failure);
        }
        // It was waited for.
        FirstBytes::Incomplete => return Err(HandshakeFailure::Closed),
    };
    if !tls.serves(&hello) {
        send(&socket, &UNRECOGNIZED_NAME);
        return Err(HandshakeFailure::UnknownName);
    }
    // Handshakes cost more than anything else here: only so many are under way on a worker.
    let permit = connections.handshakes.acquire().await;
    let mut stream = TlsStream::server(socket, tls.config())?;
    stream.handshake().await?;
    drop(permit);
    let ClientHello { server_name, .. } = hello;
    let info = stream.info(server_name);
    Ok((stream.into(), Some(info)))
}

/// What the client's first bytes are; they stay in the socket.
async fn first_bytes(socket: &TcpStream) -> Result<FirstBytes, HandshakeFailure> {
    let judged = peek(socket, MAX_CLIENT_HELLO, |bytes| match read_client_hello(bytes) {
        FirstBytes::Incomplete => None,
        known => Some(known),
    });
    judged.await.map_err(|error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => HandshakeFailure::Closed,
        ErrorKind::InvalidData => HandshakeFailure::Protocol,
        _ => HandshakeFailure::from_io(&error),
    })
}

/// Sends an alert, if the socket takes it at once: nothing was sent before, so it has room.
fn send(socket: &TcpStream, alert: &[u8]) {
    let _ = socket.try_write(alert);
}
