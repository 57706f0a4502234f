//! A client's socket until its HTTP version is known, and below hyper for HTTP/1: validates received
//! bytes, throttles both directions, and detects clients that stop reading.

mod client_traffic;
mod connection_state;
mod informational;
#[cfg(test)]
mod tests;

pub(crate) use client_traffic::ClientTraffic;
pub(crate) use connection_state::ConnectionState;
use net::Stream;

use crate::h1_validator::{H1Error, H1Validator, RequestLimits};
use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use operation::Direction;
use session::Session;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// How long a half-closed client may read nothing before it is considered gone.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP/2 client preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

thread_local! {
    /// Read buffer before validation, shared by all connections of a worker.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
    /// Path of the placeholder request that replaces an invalid one. Random, so that no client can
    /// guess it.
    static ERROR_PATH: String = format!("/{:032x}", fastrand::u128(..));
}

/// Whether this is the path of the placeholder for an invalid request.
pub(crate) fn is_error_placeholder(path: &str) -> bool {
    ERROR_PATH.with(|faulty| faulty == path)
}

/// Where an invalid request broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RejectedPart {
    Head,
    Body,
}

/// A client's connection.
pub(crate) struct ClientIo {
    stream: Stream,
    traffic: ClientTraffic,
    /// `None` for HTTP/2, which has its own framing.
    validator: Option<H1Validator>,
    /// A head has started and is incomplete.
    in_head: bool,
    /// Read and not yet validated.
    unvalidated: BytesMut,
    /// Validated and not yet passed to hyper.
    validated: BytesMut,
    /// Nothing more is read. An invalid body fails for its reader after the valid bytes before the
    /// fault.
    rejected: Option<RejectedPart>,
    /// 1xx heads that are being written.
    informational: Bytes,
    /// Fires when a half-closed client is considered gone.
    half_closed_timer: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    pub(crate) fn new(stream: Stream, session: Rc<dyn Session>, limits: RequestLimits) -> Self {
        Self {
            stream,
            traffic: ClientTraffic::new(session, Rc::default()),
            validator: Some(H1Validator::new(limits)),
            in_head: false,
            unvalidated: BytesMut::new(),
            validated: BytesMut::new(),
            rejected: None,
            informational: Bytes::new(),
            half_closed_timer: None,
        }
    }

    /// Puts bytes in front that were read already, the last of them at this time.
    pub(crate) fn put_back(&mut self, bytes: BytesMut, last_activity: Instant) {
        self.traffic.state.bytes_received.set(bytes.len() as u64);
        self.traffic.state.last_activity.set(Some(last_activity));
        self.unvalidated = bytes;
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn state(&self) -> &Rc<ConnectionState> {
        &self.traffic.state
    }

    /// Reads until it is known whether the client uses HTTP/2.
    ///
    /// # Errors
    /// The socket's error.
    pub(crate) fn poll_detect_http2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let front = self.unvalidated.len().min(PREFACE.len());
            if self.unvalidated[..front] != PREFACE[..front] {
                return Poll::Ready(Ok(false));
            }
            if front == PREFACE.len() {
                self.validator = None;
                self.traffic.state.http2.set(true);
                // HTTP/2 names are checked with each request.
                self.traffic.state.has_odd_names.set(true);
                self.validated = std::mem::take(&mut self.unvalidated);
                return Poll::Ready(Ok(true));
            }
            let read = ready!(self.poll_read_socket(cx, READ_SIZE, |client_io, bytes| {
                client_io.unvalidated.extend_from_slice(bytes);
                bytes.len()
            }))?;
            if read == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Whether nothing was read.
    pub(crate) fn is_silent(&self) -> bool {
        self.unvalidated.is_empty()
    }

    /// Returns the socket and all bytes that hyper has not consumed.
    pub(crate) fn into_parts(self, mut unread: BytesMut) -> (Stream, Bytes) {
        unread.extend_from_slice(&self.validated);
        unread.extend_from_slice(&self.unvalidated);
        (self.stream, unread.freeze())
    }

    /// Reads, and passes the bytes to `show`.
    fn poll_read_socket<T>(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        show: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let pace = ready!(self.traffic.poll_pace(cx, Direction::Up));
        let most = most.min(READ_SIZE).min(pace.unwrap_or(READ_SIZE));
        READ_BUFFER.with_borrow_mut(|scratch| {
            let mut bytes = ReadBuf::new(&mut scratch[..most]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut bytes) else {
                self.mark_waiting();
                return Poll::Pending;
            };
            read.map_err(|error| self.traffic.on_error(error))?;
            self.traffic.on_read(bytes.filled().len());
            Poll::Ready(Ok(show(self, bytes.filled())))
        })
    }

    /// Notes that the client is awaited in the middle of a body.
    fn mark_waiting(&self) {
        let owes = &self.traffic.state.incomplete_since;
        if self.validator.as_ref().is_some_and(H1Validator::in_body) && owes.get().is_none() {
            owes.set(Some(Instant::now()));
        }
    }

    /// Validates bytes. Returns `true` if all of them may be passed on directly; otherwise the
    /// valid part is stored in `validated`.
    fn validate(&mut self, fresh: &[u8]) -> bool {
        let Some(validator) = &mut self.validator else { return true };
        let direct = self.unvalidated.is_empty();
        if !direct {
            self.unvalidated.extend_from_slice(fresh);
        }
        let look = validator.validate(if direct { fresh } else { &self.unvalidated });
        self.traffic.state.has_odd_names.set(validator.has_odd_names());
        // A head has one timeout in total; in a body the timeout applies to each pause.
        let in_head = validator.in_head();
        if !in_head || !self.in_head {
            self.traffic.state.incomplete_since.set(in_head.then(Instant::now));
        }
        self.in_head = in_head;
        self.traffic.state.body_incomplete.set(validator.in_body());
        if direct && look.bytes == fresh.len() && look.error.is_none() {
            return true;
        }
        if direct {
            self.unvalidated.extend_from_slice(fresh);
        }
        let passes = self.unvalidated.split_to(look.bytes);
        self.validated.unsplit(passes);
        if let Some(fault) = look.error {
            self.reject(fault);
        }
        false
    }

    /// Rejects the request; nothing more is read.
    fn reject(&mut self, fault: H1Error) {
        self.unvalidated.clear();
        self.validator = None;
        self.traffic.state.incomplete_since.set(None);
        self.traffic.session.count_violation(fault.violation);
        if fault.is_other_protocol() {
            self.traffic.session.log_violation(fault.violation, "closed");
        }
        let in_body = fault.in_body;
        self.traffic.state.h1_error.set(Some(fault));
        self.traffic.state.had_h1_error.set(true);
        self.rejected = Some(if in_body { RejectedPart::Body } else { RejectedPart::Head });
        if in_body {
            return;
        }
        // hyper gets a placeholder for the invalid request, so that the error response keeps its
        // turn.
        ERROR_PATH.with(|path| {
            for part in ["GET ", path, " HTTP/1.1\r\nhost: faulty\r\n\r\n"] {
                self.validated.extend_from_slice(part.as_bytes());
            }
        });
    }

    /// After a declined upgrade the following bytes are HTTP again.
    fn resume_after_upgrade(&mut self) {
        let Some(validator) = &mut self.validator else { return };
        if validator.awaits_upgrade() && self.traffic.state.responses.get() >= validator.requests()
        {
            validator.refuse_upgrade();
        }
    }

    /// Detects that the client is gone while a response is due, when hyper does not read. A
    /// half-closed client counts as gone, as nearly all of them are; with `half_close`, or once the
    /// response has started, it may read nothing for `HALF_CLOSED_TIMEOUT`.
    ///
    /// # Errors
    /// The client is gone, or counts as gone.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.validator.is_none() {
            return Poll::Pending;
        }
        let error = match ready!(self.stream.poll_peek(cx)) {
            Ok(1..) => return Poll::Pending,
            Ok(0)
                if self.traffic.state.response_due.get()
                    && !self.traffic.state.allow_half_close.get() =>
            {
                self.traffic.state.client_left.set(true);
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
            Ok(0) => {
                let rings = || Box::pin(sleep(HALF_CLOSED_TIMEOUT));
                ready!(self.half_closed_timer.get_or_insert_with(rings).as_mut().poll(cx));
                io::ErrorKind::TimedOut.into()
            }
            Err(error) => error,
        };
        self.traffic.state.socket_failed.set(true);
        Poll::Ready(error)
    }

