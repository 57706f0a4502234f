//! Last changes to a request before it is sent: its authority, and `content-length: 0`, as the
//! upstream HTTP version requires.

use crate::request_body::RequestBody;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri};

/// Sets version and authority of a request. Without `authority` the name of the `endpoint` is used.
/// `http2` is the scheme of a request of HTTP/2; `None`: HTTP/1.1.
pub(crate) fn set_target(
    request: &mut Request<RequestBody>,
    authority: Option<&HeaderValue>,
    endpoint: &str,
    http2: Option<uri::Scheme>,
) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = (None, None);
    // HTTP/1.0 clients may omit `host`.
    let own = || HeaderValue::from_str(endpoint).ok();
    let named = authority.cloned().or_else(own).unwrap_or(HeaderValue::from_static("localhost"));
    if let Some(scheme) = http2 {
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        parts.scheme = Some(scheme);
        parts.authority = uri::Authority::try_from(named.as_bytes()).ok();
    } else {
        *request.version_mut() = Version::HTTP_11;
        set_zero_length(request);
        put_host_first(request.headers_mut(), named);
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// Adds `content-length: 0` to a request without body whose method usually has one (RFC 9110, 8.6):
/// some HTTP/1.1 services reply 411 otherwise.
fn set_zero_length(request: &mut Request<RequestBody>) {
    let means = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if means && http_body::Body::is_end_stream(request.body()) {
        let none = HeaderValue::from_static("0");
        request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(none);
    }
}

/// Puts `host` first (RFC 9110, 7.2). `HeaderMap::remove` moves the last header into the gap.
fn put_host_first(headers: &mut HeaderMap, host: HeaderValue) {
    if headers.keys().next() == Some(&header::HOST) {
        headers.insert(header::HOST, host);
        return;
    }
    headers.remove(header::HOST);
    headers.insert(header::HOST, host);
    let Some(first) = headers.keys().next().filter(|name| **name != header::HOST).cloned() else {
        return;
    };
    let more: Vec<_> = headers.get_all(&first).iter().skip(1).cloned().collect();
    let Some(value) = headers.remove(&first) else { return };
    headers.insert(first.clone(), value);
    for value in more {
        headers.append(first.clone(), value);
    }
}
