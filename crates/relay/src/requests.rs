//! From the client to the server: requests are parsed, judged, and forwarded or dropped.

use super::{MESSAGE_COST, Relay, Side, front_action::FrontAction, in_flight::Completion};
use operation::{Close, Codec, Direction, Next, Outcome, Request, Violation};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

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
            match ready!(self.flush_requests(cx)) {
                Err(close) if self.upstream.is_pooled() => {
                    self.lose_upstream(close)?;
                    continue;
                }
                Err(close) => return self.abandon_requests(close),
                Ok(()) => {}
            }
            if ready!(self.poll_front(cx))? {
                continue;
            }
            self.release_upstream();
            self.apply_black_hole(Direction::Up);
            let wanted = if self.awaits_turn() {
                1
            } else {
                match self.examine_requests()? {
                    Need::Bytes(n) => n,
                    Need::Flush | Need::More => continue,
                }
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
            // A client that waits for a reply sends nothing, but may leave.
            let has_next = self.awaits_turn() && !self.requests.unread().is_empty();
            if has_next || self.is_queue_full(Direction::Up) {
                return Poll::Pending;
            }
            ready!(self.fill_requests(cx, wanted))?;
        }
    }

    /// Waits until the request at the front may be forwarded, if there is one. Returns whether anything
    /// has changed.
    fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Close>> {
        if self.front.hold.is_some() {
            self.release_hold();
        }
        if self.front.verdict.is_some() {
            return self.poll_verdict(cx).map_ok(|()| true);
        }
        if self.front.delayed_until.is_some()
            || self.is_rejection_backlogged()
            || !self.may_send_requests()
        {
            return Poll::Pending;
        }
        if self.upstream.is_wanted() {
            return self.poll_upstream(cx).map_ok(|()| true);
        }
        if self.answer_is_due() || self.front.action.is_some() {
            return Poll::Ready(self.act().map(|()| true));
        }
        Poll::Ready(Ok(false))
    }

    /// Does what is to be done instead of forwarding the request at the front, and writes an answer that
    /// is due.
    fn act(&mut self) -> Result<(), Close> {
        self.write_due_answer();
        match self.front.action.take() {
            Some(FrontAction::Rewrite { len, with }) => self.rewrite_request(len, &with),
            Some(FrontAction::Answer { len, has_upstream }) => {
                self.answer_request(len, has_upstream)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Reads from the client.
    fn fill_requests(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<(), Close>> {
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
                if self.upstream.is_pooled() {
                    self.requests.drop_unread(&self.buffers);
                } else {
                    self.pass_rest(Direction::Up);
                }
            }
            Ok(n) => self.record_read(Direction::Up, n),
            Err(error) => return Poll::Ready(Err(self.io_close_reason(Side::Client, &error))),
        }
        Poll::Ready(Ok(()))
    }

    fn flush_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.requests.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let Some(stream) = self.upstream.stream() else { return Poll::Ready(Ok(())) };
        let flushed = self.requests.poll_flush(cx, stream, &mut progress);
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
        if self.upstream.is_pooled() {
            if self.requests.inside || !self.in_flight.is_idle() {
                // The rest of a request never comes, or the reply has no reader.
                return Poll::Ready(Err(Close::Client));
            }
        } else if let Some(stream) = self.upstream.stream() {
            // An error means that the server has gone already.
            let _ = ready!(std::pin::Pin::new(stream).poll_shutdown(cx));
        }
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
            if self.is_closing() || self.is_blocked(Direction::Up) || self.awaits_turn() {
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
                self.pass_request(len, ends);
                Ok(need)
            }
            Next::PassUnsolicited { len, ends } => {
                self.requests.pass(len, ends);
                Ok(None)
            }
            Next::Drop { len, ends } => {
                self.requests.dropping = true;
                self.requests.pass(len, ends);
                Ok(None)
            }
            Next::Swap { len, with, mark } => {
                self.judge_with(FrontAction::Rewrite { len, with }, mark)
            }
            Next::Answer { len, mark } => {
                let action = FrontAction::Answer { len, has_upstream: false };
                self.judge_with(action, Some(mark))
            }
            Next::Resend { .. } => {
                self.lose_framing(Side::Client, Violation("resend_of_a_request"))?;
                Ok(None)
            }
        }
    }

    /// Passes the next `len` bytes of a request.
    fn pass_request(&mut self, len: u64, ends: bool) {
        let replaced = std::mem::take(&mut self.front.replaced) as u64;
        self.requests.pass(len - replaced, ends);
    }

    /// Asks the gate about a request that is not forwarded unchanged, and does what happens instead if
    /// nothing holds it back.
    fn judge_with(
        &mut self,
        action: FrontAction,
        mark: Option<Request>,
    ) -> Result<Option<Need>, Close> {
        let len = action.request_len();
        self.front.action = Some(action);
        let need = mark.map_or(Ok(None), |request| self.admit(request))?;
        if let Some(Need::More) = need {
            self.front.action = None;
            return self.judge_request();
        }
        if self.requests.dropping {
            self.front.action = None;
            self.requests.pass(len as u64, true);
        } else if need.is_none() {
            self.act()?;
        }
        Ok(need)
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
