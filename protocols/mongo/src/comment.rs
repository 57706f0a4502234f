//! The `comment` of a request: its call site in the client's program, and its trace.

mod tags;

use crate::{
    element::{Element, Elements, elements, kind},
    message_view::MessageView,
};
use std::{borrow::Cow, fmt::Write};

/// The longest call site, in bytes.
const MAX_CALL_SITE: usize = 128;
/// The longest text of a comment, in bytes.
const MAX_TEXT: usize = 256;
/// The longest JSON that is read with its escapes, in bytes.
const MAX_JSON: usize = 4 * 1024;
/// How deep the documents of a comment are printed.
const MAX_DEPTH: usize = 4;

/// The comment of a request: `comment` of a command, `$comment` of a legacy query.
pub(crate) fn find<'b>(message: &MessageView<'b>) -> Option<Element<'b>> {
    let of = |mut fields: Elements<'b>| fields.find(|field| is_comment(*field));
    of(elements(message.body)).or_else(|| of(message.query_fields()))
}

/// Every field that a server may use as the request's comment, including those of a legacy wrapper
/// and of an explained command.
pub(crate) fn all<'b>(message: &MessageView<'b>) -> Vec<Element<'b>> {
    let mut all: Vec<Element<'b>> = elements(message.body).filter(|it| is_comment(*it)).collect();
    all.extend(message.query_fields().filter(|it| is_comment(*it)));
    let mut body = message.body;
    while let Some(first) = elements(body).next().filter(|first| first.name == b"explain") {
        body = if first.kind == kind::DOCUMENT { first.value } else { &[] };
        all.extend(elements(body).filter(|it| is_comment(*it)));
    }
    all
}

/// Whether a command has both `comment` and `$comment`.
pub(crate) fn has_two_comments(message: &MessageView<'_>) -> bool {
    elements(message.body).filter(|field| is_comment(*field)).nth(1).is_some()
}

/// Whether this field of a request is its comment.
pub(crate) fn is_comment(field: Element<'_>) -> bool {
    matches!(field.name, b"comment" | b"$comment")
}

/// The call site of a request: `callingFunction` or `text` of a comment that is a document or JSON,
/// or else the comment itself without what tracers add to it. `None` if it differs with each
/// request.
pub(crate) fn call_site<'b>(comment: &Element<'b>) -> Option<Cow<'b, str>> {
    match comment.kind {
        kind::DOCUMENT => {
            let text = |key: &str| field(comment, key.as_bytes())?.text();
            CALL_SITE_KEYS.into_iter().find_map(text).and_then(|text| clean_call_site(text.into()))
        }
        // Tracers append an element of their own.
        kind::ARRAY => {
            comment.elements()?.filter(|it| it.text().is_some()).find_map(|it| call_site(&it))
        }
        _ => {
            let text = comment.text()?;
            match text.trim_start().starts_with('{') {
                true => CALL_SITE_KEYS
                    .into_iter()
                    .find_map(|key| json_string(text, key))
                    .and_then(clean_call_site),
                false => clean_call_site(text.into()),
            }
        }
    }
}

/// The keys that hold the call site in a comment of several fields. OpenTelemetry puts the
/// application's own comment under `text`.
const CALL_SITE_KEYS: [&str; 2] = ["callingFunction", "text"];

/// The call site as the application wrote it.
fn clean_call_site(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let own = match text {
        Cow::Borrowed(text) => tags::without_tracer_tags(text)?,
        Cow::Owned(text) => tags::without_tracer_tags(&text)?.into_owned().into(),
    };
    if own.is_empty() || traceparent(&own).is_some() {
        return None;
    }
    Some(match own {
        Cow::Borrowed(own) => printable(own, MAX_CALL_SITE),
        Cow::Owned(own) => printable(&own, MAX_CALL_SITE).into_owned().into(),
    })
}

/// The comment as text.
pub(crate) fn text<'b>(comment: &Element<'b>) -> Cow<'b, str> {
    match comment.text() {
        Some(text) => printable(text, MAX_TEXT),
        None => {
            let mut out = String::new();
            json(comment, MAX_DEPTH, &mut out);
            Cow::Owned(printable(&out, MAX_TEXT).into_owned())
        }
    }
}

/// The span that sent the request (w3.org/TR/trace-context): the `traceparent` of its telemetry
/// section or its comment.
pub(crate) fn parent_span<'b>(message: &MessageView<'b>) -> Option<&'b str> {
    let carried = telemetry(message, b"traceparent").and_then(|parent| traceparent(parent));
    carried.or_else(|| {
        let comment = find(message)?;
        match comment.kind {
            kind::DOCUMENT => traceparent(field(&comment, b"traceparent")?.text()?),
            kind::ARRAY => comment.elements()?.find_map(|it| traceparent(it.text()?)),
            _ => traceparent(comment.text()?),
        }
    })
}

