//! The gate: one call that evaluates every policy, and the ticket of an admitted operation.

use crate::{
    Attributes, CursorChange, Effects, EndReason, Operation, OperationNames, Outcome, Rejection,
};
use std::{
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

/// All policies that apply to an operation.
pub trait Gate {
    /// Evaluates the policies in order. `now` is when the operation's first byte was read.
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict;

    /// Continues the evaluation after [`Verdict::Pending`] with the policy's decision, `answer`.
    /// `operation` must be the same operation.
    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict;

    /// Counts and logs an operation that was rejected before policies were evaluated, such as the first
    /// one of a rejected connection. `began` is when its first byte was read.
    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>);
}

/// The gate's decision.
#[derive(Debug)]
pub enum Verdict {
    /// Forward it, with the ticket's effects.
    Admit(Ticket),
    /// Hold it until the decision is ready, then call [`Gate::resume`].
    Pending(PendingOperation),
    /// Reject it.
    Reject(Rejection),
    /// Undecided: the operation is [`partial`](Operation::partial), and a policy needs an attribute
    /// from the unread rest of the request. Read more of it, and call [`Gate::admit`] again. If no more
    /// can be buffered, call it without `partial`.
    NeedMore,
}

/// One policy's decision about an operation.
pub enum Decision {
    /// Forward it.
    Admit,
    /// Forward it with these effects.
    Modify(Rc<Effects>),
    /// Reject it.
    Reject(Rejection),
    /// The decision comes later, such as from a rate-limit service. The future must complete.
    Pending(DecisionFuture),
}

/// Completes with the decision.
pub type DecisionFuture = Pin<Box<dyn Future<Output = Decision>>>;

impl Decision {
    /// Forward it, and record that it has waited.
    pub fn waited() -> Self {
        Decision::Modify(Rc::new(Effects { waited: true, ..Effects::default() }))
    }

    /// Forward it after a delay.
    pub fn delay(delay: Duration) -> Self {
        Decision::Modify(Rc::new(Effects { delay, ..Effects::default() }))
    }
}

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decision::Admit => f.write_str("Admit"),
            Decision::Modify(effects) => f.debug_tuple("Modify").field(effects).finish(),
            Decision::Reject(rejection) => f.debug_tuple("Reject").field(rejection).finish(),
            Decision::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// An operation that waits for a policy's decision.
pub struct PendingOperation {
    /// The operation. Dropping it settles the operation with the policies that admitted it so far.
    pub ticket: Ticket,
    /// Completes with the policy's decision.
    pub decision: DecisionFuture,
}

impl std::fmt::Debug for PendingOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingOperation").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// Receives the end of each admitted operation; implemented by the issuer of its ticket.
pub trait SettleSink {
    /// Called exactly once for each ticket that is settled.
    fn settle(&self, slot: u32, how: &Settlement<'_>);

    /// Counts bytes of an operation in flight: from the client, and from the service. Its settlement
    /// includes them, as [`reported_bytes`](Settlement::reported_bytes).
    fn add_bytes(&self, _slot: u32, _bytes: [u64; 2]) {}

    /// Called instead of `settle` when a ticket is dropped unsettled.
    fn abandon(&self, slot: u32);
}

/// The end of an operation, reported by the relay or the HTTP server.
#[derive(Clone, Copy)]
pub struct Settlement<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if there is more to report than the outcome.
    pub reason: Option<EndReason>,
    /// The policy that ended it after it was admitted, if one did.
    pub policy: Option<&'a str>,
    /// The error's name.
    pub code: Option<&'static str>,
    /// The request's shape, for protocols that have shapes.
    pub shape: Option<&'static str>,
    /// What it has done with a cursor.
    pub cursor: Option<CursorChange>,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// The part of these bytes that [`Ticket::add_bytes`] has reported already: from the client, and
    /// from the service.
    pub reported_bytes: [u64; 2],
    /// Items from the client.
    pub request_items: u64,
    /// Items from the service.
    pub reply_items: u64,
    /// The service itself reported the outcome, and `Ok` confirms that the named resource exists
    /// (see [`crate::Reply::confirms_names`]).
    pub confirmed: bool,
    /// When the first byte of the reply was read.
    pub first_byte: Option<Instant>,
    /// When the last byte of the reply was read, or the operation ended without one.
    pub now: Instant,
    /// Reads the operation's attributes; the gate passes the front that it kept.
    pub attributes: &'a dyn Attributes,
    /// The operation's name and resource, if the rest of the request changed them after admission.
    pub names: Option<OperationNames<'a>>,
}

impl Settlement<'_> {
    /// A settlement with an outcome and no details.
    pub fn new(outcome: Outcome, now: Instant) -> Settlement<'static> {
        Settlement {
            outcome,
            reason: None,
            policy: None,
            code: None,
            shape: None,
            cursor: None,
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
    /// A ticket for the operation that `sink` keeps in `slot`.
    pub fn new(sink: Rc<dyn SettleSink>, slot: u32, effects: Option<Rc<Effects>>) -> Self {
        Self { sink: Some(sink), slot, effects }
    }

    /// A ticket for an operation that was settled already. Settling it has no effect.
    pub fn settled() -> Self {
        Self { sink: None, slot: u32::MAX, effects: None }
    }

    /// The effects of all policies, merged; nearly always `None`.
    pub fn effects(&self) -> Option<&Effects> {
        self.effects.as_deref()
    }

    /// The operation's slot at the issuer.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Counts bytes of the operation while it is in flight: from the client, and from the service.
    pub fn add_bytes(&self, bytes: [u64; 2]) {
        if let Some(sink) = &self.sink {
            sink.add_bytes(self.slot, bytes);
        }
    }

    /// Returns the ticket to its issuer without settling it.
    pub fn into_slot(mut self) -> u32 {
        self.sink = None;
        self.slot
    }

    /// Settles the operation.
    pub fn settle(mut self, how: &Settlement<'_>) {
        if let Some(sink) = self.sink.take() {
            sink.settle(self.slot, how);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.abandon(self.slot);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("slot", &self.slot).finish_non_exhaustive()
    }
}
