//! From the server to the client: replies are followed to the end of their operations.

use super::{MESSAGE_COST, Relay, Side, in_flight::Completion};
use bytes::{Buf, BytesMut};
use operation::{Close, Codec, Direction, Next, RejectReason, RejectionRef, Reply, Violation};
use std::{
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
            if self.replies.is_ready() || self.is_closing_now() || self.has_due_rejections() {
                continue;
            }
            if self.budget == 0 {
                return self.yield_now(cx);
            }
            if self.replies.eof && self.delays_eof(Direction::Down) {
                return Poll::Pending;
            }
            if self.replies.eof {
                self.cut_stream();
                if let Some(close) = self.due_close() {
                    return Poll::Ready(Err(close));
                }
                self.replies.release(&self.buffers);
                if self.server_write_failed.is_some() {
                    // The stream was interrupted, so the client must not see an orderly end.
                    self.replies.write_closed = true;
                    return Poll::Ready(Ok(()));
                }
                // An error means that the client has gone already.
                let _ = ready!(Pin::new(&mut self.client).poll_shutdown(cx));
                self.replies.write_closed = true;
                return Poll::Ready(Ok(()));
            }
            if self.is_queue_full(Direction::Down) {
                return Poll::Pending;
            }
            let (buffers, room) = (&self.buffers, self.max_pass(Direction::Down));
            match ready!(self.replies.poll_fill(cx, &mut self.server, buffers, wanted, room)) {
                // Only the end of a stream says whether it is complete.
                Ok(0) if self.is_stream() && self.server.is_truncated() => {
                    return Poll::Ready(Err(Close::UpstreamReset));
                }
                Ok(0) => {
                    self.replies.eof = true;
                    self.last_byte = self.now();
                    self.closed_first.get_or_insert(Side::Server);
                    self.pass_rest(Direction::Down);
                    if self.requests.eof && !self.requests.write_closed {
                        // The end of the request stream may have waited for this one.
                        cx.waker().wake_by_ref();
                    }
                }
                Ok(n) => self.record_read(Direction::Down, n),
                Err(error) => return Poll::Ready(Err(self.io_close_reason(Side::Server, &error))),
            }
        }
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

    /// Whether rejections have to be written before more of the replies passes.
    fn has_due_rejections(&self) -> bool {
        !self.rejections.is_empty() && !self.is_inside_reply()
    }

    /// Writes the rejections that are due, never inside a reply.
    fn flush_rejections(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        while !self.rejections.is_empty() {
            let written = Pin::new(&mut self.client).poll_write(cx, &self.rejections);
            self.replies.stalled_since =
                self.stalled_since(self.replies.stalled_since, written.is_pending(), false);
            match ready!(written) {
                Ok(n) if n > 0 => self.rejections.advance(n),
                _ => return Poll::Ready(Err(Close::ClientReset)),
            }
        }
        self.rejections = bytes::BytesMut::new();
        // What the socket does not take now goes out before the next reply.
        let _ = self.replies.poll_flush_socket(cx, &mut self.client);
        Poll::Ready(Ok(()))
    }

    /// Follows the buffered replies. Returns how many unread bytes the codec needs.
    fn examine_replies(&mut self) -> Result<usize, Close> {
        loop {
            let dropped = self.replies.dropping;
            if dropped && self.replies.is_ready() {
                return Ok(1);
            }
            let advance = self.replies.advance(self.max_pass(Direction::Down));
            if advance.moved > 0 && !dropped {
                self.record_reply_bytes(advance.moved);
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
            if advance.wants_more || self.replies.unread().is_empty() || self.budget == 0 {
                return Ok(1);
            }
            self.budget -= MESSAGE_COST;
            let next = self.codec.reply(self.replies.unread());
            self.reply_parsed |=
                matches!(next, Ok(Next::Pass { .. } | Next::Drop { .. } | Next::Swap { .. }));
            match next {
                Ok(Next::Hold(wanted)) if wanted <= super::flow::MAX_HOLD => return Ok(wanted),
                Ok(Next::Hold(_)) => {
                    let too_long = operation::Violation("hold_too_long");
                    self.lose_framing(Side::Server, too_long)?;
                }
                Ok(Next::Pass { len, mark, ends }) => {
                    self.ending_reply = mark;
                    self.replies.pass(len, ends);
                }
                Ok(Next::Drop { len, ends }) => {
                    self.replies.dropping = true;
                    self.replies.pass(len, ends);
                }
                Ok(Next::Swap { len, with, mark }) => {
                    let cut = self.reply_bytes_before_cut().filter(|(left, _)| *left < with.len());
                    if let Some((left, cut)) = cut {
                        self.replies.swap(len, &with[..left]);
                        self.schedule_close(Close::Injected, cut.reset, false);
                        return Ok(1);
                    }
                    self.replies.swap(len, &with);
                    self.record_reply_bytes(len);
                    if let Some(reply) = mark {
                        self.settle_reply(reply);
                    }
                }
                // `Breaks` is returned for requests only.
                Ok(Next::Violates(violation)) | Err(violation) => {
                    self.lose_framing(Side::Server, violation)?;
                }
            }
        }
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
    fn settle_reply(&mut self, reply: Reply) {
        if let Some(violation) = reply.violation {
            self.session.count_violation(violation);
        }
        if reply.is_control
            && let Some(notice) = self.codec.operator_notice()
        {
            self.session.log_notice(&notice);
        }
        let Some(open) = self.take_in_flight(reply.tag) else { return };
        let now = self.now();
        let end = Completion {
            outcome: reply.outcome,
            reason: None,
            code: reply.code,
            items: reply.items,
            confirmed: reply.confirms_names,
            greeting: reply.is_control,
            session: false,
        };
        let cut = open.ticket.effects().and_then(|terms| terms.injected_close);
        open.settle(end, now, &self.attributes());
        self.in_flight.shrink();
        self.cut_end(cut, false);
    }
}
