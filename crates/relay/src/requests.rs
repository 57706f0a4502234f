//! From the client to the server: requests are parsed, judged, and forwarded or dropped.

use super::{
    MESSAGE_COST, Relay, Side,
    in_flight::{Completion, InFlightRequest},
};
use cluster::Lease;
use operation::{
    Close, Codec, Direction, EndReason, Next, Outcome, PendingOperation, RejectMode, Rejection,
    Request, Tag, Verdict, Violation,
};
use std::{
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;

/// A request whose verdict is pending, for example on a remote rate limit.
#[derive(Debug)]
pub(super) struct PendingVerdict {
    request: Request,
    question: PendingOperation,
    started: Instant,
}

/// What the buffered requests wait for.
pub(super) enum Need {
    /// This many unread bytes.
    Bytes(usize),
    /// The codec has to read further in the request at the front.
    More,
    /// The bytes before them have to be written, or a delay has to pass.
    Flush,
}

impl<C: Codec> Relay<C> {
    /// Lets a protocol whose operation is the connection start it before the first byte.
    pub(super) fn start(&mut self) -> Result<(), Close> {
        self.judge_request().map(|_| ())
    }

    /// Ready when the client has ended its stream and this was forwarded to the server.
    pub(super) fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if self.requests.write_closed {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Err(close) = ready!(self.flush_requests(cx)) {
                return self.abandon_requests(close);
            }
            if self.front.hold.is_some() {
                self.release_hold();
            }
            if self.front.verdict.is_some() {
                ready!(self.poll_verdict(cx))?;
                continue;
            }
            if self.front.delayed_until.is_some() || self.is_rejection_backlogged() {
                return Poll::Pending;
            }
            if !self.may_send_requests() {
                return Poll::Pending;
            }
            if let Some((len, with)) = self.front.rewrite.take() {
                self.rewrite_request(len, &with);
                continue;
            }
            self.apply_black_hole(Direction::Up);
            let wanted = match self.examine_requests()? {
                Need::Bytes(n) => n,
                Need::Flush | Need::More => continue,
            };
            if self.requests.is_ready() {
                continue;
            }
            if self.wake_up.budget == 0 {
                return self.yield_now(cx);
            }
            if self.requests.eof {
                if self.delays_eof(Direction::Up) {
                    return Poll::Pending;
                }
                return self.forward_eof(cx);
            }
            if self.is_queue_full(Direction::Up) {
                return Poll::Pending;
            }
            let (buffers, room) = (&self.buffers, self.max_pass(Direction::Up));
            match ready!(self.requests.poll_fill(cx, &mut self.client, buffers, wanted, room)) {
                // Only the end of a stream says whether it is complete.
                Ok(0) if self.is_stream() && self.client.is_truncated() => {
                    return Poll::Ready(Err(Close::ClientReset));
                }
                Ok(0) => {
                    self.requests.eof = true;
                    self.timers.last_byte = self.now();
                    self.progress.closed_first.get_or_insert(Side::Client);
                    self.pass_rest(Direction::Up);
                }
                Ok(n) => self.record_read(Direction::Up, n),
                Err(error) => return Poll::Ready(Err(self.io_close_reason(Side::Client, &error))),
            }
        }
    }

    fn flush_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.requests.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let flushed = self.requests.poll_flush(cx, &mut self.upstream.stream, &mut progress);
        self.requests.stalled_since =
            self.stalled_since(self.requests.stalled_since, flushed.is_pending(), progress);
        flushed.map_err(|error| self.io_close_reason(Side::Server, &error))
    }

    /// Drops what the server no longer accepts. Its last bytes may still be on their way.
    fn abandon_requests(&mut self, close: Close) -> Poll<Result<(), Close>> {
        self.requests.discard(&self.buffers);
        self.requests.write_closed = true;
        self.server_refused(close);
        Poll::Ready(Ok(()))
    }

    /// Forwards the client's end of stream.
    fn forward_eof(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        self.requests.release(&self.buffers);
        // An error means that the server has gone already.
        let _ = ready!(std::pin::Pin::new(&mut self.upstream.stream).poll_shutdown(cx));
        self.requests.write_closed = true;
        Poll::Ready(Ok(()))
    }

    /// Judges the buffered requests until something is missing.
    fn examine_requests(&mut self) -> Result<Need, Close> {
        loop {
            if self.requests.dropping && self.requests.is_ready() {
                return Ok(Need::Flush);
            }
            let dropped = self.requests.dropping;
            let advance = self.requests.advance(self.max_pass(Direction::Up));
            if advance.moved > 0
                && !dropped
                && let Some(open) = self.in_flight.newest()
            {
                open.request_bytes += advance.moved as u64;
                self.record_passed(Direction::Up, advance.moved);
            }
            if advance.ended {
                self.timers.partial_message_since = None;
            }
            if advance.ended && !dropped {
                self.finish_request();
            }
            if self.is_closing() || self.is_blocked(Direction::Up) {
                return Ok(Need::Flush);
            }
            if advance.wants_more || self.requests.unread().is_empty() || self.wake_up.budget == 0 {
                return Ok(Need::Bytes(1));
            }
            self.wake_up.budget -= MESSAGE_COST;
            if let Some(need) = self.judge_request()? {
                return Ok(need);
            }
        }
    }

    /// Asks the codec, and at the start of a request the gate. `None`: continue.
    fn judge_request(&mut self) -> Result<Option<Need>, Close> {
        if self.front.hold.is_some()
            && let Some(need) = self.hold_need()
        {
            return Ok(Some(need));
        }
        let next = match self.codec.request(self.requests.unread()) {
            Ok(next) => next,
            Err(violation) => {
                self.lose_framing(Side::Client, violation)?;
                return Ok(None);
            }
        };
        match next {
            Next::Hold(wanted) if wanted > super::flow::MAX_HOLD => {
                let too_long = operation::Violation("hold_too_long");
                self.lose_framing(Side::Client, too_long)?;
                Ok(None)
            }
            Next::Hold(wanted) => Ok(Some(Need::Bytes(wanted))),
            Next::Violates(violation) => {
                self.handle_late_violation(violation)?;
                Ok(None)
            }
            Next::Pass { len, mark, ends } => {
                let need = mark.map_or(Ok(None), |request| self.admit(request))?;
                if let Some(Need::More) = need {
                    return self.judge_request();
                }
                if self.requests.dropping && len == u64::MAX {
                    return Err(self.stream_rejection_close());
                }
                self.requests.pass(len, ends);
                Ok(need)
            }
            Next::Drop { len, ends } => {
                self.requests.dropping = true;
                self.requests.pass(len, ends);
                Ok(None)
            }
            Next::Swap { len, with, mark } => {
                let need = mark.map_or(Ok(None), |request| self.admit(request))?;
                if let Some(Need::More) = need {
                    return self.judge_request();
                }
                if self.requests.dropping {
                    self.requests.pass(len as u64, true);
                } else if need.is_some() {
                    self.front.rewrite = Some((len, with));
                } else {
                    self.rewrite_request(len, &with);
                }
                Ok(need)
            }
        }
    }

    /// Forwards a request as the codec has rewritten it.
    fn rewrite_request(&mut self, len: usize, with: &[u8]) {
        self.requests.swap(len, with);
        if let Some(open) = self.in_flight.newest() {
            open.request_bytes += len as u64;
        }
        self.record_passed(Direction::Up, with.len());
        self.finish_request();
    }

    /// Passes the request at the front of the unread bytes to the gate.
    fn admit(&mut self, request: Request) -> Result<Option<Need>, Close> {
        self.progress.request_parsed = true;
        if let Some(violation) = request.violation {
            self.session.count_violation(violation);
            if let Some(no) = self.session.reject_unreadable() {
                // It may have been held before the violation was seen.
                let _ = self.finish_hold();
                return self.reject_request(request.tag, &no).map(Some);
            }
        }
        let now = self.now();
        let facts = self.attributes();
        let mut operation = facts.operation(&request, self.requests.unread());
        operation.partial &= !self.front.hold.as_ref().is_some_and(|hold| hold.is_exhausted());
        let verdict = self.session.admit(&operation, now);
        if matches!(verdict, Verdict::NeedMore) {
            self.hold_request(request.tag);
            return Ok(Some(Need::More));
        }
        let began = self.finish_hold().unwrap_or(now);
        self.apply_verdict(request, verdict, began)
    }

    /// Handles a violation in a message whose request was admitted already.
    fn handle_late_violation(&mut self, violation: Violation) -> Result<(), Close> {
        self.session.count_violation(violation);
        if self.requests.dropping || !self.session.is_guarded() {
            return Ok(());
        }
        // The service has not got the whole message, and never will.
        self.session.log_violation(violation, "closed");
        Err(Close::ClientViolation)
    }

    /// Waits for the pending verdict on the request at the front.
    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        let Some(asking) = &mut self.front.verdict else { return Poll::Ready(Ok(())) };
        let answer = ready!(asking.question.decision.as_mut().poll(cx));
        let Some(asking) = self.front.verdict.take() else { return Poll::Ready(Ok(())) };
        let PendingVerdict { request, question, started: began } = *asking;
        let now = self.now();
        let facts = self.attributes();
        let operation = facts.operation(&request, self.requests.unread());
        let verdict = self.session.resume(question.ticket, answer, &operation, now);
        self.apply_verdict(request, verdict, began)?;
        if self.requests.dropping {
            if self.requests.passes_everything() {
                return Poll::Ready(Err(self.stream_rejection_close()));
            }
            if let Some((len, _)) = self.front.rewrite.take() {
                self.requests.pass(len as u64, true);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Applies the gate's verdict on the request at the front. `began` is when its first byte was
    /// seen.
    fn apply_verdict(
        &mut self,
        request: Request,
        verdict: Verdict,
        began: Instant,
    ) -> Result<Option<Need>, Close> {
        let now = self.now();
        let ticket = match verdict {
            Verdict::Admit(ticket) => ticket,
            Verdict::Pending(question) => {
                self.front.verdict =
                    Some(Box::new(PendingVerdict { request, question, started: began }));
                return Ok(Some(Need::Flush));
            }
            Verdict::Reject(no) => return self.reject_request(request.tag, &no).map(Some),
            // The rest of a request is not read once its verdict was pending.
            Verdict::NeedMore => return Err(Close::ClientViolation),
        };
        let (mut delay, mut due) = (None, None);
        if let Some(terms) = ticket.effects() {
            self.apply_terms(terms);
            let goes_on = now + terms.delay;
            delay = (goes_on > now).then_some(goes_on);
            // A long poll may take for ever by design, so the service does not owe a reply in time.
            due = terms
                .reply_timeout
                .as_ref()
                .filter(|_| !request.long_poll)
                .map(|it| goes_on + it.after);
        }
        if !request.long_poll {
            self.upstream.lease.iter().for_each(Lease::operation_started);
        }
        if let Some(mut evicted) = self.in_flight.evict_if_full() {
            self.release_rejections(&mut evicted);
            // Its reply, if one comes, passes like any other.
            let end = Completion::bare(Outcome::Cancelled, Some(EndReason::TooManyInFlight));
            evicted.settle(end, now, &self.attributes());
        }
        self.in_flight.push(InFlightRequest {
            tag: request.tag,
            ticket,
            long_poll: request.long_poll,
            started: began,
            deadline: due,
            shape: request.shape,
            request_bytes: 0,
            request_items: 0,
            reply_bytes: 0,
            counted: [0; 2],
            first_byte: None,
            learned: None,
            rejections: None,
        });
        self.front.delayed_until = delay;
        let waits = delay.is_some() || self.has_request_cut();
        Ok(waits.then_some(Need::Flush))
    }

    /// Drops the request at the front, and writes a rejection if a reply is expected.
    fn reject_request(&mut self, tag: Option<Tag>, no: &Rejection) -> Result<Need, Close> {
        let written = match (no.mode, tag) {
            (RejectMode::Reply, Some(tag)) if self.codec.prefers_close(tag, no.reason, true) => {
                false
            }
            (RejectMode::Reply, Some(tag)) => self.write_rejection(tag, no),
            (RejectMode::Reply, None) => {
                self.front.rejected = Some(no.reason.close());
                true
            }
            (RejectMode::Close, _) => false,
            (RejectMode::Reset, _) => {
                self.schedule_close(no.reason.close(), true, false);
                return Err(no.reason.close());
            }
        };
        if written {
            self.requests.dropping = true;
        } else {
            self.schedule_close(no.reason.close(), false, true);
        }
        Ok(Need::Flush)
    }

    /// The close reason of a connection whose only operation was rejected.
    fn stream_rejection_close(&self) -> Close {
        self.front.rejected.unwrap_or(Close::Denied)
    }

    /// The request has passed completely: an operation without a reply ends here.
    fn finish_request(&mut self) {
        let (items, learned) = (self.codec.request_items(), self.codec.late_details());
        if let Some(open) = self.in_flight.newest() {
            open.request_items = items;
            open.learned = learned;
        }
        if let Some(open) = self.in_flight.take_without_reply() {
            let now = self.now();
            let cut = open.ticket.effects().and_then(|terms| terms.injected_close);
            open.settle(Completion::bare(Outcome::Ok, None), now, &self.attributes());
            self.cut_end(cut, true);
        }
    }
}