/// The `tracestate` of the request, from its telemetry section or a comment that is a document.
pub(crate) fn trace_state<'b>(message: &MessageView<'b>) -> Option<&'b str> {
    telemetry(message, b"tracestate").or_else(|| field(&find(message)?, b"tracestate")?.text())
}

/// The trace id of a `traceparent`: 32 hex digits.
pub(crate) fn trace_id(traceparent: &str) -> &str {
    traceparent.get(3..35).unwrap_or_default()
}

/// A text of the request's telemetry section.
fn telemetry<'b>(message: &MessageView<'b>, key: &[u8]) -> Option<&'b str> {
    let otel = elements(message.telemetry).find(|field| field.name == b"otel")?;
    field(&otel, key)?.text()
}

fn field<'b>(document: &Element<'b>, key: &[u8]) -> Option<Element<'b>> {
    document.elements()?.find(|field| field.name == key)
}

/// The first `version-trace-parent-flags` in a text.
fn traceparent(text: &str) -> Option<&str> {
    let hex = |range: &[u8]| range.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let bytes = text.as_bytes();
    let starts = bytes.windows(55).position(|w| {
        let dashes = [w[2], w[35], w[52]] == [b'-'; 3];
        let digits = hex(&w[..2]) && hex(&w[3..35]) && hex(&w[36..52]) && hex(&w[53..]);
        let invalid = &w[..2] == b"ff" || w[3..35].iter().all(|digit| *digit == b'0');
        dashes && digits && !invalid
    })?;
    text.get(starts..starts + 55)
}

/// The string under `key` in a JSON text.
fn json_string<'b>(text: &'b str, key: &str) -> Option<Cow<'b, str>> {
    let json = text.trim().strip_prefix('{')?;
    if json.contains('\\') {
        let json = Some(text).filter(|text| text.len() <= MAX_JSON)?;
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
        return fields.get(key)?.as_str().map(|text| text.to_owned().into());
    }
    // Without escapes, a key is what is between quotes and before a colon.
    json.match_indices(key).find_map(|(at, _)| {
        let value = json[..at].strip_suffix('"').and(json[at + key.len()..].strip_prefix('"'))?;
        let value = value.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        value.split_once('"').map(|(value, _)| value.into())
    })
}

/// A value roughly as JSON, until the text is long enough.
fn json(element: &Element<'_>, depth: usize, out: &mut String) {
    if out.len() > MAX_TEXT {
        return;
    }
    if let Some(text) = element.text() {
        let _ = write!(out, "{text:?}");
    } else if element.kind == kind::DOUBLE {
        let value = element.value.first_chunk().map(|value| f64::from_le_bytes(*value));
        let _ = write!(out, "{}", value.unwrap_or_default());
    } else if element.kind == kind::BOOLEAN {
        out.push_str(if element.number() == Some(1) { "true" } else { "false" });
    } else if let Some(number) = element.number() {
        let _ = write!(out, "{number}");
    } else if let Some(inner) = element.elements().filter(|_| depth > 0) {
        let keys = element.kind == kind::DOCUMENT;
        out.push(if keys { '{' } else { '[' });
        for (at, element) in inner.enumerate() {
            if out.len() > MAX_TEXT {
                break;
            }
            out.push_str(if at > 0 { "," } else { "" });
            if keys {
                let _ = write!(out, "{:?}:", String::from_utf8_lossy(element.name));
            }
            json(&element, depth - 1, out);
        }
        out.push(if keys { '}' } else { ']' });
    } else {
        out.push_str(if element.kind == kind::NULL { "null" } else { "\"?\"" });
    }
}

