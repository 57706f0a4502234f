//! HTTP/1 without a general parser: heads are read once, strictly and in place.
//!
//! What is certainly right is served here; whatever else a client sends is left to the validator, which
//! names the fault, and to hyper.

mod attempts;
mod attributes;
mod buffer;
mod chunks;
mod client_fields;
mod compose;
mod composed_head;
mod connection;
mod download;
mod exchange;
mod field;
mod incoming_body;
mod link;
mod local_reply;
mod matched_route;
mod operation;
mod request;
mod request_head;
mod response_head;
mod upload;
mod watch;

use chunks::{ChunkPart, ChunkReader};
use response_head::{ResponseHead, ResponseLength};

pub(crate) use connection::{Handover, Served, serve};
pub(crate) use link::can_serve;

pub use field::{ByteRange, Field, FieldName, FieldSet};
pub use request_head::{BodyLength, HeadLimits, RequestHead, Unsure};

/// Longest head of a response that [`read_response`] reads, in bytes.
const MAX_RESPONSE_HEAD: usize = 4096;

/// Reads a service's response as the engine does, its chunked body in pieces of this size. Returns the length of
/// the head, and the data of the body as far as it goes. `None` if the head is incomplete, or anything is invalid.
#[must_use]
pub fn read_response(bytes: &[u8], piece: usize) -> Option<(usize, Vec<u8>)> {
    let head = ResponseHead::read(bytes, MAX_RESPONSE_HEAD, false, &mut Vec::new()).ok()??;
    let body = bytes.get(head.len..).unwrap_or_default();
    if head.length != ResponseLength::Chunked {
        return Some((head.len, body.to_vec()));
    }
    let (mut reader, mut data) = (ChunkReader::default(), Vec::new());
    for mut rest in body.chunks(piece) {
        loop {
            match reader.next(rest).ok()? {
                ChunkPart::More => break,
                ChunkPart::End(_) => return Some((head.len, data)),
                ChunkPart::Data(skip, count) => {
                    data.extend_from_slice(&rest[skip..skip + count]);
                    rest = &rest[skip + count..];
                }
            }
        }
    }
    Some((head.len, data))
}
