//! The HTTP version of a cluster's endpoints.

use schemars::{Schema, json_schema};
use serde::Serializer;
use values::{Diagnostic, FromText, Show, parse_keyword};

/// The HTTP version of a cluster's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge, or in TLS as the endpoint agrees.
    Http2,
    /// What TLS agrees upon, for each connection.
    Auto,
}

/// HTTP/2 in TLS (RFC 9113, 3.2).
const H2: &[u8] = b"h2";

/// HTTP/1.1 in TLS (RFC 7301, 6).
const HTTP_1_1: &[u8] = b"http/1.1";

const WORDS: [(&str, UpstreamVersion); 3] =
    [("1", UpstreamVersion::Http1), ("2", UpstreamVersion::Http2), ("auto", UpstreamVersion::Auto)];

impl UpstreamVersion {
    /// The application protocols (ALPN) that are offered to endpoints, best first.
    pub fn alpn(self) -> Vec<Vec<u8>> {
        let offered: &[&[u8]] = match self {
            Self::Http1 => &[HTTP_1_1],
            Self::Http2 => &[H2],
            Self::Auto => &[H2, HTTP_1_1],
        };
        offered.iter().map(|protocol| protocol.to_vec()).collect()
    }

    /// Whether a connection on which TLS has agreed on this protocol speaks HTTP/2. `None`: the
    /// endpoint speaks another version than this one.
    pub(crate) fn is_http2(self, agreed: Option<&[u8]>) -> Option<bool> {
        match (self, agreed) {
            (Self::Auto, agreed) => Some(agreed == Some(H2)),
            (Self::Http2, Some(other)) if other != H2 => None,
            (fixed, _) => Some(fixed == Self::Http2),
        }
    }
}

impl FromText for UpstreamVersion {
    const EXPECTED: &str = "`1`, `2` or `auto`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &WORDS)
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 2 }, { "const": "auto" }] })
    }
}

impl Show for UpstreamVersion {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Http1 => to.serialize_u8(1),
            Self::Http2 => to.serialize_u8(2),
            Self::Auto => to.serialize_str("auto"),
        }
    }
}
