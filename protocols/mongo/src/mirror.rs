//! Reads that a second deployment gets too, and what both have answered.
//!
//! The copy of a command has nothing of the client's session: a session, a transaction and the times of one
//! deployment (`$clusterTime`, `afterClusterTime`, `atClusterTime`) mean nothing to another one, or are
//! refused by it. Sources: the driver specifications `sessions/driver-sessions` and `causal-consistency`.

use crate::{
    bson_writer::BsonWriter,
    element::{Element, elements, is_complete, kind},
    error_reply,
    header::{HEADER_LEN, Header, opcode},
    message_edit::{ElementEdit, body_range, edit, splice},
    message_view::MessageView,
    number::u32_at,
    parsed_command::ParsedCommand,
    recovery::RequestKind,
    sections::{section_kind, sections},
};
use bytes::BytesMut;
use operation::{AnswerDigest, MirrorExchange, MirrorStep, ShapeHasher};

/// The longest answer of which a copy is kept, in bytes. Most first batches are shorter: they have 101
/// documents.
pub(crate) const MAX_ANSWER: usize = 64 * 1024;

/// The commands that are mirrored, if they only read.
const MIRRORED: [&str; 4] = ["find", "count", "distinct", "aggregate"];

/// The fields of a command that belong to the client's session.
const OF_SESSION: [&[u8]; 5] =
    [b"lsid", b"$clusterTime", b"txnNumber", b"autocommit", b"startTransaction"];

/// The fields of `readConcern` that name a time of the deployment.
const TIMES: [&[u8]; 2] = [b"afterClusterTime", b"atClusterTime"];

/// The request that ends a cursor.
const KILL_CURSORS: u32 = 1;

/// The exchange of a read with the second deployment.
#[derive(Debug)]
pub(crate) struct ReadExchange {
    request: Vec<u8>,
    database: String,
    collection: String,
    /// The cursor that the read has opened.
    cursor: Option<i64>,
}

impl ReadExchange {
    /// The exchange of a whole request; `None` if it is not mirrored. `resource` is its namespace.
    pub(crate) fn of(request: &[u8], kind: RequestKind, resource: &str) -> Option<Self> {
        let message = MessageView::read(request)?;
        let asked = ParsedCommand::parse(&message, &mut String::new());
        let is_plain = message.header.opcode == opcode::MSG
            && message.flags == 0
            && message.complete
            && !message.has_sequences
            && is_complete(message.body);
        let is_mirrored = kind == RequestKind::Read
            && MIRRORED.contains(&asked.name)
            && !(asked.long_poll || asked.tailable || asked.in_transaction || asked.partial)
            && asked.violation.is_none();
        // `aggregate: 1` reads the state of a server, and no collection.
        let first = elements(message.body).next()?;
        let (database, collection) = resource.split_once('.')?;
        (is_plain && is_mirrored && first.kind == kind::STRING).then_some(())?;
        Some(Self {
            request: without_session(message.bytes())?,
            database: database.to_owned(),
            collection: collection.to_owned(),
            cursor: None,
        })
    }
}

/// A whole command without what belongs to the client's session.
fn without_session(message: &[u8]) -> Option<Vec<u8>> {
    let body = body_range(message)?;
    let change = |element: &Element<'_>| match element.name {
        name if OF_SESSION.contains(&name) => ElementEdit::Drop,
        b"readConcern" => without_times(element),
        _ => ElementEdit::Keep,
    };
    match edit(&message[body.clone()], change) {
        Some(changed) => splice(message, body, &changed),
        None => Some(message.to_vec()),
    }
}

fn without_times(concern: &Element<'_>) -> ElementEdit {
    let drop = |element: &Element<'_>| match TIMES.contains(&element.name) {
        true => ElementEdit::Drop,
        false => ElementEdit::Keep,
    };
    edit(concern.value, drop).map_or(ElementEdit::Keep, ElementEdit::Put)
}

impl MirrorExchange for ReadExchange {
    fn write_request(&mut self, out: &mut BytesMut) {
        let Some(cursor) = self.cursor else { return out.extend_from_slice(&self.request) };
        let (mut body, mut cursors) = (BsonWriter::new(), BsonWriter::new());
        cursors.int64("0", cursor);
        body.string("killCursors", &self.collection);
        body.array("cursors", cursors);
        body.string("$db", &self.database);
        error_reply::message(KILL_CURSORS, 0, &body.finish(), out);
    }

    fn read_reply(&mut self, reply: &[u8]) -> MirrorStep {
        let header = match Header::read(reply) {
            Ok(Some(header)) => header,
            Ok(None) => return MirrorStep::NeedMore,
            Err(_) => return MirrorStep::Unreadable,
        };
        let asked = match self.cursor {
            Some(_) => Some(KILL_CURSORS),
            None => u32_at(&self.request, 4),
        };
        if header.opcode != opcode::MSG || Some(header.response_to) != asked {
            return MirrorStep::Unreadable;
        }
        match reply.len().cmp(&(header.len as usize)) {
            std::cmp::Ordering::Less => return MirrorStep::NeedMore,
            std::cmp::Ordering::Greater => return MirrorStep::Unreadable,
            std::cmp::Ordering::Equal if self.cursor.is_some() => return MirrorStep::Ended,
            std::cmp::Ordering::Equal => {}
        }
        let Some(body) = reply_document(&reply[HEADER_LEN..]) else {
            return MirrorStep::Unreadable;
        };
        if !elements(body).any(|field| field.name == b"ok" && field.truthy()) {
            return MirrorStep::Failed;
        }
        let digest = digest(body);
        match cursor_id(body) {
            Some(id) if id != 0 => {
                self.cursor = Some(id);
                MirrorStep::Opened(digest)
            }
            _ => MirrorStep::Answered(digest),
        }
    }

    fn digest(&self, answer: &[u8]) -> Option<AnswerDigest> {
        reply_document(answer).map(digest)
    }
}

/// The document of a reply. `rest` is what follows its header.
fn reply_document(rest: &[u8]) -> Option<&[u8]> {
    let body = sections(rest.get(4..)?).find(|section| section.kind == section_kind::BODY)?.bytes;
    is_complete(body).then_some(body)
}

fn cursor_id(body: &[u8]) -> Option<i64> {
    let cursor = elements(body).find(|field| field.name == b"cursor")?;
    cursor.elements()?.find(|field| field.name == b"id")?.number()
}

/// The digest of the documents of a reply's first batch, or of its values.
fn digest(body: &[u8]) -> AnswerDigest {
    let mut digest = AnswerDigest::default();
    for field in elements(body) {
        match field.name {
            b"cursor" => {
                let fields = field.elements().into_iter().flatten();
                let batches = fields.filter(|field| field.name == b"firstBatch");
                let documents = batches.flat_map(|batch| batch.elements().into_iter().flatten());
                documents.for_each(|document| add(&mut digest, document.kind, document.value));
            }
            b"values" => {
                let values = field.elements().into_iter().flatten();
                values.for_each(|value| add(&mut digest, value.kind, value.value));
            }
            // Servers write the number of documents as an int32, an int64 or a double.
            b"n" => {
                let number = field.number().unwrap_or_default();
                add(&mut digest, kind::INT64, &number.to_le_bytes());
            }
            _ => {}
        }
    }
    digest
}

fn add(digest: &mut AnswerDigest, kind: u8, value: &[u8]) {
    let mut hash = ShapeHasher::new();
    hash.tagged(value, kind);
    digest.items += 1;
    digest.hash = digest.hash.wrapping_add(hash.value());
}

#[cfg(test)]
mod tests;
