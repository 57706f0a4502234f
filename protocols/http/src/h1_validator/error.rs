//! Violations in a client's bytes, and the error responses.

use operation::Violation;

/// A violation. Nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H1Error {
    /// Label for metrics and logs: `bare_lf`.
    pub violation: Violation,
    /// Status of the error response: 400, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// What is wrong and what would be right.
    pub message: &'static str,
    /// Whether the head has passed, so that only the body is invalid.
    pub in_body: bool,
}

impl H1Error {
    /// Whether the bytes are of another protocol: a mistake in a configuration, which operators look for in
    /// the log.
    pub(crate) fn is_other_protocol(&self) -> bool {
        [LOOKS_LIKE_TLS, LOOKS_LIKE_PROXY_HEADER].contains(self)
    }

    pub(super) const fn in_body(self) -> Self {
        Self { in_body: true, ..self }
    }
}

const fn fault(status: u16, word: &'static str, message: &'static str) -> H1Error {
    H1Error { violation: Violation(word), status, message, in_body: false }
}

const fn bad(word: &'static str, message: &'static str) -> H1Error {
    fault(400, word, message)
}

// Lines, RFC 9112 §2.2.
pub(super) const BARE_LF: H1Error =
    bad("bare_lf", "a line ends with LF alone; every line ends with CR LF");
pub(super) const BARE_CR: H1Error =
    bad("bare_cr", "a line has a CR in its midst; CR stands only before the LF that ends a line");
pub(super) const REPEATED_EMPTY_LINE: H1Error = bad(
    "repeated_empty_line",
    "more than one empty line comes before a request; send none between requests",
);

// Other protocols.
pub(super) const LOOKS_LIKE_TLS: H1Error =
    bad("looks_like_tls", "the bytes are TLS, and this port speaks HTTP without TLS; use http://");
pub(super) const LOOKS_LIKE_PROXY_HEADER: H1Error = bad(
    "looks_like_proxy_header",
    "the bytes are a PROXY protocol header, which is not expected from this peer (proxy_protocol)",
);

// The request line, RFC 9112 §3.
pub(super) const MALFORMED_REQUEST_LINE: H1Error = bad(
    "malformed_request_line",
    "the request line is not method, target and version with one space between each",
);
pub(super) const INVALID_METHOD: H1Error = bad(
    "invalid_method",
    "the method is not a token of at most 32 letters, digits and !#$%&'*+-.^_`|~",
);
pub(super) const INVALID_VERSION: H1Error =
    bad("invalid_version", "the version is not written as HTTP/1.1 or HTTP/1.0");
pub(super) const UNSUPPORTED_VERSION: H1Error =
    fault(505, "unsupported_version", "this port speaks HTTP/1.1 and HTTP/1.0 in this form only");
pub(super) const TARGET_TOO_LONG: H1Error =
    fault(414, "target_too_long", "the request's target is longer than the limit (max_target)");
pub(super) const INVALID_TARGET: H1Error = bad(
    "invalid_target",
    "the target has characters that a URI can't have, or none of its forms; percent-encode them",
);
pub(super) const FRAGMENT_IN_TARGET: H1Error =
    bad("fragment_in_target", "the target has a fragment; leave away # and what follows");
pub(super) const USERINFO_IN_TARGET: H1Error =
    bad("userinfo_in_target", "the target names a user before an @; send credentials in a header");
pub(super) const AUTHORITY_FORM: H1Error = bad(
    "authority_form",
    "the target is a bare authority, as only CONNECT has it; begin the path with /",
);
pub(super) const ASTERISK_FORM: H1Error =
    bad("asterisk_form", "the target is *, as only OPTIONS has it");
pub(super) const CONNECT_TARGET: H1Error =
    bad("connect_target", "the target of CONNECT is not host:port");

// Fields, RFC 9112 §5.
pub(super) const HEAD_TOO_LARGE: H1Error = fault(
    431,
    "head_too_large",
    "request line and headers together are larger than the limit (max_head)",
);
pub(super) const TOO_MANY_HEADERS: H1Error =
    fault(431, "too_many_headers", "the request has more headers than the limit (max_headers)");
pub(super) const WHITESPACE_BEFORE_HEADERS: H1Error = bad(
    "whitespace_before_headers",
    "the line after the request line begins with whitespace; begin it with a header's name",
);
pub(super) const FOLDED_HEADER: H1Error =
    bad("folded_header", "a header goes on in a second line; write its value in one line");
pub(super) const MISSING_COLON: H1Error = bad("missing_colon", "a header line has no colon");
pub(super) const EMPTY_HEADER_NAME: H1Error =
    bad("empty_header_name", "a header line has no name before its colon");
