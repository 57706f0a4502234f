//! The in-flight requests of one connection.
//!
//! An operation in flight has a record in three places, and each goes where nothing else can go: the gate
//! has those of all connections of a worker, which the admin interface lists (permits, series), the codec
//! what its protocol needs to match replies, without I/O and clock, and this table what the relay
//! knows: bytes, times and deferred rejections. The ticket and the tag connect them, and the tables of a
//! connection have one bound, [`operation::MAX_IN_FLIGHT`].

use bytes::BytesMut;
use cluster::Lease;
use operation::{
    AttributeSet, AttributeValue, Attributes, Close, Codec, CursorChange, Direction, EndReason,
    LateDetails, LoggedValue, LookupRun, MAX_IN_FLIGHT, Operation, OperationNames, Outcome,
    Request, ResolvedAttribute, Settlement, Tag, Ticket,
};
use session::Session;
use std::{
    cell::Cell,
    collections::VecDeque,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// An operation that was forwarded and is not settled.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    /// `None` when no reply will come.
    pub(super) tag: Option<Tag>,
    pub(super) ticket: Ticket,
    pub(super) long_poll: bool,
    /// The codec answers it: the endpoint does not get it.
    pub(super) is_answered: bool,
    /// How long it has waited for a pooled connection.
    pub(super) pool_wait: Option<Duration>,
    /// How long of that no endpoint fitted it, or none could be reached.
    pub(super) held: Duration,
    /// How often its request was sent.
    pub(super) sends: u8,
    pub(super) started: Instant,
    /// When its reply has to have started.
    pub(super) deadline: Option<Instant>,
    pub(super) shape: Option<&'static str>,
    /// Attributes that it does not have.
    pub(super) absent: AttributeSet,
    pub(super) request_bytes: u64,
    pub(super) request_items: u64,
    pub(super) reply_bytes: u64,
    /// How many request and reply bytes were counted already.
    pub(super) counted: [u64; 2],
    pub(super) first_byte: Option<Instant>,
    /// What was read from the rest of its request.
    pub(super) learned: Option<Box<LateDetails>>,
    /// Rejections of later requests. They are written after this one's reply.
    pub(super) rejections: Option<Box<BytesMut>>,
}

/// How an operation ended, as far as the relay knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<EndReason>,
    pub(super) code: Option<&'static str>,
    pub(super) cursor: Option<CursorChange>,
    pub(super) items: u64,
    pub(super) confirmed: bool,
    pub(super) greeting: bool,
    /// The connection is the operation.
    pub(super) session: bool,
}

impl Completion {
    /// A completion without details.
    pub(super) fn bare(outcome: Outcome, reason: Option<EndReason>) -> Self {
        Self {
            outcome,
            reason,
            code: None,
            cursor: None,
            items: 0,
            confirmed: false,
            greeting: false,
            session: false,
        }
    }
}

impl InFlightRequest {
    /// A request that may be forwarded, of which nothing has passed yet.
    #[inline]
    pub(super) fn new(tag: Option<Tag>, ticket: Ticket, started: Instant) -> Self {
        Self {
            tag,
            ticket,
            long_poll: false,
            is_answered: false,
            pool_wait: None,
            held: Duration::ZERO,
            sends: 1,
            started,
            deadline: None,
            shape: None,
            absent: AttributeSet::default(),
            request_bytes: 0,
            request_items: 0,
            reply_bytes: 0,
            counted: [0; 2],
            first_byte: None,
            learned: None,
            rejections: None,
        }
    }

    /// Records how long it has waited for a pooled connection, and how long of that it was held.
    pub(super) fn record_wait(&mut self, waited: Option<(Duration, Duration)>) {
        let Some((waited, held)) = waited else { return };
        self.pool_wait = Some(self.pool_wait.unwrap_or_default() + waited);
        self.held += held;
    }

