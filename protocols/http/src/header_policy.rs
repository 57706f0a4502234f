//! Header handling of a gateway: rejects invalid heads, removes hop-by-hop headers, and adds
//! forwarding headers.
//!
//! Sources: RFC 9110 §7, RFC 9112, RFC 9113 §8.2, RFC 7239 (`forwarded`), RFC 9440 (`client-cert`), W3C
//! Trace Context.

mod authority;
mod check;
mod client_certificate;
mod forwarded;
pub(crate) mod length;
pub(crate) mod lookalikes;
mod trace;
mod upgrade;

pub use authority::Authority;
pub use check::check;
pub(crate) use check::is_method;
pub use client_certificate::CertificateStyle;
pub use forwarded::{ForwardedStyle, PeerAddress};
pub(crate) use forwarded::{client, scheme};
pub(crate) use trace::{
    begin as begin_trace, is_request_id, set_sender, traceparent, traceparent_text, uuid_text,
};
pub(crate) use upgrade::{Upgrade, upgrade_of};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA},
    request, response,
};
use operation::{OpenSpan, SpanContext, Violation};
use std::net::IpAddr;

/// Hop-by-hop headers, removed even if `connection` does not name them.
static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Why a request's head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// Label for metrics and logs.
    pub violation: Violation,
    /// HTTP status, 400 to 499.
    pub status: u16,
    /// Explanation for the client.
    pub message: &'static str,
}

impl HeadError {
    fn bad(violation: &'static str, message: &'static str) -> Self {
        Self { violation: Violation(violation), status: 400, message }
    }
}

/// Optional header handling.
#[derive(Clone, Debug, Default)]
pub struct HeaderPolicy {
    /// Number of trusted proxies before this one. With 0, forwarding headers of clients are
    /// replaced; with n, the last n entries of `x-forwarded-for` or `forwarded` are kept.
    pub trusted_hops: u8,
    /// How the client's address is passed on to services.
    pub forwarded: ForwardedStyle,
    /// How the client's certificate is passed on to services.
    pub certificate: CertificateStyle,
    /// Whether requests without `x-request-id` get one.
    pub request_id: bool,
    /// Whether requests without `traceparent` start a trace.
    pub trace: bool,
    /// Entry added to `via`, if any.
    pub via: Option<ViaHeader>,
}

/// The entry added to `via`: received version and proxy name.
#[derive(Clone, Debug)]
pub struct ViaHeader {
    v1_0: HeaderValue,
    v1_1: HeaderValue,
    v2: HeaderValue,
}

impl ViaHeader {
    /// With this proxy name; `None` if it is not a token (RFC 9110 §7.6.3).
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value = |version| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { v1_0: value("1.0")?, v1_1: value("1.1")?, v2: value("2")? })
    }

    fn add(&self, headers: &mut HeaderMap, version: Version) {
        headers.append(VIA, self.value(version).clone());
    }

    /// The entry for a message that was received by this version.
    pub(crate) fn value(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_09 | Version::HTTP_10 => &self.v1_0,
            Version::HTTP_11 => &self.v1_1,
            _ => &self.v2,
        }
    }
}

/// Context of a request whose headers are processed.
#[derive(Clone, Copy, Debug)]
pub struct HeaderContext<'a> {
    /// The settings.
    pub policy: &'a HeaderPolicy,
    /// The client's address.
    pub peer: &'a PeerAddress,
    /// The request's authority, from [`check()`].
    pub authority: &'a Authority,
    /// Whether the client's connection is encrypted.
    pub encrypted: bool,
    /// Whether the request's upgrade is forwarded to the service.
    pub forward_upgrade: bool,
    /// The headers with the client's certificate, from [`CertificateStyle`].
    pub certificate: &'a [(HeaderName, HeaderValue)],
    /// The request's span, if the proxy makes spans.
    pub span: Option<&'a OpenSpan>,
}

/// Ids and client address of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    /// Its trace, if [`HeaderPolicy::trace`] is on.
    pub trace: Option<SpanContext>,
    /// Its id; if [`HeaderPolicy::request_id`] is off, the client's.
    pub request_id: Option<HeaderValue>,
    /// The client's address as far as proxies are trusted.
    pub client: IpAddr,
}

