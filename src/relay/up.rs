//! From the client to the server: requests are found, judged, and let through or dropped.

use super::{
    MESSAGE, Relay, Side,
    open::{End, Facts, Open},
};
use crate::policy::Direction;
use bytes::BytesMut;
use operation::{
    Close, Codec, Gate, Manner, Next, No, Outcome, Question, Request, Tag, Verdict, Violation,
};
use std::{
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;

/// A request that waits for somebody's answer.
pub(super) struct Asking {
    request: Request,
    question: Question,
    began: Instant,
}

/// What the requests in hand wait for.
pub(super) enum Need {
    /// That many unread bytes.
    Bytes(usize),
    /// That the codec reads on in the request at the front.
    More,
    /// That the bytes in front of them are written, or a delay has passed.
    Flush,
}

impl<C: Codec> Relay<C> {
    /// Lets a protocol whose operation is the connection begin it, before any byte.
    pub(super) fn begin(&mut self) -> Result<(), Close> {
        self.judge_request().map(|_| ())
    }

    /// Ready when the client has ended its stream and the server was told.
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if self.up.shut {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Err(close) = ready!(self.flush_up(cx)) {
                return self.cut_up(close);
            }
            if self.hold.is_some() {
                self.let_go();
            }
            if self.asking.is_some() {
                ready!(self.poll_answer(cx))?;
                continue;
            }
            if self.wait_until.is_some() || self.waits_for_refusals() {
                return Poll::Pending;
            }
            if !self.goes_on() {
                return Poll::Pending;
            }
            if let Some((len, with)) = self.rewritten.take() {
                self.swap_request(len, &with);
                continue;
            }
            self.sinks(Direction::Up);
            let wanted = match self.examine_requests()? {
                Need::Bytes(n) => n,
                Need::Flush | Need::More => continue,
            };
            if self.up.is_ready() {
                continue;
            }
            if self.turn == 0 {
                return self.give_way(cx);
            }
            if self.up.eof {
                if self.keeps_end(Direction::Up) {
                    return Poll::Pending;
                }
                return self.end_up(cx);
            }
            if self.is_full(Direction::Up) {
                return Poll::Pending;
            }
            let (buffers, room) = (&self.worker.buffers, self.room(Direction::Up));
            match ready!(self.up.poll_fill(cx, &mut self.client, buffers, wanted, room)) {
                Ok(0) => {
                    self.up.eof = true;
                    self.last_byte = self.now();
                    self.ended_first.get_or_insert(Side::Client);
                    self.pass_rest(Direction::Up);
                }
                Ok(n) => self.took_bytes(Direction::Up, n),
                Err(error) => return Poll::Ready(Err(self.broken(Side::Client, &error))),
            }
        }
    }

    fn flush_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.up.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let flushed = self.up.poll_flush(cx, &mut self.server, &mut progress);
        self.up.stalled = self.stalled(self.up.stalled, flushed.is_pending(), progress);
        flushed.map_err(|error| self.broken(Side::Server, &error))
    }

    /// Gives up what the server takes no more. Its last words may still be on their way.
    fn cut_up(&mut self, close: Close) -> Poll<Result<(), Close>> {
        self.up.discard(&self.worker.buffers);
        self.up.shut = true;
        self.refused_by_server = Some(close);
        Poll::Ready(Ok(()))
    }

    /// Passes the client's end on.
    fn end_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        self.up.release(&self.worker.buffers);
        // A server that has gone already needs no telling.
        let _ = ready!(std::pin::Pin::new(&mut self.server).poll_shutdown(cx));
        self.up.shut = true;
        Poll::Ready(Ok(()))
    }

    /// Judges the requests in hand until something is missing.
    fn examine_requests(&mut self) -> Result<Need, Close> {
        loop {
            if self.up.dropping && self.up.is_ready() {
                return Ok(Need::Flush);
            }
            let dropped = self.up.dropping;
            let advance = self.up.advance(self.room(Direction::Up));
            if advance.moved > 0
                && !dropped
                && let Some(open) = self.open.newest()
            {
                open.request_bytes += advance.moved as u64;
                self.passed(Direction::Up, advance.moved);
            }
            if advance.ended {
                self.message_since = None;
            }
            if advance.ended && !dropped {
                self.request_ended();
            }
            if self.is_parting() || self.is_held(Direction::Up) {
                return Ok(Need::Flush);
            }
            if advance.wants_more || self.up.unread().is_empty() || self.turn == 0 {
                return Ok(Need::Bytes(1));
            }
            self.turn -= MESSAGE;
            if let Some(need) = self.judge_request()? {
                return Ok(need);
            }
        }
    }

    /// Asks the codec, and where a request begins the gate. `None` means: go on.
    fn judge_request(&mut self) -> Result<Option<Need>, Close> {
        if self.hold.is_some()
            && let Some(need) = self.holds()
        {
            return Ok(Some(need));
        }
        let next = match self.codec.request(self.up.unread()) {
            Ok(next) => next,
            Err(violation) => {
                self.lose_framing(Side::Client, violation)?;
                return Ok(None);
            }
        };
        match next {
            Next::Hold(wanted) if wanted > super::flow::LONGEST_HOLD => {
                let too_long = operation::Violation("hold_too_long");
                self.lose_framing(Side::Client, too_long)?;
                Ok(None)
            }
            Next::Hold(wanted) => Ok(Some(Need::Bytes(wanted))),
            Next::Breaks(violation) => {
                self.break_request(violation)?;
                Ok(None)
            }
            Next::Pass { len, mark, ends } => {
                let need = mark.map_or(Ok(None), |request| self.admit(request))?;
                if let Some(Need::More) = need {
                    return self.judge_request();
                }
                if self.up.dropping && len == u64::MAX {
                    return Err(self.refused_as());
                }
                self.up.pass(len, ends);
                Ok(need)
            }
            Next::Drop { len, ends } => {
                self.up.dropping = true;
                self.up.pass(len, ends);
                Ok(None)
            }
            Next::Swap { len, with, mark } => {
                let need = mark.map_or(Ok(None), |request| self.admit(request))?;
                if let Some(Need::More) = need {
                    return self.judge_request();
                }
                if self.up.dropping {
                    self.up.pass(len as u64, true);
                } else if need.is_some() {
                    self.rewritten = Some((len, with));
                } else {
                    self.swap_request(len, &with);
                }
                Ok(need)
            }
        }
    }

    /// Lets a request through as the codec has rewritten it.
    fn swap_request(&mut self, len: usize, with: &[u8]) {
        self.up.swap(len, with);
        if let Some(open) = self.open.newest() {
            open.request_bytes += len as u64;
        }
        self.passed(Direction::Up, with.len());
        self.request_ended();
    }

    /// Takes the request at the front of the unread bytes to the gate.
    fn admit(&mut self, request: Request) -> Result<Option<Need>, Close> {
        self.understood = true;
        if let Some(violation) = request.violation {
            self.door.violation(violation);
            if let Some(no) = self.door.refuse_unreadable() {
                // It may have been held before its rest showed this.
                let _ = self.decided_on_held();
                return self.refuse(request.tag, &no).map(Some);
            }
        }
        let now = self.now();
        let facts = Facts::new(&self.codec, &self.door);
        let mut operation = facts.operation(&request, self.up.unread());
        operation.partial &= !self.hold.as_ref().is_some_and(|hold| hold.is_exhausted());
        let verdict = self.door.admit(&operation, now);
        if matches!(verdict, Verdict::More) {
            self.hold(request.tag);
            return Ok(Some(Need::More));
        }
        let began = self.decided_on_held().unwrap_or(now);
        self.decided(request, verdict, began)
    }

    /// The message under way breaks a rule that it kept when its request was admitted.
    fn break_request(&mut self, violation: Violation) -> Result<(), Close> {
        self.door.violation(violation);
        if self.up.dropping || !self.door.is_guarded() {
            return Ok(());
        }
        // The service has not got all of the message, and never does.
        self.door.explain(violation, "closed");
        Err(Close::ClientViolation)
    }

    /// Waits for the answer that the request at the front needs.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        let Some(asking) = &mut self.asking else { return Poll::Ready(Ok(())) };
        let answer = ready!(asking.question.answer.as_mut().poll(cx));
        let Some(asking) = self.asking.take() else { return Poll::Ready(Ok(())) };
        let Asking { request, question, began } = *asking;
        let now = self.now();
        let facts = Facts::new(&self.codec, &self.door);
        let operation = facts.operation(&request, self.up.unread());
        let verdict = self.door.resume(question.ticket, answer, &operation, now);
        self.decided(request, verdict, began)?;
        if self.up.dropping {
            if self.up.passes_everything() {
                return Poll::Ready(Err(self.refused_as()));
            }
            if let Some((len, _)) = self.rewritten.take() {
                self.up.pass(len as u64, true);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Does what the gate decided about the request at the front, whose first byte was seen then.
    fn decided(
        &mut self,
        request: Request,
        verdict: Verdict,
        began: Instant,
    ) -> Result<Option<Need>, Close> {
        let now = self.now();
        let ticket = match verdict {
            Verdict::Go(ticket) => ticket,
            Verdict::Ask(question) => {
                self.asking = Some(Box::new(Asking { request, question, began }));
                return Ok(Some(Need::Flush));
            }
            Verdict::Refuse(no) => return self.refuse(request.tag, &no).map(Some),
            // Nothing more is read of what waited for an answer.
            Verdict::More => return Err(Close::ClientViolation),
        };
        let (mut delay, mut due) = (None, None);
        if let Some(terms) = ticket.terms() {
            self.accept(terms);
            let goes_on = now + terms.delay;
            delay = (goes_on > now).then_some(goes_on);
            // Who waits for what may take for ever is not kept waiting by the service.
            due = terms.limit.as_ref().filter(|_| !request.awaits).map(|it| goes_on + it.after);
        }
        if !request.awaits {
            self.door.began();
        }
        if let Some(mut forgotten) = self.open.make_room() {
            self.release_refusals(&mut forgotten);
            // Its reply, should one come, passes like any other.
            let facts = Facts::new(&self.codec, &self.door);
            forgotten.settle(End::bare(Outcome::Cancelled, Some("too_many_open")), now, &facts);
        }
        self.open.push(Open {
            tag: request.tag,
            ticket,
            awaits: request.awaits,
            began,
            due,
            shape: request.shape,
            request_bytes: 0,
            request_items: 0,
            reply_bytes: 0,
            counted: [0; 2],
            first_byte: None,
            learned: None,
            refusals: None,
        });
        self.wait_until = delay;
        let waits = delay.is_some() || self.cuts_request();
        Ok(waits.then_some(Need::Flush))
    }

    /// Drops the request at the front, and says so if anybody waits for a reply.
    fn refuse(&mut self, tag: Option<Tag>, no: &No) -> Result<Need, Close> {
        let said = match (no.manner, tag) {
            (Manner::Words, Some(tag)) if self.codec.closes_rather(tag, no.reason, true) => false,
            (Manner::Words, Some(tag)) => self.say_no(tag, no),
            (Manner::Words, None) => {
                self.bent.get_or_insert_default().refused = Some(no.reason.close());
                true
            }
            (Manner::Close, _) => false,
            (Manner::Reset, _) => {
                self.part(no.reason.close(), true, false);
                return Err(no.reason.close());
            }
        };
        if said {
            self.up.dropping = true;
        } else {
            self.part(no.reason.close(), false, true);
        }
        Ok(Need::Flush)
    }

    /// Why the connection ends whose one operation was refused.
    fn refused_as(&self) -> Close {
        self.bent.as_ref().and_then(|bent| bent.refused).unwrap_or(Close::Denied)
    }

    /// Has the codec say no, in the request's turn: the client hears it after all older replies.
    /// Returns whether there are words for it.
    fn say_no(&mut self, tag: Tag, no: &No) -> bool {
        if !self.open.expects_reply() {
            return self.codec.refuse(tag, &no.told(), &mut self.refusals);
        }
        let mut words = BytesMut::new();
        let said = self.codec.refuse(tag, &no.told(), &mut words);
        self.refusals_kept += words.len();
        if let Some(due) = self.open.refuse_after_replies(words) {
            self.refusals_kept -= due.len();
            self.refusals.extend_from_slice(&due);
        }
        said
    }

    /// A request has passed whole: an operation without a reply ends here.
    fn request_ended(&mut self) {
        let (items, learned) = (self.codec.sent(), self.codec.learned());
        if let Some(open) = self.open.newest() {
            open.request_items = items;
            open.learned = learned;
        }
        if let Some(open) = self.open.take_silent() {
            let now = self.now();
            let cut = open.ticket.terms().and_then(|terms| terms.cut);
            open.settle(End::bare(Outcome::Ok, None), now, &self.facts());
            self.cut_end(cut, true);
        }
    }
}