    /// How many request and reply bytes are still to be counted.
    pub(super) fn uncounted(&self) -> [u64; 2] {
        let [requested, replied] = self.counted;
        [self.request_bytes - requested, self.reply_bytes - replied]
    }

    /// Counts the bytes that are not counted yet.
    pub(super) fn count(&mut self) {
        self.ticket.add_bytes(self.uncounted());
        self.counted = [self.request_bytes, self.reply_bytes];
    }

    /// Reports the end of the operation to the endpoint's lease and to the gate.
    pub(super) fn settle<C: Codec>(
        self,
        end: Completion,
        now: Instant,
        facts: &OperationAttributes<'_, C>,
    ) {
        if let Some(lease) = facts.lease.filter(|_| !self.long_poll && !self.is_answered) {
            let took = now.saturating_duration_since(self.started);
            match (end.greeting, end.outcome) {
                (true, Outcome::Ok) => lease.handshake_ended(took),
                // The service is not blamed for injected faults, nor for an idle session: some
                // services answer nothing by design.
                _ if end.reason.is_some_and(|reason| !reason.blames_endpoint()) => {
                    lease.operation_ended(Outcome::Cancelled, took);
                }
                _ if end.session => {
                    let reset = end.reason == Some(EndReason::Closed(Close::UpstreamReset));
                    lease.session_ended(end.outcome, reset, took);
                }
                _ => lease.operation_ended(end.outcome, took),
            }
        }
        let limit = self.ticket.effects().and_then(|terms| terms.reply_timeout.as_ref());
        let limit = limit.filter(|_| end.reason.is_some_and(EndReason::is_time_limit));
        let policy = limit.map(|limit| Rc::clone(&limit.policy));
        self.ticket.settle(&Settlement {
            policy: policy.as_deref(),
            outcome: end.outcome,
            reason: end.reason,
            code: end.code,
            shape: self.shape,
            cursor: end.cursor,
            request_bytes: self.request_bytes,
            reply_bytes: self.reply_bytes,
            reported_bytes: self.counted,
            request_items: self.request_items,
            reply_items: end.items,
            confirmed: end.confirmed,
            first_byte: self.first_byte,
            now,
            attributes: &OperationAttributes {
                learned: self.learned.as_deref(),
                absent: self.absent,
                is_answered: self.is_answered,
                pool_wait: self.pool_wait,
                held: self.held,
                sends: self.sends,
                ..*facts
            },
            names: self
                .learned
                .as_deref()
                .map(|it| OperationNames { name: &it.name, resource: &it.resource }),
        });
    }
}

/// In-flight requests, oldest first. Nearly always none or one.
#[derive(Debug, Default)]
pub(super) struct InFlightRequests {
    requests: VecDeque<InFlightRequest>,
}

impl InFlightRequests {
    pub(super) fn push(&mut self, operation: InFlightRequest) {
        if self.requests.capacity() == 0 {
            // Most connections never have a second one, and many connections are idle.
            self.requests.reserve_exact(1);
        }
        self.requests.push_back(operation);
    }

    /// Removes the oldest if the table is full.
    pub(super) fn evict_if_full(&mut self) -> Option<InFlightRequest> {
        if self.requests.len() < MAX_IN_FLIGHT { None } else { self.requests.pop_front() }
    }

    /// The one whose request passes now.
    pub(super) fn newest(&mut self) -> Option<&mut InFlightRequest> {
        self.requests.back_mut()
    }

    /// The one with this tag.
    pub(super) fn get(&mut self, tag: Tag) -> Option<&mut InFlightRequest> {
        self.requests.iter_mut().find(|open| open.tag == Some(tag))
    }

    /// The one whose reply most likely passes now.
    pub(super) fn oldest(&mut self) -> Option<&mut InFlightRequest> {
        self.requests.front_mut()
    }

    /// The one whose bytes most likely pass in this direction now.
    pub(super) fn current(&self, way: Direction) -> Option<&InFlightRequest> {
        match way {
            Direction::Up => self.requests.back(),
            Direction::Down => self.requests.front(),
        }
    }

