//! What other protocol a request wants its connection, or its stream, to be used for.

use super::tokens;
use http::{
    HeaderValue, Method, Version,
    header::{CONNECTION, UPGRADE},
    request,
};
use hyper::ext::Protocol;

/// An upgrade that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The HTTP/1.1 connection is to speak another protocol: `websocket` (RFC 9110 §7.8).
    Switch(HeaderValue),
    /// A tunnel to where the authority says (RFC 9110 §9.3.6).
    Tunnel,
    /// The stream is to speak another protocol: extended CONNECT (RFC 8441).
    Stream(Protocol),
}

impl Upgrade {
    /// The protocol's name as the client wrote it; nothing for a tunnel.
    pub fn protocol(&self) -> &str {
        match self {
            Upgrade::Switch(protocol) => protocol.to_str().unwrap_or(""),
            Upgrade::Tunnel => "",
            Upgrade::Stream(protocol) => protocol.as_str(),
        }
    }

    /// Whether a WebSocket is asked for.
    pub fn is_websocket(&self) -> bool {
        self.protocol().eq_ignore_ascii_case("websocket")
    }
}

/// What upgrade a request asks for. `None` also for `h2c`, which RFC 9113 §3.1 gave up, and for a
/// list of protocols, of which none would be the client's only wish: who ignores an upgrade
/// answers in HTTP/1.1, and is right.
pub fn upgrade_of(head: &request::Parts) -> Option<Upgrade> {
    if head.method == Method::CONNECT {
        let protocol = head.extensions.get::<Protocol>().cloned();
        return Some(protocol.map_or(Upgrade::Tunnel, Upgrade::Stream));
    }
    if head.version != Version::HTTP_11 {
        return None;
    }
    let mut wanted = head.headers.get_all(UPGRADE).iter();
    let protocol = wanted.next().filter(|_| wanted.next().is_none())?;
    let word = protocol.as_bytes();
    let single = !word.is_empty() && word.iter().all(|b| b.is_ascii_graphic() && *b != b',');
    let named = || tokens(&head.headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case(b"upgrade"));
    (single && !word.eq_ignore_ascii_case(b"h2c") && named())
        .then(|| Upgrade::Switch(protocol.clone()))
}
