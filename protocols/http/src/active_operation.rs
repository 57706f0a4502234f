//! An operation in flight, which settles exactly once.

use crate::{
    attempt_span::AttemptSpan,
    client_connection::ClientConnection,
    dialect::{Meter, ResponseOutcome},
    request_attributes::RequestAttributes,
};
use cluster::Lease;
use http::{HeaderMap, StatusCode, Version};
use operation::{Close, EndReason, Outcome, Settlement, Ticket};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

/// An operation in flight. On drop it settles as cancelled.
pub(crate) struct ActiveOperation {
    ticket: Cell<Option<Ticket>>,
    pub(crate) attributes: Rc<RequestAttributes>,
    pub(crate) started: Instant,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) reply_bytes: Cell<u64>,
    /// Bytes of both that were reported while it lasted.
    counted: Cell<[u64; 2]>,
    pub(crate) first_byte: Cell<Option<Instant>>,
    /// When a byte of it last moved.
    pub(crate) last_activity: Cell<Instant>,
    /// When the whole request had been sent.
    pub(crate) request_sent: Cell<Option<Instant>>,
    meter: Option<RefCell<Box<dyn Meter>>>,
    /// Outcome of attempts that are abandoned.
    pub(crate) abandoned_outcome: Cell<Outcome>,
    /// A translator is reading the response and has not produced the client's head yet.
    translating: Cell<bool>,
    /// The end up to which it has read,
    upstream_end: RefCell<Option<OperationEnd>>,
    /// or whether it dropped the response earlier.
    upstream_dropped: Cell<bool>,
    /// The attempt whose response is the operation's.
    attempt: RefCell<Option<AttemptGuard>>,
    pub(crate) connection: Rc<ClientConnection>,
}

/// One attempt at an endpoint. On drop it counts as cancelled.
pub(crate) struct AttemptGuard {
    lease: Option<Rc<Lease>>,
    since: Instant,
    /// Its span, if attempts are recorded.
    span: Option<AttemptSpan>,
}

impl AttemptGuard {
    /// Counts an operation at the endpoint of this lease.
    pub(crate) fn start(lease: &Rc<Lease>, mut span: Option<AttemptSpan>) -> Self {
        lease.operation_started();
        if let Some(span) = &mut span {
            span.set_endpoint(lease.endpoint().name());
        }
        Self { lease: Some(Rc::clone(lease)), since: Instant::now(), span }
    }

    /// The endpoint has answered with this head.
    pub(crate) fn set_response(&mut self, status: StatusCode, version: Version) {
        if let Some(span) = &mut self.span {
            span.set_response(status, version);
        }
    }

    /// The attempt has ended at this time.
    pub(crate) fn finish(mut self, outcome: Outcome, now: Instant) {
        if let Some(span) = self.span.take() {
            span.finish(outcome, now);
        }
        if let Some(lease) = self.lease.take() {
            lease.operation_ended(outcome, now.saturating_duration_since(self.since));
        }
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.operation_ended(Outcome::Cancelled, self.since.elapsed());
        }
    }
}

/// An attempt without response. On drop it was abandoned.
pub(crate) struct PendingAttempt<'r> {
    attempt: Option<AttemptGuard>,
    operation: &'r ActiveOperation,
}

impl<'r> PendingAttempt<'r> {
    /// Counts an operation at the endpoint of this lease.
    pub(crate) fn start(
        lease: &Rc<Lease>,
        operation: &'r ActiveOperation,
        span: Option<AttemptSpan>,
    ) -> Self {
        Self { attempt: Some(AttemptGuard::start(lease, span)), operation }
    }

    /// Names the attempt as the sender of a request with these headers, if it has a span.
    pub(crate) fn send_in(&self, headers: &mut HeaderMap) {
        let span = self.attempt.as_ref().and_then(|attempt| attempt.span.as_ref());
        span.iter().for_each(|span| span.send_in(headers));
    }

    /// The attempt ended without response.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(outcome, Instant::now());
        }
    }

    /// The attempt has a response.
    pub(crate) fn into_guard(mut self) -> Option<AttemptGuard> {
        self.attempt.take()
    }
}

impl Drop for PendingAttempt<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(self.operation.abandoned_outcome.get(), Instant::now());
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) struct OperationEnd {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<EndReason>,
    pub(crate) code: Option<&'static str>,
    /// The policy that ended it.
    pub(crate) policy: Option<Rc<str>>,
    /// The service itself reported the outcome.
    pub(crate) confirmed: bool,
}

impl OperationEnd {
    /// An end that the service did not report.
    pub(crate) fn new(outcome: Outcome, reason: impl Into<EndReason>) -> Self {
        Self { outcome, reason: Some(reason.into()), code: None, policy: None, confirmed: false }
    }

    /// The outcome that counts for the endpoint.
    pub(crate) fn attempt_outcome(&self) -> Outcome {
        let is_bad = matches!(self.outcome, Outcome::Failed | Outcome::Lost);
        let blameless = self.reason.is_some_and(|reason| !reason.blames_endpoint());
        if is_bad && blameless { Outcome::Cancelled } else { self.outcome }
    }
}

impl From<ResponseOutcome> for OperationEnd {
    fn from(judged: ResponseOutcome) -> Self {
        let ResponseOutcome { outcome, code, .. } = judged;
        Self { outcome, reason: None, code, policy: None, confirmed: true }
    }
}

