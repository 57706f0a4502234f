//! Hides secrets in pasted texts: a connection string contains a password, which must not appear on
//! a terminal or in a log.

use std::{borrow::Cow, ops::Range};

/// The replacement of a secret.
pub const HIDDEN: &str = "***";

/// Keys and parameters whose values are secrets. `token_file` and the like only name a file.
const NAMES: [&str; 8] =
    ["password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "api_key"];

/// The text with secrets hidden: user info in URIs (`mongodb://user:password@host`), with or
/// without scheme, and the values of keys like `password` and `token`. Hides too much rather than
/// too little.
#[must_use]
pub fn hide(text: &str) -> Cow<'_, str> {
    let found = secrets(text);
    if found.is_empty() {
        return text.into();
    }
    let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
    for secret in found {
        shown.push_str(text.get(from..secret.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        from = secret.end;
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    shown.into()
}

/// The secrets in a text: ranges of bytes, in order, not adjacent.
#[must_use]
pub fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let of_line = in_uris(line).chain(before_hosts(line)).chain(by_name(line));
        found.extend(of_line.map(|it| begin + it.start..begin + it.end));
        begin += line.len();
    }
    found.retain(|it| !it.is_empty());
    found.sort_by_key(|it| it.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for next in found {
        match apart.last_mut().filter(|last| next.start <= last.end) {
            Some(last) => last.end = last.end.max(next.end),
            None => apart.push(next),
        }
    }
    apart
}

/// User info from `://` to the last `@`, since a password may contain an unencoded `@`, `/`, blank
/// or quote.
fn in_uris(line: &str) -> impl Iterator<Item = Range<usize>> {
    let starts: Vec<usize> = line.match_indices("://").map(|(at, sign)| at + sign.len()).collect();
    let ends = starts.iter().skip(1).copied().chain([line.len()]).collect::<Vec<_>>();
    starts.into_iter().zip(ends).filter_map(|(start, end)| {
        let rest = line.get(start..end)?;
        if let Some(at) = rest.rfind('@') {
            return Some(start..start + at);
        }
        // There is no host, as in a text that was cut: `mongodb://user:password`.
        let word = rest.split(is_end).next().unwrap_or_default();
        let (name, more) = word.split_once(':').filter(|_| !word.starts_with('['))?;
        let port = more.split(['/', '?', '#', ',']).next().unwrap_or_default();
        let odd = port.contains(|c: char| c.is_ascii_alphabetic());
        (odd && !name.contains('/')).then_some(start..start + word.len())
    })
}

/// `user:password` before an `@`, without a scheme.
fn before_hosts(line: &str) -> impl Iterator<Item = Range<usize>> {
    words(line).filter_map(|(start, word)| {
        let inner = word.trim_start_matches(['[', '{', '(']);
        let start = start + word.len() - inner.len();
        let (who, _) = inner.rsplit_once('@')?;
        let (_, password) = who.split_once(':').filter(|_| !inner.contains("://"))?;
        (!password.is_empty()).then_some(start..start + who.len())
    })
}

/// Values of secret keys: `password: …`, `"token": "…"`, `?password=…`.
fn by_name(line: &str) -> impl Iterator<Item = Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let names = NAMES.into_iter().flat_map(|name| {
        lower.match_indices(name).map(|(at, name)| at + name.len()).collect::<Vec<_>>()
    });
    names.collect::<Vec<_>>().into_iter().filter_map(|end| {
        let rest = line.get(end..)?;
        let sign = rest.trim_start_matches(['"', '\'']).trim_start_matches(' ');
        let value = sign.strip_prefix([':', '='])?.trim_start_matches(' ');
        let start = line.len() - value.len();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let length = match quote {
            Some(quote) => value.get(1..)?.find(quote).map(|at| at + 2),
            None => value.find(|c: char| c.is_whitespace() || matches!(c, '}' | '&' | '`')),
        };
        Some(start..start + length.unwrap_or(value.trim_end().len()))
    })
}

/// The words of a line, with their offsets.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    line.split_inclusive(is_end).map(move |word| {
        let start = from;
        from += word.len();
        (start, word.trim_end_matches(is_end))
    })
}

/// Whether a word ends here.
fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_hidden() {
        for (text, shown) in [
            ("mongodb://user:s3cret@db:27017/shop", "mongodb://***@db:27017/shop"),
            ("redis://:s3cret@db:6379", "redis://***@db:6379"),
            ("http://s3cret@shop/", "http://***@shop/"),
            ("mongodb://u:p@s3cret/x y'z@db:1", "mongodb://***@db:1"),
            ("[mongodb://u:s3cret@a, redis://u:s3cret@b]", "[mongodb://***@a, redis://***@b]"),
            ("`user:s3cret@db:27017/shop`", "`***@db:27017/shop`"),
            ("endpoints: [user:s3cret@db:27017]", "endpoints: [***@db:27017]"),
            ("found `mongodb://user:s3cre…`", "found `mongodb://***`"),
            ("one\nmongodb://u:s3cret@db\nthree", "one\nmongodb://***@db\nthree"),
        ] {
            assert_eq!(hide(text), shown, "{text}");
        }
    }

    #[test]
    fn values_of_secret_keys_are_hidden() {
        for (text, shown) in [
            ("password: s3cret", "password: ***"),
            (
                "  redis: { address: \"r:1\", password: s3cret }",
                "  redis: { address: \"r:1\", password: *** }",
            ),
            ("{\"token\":\"s3 cret\",\"x\":1}", "{\"token\":***,\"x\":1}"),
            ("mongodb://db/?PASSWORD=s3cret&x=1", "mongodb://db/?PASSWORD=***&x=1"),
            ("pwd : 's3cret'", "pwd : ***"),
        ] {
            assert_eq!(hide(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "",
            "user: [root@admin, \"ops-*@admin\"]",
            "token_file: /run/token",
            "unknown key `password`, did you mean `password_file`?",
            "http://shop.example:8080/cart?x=1",
            "write `mongodb+srv://db.example.net`",
            "[::1]:27017, http://[::1]:80/",
            "grpc://a:1,b:2",
            "password:",
        ] {
            assert_eq!(hide(text), text);
        }
    }
}
