//! Makes writes retryable: a server does a write with a `txnNumber` once however often it arrives.
//!
//! The driver's session can't be used: it may number its own writes and transactions later. So the proxy
//! has sessions of its own, one for each write under way. Source: the driver specification
//! `retryable-writes` ("Supported Write Operations", "Transaction ID").

use crate::{
    bson_writer::BsonWriter,
    element::{Element, elements, kind},
    message_edit::{
        ElementEdit, body_range, edit, editable_front, offset_in, replaced_front, splice,
    },
    message_view::{MessageView, document},
    parsed_command::ParsedCommand,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// The subtype of a UUID (RFC 9562) among binary data.
const UUID: u8 = 4;

/// The sessions of the proxy that no write uses.
#[derive(Debug, Default)]
pub(crate) struct ProxySessions {
    idle: Mutex<Vec<ProxySession>>,
    /// The servers support no retryable writes.
    unsupported: AtomicBool,
}

/// A session, and the number of its last write.
#[derive(Debug)]
struct ProxySession {
    id: [u8; 16],
    number: i64,
}

/// A session that a write uses until dropped.
#[derive(Debug)]
pub(crate) struct BorrowedSession {
    sessions: Arc<ProxySessions>,
    session: Option<ProxySession>,
}

impl ProxySessions {
    /// A session with a number that it has not used. Idle sessions are as many as writes were under way at
    /// the same time.
    pub(crate) fn borrow(self: &Arc<Self>) -> BorrowedSession {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = idle.unwrap_or_else(ProxySession::new);
        session.number += 1;
        BorrowedSession { sessions: Arc::clone(self), session: Some(session) }
    }

    /// Whether the servers support retryable writes, as far as is known.
    pub(crate) fn are_supported(&self) -> bool {
        !self.unsupported.load(Relaxed)
    }

    /// Records that the servers support no retryable writes. Returns whether that is new.
    pub(crate) fn record_unsupported(&self) -> bool {
        !self.unsupported.swap(true, Relaxed)
    }
}

impl ProxySession {
    fn new() -> Self {
        let mut id = [0; 16];
        fastrand::fill(&mut id);
        // Version 4 and the variant of RFC 9562.
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        Self { id, number: 0 }
    }
}

impl Drop for BorrowedSession {
    fn drop(&mut self) {
        let mut idle = self.sessions.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.session.take());
    }
}

impl BorrowedSession {
    /// The front of a write with this session and its number: how many bytes are replaced, and with which.
    pub(crate) fn add_to(&self, front: &[u8]) -> Option<(usize, Vec<u8>)> {
        let ProxySession { id, number } = self.session.as_ref()?;
        let message = editable_front(front)?;
        let mut body = BsonWriter::new();
        let mut walk = elements(message.body);
        for field in (&mut walk).filter(|field| field.name != b"lsid") {
            body.element(field.kind, field.name, field.value);
        }
        if !walk.is_complete() {
            return None;
        }
        let mut session = BsonWriter::new();
        let mut binary = (id.len() as u32).to_le_bytes().to_vec();
        binary.push(UUID);
        binary.extend_from_slice(id);
        session.element(kind::BINARY, b"id", &binary);
        body.element(kind::DOCUMENT, b"lsid", &session.finish());
        body.int64("txnNumber", *number);
        let start = offset_in(front, message.body);
        let out = [&front[..start], &body.finish()].concat();
        replaced_front(front, &message, start + message.body.len(), out)
    }
}

/// A whole request without the number that was added to it.
pub(crate) fn without_number(request: &[u8]) -> Option<Vec<u8>> {
    let body = body_range(request)?;
    let changed = edit(&request[body.clone()], |field| match field.name {
        b"txnNumber" => ElementEdit::Drop,
        _ => ElementEdit::Keep,
    })?;
    splice(request, body, &changed)
}

/// Whether a write that is here to its end can be made retryable: it changes one document by each of its
/// statements.
pub(crate) fn can_be_retryable(message: &MessageView<'_>, asked: &ParsedCommand) -> bool {
    if message.truncated || !message.complete || message.has_duplicate_section {
        return false;
    }
    let fits = match asked.name {
        "insert" | "findAndModify" => true,
        "update" => {
            all_statements(message, b"updates", |field| field.name != b"multi" || !field.truthy())
        }
        "delete" => all_statements(message, b"deletes", |field| {
            field.name != b"limit" || field.number() == Some(1)
        }),
        _ => false,
    };
    fits && !is_unacknowledged(message.body)
}

