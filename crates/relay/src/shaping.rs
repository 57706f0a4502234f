//! What policies ask of a connection's bytes: how fast they pass, and where they are cut.

use super::{
    Relay,
    impaired::Impaired,
    in_flight::{Completion, InFlightRequest},
};
use operation::{
    ByteBucket, Close, ClosePoint, Codec, Direction, Effects, InjectedClose, Outcome, RejectMode,
    Request, Revision,
};
use std::{num::NonZeroU64, time::Instant};

/// The effects in force on a connection's bytes. Most connections have none.
#[derive(Debug, Default)]
pub(super) struct Shaping {
    /// Until when nothing passes, by direction.
    blocked_until: [Option<Instant>; 2],
    /// The throttle of an operation.
    throttle: Option<Throttle>,
    /// The request at the front is cut as soon as it may be forwarded.
    request_cut: Option<InjectedClose>,
    /// When a stream is cut, and how.
    stream_cut: Option<(Instant, InjectedClose)>,
    /// The network impairment of a stream, by direction.
    pub(super) impaired: [Option<Box<Impaired>>; 2],
    /// The terms of a stream since policies changed while it was open.
    revised_terms: Option<RevisedTerms>,
}

/// Terms of a stream that replace those of its ticket.
#[derive(Debug)]
struct RevisedTerms {
    terms: Effects,
    /// How many bytes of the reply had passed before the change.
    reply_bytes: u64,
}

/// The throttle of an operation, in both directions.
#[derive(Debug)]
struct Throttle {
    rate: NonZeroU64,
    buckets: [ByteBucket; 2],
}

impl Shaping {
    /// Unblocks the directions whose time has come. Returns whether there was one.
    pub(super) fn release_due(&mut self, now: Instant) -> bool {
        let due = |held: &&mut Option<Instant>| held.is_some_and(|until| until <= now);
        self.blocked_until.iter_mut().filter(due).map(Option::take).count() > 0
    }

    /// Until when nothing passes, by direction.
    pub(super) fn blocked_until(&self) -> [Option<Instant>; 2] {
        self.blocked_until
    }
}

impl<C: Codec> Relay<C> {
    /// Applies what an operation's terms ask of its bytes.
    pub(super) fn apply_terms(&mut self, terms: &Effects) {
        self.timers.has_timeouts |= terms.reply_timeout.is_some();
        if !terms.leaves_bytes_alone() {
            self.shape(terms);
        }
    }

    fn shape(&mut self, terms: &Effects) {
        let now = self.now();
        let shaping = self.shaping.get_or_insert_default();
        shaping.request_cut =
            terms.injected_close.filter(|cut| cut.at == ClosePoint::BeforeRequest);
        if let Some(rate) = terms.bytes_per_second
            && shaping.throttle.as_ref().is_none_or(|pace| pace.rate != rate)
        {
            let bucket = || ByteBucket::smooth(rate.get(), now);
            shaping.throttle = Some(Throttle { rate, buckets: [bucket(), bucket()] });
        }
        let after = terms.injected_close.and_then(|cut| match cut.at {
            ClosePoint::AfterDelay(time) => Some((now + time, cut)),
            _ => None,
        });
        // A timer that is running already is kept.
        if shaping.stream_cut.map(|(_, cut)| cut) != after.map(|(_, cut)| cut) {
            shaping.stream_cut = after;
        }
        self.impair(&terms.impairments);
    }

    /// When the stream is cut, if it is to be.
    pub(super) fn stream_cut_at(&self) -> Option<Instant> {
        Some(self.shaping.as_ref()?.stream_cut?.0)
    }

    /// The close reason of a stream whose cut is due.
    pub(super) fn due_stream_cut(&mut self) -> Option<Close> {
        let (at, cut) = self.shaping.as_ref()?.stream_cut?;
        if at > self.now() {
            return None;
        }
        self.schedule_close(Close::Injected, cut.reset, false);
        Some(Close::Injected)
    }

    /// Applies policies that were added or removed while the connection was open. Messages need
    /// nothing here: the next one is judged by the new policies.
    pub(super) fn apply_policy_changes(&mut self) -> Result<(), Close> {
        if !self.session.refresh_limits() {
            return Ok(());
        }
        if self.session.is_limited() {
            self.shaping.get_or_insert_default();
        }
        let stream =
            self.in_flight.gate_slot().filter(|_| self.is_stream() && self.front.verdict.is_none());
        let Some(slot) = stream else { return Ok(()) };
        let (now, request) = (self.now(), Request::default());
        let facts = self.attributes();
        let Some(revised) = self.session.revise(slot, &facts.operation(&request, &[]), now) else {
            return Ok(());
        };
        let Revision { effects: terms, delay, rejection } = revised;
        if let Some(no) = rejection {
            let reset = no.mode == RejectMode::Reset;
            self.schedule_close(Close::Injected, reset, false);
            return Ok(());
        }
        self.shape(&terms);
        if terms.injected_close.is_some_and(|cut| cut.at == ClosePoint::BeforeRequest) {
            // Nothing more is forwarded in either direction.
            let _ = self.may_send_requests();
            return Err(Close::Injected);
        }
        let reply_bytes = self.in_flight.oldest().map_or(0, |open| open.reply_bytes);
        self.shaping.get_or_insert_default().revised_terms =
            Some(RevisedTerms { terms, reply_bytes });
        if !delay.is_zero() {
            self.front.delayed_until = self.front.delayed_until.max(Some(now + delay));
        }
        Ok(())
    }

    fn revised_terms(&self) -> Option<&RevisedTerms> {
        self.shaping.as_ref()?.revised_terms.as_ref()
    }

