//! One operation under way: what is told of it when it ends, exactly once.

use crate::{
    dialect::{Meter, ResponseOutcome},
    facts::RequestAttributes,
    proxy::Lease,
    visit::ClientConnection,
};
use http::StatusCode;
use operation::{Close, Outcome, Settlement, Ticket};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

/// One operation under way. Dropped, it settles as cancelled: nobody waits for it any more.
pub(crate) struct ActiveOperation {
    ticket: Cell<Option<Ticket>>,
    pub(crate) facts: Rc<RequestAttributes>,
    pub(crate) began: Instant,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) reply_bytes: Cell<u64>,
    /// How many of both were told of while it lasted.
    counted: Cell<[u64; 2]>,
    pub(crate) first_byte: Cell<Option<Instant>>,
    /// When a byte of it moved last.
    pub(crate) moved: Cell<Instant>,
    /// When the whole of the request had gone.
    pub(crate) sent: Cell<Option<Instant>>,
    meter: Option<RefCell<Box<dyn Meter>>>,
    /// What becomes of attempts that are given up.
    pub(crate) gives_up: Cell<Outcome>,
    /// Somebody reads the answer to make the client's words of it, and has not made them yet.
    translating: Cell<bool>,
    /// …who has read it to this end,
    read_to: RefCell<Option<OperationEnd>>,
    /// …or has let go of it before.
    let_go: Cell<bool>,
    /// The attempt whose answer is the operation's.
    trip: RefCell<Option<AttemptGuard>>,
    pub(crate) visit: Rc<ClientConnection>,
}

/// One attempt, at its endpoint. Dropped, it counts as cancelled.
pub(crate) struct AttemptGuard {
    lease: Option<Rc<dyn Lease>>,
    since: Instant,
}

impl AttemptGuard {
    /// A request goes to where this leads.
    pub(crate) fn begin(lease: &Rc<dyn Lease>) -> Self {
        lease.began();
        Self { lease: Some(Rc::clone(lease)), since: Instant::now() }
    }

    /// It is over.
    pub(crate) fn over(mut self, outcome: Outcome) {
        if let Some(lease) = self.lease.take() {
            lease.ended(outcome, self.since.elapsed());
        }
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.ended(Outcome::Cancelled, self.since.elapsed());
        }
    }
}

/// An attempt that is not answered yet. Dropped, it was given up.
pub(crate) struct PendingAttempt<'r> {
    trip: Option<AttemptGuard>,
    record: &'r ActiveOperation,
}

impl<'r> PendingAttempt<'r> {
    /// A request goes to where this leads.
    pub(crate) fn begin(lease: &Rc<dyn Lease>, record: &'r ActiveOperation) -> Self {
        Self { trip: Some(AttemptGuard::begin(lease)), record }
    }

    /// It ends without an answer.
    pub(crate) fn over(mut self, outcome: Outcome) {
        if let Some(trip) = self.trip.take() {
            trip.over(outcome);
        }
    }

    /// It is answered.
    pub(crate) fn answered(mut self) -> Option<AttemptGuard> {
        self.trip.take()
    }
}