/// A client's text, at most `longest` bytes of it, without characters that could break a log line
/// or control a terminal.
pub(crate) fn printable(text: &str, longest: usize) -> Cow<'_, str> {
    let text = truncate(text, longest);
    if text.chars().any(is_unprintable) {
        let mut cleaned: String = text
            .chars()
            .map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        cleaned.truncate(truncate(&cleaned, longest).len());
        Cow::Owned(cleaned)
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a character is a control character or changes the direction of text (Unicode Standard
/// Annex 9).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The front of a text: at most `longest` bytes, without a partial character.
pub(crate) fn truncate(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{body, command, msg, query};
    use bson::{Bson, doc};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of<T>(comment: impl Into<Bson>, read: impl Fn(&Element<'_>) -> T) -> T {
        let bytes = command(1, doc! {"find": "c", "comment": comment.into(), "$db": "d"});
        read(&find(&MessageView::read(&bytes).unwrap()).unwrap())
    }

    #[test]
    fn a_call_site_is_a_text_or_the_calling_function() {
        let site = |comment: Bson| of(comment, |c| call_site(c).map(Cow::into_owned));
        assert_eq!(site("checkout.py:12".into()).as_deref(), Some("checkout.py:12"));
        assert_eq!(site(r#"{"callingFunction": "pay"}"#.into()).as_deref(), Some("pay"));
        assert_eq!(site(doc! {"callingFunction": "pay"}.into()).as_deref(), Some("pay"));
        assert_eq!(site(doc! {"other": 1}.into()), None);
        let cart = Some("cart.history");
        let tagged = format!("cart.history,dddb='shop',traceparent='{PARENT}'");
        assert_eq!(site(tagged.as_str().into()).as_deref(), cart);
        assert_eq!(
            site(doc! {"traceparent": PARENT, "text": "cart.history"}.into()).as_deref(),
            cart
        );
        assert_eq!(site(doc! {"traceparent": PARENT, "text": tagged}.into()).as_deref(), cart);
        let json = format!(r#"{{"note":"text","text": "cart.history","traceparent":"{PARENT}"}}"#);
        assert_eq!(site(json.into()).as_deref(), cart);
        let escaped =
            r#"{"note": "a \"callingFunction\": \"no\"", "callingFunction": "p\u0061y\n"}"#;
        assert_eq!(site(escaped.into()).as_deref(), Some("pay"));
        assert_eq!(site(r#"{"a": "\"}"#.into()), None);
        let array =
            Bson::from(vec![format!("dddb='shop',traceparent='{PARENT}'"), "cart.history".into()]);
        assert_eq!(site(array).as_deref(), cart);
        assert_eq!(site("dddb='shop',ddpv='1.2.3'".into()), None);
        assert_eq!(site(format!("traceparent='{PARENT}'").into()), None);
        assert_eq!(site(7.into()), None);
        assert_eq!(site("é".repeat(500).into()).unwrap().len(), 128);
    }

    #[test]
    fn a_comment_of_any_type_has_a_text() {
        let shown = |comment: Bson| of(comment, |c| text(c).into_owned());
        assert_eq!(shown("two\nlines".into()), "two\u{fffd}lines");
        assert_eq!(shown("a\u{202e}b".into()), "a\u{fffd}b");
        assert_eq!(shown(doc! {"a": 1, "b": [true, "x"]}.into()), r#"{"a":1,"b":[true,"x"]}"#);
        assert_eq!(shown(Bson::Null), "null");
        assert!(shown(doc! {"a": "x".repeat(9000)}.into()).len() <= MAX_TEXT);
        assert!(shown("\u{1}".repeat(9000).into()).len() <= MAX_TEXT);
    }

    #[test]
    fn a_trace_is_found_wherever_it_may_be_carried() {
        let find = doc! {"find": "c", "$db": "d"};
        let telemetry = doc! {"otel": {"traceparent": PARENT}};
        let carriers = [
            msg(1, 0, 0, &[body(3, &telemetry), body(0, &find)]),
            msg(1, 0, 0, &[body(0, &find), body(3, &telemetry)]),
            command(1, doc! {"find": "c", "comment": PARENT}),
            command(1, doc! {"find": "c", "comment": format!("x='y',traceparent='{PARENT}'")}),
            command(1, doc! {"find": "c", "comment": format!(r#"{{"traceparent":"{PARENT}"}}"#)}),
            command(1, doc! {"find": "c", "comment": {"traceparent": PARENT}}),
            query(1, "d.c", &doc! {"$query": {}, "$comment": PARENT}),
        ];
        for bytes in carriers {
            let parent = parent_span(&MessageView::read(&bytes).unwrap());
            assert_eq!((parent, parent.map(trace_id)), (Some(PARENT), Some(TRACE)));
        }
    }

    #[test]
    fn datadog_carries_a_trace_among_its_own_tags() {
        let tags =
            format!("dddbs='orders',dde='prod',ddps='shop',ddpv='1.2',traceparent='{PARENT}'");
        for comment in
            [Bson::from(tags.as_str()), Bson::from(vec!["cart".to_owned(), tags.clone()])]
        {
            let bytes = command(1, doc! {"find": "c", "comment": comment});
            assert_eq!(parent_span(&MessageView::read(&bytes).unwrap()), Some(PARENT));
        }
    }

    #[test]
    fn the_section_comes_before_the_comment() {
        let own = PARENT.replace("4bf9", "0000");
        let telemetry = doc! {"otel": {"traceparent": &own, "tracestate": "a=1"}};
        let find = doc! {"find": "c", "comment": {"traceparent": PARENT, "tracestate": "b=2"}};
        let bytes = msg(1, 0, 0, &[body(3, &telemetry), body(0, &find)]);
        let message = MessageView::read(&bytes).unwrap();
        assert_eq!(parent_span(&message), Some(&*own));
        assert_eq!(trace_state(&message), Some("a=1"));
        let bytes = command(1, find);
        let message = MessageView::read(&bytes).unwrap();
        assert_eq!((parent_span(&message), trace_state(&message)), (Some(PARENT), Some("b=2")));
    }

    #[test]
    fn what_is_no_trace_is_not_taken_for_one() {
        for text in ["", "00-xyz", &PARENT.replace("4bf9", "4BF9"), &PARENT.replacen("00", "ff", 1)]
        {
            assert_eq!(traceparent(text), None, "{text}");
        }
    }
}
