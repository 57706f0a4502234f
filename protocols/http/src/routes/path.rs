//! Paths: which are refused, in which form they are compared, and what a prefix of one is.
//!
//! Two spellings of one path must not take two routes, or a route that refuses `/admin` is passed
//! by with `//admin` or `/%61dmin`. So paths are compared in their normal form. What a service
//! would resolve to yet another path (`..`, however it is written) is refused.

use std::borrow::Cow;

/// Why a path can't be asked for; `None` if it can.
///
/// Refused are dot segments, with dots and slashes plain or percent-encoded, a backslash for a
/// slash and parameters behind the dots (`/..;x/`) too; percent signs without two digits; and what
/// does not begin with a slash, but for `*` and nothing (the targets of `OPTIONS` and `CONNECT`).
pub fn path_fault(path: &str) -> Option<&'static str> {
    if matches!(path, "" | "*") {
        return None;
    }
    if !path.starts_with('/') {
        return Some("the path does not begin with a slash");
    }
    let bytes = path.as_bytes();
    // Nearly every path has none of these.
    memchr::memchr3(b'%', b'.', b'\\', bytes)?;
    let mut segment = Segment::Empty;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (byte, width) = match (byte, escaped(bytes, at)) {
            (b'%', Some(byte)) => (byte, 3),
            (b'%', None) => return Some("the path has a percent sign without two hex digits"),
            _ => (byte, 1),
        };
        at += width;
        match byte {
            b'/' | b'\\' if segment.is_dots() => return Some(DOTS),
            b'/' | b'\\' => segment = Segment::Empty,
            byte => segment = segment.then(byte),
        }
    }
    segment.is_dots().then_some(DOTS)
}

const DOTS: &str = "the path has a `.` or `..` segment";

/// What a segment looks like so far.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    /// Dots, then parameters, which some services leave out.
    Parameters,
    Name,
}

impl Segment {
    fn is_dots(self) -> bool {
        matches!(self, Segment::Dot | Segment::DotDot | Segment::Parameters)
    }

    fn then(self, byte: u8) -> Self {
        match (self, byte) {
            (Segment::Empty, b'.') => Segment::Dot,
            (Segment::Dot, b'.') => Segment::DotDot,
            (Segment::Dot | Segment::DotDot, b';') | (Segment::Parameters, _) => {
                Segment::Parameters
            }
            _ => Segment::Name,
        }
    }
}

/// The byte that `%XY` at this place stands for.
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| (*bytes.get(at)? as char).to_digit(16);
    if bytes.get(at) != Some(&b'%') {
        return None;
    }
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// Percent signs replaced by what they stand for; those that stand for nothing stay. In a query,
/// a plus is a space.
pub(super) fn decoded(text: &str) -> Cow<'_, [u8]> {
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

/// The form in which paths are compared: slashes in a row are one, letters, digits and `-._~` are
/// plain, and hex digits are in capitals (RFC 3986, 6.2.2). Nearly every path is so already.
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    let plain = memchr::memchr(b'%', bytes).is_none() && !path.contains("//");
    if plain {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let mut width = first.len_utf8();
        match escaped(rest.as_bytes(), 0).map(char::from) {
            Some(byte) if byte.is_ascii_alphanumeric() || "-._~".contains(byte) => {
                normal.push(byte);
                width = 3;
            }
            Some(_) => {
                normal.push_str(&rest[..3].to_ascii_uppercase());
                width = 3;
            }
            None if first == '/' && normal.ends_with('/') => {}
            None => normal.push(first),
        }
        rest = &rest[width..];
    }
    Cow::Owned(normal)
}

/// What follows a prefix of whole segments: nothing, or a slash and more. The prefix does not end
/// in a slash.
pub(super) fn after<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for path in [
            "/admin/../cart",
            "/cart/..",
            "/..",
            "/.",
            "/./cart",
            "/cart/%2e%2e/admin",
            "/cart/%2E./admin",
            "/cart/.%2e",
            "/cart%2f..%2fadmin",
            "/cart/x%2F%2e%2E%2Fadmin",
            "/cart\\..\\admin",
            "/cart%5c..%5Cadmin",
            "/cart/..;/admin",
            "/cart/..;a=b/admin",
            "/cart/.;x",
            "//../x",
        ] {
            assert_eq!(path_fault(path), Some(DOTS), "{path}");
        }
        for path in ["/%", "/a%2", "/a%zz", "/%%41", "/a%é"] {
            assert!(path_fault(path).unwrap().contains("percent"), "{path}");
        }
        assert!(path_fault("cart").unwrap().contains("slash"));
    }

    #[test]
    fn a_path_with_dots_in_its_names_is_fine() {
        for path in [
            "",
            "*",
            "/",
            "/cart",
            "//",
            "/...",
            "/.well-known/x",
            "/a.b/c..d",
            "/..a",
            "/a..",
            "/v1.%2e",
            "/group%2Fproject",
            "/%E4%BA%8C",
            "/a;b",
            "/%252e%252e/x",
            "/a\\b",
        ] {
            assert_eq!(path_fault(path), None, "{path}");
        }
    }

    #[test]
    fn two_spellings_of_a_path_are_one() {
        for (path, same) in [
            ("/%61dmin", "/admin"),
            ("//admin///x", "/admin/x"),
            ("/a%2fb%3a", "/a%2Fb%3A"),
            ("/%7euser/%E4%ba", "/~user/%E4%BA"),
            ("/é//%c3", "/é/%C3"),
            ("/50%", "/50%"),
            ("", ""),
        ] {
            assert_eq!(normal(path), same, "{path}");
            assert_eq!(normal(&normal(path)), same, "{path} again");
        }
        assert!(matches!(normal("/a/b;c=d/~e"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        for (path, rest) in [
            ("/cart", Some("")),
            ("/cart/", Some("/")),
            ("/cart/x", Some("/x")),
            ("/cartoon", None),
        ] {
            assert_eq!(after(path, "/cart"), rest, "{path}");
        }
        assert_eq!(after("/any", ""), Some("/any"));
        assert_eq!(after("*", ""), None);
    }

    #[test]
    fn no_prefix_ever_matches_part_of_a_segment() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = |most| -> String {
            (0..random.usize(1..most)).map(|_| random.choice(['/', 'a', 'b']).unwrap()).collect()
        };
        for _ in 0..20_000 {
            let (path, prefix) = (format!("/{}", text(7)), format!("/{}", text(4)));
            let (path, prefix) = (normal(&path).into_owned(), normal(&prefix).into_owned());
            let prefix = prefix.trim_end_matches('/');
            let segments = |text: &str| -> Vec<String> {
                text.split('/').skip(1).map(str::to_owned).collect()
            };
            let whole = segments(&path).starts_with(&segments(prefix));
            assert_eq!(after(&path, prefix).is_some(), whole, "{path} {prefix}");
        }
    }

    #[test]
    fn a_querys_values_are_decoded() {
        assert_eq!(decoded("a+b%20c%2B%zz%"), Cow::Borrowed(b"a b c+%zz%"));
        assert!(matches!(decoded("plain"), Cow::Borrowed(_)));
    }
}
