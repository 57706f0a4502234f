//! The PROXY protocol header of a client that a load balancer connects for.

use super::Connections;
use crate::listener::WorkerListener;
use config::plan::ProxyProtocolPlan;
use net::{peek, skip};
use operation::Close;
use proxy_protocol::{FirstBytes, Header, Invalid, read};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long a load balancer may take to send the header.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Reads the header, if the peer is one of those that send it.
///
/// # Errors
/// Why the connection is to be closed. The failure was logged.
pub(super) async fn read_proxy_header(
    connections: &Connections,
    listener: &WorkerListener,
    socket: &TcpStream,
    peer: SocketAddr,
) -> Result<Option<Header>, Close> {
    let Some(plan) = &listener.plan().proxy_protocol else { return Ok(None) };
    if !plan.expects(peer.ip()) {
        return Ok(None);
    }
    let header = tokio::select! {
        header = timeout(MAX_WAIT, receive(plan, socket)) => header,
        () = connections.closing() => return Err(Close::DrainTimeout),
    };
    match header {
        Ok(Ok(Ok(header))) => Ok(Some(header)),
        Ok(Ok(Err(invalid))) => {
            listener.handshakes().log(invalid.reason(), &invalid, peer, None);
            Err(Close::ProxyHeader)
        }
        // A load balancer that only looks whether the port is open sends nothing.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Close::Client),
        Ok(Err(_)) => Err(Close::ClientReset),
        Err(_) => {
            listener.handshakes().log(Invalid::Missing.reason(), &Invalid::Missing, peer, None);
            Err(Close::ProxyHeader)
        }
    }
}

async fn receive(
    plan: &ProxyProtocolPlan,
    socket: &TcpStream,
) -> io::Result<Result<Header, Invalid>> {
    let (accepted, max) = (plan.settings.accepted(), plan.settings.max());
    // One byte more, so that a header of the full length is complete.
    let first = peek(socket, max + 1, |bytes| match read(bytes, accepted, max) {
        FirstBytes::Incomplete => None,
        known => Some(known),
    });
    match first.await? {
        FirstBytes::Header(header, length) => {
            skip(socket, length).await?;
            Ok(Ok(*header))
        }
        FirstBytes::Invalid(invalid) => Ok(Err(invalid)),
        FirstBytes::Incomplete => Ok(Err(Invalid::Malformed)),
    }
}
