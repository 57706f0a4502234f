//! From the server to the client: replies are followed to the end of their operations.

use super::{MESSAGE_COST, Relay, Side, closing::Closing, in_flight::Completion};
use bytes::BytesMut;
use operation::{Close, Codec, Direction, Next, RejectReason, RejectionRef, Reply, Violation};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

impl<C: Codec> Relay<C> {
    /// Ready when the server has ended its stream and this was forwarded to the client.
    pub(super) fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if self.replies.write_closed {
            return Poll::Ready(self.due_close().map_or(Ok(()), Err));
        }
        loop {
            ready!(self.flush_replies(cx))?;
            // Before anything else passes: the client may have got a part of them already.
            if self.has_due_rejections() {
                ready!(self.flush_rejections(cx))?;
            }
            if let Some(close) = self.due_close() {
                return Poll::Ready(Err(close));
            }
            if self.is_blocked(Direction::Down) {
                return Poll::Pending;
            }
            self.apply_black_hole(Direction::Down);
            let wanted = self.examine_replies()?;
            if self.upstream.is_wanted() {
                // The request goes to another endpoint.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Before more is read: what follows on a pooled connection is no longer this client's.
            self.release_upstream();
            if self.replies.is_ready() || self.is_closing_now() || self.has_due_rejections() {
                continue;
            }
            if self.wake_up.budget == 0 {
                return self.yield_now(cx);
            }
            if self.replies.eof {
                return self.forward_server_eof(cx);
            }
            if self.is_queue_full(Direction::Down) {
                return Poll::Pending;
            }
            match ready!(self.poll_fill_replies(cx, wanted)) {
                Ok(0) if self.upstream.is_pooled() => self.lose_upstream(Close::Upstream)?,
                // Only the end of a stream says whether it is complete.
                Ok(0) if self.is_stream() && self.upstream.is_truncated() => {
                    return Poll::Ready(Err(Close::UpstreamReset));
                }
                Ok(0) => {
                    self.replies.eof = true;
                    self.timers.last_byte = self.now();
                    self.progress.closed_first.get_or_insert(Side::Server);
                    self.pass_rest(Direction::Down);
                    if self.requests.eof && !self.requests.write_closed {
                        // The end of the request stream may have waited for this one.
                        cx.waker().wake_by_ref();
                    }
                }
                Ok(n) => self.record_read(Direction::Down, n),
                Err(error) => {
                    let close = self.io_close_reason(Side::Server, &error);
                    if !self.upstream.is_pooled() {
                        return Poll::Ready(Err(close));
                    }
                    self.lose_upstream(close)?;
                }
            }
        }
    }

    /// Forwards the server's end of stream.
    fn forward_server_eof(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if self.delays_eof(Direction::Down) {
            return Poll::Pending;
        }
        self.cut_stream();
        if let Some(close) = self.due_close() {
            return Poll::Ready(Err(close));
        }
        self.replies.release(&self.buffers);
        // A stream that was interrupted must not end in order for the client.
        if !matches!(self.closing, Closing::ServerRefused(_)) {
            // An error means that the client has gone already.
            let _ = ready!(Pin::new(&mut self.client).poll_shutdown(cx));
        }
        self.replies.write_closed = true;
        Poll::Ready(Ok(()))
    }

    /// Reads from the server. Pending while there is no connection to it.
    fn poll_fill_replies(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let room = self.max_pass(Direction::Down);
        let Some(stream) = self.upstream.stream() else {
            // An idle client owns no buffer.
            self.replies.release(&self.buffers);
            return Poll::Pending;
        };
        self.replies.poll_fill(cx, stream, &self.buffers, wanted, room)
    }

    fn flush_replies(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.replies.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let flushed = self.replies.poll_flush(cx, &mut self.client, &mut progress);
        self.replies.stalled_since =
            self.stalled_since(self.replies.stalled_since, flushed.is_pending(), progress);
        flushed.map_err(|error| self.io_close_reason(Side::Client, &error))
    }

    /// Follows the buffered replies. Returns how many unread bytes the codec needs.
    fn examine_replies(&mut self) -> Result<usize, Close> {
        loop {
            let dropped = self.replies.dropping;
            if dropped && self.replies.is_ready() {
                return Ok(1);
            }
            let advance = self.replies.advance(self.max_pass(Direction::Down));
            if advance.moved > 0 {
                // One test for nearly all bytes, which answer a request.
                if !(dropped | self.replies.unsolicited) {
                    self.record_reply_bytes(advance.moved);
                } else if !dropped {
                    self.record_passed(Direction::Down, advance.moved);
                }
            }
            self.cut_reply();
            if advance.ended
                && let Some(reply) = self.ending_reply.take()
            {
                self.settle_reply(reply);
            }
            if self.is_closing_now()
                || self.is_blocked(Direction::Down)
                || self.has_due_rejections()
            {
                return Ok(1);
            }
            if advance.wants_more || self.replies.unread().is_empty() || self.wake_up.budget == 0 {
                return Ok(1);
            }
            if self.answers_nothing() {
                self.drop_upstream();
                return Ok(1);
            }
            self.wake_up.budget -= MESSAGE_COST;
            let next = self.codec.reply(self.replies.unread());
            if let Some(wanted) = self.apply_reply(next)? {
                return Ok(wanted);
            }
        }
    }

