//! Queries: the normal form of `name=value` pairs joined by `&`.
//!
//! Services decode names and values like forms, so a plus is a space. Order and duplicates of
//! parameters are kept.

use super::{path::escaped, push_encoded};
use operation::AttributeValue;
use std::borrow::Cow;

/// Decodes percent escapes and `+`; invalid escapes stay.
pub(crate) fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (byte, width) = match (byte, escaped(bytes, at)) {
            (_, Some(byte)) => (byte, 3),
            (b'+', None) => (b' ', 1),
            _ => (byte, 1),
        };
        plain.push(byte);
        at += width;
    }
    Cow::Owned(plain)
}

/// Longest time without a byte in either direction during a request and its response, or `off`.
/// Default: the listener's `stream_idle_timeout`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$'()*,;:@/?".contains(&byte)
}

/// The query with one spelling per character: allowed characters are plain, except `+`, which is
/// `%20` if it means a space and `%2B` if it means itself. An encoded `&` stays encoded, and so
/// does an encoded `=` in a name. A percent sign without two digits is a literal one.
pub(super) fn spelt(query: &str) -> String {
    let bytes = query.as_bytes();
    let mut spelt = String::with_capacity(query.len());
    let (mut at, mut in_value) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        if let Some(byte) = escaped(bytes, at) {
            match byte {
                b'=' if in_value => spelt.push('='),
                byte if is_plain(byte) => spelt.push(char::from(byte)),
                byte => push_encoded(&mut spelt, byte),
            }
            at += 3;
            continue;
        }
        match byte {
            b'&' => {
                in_value = false;
                spelt.push('&');
            }
            b'=' => {
                in_value = true;
                spelt.push('=');
            }
            b'+' => push_encoded(&mut spelt, b' '),
            byte if is_plain(byte) => spelt.push(char::from(byte)),
            byte => push_encoded(&mut spelt, byte),
        }
        at += 1;
    }
    spelt
}

/// The normal form of a query: one spelling per character, no empty parameters, and no `=` without
/// a value.
pub(crate) fn normal(query: &str) -> String {
    parameters(&spelt(query))
        .map(|(name, value)| joined(name, value, false))
        .collect::<Vec<_>>()
        .join("&")
}

/// The query that policies match. A parameter without value is matched with and without `=`:
/// services read both as the same.
pub(crate) fn fact(query: &str) -> AttributeValue<'static> {
    let spelt = spelt(query);
    let bare = parameters(&spelt).any(|(_, value)| value.is_empty());
    let form = |equals| {
        let parameters = parameters(&spelt).map(|(name, value)| joined(name, value, equals));
        Cow::from(parameters.collect::<Vec<_>>().join("&"))
    };
    if bare {
        AttributeValue::Repeated(vec![form(false), form(true)])
    } else {
        AttributeValue::Known(form(false))
    }
}

/// Names and values; parameters that have neither are skipped.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let all = query.split('&').map(|it| it.split_once('=').unwrap_or((it, "")));
    all.filter(|(name, value)| !(name.is_empty() && value.is_empty()))
}

/// One parameter; `equals`: whether an empty value keeps its `=`.
fn joined(name: &str, value: &str, equals: bool) -> String {
    if value.is_empty() && !equals { name.to_owned() } else { format!("{name}={value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        assert_eq!(decoded("a+b%20c%2B%zz%"), Cow::Borrowed(b"a b c+%zz%"));
        assert!(matches!(decoded("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn equivalent_queries_have_one_normal_form() {
        for (query, same) in [
            ("debug=1", "debug=1"),
            ("%64ebug=%31", "debug=1"),
            ("a=b+c", "a=b%20c"),
            ("a=b%20c%2bd", "a=b%20c%2Bd"),
            ("a=1&a=2", "a=1&a=2"),
            ("&&a=1&", "a=1"),
            ("a=", "a"),
            ("a", "a"),
            ("=", ""),
            ("=1", "=1"),
            ("a=b=c%3d", "a=b=c="),
            ("a%3db=c", "a%3Db=c"),
            ("a=b%26c", "a=b%26c"),
            ("a[]=1&a%5b%5D=2", "a%5B%5D=1&a%5B%5D=2"),
            ("q=100%&r=%zz", "q=100%25&r=%25zz"),
            ("a=%2561", "a=%2561"),
            ("a=%c3%a9\u{e9}%FF%00", "a=%C3%A9%C3%A9%FF%00"),
            ("", ""),
        ] {
            assert_eq!(normal(query), same, "{query}");
            assert_eq!(normal(&normal(query)), same, "{query} again");
        }
    }

    #[test]
    fn a_parameter_without_value_is_matched_in_both_forms() {
        let both = AttributeValue::Repeated(vec!["wsdl&a=1".into(), "wsdl=&a=1".into()]);
        assert_eq!(fact("wsdl&a=1"), both);
        assert_eq!(fact("wsdl=&a=1"), both);
        assert_eq!(fact("a=1"), AttributeValue::known("a=1"));
    }
}
