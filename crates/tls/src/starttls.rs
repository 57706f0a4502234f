//! Requests for TLS in the protocol that runs inside it: what a client sends before its ClientHello, and
//! what an endpoint is asked (PostgreSQL: "SSL Session Encryption" in its protocol's description).

use crate::failure::HandshakeFailure;
use values::Keyword;

/// PostgreSQL's request for TLS: the length of the message, and a code in place of a version.
const SSL_REQUEST: [u8; 8] = *b"\0\0\0\x08\x04\xd2\x16\x2f";

/// The codes that PostgreSQL's clients may send in place of a version.
const SSL: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// A protocol whose clients ask for TLS in the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// PostgreSQL's `SSLRequest`.
    Postgres,
}

/// What a client's first bytes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsRequest {
    /// More bytes are needed.
    Incomplete,
    /// TLS. The client waits for [`StartTlsRequest::answer`].
    Tls,
    /// Another kind of encryption, which is not spoken here (GSSAPI). The client waits for
    /// [`StartTlsRequest::answer`], and then asks for something else.
    OtherEncryption,
    /// To cancel an operation of another connection. Clients may send it without TLS, whatever the
    /// other connection has.
    Cancel,
    /// Nothing: they are a ClientHello, or the protocol without TLS.
    None,
    /// Bytes follow a request that was not answered. They would be read as if TLS protected them
    /// (CVE-2021-23214).
    Invalid,
}

impl StartTlsRequest {
    /// The length of a request that is answered, in bytes.
    pub const LENGTH: usize = SSL_REQUEST.len();

    /// The answer to a request, if it has one.
    pub fn answer(self) -> Option<&'static [u8]> {
        match self {
            Self::Tls => Some(b"S"),
            Self::OtherEncryption => Some(b"N"),
            _ => None,
        }
    }
}

impl StartTls {
    /// Reads the first bytes of a client, which may be cut at any place.
    pub fn read(self, bytes: &[u8]) -> StartTlsRequest {
        match self {
            Self::Postgres => read_postgres(bytes),
        }
    }

    /// What a client without TLS is sent before its connection is closed: an error of the protocol.
    pub fn refusal(self) -> Vec<u8> {
        match self {
            Self::Postgres => postgres_error("28000", "TLS is required here (sslmode=require)"),
        }
    }

    /// What an endpoint is asked for TLS. It answers with one byte.
    pub fn request(self) -> &'static [u8] {
        match self {
            Self::Postgres => &SSL_REQUEST,
        }
    }

    /// Checks an endpoint's answer.
    ///
    /// # Errors
    /// [`HandshakeFailure::Refused`].
    pub fn check_answer(self, answer: u8) -> Result<(), HandshakeFailure> {
        match (self, answer) {
            (Self::Postgres, b'S') => Ok(()),
            (Self::Postgres, _) => Err(HandshakeFailure::Refused),
        }
    }

    /// The application protocol (ALPN) inside TLS. PostgreSQL's clients require it if they begin with TLS
    /// at once, which they can since version 17.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Postgres => b"postgresql",
        }
    }
}

/// Reads a message without a type: its length, and a version or a code.
fn read_postgres(bytes: &[u8]) -> StartTlsRequest {
    let (first, code) = (bytes.first(), bytes.get(4..8).and_then(<[u8]>::first_chunk));
    let (Some(0), Some(code)) = (first, code) else {
        // The length of such a message is small.
        let is_other = first.is_some_and(|first| *first != 0);
        return if is_other { StartTlsRequest::None } else { StartTlsRequest::Incomplete };
    };
    match u32::from_be_bytes(*code) {
        SSL | GSSAPI if bytes.len() > StartTlsRequest::LENGTH => StartTlsRequest::Invalid,
        SSL => StartTlsRequest::Tls,
        GSSAPI => StartTlsRequest::OtherEncryption,
        CANCEL => StartTlsRequest::Cancel,
        _ => StartTlsRequest::None,
    }
}

/// PostgreSQL's message `ErrorResponse` with this SQLSTATE.
fn postgres_error(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(4 + fields.len()).unwrap_or(u32::MAX);
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

impl Keyword for StartTls {
    const EXPECTED: &str = "`postgres`";

    const WORDS: &[(&str, Self)] = &[("postgres", StartTls::Postgres)];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "this is all test, helpers too")]

    use super::*;

    const POSTGRES: StartTls = StartTls::Postgres;

    #[test]
    fn requests_are_recognised_however_they_are_cut() {
        for (code, request) in [
            (SSL, StartTlsRequest::Tls),
            (GSSAPI, StartTlsRequest::OtherEncryption),
            (CANCEL, StartTlsRequest::Cancel),
            (3 << 16, StartTlsRequest::None),
        ] {
            let message = [[0, 0, 0, 8], code.to_be_bytes()].concat();
            for cut in 0..message.len() {
                assert_eq!(POSTGRES.read(&message[..cut]), StartTlsRequest::Incomplete, "{cut}");
            }
            assert_eq!(POSTGRES.read(&message), request);
        }
        assert_eq!(POSTGRES.read(POSTGRES.request()), StartTlsRequest::Tls);
        for first in [&b"\x16"[..], b"\x16\x03\x01", b"GET / HTTP/1.1", b"\xff"] {
            assert_eq!(POSTGRES.read(first), StartTlsRequest::None, "{first:?}");
        }
    }

    #[test]
    fn bytes_behind_an_unanswered_request_are_invalid() {
        for code in [SSL, GSSAPI] {
            let message = [&[0, 0, 0, 8], &code.to_be_bytes()[..], b"\x16"].concat();
            assert_eq!(POSTGRES.read(&message), StartTlsRequest::Invalid);
        }
        let cancel = [&[0, 0, 0, 16], &CANCEL.to_be_bytes()[..], b"process", b"\0"].concat();
        assert_eq!(POSTGRES.read(&cancel), StartTlsRequest::Cancel);
    }

    #[test]
    fn a_refusal_is_an_error_message_of_its_length() {
        let refusal = POSTGRES.refusal();
        let length = u32::from_be_bytes(refusal[1..5].try_into().unwrap());
        assert_eq!((refusal[0], length as usize), (b'E', refusal.len() - 1));
        assert!(refusal.ends_with(b"(sslmode=require)\0\0"));
    }

    #[test]
    fn an_endpoint_that_has_no_tls_is_a_failure() {
        assert_eq!(POSTGRES.check_answer(b'S'), Ok(()));
        for answer in [b'N', b'E', 0] {
            assert_eq!(POSTGRES.check_answer(answer), Err(HandshakeFailure::Refused));
        }
    }
}
