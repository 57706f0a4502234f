//! Normal forms for comparison by policies, routes, limits and logs: two spellings that a service
//! reads as the same must compare equal.
//!
//! Sources: RFC 3986 §6.2.2 (percent-encoding, case), RFC 5952 (IPv6 addresses), and the URL
//! Standard's `application/x-www-form-urlencoded` for queries.

mod host;
mod path;
mod query;

pub(crate) use host::{normal as host, written as written_host};
pub use path::path_fault;
pub(crate) use path::{after, normal as path, other_reading, unreserved};
pub(crate) use query::{decoded, fact as query_fact, normal as query};

use operation::AttributeValue;
use std::borrow::Cow;

/// A policy's glob over this attribute in the normal form of its values. `None` if it is in normal
/// form already, or the attribute has none.
pub fn glob(attribute: &str, glob: &str) -> Option<String> {
    let normal = match attribute {
        "path" => path::normal(glob),
        "query" => Cow::Owned(query::spelt(glob)),
        "host" => Cow::Owned(host::written(glob)),
        _ => return None,
    };
    (normal != glob).then(|| normal.into_owned())
}

/// The attribute value that policies match, from its text.
pub fn fact<'a>(attribute: &str, text: &'a str) -> AttributeValue<'a> {
    match attribute {
        "path" => path_fact(text),
        "query" => query::fact(text),
        "host" => AttributeValue::Known(Cow::Owned(host::written(text))),
        _ => AttributeValue::known(text),
    }
}

/// The path that policies match: both readings, if a service may read it in two ways.
pub(crate) fn path_fact(path: &str) -> AttributeValue<'_> {
    let normal = path::normal(path);
    match other_reading(&normal) {
        Some(other) => AttributeValue::Multiple(vec![normal, other.into()]),
        None => AttributeValue::Known(normal),
    }
}

/// Percent-encodes a byte with upper-case digits.
fn push_encoded(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 0xf)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_normalized_like_values() {
        for (attribute, text, normal) in [
            ("path", "/%61dmin/*", Some("/admin/*")),
            ("path", "//admin", Some("/admin")),
            ("path", "/caf\u{e9}", Some("/caf%C3%A9")),
            ("path", "/a b", Some("/a%20b")),
            ("path", "/admin/?*", None),
            ("query", "*name=a b*", Some("*name=a%20b*")),
            ("query", "*debug=1*", None),
            ("query", "*&", None),
            ("host", "Shop.Example", Some("shop.example")),
            ("host", "*.example.", Some("*.example")),
            ("host", "shop.example", None),
            ("user_agent", "%41", None),
        ] {
            assert_eq!(glob(attribute, text).as_deref(), normal, "{attribute} {text}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_matched_in_both_readings() {
        assert_eq!(fact("path", "//%61"), AttributeValue::known("/a"));
        let both = vec!["/admin%2Fx".into(), "/admin/x".into()];
        assert_eq!(fact("path", "/admin%2fx"), AttributeValue::Multiple(both));
    }
}
