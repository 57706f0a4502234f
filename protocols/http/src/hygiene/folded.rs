//! Names of headers that a service folds into others: CGI, WSGI and PHP read `x_forwarded_for` as
//! `x-forwarded-for` (RFC 3875, 4.1.18).
//!
//! A client could write by such a name what the proxy, a route or a policy decides on. So names are
//! compared as they are folded, and one that stands for another that counts is taken away.

use crate::screen::{is_forbidden_trailer, is_odd};
use http::{HeaderMap, HeaderName, HeaderValue};
use operation::Violation;
use std::borrow::Cow;

/// A header was taken away since its name is read as another's.
pub(crate) const VIOLATION: Violation = Violation("folded_name");

/// Headers that the proxy writes, or reads for its own sake, in lower case, besides those that no
/// trailer may be.
const OWN: [&str; 7] = [
    "forwarded",
    "http2-settings",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-request-id",
];

/// The name that is read where all other characters are folded into `-`, in lower case.
fn fold(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    let folded = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    Cow::Owned(name.chars().map(folded).collect())
}

/// The values of headers whose names fold into the same as this one, but are another.
pub(crate) fn twins<'h>(
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

/// Takes away the headers whose names fold into one that the proxy writes or reads, into one of
/// `routes`, or into that of another header of the request. Returns how many lines went, and
/// whether a name that is odd is left.
pub(crate) fn take_away(headers: &mut HeaderMap, routes: &[HeaderName]) -> (usize, bool) {
    let odd = headers.keys().filter(|name| is_odd(name.as_str()));
    let odd: Vec<HeaderName> = odd.cloned().collect();
    let before = headers.len();
    let mut left = false;
    for (at, name) in odd.iter().enumerate() {
        let folded = fold(name.as_str());
        let counts = counts(&folded, routes)
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

/// Whether a name that others fold into is the proxy's or a route's.
fn counts(name: &str, routes: &[HeaderName]) -> bool {
    is_forbidden_trailer(name.as_bytes())
        || OWN.contains(&name)
        || super::forwarded::is_claim(name)
        || routes.iter().any(|it| fold(it.as_str()) == name)
}

/// Takes away the trailers that may not be any: what frames, routes or authenticates, what the
/// proxy or a route writes, and what folds into one of these. Returns how many lines went.
pub(crate) fn take_away_trailers(trailers: &mut HeaderMap, routes: &[HeaderName]) -> usize {
    let before = trailers.len();
    let names: Vec<HeaderName> = trailers.keys().cloned().collect();
    for name in names {
        if counts(&fold(name.as_str()), routes) {
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
        let (gone, odd) = take_away(&mut headers, &routes);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        (names.join(" "), gone, odd)
    }

    #[test]
    fn a_name_that_is_read_as_one_that_counts_goes() {
        assert_eq!(left(&[("x_forwarded_for", "1"), ("accept", "a")]), ("accept".into(), 1, false));
        assert_eq!(left(&[("x.forwarded-for", "1")]), (String::new(), 1, false));
        assert_eq!(left(&[("x_user", "1"), ("x_user", "2")]), (String::new(), 2, false));
        assert_eq!(left(&[("x_request_id", "1")]), (String::new(), 1, false));
    }

    #[test]
    fn one_of_two_names_that_are_read_as_one_goes() {
        assert_eq!(left(&[("x-key", "1"), ("x_key", "2")]), ("x-key".into(), 1, false));
        assert_eq!(left(&[("x_key", "1"), ("x.key", "2")]), ("x_key".into(), 1, true));
    }

    #[test]
    fn other_names_stay() {
        assert_eq!(left(&[("x_key", "1"), ("a", "b")]), ("x_key a".into(), 0, true));
        assert_eq!(left(&[("x-forwarded-for", "1")]), ("x-forwarded-for".into(), 0, false));
    }

    #[test]
    fn a_policy_is_told_of_both_names() {
        let headers = headers(&[("x_debug", "1"), ("x-other", "2")]);
        let told = |name| twins(&headers, name).cloned().collect::<Vec<_>>();
        assert_eq!(told("x-debug"), ["1"]);
        assert_eq!(told("X-Debug"), ["1"]);
        assert_eq!(told("x_other"), ["2"]);
        assert!(told("x_debug").is_empty() && told("x-none").is_empty());
    }

    #[test]
    fn no_trailer_is_what_the_proxy_writes() {
        let mut trailers = headers(&[
            ("x-forwarded-for", "1"),
            ("x_forwarded_for", "1"),
            ("via", "1"),
            ("x-user", "1"),
            ("host", "1"),
            ("x-sum", "1"),
        ]);
        let gone = take_away_trailers(&mut trailers, &[HeaderName::from_static("x-user")]);
        assert_eq!((gone, trailers.len()), (5, 1));
        assert!(trailers.contains_key("x-sum"));
    }
}