/// Whether each field of each statement passes the test.
fn all_statements(
    message: &MessageView<'_>,
    name: &[u8],
    mut fits: impl FnMut(&Element<'_>) -> bool,
) -> bool {
    let mut statement_fits = |statement: &[u8]| elements(statement).all(|field| fits(&field));
    let listed = elements(message.body).find(|field| field.name == name);
    let mut listed = listed.as_ref().and_then(Element::elements).into_iter().flatten();
    if !listed.all(|statement| statement_fits(statement.value)) {
        return false;
    }
    let mut rest = message.sequence(name).unwrap_or_default();
    while let Some(statement) = document(rest) {
        if statement.is_empty() || !statement_fits(statement) {
            return false;
        }
        rest = &rest[statement.len()..];
    }
    rest.is_empty()
}

fn is_unacknowledged(body: &[u8]) -> bool {
    let concern = elements(body).find(|field| field.name == b"writeConcern");
    let mut fields = concern.as_ref().and_then(Element::elements).into_iter().flatten();
    fields.any(|field| field.name == b"w" && field.number() == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        number::u32_at,
        testing::{body, command, msg, sequence},
    };
    use bson::{Bson, Document, doc, spec::BinarySubtype};

    fn can_be(bytes: &[u8]) -> bool {
        let message = MessageView::read(bytes).unwrap();
        let asked = ParsedCommand::parse(&message, &mut String::new());
        can_be_retryable(&message, &asked)
    }

    fn with_sequence(head: Document, name: &str, statements: &[Document]) -> Vec<u8> {
        msg(1, 0, 0, &[body(0, &head), sequence(name, statements)])
    }

    fn body_of(bytes: &[u8]) -> Document {
        Document::from_reader(&bytes[body_range(bytes).unwrap()]).unwrap()
    }

    #[test]
    fn writes_of_single_documents_can_be_retryable() {
        let update = |multi| doc! { "q": {}, "u": {}, "multi": multi };
        let delete = |limit: i32| doc! { "q": {}, "limit": limit };
        let heads = |name: &str| doc! { name: "orders", "$db": "shop" };
        for (bytes, expected) in [
            (command(1, doc! { "insert": "orders", "documents": [{}, {}], "$db": "shop" }), true),
            (command(1, doc! { "findAndModify": "orders", "$db": "shop" }), true),
            (command(1, doc! { "update": "o", "updates": [update(false)], "$db": "s" }), true),
            (command(1, doc! { "update": "o", "updates": [update(true)], "$db": "s" }), false),
            (command(1, doc! { "delete": "o", "deletes": [delete(1), delete(0)] }), false),
            (with_sequence(heads("delete"), "deletes", &[delete(1), delete(1)]), true),
            (with_sequence(heads("delete"), "deletes", &[delete(1), delete(0)]), false),
            (with_sequence(heads("update"), "updates", &[update(false), update(true)]), false),
            (with_sequence(heads("insert"), "documents", &[doc! {}]), true),
            (
                command(1, doc! { "insert": "o", "documents": [], "writeConcern": { "w": 0 } }),
                false,
            ),
            (command(1, doc! { "createIndexes": "o", "$db": "s" }), false),
        ] {
            assert_eq!(can_be(&bytes), expected, "{:?}", MessageView::read(&bytes).unwrap());
        }
    }

    #[test]
    fn a_write_gets_a_session_of_the_proxy_and_a_number() {
        let sessions = Arc::<ProxySessions>::default();
        let head = doc! { "insert": "orders", "lsid": { "id": 1 }, "$db": "shop" };
        let sent = with_sequence(head, "documents", &[doc! { "_id": 1 }]);
        let borrowed = sessions.borrow();
        let (len, with) = borrowed.add_to(&sent).unwrap();
        let changed = [&with[..], &sent[len..]].concat();
        assert_eq!(u32_at(&changed, 0).unwrap() as usize, changed.len());
        let written = body_of(&changed);
        assert_eq!(written.get_i64("txnNumber").unwrap(), 1);
        let session = written.get_document("lsid").unwrap();
        let Some(Bson::Binary(id)) = session.get("id") else { panic!("{session}") };
        let documents = MessageView::read(&changed).unwrap();
        assert_eq!(documents.sequence(b"documents").unwrap(), doc! { "_id": 1 }.to_vec().unwrap());
        // The next write has another number or another session.
        let other = sessions.borrow().add_to(&sent).unwrap().1;
        assert_ne!(body_of(&[&other[..], &sent[len..]].concat()).get("lsid"), written.get("lsid"));
        drop(borrowed);
        let again = sessions.borrow().add_to(&sent).unwrap().1;
        let again = body_of(&[&again[..], &sent[len..]].concat());
        assert_eq!(again.get_i64("txnNumber").unwrap(), 2);
        assert_eq!((id.subtype, id.bytes.len()), (BinarySubtype::Uuid, 16));
    }

    #[test]
    fn a_number_can_be_taken_away_again() {
        let sent = command(1, doc! { "insert": "orders", "documents": [{}], "$db": "shop" });
        let sessions = Arc::<ProxySessions>::default();
        let (len, with) = sessions.borrow().add_to(&sent).unwrap();
        let changed = [&with[..], &sent[len..]].concat();
        let plain = without_number(&changed).unwrap();
        assert_eq!(u32_at(&plain, 0).unwrap() as usize, plain.len());
        let plain = body_of(&plain);
        assert!(plain.get("txnNumber").is_none() && plain.get("lsid").is_some(), "{plain}");
    }
}
