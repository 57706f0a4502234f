//! Errors by which a member says that it is not what the request needs any more: it is no primary, or it
//! shuts down.
//!
//! A driver that gets one marks its server as unknown and clears its pool. Clients of a pool have one
//! server, the proxy, which is still there; so the errors leave as a mongos lets them leave: as
//! `HostUnreachable`, with their labels, and without the words by which old drivers recognize them.
//! Sources: `server-discovery-and-monitoring` ("Determining if an Error is a State Change Error"), and
//! mongos (`rewrite_state_change_errors`).

use crate::{
    bson_writer::{BsonWriter, string_array, string_value},
    element::{Element, elements, kind},
    message_edit::{ElementEdit, body_range, edit, splice},
};

/// The labels of an error, which drivers follow.
const LABELS: &[u8] = b"errorLabels";

/// What a state-change error becomes.
const HOST_UNREACHABLE: (i32, &str) = (6, "HostUnreachable");

/// Words by which drivers recognize a state change, and what replaces them.
const WORDS: [(&str, &str); 3] = [
    ("not master", "not primary"),
    ("node is recovering", "member is recovering"),
    ("Not master", "Not primary"),
];

/// Whether this is the code of an error by which a member says that it is no primary, recovers, or shuts
/// down.
pub(crate) fn is_state_change(code: i32) -> bool {
    // NotWritablePrimary, NotPrimaryNoSecondaryOk, LegacyNotPrimary; InterruptedAtShutdown,
    // InterruptedDueToReplStateChange, NotPrimaryOrSecondary, PrimarySteppedDown, ShutdownInProgress.
    matches!(code, 10107 | 13435 | 10058 | 11600 | 11602 | 13436 | 189 | 91)
}

/// Whether a member that says this has done nothing: it is no primary.
pub(crate) fn is_refusal(code: i32) -> bool {
    matches!(code, 10107 | 13435 | 10058)
}

/// The reply without state-change errors, and with this label. Takes and returns a whole message; `None` if
/// there is none in it.
pub(crate) fn hide(message: &[u8], label: Option<&str>) -> Option<Vec<u8>> {
    let body = body_range(message)?;
    let changed = hidden(&message[body.clone()])?;
    let labelled = label.and_then(|label| with_label(&changed, label));
    splice(message, body, labelled.as_deref().unwrap_or(&changed))
}

/// The document with one more error label; `None` if it has that label.
fn with_label(document: &[u8], label: &str) -> Option<Vec<u8>> {
    let given = elements(document).find(|field| field.name == LABELS);
    let given = given.as_ref().and_then(Element::elements).into_iter().flatten();
    let given: Vec<_> = given.filter_map(|field| field.text()).collect();
    if given.contains(&label) {
        return None;
    }
    let mut out = BsonWriter::new();
    for field in elements(document).filter(|field| field.name != LABELS) {
        out.element(field.kind, field.name, field.value);
    }
    out.array("errorLabels", string_array(given.into_iter().chain([label])));
    Some(out.finish())
}

/// A reply's body, or one of the errors in it, without state-change errors.
fn hidden(document: &[u8]) -> Option<Vec<u8>> {
    let code = elements(document).find(|field| field.name == b"code").and_then(|it| it.number());
    let changes_state = code.and_then(|code| i32::try_from(code).ok()).is_some_and(is_state_change);
    edit(document, |field| match field.name {
        b"code" if changes_state && field.kind == kind::INT32 => {
            ElementEdit::Put(HOST_UNREACHABLE.0.to_le_bytes().to_vec())
        }
        b"codeName" if changes_state => ElementEdit::Put(string_value(HOST_UNREACHABLE.1)),
        b"errmsg" if changes_state => reworded(field),
        b"topologyVersion" => ElementEdit::Drop,
        b"writeConcernError" if field.kind == kind::DOCUMENT => {
            hidden(field.value).map_or(ElementEdit::Keep, ElementEdit::Put)
        }
        b"writeErrors" if field.kind == kind::ARRAY => {
            let inner = edit(field.value, |error| match error.kind {
                kind::DOCUMENT => hidden(error.value).map_or(ElementEdit::Keep, ElementEdit::Put),
                _ => ElementEdit::Keep,
            });
            inner.map_or(ElementEdit::Keep, ElementEdit::Put)
        }
        _ => ElementEdit::Keep,
    })
}

fn reworded(message: &Element<'_>) -> ElementEdit {
    let Some(text) = message.text() else { return ElementEdit::Keep };
    let reworded =
        WORDS.iter().fold(text.to_owned(), |text, (words, instead)| text.replace(words, instead));
    ElementEdit::Put(string_value(&reworded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::answer;
    use bson::{Document, doc};

    fn hidden_in(reply: Document) -> Option<Vec<u8>> {
        hide(&answer(1, reply), None)
    }

    #[test]
    fn a_state_change_becomes_an_unreachable_host() {
        let changed = hidden_in(doc! {
            "ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary",
            "errmsg": "not master, try another", "errorLabels": ["RetryableWriteError"],
            "topologyVersion": { "counter": 1_i64 },
        });
        let expected = answer(
            1,
            doc! {
                "ok": 0.0, "code": 6, "codeName": "HostUnreachable",
                "errmsg": "not primary, try another", "errorLabels": ["RetryableWriteError"],
            },
        );
        assert_eq!(changed, Some(expected));
    }

    #[test]
    fn a_state_change_inside_a_reply_is_hidden_too() {
        let inside = |code: i32, name: &str| {
            let error = doc! { "code": code, "codeName": name, "errmsg": "interrupted" };
            let write = doc! { "index": 0, "code": code, "errmsg": "interrupted" };
            doc! { "ok": 1.0, "writeErrors": [write], "writeConcernError": error }
        };
        let changed = hidden_in(inside(11602, "InterruptedDueToReplStateChange"));
        assert_eq!(changed, Some(answer(1, inside(6, "HostUnreachable"))));
    }

    #[test]
    fn a_label_is_added_to_those_of_the_server() {
        let error = |labels: &[&str]| doc! { "ok": 0.0, "code": 91, "errorLabels": labels };
        let hide = |reply, label| hide(&answer(1, reply), Some(label)).unwrap();
        let hidden =
            |labels: &[&str]| answer(1, doc! { "ok": 0.0, "code": 6, "errorLabels": labels });
        assert_eq!(hide(error(&["A"]), "A"), hidden(&["A"]));
        assert_eq!(hide(error(&["A"]), "B"), hidden(&["A", "B"]));
        let bare = hide(doc! { "ok": 0.0, "code": 91 }, "B");
        assert_eq!(bare, hidden(&["B"]));
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        assert_eq!(
            hidden_in(doc! { "ok": 0.0, "code": 11000, "errmsg": "not master of one" }),
            None
        );
    }
}
