//! Paths: which are rejected, their normal form, and prefixes.
//!
//! Two spellings of a path must not match two routes or two policies, or `/admin` would be guarded
//! while `//admin` and `/%61dmin` are not. So paths are compared in normal form. Paths that a
//! service would resolve to yet another path (`..`, however it is written) are rejected.

use super::push_encoded;
use std::borrow::Cow;

/// Why a path is rejected; `None` if it is valid.
///
/// Rejected are: dot segments, with dots and slashes plain or percent-encoded, also with a
/// backslash as slash or parameters after the dots (`/..;x/`); percent signs without two digits;
/// `%00`, where some readers end a path; overlong UTF-8; and paths that do not begin with a slash,
/// except `*` and the empty path (targets of `OPTIONS` and `CONNECT`).
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
    let mut segment = SegmentKind::Empty;
    let (mut at, mut before) = (0, b'/');
    while let Some(&byte) = bytes.get(at) {
        let (byte, width) = match (byte, escaped(bytes, at)) {
            (b'%', Some(0)) => return Some("the path has an encoded NUL (`%00`)"),
            (b'%', Some(byte)) => (byte, 3),
            (b'%', None) => return Some("the path has a percent sign without two hex digits"),
            _ => (byte, 1),
        };
        if is_overlong(before, byte) {
            return Some("the path has a character in more bytes of UTF-8 than it needs");
        }
        (at, before) = (at + width, byte);
        match byte {
            b'/' | b'\\' if segment.is_dots() => return Some(DOTS),
            b'/' | b'\\' => segment = SegmentKind::Empty,
            byte => segment = segment.then(byte),
        }
    }
    segment.is_dots().then_some(DOTS)
}

const DOTS: &str = "the path has a `.` or `..` segment";

/// Kind of a segment as far as it was read.
#[derive(Clone, Copy)]
enum SegmentKind {
    Empty,
    Dot,
    DotDot,
    /// Dots followed by parameters, which some services drop.
    Parameters,
    Name,
}

impl SegmentKind {
    fn is_dots(self) -> bool {
        matches!(self, SegmentKind::Dot | SegmentKind::DotDot | SegmentKind::Parameters)
    }

    fn then(self, byte: u8) -> Self {
        match (self, byte) {
            (SegmentKind::Empty, b'.') => SegmentKind::Dot,
            (SegmentKind::Dot, b'.') => SegmentKind::DotDot,
            (SegmentKind::Dot | SegmentKind::DotDot, b';') | (SegmentKind::Parameters, _) => {
                SegmentKind::Parameters
            }
            _ => SegmentKind::Name,
        }
    }
}

/// Whether these two bytes start an overlong UTF-8 sequence (RFC 3629, 3): a lenient reader reads
/// `%C0%AF` as a slash.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xc0 | 0xc1 => (0x80..=0xbf).contains(&second),
        0xe0 => (0x80..=0x9f).contains(&second),
        0xf0 => (0x80..=0x8f).contains(&second),
        _ => false,
    }
}

/// The byte that `%XY` at this position encodes.
pub(super) fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| (*bytes.get(at)? as char).to_digit(16);
    if bytes.get(at) != Some(&b'%') {
        return None;
    }
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// Characters that are not encoded: `pchar` of RFC 3986 (3.3), and the slash. `?` occurs in no
/// request path; in a policy's glob it matches one character.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let plain = b"-._~!$&'()*+,;=:@?";
    let mut at = 0;
    while at < plain.len() {
        table[plain[at] as usize] = PLAIN;
        at += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = PLAIN;
        }
        byte += 1;
    }
    table[b'/' as usize] = SLASH;
    table
};

const PLAIN: u8 = 1;
const SLASH: u8 = 2;

fn is_plain(byte: u8) -> bool {
    CLASS[byte as usize] != 0
}

/// The normal form of a path: repeated slashes are one, characters that are allowed in a path are
/// plain, and all others are percent-encoded in upper case. Encoded slashes, percent signs and
/// question marks stay encoded. Nearly every path is in normal form already.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    let (mut plain, mut before) = (true, 0);
    for byte in path.bytes() {
        let class = CLASS[byte as usize];
        plain &= (class != 0) & (class & before & SLASH == 0);
        before = class;
    }
    if plain {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut normal = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (byte, width, plain) = match escaped(bytes, at) {
            Some(byte) => (byte, 3, is_plain(byte) && !matches!(byte, b'/' | b'?')),
            None => (byte, 1, is_plain(byte)),
        };
        at += width;
        if !plain {
            push_encoded(&mut normal, byte);
        } else if byte != b'/' || !normal.ends_with('/') {
            normal.push(char::from(byte));
        }
    }
    Cow::Owned(normal)
}

