//! What comes on a connection to an endpoint before its protocol: a PROXY header, and TLS.

use net::Stream;
use std::io;
use tls::{ClientTls, HandshakeFailure, TlsStream};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Sends `header`, a PROXY protocol header, and then completes the TLS handshake with the endpoint of
/// this name (`host:port`), as far as the cluster has them. The host as written is the name that is
/// asked for and verified, whatever its address is.
///
/// # Errors
/// The socket failed, or the handshake did; the error holds a [`HandshakeFailure`] then.
pub(crate) async fn establish(
    mut socket: TcpStream,
    endpoint: &str,
    header: Option<&[u8]>,
    tls: Option<&ClientTls>,
) -> io::Result<Stream> {
    if let Some(header) = header {
        socket.write_all(header).await?;
    }
    let Some(tls) = tls else { return Ok(socket.into()) };
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let name = tls.server_name(host).map_err(HandshakeFailure::from_rustls)?;
    let mut stream = TlsStream::client(socket, tls.config(), name)?;
    stream.handshake().await?;
    tls.check_alpn(stream.alpn())?;
    Ok(stream.into())
}
