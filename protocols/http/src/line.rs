//! A client's connection under hyper's: its bytes are screened on the way in, paced both ways, and
//! watched for a client that takes nothing.

mod early;
mod notes;
#[cfg(test)]
mod tests;

pub(crate) use notes::ConnectionState;

use crate::{
    proxy::{Door, Way},
    screen::{H1Error, H1Validator, RequestLimits},
};
use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
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
    net::TcpStream,
    time::{Sleep, sleep, sleep_until},
};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// How long a client that has ended its half may take nothing before it is taken for gone.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.8 and 7). Any stream may have been served.
const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

thread_local! {
    /// Where bytes are read to before they are screened, for all connections of a worker.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    /// The path of the request that stands for one that can't be read: no client can guess it.
    static FAULTY: String = format!("/{:032x}", fastrand::u128(..));
}

/// Whether this is the request that stands for one that can't be read.
pub(crate) fn is_faulty(path: &str) -> bool {
    FAULTY.with(|faulty| faulty == path)
}

/// What can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RejectedPart {
    Head,
    Body,
}

/// A client's connection.
pub(crate) struct ClientIo {
    stream: TcpStream,
    door: Rc<dyn Door>,
    notes: Rc<ConnectionState>,
    /// `None` where nothing is screened: HTTP/2 has framing of its own.
    screen: Option<H1Validator>,
    /// A head has begun to come.
    in_head: bool,
    /// Read, and not screened.
    held: BytesMut,
    /// Screened, and not handed on.
    passed: BytesMut,
    /// Nothing more is read. Where a body breaks the rules, its reader is told so once it has what
    /// came before.
    refused: Option<RejectedPart>,
    /// Said by a service before its answer, and begun to be written.
    early: Bytes,
    /// A client that asks for too much is being told so.
    calming: bool,
    /// Before when nothing passes, by way.
    pauses: [Option<Pin<Box<Sleep>>>; 2],
    patience: Option<Duration>,
    /// Rings when the client, which has ended its half, is taken for gone.
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Rings when the client has taken nothing for too long.
    stall: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, door: Rc<dyn Door>, limits: RequestLimits) -> Self {
        Self {
            patience: door.patience().write,
            stream,
            door,
            notes: Rc::default(),
            screen: Some(H1Validator::new(limits)),
            in_head: false,
            held: BytesMut::new(),
            passed: BytesMut::new(),
            refused: None,
            early: Bytes::new(),
            calming: false,
            pauses: [None, None],
            half_closed: None,
            stall: None,
        }
    }

    pub(crate) fn notes(&self) -> &Rc<ConnectionState> {
        &self.notes
    }

    /// Reads until it is known whether the client speaks HTTP/2.
    ///
    /// # Errors
    /// When the socket breaks.
    pub(crate) fn poll_speaks_http2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let front = self.held.len().min(PREFACE.len());
            if self.held[..front] != PREFACE[..front] {
                return Poll::Ready(Ok(false));
            }
            if front == PREFACE.len() {
                self.screen = None;
                self.notes.http2.set(true);
                // Nobody looks at its names ahead of their request.
                self.notes.odd_names.set(true);
                self.passed = std::mem::take(&mut self.held);
                return Poll::Ready(Ok(true));
            }
            let read = ready!(self.poll_fetch(cx, CHUNK, |line, bytes| {
                line.held.extend_from_slice(bytes);
                bytes.len()
            }))?;
            if read == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Whether nothing was read.
    pub(crate) fn is_silent(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the socket back, with what was read and not handed on: it carries another protocol now.
    pub(crate) fn open(self, mut unread: BytesMut) -> (TcpStream, Bytes) {
        unread.extend_from_slice(&self.passed);
        unread.extend_from_slice(&self.held);
        (self.stream, unread.freeze())
    }

    /// Reads, and shows what was read.
    fn poll_fetch<T>(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        show: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut most = most.min(CHUNK);
        if self.door.is_paced() {
            ready!(self.poll_pause(cx, Way::Up));
            most = most.min(self.door.most(Way::Up)).max(1);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut bytes = ReadBuf::new(&mut scratch[..most]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut bytes) else {
                self.waits();
                return Poll::Pending;
            };
            if let Err(error) = read {
                self.notes.broken.set(true);
                return Poll::Ready(Err(error));
            }
            let now = Instant::now();
            self.notes.moved.set(Some(now));
            self.door.moved(Way::Up, bytes.filled().len(), now);
            self.notes.received.set(self.notes.received.get() + bytes.filled().len() as u64);
            if bytes.filled().is_empty() {
                self.notes.ended.set(true);
            }
            if self.door.is_paced() {
                self.pay(Way::Up, bytes.filled().len(), now);
            }
            Poll::Ready(Ok(show(self, bytes.filled())))
        })
    }

    /// The client is waited for: the rest of a body is its to send.
    fn waits(&self) {
        let owes = &self.notes.owes_since;
        if self.screen.as_ref().is_some_and(H1Validator::in_body) && owes.get().is_none() {
            owes.set(Some(Instant::now()));
        }
    }

    /// Screens bytes. Whether all of them may go on as they are; what else may is put aside.
    fn screen(&mut self, fresh: &[u8]) -> bool {
        let Some(screen) = &mut self.screen else { return true };
        let direct = self.held.is_empty();
        if !direct {
            self.held.extend_from_slice(fresh);
        }
        let look = screen.look(if direct { fresh } else { &self.held });
        self.notes.odd_names.set(screen.has_odd_names());
        // A head has a time for all of it; of a body no pause may be too long.
        let in_head = screen.in_head();
        if !in_head || !self.in_head {
            self.notes.owes_since.set(in_head.then(Instant::now));
        }
        self.in_head = in_head;
        self.notes.in_body.set(screen.in_body());
        if direct && look.passes == fresh.len() && look.fault.is_none() {
            return true;
        }
        if direct {
            self.held.extend_from_slice(fresh);
        }
        let passes = self.held.split_to(look.passes);
        self.passed.unsplit(passes);
        if let Some(fault) = look.fault {
            self.refuse(fault);
        }
        false
    }

    /// Lets nothing more pass.
    fn refuse(&mut self, fault: H1Error) {
        self.held.clear();
        self.screen = None;
        self.notes.owes_since.set(None);
        self.door.violation(fault.violation);
        let in_body = fault.in_body;
        self.notes.fault.set(Some(fault));
        self.notes.faulty.set(true);
        self.refused = Some(if in_body { RejectedPart::Body } else { RejectedPart::Head });
        if in_body {
            return;
        }
        // The parser behind sees a request in the place of the one that can't be read, and so it
        // is answered in its turn.
        FAULTY.with(|path| {
            for part in ["GET ", path, " HTTP/1.1\r\nhost: faulty\r\n\r\n"] {
                self.passed.extend_from_slice(part.as_bytes());
            }
        });
    }

    /// What follows a request for another protocol is HTTP after all, once the request was answered
    /// in HTTP.
    fn learn(&mut self) {
        let Some(screen) = &mut self.screen else { return };
        if screen.awaits_upgrade() && self.notes.answered.get() >= screen.requests() {
            screen.resume();
        }
    }

    /// While an answer is due hyper does not read, and so it is looked here whether anybody waits
    /// for it. A client that has ended its half is gone, as nearly all are; where it may still listen,
    /// and once its answer has begun, it is given a while for as long as it takes nothing.
    ///
    /// # Errors
    /// When the client is gone, or taken for gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.screen.is_none() {
            return Poll::Pending;
        }
        let mut byte = [0];
        let error = match ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(1..) => return Poll::Pending,
            Ok(0) if self.notes.due.get() && !self.notes.half_close.get() => {
                self.notes.left.set(true);
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
            Ok(0) => {
                let rings = || Box::pin(sleep(HALF_CLOSED));
                ready!(self.half_closed.get_or_insert_with(rings).as_mut().poll(cx));
                io::ErrorKind::TimedOut.into()
            }
            Err(error) => error,
        };
        self.notes.broken.set(true);
        Poll::Ready(error)
    }

    fn pay(&mut self, way: Way, bytes: usize, now: Instant) {
        let until = self.door.passed(way, bytes, now);
        self.pauses[way as usize] = until.map(|until| Box::pin(sleep_until(until.into())));
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>, way: Way) -> Poll<()> {
        let pause = &mut self.pauses[way as usize];
        if let Some(sleep) = pause {
            ready!(sleep.as_mut().poll(cx));
            *pause = None;
        }
        Poll::Ready(())
    }

    /// Hands on what was screened.
    fn hand_on(&mut self, to: &mut ReadBufCursor<'_>) {
        let len = self.passed.len().min(to.remaining());
        to.put_slice(&self.passed[..len]);
        self.passed.advance(len);
        if self.passed.is_empty() && self.passed.capacity() > 0 {
            self.passed = BytesMut::new();
        }
    }

    /// Writes what a service said before its answer, if hyper is between two answers.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() && self.notes.at_rest.get() {
            self.early = self.notes.early.take().into();
            if self.notes.flood.get() && !self.calming {
                // All frames of hyper are written, and so another one may be.
                self.calming = true;
                self.early = Bytes::from_static(&CALM);
            }
        }
        while !self.early.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.early);
            let n = ready!(self.poll_written(cx, written))?;
            self.early.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(n)) => {
                let now = Instant::now();
                self.notes.moved.set(Some(now));
                self.door.moved(Way::Down, n, now);
                (self.stall, self.half_closed) = (None, None);
                if self.door.is_paced() {
                    self.pay(Way::Down, n, now);
                }
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => {
                self.notes.broken.set(true);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                let Some(patience) = self.patience else { return Poll::Pending };
                let stall = self.stall.get_or_insert_with(|| {
                    Box::pin(sleep_until((Instant::now() + patience).into()))
                });
                ready!(stall.as_mut().poll(cx));
                self.notes.stalled.set(true);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let line = &mut *self;
        line.learn();
        if line.passed.is_empty() && !line.held.is_empty() {
            // They waited for an upgrade, or were read to know the version.
            line.screen(&[]);
        }
        while line.passed.is_empty() {
            match line.refused {
                None => {}
                Some(RejectedPart::Head) => return Poll::Pending,
                Some(RejectedPart::Body) => {
                    let broken = "the body breaks HTTP's rules";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
                }
            }
            if line.screen.as_ref().is_some_and(H1Validator::holds) {
                return Poll::Pending;
            }
            let read = line.poll_fetch(cx, to.remaining(), |line, bytes| {
                let direct = line.screen(bytes);
                if direct {
                    to.put_slice(bytes);
                }
                direct || bytes.is_empty()
            });
            if ready!(read)? {
                return Poll::Ready(Ok(()));
            }
        }
        line.hand_on(&mut to);
        Poll::Ready(Ok(()))
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_early(cx))?;
        self.notes.at_rest.set(false);
        let mut most = bytes.len();
        if self.door.is_paced() {
            ready!(self.poll_pause(cx, Way::Down));
            most = most.min(self.door.most(Way::Down)).max(1);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most]);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // A policy that slows it down may come while it is open: writes are cut then.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_early(cx))?;
        if self.door.is_paced() {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| &**part));
        }
        self.notes.at_rest.set(false);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.poll_written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(gone) = self.poll_gone(cx) {
            return Poll::Ready(Err(gone));
        }
        self.notes.at_rest.set(true);
        ready!(self.poll_early(cx))?;
        if self.calming {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