    /// The operation whose bytes most likely pass in this direction now.
    fn current_operation(&self, way: Direction) -> Option<&InFlightRequest> {
        match way {
            Direction::Down if self.replies.unsolicited => None,
            way => self.in_flight.current(way),
        }
    }

    /// The terms of an operation that are in force now.
    fn current_terms<'o>(&'o self, open: &'o InFlightRequest) -> Option<&'o Effects> {
        match self.revised_terms() {
            Some(revised) if self.is_stream() => Some(&revised.terms),
            _ => open.ticket.effects(),
        }
    }

    /// Whether the request at the front is to be cut as soon as it may be forwarded.
    pub(super) fn has_request_cut(&self) -> bool {
        self.shaping.as_ref().is_some_and(|shaping| shaping.request_cut.is_some())
    }

    /// Whether requests may be forwarded. Cuts the one at the front if that is due.
    pub(super) fn may_send_requests(&mut self) -> bool {
        let Some(shaping) = &mut self.shaping else { return !self.is_closing() };
        if let Some(cut) = shaping.request_cut.take() {
            let now = self.now();
            let end = Completion::bare(Outcome::Lost, Some(Close::Injected.into()));
            if let Some(open) = self.in_flight.take_newest() {
                open.settle(end, now, &self.attributes());
            }
            self.schedule_close(Close::Injected, cut.reset, true);
        }
        !self.is_closing() && !self.is_blocked(Direction::Up)
    }

    /// Whether nothing passes in this direction for now.
    pub(super) fn is_blocked(&self, way: Direction) -> bool {
        self.shaping.as_ref().is_some_and(|shaping| shaping.blocked_until[way as usize].is_some())
    }

    /// The most bytes that may pass in this direction at once.
    #[inline]
    pub(super) fn max_pass(&self, way: Direction) -> usize {
        self.shaping.as_ref().map_or(usize::MAX, |shaping| self.shaped_max_pass(shaping, way))
    }

    #[inline(never)]
    fn shaped_max_pass(&self, shaping: &Shaping, way: Direction) -> usize {
        let mut room = self.session.max_chunk(way);
        if let Some(pace) = shaping.throttle.as_ref().filter(|_| self.is_throttled(way)) {
            room = room.min(pace.buckets[way as usize].max_chunk());
        }
        if let Some(impaired) = self.impaired(way) {
            room = room.min(impaired.max_pass());
        }
        match way {
            Direction::Up => room,
            Direction::Down => {
                self.reply_bytes_before_cut().map_or(room, |(left, _)| room.min(left))
            }
        }
    }

    /// How many bytes may still pass of a reply that is to be cut.
    pub(super) fn reply_bytes_before_cut(&self) -> Option<(usize, InjectedClose)> {
        self.shaping.as_ref()?;
        let open = self.current_operation(Direction::Down)?;
        let cut = self.current_terms(open)?.injected_close?;
        let ClosePoint::AfterReplyBytes(n) = cut.at else { return None };
        let before = self.revised_terms().map_or(0, |revised| revised.reply_bytes);
        let left = n.saturating_sub(open.reply_bytes.saturating_sub(before));
        Some((usize::try_from(left).unwrap_or(usize::MAX), cut))
    }

    /// Whether the operation whose bytes pass in this direction is throttled.
    fn is_throttled(&self, way: Direction) -> bool {
        let terms = self.current_operation(way).and_then(|open| self.current_terms(open));
        terms.is_some_and(|terms| terms.bytes_per_second.is_some())
    }

    /// Records that bytes have passed in this direction.
    #[inline]
    pub(super) fn record_passed(&mut self, way: Direction, bytes: usize) {
        if bytes > 0 && self.shaping.is_some() {
            self.charge(way, bytes);
        }
    }

    #[inline(never)]
    fn charge(&mut self, way: Direction, bytes: usize) {
        let now = self.now();
        let paced = self.is_throttled(way);
        let slot = self.current_operation(way).map(|open| open.ticket.slot());
        let Some(shaping) = &mut self.shaping else { return };
        let mut until = self.session.record_passed(way, bytes, now, slot);
        if let Some(pace) = shaping.throttle.as_ref().filter(|_| paced) {
            until = until.max(pace.buckets[way as usize].record(bytes, now));
        }
        if let Some(impaired) = &mut shaping.impaired[way as usize] {
            until = until.max(impaired.record_passed(bytes, now));
        }
        shaping.blocked_until[way as usize] = until;
    }

    /// Cuts the connection when the reply being passed has reached its cut.
    #[inline]
    pub(super) fn cut_reply(&mut self) {
        if self.shaping.is_none() {
            return;
        }
        let left = self.reply_bytes_before_cut().filter(|_| self.is_inside_reply());
        // A stream that was already open is cut when its next byte arrives.
        let waits = self.revised_terms().is_some() && self.replies.unread().is_empty();
        if let Some((0, cut)) = left.filter(|_| !waits) {
            self.schedule_close(Close::Injected, cut.reset, false);
        }
    }

    /// Cuts the connection at the end of its stream, if the operation is to be cut there.
    pub(super) fn cut_stream(&mut self) {
        if self.shaping.is_some() && self.is_stream() {
            let terms =
                self.current_operation(Direction::Down).and_then(|open| self.current_terms(open));
            self.cut_end(terms.and_then(|terms| terms.injected_close), false);
        }
    }

    /// Cuts the connection if the operation that just ended is to be cut at its end.
    pub(super) fn cut_end(&mut self, cut: Option<InjectedClose>, owes: bool) {
        if let Some(cut) = cut.filter(|cut| cut.at == ClosePoint::AfterReply) {
            self.schedule_close(Close::Injected, cut.reset, owes);
        }
    }
}
