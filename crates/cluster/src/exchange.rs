//! Requests and replies on connections of the proxy's own: health checks, monitors, handshakes of a pool.

use bytes::BytesMut;
use net::Stream;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends the bytes, and empties the buffer for the reply.
pub(crate) async fn send(stream: &mut Stream, bytes: &mut BytesMut) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    bytes.clear();
    Ok(())
}

/// Appends the next bytes of a reply.
///
/// # Errors
/// The connection broke, or ended, which the words `ended` tell.
pub(crate) async fn read_more(
    stream: &mut Stream,
    bytes: &mut BytesMut,
    ended: &'static str,
) -> io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, ended)),
        _ => Ok(()),
    }
}
