//! The gate: one call that asks every policy, and the ticket of an admitted operation.

use crate::{Attributes, Effects, EndReason, Operation, OperationNames, Outcome, Rejection};
use std::{
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

/// All policies that apply to an operation.
pub trait Gate {
    /// Asks every policy in turn. `now` is when the operation's first byte was seen.
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict;

    /// Resumes after [`Verdict::Pending`], once the decision is there. `operation` is the same
    /// operation again.
    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict;

    /// Counts and logs an operation that was refused before any policy could be asked about it, such
    /// as the first of a connection that may not be. `began` is when its first byte was seen.
    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>);
}

/// What the gate decided.
#[derive(Debug)]
pub enum Verdict {
    /// Forward it, with the ticket's effects.
    Admit(Ticket),
    /// Hold it until the decision comes, then call [`Gate::resume`].
    Pending(PendingOperation),
    /// Reject it.
    Reject(Rejection),
    /// Nothing is decided: the operation is [`partial`](Operation::partial), and a policy needs a
    /// fact that stands further on in the request. Read more of it, and admit it again. If it
    /// can't be held any longer, admit it without `partial`.
    NeedMore,
}

/// What a policy decides about an operation.
pub enum Decision {
    /// Let it go on.
    Admit,
    /// Let it go on, on these terms.
    Modify(Rc<Effects>),
    /// Reject it.
    Reject(Rejection),
    /// The decision comes later, such as from another server. It must come eventually.
    Pending(DecisionFuture),
}

/// A decision that is still to come.
pub type DecisionFuture = Pin<Box<dyn Future<Output = Decision>>>;

impl Decision {
    /// Let it go on, now that it has waited.
    pub fn waited() -> Self {
        Decision::Modify(Rc::new(Effects { waited: true, ..Effects::default() }))
    }

    /// Let it go on after a while.
    pub fn delay(delay: Duration) -> Self {
        Decision::Modify(Rc::new(Effects { delay, ..Effects::default() }))
    }
}

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decision::Admit => f.write_str("Admit"),
            Decision::Modify(terms) => f.debug_tuple("Bend").field(terms).finish(),
            Decision::Reject(no) => f.debug_tuple("Refuse").field(no).finish(),
            Decision::Pending(_) => f.write_str("Ask"),
        }
    }
}

/// An operation that waits for a policy's decision.
pub struct PendingOperation {
    /// The operation. When dropped, it settles with the policies that admitted it so far.
    pub ticket: Ticket,
    /// The decision.
    pub decision: DecisionFuture,
}

impl std::fmt::Debug for PendingOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// Receives the end of each admitted operation. Implemented by the issuer of tickets.
pub trait SettleSink {
    /// Called exactly once for each slot handed out.
    fn settle(&self, slot: u32, how: &Settlement<'_>);

    /// Counts bytes of a running operation: from the client, and from the service. Its settlement
    /// includes them, as [`reported_bytes`](Settlement::reported_bytes).
    fn add_bytes(&self, _slot: u32, _bytes: [u64; 2]) {}

    /// Called instead of `settle` when a ticket is dropped unsettled.
    fn abandon(&self, slot: u32);
}

/// How an operation ended, as the code that moved its bytes reports it.
#[derive(Clone, Copy)]
pub struct Settlement<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    pub reason: Option<EndReason>,
    /// The policy that ended it, if one did after it had gone on.
    pub policy: Option<&'a str>,
    /// The error's name.
    pub code: Option<&'static str>,
    /// The request's shape, for protocols that have shapes.
    pub shape: Option<&'static str>,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// How many of these bytes were reported in the course of it ([`Ticket::add_bytes`]): from the
    /// client, and from the service.
    pub reported_bytes: [u64; 2],
    /// Items from the client.
    pub request_items: u64,
    /// Items from the service.
    pub reply_items: u64,
    /// The service itself reported the outcome, and `Ok` confirms that the named resource exists
    /// (see [`crate::Reply::confirms_names`]).
    pub confirmed: bool,
    /// When the first byte of the reply was seen.
    pub first_byte: Option<Instant>,
    /// When the last byte of the reply was seen.
    pub now: Instant,
    /// Answers questions about the operation; the gate supplies the front that it kept.
    pub attributes: &'a dyn Attributes,
    /// The operation's name and resource, if the rest of its request gave more of them than was
    /// known at admission.
    pub names: Option<OperationNames<'a>>,
}

impl Settlement<'_> {
    /// An end about which nothing but its outcome is known.
    pub fn new(outcome: Outcome, now: Instant) -> Settlement<'static> {
        Settlement {
            outcome,
            reason: None,
            policy: None,
            code: None,
            shape: None,
            request_bytes: 0,
            reply_bytes: 0,
            reported_bytes: [0; 2],
            request_items: 0,
            reply_items: 0,
            confirmed: false,
            first_byte: None,
            now,
            attributes: &(),
            names: None,
        }
    }
}

/// An operation in flight. Settles exactly once: by [`settle`](Self::settle), or when dropped.
pub struct Ticket {
    sink: Option<Rc<dyn SettleSink>>,
    slot: u32,
    effects: Option<Rc<Effects>>,
}

impl Ticket {
    /// A ticket for the operation that `ledger` keeps in `slot`.
    pub fn new(ledger: Rc<dyn SettleSink>, slot: u32, terms: Option<Rc<Effects>>) -> Self {
        Self { sink: Some(ledger), slot, effects: terms }
    }

    /// Effects of the policies on the operation's bytes; nearly always `None`.
    pub fn effects(&self) -> Option<&Effects> {
        self.effects.as_deref()
    }

    /// The issuer's slot of the operation.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Counts bytes of a running operation: from the client, and from the service.
    pub fn add_bytes(&self, bytes: [u64; 2]) {
        if let Some(ledger) = &self.sink {
            ledger.add_bytes(self.slot, bytes);
        }
    }

    /// Returns the ticket to its issuer without settling it.
    pub fn into_slot(mut self) -> u32 {
        self.sink = None;
        self.slot
    }

    /// Settles it.
    pub fn settle(mut self, how: &Settlement<'_>) {
        if let Some(ledger) = self.sink.take() {
            ledger.settle(self.slot, how);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ledger) = self.sink.take() {
            ledger.abandon(self.slot);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("slot", &self.slot).finish_non_exhaustive()
    }
}
