//! The client's address: `x-forwarded-for`, `-proto` and `-host`, and `forwarded` (RFC 7239).

use super::{
    HeaderContext, HeaderPolicy,
    client_certificate::{self, RFC_9440},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use std::net::{IpAddr, SocketAddr};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How the client's address is passed on to services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedStyle {
    /// `x-forwarded-for`, `-proto` and `-host`.
    #[default]
    XForwarded,
    /// `forwarded`.
    Forwarded,
    /// Both.
    Both,
    /// Neither: what clients send is forwarded unchanged.
    Off,
}

impl ForwardedStyle {
    fn has_x(self) -> bool {
        matches!(self, ForwardedStyle::XForwarded | ForwardedStyle::Both)
    }

    fn has_forwarded(self) -> bool {
        matches!(self, ForwardedStyle::Forwarded | ForwardedStyle::Both)
    }
}

/// The peer's address, with its text made once per connection.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    ip: IpAddr,
    text: HeaderValue,
}

impl PeerAddress {
    /// For this address. IPv4-mapped IPv6 addresses become IPv4.
    pub fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let text = HeaderValue::try_from(ip.to_string());
        Self { ip, text: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")) }
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

/// Writes the forwarding headers; returns the client's address as far as proxies are trusted.
pub(super) fn forward(headers: &mut HeaderMap, context: &HeaderContext<'_>) -> IpAddr {
    let style = context.policy.forwarded;
    let client = client(headers, context.policy, context.peer);
    if style == ForwardedStyle::Off {
        if context.policy.trusted_hops == 0 {
            client_certificate::remove(headers);
        }
        return client;
    }
    if context.policy.trusted_hops == 0 {
        remove_identity_headers(headers);
    }
    // Unused forms are removed too, or a client could set them for the service.
    if context.policy.trusted_hops == 0 {
        if !style.has_x() {
            for name in [FOR, PROTO, HOST] {
                headers.remove(name);
            }
        }
        if !style.has_forwarded() {
            headers.remove(FORWARDED);
        }
    }
    if style.has_forwarded() {
        forwarded(headers, context);
    }
    if style.has_x() {
        x_forwarded(headers, context);
    }
    client
}

/// Other headers by which proxies pass on the client's address.
const IDENTITY_HEADERS: [&str; 6] = [
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];

/// Whether services read the client's address or certificate, or the original request, from this
/// header.
pub(super) fn is_identity_header(name: &str) -> bool {
    name.starts_with("x-forwarded-") || IDENTITY_HEADERS.contains(&name) || RFC_9440.contains(&name)
}

/// Removes what a client claims about itself, except for headers that are overwritten later.
fn remove_identity_headers(headers: &mut HeaderMap) {
    let claims = |name: &&HeaderName| is_identity_header(name.as_str());
    let own = [FOR, PROTO, HOST];
    // Nearly no request has any.
    while let Some(name) = headers.keys().find(|it| claims(it) && !own.contains(it)).cloned() {
        headers.remove(name);
    }
}

/// The address that the furthest trusted proxy saw, or the nearest to it that can be parsed.
pub(crate) fn client(headers: &HeaderMap, policy: &HeaderPolicy, peer: &PeerAddress) -> IpAddr {
    let hops = usize::from(policy.trusted_hops);
    if hops == 0 {
        return peer.ip;
    }
    let x = || elements(headers, &FOR, hops).find_map(node_address);
    let forwarded = || elements(headers, &FORWARDED, hops).find_map(for_address);
    let told = match policy.forwarded {
        ForwardedStyle::Forwarded => forwarded(),
        ForwardedStyle::Off => x().or_else(forwarded),
        ForwardedStyle::XForwarded | ForwardedStyle::Both => x(),
    };
    told.unwrap_or(peer.ip)
}

/// The scheme between the client and the first trusted proxy: `http` or `https`.
pub(crate) fn scheme(headers: &HeaderMap, policy: &HeaderPolicy, encrypted: bool) -> &'static str {
    let own = if encrypted { "https" } else { "http" };
    let hops = usize::from(policy.trusted_hops);
    if hops == 0 {
        return own;
    }
    let x = || http_scheme(single(headers, &PROTO)?.as_bytes());
    let forwarded = || {
        elements(headers, &FORWARDED, hops).find_map(|it| http_scheme(parameter(it, b"proto=")?))
    };
    let told = match policy.forwarded {
        ForwardedStyle::Forwarded => forwarded(),
        ForwardedStyle::Off => x().or_else(forwarded),
        ForwardedStyle::XForwarded | ForwardedStyle::Both => x(),
    };
    told.unwrap_or(own)
}

fn http_scheme(scheme: &[u8]) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|it| scheme.eq_ignore_ascii_case(it.as_bytes()))
}

