//! Methods: known ones must be in capitals, and TRACE must carry no credentials.

use crate::header_policy::HeadError;
use http::{
    HeaderMap, Method,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
};

/// The longest method in bytes; the HTTP/1 validator has the same limit.
const LONGEST: usize = 32;

/// The methods of IANA's registry, and common ones of caches and devices.
const KNOWN: [&str; 46] = [
    "ACL",
    "BAN",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// Whether the method is known.
pub(crate) fn is_method(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Checks a request's method. Methods are case-sensitive (RFC 9110, 9.1), but some services ignore
/// case: a policy for `DELETE` must not miss `delete`.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), HeadError> {
    let name = method.as_str();
    if name.len() > LONGEST {
        let message = "the method is longer than 32 characters";
        return Err(HeadError::bad("invalid_method", message));
    }
    let lower = name.bytes().any(|byte| byte.is_ascii_lowercase());
    if lower && KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        let message = "the method is a known one, but not in capitals; write it in capitals";
        return Err(HeadError::bad("method_case", message));
    }
    // RFC 9110, 9.3.8: the response would echo them.
    let credentials = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    if *method == Method::TRACE && credentials.iter().any(|name| headers.contains_key(name)) {
        let message = "a TRACE has credentials, which its answer would show; leave out \
                       `authorization`, `proxy-authorization` and `cookie`";
        return Err(HeadError::bad("trace_with_credentials", message));
    }
    Ok(())
}
