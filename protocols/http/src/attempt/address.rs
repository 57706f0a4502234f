//! The last that is done to a request's head: whom it is for, and that it has no body, as the
//! version has it that the service speaks.

use crate::upload::RequestBody;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri};

/// Puts in a request whom it is for: `authority`, or who has no other name than its `endpoint`.
pub(crate) fn address(
    request: &mut Request<RequestBody>,
    authority: Option<&HeaderValue>,
    endpoint: &str,
    http2: bool,
) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = (None, None);
    // A client of HTTP/1.0 need not say whom it asks.
    let own = || HeaderValue::from_str(endpoint).ok();
    let named = authority.cloned().or_else(own).unwrap_or(HeaderValue::from_static("localhost"));
    if http2 {
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = uri::Authority::try_from(named.as_bytes()).ok();
    } else {
        *request.version_mut() = Version::HTTP_11;
        say_no_body(request);
        put_host_first(request.headers_mut(), named);
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// A request whose method means something by a body tells that it has none (RFC 9110, 8.6): some
/// services of HTTP/1.1 ask for a length with 411.
fn say_no_body(request: &mut Request<RequestBody>) {
    let means = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if means && http_body::Body::is_end_stream(request.body()) {
        let none = HeaderValue::from_static("0");
        request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(none);
    }
}

/// `host` should be the first line (RFC 9110, 7.2). A header that is removed leaves its place to the
/// last one.
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