    /// Does with the bytes at the front what the codec has decided. Returns how many unread bytes it needs
    /// first, or `None` if more of the replies can be followed.
    #[inline]
    fn apply_reply(
        &mut self,
        next: Result<Next<Reply>, Violation>,
    ) -> Result<Option<usize>, Close> {
        self.progress.reply_parsed |= matches!(
            next,
            Ok(Next::Pass { .. }
                | Next::PassUnsolicited { .. }
                | Next::Drop { .. }
                | Next::Swap { .. })
        );
        match next {
            Ok(Next::Hold(wanted)) if wanted <= super::flow::MAX_HOLD => return Ok(Some(wanted)),
            Ok(Next::Hold(_)) => {
                let too_long = operation::Violation("hold_too_long");
                self.lose_framing(Side::Server, too_long)?;
            }
            Ok(Next::Pass { len, mark, ends }) => {
                self.ending_reply = mark;
                self.replies.pass(len, ends);
            }
            Ok(Next::PassUnsolicited { len, ends }) => self.replies.pass_unsolicited(len, ends),
            Ok(Next::Drop { len, ends }) => {
                self.replies.dropping = true;
                self.replies.pass(len, ends);
            }
            Ok(Next::Swap { len, with, mark }) => {
                if !self.rewrite_reply(len, &with, mark) {
                    return Ok(Some(1));
                }
            }
            Ok(Next::Violates(violation)) | Err(violation) => {
                self.lose_framing(Side::Server, violation)?;
            }
            Ok(Next::Resend { len, reason }) => {
                self.resend_request(len, reason)?;
                return Ok(Some(1));
            }
            Ok(Next::Answer { .. }) => {
                let wrong = operation::Violation("answer_to_a_reply");
                self.lose_framing(Side::Server, wrong)?;
            }
        }
        Ok(None)
    }

    /// Forwards a reply as the codec has rewritten it. Returns `false` if a policy cuts it off.
    fn rewrite_reply(&mut self, len: usize, with: &[u8], mark: Option<Reply>) -> bool {
        let cut = self.reply_bytes_before_cut().filter(|(left, _)| *left < with.len());
        if let Some((left, cut)) = cut {
            self.replies.swap(len, &with[..left]);
            self.schedule_close(Close::Injected, cut.reset, false);
            return false;
        }
        self.replies.swap(len, with);
        // It may have been the end of a longer one.
        self.replies.inside = false;
        self.record_reply_bytes(len);
        if let Some(reply) = mark {
            self.settle_reply(reply);
        }
        true
    }

    /// Attributes bytes to the operation that they most likely answer.
    fn record_reply_bytes(&mut self, bytes: usize) {
        let now = self.now();
        if let Some(open) = self.in_flight.oldest() {
            open.first_byte.get_or_insert(now);
            open.reply_bytes += bytes as u64;
        }
        self.record_passed(Direction::Down, bytes);
    }

    /// Rejects the client's request because the upstream speaks another protocol, instead of
    /// forwarding bytes that the client could not parse. Returns whether the client was answered;
    /// the connection closes either way.
    pub(super) fn reject_wrong_protocol(&mut self, violation: Violation) -> bool {
        let Some(tag) = self.in_flight.oldest().and_then(|open| open.tag) else { return false };
        let Self { session, codec, client, .. } = self;
        let message = session.wrong_protocol(C::PROTOCOL.name, violation);
        let why = RejectionRef::new(RejectReason::Lost, &message);
        if codec.prefers_close(tag, why.reason, false) {
            return true;
        }
        let mut words = BytesMut::new();
        let answered = codec.reject(tag, &why, &mut words);
        // Nothing was written before, so the socket has room.
        client.write_now(&words);
        client.close_write();
        answered
    }

    /// A reply has passed completely: its operation ends.
    pub(super) fn settle_reply(&mut self, reply: Reply) {
        if let Some(violation) = reply.violation {
            self.session.count_violation(violation);
        }
        if reply.is_control
            && let Some(notice) = self.codec.operator_notice()
        {
            self.session.log_notice(&notice);
        }
        let Some(mut open) = self.take_in_flight(reply.tag) else {
            if self.upstream.is_pooled() {
                // It may be another client's.
                self.schedule_close(Close::UpstreamViolation, false, false);
            }
            return;
        };
        if let Some(lease) = self.upstream.lease() {
            if let Some(change) = reply.pin {
                lease.change_pin(change);
            }
            if reply.lost_role {
                lease.doubt_endpoint();
            }
        }
        open.sends = self.upstream.count_replay(reply.outcome);
        let now = self.now();
        self.mirror_read(&open, &reply, now);
        let end = Completion {
            outcome: reply.outcome,
            reason: None,
            code: reply.code,
            cursor: reply.cursor,
            items: reply.items,
            confirmed: reply.confirms_names,
            greeting: reply.is_control,
            session: false,
        };
        let cut = open.ticket.effects().and_then(|terms| terms.injected_close);
        open.settle(end, now, &self.attributes());
        if self.upstream.is_pooled() {
            // Most clients of a pool are idle most of the time.
            self.in_flight.release();
        } else {
            self.in_flight.shrink();
        }
        self.cut_end(cut, false);
    }
}
