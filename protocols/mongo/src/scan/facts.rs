//! The fields that a scan looks for, and their documents.

use crate::{
    element::kind::{ARRAY, DOCUMENT},
    error_codes,
    state_change::{is_refusal, is_state_change},
};
use operation::Outcome;

/// The fields of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageFacts {
    /// `OP_MSG`'s or `OP_REPLY`'s flags.
    pub(crate) flags: u32,
    /// The message cannot be read to its end.
    pub(crate) broken: bool,
    /// Set by the caller: the reply's cursor holds results of operations, not documents.
    pub(crate) bulk_write: bool,
    /// The number of documents in the message.
    pub(crate) documents: u64,
    /// The number of documents that a write affected.
    pub(crate) affected: u64,
    /// The cursor that can be continued; 0 if it is exhausted.
    pub(crate) cursor_id: Option<i64>,
    /// The authentication is complete.
    pub(crate) auth_done: bool,
    /// The reply carries the first step of an authentication.
    pub(crate) has_speculative_auth: bool,
    pub(super) ok: Option<bool>,
    pub(super) code: Option<i32>,
    pub(super) has_write_errors: bool,
    pub(super) write_error_code: Option<i32>,
    pub(super) has_concern_error: bool,
    pub(super) concern_code: Option<i32>,
}

/// The documents that are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    /// A request's body.
    RequestBody,
    /// A reply's body.
    ReplyBody,
    /// An array whose elements are counted.
    CountedArray,
    Cursor,
    /// The batch of a `bulkWrite`: one result for each operation.
    Results,
    Result,
    WriteErrors,
    WriteError,
    WriteConcernError,
    SpeculativeAuthenticate,
}

/// A number that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordedField {
    Ok,
    Code,
    Affected,
    Cursor,
    Done,
    BulkErrors,
    WriteError,
    ConcernCode,
}

/// What to do with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementAction {
    Skip,
    Enter(DocumentKind),
    Record(RecordedField),
}

/// What to do with the element `key` of a document of this kind.
pub(crate) fn action_for(
    place: DocumentKind,
    key: &[u8],
    kind: u8,
    facts: &mut MessageFacts,
) -> ElementAction {
    match (place, kind) {
        (DocumentKind::RequestBody, ARRAY) if counted_sequence(key) => {
            ElementAction::Enter(DocumentKind::CountedArray)
        }
        (DocumentKind::ReplyBody, _) => reply_body_action(key, kind, facts),
        (DocumentKind::CountedArray, _) => {
            facts.documents += 1;
            ElementAction::Skip
        }
        (DocumentKind::Cursor, ARRAY) if matches!(key, b"firstBatch" | b"nextBatch") => {
            ElementAction::Enter(if facts.bulk_write {
                DocumentKind::Results
            } else {
                DocumentKind::CountedArray
            })
        }
        (DocumentKind::Cursor, _) if key == b"id" => ElementAction::Record(RecordedField::Cursor),
        (DocumentKind::Results, DOCUMENT) if facts.write_error_code.is_none() => {
            ElementAction::Enter(DocumentKind::Result)
        }
        (DocumentKind::WriteErrors, DOCUMENT) if !facts.has_write_errors => {
            facts.has_write_errors = true;
            ElementAction::Enter(DocumentKind::WriteError)
        }
        (DocumentKind::Result | DocumentKind::WriteError, _) if key == b"code" => {
            ElementAction::Record(RecordedField::WriteError)
        }
        (DocumentKind::WriteConcernError, _) if key == b"code" => {
            ElementAction::Record(RecordedField::ConcernCode)
        }
        (DocumentKind::SpeculativeAuthenticate, _) if key == b"done" => {
            ElementAction::Record(RecordedField::Done)
        }
        _ => ElementAction::Skip,
    }
}

