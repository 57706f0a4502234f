//! What comes on a connection to an endpoint before its protocol: a PROXY header, and TLS.

use super::dial;
use crate::plan::ClusterPlan;
use net::Stream;
use proxy_protocol::OutgoingHeader;
use std::{io, net::SocketAddr};
use tls::{ClientTls, HandshakeFailure, StartTls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What an endpoint is sent first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Preamble<'a> {
    /// A header of the PROXY protocol.
    pub(crate) header: Option<&'a [u8]>,
    /// The request for TLS, in the endpoint's protocol.
    pub(crate) starttls: Option<StartTls>,
}

/// Sends the preamble, and then completes the TLS handshake with the endpoint, if the cluster has TLS. The
/// endpoint's certificate must have the name.
///
/// # Errors
/// The socket failed, or the handshake did; the error holds a [`HandshakeFailure`] then.
pub(crate) async fn establish(
    mut socket: TcpStream,
    server_name: &str,
    preamble: Preamble<'_>,
    tls: Option<&ClientTls>,
) -> io::Result<Stream> {
    if let Some(header) = preamble.header {
        socket.write_all(header).await?;
    }
    if let Some(starttls) = preamble.starttls {
        request_tls(&mut socket, starttls).await?;
    }
    let Some(tls) = tls else { return Ok(socket.into()) };
    Ok(tls.connect(socket, server_name).await?.into())
}

/// Opens a connection of the proxy's own, which has no client: for monitors, and for endpoints to come.
///
/// # Errors
/// As [`establish`].
pub(crate) async fn connect_without_client(
    plan: &ClusterPlan,
    address: SocketAddr,
    server_name: &str,
    tls: Option<&ClientTls>,
) -> io::Result<Stream> {
    let socket = dial(plan, address).await?;
    let header = header_without_client(plan);
    let preamble = Preamble { header: header.as_deref(), starttls: plan.starttls };
    establish(socket, server_name, preamble, tls).await
}

/// The PROXY header of a connection of the proxy's own, if the cluster has one.
pub(crate) fn header_without_client(plan: &ClusterPlan) -> Option<Vec<u8>> {
    let version = plan.proxy_protocol?;
    let mut header = Vec::new();
    OutgoingHeader::default().write(version, &mut header);
    Some(header)
}

/// Asks the endpoint for TLS. No more than the answer is read: what follows belongs to the handshake, so
/// bytes without TLS are never read as if TLS protected them (CVE-2021-23222).
async fn request_tls(socket: &mut TcpStream, starttls: StartTls) -> Result<(), HandshakeFailure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => HandshakeFailure::Closed,
        _ => HandshakeFailure::from_io(&error),
    };
    socket.write_all(starttls.request()).await.map_err(failed)?;
    starttls.check_answer(socket.read_u8().await.map_err(failed)?)
}
