//! Headers that may occur once, and values that all services read the same way.

use crate::header_policy::HeadError;
use http::{
    HeaderMap, HeaderName,
    header::{
        AUTHORIZATION, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, EXPECT, FROM,
        IF_MODIFIED_SINCE, IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, ORIGIN,
        PROXY_AUTHORIZATION, RANGE, REFERER, USER_AGENT,
    },
};

/// Request headers with a single value (RFC 9110, RFC 6454). Of two lines, one service uses the
/// first and another the last, so no policy could rely on either. `content-length` and `host` have
/// their own checks, and `cookie` is joined.
static SINGLE: [HeaderName; 15] = [
    AUTHORIZATION,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    DATE,
    FROM,
    IF_MODIFIED_SINCE,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    MAX_FORWARDS,
    ORIGIN,
    PROXY_AUTHORIZATION,
    RANGE,
    REFERER,
    USER_AGENT,
];

/// Checks headers of any HTTP version.
pub(super) fn check(headers: &HeaderMap) -> Result<(), HeadError> {
    let twice = headers.len() > headers.keys_len();
    if twice && SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        let message = "a header that has one value, such as `authorization`, `content-type` or \
                       `user-agent`, is there more than once; send it once";
        return Err(HeadError::bad("repeated_header", message));
    }
    let known = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.contains_key(EXPECT) && !headers.get_all(EXPECT).iter().all(known) {
        let message = "the `expect` header is something other than 100-continue";
        let flaw = HeadError::bad("unknown_expectation", message);
        return Err(HeadError { status: 417, ..flaw });
    }
    Ok(())
}

/// Checks what the validator rejects in HTTP/1 and HTTP/2 framing permits (RFC 9113, 8.2.1).
pub(super) fn framed(headers: &HeaderMap) -> Result<(), HeadError> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &http::HeaderValue| {
        let value = value.as_bytes();
        blank(value.first()) || blank(value.last())
    };
    if headers.values().any(padded) {
        let message = "a header's value begins or ends with a blank; leave it out";
        return Err(HeadError::bad("blank_around_value", message));
    }
    let disguised = ["content_length", "transfer_encoding"];
    if disguised.iter().any(|name| headers.contains_key(*name)) {
        let message = "a header is named content_length or transfer_encoding, which some take for \
                       the real one";
        return Err(HeadError::bad("disguised_header", message));
    }
    Ok(())
}
