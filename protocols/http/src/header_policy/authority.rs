//! A request's authority: host and port as the client sent them.

use http::{HeaderValue, uri};
use std::{net::Ipv6Addr, ops::Range};

/// The longest host name in bytes; DNS allows 253.
const MAX_HOST: usize = 255;

/// A request's authority. It shares the head's memory; only a host with upper-case letters is
/// copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    text: AuthorityText,
    /// Range of the host in `text`, without the brackets of an IPv6 address.
    host: Range<usize>,
    /// The host in lower case, if `text` has upper-case letters.
    lower: Option<Box<str>>,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AuthorityText {
    /// HTTP/1.0 allows none.
    None,
    Uri(uri::Authority),
    Header(HeaderValue),
}

impl AuthorityText {
    fn as_str(&self) -> &str {
        match self {
            AuthorityText::None => "",
            AuthorityText::Uri(authority) => authority.as_str(),
            AuthorityText::Header(value) => value.to_str().unwrap_or(""),
        }
    }
}

impl Authority {
    /// No authority, as HTTP/1.0 allows.
    pub(crate) fn none() -> Self {
        Self { text: AuthorityText::None, host: 0..0, lower: None, port: None }
    }

    pub(super) fn of_uri(authority: &uri::Authority) -> Option<Self> {
        Self::read(AuthorityText::Uri(authority.clone()))
    }

    /// The authority in the value of `host`; `None` if it is invalid.
    pub(crate) fn of_header(value: &HeaderValue) -> Option<Self> {
        Self::read(AuthorityText::Header(value.clone()))
    }

    fn read(text: AuthorityText) -> Option<Self> {
        let (host, port) = split(text.as_str())?;
        let name = text.as_str().get(host.clone())?;
        let upper = name.bytes().any(|b| b.is_ascii_uppercase());
        let lower = upper.then(|| name.to_ascii_lowercase().into());
        Some(Self { text, host, lower, port })
    }

    /// The host in lower case, without port and brackets. Empty if an HTTP/1.0 client sent none.
    pub fn host(&self) -> &str {
        match &self.lower {
            Some(lower) => lower,
            None => self.text.as_str().get(self.host.clone()).unwrap_or(""),
        }
    }

    /// The port, if the client sent one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Host and port as the client sent them.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// Host and port as a header's value; `None` if there is none.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        match &self.text {
            AuthorityText::None => None,
            AuthorityText::Uri(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            AuthorityText::Header(value) => Some(value.clone()),
        }
    }

    /// Whether both name the same host and port; `default` is the port of one without.
    pub(super) fn is_same(&self, other: &Self, default: u16) -> bool {
        let port = |it: &Self| it.port.unwrap_or(default);
        self.host() == other.host() && port(self) == port(other)
    }
}

/// Splits `host`, `host:port` or `[v6]:port`; the range excludes the brackets. Stricter than a URI:
/// hosts have the characters of DNS names, `_` and `~`. A `,` between two hosts, `%2f` and the like
/// are rejected, since two readers may read them differently.
fn split(text: &str) -> Option<(Range<usize>, Option<u16>)> {
    let (host, rest) = if text.starts_with('[') {
        let end = text.find(']')?;
        text.get(1..end)?.parse::<Ipv6Addr>().ok()?;
        (1..end, text.get(end + 1..)?)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let name = text.get(..end)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if name.is_empty() || name.len() > MAX_HOST || !name.bytes().all(plain) {
            return None;
        }
        (0..end, text.get(end..)?)
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Authority> {
        Authority::of_header(&HeaderValue::from_static(text))
    }

    #[test]
    fn a_host_is_lower_case_without_port() {
        for (text, host, port) in [
            ("shop", "shop", None),
            ("Shop.Example:8080", "shop.example", Some(8080)),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[2001:DB8::1]:443", "2001:db8::1", Some(443)),
            ("[::1]", "::1", None),
            ("my_service.svc~a", "my_service.svc~a", None),
        ] {
            let authority = read(text).unwrap();
            assert_eq!((authority.host(), authority.port()), (host, port), "{text}");
            assert_eq!(authority.as_str(), text);
        }
    }

    #[test]
    fn only_a_host_with_upper_case_letters_is_copied() {
        assert!(read("shop.example:80").unwrap().lower.is_none());
        assert!(read("Shop.example:80").unwrap().lower.is_some());
    }

    #[test]
    fn an_ambiguous_authority_is_rejected() {
        for text in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:+1",
            "a:65536",
            "a:80:80",
            "a b",
            "a,b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "a%2fb",
            "u@a",
            "[::1",
            "::1",
            "[::1]80",
            "[1.2.3.4]",
            "[fe80::1%1]",
            "[v1.x]",
            "a:080000",
            "a\tb",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let long: &'static str = Box::leak("a".repeat(256).into_boxed_str());
        assert_eq!(read(long), None);
        assert!(read(&long[1..]).is_some());
        let odd = HeaderValue::from_bytes("gr\u{fc}n".as_bytes()).unwrap();
        assert_eq!(Authority::of_header(&odd), None);
    }

    #[test]
    fn a_default_port_equals_an_explicit_one() {
        let (bare, told, other) =
            (read("A").unwrap(), read("a:80").unwrap(), read("a:81").unwrap());
        assert!(bare.is_same(&told, 80) && told.is_same(&bare, 80));
        assert!(!bare.is_same(&told, 443) && !bare.is_same(&other, 80));
    }
}
