//! What a scan looks for, and where.

use crate::{
    element::kind::{ARRAY, DOCUMENT},
    error,
};
use operation::Outcome;

/// What a message told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `OP_MSG`'s or `OP_REPLY`'s flags.
    pub(crate) flags: u32,
    /// The message can't be read to its end.
    pub(crate) broken: bool,
    /// To be set before: the reply's cursor holds results of operations, and no documents.
    pub(crate) bulk: bool,
    /// Documents in the message.
    pub(crate) items: u64,
    /// Documents that a write touched.
    pub(crate) written: u64,
    /// The cursor that goes on; 0 when it is used up.
    pub(crate) cursor: Option<i64>,
    /// The authentication has come to its end.
    pub(crate) done: bool,
    /// The reply carries the first step of an authentication.
    pub(crate) speculative: bool,
    pub(super) ok: Option<bool>,
    pub(super) code: Option<i32>,
    pub(super) write_errors: bool,
    pub(super) write_error: Option<i32>,
    pub(super) concern: bool,
    pub(super) concern_code: Option<i32>,
}

/// The documents that are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A request's body.
    Asked,
    /// A reply's body.
    Answered,
    /// An array whose elements are counted.
    Counted,
    Cursor,
    /// The batch of a `bulkWrite`: one result an operation.
    Results,
    Result,
    WriteErrors,
    WriteError,
    WriteConcernError,
    SpeculativeAuthenticate,
}

/// A number worth noting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Ok,
    Code,
    Written,
    Cursor,
    Done,
    BulkErrors,
    WriteError,
    ConcernCode,
}

/// What to do with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Skip,
    Enter(Place),
    Note(Note),
}

/// What to do with the element `key` of a document at `place`.
pub(crate) fn step(place: Place, key: &[u8], kind: u8, facts: &mut Facts) -> Step {
    match (place, kind) {
        (Place::Asked, ARRAY) if counted_sequence(key) => Step::Enter(Place::Counted),
        (Place::Answered, _) => answered(key, kind, facts),
        (Place::Counted, _) => {
            facts.items += 1;
            Step::Skip
        }
        (Place::Cursor, ARRAY) if matches!(key, b"firstBatch" | b"nextBatch") => {
            Step::Enter(if facts.bulk { Place::Results } else { Place::Counted })
        }
        (Place::Cursor, _) if key == b"id" => Step::Note(Note::Cursor),
        (Place::Results, DOCUMENT) if facts.write_error.is_none() => Step::Enter(Place::Result),
        (Place::WriteErrors, DOCUMENT) if !facts.write_errors => {
            facts.write_errors = true;
            Step::Enter(Place::WriteError)
        }
        (Place::Result | Place::WriteError, _) if key == b"code" => Step::Note(Note::WriteError),
        (Place::WriteConcernError, _) if key == b"code" => Step::Note(Note::ConcernCode),
        (Place::SpeculativeAuthenticate, _) if key == b"done" => Step::Note(Note::Done),
        _ => Step::Skip,
    }
}

fn answered(key: &[u8], kind: u8, facts: &mut Facts) -> Step {
    match (key, kind) {
        (b"ok", _) => Step::Note(Note::Ok),
        (b"code", _) => Step::Note(Note::Code),
        (b"cursor", DOCUMENT) => Step::Enter(Place::Cursor),
        (b"n" | b"nInserted" | b"nMatched" | b"nUpserted" | b"nDeleted", _) => {
            Step::Note(Note::Written)
        }
        (b"nErrors", _) => Step::Note(Note::BulkErrors),
        (b"values", ARRAY) => Step::Enter(Place::Counted),
        (b"value", DOCUMENT) => {
            facts.items = 1;
            Step::Skip
        }
        (b"writeErrors", ARRAY) => Step::Enter(Place::WriteErrors),
        (b"writeConcernError", DOCUMENT) => {
            facts.concern = true;
            Step::Enter(Place::WriteConcernError)
        }
        (b"done", _) => Step::Note(Note::Done),
        (b"speculativeAuthenticate", DOCUMENT) => {
            facts.speculative = true;
            Step::Enter(Place::SpeculativeAuthenticate)
        }
        _ => Step::Skip,
    }
}

/// Whether the documents under this name are what a request carries: the rows of `insert`,
/// `update`, `delete` and `bulkWrite`.
pub(crate) fn counted_sequence(name: &[u8]) -> bool {
    matches!(name, b"documents" | b"updates" | b"deletes" | b"ops")
}

impl Facts {
    pub(crate) fn note(&mut self, note: Note, value: i64) {
        let code = i32::try_from(value).ok();
        match note {
            Note::Ok => self.ok = Some(value != 0),
            Note::Code => self.code = code,
            Note::Written => {
                self.written = self.written.saturating_add(u64::try_from(value).unwrap_or(0));
            }
            Note::Cursor => self.cursor = Some(value),
            Note::Done => self.done = value != 0,
            Note::BulkErrors => self.write_errors |= value > 0,
            Note::WriteError => self.write_error = code.or(self.write_error),
            Note::ConcernCode => self.concern_code = code,
        }
    }

    /// The command was carried out: its answer says so.
    pub(crate) fn ok(&self) -> bool {
        self.ok == Some(true)
    }

    /// How a command ended, and what its error is called.
    ///
    /// Of a write's own errors only the code's name is told, since they never speak against the
    /// node (specifications, server-discovery-and-monitoring); write concern errors may.
    pub(crate) fn command(&self) -> (Outcome, Option<&'static str>) {
        if self.ok == Some(false) {
            return named(error::classify(self.code));
        }
        let concern = self.concern.then(|| error::classify(self.concern_code));
        match concern {
            Some((Outcome::Failed, name)) => (Outcome::Failed, Some(name)),
            _ if self.write_errors => {
                (Outcome::Rejected, Some(error::classify(self.write_error).1))
            }
            Some(concern) => named(concern),
            None => (Outcome::Ok, None),
        }
    }

    /// How a legacy query ended: it has flags in the place of `ok`.
    pub(crate) fn query(&self) -> (Outcome, Option<&'static str>) {
        const CURSOR_NOT_FOUND: u32 = 1;
        const QUERY_FAILURE: u32 = 1 << 1;
        if self.flags & CURSOR_NOT_FOUND != 0 {
            return (Outcome::Rejected, Some("CursorNotFound"));
        }
        if self.flags & QUERY_FAILURE != 0 {
            return named(error::classify(self.code));
        }
        (Outcome::Ok, None)
    }
}

fn named((outcome, name): (Outcome, &'static str)) -> (Outcome, Option<&'static str>) {
    (outcome, Some(name))
}