    /// Copies validated bytes to hyper.
    fn copy_validated(&mut self, to: &mut ReadBufCursor<'_>) {
        let len = self.validated.len().min(to.remaining());
        to.put_slice(&self.validated[..len]);
        self.validated.advance(len);
        if self.validated.is_empty() && self.validated.capacity() > 0 {
            self.validated = BytesMut::new();
        }
    }

    /// Writes 1xx heads while hyper is between two responses.
    fn poll_informational(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.informational.is_empty() && self.traffic.state.flushed.get() {
            self.informational = self.traffic.state.informational.take().into();
        }
        while !self.informational.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.informational);
            let n = ready!(self.on_write(cx, written))?;
            self.informational.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    fn on_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = self.traffic.on_write(cx, written);
        if let Poll::Ready(Ok(_)) = written {
            self.half_closed_timer = None;
        }
        written
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let client_io = &mut *self;
        client_io.resume_after_upgrade();
        if client_io.validated.is_empty() && !client_io.unvalidated.is_empty() {
            // They waited for an upgrade, or were read to detect the version.
            client_io.validate(&[]);
        }
        while client_io.validated.is_empty() {
            match client_io.rejected {
                None => {}
                Some(RejectedPart::Head) => return Poll::Pending,
                Some(RejectedPart::Body) => {
                    let broken = "the body breaks HTTP's rules";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
                }
            }
            if client_io.validator.as_ref().is_some_and(H1Validator::is_stopped) {
                return Poll::Pending;
            }
            let read = client_io.poll_read_socket(cx, to.remaining(), |client_io, bytes| {
                let direct = client_io.validate(bytes);
                if direct {
                    to.put_slice(bytes);
                }
                direct || bytes.is_empty()
            });
            if ready!(read)? {
                return Poll::Ready(Ok(()));
            }
        }
        client_io.copy_validated(&mut to);
        Poll::Ready(Ok(()))
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_informational(cx))?;
        self.traffic.state.flushed.set(false);
        let most = ready!(self.traffic.poll_pace(cx, Direction::Down)).unwrap_or(usize::MAX);
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most.min(bytes.len())]);
        self.on_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // A bandwidth policy may be added while the connection is open: then only the first part is
        // written.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_informational(cx))?;
        if self.traffic.is_limited() {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| &**part));
        }
        self.traffic.state.flushed.set(false);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.on_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(gone) = self.poll_client_gone(cx) {
            return Poll::Ready(Err(gone));
        }
        self.traffic.state.flushed.set(true);
        ready!(self.poll_informational(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
