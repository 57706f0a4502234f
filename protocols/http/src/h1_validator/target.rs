//! The request target, and the authority in it or in `Host`.

use super::error::{self, H1Error};
use std::{net::Ipv6Addr, ops::Range, str};

/// Forms of a target (RFC 9112 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetForm {
    /// A path, or `*`: the authority is in `Host`.
    Bare,
    /// `http://host/path`: range of the authority, and the scheme's default port.
    Absolute(Range<usize>, u16),
    /// `host:port`.
    Authority,
}

/// Parses the target of a request with this method.
pub(super) fn read(method: &[u8], target: &[u8]) -> Result<TargetForm, H1Error> {
    if method == b"CONNECT" {
        let named = HostPort::read(target).filter(|authority| authority.port.is_some());
        return named.map(|_| TargetForm::Authority).ok_or(error::CONNECT_TARGET);
    }
    match target {
        b"*" if method == b"OPTIONS" => Ok(TargetForm::Bare),
        b"*" => Err(error::ASTERISK_FORM),
        [b'/', ..] => path(target).map(|()| TargetForm::Bare),
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Result<TargetForm, H1Error> {
    let schemes: [(&[u8], u16); 2] = [(b"http://", 80), (b"https://", 443)];
    let scheme = schemes.into_iter().find(|(scheme, _)| {
        target.get(..scheme.len()).is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    });
    let Some((scheme, port)) = scheme else {
        let authority = HostPort::read(target).is_some();
        return Err(if authority { error::AUTHORITY_FORM } else { unreadable(target) });
    };
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if authority.contains(&b'@') {
        return Err(error::USERINFO_IN_TARGET);
    }
    if HostPort::read(authority).is_none() {
        return Err(unreadable(target));
    }
    path(after)?;
    Ok(TargetForm::Absolute(scheme.len()..scheme.len() + end, port))
}

fn path(bytes: &[u8]) -> Result<(), H1Error> {
    if is_plain(bytes) { Ok(()) } else { Err(unreadable(bytes)) }
}

/// Whether path and query have only characters of a URI and the few others that hyper accepts.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let end = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(end);
    path.iter().all(|byte| CLASS[*byte as usize] & PATH != 0)
        && query.iter().all(|byte| CLASS[*byte as usize] & QUERY != 0)
}

fn unreadable(target: &[u8]) -> H1Error {
    if target.contains(&b'#') { error::FRAGMENT_IN_TARGET } else { error::INVALID_TARGET }
}

const PATH: u8 = 1;
const QUERY: u8 = 2;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'#' | b'<' | b'>' => 0,
            b'"' => PATH,
            b'?' | b'`' => QUERY,
            _ => PATH | QUERY,
        };
        byte += 1;
    }
    table
};

/// `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostPort<'b> {
    /// A name or an address; IPv6 addresses with brackets.
    host: &'b [u8],
    port: Option<u16>,
}

impl<'b> HostPort<'b> {
    /// Parses a name of letters, digits and `-._~`, or an address, and a port. Percent signs,
    /// commas, users and zones are rejected: readers differ on them.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let end = match bytes {
            [b'[', ..] => {
                let end = memchr::memchr(b']', bytes)?;
                str::from_utf8(&bytes[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
                end + 1
            }
            _ => {
                let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
                if end == 0 || !bytes[..end].iter().all(plain) {
                    return None;
                }
                end
            }
        };
        let (host, after) = bytes.split_at(end);
        let port = match after {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same host and port; `default` is the port of one without.
    pub(super) fn is_same(&self, other: &Self, default: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}
