//! An operation in flight, which settles exactly once.

use super::attributes::HeadAttributes;
use crate::active_operation::{AttemptGuard, OperationEnd};
use cluster::Lease;
use operation::{Close, Outcome, Settlement, Ticket};
use std::{rc::Rc, time::Instant};

/// An operation in flight. On drop it settles as cancelled.
pub(super) struct ActiveRequest<'a> {
    ticket: Option<Ticket>,
    attributes: &'a HeadAttributes<'a>,
    /// The attempt that is under way, or whose response is the operation's.
    attempt: Option<AttemptGuard>,
    pub(super) request_bytes: u64,
    pub(super) reply_bytes: u64,
    pub(super) first_byte: Option<Instant>,
    /// When a byte of it last moved.
    pub(super) last_activity: Instant,
}

impl<'a> ActiveRequest<'a> {
    pub(super) fn new(
        ticket: Ticket,
        attributes: &'a HeadAttributes<'a>,
        request_bytes: u64,
        began: Instant,
    ) -> Self {
        Self {
            ticket: Some(ticket),
            attributes,
            attempt: None,
            request_bytes,
            reply_bytes: 0,
            first_byte: None,
            last_activity: began,
        }
    }

    /// Counts an operation at the endpoint of this lease.
    pub(super) fn start_attempt(&mut self, lease: &Rc<Lease>) {
        self.attempt = Some(AttemptGuard::start(lease, None));
    }

    /// The attempt has no response that counts.
    pub(super) fn end_attempt(&mut self, outcome: Outcome) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(outcome, Instant::now());
        }
    }

    /// Settles the operation, once.
    pub(super) fn settle(&mut self, end: &OperationEnd) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = Instant::now();
        self.attributes.progress.finish();
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(end.attempt_outcome(), now);
        }
        ticket.settle(&Settlement {
            reason: end.reason,
            policy: end.policy.as_deref(),
            code: end.code,
            request_bytes: self.request_bytes,
            reply_bytes: self.reply_bytes,
            confirmed: end.confirmed,
            first_byte: self.first_byte,
            attributes: self.attributes,
            ..Settlement::new(end.outcome, now)
        });
    }
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        let close = Close::ClientReset;
        self.settle(&OperationEnd::new(close.outcome(false), close));
    }
}
