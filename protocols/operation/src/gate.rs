//! The gate: every policy behind one door, and the ticket that an operation leaves with.

use crate::{Attributes, Operation, Outcome, Reason};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// Every policy that an operation passes.
pub trait Gate {
    /// Asks every policy in turn. `now` is when the operation's first byte was seen.
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict;
}

/// What the gate decided.
#[derive(Debug)]
pub enum Verdict {
    /// Let it go on.
    Go(Ticket),
    /// Let it go on after a while.
    Wait(Duration, Ticket),
    /// Say no, in the protocol's words (see [`crate::Refusal`]).
    Refuse {
        /// What kind of no.
        reason: Reason,
        /// What a person reads in the error.
        message: Rc<str>,
    },
}

/// Receives what became of an admitted operation. Implemented by whatever hands out tickets.
pub trait Ledger {
    /// Called exactly once for each slot handed out.
    fn settle(&self, slot: u32, how: &Settlement<'_>);

    /// Called in the place of `settle` when a ticket was dropped without a word.
    fn abandon(&self, slot: u32);
}

/// How an operation ended, told by whoever moved its bytes.
#[derive(Clone, Copy)]
pub struct Settlement<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it: a word such as `upstream_reset`.
    pub reason: Option<&'static str>,
    /// The error's name.
    pub code: Option<&'static str>,
    /// The request's shape, for protocols that tell.
    pub shape: Option<&'static str>,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// Items from the client.
    pub request_items: u64,
    /// Items from the service.
    pub reply_items: u64,
    /// The service itself told how it ended, and a good end says that what the operation named
    /// exists (see [`crate::Reply::confirms`]).
    pub confirmed: bool,
    /// When the first byte of the reply was seen.
    pub first_byte: Option<Instant>,
    /// When the last byte of the reply was seen.
    pub now: Instant,
    /// Answers questions about the operation; the gate supplies the front that it kept.
    pub attributes: &'a dyn Attributes,
}

impl Settlement<'_> {
    /// An end about which nothing but its outcome is known.
    pub fn bare(outcome: Outcome, now: Instant) -> Settlement<'static> {
        Settlement {
            outcome,
            reason: None,
            code: None,
            shape: None,
            request_bytes: 0,
            reply_bytes: 0,
            request_items: 0,
            reply_items: 0,
            confirmed: false,
            first_byte: None,
            now,
            attributes: &(),
        }
    }
}

/// An operation under way. Settles exactly once: when told how, or when dropped.
pub struct Ticket {
    ledger: Option<Rc<dyn Ledger>>,
    slot: u32,
}

impl Ticket {
    /// A ticket for the operation that `ledger` keeps in `slot`.
    pub fn new(ledger: Rc<dyn Ledger>, slot: u32) -> Self {
        Self { ledger: Some(ledger), slot }
    }

    /// Settles it.
    pub fn settle(mut self, how: &Settlement<'_>) {
        if let Some(ledger) = self.ledger.take() {
            ledger.settle(self.slot, how);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.abandon(self.slot);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("slot", &self.slot).finish_non_exhaustive()
    }
}