/// The path that a service sees which decodes an encoded slash or backslash to a slash; `None` if
/// it has none. Input and result are in normal form.
pub(crate) fn other_reading(path: &str) -> Option<String> {
    memchr::memchr(b'%', path.as_bytes())?;
    let other = path.replace("%2F", "/").replace("%5C", "/");
    (other != path).then(|| normal(&other).into_owned())
}

/// The path with single slashes and plain unreserved characters (RFC 3986, 6.2.2), for rewrites and
/// captures. Unlike in the normal form, spellings that a service may distinguish, such as `%3B` and
/// `;`, are kept.
pub(crate) fn unreserved(path: &str) -> Cow<'_, str> {
    let plain = memchr::memchr(b'%', path.as_bytes()).is_none() && !path.contains("//");
    if plain {
        return Cow::Borrowed(path);
    }
    let mut spelt = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let mut width = first.len_utf8();
        match escaped(rest.as_bytes(), 0).map(char::from) {
            Some(byte) if byte.is_ascii_alphanumeric() || "-._~".contains(byte) => {
                spelt.push(byte);
                width = 3;
            }
            Some(_) => {
                spelt.push_str(&rest[..3].to_ascii_uppercase());
                width = 3;
            }
            None if first == '/' && spelt.ends_with('/') => {}
            None => spelt.push(first),
        }
        rest = &rest[width..];
    }
    Cow::Owned(spelt)
}

/// The rest after a prefix of whole segments: empty, or starting with a slash. The prefix does not
/// end in a slash.
pub(crate) fn after<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_resolves_elsewhere_is_rejected() {
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
        for path in ["/%", "/a%2", "/a%zz", "/%%41", "/a%é", "/%u0061"] {
            assert!(path_fault(path).unwrap().contains("percent"), "{path}");
        }
        for path in ["/a%00", "/%00.png"] {
            assert!(path_fault(path).unwrap().contains("NUL"), "{path}");
        }
        for path in ["/%c0%af", "/%C1%81", "/%e0%80%af", "/%F0%80%80%AF"] {
            assert!(path_fault(path).unwrap().contains("UTF-8"), "{path}");
        }
        assert!(path_fault("cart").unwrap().contains("slash"));
    }

    #[test]
    fn dots_within_names_are_allowed() {
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
            "/caf%E9",
            "/%C0-propos",
            "/%E0%A4%A6%F0%9F%98%80",
            "/%2500",
        ] {
            assert_eq!(path_fault(path), None, "{path}");
        }
    }

    #[test]
    fn equivalent_paths_have_one_normal_form() {
        for (path, same) in [
            ("/%61dmin", "/admin"),
            ("//admin///x", "/admin/x"),
            ("/a%2fb%3a", "/a%2Fb:"),
            ("/a%21%24%26%27%28%29%2a%2b%2c%3b%3d%40", "/a!$&'()*+,;=@"),
            ("/%7euser/%E4%ba", "/~user/%E4%BA"),
            ("/é//%c3", "/%C3%A9/%C3"),
            ("/a b{c}[d]|e^\"", "/a%20b%7Bc%7D%5Bd%5D%7Ce%5E%22"),
            ("/%7bc%7D%3f%23", "/%7Bc%7D%3F%23"),
            ("/a\\b%5cc", "/a%5Cb%5Cc"),
            ("/%2561", "/%2561"),
            ("/50%", "/50%25"),
            ("", ""),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), same, "{path}");
            assert_eq!(normal(&normal(path)), same, "{path} again");
        }
        assert!(matches!(normal("/a/b;c=d/~e"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
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
    fn random_prefixes_never_match_part_of_a_segment() {
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
    fn encoded_slashes_have_another_reading() {
        for (path, other) in [
            ("/admin%2Fx", Some("/admin/x")),
            ("/admin%5Cx", Some("/admin/x")),
            ("/%2Fadmin/%2F%2Fx%2F", Some("/admin/x/")),
            ("/admin%252Fx", None),
            ("/admin/x", None),
            ("/caf%C3%A9", None),
        ] {
            assert_eq!(other_reading(path).as_deref(), other, "{path}");
        }
    }

    #[test]
    fn rewrites_keep_distinguishable_spellings() {
        for (path, spelt) in
            [("//%61%3b;%2f", "/a%3B;%2F"), ("/{a}%7b", "/{a}%7B"), ("/50%", "/50%"), ("/a", "/a")]
        {
            assert_eq!(unreserved(path), spelt, "{path}");
        }
    }
}