impl Drop for PendingAttempt<'_> {
    fn drop(&mut self) {
        if let Some(trip) = self.trip.take() {
            trip.over(self.record.gives_up.get());
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) struct OperationEnd {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<&'static str>,
    pub(crate) code: Option<&'static str>,
    /// The policy that ended it.
    pub(crate) policy: Option<Rc<str>>,
    /// The service itself told how it ended.
    pub(crate) told: bool,
}

impl OperationEnd {
    /// An end that the service did not tell.
    pub(crate) fn of(outcome: Outcome, reason: &'static str) -> Self {
        Self { outcome, reason: Some(reason), code: None, policy: None, told: false }
    }
}

impl From<ResponseOutcome> for OperationEnd {
    fn from(judged: ResponseOutcome) -> Self {
        let ResponseOutcome { outcome, code, .. } = judged;
        Self { outcome, reason: None, code, policy: None, told: true }
    }
}

impl ActiveOperation {
    pub(crate) fn new(
        ticket: Ticket,
        facts: Rc<RequestAttributes>,
        began: Instant,
        meter: Option<Box<dyn Meter>>,
        visit: &Rc<ClientConnection>,
    ) -> Rc<Self> {
        let busy = &visit.notes.busy;
        busy.set(busy.get() + 1);
        Rc::new(Self {
            ticket: Cell::new(Some(ticket)),
            facts,
            began,
            request_bytes: Cell::new(0),
            reply_bytes: Cell::new(0),
            counted: Cell::default(),
            first_byte: Cell::new(None),
            moved: Cell::new(began),
            sent: Cell::new(None),
            meter: meter.map(RefCell::new),
            gives_up: Cell::new(Outcome::Cancelled),
            translating: Cell::new(false),
            read_to: RefCell::new(None),
            let_go: Cell::new(false),
            trip: RefCell::new(None),
            visit: Rc::clone(visit),
        })
    }

    /// More of the request's body has gone.
    pub(crate) fn asked(&self, bytes: &[u8]) {
        self.request_bytes.set(self.request_bytes.get() + bytes.len() as u64);
        self.moved.set(Instant::now());
        if let Some(meter) = &self.meter {
            meter.borrow_mut().asked(bytes);
        }
    }

    /// More of the answer's body has come.
    pub(crate) fn answered(&self, bytes: &[u8]) {
        self.reply_bytes.set(self.reply_bytes.get() + bytes.len() as u64);
        if let Some(meter) = &self.meter {
            meter.borrow_mut().answered(bytes);
        }
    }

    /// Tells of the bytes that have passed since this was called last.
    pub(crate) fn count(&self) {
        let bytes = [self.request_bytes.get(), self.reply_bytes.get()];
        let [asked, answered] = self.counted.replace(bytes);
        let Some(ticket) = self.ticket.take() else { return };
        ticket.passed([bytes[0] - asked, bytes[1] - answered]);
        self.ticket.set(Some(ticket));
    }

    /// This attempt's answer is the operation's.
    pub(crate) fn follows(&self, trip: Option<AttemptGuard>) {
        *self.trip.borrow_mut() = trip;
    }

    /// Tells how it ended, unless that was told before; not before its client's answer is made.
    pub(crate) fn settle(&self, end: &OperationEnd) {
        if self.translating.get() {
            self.read_to.borrow_mut().get_or_insert_with(|| end.clone());
            return;
        }
        let Some(ticket) = self.ticket.take() else { return };
        let now = Instant::now();
        self.facts.over();
        if let Some(trip) = self.trip.borrow_mut().take() {
            // Of what somebody breaks on purpose no endpoint is to blame.
            let injected = end.reason == Some(Close::Injected.as_str());
            trip.over(if injected { Outcome::Cancelled } else { end.outcome });
        }
        let busy = &self.visit.notes.busy;
        busy.set(busy.get() - 1);
        let (request_items, reply_items) =
            self.meter.as_ref().map_or((0, 0), |meter| meter.borrow().items());
        ticket.settle(&Settlement {
            outcome: end.outcome,
            reason: end.reason,
            policy: end.policy.as_deref(),
            code: end.code,
            shape: None,
            request_bytes: self.request_bytes.get(),
            reply_bytes: self.reply_bytes.get(),
            counted: self.counted.get(),
            request_items,
            reply_items,
            confirmed: end.told,
            first_byte: self.first_byte.get(),
            now,
            attributes: &*self.facts,
            named: None,
        });
    }

    /// Somebody begins to make the client's words of the answer.
    pub(crate) fn translates(&self) {
        self.translating.set(true);
        self.facts.status.set(None);
    }

    /// The head of the client's answer is made, and tells this of the end.
    pub(crate) fn translated(&self, status: StatusCode, told: Option<ResponseOutcome>) {
        self.translating.set(false);
        self.facts.status.set(Some(status));
        let failed = told.is_some_and(|told| told.outcome != Outcome::Ok);
        match self.read_to.take() {
            Some(end) if end.outcome == Outcome::Ok && failed => self.untranslated(told),
            Some(end) => self.settle(&end),
            None if self.let_go.get() => self.untranslated(told),
            None => {}
        }
    }

    /// Nothing could be made of the answer for its client but an error, which is not the endpoint's
    /// fault.
    fn untranslated(&self, told: Option<ResponseOutcome>) {
        self.follows(None);
        let end = OperationEnd::of(Outcome::Failed, "untranslated");
        let code = told.and_then(|judged| judged.code);
        self.settle(&OperationEnd { code, ..end });
    }

    /// An answer's body is dropped before its end.
    pub(crate) fn dropped(&self) {
        match self.translating.get() {
            true => self.let_go.set(true),
            false => self.gone(),
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn gone(&self) {
        let close = match self.visit.close.get() {
            // That was another operation.
            Close::Injected => Close::ClientReset,
            Close::ClientReset if self.visit.notes.left.get() => Close::Client,
            close => close,
        };
        self.settle(&OperationEnd::of(close.outcome(false), close.as_str()));
    }
}

impl Drop for ActiveOperation {
    fn drop(&mut self) {
        self.translating.set(false);
        match self.read_to.take() {
            Some(end) => self.settle(&end),
            None => self.gone(),
        }
    }
}
