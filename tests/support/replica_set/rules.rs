//! What a member refuses, and with which words.
//!
//! Sources: the server's `error_codes.yml`; labels as in the specifications' `retryable-writes` and
//! `transactions`.

use super::{
    request::Request,
    state::{State, Transaction},
};
use bson::{Document, doc};

/// An error of a member, by the server's name and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    CursorNotFound = 43,
    ShutdownInProgress = 91,
    NoSuchTransaction = 251,
    NotWritablePrimary = 10107,
    InterruptedDueToReplStateChange = 11602,
    NotPrimaryNoSecondaryOk = 13435,
    NotPrimaryOrSecondary = 13436,
}

impl Refusal {
    /// Counts it, and returns the error that it is to a request.
    pub(super) fn reply(self, state: &mut State, member: usize, request: &Request) -> Document {
        let mut reply = doc! { "ok": 0.0 };
        reply.extend(self.error());
        self.add_labels(&mut reply, state, member, request);
        if let Some(time) = &state.cluster_time {
            reply.insert("$clusterTime", time.clone());
        }
        reply
    }

    /// Counts it, and adds it to the reply to a write that the server has done.
    pub(super) fn add_to(
        self,
        reply: &mut Document,
        state: &mut State,
        member: usize,
        request: &Request,
    ) {
        reply.insert("writeConcernError", self.error());
        self.add_labels(reply, state, member, request);
    }

    fn error(self) -> Document {
        doc! { "errmsg": self.words(), "code": self as i32, "codeName": format!("{self:?}") }
    }

    fn add_labels(self, reply: &mut Document, state: &mut State, member: usize, request: &Request) {
        let this = &mut state.members[member];
        *this.counters.refusals.entry(self as i32).or_default() += 1;
        if self.is_of_state() {
            reply.insert("topologyVersion", this.topology_version());
        }
        if let Some(label) = self.label(request) {
            reply.insert("errorLabels", vec![label]);
        }
    }

    /// Whether it comes from the role of the member.
    fn is_of_state(self) -> bool {
        !matches!(self, Refusal::CursorNotFound | Refusal::NoSuchTransaction)
    }

    fn label(self, request: &Request) -> Option<&'static str> {
        if self.is_of_state() && request.is_retryable_write() {
            Some("RetryableWriteError")
        } else if self != Refusal::CursorNotFound && request.is_in_transaction() {
            Some("TransientTransactionError")
        } else {
            None
        }
    }

    fn words(self) -> &'static str {
        match self {
            Refusal::CursorNotFound => "cursor id not found",
            Refusal::ShutdownInProgress => "the server will shut down",
            Refusal::NoSuchTransaction => "no transaction with this number is in progress",
            Refusal::NotWritablePrimary => "not primary",
            Refusal::InterruptedDueToReplStateChange => "operation was interrupted",
            Refusal::NotPrimaryNoSecondaryOk => "not primary and secondaryOk=false",
            Refusal::NotPrimaryOrSecondary => "node is not in primary or secondary state",
        }
    }
}

/// Whether a member takes a request, in its present role.
pub(super) fn admit(state: &State, member: usize, request: &Request) -> Result<(), Refusal> {
    let this = &state.members[member];
    let is_primary = this.primary_of.is_some();
    if request.needs_primary() && !is_primary {
        return Err(Refusal::NotWritablePrimary);
    }
    if request.reads() && !this.has_data() {
        return Err(Refusal::NotPrimaryOrSecondary);
    }
    if request.reads_from_primary() && !is_primary {
        return Err(Refusal::NotPrimaryNoSecondaryOk);
    }
    if request.name == "getMore" {
        let cursor = request.body.get_i64("getMore").unwrap_or_default();
        if state.cursors.get(&cursor) != Some(&this.process) {
            return Err(Refusal::CursorNotFound);
        }
    }
    let goes_on = request.is_in_transaction() && !request.begins_transaction();
    if goes_on && !knows_transaction(state, member, request) {
        return Err(Refusal::NoSuchTransaction);
    }
    Ok(())
}

/// A transaction goes on where it began; one of a term that is over is in no list. Its outcome is known
/// everywhere: in a set to each primary, among routers to the one that gets the `recoveryToken`.
fn knows_transaction(state: &State, member: usize, request: &Request) -> bool {
    let Some((session, number)) = request.session() else { return false };
    let known = state.transactions.get(&session).filter(|it| it.number == number);
    known.is_some_and(|known| {
        let this = &state.members[member];
        let began_here = known.owner == this.process;
        let recovers = !state.routers || request.body.contains_key("recoveryToken");
        began_here || known.ends && request.name == "commitTransaction" && recovers
    })
}

/// Notes what the server is about to do. An error if the member, which took the request as the primary
/// of `term`, no longer is that.
pub(super) fn begin(
    state: &mut State,
    member: usize,
    request: &Request,
    term: Option<u64>,
) -> Result<(), Refusal> {
    if !request.needs_primary() {
        return Ok(());
    }
    let this = &state.members[member];
    let still = term.filter(|_| this.primary_of == term);
    let term = still.ok_or(Refusal::InterruptedDueToReplStateChange)?;
    let Some((session, number)) = request.session().filter(|_| request.is_in_transaction()) else {
        return Ok(());
    };
    if request.begins_transaction() {
        let lsid = request.body.get_document("lsid").cloned().unwrap_or_default();
        let owner = this.process;
        let begun = Transaction { lsid, number, owner, term, ends: false, busy: true };
        state.transactions.insert(session, begun);
    } else if let Some(transaction) = state.transactions.get_mut(&session) {
        transaction.busy = true;
        transaction.ends |= request.ends_transaction();
    }
    Ok(())
}
