//! A client's request for TLS in its own protocol, before the handshake.

use super::handshake::{first_bytes, send};
use net::skip;
use tls::{HandshakeFailure, StartTls, StartTlsRequest};
use tokio::net::TcpStream;

/// How many requests are answered on a connection: one for TLS, and one for another kind of encryption.
const MAX_REQUESTS: usize = 2;

/// The most bytes that are looked at. One more than a request has, to find bytes behind it.
const MAX_FIRST_BYTES: usize = StartTlsRequest::LENGTH + 1;

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// With TLS, or with its protocol.
    Direct,
    /// With a request for TLS, which was answered.
    Asked,
    /// With a request to cancel an operation of another connection.
    Cancel,
}

/// Answers the client's requests, if it sends any.
///
/// # Errors
/// The client sends more than a request before it has the answer, or too many requests.
pub(super) async fn answer_requests(
    socket: &TcpStream,
    starttls: StartTls,
) -> Result<Opening, HandshakeFailure> {
    for _ in 0..MAX_REQUESTS {
        let request = first_bytes(socket, MAX_FIRST_BYTES, |bytes| match starttls.read(bytes) {
            StartTlsRequest::Incomplete => None,
            request => Some(request),
        });
        let request = request.await?;
        if let Some(answer) = request.answer() {
            let skipped = skip(socket, StartTlsRequest::LENGTH).await;
            skipped.map_err(|error| HandshakeFailure::from_io(&error))?;
            send(socket, answer);
        }
        match request {
            StartTlsRequest::Tls => return Ok(Opening::Asked),
            StartTlsRequest::Cancel => return Ok(Opening::Cancel),
            StartTlsRequest::None => return Ok(Opening::Direct),
            StartTlsRequest::OtherEncryption => {}
            StartTlsRequest::Invalid | StartTlsRequest::Incomplete => break,
        }
    }
    Err(HandshakeFailure::Protocol)
}