pub(super) const SPACE_BEFORE_COLON: H1Error = bad(
    "space_before_colon",
    "whitespace stands between a header's name and its colon; the colon follows the name at once",
);
pub(super) const INVALID_HEADER_NAME: H1Error =
    bad("invalid_header_name", "a header's name has characters other than those of a token");
pub(super) const CONTROL_IN_HEADER: H1Error =
    bad("control_in_header", "a header's value has a control character");
pub(super) const DISGUISED_HEADER: H1Error = bad(
    "disguised_header",
    "a header is named content_length or transfer_encoding, which some take for the real one",
);
pub(super) const INVALID_CONNECTION: H1Error =
    bad("invalid_connection", "the Connection header is not a list of tokens");
pub(super) const UNKNOWN_EXPECTATION: H1Error =
    fault(417, "unknown_expectation", "the Expect header is something other than 100-continue");

// Host, RFC 9112 §3.2.
pub(super) const MISSING_HOST: H1Error =
    bad("missing_host", "the request has no Host header; HTTP/1.1 requires one");
pub(super) const REPEATED_HOST: H1Error =
    bad("repeated_host", "the request has more than one Host header; send one");
pub(super) const INVALID_HOST: H1Error =
    bad("invalid_host", "the Host header is not a host name or address, and a port if need be");
pub(super) const HOST_MISMATCH: H1Error =
    bad("host_mismatch", "the target names another host than the Host header; send the same");

// Where the body ends, RFC 9112 §6.
pub(super) const LENGTH_AND_CHUNKED: H1Error = bad(
    "length_and_chunked",
    "the request has both Content-Length and Transfer-Encoding; send one of them",
);
pub(super) const REPEATED_CONTENT_LENGTH: H1Error = bad(
    "repeated_content_length",
    "the request has more than one Content-Length, or a list of them; send one number",
);
pub(super) const INVALID_CONTENT_LENGTH: H1Error = bad(
    "invalid_content_length",
    "the Content-Length is not a decimal number without sign, space or leading zero",
);
pub(super) const CONTENT_LENGTH_OVERFLOW: H1Error =
    bad("content_length_overflow", "the Content-Length is larger than 2^63 - 1");
pub(super) const TRANSFER_ENCODING_ON_HTTP10: H1Error = bad(
    "transfer_encoding_on_http10",
    "an HTTP/1.0 request has a Transfer-Encoding, which came with HTTP/1.1",
);
pub(super) const REPEATED_TRANSFER_ENCODING: H1Error = bad(
    "repeated_transfer_encoding",
    "the request has more than one Transfer-Encoding header, or chunked twice; send chunked once",
);
pub(super) const UNSUPPORTED_TRANSFER_ENCODING: H1Error = fault(
    501,
    "unsupported_transfer_encoding",
    "the request has a transfer coding other than chunked; use Content-Encoding to compress",
);
pub(super) const INVALID_TRANSFER_ENCODING: H1Error =
    bad("invalid_transfer_encoding", "the Transfer-Encoding is not exactly chunked");
pub(super) const CONNECT_WITH_BODY: H1Error =
    bad("connect_with_body", "a CONNECT request has a body; it has none");

// Chunks, RFC 9112 §7.1.
pub(super) const INVALID_CHUNK_SIZE: H1Error = bad(
    "invalid_chunk_size",
    "a chunk's size is not 1 to 16 hexadecimal digits, followed by CR LF or an extension",
)
.in_body();
pub(super) const CHUNK_SIZE_OVERFLOW: H1Error =
    bad("chunk_size_overflow", "a chunk is larger than 2^63 - 1 bytes").in_body();
pub(super) const INVALID_CHUNK_EXTENSION: H1Error = bad(
    "invalid_chunk_extension",
    "a chunk's extension is not written as ;name, ;name=token or ;name=\"text\"",
)
.in_body();
pub(super) const CHUNK_EXTENSIONS_TOO_LARGE: H1Error = bad(
    "chunk_extensions_too_large",
    "the extensions of a chunk, or of all chunks of a request, are larger than the limit",
)
.in_body();
pub(super) const CHUNK_OVERRUN: H1Error = bad(
    "chunk_overrun",
    "a chunk's data is not followed by CR LF; its size and its data don't agree",
)
.in_body();
pub(super) const TRAILERS_TOO_LARGE: H1Error =
    fault(431, "trailers_too_large", "the trailers are larger than the limit").in_body();
pub(super) const TOO_MANY_TRAILERS: H1Error =
    fault(431, "too_many_trailers", "the request has more trailers than the limit (max_headers)")
        .in_body();
pub(super) const FORBIDDEN_TRAILER: H1Error = bad(
    "forbidden_trailer",
    "a trailer is a field that frames, routes or authenticates; send it as a header",
)
.in_body();
