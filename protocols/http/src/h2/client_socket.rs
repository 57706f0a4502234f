//! A client's socket below HTTP/2: counts and throttles both directions, and detects clients that
//! stop reading.

use crate::{client_io::ConnectionState, throttle::Pause};
use bytes::{Buf, Bytes};
use net::Stream;
use operation::Direction;
use session::Session;
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

/// A client's socket.
pub(crate) struct ClientSocket {
    stream: Stream,
    session: Rc<dyn Session>,
    state: Rc<ConnectionState>,
    /// Bytes that were read to detect the version.
    front: Bytes,
    /// By direction: the pause that a bandwidth limit asks for.
    pauses: [Pause; 2],
    write_timeout: Option<Duration>,
    /// Fires when the client has read nothing for `write_timeout`.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

impl ClientSocket {
    /// A socket from which `front` was read already.
    pub(crate) fn new(
        stream: Stream,
        session: Rc<dyn Session>,
        state: Rc<ConnectionState>,
        front: Bytes,
    ) -> Self {
        let write_timeout = session.timeouts().write;
        let pauses = Default::default();
        Self { stream, session, state, front, pauses, write_timeout, stall_timer: None }
    }

    /// Ready with the most bytes that may pass in this direction now; `None`: any number.
    fn poll_pace(&mut self, cx: &mut Context<'_>, way: Direction) -> Poll<Option<usize>> {
        if !self.session.is_limited_now() {
            return Poll::Ready(None);
        }
        ready!(self.pauses[way as usize].poll(cx));
        Poll::Ready(Some(self.session.max_chunk(way).max(1)))
    }

    /// Records bytes that have passed.
    fn record(&mut self, way: Direction, bytes: usize) {
        let now = Instant::now();
        self.state.last_activity.set(Some(now));
        self.session.record_read(way, bytes, now);
        if self.session.is_limited_now() {
            let until = self.session.record_passed(way, bytes, now, None);
            self.pauses[way as usize] = Pause::until(until);
        }
    }

    fn on_error(&self, error: io::Error) -> io::Error {
        self.state.socket_failed.set(true);
        error
    }

    /// Reads at most as many bytes as a bandwidth limit lets pass.
    fn poll_read_limited(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let mut part = ReadBuf::new(to.initialize_unfilled_to(most.min(to.remaining())));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        to.advance(read);
        Poll::Ready(Ok(()))
    }

    fn on_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.stall_timer = None;
                self.record(Direction::Down, bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.on_error(error))),
            Poll::Pending => {
                let Some(timeout) = self.write_timeout else { return Poll::Pending };
                let stall = self.stall_timer.get_or_insert_with(|| {
                    Box::pin(sleep_until((Instant::now() + timeout).into()))
                });
                ready!(stall.as_mut().poll(cx));
                self.state.write_stalled.set(true);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.front.is_empty() {
            let len = this.front.len().min(to.remaining());
            to.put_slice(&this.front[..len]);
            this.front.advance(len);
            return Poll::Ready(Ok(()));
        }
        let before = to.filled().len();
        let read = match ready!(this.poll_pace(cx, Direction::Up)) {
            None => Pin::new(&mut this.stream).poll_read(cx, to),
            Some(most) => this.poll_read_limited(cx, to, most),
        };
        ready!(read).map_err(|error| this.on_error(error))?;
        let bytes = to.filled().len() - before;
        this.state.bytes_received.set(this.state.bytes_received.get() + bytes as u64);
        if bytes == 0 {
            this.state.read_eof.set(true);
        }
        this.record(Direction::Up, bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.poll_pace(cx, Direction::Down)).unwrap_or(usize::MAX);
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most.min(bytes.len())]);
        self.on_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // With a bandwidth limit, which may come later, only the first part is written.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.session.is_limited_now() {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| &**part));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.on_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
