//! From the server to the client: replies are followed to the end of their operations.

use super::{MESSAGE, Relay, Side, open::End};
use crate::policy::Direction;
use bytes::{Buf, BytesMut};
use operation::{Close, Codec, Next, Reason, Refusal, Reply, Violation};
use socket2::SockRef;
use std::{
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

impl<C: Codec> Relay<C> {
    /// Ready when the server has ended its stream and the client was told.
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if self.down.shut {
            return Poll::Ready(self.parts().map_or(Ok(()), Err));
        }
        loop {
            ready!(self.flush_down(cx))?;
            // Before anything else passes: the client may have got a part of them already.
            if self.owes_refusals() {
                ready!(self.flush_refusals(cx))?;
            }
            if let Some(close) = self.parts() {
                return Poll::Ready(Err(close));
            }
            if self.is_held(Direction::Down) {
                return Poll::Pending;
            }
            self.sinks(Direction::Down);
            let wanted = self.examine_replies()?;
            if self.down.is_ready() || self.is_cut() || self.owes_refusals() {
                continue;
            }
            if self.turn == 0 {
                return self.give_way(cx);
            }
            if self.down.eof && self.keeps_end(Direction::Down) {
                return Poll::Pending;
            }
            if self.down.eof {
                self.cut_stream();
                if let Some(close) = self.parts() {
                    return Poll::Ready(Err(close));
                }
                self.down.release(&self.worker.buffers);
                if self.refused_by_server.is_some() {
                    // That was no end in good order, and the client must not take it for one.
                    self.down.shut = true;
                    return Poll::Ready(Ok(()));
                }
                // A client that has gone already needs no telling.
                let _ = ready!(Pin::new(&mut self.client).poll_shutdown(cx));
                self.down.shut = true;
                return Poll::Ready(Ok(()));
            }
            if self.is_full(Direction::Down) {
                return Poll::Pending;
            }
            let (buffers, room) = (&self.worker.buffers, self.room(Direction::Down));
            match ready!(self.down.poll_fill(cx, &mut self.server, buffers, wanted, room)) {
                Ok(0) => {
                    self.down.eof = true;
                    self.last_byte = self.now();
                    self.ended_first.get_or_insert(Side::Server);
                    self.pass_rest(Direction::Down);
                    if self.up.eof && !self.up.shut {
                        // Its end may have waited for this one.
                        cx.waker().wake_by_ref();
                    }
                }
                Ok(n) => self.took_bytes(Direction::Down, n),
                Err(error) => return Poll::Ready(Err(self.broken(Side::Server, &error))),
            }
        }
    }

    fn flush_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        if !self.down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let flushed = self.down.poll_flush(cx, &mut self.client, &mut progress);
        self.down.stalled = self.stalled(self.down.stalled, flushed.is_pending(), progress);
        flushed.map_err(|error| self.broken(Side::Client, &error))
    }

    /// Whether refusals are to be written before any more of the replies passes.
    fn owes_refusals(&self) -> bool {
        !self.refusals.is_empty() && !self.replying()
    }

    /// Writes the refusals whose turn it is: never inside a reply.
    fn flush_refusals(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        while !self.refusals.is_empty() {
            let written = Pin::new(&mut self.client).poll_write(cx, &self.refusals);
            self.down.stalled = self.stalled(self.down.stalled, written.is_pending(), false);
            match ready!(written) {
                Ok(n) if n > 0 => self.refusals.advance(n),
                _ => return Poll::Ready(Err(Close::ClientReset)),
            }
        }
        self.refusals = bytes::BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Follows the replies in hand; returns how many unread bytes the codec wants to see.
    fn examine_replies(&mut self) -> Result<usize, Close> {
        loop {
            let dropped = self.down.dropping;
            if dropped && self.down.is_ready() {
                return Ok(1);
            }
            let advance = self.down.advance(self.room(Direction::Down));
            if advance.moved > 0 && !dropped {
                self.count_reply(advance.moved);
            }
            self.cut_reply();
            if advance.ended
                && let Some(reply) = self.answered.take()
            {
                self.settle(reply);
            }
            if self.is_cut() || self.is_held(Direction::Down) || self.owes_refusals() {
                return Ok(1);
            }
            if advance.wants_more || self.down.unread().is_empty() || self.turn == 0 {
                return Ok(1);
            }
            self.turn -= MESSAGE;
            let next = self.codec.reply(self.down.unread());
            self.heard |=
                matches!(next, Ok(Next::Pass { .. } | Next::Drop { .. } | Next::Swap { .. }));
            match next {
                Ok(Next::Hold(wanted)) if wanted <= super::flow::LONGEST_HOLD => return Ok(wanted),
                Ok(Next::Hold(_)) => {
                    let too_long = operation::Violation("hold_too_long");
                    self.lose_framing(Side::Server, too_long)?;
                }
                Ok(Next::Pass { len, mark, ends }) => {
                    self.answered = mark;
                    self.down.pass(len, ends);
                }
                Ok(Next::Drop { len, ends }) => {
                    self.down.dropping = true;
                    self.down.pass(len, ends);
                }
                Ok(Next::Swap { len, with, mark }) => {
                    let cut = self.left_of_reply().filter(|(left, _)| *left < with.len());
                    if let Some((left, cut)) = cut {
                        self.down.swap(len, &with[..left]);
                        self.part(Close::Injected, cut.reset, false);
                        return Ok(1);
                    }
                    self.down.swap(len, &with);
                    self.count_reply(len);
                    if let Some(reply) = mark {
                        self.settle(reply);
                    }
                }
                // Only said of requests.
                Ok(Next::Breaks(violation)) | Err(violation) => {
                    self.lose_framing(Side::Server, violation)?;
                }
            }
        }
    }

    /// Accounts bytes to the operation that they most likely answer.
    fn count_reply(&mut self, bytes: usize) {
        let now = self.now();
        if let Some(open) = self.open.oldest() {
            open.first_byte.get_or_insert(now);
            open.reply_bytes += bytes as u64;
        }
        self.passed(Direction::Down, bytes);
    }

    /// Tells the client that what it was led to speaks something else, instead of bytes of which it
    /// could make nothing. Returns whether it was told, or is to be closed without a word.
    pub(super) fn disown(&mut self, violation: Violation) -> bool {
        let Some(tag) = self.open.oldest().and_then(|open| open.tag) else { return false };
        let Self { door, codec, client, .. } = self;
        let message = door.speaks_something_else(C::PROTOCOL.name, violation);
        let why = Refusal::new(Reason::Lost, &message);
        if codec.closes_rather(tag, why.reason, false) {
            return true;
        }
        let mut words = BytesMut::new();
        let told = codec.refuse(tag, &why, &mut words);
        // No reply has filled its socket yet.
        let _ = client.try_write(&words);
        let _ = SockRef::from(&*client).shutdown(Shutdown::Write);
        told
    }

    /// A reply has passed whole: its operation ends.
    fn settle(&mut self, reply: Reply) {
        if let Some(violation) = reply.violation {
            self.door.violation(violation);
        }
        if reply.greeting
            && let Some(notice) = self.codec.notice()
        {
            self.door.notice(&notice);
        }
        let Some(open) = self.take_open(reply.tag) else { return };
        let now = self.now();
        let end = End {
            outcome: reply.outcome,
            reason: None,
            code: reply.code,
            items: reply.items,
            confirmed: reply.confirms,
            greeting: reply.greeting,
            session: false,
        };
        let cut = open.ticket.terms().and_then(|terms| terms.cut);
        open.settle(end, now, &self.facts());
        self.open.rest();
        self.cut_end(cut, false);
    }
}