impl ActiveOperation {
    pub(crate) fn new(
        ticket: Ticket,
        attributes: Rc<RequestAttributes>,
        began: Instant,
        meter: Option<Box<dyn Meter>>,
        connection: &Rc<ClientConnection>,
    ) -> Rc<Self> {
        let busy = &connection.state.active_operations;
        busy.set(busy.get() + 1);
        Rc::new(Self {
            ticket: Cell::new(Some(ticket)),
            attributes,
            started: began,
            request_bytes: Cell::new(0),
            reply_bytes: Cell::new(0),
            counted: Cell::default(),
            first_byte: Cell::new(None),
            last_activity: Cell::new(began),
            request_sent: Cell::new(None),
            meter: meter.map(RefCell::new),
            abandoned_outcome: Cell::new(Outcome::Cancelled),
            translating: Cell::new(false),
            upstream_end: RefCell::new(None),
            upstream_dropped: Cell::new(false),
            attempt: RefCell::new(None),
            connection: Rc::clone(connection),
        })
    }

    /// Counts sent bytes of the request's body.
    pub(crate) fn add_request_bytes(&self, bytes: &[u8]) {
        self.request_bytes.set(self.request_bytes.get() + bytes.len() as u64);
        self.last_activity.set(Instant::now());
        if let Some(meter) = &self.meter {
            meter.borrow_mut().on_request(bytes);
        }
    }

    /// Counts received bytes of the response's body.
    pub(crate) fn add_response_bytes(&self, bytes: &[u8]) {
        self.reply_bytes.set(self.reply_bytes.get() + bytes.len() as u64);
        if let Some(meter) = &self.meter {
            meter.borrow_mut().on_response(bytes);
        }
    }

    /// Reports the bytes since the last call to the policies.
    pub(crate) fn report_bytes(&self) {
        let bytes = [self.request_bytes.get(), self.reply_bytes.get()];
        let [asked, answered] = self.counted.replace(bytes);
        let Some(ticket) = self.ticket.take() else { return };
        ticket.add_bytes([bytes[0] - asked, bytes[1] - answered]);
        self.ticket.set(Some(ticket));
    }

    /// The response of this attempt is the operation's.
    pub(crate) fn set_attempt(&self, attempt: Option<AttemptGuard>) {
        *self.attempt.borrow_mut() = attempt;
    }

    /// Settles the operation, once. During translation this waits for the client's head.
    pub(crate) fn settle(&self, end: &OperationEnd) {
        if self.translating.get() {
            self.upstream_end.borrow_mut().get_or_insert_with(|| end.clone());
            return;
        }
        let Some(ticket) = self.ticket.take() else { return };
        let now = Instant::now();
        self.attributes.progress.finish();
        if let Some(attempt) = self.attempt.borrow_mut().take() {
            attempt.finish(end.attempt_outcome(), now);
        }
        let busy = &self.connection.state.active_operations;
        busy.set(busy.get() - 1);
        let (request_items, reply_items) =
            self.meter.as_ref().map_or((0, 0), |meter| meter.borrow().message_counts());
        ticket.settle(&Settlement {
            outcome: end.outcome,
            reason: end.reason,
            policy: end.policy.as_deref(),
            code: end.code,
            shape: None,
            cursor: None,
            request_bytes: self.request_bytes.get(),
            reply_bytes: self.reply_bytes.get(),
            reported_bytes: self.counted.get(),
            request_items,
            reply_items,
            confirmed: end.confirmed,
            first_byte: self.first_byte.get(),
            now,
            attributes: &*self.attributes,
            names: None,
        });
    }

    /// A translator starts to read the response.
    pub(crate) fn start_translation(&self) {
        self.translating.set(true);
        self.attributes.progress.status.set(None);
    }

    /// The head of the client's response is complete, with this outcome.
    pub(crate) fn finish_translation(&self, status: StatusCode, told: Option<ResponseOutcome>) {
        self.translating.set(false);
        self.attributes.progress.status.set(Some(status));
        let failed = told.is_some_and(|told| told.outcome != Outcome::Ok);
        match self.upstream_end.take() {
            Some(end) if end.outcome == Outcome::Ok && failed => self.untranslated(told),
            Some(end) => self.settle(&end),
            None if self.upstream_dropped.get() => self.untranslated(told),
            None => {}
        }
    }

    /// The translator could only produce an error; the endpoint is not to blame.
    fn untranslated(&self, told: Option<ResponseOutcome>) {
        self.set_attempt(None);
        let end = OperationEnd::new(Outcome::Failed, EndReason::Untranslated);
        let code = told.and_then(|judged| judged.code);
        self.settle(&OperationEnd { code, ..end });
    }

    /// The response's body is dropped before its end.
    pub(crate) fn response_dropped(&self) {
        match self.translating.get() {
            true => self.upstream_dropped.set(true),
            false => self.client_gone(),
        }
    }

    /// The client is gone.
    pub(crate) fn client_gone(&self) {
        let close = match self.connection.close_reason.get() {
            // Another operation was cut.
            Close::Injected => Close::ClientReset,
            Close::ClientReset if self.connection.state.client_left.get() => Close::Client,
            close => close,
        };
        self.settle(&OperationEnd::new(close.outcome(false), close));
    }
}

impl Drop for ActiveOperation {
    fn drop(&mut self) {
        self.translating.set(false);
        match self.upstream_end.take() {
            Some(end) => self.settle(&end),
            None => self.client_gone(),
        }
    }
}