fn reply_body_action(key: &[u8], kind: u8, facts: &mut MessageFacts) -> ElementAction {
    match (key, kind) {
        (b"ok", _) => ElementAction::Record(RecordedField::Ok),
        (b"code", _) => ElementAction::Record(RecordedField::Code),
        (b"cursor", DOCUMENT) => ElementAction::Enter(DocumentKind::Cursor),
        (b"n" | b"nInserted" | b"nMatched" | b"nUpserted" | b"nDeleted", _) => {
            ElementAction::Record(RecordedField::Affected)
        }
        (b"nErrors", _) => ElementAction::Record(RecordedField::BulkErrors),
        (b"values", ARRAY) => ElementAction::Enter(DocumentKind::CountedArray),
        (b"value", DOCUMENT) => {
            facts.documents = 1;
            ElementAction::Skip
        }
        (b"writeErrors", ARRAY) => ElementAction::Enter(DocumentKind::WriteErrors),
        (b"writeConcernError", DOCUMENT) => {
            facts.has_concern_error = true;
            ElementAction::Enter(DocumentKind::WriteConcernError)
        }
        (b"done", _) => ElementAction::Record(RecordedField::Done),
        (b"speculativeAuthenticate", DOCUMENT) => {
            facts.has_speculative_auth = true;
            ElementAction::Enter(DocumentKind::SpeculativeAuthenticate)
        }
        _ => ElementAction::Skip,
    }
}

/// Whether the documents of this field are counted: those of `insert`, `update`, `delete` and
/// `bulkWrite`.
pub(crate) fn counted_sequence(name: &[u8]) -> bool {
    matches!(name, b"documents" | b"updates" | b"deletes" | b"ops")
}

impl MessageFacts {
    pub(crate) fn record(&mut self, note: RecordedField, value: i64) {
        let code = i32::try_from(value).ok();
        match note {
            RecordedField::Ok => self.ok = Some(value != 0),
            RecordedField::Code => self.code = code,
            RecordedField::Affected => {
                self.affected = self.affected.saturating_add(u64::try_from(value).unwrap_or(0));
            }
            RecordedField::Cursor => self.cursor_id = Some(value),
            RecordedField::Done => self.auth_done = value != 0,
            RecordedField::BulkErrors => self.has_write_errors |= value > 0,
            RecordedField::WriteError => self.write_error_code = code.or(self.write_error_code),
            RecordedField::ConcernCode => self.concern_code = code,
        }
    }

    /// Whether the reply says that the command succeeded.
    pub(crate) fn ok(&self) -> bool {
        self.ok == Some(true)
    }

    /// Whether the member says that it is not what the request needs any more.
    pub(crate) fn is_state_change(&self) -> bool {
        let failed = if self.ok == Some(false) { self.code } else { None };
        let codes = [failed, self.write_error_code, self.concern_code];
        codes.into_iter().flatten().any(is_state_change)
    }

    /// Whether the member says of the whole command that it is no primary, instead of doing it.
    pub(crate) fn is_refused_by_role(&self) -> bool {
        self.ok == Some(false) && self.code.is_some_and(is_refusal)
    }

    /// Whether the server knows no retryable writes.
    pub(crate) fn is_unsupported(&self) -> bool {
        // IllegalOperation of a standalone server; DocumentDB's own.
        self.ok == Some(false) && matches!(self.code, Some(20 | 301))
    }

    /// Whether the server does not know the cursor.
    pub(crate) fn is_cursor_not_found(&self) -> bool {
        self.ok == Some(false) && self.code == Some(43)
    }

    /// The outcome of a command, and the name of its error.
    ///
    /// Of a write error only the name of its code is reported, because it never counts against the
    /// node (specifications, server-discovery-and-monitoring); write concern errors may.
    pub(crate) fn command_outcome(&self) -> (Outcome, Option<&'static str>) {
        if self.ok == Some(false) {
            return named(error_codes::classify(self.code));
        }
        let concern = self.has_concern_error.then(|| error_codes::classify(self.concern_code));
        match concern {
            Some((Outcome::Failed, name)) => (Outcome::Failed, Some(name)),
            _ if self.has_write_errors => {
                (Outcome::Rejected, Some(error_codes::classify(self.write_error_code).1))
            }
            Some(concern) => named(concern),
            None => (Outcome::Ok, None),
        }
    }

    /// The outcome of a legacy query: its reply has flags instead of `ok`.
    pub(crate) fn query_outcome(&self) -> (Outcome, Option<&'static str>) {
        const CURSOR_NOT_FOUND: u32 = 1;
        const QUERY_FAILURE: u32 = 1 << 1;
        if self.flags & CURSOR_NOT_FOUND != 0 {
            return (Outcome::Rejected, Some("CursorNotFound"));
        }
        if self.flags & QUERY_FAILURE != 0 {
            return named(error_codes::classify(self.code));
        }
        (Outcome::Ok, None)
    }
}

fn named((outcome, name): (Outcome, &'static str)) -> (Outcome, Option<&'static str>) {
    (outcome, Some(name))
}
