//! What comes on a connection to an endpoint before its protocol: a PROXY header, and TLS.

use crate::Endpoint;
use net::Stream;
use std::io;
use tls::ClientTls;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Sends `header`, a PROXY protocol header, and then completes the TLS handshake with the endpoint, as
/// far as the cluster has them.
///
/// # Errors
/// The socket failed, or the handshake did; the error holds a [`tls::HandshakeFailure`] then.
pub(crate) async fn establish(
    mut socket: TcpStream,
    endpoint: &Endpoint,
    header: Option<&[u8]>,
    tls: Option<&ClientTls>,
) -> io::Result<Stream> {
    if let Some(header) = header {
        socket.write_all(header).await?;
    }
    let Some(tls) = tls else { return Ok(socket.into()) };
    Ok(tls.connect(socket, &endpoint.server_name()).await?.into())
}
