//! The protocol of a request, from its `content-type`.

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// gRPC itself: `application/grpc`, `application/grpc+proto`.
    Grpc,
    /// A bare message: `application/x-protobuf`, `application/protobuf`.
    Protobuf,
    /// gRPC-Web: `application/grpc-web`, `application/grpc-web+proto`.
    Web,
    /// gRPC-Web in base64: `application/grpc-web-text`, `application/grpc-web-text+proto`.
    WebText,
    /// No content type, or JSON.
    Json,
    /// Any other type.
    Other,
}

impl Media {
    /// Reads `content-type`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(said) = headers.get(header::CONTENT_TYPE) else { return Media::Json };
        let said = essence(said.to_str().unwrap_or("?"));
        let is = |name: &str| said.eq_ignore_ascii_case(name);
        let (base, _) = said.split_once('+').unwrap_or((said, ""));
        match () {
            () if base.eq_ignore_ascii_case("application/grpc") => Media::Grpc,
            () if base.eq_ignore_ascii_case("application/grpc-web") => Media::Web,
            () if base.eq_ignore_ascii_case("application/grpc-web-text") => Media::WebText,
            () if is("application/x-protobuf") || is("application/protobuf") => Media::Protobuf,
            () if is("application/json") => Media::Json,
            () => Media::Other,
        }
    }
}

/// A media type without its parameters.
pub(crate) fn essence(said: &str) -> &str {
    said.split(';').next().unwrap_or_default().trim()
}

/// Removes headers that describe the original body, which will be replaced.
pub(crate) fn strip_body_headers(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::ACCEPT_RANGES,
        header::ETAG,
    ] {
        headers.remove(name);
    }
}

/// Adds a response's trailers to its headers, except those that control the connection.
pub(crate) fn merge_trailers(headers: &mut HeaderMap, mut trailers: HeaderMap) {
    let upgrade = header::UPGRADE;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, upgrade] {
        trailers.remove(name);
    }
    trailers.remove("keep-alive");
    trailers.remove("proxy-connection");
    headers.extend(trailers);
}

/// Sets the request headers of a gRPC call.
pub(crate) fn set_grpc_headers(headers: &mut HeaderMap) {
    strip_body_headers(headers);
    headers.insert(header::CONTENT_TYPE, GRPC);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// The same, for translators, which can't read compressed messages.
pub(crate) fn set_uncompressed_grpc_headers(headers: &mut HeaderMap) {
    set_grpc_headers(headers);
    headers.remove(GRPC_ENCODING);
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_distinguished() {
        for (said, media) in [
            ("application/grpc", Media::Grpc),
            ("application/grpc+proto", Media::Grpc),
            ("APPLICATION/GRPC+JSON; charset=utf-8", Media::Grpc),
            ("application/grpc-web", Media::Web),
            ("application/grpc-web+proto", Media::Web),
            ("application/grpc-web-text", Media::WebText),
            ("application/grpc-web-text+proto", Media::WebText),
            ("application/x-protobuf", Media::Protobuf),
            ("application/protobuf ; proto=x", Media::Protobuf),
            ("application/json; charset=utf-8", Media::Json),
            ("application/grpcx", Media::Other),
            ("application/grpc-webx", Media::Other),
            ("text/plain", Media::Other),
            ("", Media::Other),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::try_from(said).unwrap());
            assert_eq!(Media::of(&headers), media, "{said}");
        }
        assert_eq!(Media::of(&HeaderMap::new()), Media::Json);
    }
}
