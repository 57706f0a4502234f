//! One direction of a connection: the bytes in hand, and how far they are let through.

use super::{
    buffers::{BULK, Buffers},
    splice::{LONG, Pipe},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_util::io::poll_read_buf;

/// The most that a codec may hold back. More than any front that a codec needs to name. What
/// policies have held back beyond that counts against the listener's `max_held_bytes`.
pub(super) const LONGEST_HOLD: usize = 128 * 1024;

/// One direction of a connection.
///
/// The buffer is `[written | ready | unread]`: `ready` bytes are let through and wait to be
/// written, and what follows has yet to be judged. A flow at rest owns no buffer. What is still
/// to come of a long pass goes through a pipe: while that holds bytes, the buffer has none.
#[derive(Debug, Default)]
pub(super) struct Flow {
    buffer: Vec<u8>,
    start: usize,
    ready: usize,
    pipe: Option<Box<Pipe>>,
    /// Bytes let through, or condemned, that have not been seen yet.
    pass: u64,
    /// Whether the message under way ends with `pass`.
    ends: bool,
    /// Whether the message under way is dropped.
    pub(super) dropping: bool,
    /// Whether a message is under way.
    pub(super) inside: bool,
    /// The reading side has ended.
    pub(super) eof: bool,
    /// The writing side has been told so.
    pub(super) shut: bool,
    /// Since when the writing side has taken none of what is ready.
    pub(super) stalled: Option<Instant>,
    /// How large a buffer the traffic wants.
    grade: usize,
}

/// What [`Flow::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advance {
    /// How many bytes were let through or dropped.
    pub(super) moved: usize,
    /// The message under way ended with them.
    pub(super) ended: bool,
    /// More bytes of the pass are due, so there is nothing to ask the codec.
    pub(super) wants_more: bool,
}

impl Flow {
    /// Bytes that the codec has not judged.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start + self.ready..).unwrap_or_default()
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_ready(&self) -> bool {
        self.ready > 0 || self.pipe.as_ref().is_some_and(|pipe| pipe.is_ready())
    }

    /// Lets the next `len` bytes through, or condemns them while `dropping`.
    pub(super) fn pass(&mut self, len: u64, ends: bool) {
        self.pass = len;
        self.ends = ends;
        self.inside = true;
    }

    /// Gives up reading: everything from here on goes through.
    pub(super) fn pass_everything(&mut self) {
        self.pass(u64::MAX, false);
        self.dropping = false;
    }

    /// Whether everything from here on goes through.
    pub(super) fn passes_everything(&self) -> bool {
        self.pass == u64::MAX
    }

    /// Moves as much of the pass as is here, and no more than `room` of what is let through.
    ///
    /// A flow that drops must not be asked while bytes are ready: they lie in front.
    pub(super) fn advance(&mut self, room: usize) -> Advance {
        let here = self.unread().len();
        let here = if self.dropping { here } else { here.min(room) };
        let moved = usize::try_from(self.pass).unwrap_or(usize::MAX).min(here);
        if self.dropping {
            debug_assert!(self.ready == 0, "ready bytes lie before those to be dropped");
            self.start += moved;
        } else {
            self.ready += moved;
        }
        let moved = moved + self.pipe.as_mut().map_or(0, |pipe| pipe.advance());
        if self.pass != u64::MAX {
            self.pass -= moved as u64;
        }
        let ended = self.inside && self.pass == 0 && self.ends;
        if ended {
            self.inside = false;
            self.dropping = false;
        }
        Advance { moved, ended, wants_more: self.pass > 0 }
    }

    /// Puts `with` in the place of the next `len` unread bytes, and lets it through.
    pub(super) fn swap(&mut self, len: usize, with: &[u8]) {
        let at = self.start + self.ready;
        let end = (at + len).min(self.buffer.len());
        self.buffer.splice(at..end, with.iter().copied());
        self.ready += with.len();
    }

