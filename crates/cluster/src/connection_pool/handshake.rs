//! The first exchange on a new connection.

use crate::exchange;
use bytes::{Bytes, BytesMut};
use net::Stream;
use operation::{Handshake, HandshakeStep};
use std::io;

/// The longest reply, in bytes.
const MAX_REPLY: usize = 64 * 1024;

/// Makes a connection ready for operations. Returns the first reply.
///
/// # Errors
/// The connection broke, or the service has failed: its words. `PermissionDenied`: it works, but refuses the
/// identity.
pub(crate) async fn shake_hands(
    stream: &mut Stream,
    mut handshake: Box<dyn Handshake>,
) -> io::Result<Bytes> {
    let mut bytes = BytesMut::new();
    let mut greeting = None;
    loop {
        bytes.clear();
        handshake.write_request(&mut bytes);
        exchange::send(stream, &mut bytes).await?;
        loop {
            let early = "the connection ended during the handshake";
            exchange::read_more(stream, &mut bytes, early).await?;
            match handshake.read_reply(&bytes) {
                HandshakeStep::NeedMore if bytes.len() < MAX_REPLY => {}
                HandshakeStep::NeedMore => {
                    let words = "the reply to the handshake has more than 64 KiB";
                    return Err(io::Error::other(words));
                }
                HandshakeStep::Continue => {
                    greeting.get_or_insert_with(|| Bytes::copy_from_slice(&bytes));
                    break;
                }
                HandshakeStep::Done => return Ok(greeting.unwrap_or_else(|| bytes.freeze())),
                HandshakeStep::Failed(words) => return Err(io::Error::other(words)),
                HandshakeStep::Refused(words) => {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
                }
            }
        }
    }
}