fn x_forwarded(headers: &mut HeaderMap, context: &HeaderContext<'_>) {
    let hops = usize::from(context.policy.trusted_hops);
    let peer = context.peer.text.as_bytes();
    let value = if hops > 0 && headers.contains_key(&FOR) {
        appended(elements(headers, &FOR, hops), peer)
    } else {
        None
    };
    headers.insert(FOR, value.unwrap_or_else(|| context.peer.text.clone()));
    if hops == 0 || single(headers, &PROTO).and_then(|it| http_scheme(it.as_bytes())).is_none() {
        headers.insert(PROTO, HeaderValue::from_static(proto(context)));
    }
    if hops == 0 || single(headers, &HOST).is_none() {
        match context.authority.value() {
            Some(authority) => headers.insert(HOST, authority),
            None => headers.remove(HOST),
        };
    }
}

/// Adds to `forwarded`. Allocates; only listeners that enable it pay for that.
fn forwarded(headers: &mut HeaderMap, context: &HeaderContext<'_>) {
    let hops = usize::from(context.policy.trusted_hops);
    let peer = match context.peer.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    let authority = context.authority.as_str();
    let host = match authority {
        "" => String::new(),
        // A token contains neither `:` nor brackets.
        _ if authority.contains(':') => format!(";host=\"{authority}\""),
        _ => format!(";host={authority}"),
    };
    let element = format!("{peer}{host};proto={}", proto(context));
    let value = appended(elements(headers, &FORWARDED, hops), element.as_bytes());
    if let Some(value) = value {
        headers.insert(FORWARDED, value);
    }
}

fn proto(context: &HeaderContext<'_>) -> &'static str {
    if context.encrypted { "https" } else { "http" }
}

/// The value of a header that occurs once and is not empty.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|value| values.next().is_none() && !value.is_empty())
}

/// The list with one more element.
pub(super) fn appended<'h>(
    elements: impl Iterator<Item = &'h [u8]>,
    last: &'h [u8],
) -> Option<HeaderValue> {
    let mut list = Vec::with_capacity(64);
    for element in elements.chain([last]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(element);
    }
    HeaderValue::from_maybe_shared(Bytes::from(list)).ok()
}

/// The last `most` elements of a list, in order. A `,` in quotes belongs to its element.
pub(super) fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    most: usize,
) -> impl Iterator<Item = &'h [u8]> {
    let all = || {
        let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.flat_map(split).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    };
    let surplus = if most == 0 { usize::MAX } else { all().count().saturating_sub(most) };
    all().skip(surplus)
}

/// The elements of one header value.
fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |b| {
        let ends = *b == b',' && !quoted;
        quoted ^= *b == b'"' && !escaped;
        escaped = quoted && *b == b'\\' && !escaped;
        ends
    })
}

/// The `for` address in an element of `forwarded`.
fn for_address(element: &[u8]) -> Option<IpAddr> {
    node_address(parameter(element, b"for=")?)
}

/// The parameter `name` (including its `=`) in an element of `forwarded`, without quotes.
fn parameter<'e>(element: &'e [u8], name: &[u8]) -> Option<&'e [u8]> {
    let pairs = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let mut pairs = pairs.filter_map(|pair| pair.split_at_checked(name.len()));
    let (_, value) = pairs.find(|(it, _)| it.eq_ignore_ascii_case(name))?;
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(bare.unwrap_or(value))
}

/// Parses a node's address: with or without port, IPv6 with or without brackets. `unknown` and
/// obfuscated names are none.
fn node_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests;
