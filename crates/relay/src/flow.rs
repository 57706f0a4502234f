//! One direction of a connection: the buffered bytes, and how many of them may pass.

use super::{
    buffers::{Buffers, LARGEST_CLASS},
    splice::{MIN_SPLICE, Pipe},
};
use net::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// The most that a codec may hold back, in bytes: more than any codec needs to name a request. What
/// policies hold beyond it counts against the listener's `max_held_bytes`.
pub(super) const MAX_HOLD: usize = 128 * 1024;

/// One direction of a connection.
///
/// The buffer is `[written | ready | unread]`: `ready` bytes may pass and wait to be written; the
/// bytes after them are not judged yet. An idle flow owns no buffer. The rest of a long message
/// goes through a pipe; while the pipe holds bytes, the buffer is empty.
#[derive(Debug, Default)]
pub(super) struct Flow {
    buffer: Vec<u8>,
    start: usize,
    ready: usize,
    pipe: Option<Box<Pipe>>,
    /// Bytes go through this process: one of the ends is encrypted.
    copies: bool,
    /// The writing side has bytes that its socket has not taken.
    unflushed: bool,
    /// Bytes that are to be passed, or dropped, and have not been read yet.
    pass: u64,
    /// Whether the current message ends with `pass`.
    ends: bool,
    /// Whether the current message is dropped.
    pub(super) dropping: bool,
    /// The bytes passed last answer no request.
    pub(super) unsolicited: bool,
    /// Whether a message has started and not ended.
    pub(super) inside: bool,
    /// The reading side has ended.
    pub(super) eof: bool,
    /// The end of the stream was forwarded to the writing side.
    pub(super) write_closed: bool,
    /// Since when the writing side has accepted none of the ready bytes.
    pub(super) stalled_since: Option<Instant>,
    /// Which buffer size the traffic needs.
    size_class: usize,
}

/// Result of [`Flow::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advance {
    /// How many bytes were passed or dropped.
    pub(super) moved: usize,
    /// The current message ended with them.
    pub(super) ended: bool,
    /// More bytes of the current pass are expected, so the codec is not asked.
    pub(super) wants_more: bool,
}

impl Flow {
    /// A flow without any bytes; `copies` if one of its ends is encrypted.
    pub(super) fn new(copies: bool) -> Self {
        Self { copies, ..Self::default() }
    }

    /// Flushes what the writing side has accepted.
    pub(super) fn poll_flush_socket(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        let flushed = Pin::new(to).poll_flush(cx);
        self.unflushed = flushed.is_pending();
        flushed
    }

    /// Bytes that the codec has not judged.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start + self.ready..).unwrap_or_default()
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_ready(&self) -> bool {
        self.ready > 0 || self.unflushed || self.pipe.as_ref().is_some_and(|pipe| pipe.is_ready())
    }

    /// Passes the next `len` bytes, or drops them while `dropping`.
    pub(super) fn pass(&mut self, len: u64, ends: bool) {
        self.pass = len;
        self.ends = ends;
        self.inside = true;
        self.unsolicited = false;
    }

    /// Passes the next `len` bytes, which answer no request.
    pub(super) fn pass_unsolicited(&mut self, len: u64, ends: bool) {
        self.pass(len, ends);
        self.unsolicited = true;
    }

    /// Stops parsing: all further bytes pass.
    pub(super) fn pass_everything(&mut self) {
        self.pass(u64::MAX, false);
        self.dropping = false;
    }

    /// Whether all further bytes pass.
    pub(super) fn passes_everything(&self) -> bool {
        self.pass == u64::MAX
    }

    /// Advances over the buffered bytes of the current pass, but not over more than `room` bytes
    /// that are to be written.
    ///
    /// While dropping, call it only when no ready bytes are left: they come first.
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

    /// Replaces the next `len` unread bytes with `with`, which may pass.
    pub(super) fn swap(&mut self, len: usize, with: &[u8]) {
        let at = self.start + self.ready;
        let end = (at + len).min(self.buffer.len());
        self.buffer.splice(at..end, with.iter().copied());
        self.ready += with.len();
        self.unsolicited = false;
    }

    /// Replaces the next `len` unread bytes of the current message, whose others follow.
    pub(super) fn replace_front(&mut self, len: usize, with: &[u8]) {
        self.swap(len, with);
        self.pass = self.pass.saturating_sub(len as u64);
    }

    /// The bytes that wait to be written, and the unread ones.
    pub(super) fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The bytes that wait to be written, and the rest of their message; `None` if that is not all here.
    pub(super) fn whole_front(&self) -> Option<&[u8]> {
        let pass = usize::try_from(self.pass).ok().filter(|_| self.ends)?;
        self.buffered().get(..self.ready.checked_add(pass)?)
    }

    /// Drops the bytes that wait to be written.
    pub(super) fn drop_ready(&mut self) {
        self.start += std::mem::take(&mut self.ready);
    }

    /// Drops the next `len` unread bytes.
    pub(super) fn drop_front(&mut self, len: usize) {
        self.swap(len, &[]);
    }

