//! What a gateway does to heads on their way: refuses those that no service should see, keeps what
//! is said of one connection from the next, and tells services who asks.
//!
//! Sources: RFC 9110 §7, RFC 9112, RFC 9113 §8.2, RFC 7239 (`forwarded`), W3C Trace Context.

mod authority;
mod check;
pub(crate) mod folded;
mod forwarded;
pub(crate) mod length;
mod trace;
mod upgrade;

pub use authority::Authority;
pub use check::{check, is_method};
pub use forwarded::{ForwardedStyle, PeerAddress};
pub(crate) use forwarded::{client, scheme};
pub use trace::Trace;
pub use upgrade::{Upgrade, upgrade_of};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA},
    request, response,
};
use operation::Violation;
use std::net::IpAddr;

/// What is said of one connection, whether `connection` names it or not.
static ENDS_HERE: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Why a request can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// What metrics and logs call it.
    pub violation: Violation,
    /// What the client is answered, 400 to 499.
    pub status: u16,
    /// What is wrong, for who sent it.
    pub message: &'static str,
}

impl HeadError {
    fn bad(violation: &'static str, message: &'static str) -> Self {
        Self { violation: Violation(violation), status: 400, message }
    }
}

/// What is done to heads, beyond what must be.
#[derive(Clone, Debug, Default)]
pub struct HeaderPolicy {
    /// How many proxies before this one tell the truth about who asks. With 0, what clients tell
    /// is replaced; with n, the last n entries of `x-forwarded-for` or `forwarded` are kept.
    pub trusted_hops: u8,
    /// How services are told who asks.
    pub forwarded: ForwardedStyle,
    /// Whether a request without an `x-request-id` gets one.
    pub request_id: bool,
    /// Whether a request without a `traceparent` begins a trace.
    pub trace: bool,
    /// What is added to `via`, if anything.
    pub via: Option<ViaHeader>,
}

/// What is added to `via`: the version by which a message came, and this proxy's name.
#[derive(Clone, Debug)]
pub struct ViaHeader {
    v1_0: HeaderValue,
    v1_1: HeaderValue,
    v2: HeaderValue,
}

impl ViaHeader {
    /// With the proxy's name; `None` if it is not a token, as RFC 9110 §7.6.3 has it.
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value = |version| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { v1_0: value("1.0")?, v1_1: value("1.1")?, v2: value("2")? })
    }

    fn add(&self, headers: &mut HeaderMap, version: Version) {
        let value = match version {
            Version::HTTP_09 | Version::HTTP_10 => &self.v1_0,
            Version::HTTP_11 => &self.v1_1,
            _ => &self.v2,
        };
        headers.append(VIA, value.clone());
    }
}

/// What is known around a request.
#[derive(Clone, Copy, Debug)]
pub struct HeaderContext<'a> {
    /// What is to be done.
    pub hygiene: &'a HeaderPolicy,
    /// Who asks.
    pub peer: &'a PeerAddress,
    /// Who is asked, as [`check`] found it.
    pub authority: &'a Authority,
    /// Whether the connection to the client is encrypted.
    pub encrypted: bool,
    /// Whether the upgrade that the request asks for goes on to the service.
    pub upgrades: bool,
}

/// What a request's head told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    /// The trace that it is part of, where [`Hygiene::trace`] is on.
    pub trace: Option<Trace>,
    /// Its id; where [`Hygiene::request_id`] is off, what the client wrote.
    pub request_id: Option<HeaderValue>,
    /// Who asks, as far as proxies are trusted.
    pub client: IpAddr,
}

/// Makes of a head as it came one that may go on to a service.
pub fn request(
    head: &mut request::Parts,
    around: &HeaderContext<'_>,
    rng: &mut fastrand::Rng,
) -> RequestIdentity {
    let HeaderContext { hygiene, .. } = around;
    let headers = &mut head.headers;
    let upgrade = if around.upgrades { headers.remove(UPGRADE) } else { None };
    strip(headers, head.version);
    keep_trailers(headers);
    join_cookies(headers);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let client = forwarded::forward(headers, around);
    if let Some(via) = &hygiene.via {
        via.add(headers, head.version);
    }
    let request_id = match hygiene.request_id {
        true => Some(trace::request_id(headers, rng)),
        false => trace::told_request_id(headers).cloned(),
    };
    let trace = hygiene.trace.then(|| trace::trace(headers, rng));
    RequestIdentity { trace, request_id, client }
}

