//! What comes on a connection to an endpoint before its protocol: a PROXY header, and TLS.

use net::Stream;
use std::io;
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
