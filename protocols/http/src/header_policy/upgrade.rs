//! Protocol upgrades that a request asks for, for its connection or its stream.

use super::tokens;
use http::{
    HeaderValue, Method, Version,
    header::{CONNECTION, UPGRADE},
    request,
};
use hyper::ext::Protocol;

/// A requested upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The HTTP/1.1 connection changes to another protocol: `websocket` (RFC 9110 §7.8).
    Switch(HeaderValue),
    /// A tunnel to the authority (RFC 9110 §9.3.6).
    Tunnel,
    /// The stream changes to another protocol: extended CONNECT (RFC 8441).
    Stream(Protocol),
}

impl Upgrade {
    /// The protocol's name as sent by the client; empty for a tunnel.
    pub(crate) fn protocol(&self) -> &str {
        match self {
            Upgrade::Switch(protocol) => protocol.to_str().unwrap_or(""),
            Upgrade::Tunnel => "",
            Upgrade::Stream(protocol) => protocol.as_str(),
        }
    }
}

/// The upgrade that a request asks for. `None` for `h2c`, which RFC 9113 §3.1 deprecates, and for a
/// list of protocols: ignoring an upgrade and answering in HTTP/1.1 is allowed.
pub(crate) fn upgrade_of(head: &request::Parts) -> Option<Upgrade> {
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
