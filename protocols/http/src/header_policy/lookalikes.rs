//! Header names that services confuse: CGI, WSGI and PHP read `x_forwarded_for` as
//! `x-forwarded-for` (RFC 3875, 4.1.18).
//!
//! A client could use such a name to set a header that the proxy, a route or a policy decides on.
//! So names are compared in folded form, and lookalikes of relevant headers are removed.

use crate::h1_validator::{is_forbidden_trailer, is_odd};
use http::{HeaderMap, HeaderName, HeaderValue};
use operation::Violation;
use std::borrow::Cow;

/// A header was removed because its name is read as another's.
pub(crate) const VIOLATION: Violation = Violation("folded_name");

/// Headers that the proxy writes or reads, in lower case, besides forbidden trailers.
const OWN: [&str; 7] = [
    "forwarded",
    "http2-settings",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-request-id",
];

/// The folded name: lower case, with `-` for all characters other than letters and digits.
fn fold(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    let folded = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    Cow::Owned(name.chars().map(folded).collect())
}

/// The values of headers whose names differ from this one but fold to the same.
pub(crate) fn lookalikes<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> impl Iterator<Item = &'h HeaderValue> {
    let named = fold(name).into_owned();
    let own = name.to_ascii_lowercase();
    headers
        .iter()
        .filter(move |(it, _)| it.as_str() != own && fold(it.as_str()) == named)
        .map(|(_, value)| value)
}

/// Removes headers whose names fold to one that the proxy writes or reads, to one of `routes`, or
/// to another header of the request. Returns how many lines were removed, and whether an odd name
/// is left.
pub(crate) fn remove(headers: &mut HeaderMap, routes: &[HeaderName]) -> (usize, bool) {
    let odd = headers.keys().filter(|name| is_odd(name.as_str()));
    let odd: Vec<HeaderName> = odd.cloned().collect();
    let before = headers.len();
    let mut left = false;
    for (at, name) in odd.iter().enumerate() {
        let folded = fold(name.as_str());
        let counts = is_significant(&folded, routes)
            || headers.contains_key(&*folded)
            || odd[..at].iter().any(|other| fold(other.as_str()) == folded);
        if counts {
            headers.remove(name);
        } else {
            left = true;
        }
    }
    (before - headers.len(), left)
}

/// Whether a folded name is relevant to the proxy or a route.
fn is_significant(name: &str, routes: &[HeaderName]) -> bool {
    is_forbidden_trailer(name.as_bytes())
        || OWN.contains(&name)
        || super::forwarded::is_identity_header(name)
        || routes.iter().any(|it| fold(it.as_str()) == name)
}

/// Removes trailers that frame, route or authenticate, that the proxy or a route writes, and
/// lookalikes of these. Returns how many lines were removed.
pub(crate) fn remove_trailers(trailers: &mut HeaderMap, routes: &[HeaderName]) -> usize {
    let before = trailers.len();
    let names: Vec<HeaderName> = trailers.keys().cloned().collect();
    for name in names {
        if is_significant(&fold(name.as_str()), routes) {
            trailers.remove(&name);
        }
    }
    before - trailers.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn left(lines: &[(&'static str, &'static str)]) -> (String, usize, bool) {
        let routes = [HeaderName::from_static("x-user"), HeaderName::from_static("x_team")];
        let mut headers = headers(lines);
        let (gone, odd) = remove(&mut headers, &routes);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        (names.join(" "), gone, odd)
    }

    #[test]
    fn lookalikes_of_relevant_headers_are_removed() {
        assert_eq!(left(&[("x_forwarded_for", "1"), ("accept", "a")]), ("accept".into(), 1, false));
        assert_eq!(left(&[("x.forwarded-for", "1")]), (String::new(), 1, false));
        assert_eq!(left(&[("x_user", "1"), ("x_user", "2")]), (String::new(), 2, false));
        assert_eq!(left(&[("x_request_id", "1")]), (String::new(), 1, false));
    }

    #[test]
    fn one_of_two_lookalike_headers_is_removed() {
        assert_eq!(left(&[("x-key", "1"), ("x_key", "2")]), ("x-key".into(), 1, false));
        assert_eq!(left(&[("x_key", "1"), ("x.key", "2")]), ("x_key".into(), 1, true));
    }

    #[test]
    fn other_header_names_are_kept() {
        assert_eq!(left(&[("x_key", "1"), ("a", "b")]), ("x_key a".into(), 0, true));
        assert_eq!(left(&[("x-forwarded-for", "1")]), ("x-forwarded-for".into(), 0, false));
    }

    #[test]
    fn a_policy_sees_the_values_of_lookalikes() {
        let headers = headers(&[("x_debug", "1"), ("x-other", "2")]);
        let told = |name| lookalikes(&headers, name).cloned().collect::<Vec<_>>();
        assert_eq!(told("x-debug"), ["1"]);
        assert_eq!(told("X-Debug"), ["1"]);
        assert_eq!(told("x_other"), ["2"]);
        assert!(told("x_debug").is_empty() && told("x-none").is_empty());
    }

    #[test]
    fn trailers_that_the_proxy_writes_are_removed() {
        let mut trailers = headers(&[
            ("x-forwarded-for", "1"),
            ("x_forwarded_for", "1"),
            ("via", "1"),
            ("x-user", "1"),
            ("host", "1"),
            ("x-sum", "1"),
        ]);
        let gone = remove_trailers(&mut trailers, &[HeaderName::from_static("x-user")]);
        assert_eq!((gone, trailers.len()), (5, 1));
        assert!(trailers.contains_key("x-sum"));
    }
}
