//! Checks request heads of all HTTP versions for what the framing layers accept but no service
//! should receive.
//!
//! Sources: RFC 9110 §4.2, §5.3, §7, §9.1, §9.3.6, §9.3.8, §10.1.1 and §10.1.4, RFC 9112 §3.2, RFC
//! 9113 §8.

mod fields;
mod method;

pub(crate) use method::is_method;

use super::{Authority, HeadError};
use crate::h1_validator::is_target;
use http::{
    HeaderMap, HeaderName, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request,
    uri::Scheme,
};
use hyper::ext::Protocol;

/// Checks a head, and returns the request's authority.
///
/// A fragment in the target is not seen here: the `Uri` type drops it.
///
/// # Errors
/// The first violation found, with the status for the client.
pub fn check(head: &request::Parts) -> Result<Authority, HeadError> {
    if head.version >= Version::HTTP_2 {
        no_connection_headers(&head.headers)?;
        fields::framed(&head.headers)?;
        characters(head)?;
    }
    method::check(&head.method, &head.headers)?;
    fields::check(&head.headers)?;
    length(&head.headers)?;
    let authority = authority(head)?;
    target(head, &authority)?;
    Ok(authority)
}

/// Headers that HTTP/2 forbids.
static OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// RFC 9113 §8.2.2: no connection headers in a stream.
fn no_connection_headers(headers: &HeaderMap) -> Result<(), HeadError> {
    // One pass over all names costs less than a lookup of each of these.
    if headers.keys().any(|name| OF_CONNECTIONS.contains(name)) {
        let message = "HTTP/2 has no headers about connections, such as `connection`";
        return Err(HeadError::bad("connection_header", message));
    }
    if headers.get_all(TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(HeadError::bad("te", "in HTTP/2, `te` is `trailers` or absent"));
    }
    Ok(())
}

/// Allows the same target characters as the HTTP/1 validator.
fn characters(head: &request::Parts) -> Result<(), HeadError> {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    if is_target(target.as_bytes()) {
        return Ok(());
    }
    let message = "the target has characters that a URI can't have; percent-encode them";
    Err(HeadError::bad("invalid_target", message))
}

/// At most one `content-length`, of digits without leading zero. RFC 9110 §8.6 permits repeated
/// equal lengths, but only attackers send them.
fn length(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(HeadError::bad("content_length", "there is more than one `content-length`"));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        let message = "`content-length` beside `transfer-encoding`";
        return Err(HeadError::bad("content_length", message));
    }
    let digits = length.as_bytes();
    let number = length.to_str().ok().and_then(|length| length.parse::<i64>().ok());
    if number.is_none() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::bad("content_length", "`content-length` is not a number"));
    }
    if digits.len() > 1 && digits.starts_with(b"0") {
        let message = "`content-length` has a zero before its first digit";
        return Err(HeadError::bad("content_length", message));
    }
    Ok(())
}

/// Returns the authority; the target's and that of `host` must be equal if both are present.
fn authority(head: &request::Parts) -> Result<Authority, HeadError> {
    let told = match head.uri.authority() {
        None => None,
        Some(told) if told.as_str().contains('@') => {
            return Err(HeadError::bad("userinfo", "the target must not have a user's name"));
        }
        Some(told) => {
            let wrong =
                || HeadError::bad("authority", "the target's authority is no host and port");
            Some(Authority::of_uri(told).ok_or_else(wrong)?)
        }
    };
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::bad("host", "there is more than one `host`"));
    }
    let host = match host {
        None => None,
        Some(host) => {
            let wrong = || HeadError::bad("host", "`host` is no host and port");
            Some(Authority::of_header(host).ok_or_else(wrong)?)
        }
    };
    match (told, host) {
        (Some(told), Some(host)) => {
            let default = if head.uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
            if !told.is_same(&host, default) {
                let message = "`host` is another authority than the target's";
                return Err(HeadError::bad("host_mismatch", message));
            }
            Ok(told)
        }
        // RFC 9112 §3.2 requires it even if the target has an authority.
        (Some(_) | None, None) if head.version == Version::HTTP_11 && !is_connect(head) => {
            Err(HeadError::bad("no_host", "HTTP/1.1 requires `host`"))
        }
        (Some(authority), None) | (None, Some(authority)) => Ok(authority),
        (None, None) if head.version < Version::HTTP_11 => Ok(Authority::none()),
        (None, None) => Err(HeadError::bad("no_host", "`:authority` and `host` are both missing")),
    }
}

fn is_connect(head: &request::Parts) -> bool {
    head.method == Method::CONNECT
}

/// The target must be a path, `*`, or for CONNECT `host:port`.
fn target(head: &request::Parts, authority: &Authority) -> Result<(), HeadError> {
    let uri = &head.uri;
    let extended = head.extensions.get::<Protocol>().is_some();
    if is_connect(head) && !extended {
        if uri.authority().is_none() || uri.scheme().is_some() || uri.path_and_query().is_some() {
            return Err(HeadError::bad("target", "the target of CONNECT is `host:port`"));
        }
        return match authority.port() {
            Some(1..) => Ok(()),
            _ => Err(HeadError::bad("target", "the target of CONNECT has no port")),
        };
    }
    if extended && !is_connect(head) {
        return Err(HeadError::bad("target", "`:protocol` belongs to CONNECT"));
    }
    if uri.scheme().is_some_and(|it| *it != Scheme::HTTP && *it != Scheme::HTTPS) {
        return Err(HeadError::bad("scheme", "the scheme is neither `http` nor `https`"));
    }
    match uri.path() {
        path if path.starts_with('/') => Ok(()),
        "*" if head.method == Method::OPTIONS => Ok(()),
        "*" => Err(HeadError::bad("target", "the target `*` belongs to OPTIONS")),
        _ => Err(HeadError::bad("target", "the target's path must begin with `/`")),
    }
}

#[cfg(test)]
mod tests;
