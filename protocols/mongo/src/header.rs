//! The header of a message, and the layouts of messages older than `OP_MSG`.

use crate::{element::cstring, number::u32_at, violations};
use operation::Violation;

/// The length of the header, in bytes.
pub(crate) const HEADER_LEN: usize = 16;
/// The header of an `OP_COMPRESSED`, and what precedes the compressed bytes (original opcode,
/// uncompressed size, compressor), in bytes.
pub(crate) const COMPRESSED_PREFIX_LEN: usize = HEADER_LEN + 9;
/// What precedes the documents of an `OP_REPLY`, after its header (flags, cursor id, starting
/// point, number of documents), in bytes.
pub(crate) const REPLY_PREFIX_LEN: usize = 20;
/// The longest message that a server accepts, in bytes (`MaxMessageSizeBytes`, rpc/message.h).
pub(crate) const MAX_MESSAGE_LEN: u32 = 48_000_000;

/// Opcodes (mongodb.com/docs, "MongoDB Wire Protocol").
pub(crate) mod opcode {
    pub(crate) const REPLY: i32 = 1;
    pub(crate) const UPDATE: i32 = 2001;
    pub(crate) const INSERT: i32 = 2002;
    pub(crate) const QUERY: i32 = 2004;
    pub(crate) const GET_MORE: i32 = 2005;
    pub(crate) const DELETE: i32 = 2006;
    pub(crate) const KILL_CURSORS: i32 = 2007;
    pub(crate) const COMMAND: i32 = 2010;
    pub(crate) const COMPRESSED: i32 = 2012;
    pub(crate) const MSG: i32 = 2013;

    /// Whether a legacy message has its full collection name where [`super::legacy`] reads it.
    pub(crate) fn has_namespace(opcode: i32) -> bool {
        matches!(opcode, UPDATE | INSERT | QUERY | GET_MORE | DELETE)
    }
}

/// Bits of `OP_MSG`'s flags (specifications, message/OP_MSG).
pub(crate) mod flag {
    pub(crate) const CHECKSUM_PRESENT: u32 = 1;
    pub(crate) const MORE_TO_COME: u32 = 1 << 1;
    pub(crate) const EXHAUST_ALLOWED: u32 = 1 << 16;
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The message's length in bytes, header included: 16 to [`MAX_MESSAGE_LEN`].
    pub(crate) len: u32,
    /// `requestID`: the sender's number for the message.
    pub(crate) request_id: u32,
    /// `responseTo`: the request id of the message that this one answers.
    pub(crate) response_to: u32,
    /// The kind of message: see [`opcode`].
    pub(crate) opcode: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while it is incomplete. An impossible
    /// length is an error as soon as its 4 bytes are here.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let word = |at| u32_at(bytes, at);
        let Some(len) = word(0) else { return Ok(None) };
        if !(HEADER_LEN as u32..=MAX_MESSAGE_LEN).contains(&len) {
            return Err(other_protocol(bytes).unwrap_or(violations::BAD_LENGTH));
        }
        let (Some(id), Some(answers), Some(code)) = (word(4), word(8), word(12)) else {
            return Ok(None);
        };
        Ok(Some(Self { len, request_id: id, response_to: answers, opcode: code.cast_signed() }))
    }

    /// The header of the message inside an `OP_COMPRESSED`, with `size` bytes after it.
    pub(crate) fn of_inner(self, opcode: i32, size: u32) -> Self {
        Self { len: size + HEADER_LEN as u32, opcode, ..self }
    }

    /// The header as sent on the wire.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { len, request_id: id, response_to: answers, opcode } = self;
        [len, id, answers, opcode.cast_unsigned()].into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// As [`Header::read`], at the start of a connection, where a TLS handshake would read as a
    /// long message.
    pub(crate) fn read_first(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        if let [0x16, 3, 0..=4, _, _, 1, ..] = bytes {
            return Err(violations::LOOKS_LIKE_TLS);
        }
        Self::read(bytes)
    }
}

/// The other protocol that the bytes look like.
fn other_protocol(bytes: &[u8]) -> Option<Violation> {
    let http: [&[u8]; 10] =
        [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ", b"HTTP"];
    if http.iter().any(|method| bytes.starts_with(method)) {
        return Some(violations::LOOKS_LIKE_HTTP);
    }
    // A header of the PROXY protocol, in text or binary (haproxy.org, "The PROXY protocol").
    if bytes.starts_with(b"PROX") || bytes.starts_with(b"\r\n\r\n") {
        return Some(violations::LOOKS_LIKE_PROXY_HEADER);
    }
    bytes.starts_with(&[0x16, 3]).then_some(violations::LOOKS_LIKE_TLS)
}

/// The full collection name of an `OP_QUERY`, and the documents after it, in the bytes after its
/// header: `int32 flags; cstring name; int32 numberToSkip; int32 numberToReturn; documents`.
pub(crate) fn query(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = cstring(bytes.get(4..)?)?;
    Some((name, rest.get(8..)?))
}

/// The full collection name of any other legacy request, in the bytes after its header: it comes
/// after 4 bytes (flags, or zero). What follows differs, and is not read.
pub(crate) fn legacy(bytes: &[u8]) -> Option<&[u8]> {
    cstring(bytes.get(4..)?).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lengths_are_refused_with_the_fourth_byte() {
        for len in [0, 15, u32::MAX, 0x7fff_ffff, 48_000_001] {
            assert_eq!(Header::read(&len.to_le_bytes()), Err(Violation("length")), "{len}");
        }
        assert_eq!(Header::read(&16_u32.to_le_bytes()), Ok(None));
        assert_eq!(Header::read(&[1, 0, 0]), Ok(None));
    }

    #[test]
    fn other_protocols_are_called_by_their_names() {
        for text in ["GET / HTTP/1.1\r\n", "POST /x HTTP/1.1", "PRI * HTTP/2.0", "HTTP/1.1 400 Bad"]
        {
            assert_eq!(Header::read_first(text.as_bytes()), Err(Violation("looks_like_http")));
        }
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        for header in [&b"PROXY TCP4 10.0.0.7 10.0.0.8 5 27017\r\n"[..], v2] {
            assert_eq!(Header::read_first(header), Err(Violation("looks_like_proxy_header")));
        }
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        assert_eq!(Header::read_first(&hello), Err(Violation("looks_like_tls")));
    }

    #[test]
    fn a_header_is_four_little_endian_numbers() {
        let bytes = [20, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0xdd, 7, 0, 0];
        let header = Header { len: 20, request_id: 7, response_to: 9, opcode: opcode::MSG };
        assert_eq!(Header::read(&bytes), Ok(Some(header)));
    }
}
