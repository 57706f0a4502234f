//! What a member refuses, and with which words.
//!
//! Sources: the server's `error_codes.yml`; labels as in the specifications' `retryable-writes` and
//! `transactions`.

use super::{
    request::Request,
    state::{Membership, State, Transaction},
};
use bson::{Document, doc};

pub(super) const CURSOR_NOT_FOUND: Refusal = Refusal(43, "CursorNotFound");
pub(super) const NO_SUCH_TRANSACTION: Refusal = Refusal(251, "NoSuchTransaction");
pub(super) const NOT_WRITABLE_PRIMARY: Refusal = Refusal(10107, "NotWritablePrimary");
pub(super) const INTERRUPTED: Refusal = Refusal(11602, "InterruptedDueToReplStateChange");
pub(super) const NOT_PRIMARY_NO_SECONDARY_OK: Refusal = Refusal(13435, "NotPrimaryNoSecondaryOk");
pub(super) const NOT_PRIMARY_OR_SECONDARY: Refusal = Refusal(13436, "NotPrimaryOrSecondary");

/// An error of a member: its code and its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(i32, &'static str);

impl Refusal {
    /// The error that this is to a request.
    pub(super) fn reply(self, state: &State, member: usize, request: &Request) -> Document {
        let mut reply = doc! { "ok": 0.0, "errmsg": self.words() };
        reply.extend(doc! { "code": self.0, "codeName": self.1 });
        if self.is_of_state() {
            reply.insert("topologyVersion", state.members[member].topology_version());
        }
        if let Some(label) = self.label(request) {
            reply.insert("errorLabels", vec![label]);
        }
        reply
    }

    /// Adds it to the reply to a write that the server has done.
    pub(super) fn add_to(
        self,
        reply: &mut Document,
        state: &State,
        member: usize,
        request: &Request,
    ) {
        let error = doc! { "code": self.0, "codeName": self.1, "errmsg": self.words() };
        reply.insert("writeConcernError", error);
        reply.insert("topologyVersion", state.members[member].topology_version());
        if let Some(label) = self.label(request) {
            reply.insert("errorLabels", vec![label]);
        }
    }

    pub(super) fn code(self) -> i32 {
        self.0
    }

    /// Whether it comes from the state of the member.
    fn is_of_state(self) -> bool {
        ![CURSOR_NOT_FOUND, NO_SUCH_TRANSACTION].contains(&self)
    }

    fn label(self, request: &Request) -> Option<&'static str> {
        let of_state = self.is_of_state();
        if of_state && request.is_retryable_write() {
            Some("RetryableWriteError")
        } else if request.is_in_transaction() && (of_state || self == NO_SUCH_TRANSACTION) {
            Some("TransientTransactionError")
        } else {
            None
        }
    }

    fn words(self) -> &'static str {
        match self {
            CURSOR_NOT_FOUND => "cursor id not found",
            NO_SUCH_TRANSACTION => {
                "Given transaction number does not match any in-progress transactions"
            }
            NOT_WRITABLE_PRIMARY => "not primary",
            NOT_PRIMARY_NO_SECONDARY_OK => "not primary and secondaryOk=false",
            NOT_PRIMARY_OR_SECONDARY => "node is not in primary or recovering state",
            _ => "operation was interrupted",
        }
    }
}

/// Whether a member takes a request, in its present role.
pub(super) fn admit(state: &State, member: usize, request: &Request) -> Result<(), Refusal> {
    let this = &state.members[member];
    let has_data = ![Membership::Arbiter, Membership::Removed].contains(&this.membership);
    let is_primary = this.primary_of.is_some();
    if request.needs_primary() && !is_primary {
        return Err(NOT_WRITABLE_PRIMARY);
    }
    if request.reads() && !has_data {
        return Err(NOT_PRIMARY_OR_SECONDARY);
    }
    if request.reads_from_primary() && !is_primary {
        return Err(NOT_PRIMARY_NO_SECONDARY_OK);
    }
    if request.name == "getMore" {
        let cursor = request.body.get_i64("getMore").unwrap_or_default();
        if state.cursors.get(&cursor) != Some(&this.process) {
            return Err(CURSOR_NOT_FOUND);
        }
    }
    if request.is_in_transaction() && !request.begins_transaction() {
        return continue_transaction(state, member, request);
    }
    Ok(())
}

/// A transaction goes on where it began, in the same term. Its outcome is known everywhere: in a set to
/// each primary, among routers to the one that gets the `recoveryToken`.
fn continue_transaction(state: &State, member: usize, request: &Request) -> Result<(), Refusal> {
    let (session, number) = request.session().ok_or(NO_SUCH_TRANSACTION)?;
    let known = state.transactions.get(&session).filter(|it| it.number == number);
    let known = known.ok_or(NO_SUCH_TRANSACTION)?;
    let this = &state.members[member];
    let began_here = known.owner == this.process && Some(known.term) == this.primary_of;
    let recovers = !state.routers || request.body.contains_key("recoveryToken");
    let asks_outcome = request.name == "commitTransaction" && known.ends && recovers;
    if began_here || asks_outcome { Ok(()) } else { Err(NO_SUCH_TRANSACTION) }
}

/// Notes what the server is about to do. An error if the member, which took the request as the primary
/// of `term`, no longer is that.
pub(super) fn begin(
    state: &mut State,
    member: usize,
    request: &Request,
    term: Option<u64>,
) -> Result<(), Refusal> {
    let this = &state.members[member];
    if !request.needs_primary() {
        return Ok(());
    }
    let term = term.filter(|_| this.primary_of == term).ok_or(INTERRUPTED)?;
    let Some((session, number)) = request.session().filter(|_| request.is_in_transaction()) else {
        return Ok(());
    };
    if request.begins_transaction() {
        let lsid = request.body.get_document("lsid").cloned().unwrap_or_default();
        let transaction = Transaction { lsid, number, owner: this.process, term, ends: false };
        state.transactions.insert(session, transaction);
    } else if let Some(transaction) = state.transactions.get_mut(&session) {
        transaction.ends |= request.ends_transaction();
    }
    Ok(())
}
