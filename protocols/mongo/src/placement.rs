//! Where a request may go: by what it does, by its read preference, and by what it continues.
//!
//! Sources: the driver specifications `server-selection`, `max-staleness` and `transactions`
//! ("Mongos pinning").

use crate::{
    bson_writer::BsonWriter,
    call_sites::fnv1a,
    commands::{ReplyKind, WriteEffect},
    element::{Element, elements, kind},
    header::opcode,
    message_edit::{editable_front, offset_in, replaced_front},
    message_view::MessageView,
    parsed_command::ParsedCommand,
    write_effect,
};
use operation::{ReadMode, ReadPreference, TagSet};
use std::time::Duration;

/// The key of `$readPreference` in a command.
const READ_PREFERENCE: &[u8] = b"$readPreference";

/// The smallest `maxStalenessSeconds` that servers accept.
const MIN_STALENESS: Duration = Duration::from_secs(90);

/// Where a request may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestPlace {
    /// It may write, or its effect is not known.
    Write,
    /// It reads where its `$readPreference` says; `None`: from the primary.
    Read(Option<ReadPreference>),
    /// It continues or ends this cursor.
    Cursor(i64),
    /// It belongs to a transaction of the session with this key.
    Transaction { session: u64, begins: bool, ends: bool },
}

impl RequestPlace {
    /// Where a request may go whose front is here.
    pub(crate) fn of(message: &MessageView<'_>, asked: &ParsedCommand) -> Self {
        if asked.in_transaction {
            let ends = matches!(asked.name, "commitTransaction" | "abortTransaction");
            let session = key_of_session(message.body);
            let begins = begins_transaction(message.body);
            let transaction = |session| Self::Transaction { session, begins, ends };
            return session.map_or(Self::Write, transaction);
        }
        match asked.reply_kind {
            ReplyKind::GetMore => return Self::Cursor(asked.cursor_id),
            _ if asked.name == "killCursors" => {
                return first_cursor(message.body).map_or(Self::Write, Self::Cursor);
            }
            _ => {}
        }
        let reads = match asked.command.write_effect {
            // What is not clear about the message counts as a write.
            WriteEffect::Reads => !message.has_duplicate_section && !message.has_unknown_section,
            WriteEffect::Writes => false,
            _ => write_effect::writes(message) == Some(false),
        };
        if message.header.opcode != opcode::MSG || !reads {
            return Self::Write;
        }
        let written = asked.has_read_preference.then(|| read_preference(message.body)).flatten();
        Self::Read(written.filter(|preference| preference.mode != ReadMode::Primary))
    }
}

/// The key of a cursor among pins.
pub(crate) fn cursor_key(id: i64) -> u64 {
    fnv1a(&id.to_le_bytes())
}

/// The key of a session among pins, and of its transaction. `session` is the encoded `lsid`.
pub(crate) fn session_key(session: &[u8]) -> u64 {
    let id = elements(session).find(|field| field.name == b"id");
    fnv1a(id.map_or(&[], |id| id.value))
}

fn key_of_session(body: &[u8]) -> Option<u64> {
    let session = elements(body).find(|field| field.name == b"lsid")?;
    (session.kind == kind::DOCUMENT).then(|| session_key(session.value))
}

/// Whether a command of a transaction is its first one.
fn begins_transaction(body: &[u8]) -> bool {
    elements(body).any(|field| field.name == b"startTransaction" && field.truthy())
}

/// The cursor that a `killCursors` names first: drivers send one for each cursor.
fn first_cursor(body: &[u8]) -> Option<i64> {
    let list = elements(body).find(|field| field.name == b"cursors")?;
    list.elements()?.next()?.number()
}

/// A command's `$readPreference`. What a server would refuse is left to the primary to refuse.
fn read_preference(body: &[u8]) -> Option<ReadPreference> {
    let written = elements(body).find(|field| field.name == READ_PREFERENCE)?;
    let mut preference = ReadPreference::of_mode(ReadMode::Primary);
    for field in written.elements()? {
        match field.name {
            b"mode" => preference.mode = ReadMode::from_driver(field.text()?)?,
            b"tags" => preference.tag_sets = field.elements()?.map(|set| tag_set(&set)).collect(),
            b"maxStalenessSeconds" => {
                let seconds = field.number().and_then(|seconds| u64::try_from(seconds).ok());
                preference.max_staleness = seconds.map(Duration::from_secs);
            }
            _ => {}
        }
    }
    Some(preference)
}

/// The tags in a document.
pub(crate) fn tag_set(document: &Element<'_>) -> TagSet {
    let tags = document.elements().into_iter().flatten();
    let text = |field: &Element<'_>| {
        let name = std::str::from_utf8(field.name).ok()?;
        Some((name.to_owned(), field.text()?.to_owned()))
    };
    tags.filter_map(|field| text(&field)).collect()
}

/// The front of a request with this read preference: how many bytes are replaced, and with which. Of a
/// request that another preference than `primary` was written in, nothing is replaced.
pub(crate) fn with_read_preference(
    front: &[u8],
    preference: &ReadPreference,
) -> Option<(usize, Vec<u8>)> {
    let message = editable_front(front)?;
    let mut fields = elements(message.body);
    let first = fields.next()?;
    let first_end = offset_in(front, first.value) + first.value.len();
    let old = fields.find(|field| field.name == READ_PREFERENCE);
    let mut out = front[..first_end].to_vec();
    out.extend_from_slice(&encoded(preference));
    let end = match old {
        None => first_end,
        Some(old) => {
            // The kind, which precedes the name.
            let start = offset_in(front, old.name) - 1;
            out.extend_from_slice(&front[first_end..start]);
            offset_in(front, old.value) + old.value.len()
        }
    };
    replaced_front(front, &message, end, out)
}

/// The element `$readPreference` with this preference.
fn encoded(preference: &ReadPreference) -> Vec<u8> {
    let ReadPreference { mode, tag_sets, max_staleness } = preference;
    let mut document = BsonWriter::new();
    document.string("mode", mode.as_str());
    if !tag_sets.is_empty() {
        let mut list = BsonWriter::new();
        for (index, tags) in tag_sets.iter().enumerate() {
            let mut set = BsonWriter::new();
            tags.iter().for_each(|(name, value)| set.string(name, value));
            list.element(kind::DOCUMENT, index.to_string().as_bytes(), &set.finish());
        }
        document.array("tags", list);
    }
    if let Some(seconds) = max_staleness.filter(|most| *most >= MIN_STALENESS) {
        document.int64("maxStalenessSeconds", seconds.as_secs().cast_signed());
    }
    let mut element = vec![kind::DOCUMENT];
    element.extend_from_slice(READ_PREFERENCE);
    element.push(0);
    element.extend_from_slice(&document.finish());
    element
}

#[cfg(test)]
mod tests;
