//! What a client asks for before the handshake: its first bytes, read without being used up.

use crate::failure::{HandshakeFailure, Plaintext};
use rustls::{SignatureScheme, server::Acceptor};

/// The most bytes that a ClientHello may have, in bytes. One with a post-quantum share has 2 kB.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// The content type of a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// The type of the message that a client begins with (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name (SNI), in lower case.
    pub server_name: Option<String>,
    /// The application protocols that it offers (ALPN).
    pub alpn: Vec<Vec<u8>>,
    /// The signature schemes that it can verify.
    pub(crate) schemes: Vec<SignatureScheme>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// More bytes are needed.
    Incomplete,
    /// A ClientHello.
    Hello(Box<ClientHello>),
    /// No TLS.
    Plaintext(Plaintext),
    /// Something like TLS that no ClientHello can be read from. The alert is to be sent.
    Invalid(HandshakeFailure, Vec<u8>),
}

/// Reads a ClientHello from the first bytes of a connection, which may be cut at any place.
pub fn read_client_hello(bytes: &[u8]) -> FirstBytes {
    match bytes.first() {
        None => return FirstBytes::Incomplete,
        Some(&HANDSHAKE) => {}
        Some(_) => return recognise(bytes),
    }
    if !may_be_parsed(bytes) && bytes.len() < MAX_CLIENT_HELLO {
        return FirstBytes::Incomplete;
    }
    let mut acceptor = Acceptor::default();
    let mut left = bytes;
    while !left.is_empty() {
        match acceptor.read_tls(&mut left) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return FirstBytes::Hello(Box::new(ClientHello {
                    server_name: hello.server_name().map(str::to_ascii_lowercase),
                    alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                    schemes: hello.signature_schemes().to_vec(),
                }));
            }
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                // Writing to a `Vec` can't fail.
                let _ = alert.write_all(&mut bytes);
                return FirstBytes::Invalid(HandshakeFailure::from_rustls(error), bytes);
            }
        }
    }
    if bytes.len() >= MAX_CLIENT_HELLO {
        return FirstBytes::Invalid(HandshakeFailure::Protocol, Vec::new());
    }
    FirstBytes::Incomplete
}

/// Whether parsing is worth it: the records hold a whole message, or something that is no ClientHello. A client
/// may send byte by byte, in records of one byte: parsing all of them at each byte would keep the worker busy.
fn may_be_parsed(bytes: &[u8]) -> bool {
    let (mut message, mut length) = ([0; 4], 0);
    let mut records = bytes;
    while let [kind, _, _, high, low, rest @ ..] = records {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || size == 0 {
            return true;
        }
        let Some((payload, following)) = rest.split_at_checked(size) else { return false };
        message.iter_mut().skip(length).zip(payload).for_each(|(to, from)| *to = *from);
        length += size;
        let [message_kind, high, middle, low] = message;
        let whole = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
        if message_kind != CLIENT_HELLO || (length >= 4 && length >= whole) {
            return true;
        }
        records = following;
    }
    false
}

/// The first bytes of protocols that are sent to TLS ports by mistake.
const KNOWN: [(&[u8], Plaintext); 14] = [
    (b"PROXY ", Plaintext::ProxyHeader),
    (b"\r\n\r\n\0\r\nQUIT\n", Plaintext::ProxyHeader),
    (b"SSH-", Plaintext::Ssh),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", Plaintext::Postgres),
    (b"PRI * HTTP/2", Plaintext::Http),
    (b"GET ", Plaintext::Http),
    (b"POST ", Plaintext::Http),
    (b"PUT ", Plaintext::Http),
    (b"HEAD ", Plaintext::Http),
    (b"DELETE ", Plaintext::Http),
    (b"OPTIONS ", Plaintext::Http),
    (b"PATCH ", Plaintext::Http),
    (b"CONNECT ", Plaintext::Http),
    (b"TRACE ", Plaintext::Http),
];

/// The opcodes that a MongoDB driver may begin with: OP_QUERY, OP_MSG.
const MONGO_OPCODES: [[u8; 4]; 2] = [2004u32.to_le_bytes(), 2013u32.to_le_bytes()];

/// Which protocol bytes that are no TLS belong to.
fn recognise(bytes: &[u8]) -> FirstBytes {
    let could_be = |known: &[u8]| bytes.starts_with(known) || known.starts_with(bytes);
    if let Some((prefix, protocol)) = KNOWN.iter().find(|(known, _)| could_be(known)) {
        let whole = bytes.len() >= prefix.len();
        return if whole { FirstBytes::Plaintext(*protocol) } else { FirstBytes::Incomplete };
    }
    if let [0, 0, _, _, 0, 3, 0, _, ..] = bytes {
        // A StartupMessage: its length, and version 3.
        return FirstBytes::Plaintext(Plaintext::Postgres);
    }
    match bytes.get(12..16) {
        Some(opcode) if MONGO_OPCODES.iter().any(|known| known == opcode) => {
            FirstBytes::Plaintext(Plaintext::Mongo)
        }
        Some(_) => FirstBytes::Plaintext(Plaintext::Unknown),
        None => FirstBytes::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of this kind with 300 bytes, in records of `size` bytes.
    fn records(kind: u8, size: usize) -> Vec<u8> {
        let message = [&[kind, 0, 1, 0x2C][..], &[7; 300]].concat();
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1][..], &length, part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_parsed_once_it_is_whole() {
        for size in [1, 3, 4, 5, 100, 304] {
            let bytes = records(CLIENT_HELLO, size);
            let whole = (0..=bytes.len()).find(|&end| may_be_parsed(&bytes[..end]));
            assert_eq!(whole, Some(bytes.len()), "records of {size}");
        }
    }

    #[test]
    fn what_is_no_hello_is_parsed_at_once() {
        assert!(may_be_parsed(&records(2, 1)[..6]));
        let mut alert_within = records(CLIENT_HELLO, 100);
        alert_within[105] = 0x15;
        assert!(!may_be_parsed(&alert_within[..109]));
        assert!(may_be_parsed(&alert_within[..110]));
    }
}