    /// The earliest deadline and its tag; of a `stream`, that of its only operation. The newest is
    /// left out while its request is still `passing`.
    pub(super) fn next_deadline(
        &self,
        passing: bool,
        stream: bool,
    ) -> Option<(Option<Tag>, Instant)> {
        let known = self.requests.len() - usize::from(passing && !self.requests.is_empty());
        let waits =
            |open: &&InFlightRequest| open.first_byte.is_none() && (stream || open.tag.is_some());
        let due = self.requests.iter().take(known).filter(waits);
        due.filter_map(|open| Some((open.tag, open.deadline?))).min_by_key(|(_, due)| *due)
    }

    /// Keeps a rejection until all replies due before it have come. Returns it if none is due.
    pub(super) fn defer_rejection(&mut self, words: BytesMut) -> Option<BytesMut> {
        let newest = self.requests.len();
        self.defer_rejection_before(newest, words)
    }

    /// Keeps a rejection until the last reply due before this position has come.
    fn defer_rejection_before(&mut self, place: usize, words: BytesMut) -> Option<BytesMut> {
        let mut older = self.requests.iter_mut().take(place).rev();
        let Some(open) = older.find(|open| open.tag.is_some()) else { return Some(words) };
        match &mut open.rejections {
            Some(earlier) => earlier.extend_from_slice(&words),
            None => open.rejections = Some(Box::new(words)),
        }
        None
    }

    /// Removes the one with this tag, together with the rejections that are due now.
    pub(super) fn take(&mut self, tag: Tag) -> Option<InFlightRequest> {
        let at = self.requests.iter().position(|open| open.tag == Some(tag))?;
        let mut open = self.requests.remove(at)?;
        if let Some(words) = open.rejections.take() {
            open.rejections = self.defer_rejection_before(at, *words).map(Box::new);
        }
        // Its reply overtook others, and its bytes were attributed to the oldest.
        if at > 0
            && open.first_byte.is_none()
            && let Some(oldest) = self.requests.front_mut().filter(|oldest| !oldest.long_poll)
        {
            open.first_byte = oldest.first_byte.take();
            open.reply_bytes = std::mem::take(&mut oldest.reply_bytes);
        }
        Some(open)
    }

    /// Removes the one whose request passes now.
    pub(super) fn take_newest(&mut self) -> Option<InFlightRequest> {
        self.requests.pop_back()
    }

    /// Removes the newest if it expects no reply.
    pub(super) fn take_without_reply(&mut self) -> Option<InFlightRequest> {
        if self.requests.back()?.tag.is_some() { None } else { self.requests.pop_back() }
    }

    /// The gate's slot of the oldest.
    pub(super) fn gate_slot(&self) -> Option<u32> {
        self.requests.front().map(|open| open.ticket.slot())
    }

    /// Removes the oldest.
    pub(super) fn pop(&mut self) -> Option<InFlightRequest> {
        self.requests.pop_front()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether no reply is expected soon: all that is in flight are long polls.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.iter().all(|open| open.long_poll)
    }

    /// Whether a reply is due, however long it may take.
    pub(super) fn expects_reply(&self) -> bool {
        self.requests.iter().any(|open| open.tag.is_some())
    }

    /// Frees all memory, if nothing is in flight.
    pub(super) fn release(&mut self) {
        if self.requests.is_empty() {
            self.requests = VecDeque::new();
        }
    }

    /// Frees memory that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.requests.is_empty() && self.requests.capacity() > 4 {
            self.requests = VecDeque::new();
        }
    }
}

