//! Who asks: `x-forwarded-for`, `-proto` and `-host`, and `forwarded` of RFC 7239.

use super::{HeaderContext, HeaderPolicy};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use std::net::{IpAddr, SocketAddr};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How services are told who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedStyle {
    /// By `x-forwarded-for`, `-proto` and `-host`.
    #[default]
    XForwarded,
    /// By `forwarded`.
    Forwarded,
    /// By both.
    Both,
    /// Not at all: what clients write goes on as it came.
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

/// Who is at the other end of a client's connection, in words that are made once for it.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    ip: IpAddr,
    text: HeaderValue,
}

impl PeerAddress {
    /// With this address. One of IPv4 in IPv6's clothes is told as the one of IPv4 that it is.
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

/// Writes who asks into the headers; tells who it is, as far as proxies are trusted.
pub(super) fn forward(headers: &mut HeaderMap, around: &HeaderContext<'_>) -> IpAddr {
    let style = around.hygiene.forwarded;
    let client = client(headers, around.hygiene, around.peer);
    if style == ForwardedStyle::Off {
        return client;
    }
    if around.hygiene.trusted_hops == 0 {
        take_away_claims(headers);
    }
    // Both have to be told the same, or a service could be told by the client itself.
    if around.hygiene.trusted_hops == 0 {
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
        forwarded(headers, around);
    }
    if style.has_x() {
        x_forwarded(headers, around);
    }
    client
}

/// Other headers by which proxies tell services who asks and what was asked for. Tollgate writes
/// none of them.
const CLAIMS: [&str; 6] = [
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];

/// Whether services learn from a header who asks, or what the client has asked for.
pub(super) fn is_claim(name: &str) -> bool {
    name.starts_with("x-forwarded-") || CLAIMS.contains(&name)
}

/// Takes away what a client claims of itself, but for what is written anew.
fn take_away_claims(headers: &mut HeaderMap) {
    let claims = |name: &&HeaderName| is_claim(name.as_str());
    let own = [FOR, PROTO, HOST];
    // Nearly no request has any.
    while let Some(name) = headers.keys().find(|it| claims(it) && !own.contains(it)).cloned() {
        headers.remove(name);
    }
}

/// The address that the furthest proxy which is trusted saw, or the nearest to it that can be read.
pub(crate) fn client(headers: &HeaderMap, hygiene: &HeaderPolicy, peer: &PeerAddress) -> IpAddr {
    let hops = usize::from(hygiene.trusted_hops);
    if hops == 0 {
        return peer.ip;
    }
    let x = || elements(headers, &FOR, hops).find_map(node);
    let forwarded = || elements(headers, &FORWARDED, hops).find_map(for_node);
    let told = match hygiene.forwarded {
        ForwardedStyle::Forwarded => forwarded(),
        ForwardedStyle::Off => x().or_else(forwarded),
        ForwardedStyle::XForwarded | ForwardedStyle::Both => x(),
    };
    told.unwrap_or(peer.ip)
}

/// `http` or `https`: what the client speaks to the first proxy that is trusted.
pub(crate) fn scheme(headers: &HeaderMap, hygiene: &HeaderPolicy, encrypted: bool) -> &'static str {
    let own = if encrypted { "https" } else { "http" };
    let hops = usize::from(hygiene.trusted_hops);
    if hops == 0 {
        return own;
    }
    let x = || web(single(headers, &PROTO)?.as_bytes());
    let forwarded = || elements(headers, &FORWARDED, hops).find_map(|it| web(pair(it, b"proto=")?));
    let told = match hygiene.forwarded {
        ForwardedStyle::Forwarded => forwarded(),
        ForwardedStyle::Off => x().or_else(forwarded),
        ForwardedStyle::XForwarded | ForwardedStyle::Both => x(),
    };
    told.unwrap_or(own)
}

fn web(scheme: &[u8]) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|it| scheme.eq_ignore_ascii_case(it.as_bytes()))
}

fn x_forwarded(headers: &mut HeaderMap, around: &HeaderContext<'_>) {
    let hops = usize::from(around.hygiene.trusted_hops);
    let peer = around.peer.text.as_bytes();
    let value = if hops > 0 && headers.contains_key(&FOR) {
        appended(elements(headers, &FOR, hops), peer)
    } else {
        None
    };
    headers.insert(FOR, value.unwrap_or_else(|| around.peer.text.clone()));
    if hops == 0 || single(headers, &PROTO).and_then(|it| web(it.as_bytes())).is_none() {
        headers.insert(PROTO, HeaderValue::from_static(proto(around)));
    }
    if hops == 0 || single(headers, &HOST).is_none() {
        match around.authority.value() {
            Some(authority) => headers.insert(HOST, authority),
            None => headers.remove(HOST),
        };
    }
}

/// Only who writes `forwarded` at all pays for a text each time.
fn forwarded(headers: &mut HeaderMap, around: &HeaderContext<'_>) {
    let hops = usize::from(around.hygiene.trusted_hops);
    let peer = match around.peer.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    let authority = around.authority.as_str();
    let host = match authority {
        "" => String::new(),
        // A port's `:` is no part of a token, nor are brackets.
        _ if authority.contains(':') => format!(";host=\"{authority}\""),
        _ => format!(";host={authority}"),
    };
    let element = format!("{peer}{host};proto={}", proto(around));
    let value = appended(elements(headers, &FORWARDED, hops), element.as_bytes());
    if let Some(value) = value {
        headers.insert(FORWARDED, value);
    }
}

fn proto(around: &HeaderContext<'_>) -> &'static str {
    if around.encrypted { "https" } else { "http" }
}

/// A header's only value.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|value| values.next().is_none() && !value.is_empty())
}

/// A list with one more element.
fn appended<'h>(elements: impl Iterator<Item = &'h [u8]>, last: &'h [u8]) -> Option<HeaderValue> {
    let mut list = Vec::with_capacity(64);
    for element in elements.chain([last]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(element);
    }
    HeaderValue::from_maybe_shared(Bytes::from(list)).ok()
}

/// The last `most` elements of a list, in their order. A `,` in quotes is part of an element.
fn elements<'h>(
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

/// The elements of one header's value.
fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |b| {
        let ends = *b == b',' && !quoted;
        quoted ^= *b == b'"' && !escaped;
        escaped = quoted && *b == b'\\' && !escaped;
        ends
    })
}

/// The address in an element of `forwarded`.
fn for_node(element: &[u8]) -> Option<IpAddr> {
    node(pair(element, b"for=")?)
}

/// What an element of `forwarded` says of `name`, which ends with its `=`; without quotes.
fn pair<'e>(element: &'e [u8], name: &[u8]) -> Option<&'e [u8]> {
    let pairs = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let mut pairs = pairs.filter_map(|pair| pair.split_at_checked(name.len()));
    let (_, value) = pairs.find(|(it, _)| it.eq_ignore_ascii_case(name))?;
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(bare.unwrap_or(value))
}

/// The address that a node is named by: with a port or without, an IPv6 address in brackets or
/// without them. `unknown` and made-up names are none.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests;
