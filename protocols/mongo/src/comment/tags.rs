//! Removes from a comment what tracers add: `key='value'` (google.github.io/sqlcommenter/spec).
//!
//! Datadog's keys begin with `dd`; it appends them to the application's comment, in some modes with
//! the release. OpenTelemetry and sqlcommenter add `traceparent` and `tracestate`, which differ
//! with each request.

use std::borrow::Cow;

/// The comment as the application wrote it; `None` if all of it comes from a tracer.
///
/// If the comment has text, that text; if it has only tags, those that are not a tracer's, such as
/// sqlcommenter's `action='pay',controller='cart'`.
pub(super) fn without_tracer_tags(comment: &str) -> Option<Cow<'_, str>> {
    let comment = comment.trim();
    let bare = comment.strip_prefix("/*").and_then(|rest| rest.strip_suffix("*/"));
    let comment = bare.unwrap_or(comment).trim();
    if !comment.contains("='") {
        return Some(comment).filter(|it| !it.is_empty()).map(Cow::Borrowed);
    }
    let (mut texts, mut tags, mut rest) = (Vec::new(), Vec::new(), comment);
    while !rest.is_empty() {
        let (part, after) = next_part(rest);
        rest = after;
        match part {
            CommentPart::Tag { key, .. } if is_tracer_key(key) => {}
            CommentPart::Tag { whole, .. } => tags.push(whole),
            CommentPart::Text(text) if text.trim().is_empty() => {}
            CommentPart::Text(text) => texts.push(text.trim()),
        }
    }
    let own = if texts.is_empty() { tags } else { texts };
    match own.as_slice() {
        [] => None,
        [one] => Some(Cow::Borrowed(one)),
        several => Some(Cow::Owned(several.join(","))),
    }
}

/// The text between two commas.
enum CommentPart<'c> {
    Text(&'c str),
    Tag { key: &'c str, whole: &'c str },
}

fn next_part(comment: &str) -> (CommentPart<'_>, &str) {
    let text = || {
        let (text, rest) = comment.split_once(',').unwrap_or((comment, ""));
        (CommentPart::Text(text), rest)
    };
    let trimmed = comment.trim_start();
    let Some((key, value)) = trimmed.split_once("='").filter(|(key, _)| is_key(key)) else {
        return text();
    };
    let Some(end) = closing_quote(value) else { return text() };
    let (whole, after) = trimmed.split_at(key.len() + "='".len() + end + 1);
    let after = after.trim_start();
    match after.strip_prefix(',') {
        Some(rest) => (CommentPart::Tag { key, whole }, rest),
        None if after.is_empty() => (CommentPart::Tag { key, whole }, ""),
        None => text(),
    }
}

/// The position of the closing quote. Quotes in the value are escaped.
fn closing_quote(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let ends = byte == b'\'' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn is_key(text: &str) -> bool {
    let of_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte);
    !text.is_empty() && text.bytes().all(of_key)
}

fn is_tracer_key(key: &str) -> bool {
    key.starts_with("dd") || matches!(key, "traceparent" | "tracestate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_tracers_are_no_part_of_a_comment() {
        let parent = "traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'";
        for (comment, expected) in [
            ("cart.history", Some("cart.history")),
            ("cart.history, page 3", Some("cart.history, page 3")),
            ("cart.history,dddbs='x'", Some("cart.history")),
            (&format!("cart.history,dddb='shop',dde='prod',{parent}"), Some("cart.history")),
            (&format!("dddb='shop',{parent},cart.history"), Some("cart.history")),
            (
                &format!("/*action='pay',controller='cart',{parent}*/"),
                Some("action='pay',controller='cart'"),
            ),
            (&format!("{parent},tracestate='a=1,b=2'"), None),
            ("dddb='shop',dddbs='orders',ddpv='1.2.3'", None),
            (r"dddb='it\'s, or not',cart", Some("cart")),
            ("what='it", Some("what='it")),
            ("a='b'c", Some("a='b'c")),
            ("x = 'y', z='q'", Some("x = 'y'")),
            ("", None),
            ("/* */", None),
        ] {
            assert_eq!(without_tracer_tags(comment).as_deref(), expected, "{comment}");
        }
    }
}
