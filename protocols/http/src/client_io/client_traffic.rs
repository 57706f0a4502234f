//! What passes a client's socket: it is counted and throttled, and a client that stops reading is detected.

use super::ConnectionState;
use crate::throttle::Pause;
use operation::Direction;
use session::Session;
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// The traffic of a client's socket.
pub(crate) struct ClientTraffic {
    pub(crate) session: Rc<dyn Session>,
    pub(crate) state: Rc<ConnectionState>,
    /// By direction: the pause that a bandwidth limit asks for.
    pauses: [Pause; 2],
    write_timeout: Option<Duration>,
    /// Fires when the client has read nothing for `write_timeout`.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

impl ClientTraffic {
    pub(crate) fn new(session: Rc<dyn Session>, state: Rc<ConnectionState>) -> Self {
        let write_timeout = session.timeouts().write;
        Self { session, state, pauses: Default::default(), write_timeout, stall_timer: None }
    }

    /// Whether a bandwidth limit applies now.
    pub(crate) fn is_limited(&self) -> bool {
        self.session.is_limited_now()
    }

    /// Ready with the most bytes that may pass in this direction now; `None`: any number.
    pub(crate) fn poll_pace(
        &mut self,
        cx: &mut Context<'_>,
        way: Direction,
    ) -> Poll<Option<usize>> {
        if !self.is_limited() {
            return Poll::Ready(None);
        }
        ready!(self.pauses[way as usize].poll(cx));
        Poll::Ready(Some(self.session.max_chunk(way).max(1)))
    }

    /// Records a read of this many bytes; 0: the client has closed its sending side.
    pub(crate) fn on_read(&mut self, bytes: usize) {
        let state = &self.state;
        state.bytes_received.set(state.bytes_received.get() + bytes as u64);
        if bytes == 0 {
            state.read_eof.set(true);
        }
        self.record(Direction::Up, bytes);
    }

    /// Records a write. Fails if the client has read nothing for too long.
    pub(crate) fn on_write(
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

    /// Notes that the socket has failed.
    pub(crate) fn on_error(&self, error: io::Error) -> io::Error {
        self.state.socket_failed.set(true);
        error
    }

    fn record(&mut self, way: Direction, bytes: usize) {
        let now = Instant::now();
        self.state.last_activity.set(Some(now));
        self.session.record_read(way, bytes, now);
        if self.is_limited() {
            let until = self.session.record_passed(way, bytes, now, None);
            self.pauses[way as usize] = Pause::until(until);
        }
    }
}
