//! Headers of HTTP/1 connections, which HTTP/2 forbids.

use http::{HeaderMap, HeaderName, header};

/// Headers that HTTP/2 forbids (RFC 9113, 8.2.2), besides `te` with other values than `trailers`.
const CONNECTION_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the headers that HTTP/2 forbids. Few heads have any: the proxy's own of a connection that
/// closes, and what a route sets.
pub(super) fn remove_connection_headers(headers: &mut HeaderMap) {
    if headers.keys().any(|name| CONNECTION_HEADERS.contains(name)) {
        CONNECTION_HEADERS.iter().for_each(|name| {
            headers.remove(name);
        });
    }
    if headers.get(header::TE).is_some_and(|value| value != "trailers") {
        headers.remove(header::TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_that_http_2_forbids_are_removed() {
        let mut headers = HeaderMap::new();
        for name in CONNECTION_HEADERS.iter().chain(&[header::TE, header::ACCEPT]) {
            headers.insert(name, HeaderValue::from_static("gzip"));
        }
        remove_connection_headers(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::ACCEPT]);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        remove_connection_headers(&mut headers);
        assert!(headers.contains_key(header::TE));
    }
}