/// The attributes of an operation that its connection and its codec know.
pub(super) struct OperationAttributes<'a, C> {
    codec: &'a C,
    session: &'a dyn Session,
    /// Counts the connection at its endpoint; `None` without an upstream.
    lease: Option<&'a Lease>,
    /// What was read from the rest of the operation's request.
    learned: Option<&'a LateDetails>,
    /// Attributes that the request does not have.
    absent: AttributeSet,
    is_answered: bool,
    pool_wait: Option<Duration>,
    held: Duration,
    sends: u8,
}

impl<'f, C: Codec> OperationAttributes<'f, C> {
    /// The attributes known to this codec and this connection.
    pub(super) fn new(codec: &'f C, session: &'f dyn Session, lease: Option<&'f Lease>) -> Self {
        Self {
            codec,
            session,
            lease,
            learned: None,
            absent: AttributeSet::default(),
            is_answered: false,
            pool_wait: None,
            held: Duration::ZERO,
            sends: 1,
        }
    }

    /// The operation that the codec marked last, at the front of these bytes.
    pub(super) fn operation<'a>(&'a self, request: &Request, front: &'a [u8]) -> Operation<'a> {
        let named = self.codec.names(front);
        Operation {
            protocol: const { &C::PROTOCOL },
            name: named.name,
            resource: named.resource,
            head: front,
            attributes: self,
            long_poll: request.long_poll,
            limit_exempt: request.limit_exempt,
            may_have_callsite: request.may_have_callsite,
            known_names: false,
            partial: request.partial,
            may_have_other_resources: request.may_have_other_resources,
            query_shape: request.query_shape,
        }
    }
}

impl<C: Codec> OperationAttributes<'_, C> {
    /// An attribute that says how the operation reached its endpoint; `None` for the name of another one.
    fn delivery(&self, name: &str) -> Option<Option<LoggedValue<'_>>> {
        let millis = |time: Duration| LoggedValue::Number(time.as_millis() as u64);
        Some(match name {
            "answered" => self.is_answered.then_some(LoggedValue::Plain(b"proxy")),
            "pool_wait_ms" => self.pool_wait.map(millis),
            "held_ms" => (!self.held.is_zero()).then(|| millis(self.held)),
            "attempts" => (self.sends > 1).then(|| LoggedValue::Number(self.sends.into())),
            _ => return None,
        })
    }

    /// An attribute that the codec reads.
    fn of_codec<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a> {
        match (self.codec.attribute(front, name), self.learned) {
            (AttributeValue::Unread, Some(learned)) => {
                self.codec.late_attribute(front, learned, name)
            }
            (value, _) => value,
        }
    }

    /// An attribute of the connection, or one that the codec reads.
    fn of_connection<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a> {
        match self.session.attribute(name) {
            AttributeValue::Absent => match self.of_codec(front, name) {
                AttributeValue::Absent if name == "endpoint" => self.endpoint(),
                value => value,
            },
            own => own,
        }
    }

    /// The endpoint of the operation's connection.
    fn endpoint(&self) -> AttributeValue<'_> {
        self.lease.map(|lease| &**lease.endpoint().name()).into()
    }
}

impl<C: Codec> Attributes for OperationAttributes<'_, C> {
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a> {
        // First, since neither the session nor the codec knows these names.
        match self.delivery(name) {
            Some(delivery) => delivery.into(),
            None => self.of_connection(front, name),
        }
    }

    fn logged<'a>(
        &'a self,
        front: &'a [u8],
        attribute: ResolvedAttribute,
    ) -> Option<LoggedValue<'a>> {
        let ResolvedAttribute { name, number } = attribute;
        let value = match number {
            Some(number) if self.absent.contains(number) => return None,
            Some(_) => self.of_codec(front, name),
            None if name == "peer" => return Some(LoggedValue::Address(self.session.info().peer)),
            None => match self.delivery(name) {
                Some(delivery) => return delivery,
                None => self.of_connection(front, name),
            },
        };
        value.text().map(LoggedValue::Text)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.session.info().peer.ip())
    }

    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        self.session.lookups()
    }
}

#[cfg(test)]
mod tests;