    /// Writes what is ready. `Ok` means that nothing is left to write.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut TcpStream,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        if let Some(pipe) = &mut self.pipe {
            ready!(pipe.poll_flush(cx, to, progress))?;
        }
        while self.ready > 0 {
            let bytes = &self.buffer[self.start..self.start + self.ready];
            let n = ready!(Pin::new(&mut *to).poll_write(cx, bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.start += n;
            self.ready -= n;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, into a buffer lent by the worker while bytes are in hand. `wanted` is how
    /// many unread bytes the codec asked for, `room` how many may pass in one go: a pipe counts
    /// none, and so is for those without a limit. Returns how many were read; 0 is the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        buffers: &Buffers,
        wanted: usize,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(!self.is_ready(), "write before reading on");
        if self.unread().is_empty() {
            self.release(buffers);
            ready!(from.poll_read_ready(cx))?;
            self.pipe = if room == usize::MAX { self.pipe_for_rest(buffers) } else { None };
            if let Some(pipe) = &mut self.pipe {
                let polled = pipe.poll_fill(cx, from, self.pass);
                if let Poll::Ready(Ok(n)) = polled {
                    self.grade = buffers.regrade(self.grade, n, usize::MAX);
                } else {
                    self.release(buffers);
                }
                return polled;
            }
            self.buffer = buffers.take(self.grade);
            self.start = self.buffer.len();
        } else {
            self.make_room(wanted);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let polled = poll_read_buf(Pin::new(from), cx, &mut self.buffer);
        if let Poll::Ready(Ok(n)) = polled {
            self.grade = buffers.regrade(self.grade, n, room);
        } else if self.unread().is_empty() {
            self.release(buffers);
        }
        polled
    }

    /// A pipe for what is still to come, if that is much and nobody has to see it. Of a stream
    /// only what it has brought so far tells that; and who trickles is better off with a buffer.
    fn pipe_for_rest(&self, buffers: &Buffers) -> Option<Box<Pipe>> {
        let bulk = if self.passes_everything() { self.grade == BULK } else { self.grade > 0 };
        let long = bulk && self.pass >= LONG && !self.dropping;
        if long { buffers.pipes.take() } else { None }
    }

    /// Forgets everything that is here.
    pub(super) fn discard(&mut self, buffers: &Buffers) {
        self.pipe = None;
        self.buffer.clear();
        (self.start, self.ready) = (0, 0);
        self.stalled = None;
        self.release(buffers);
    }

    /// Gives the buffer back if nothing is in it.
    pub(super) fn release(&mut self, buffers: &Buffers) {
        if !self.is_ready() && self.unread().is_empty() {
            self.start = 0;
            self.pipe.take().into_iter().for_each(|pipe| buffers.pipes.give(pipe));
            if self.buffer.capacity() > 0 {
                buffers.give(std::mem::take(&mut self.buffer));
            }
        }
    }

    /// Moves the unread bytes to the front, and grows the buffer to what a codec may want.
    fn make_room(&mut self, wanted: usize) {
        let unread = self.buffer.len() - self.start;
        // Of what a message claims no more is believed than it has brought already.
        let missing = wanted.saturating_sub(unread).clamp(1, unread.max(LONGEST_HOLD));
        let room = self.buffer.capacity() - self.buffer.len();
        if self.start > 0 && (room < missing || room < self.buffer.capacity() / 2) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(missing);
    }

    /// Lets through what is left at the end of the stream: half a message is still the client's.
    pub(super) fn pass_rest(&mut self) {
        if !self.dropping {
            self.ready = self.buffer.len() - self.start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bytes: &[u8]) -> Flow {
        Flow { buffer: bytes.to_vec(), ..Flow::default() }
    }

    #[test]
    fn a_pass_may_reach_past_what_is_here() {
        let mut flow = with(b"hello");
        flow.pass(8, true);
        assert_eq!(flow.advance(usize::MAX), Advance { moved: 5, ended: false, wants_more: true });
        flow.buffer.extend_from_slice(b" worlds");
        assert_eq!(flow.advance(usize::MAX), Advance { moved: 3, ended: true, wants_more: false });
        assert_eq!(flow.unread(), b"rlds" as &[u8]);
        assert!(!flow.inside);
    }

    #[test]
    fn no_more_passes_than_there_is_room_for() {
        let mut flow = with(b"hello");
        flow.pass(5, true);
        assert_eq!(flow.advance(2), Advance { moved: 2, ended: false, wants_more: true });
        assert_eq!(flow.unread(), b"llo");
        assert_eq!(flow.advance(3), Advance { moved: 3, ended: true, wants_more: false });
    }

    #[test]
    fn dropped_bytes_are_never_ready() {
        let mut flow = with(b"badgood");
        flow.dropping = true;
        flow.pass(3, true);
        assert_eq!(flow.advance(usize::MAX), Advance { moved: 3, ended: true, wants_more: false });
        assert!(!flow.is_ready());
        assert_eq!(flow.unread(), b"good");
    }

    #[test]
    fn a_swap_keeps_what_lies_around_it() {
        let mut flow = with(b"aaBBcc");
        flow.pass(2, true);
        flow.advance(usize::MAX);
        flow.swap(2, b"xyz");
        assert_eq!(&flow.buffer[..flow.ready], b"aaxyz");
        assert_eq!(flow.unread(), b"cc");
    }

    #[test]
    fn making_room_keeps_unread_bytes() {
        let mut flow = with(b"0123456789");
        flow.start = 8;
        flow.make_room(64);
        assert_eq!(flow.unread(), b"89");
        assert!(flow.buffer.capacity() >= 64);
    }

    #[test]
    fn a_hold_reserves_no_more_than_its_limit() {
        let mut flow = with(b"x");
        flow.make_room(usize::MAX);
        assert!(flow.buffer.capacity() <= 2 * LONGEST_HOLD);
    }
}