/// What the head of a request tells that does not go on.
pub(crate) fn traced(
    headers: &HeaderMap,
    hygiene: &HeaderPolicy,
    peer: &PeerAddress,
    rng: &mut fastrand::Rng,
) -> RequestIdentity {
    let request_id = match hygiene.request_id {
        true => Some(trace::kept_request_id(headers).unwrap_or_else(|| trace::new_request_id(rng))),
        false => trace::told_request_id(headers).cloned(),
    };
    let trace = if hygiene.trace { trace::told(headers) } else { None };
    RequestIdentity { trace, request_id, client: client(headers, hygiene, peer) }
}

/// Makes of an answer's head as it came one that may go on to the client. `tunnel` tells that the
/// request was a CONNECT: an answer of 2xx then has no body.
pub fn response(head: &mut response::Parts, hygiene: &HeaderPolicy, tunnel: bool) {
    let headers = &mut head.headers;
    // RFC 9110 §15.5.22: a client is told what it should change to.
    let switches =
        matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let upgrade = if switches { headers.remove(UPGRADE) } else { None };
    strip(headers, head.version);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // RFC 9110 §8.6: where there can be no body, a length would be taken for one's.
    let bare = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    if bare || tunnel && head.status.is_success() {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
    }
    if let Some(via) = &hygiene.via {
        via.add(headers, head.version);
    }
}

/// Takes away what is said of one connection (RFC 9110 §7.6.1), and what `connection` names. Heads
/// of HTTP/2 have none of it: their framing refuses such headers.
///
/// `proxy-authorization` and `proxy-authenticate` stay: they are for the first proxy that asked for
/// credentials, and this one never does.
pub(crate) fn strip(headers: &mut HeaderMap, version: Version) {
    // One look at all names costs less than to search for each of these, which are rare.
    if version >= Version::HTTP_2 || !headers.keys().any(|name| ENDS_HERE.contains(name)) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    for name in &ENDS_HERE {
        headers.remove(name);
    }
}

/// Whether whoever sent these headers closes its connection.
pub(crate) fn closes(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case(b"close"))
}

/// The headers that `connection` names, which end here. Those that everybody on the way must see
/// can't be named: a client would take them from the service by it.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let of_connections: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];
    tokens(headers, &CONNECTION)
        .filter(|token| !of_connections.iter().any(|it| it.eq_ignore_ascii_case(token)))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_end_to_end(name.as_str()))
        .collect()
}

/// Whether a header is for everybody on the way, whatever `connection` says of it.
fn is_end_to_end(name: &str) -> bool {
    const PREFIXES: [&str; 6] =
        ["content-", "x-forwarded-", "grpc-", "sec-", "access-control-", "if-"];
    const NAMES: [&str; 28] = [
        "accept",
        "accept-encoding",
        "age",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "etag",
        "expect",
        "expires",
        "forwarded",
        "host",
        "location",
        "max-forwards",
        "origin",
        "proxy-authorization",
        "range",
        "referer",
        "server",
        "set-cookie",
        "traceparent",
        "tracestate",
        "trailer",
        "user-agent",
        "vary",
        "via",
        "x-real-ip",
        "x-request-id",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Of `te` goes on that trailers are understood, since gRPC asks for it, and nothing else: other
/// codings are between two neighbours.
fn keep_trailers(headers: &mut HeaderMap) {
    if !headers.contains_key(TE) {
        return;
    }
    if tokens(headers, &TE).any(|it| it.eq_ignore_ascii_case(b"trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Cookies in pieces, as HTTP/2 has them, become one header (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::try_from(pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The members of a header that is a list of words.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let tokens = values.flat_map(|value| value.split(|b| *b == b','));
    tokens.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether a byte can be part of a token (RFC 9110 §5.6.2).
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