/// Prepares a request's head for the service.
pub fn request(
    head: &mut request::Parts,
    context: &HeaderContext<'_>,
    rng: &mut fastrand::Rng,
) -> RequestIdentity {
    let HeaderContext { policy, .. } = context;
    let headers = &mut head.headers;
    let upgrade = if context.forward_upgrade { headers.remove(UPGRADE) } else { None };
    strip(headers, head.version);
    keep_te_trailers(headers);
    join_cookies(headers);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let client = identify(headers, context);
    if let Some(via) = &policy.via {
        via.add(headers, head.version);
    }
    let request_id = match policy.request_id {
        true => Some(trace::request_id(headers, rng)),
        false => trace::received_request_id(headers).cloned(),
    };
    let trace = policy.trace.then(|| trace::trace(headers, context.span, rng));
    RequestIdentity { trace, request_id, client }
}

/// Writes the fields by which services learn who the client is. Returns its address as far as proxies are trusted.
pub(crate) fn identify(headers: &mut HeaderMap, context: &HeaderContext<'_>) -> IpAddr {
    let client = forwarded::forward(headers, context);
    client_certificate::add(headers, context);
    client
}

/// The identity of a request that is not forwarded.
pub(crate) fn identity(
    headers: &HeaderMap,
    policy: &HeaderPolicy,
    peer: &PeerAddress,
    span: Option<&OpenSpan>,
    rng: &mut fastrand::Rng,
) -> RequestIdentity {
    let request_id = match policy.request_id {
        true => {
            Some(trace::valid_request_id(headers).unwrap_or_else(|| trace::new_request_id(rng)))
        }
        false => trace::received_request_id(headers).cloned(),
    };
    let own = span.map(|span| span.context);
    let trace = if policy.trace { own.or_else(|| trace::received(headers)) } else { None };
    RequestIdentity { trace, request_id, client: client(headers, policy, peer) }
}

/// Prepares a response's head for the client. `tunnel`: the request was a CONNECT, so that a 2xx
/// response has no body.
pub fn response(head: &mut response::Parts, policy: &HeaderPolicy, tunnel: bool) {
    let headers = &mut head.headers;
    // RFC 9110 §15.5.22: 426 names the required protocol in `upgrade`.
    let switches =
        matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let upgrade = if switches { headers.remove(UPGRADE) } else { None };
    strip(headers, head.version);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // RFC 9110 §8.6: such responses have no body and therefore no length.
    let bare = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    if bare || tunnel && head.status.is_success() {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
    }
    if let Some(via) = &policy.via {
        via.add(headers, head.version);
    }
}

/// Removes hop-by-hop headers (RFC 9110 §7.6.1) and those named by `connection`. HTTP/2 framing
/// rejects such headers, so its heads have none.
///
/// `proxy-authorization` and `proxy-authenticate` stay: they are meant for the first proxy that
/// asks for credentials, and this one never does.
pub(crate) fn strip(headers: &mut HeaderMap, version: Version) {
    // One pass over all names costs less than a lookup of each of these, which are rare.
    if version >= Version::HTTP_2 || !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        for name in connection_options(headers) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether the sender of these headers will close its connection.
pub(crate) fn has_connection_close(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|it| it.eq_ignore_ascii_case(b"close"))
}

/// The headers that `connection` names. Names of end-to-end headers are ignored: a client could use
/// them to hide a header from the service.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let of_connections: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];
    tokens(headers, &CONNECTION)
        .filter(|token| !of_connections.iter().any(|it| it.eq_ignore_ascii_case(token)))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_end_to_end(name.as_str()))
        .collect()
}

/// Whether a header is end-to-end, regardless of `connection`.
pub(crate) fn is_end_to_end(name: &str) -> bool {
    const PREFIXES: [&str; 6] =
        ["content-", "x-forwarded-", "grpc-", "sec-", "access-control-", "if-"];
    const NAMES: [&str; 30] = [
        "accept",
        "accept-encoding",
        "age",
        "authorization",
        "cache-control",
        "client-cert",
        "client-cert-chain",
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

/// Forwards only `te: trailers`, which gRPC requires: other transfer codings are hop-by-hop.
fn keep_te_trailers(headers: &mut HeaderMap) {
    if !headers.contains_key(TE) {
        return;
    }
    if tokens(headers, &TE).any(|it| it.eq_ignore_ascii_case(b"trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Joins cookies that HTTP/2 split (RFC 9113 §8.2.3).
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

/// The members of a comma-separated header.
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