    /// Writes the ready bytes. `Ok` means that none are left.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        if let Some(pipe) = &mut self.pipe {
            ready!(pipe.poll_flush(cx, to.tcp(), progress))?;
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
        self.poll_flush_socket(cx, to)
    }

    /// Reads once, into a buffer lent by the worker while bytes are buffered. `wanted` is how many
    /// unread bytes the codec asked for, `room` how many may pass at once; a pipe is used only
    /// without such a limit. Returns the number of bytes read; 0 is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
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
                let polled = pipe.poll_fill(cx, from.tcp(), self.pass);
                if let Poll::Ready(Ok(n)) = polled {
                    self.size_class = buffers.next_class(self.size_class, n, usize::MAX);
                } else {
                    self.release(buffers);
                }
                return polled;
            }
            self.buffer = buffers.take(self.size_class);
            self.start = self.buffer.len();
        } else {
            self.make_room(wanted);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let polled = poll_read_buf(Pin::new(from), cx, &mut self.buffer);
        if let Poll::Ready(Ok(n)) = polled {
            self.size_class = buffers.next_class(self.size_class, n, room);
        } else if self.unread().is_empty() {
            self.release(buffers);
        }
        polled
    }

    /// A pipe for the rest of a long message that need not be parsed. A stream gets one only if its
    /// reads have filled large buffers: for slow streams a buffer is cheaper.
    fn pipe_for_rest(&self, buffers: &Buffers) -> Option<Box<Pipe>> {
        let bulk = if self.passes_everything() {
            self.size_class == LARGEST_CLASS
        } else {
            self.size_class > 0
        };
        let long = bulk && self.pass >= MIN_SPLICE && !self.dropping && !self.copies;
        if long { buffers.pipes.take() } else { None }
    }

    /// From now on one of the ends is encrypted.
    pub(super) fn copy_always(&mut self) {
        self.copies = true;
    }

    /// Drops all buffered bytes.
    pub(super) fn discard(&mut self, buffers: &Buffers) {
        self.pipe = None;
        self.unflushed = false;
        self.buffer.clear();
        (self.start, self.ready) = (0, 0);
        self.stalled_since = None;
        self.release(buffers);
    }

    /// Drops the bytes that the codec has not judged.
    pub(super) fn drop_unread(&mut self, buffers: &Buffers) {
        self.buffer.truncate(self.start + self.ready);
        self.release(buffers);
    }

    /// Returns the buffer to the worker if it is empty.
    pub(super) fn release(&mut self, buffers: &Buffers) {
        if !self.is_ready() && self.unread().is_empty() {
            self.start = 0;
            self.pipe.take().into_iter().for_each(|pipe| buffers.pipes.give(pipe));
            if self.buffer.capacity() > 0 {
                buffers.give(std::mem::take(&mut self.buffer));
            }
        }
    }

    /// Moves the unread bytes to the front, and grows the buffer to what the codec needs.
    fn make_room(&mut self, wanted: usize) {
        let unread = self.buffer.len() - self.start;
        // A message's claimed length is trusted only as far as bytes have arrived.
        let missing = wanted.saturating_sub(unread).clamp(1, unread.max(MAX_HOLD));
        let room = self.buffer.capacity() - self.buffer.len();
        if self.start > 0 && (room < missing || room < self.buffer.capacity() / 2) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(missing);
    }

    /// Passes the rest at the end of the stream: an incomplete message is forwarded too.
    pub(super) fn pass_rest(&mut self) {
        if !self.dropping {
            self.ready = self.buffer.len() - self.start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        runtime::LocalRuntime,
    };

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
        assert!(flow.buffer.capacity() <= 2 * MAX_HOLD);
    }

    /// Bytes of which no two stretches are alike.
    fn noise(len: usize, mut seed: u64) -> Vec<u8> {
        let next = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) as u32
        });
        next.take(len.div_ceil(4)).flat_map(u32::to_le_bytes).take(len).collect()
    }

    #[test]
    fn bytes_in_a_pipe_wait_to_be_written_like_those_in_a_buffer() {
        LocalRuntime::new().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut ends = Vec::new();
            for _ in 0..2 {
                let there = tokio::net::TcpStream::connect(address).await.unwrap();
                let here = listener.accept().await.unwrap().0;
                ends.extend([there, here].map(Stream::from));
            }
            let [mut sender, mut from, mut to, mut receiver] = <[_; 4]>::try_from(ends).unwrap();
            let (buffers, mut flow) = (Buffers::default(), Flow::default());
            let sent = noise(256 * 1024, 9);
            sender.write_all(&sent[..16 * 1024]).await.unwrap();
            flow.pass(sent.len() as u64, true);
            let mut got = Vec::new();
            while got.len() < sent.len() {
                let read = poll_fn(|cx| flow.poll_fill(cx, &mut from, &buffers, 1, usize::MAX));
                let n = read.await.unwrap();
                assert!(!flow.is_ready(), "not before it is accounted for");
                let advance = flow.advance(usize::MAX);
                assert_eq!(advance.moved, n);
                assert_eq!(advance.ended, got.len() + n == sent.len());
                assert!(flow.is_ready());
                if got.is_empty() {
                    sender.write_all(&sent[n..]).await.unwrap();
                }
                let (mut progress, at) = (false, got.len());
                poll_fn(|cx| flow.poll_flush(cx, &mut to, &mut progress)).await.unwrap();
                assert!(progress && !flow.is_ready());
                got.resize(at + n, 0);
                receiver.read_exact(&mut got[at..]).await.unwrap();
            }
            assert_eq!(got, sent);
            assert_eq!(buffers.pipes.count().0, 1, "the rest of it went through a pipe");
            assert!(!flow.inside);

            flow.pass(u64::MAX, false);
            for _ in 0..9 {
                sender.write_all(&sent).await.unwrap();
                poll_fn(|cx| flow.poll_fill(cx, &mut from, &buffers, 1, usize::MAX)).await.unwrap();
                flow.advance(usize::MAX);
                assert!(flow.is_ready());
                flow.discard(&buffers);
                assert!(!flow.is_ready(), "what is discarded is gone");
            }
            assert_eq!(buffers.pipes.count(), (0, 0), "a pipe that holds bytes is closed");
        });
    }
}
