//! A TLS connection over a socket.

use crate::{
    engine::{Engine, Failed, MAX_PAYLOAD, Outgoing, Output},
    failure::HandshakeFailure,
    info::TlsInfo,
};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::SystemTime,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// The largest record, in bytes: header, payload, and what encryption may add (RFC 8446, 5.2).
const MAX_RECORD: usize = 5 + 16 * 1024 + 256;

/// What TLS 1.3 adds to a record, in bytes: header, content type and tag.
const TLS13_OVERHEAD: usize = 5 + 1 + 16;

/// The most that is kept of what was read, in bytes. A handshake message may have 64 KiB and must be
/// there as a whole.
const MAX_PARTIAL: usize = 80 * 1024;

/// The most that is read at once, in bytes.
const MAX_READ: usize = 128 * 1024;

/// Reads start at a cache line: copying from the kernel to another address takes some processors twice
/// as long.
const CACHE_LINE: usize = 64;

/// The most payload that is encrypted at once, in bytes.
const MAX_WRITE: usize = 64 * 1024;

thread_local! {
    /// Connections read into this buffer, and keep only what is left in it.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Connections encrypt into this buffer, and keep only what the socket did not take.
    static WRITE: RefCell<Output> = RefCell::default();
    /// Payload that comes in parts is put together here, so that it becomes one record.
    static PARTS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A TLS connection. An idle one has no buffer of its own.
pub struct TlsStream {
    tcp: TcpStream,
    engine: Engine,
    /// The front of a record whose rest has not been read.
    partial: Vec<u8>,
    /// Payload that was decrypted and not read, from `payload_start` on.
    payload: Vec<u8>,
    payload_start: usize,
    /// Records that the socket has not taken, from `unsent_start` on.
    unsent: Output,
    unsent_start: usize,
    end: Option<ReadEnd>,
    established: bool,
    /// close_notify was written.
    closing: bool,
    /// When the certificate ends that this side may have shown.
    pub(crate) certificate_end: Option<SystemTime>,
}

/// How the peer has ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    /// With close_notify: nothing is missing.
    CloseNotify,
    /// With the end of the TCP stream alone: something may be missing.
    Truncated,
    /// With bytes that break the protocol, or with an alert: nothing more is read or written.
    Failed,
}

impl TlsStream {
    /// A connection that was accepted.
    ///
    /// # Errors
    /// The config is inconsistent.
    pub fn server(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, HandshakeFailure> {
        let engine = Engine::server(config).map_err(HandshakeFailure::from_rustls)?;
        Ok(Self::new(tcp, engine))
    }

    /// A connection that was opened, to a server of this name.
    ///
    /// # Errors
    /// The config is inconsistent.
    pub fn client(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, HandshakeFailure> {
        let engine = Engine::client(config, name).map_err(HandshakeFailure::from_rustls)?;
        Ok(Self::new(tcp, engine))
    }

    fn new(tcp: TcpStream, engine: Engine) -> Self {
        Self {
            tcp,
            engine,
            partial: Vec::new(),
            payload: Vec::new(),
            payload_start: 0,
            unsent: Output::default(),
            unsent_start: 0,
            end: None,
            established: false,
            closing: false,
            certificate_end: None,
        }
    }

    /// Completes the handshake. On failure the alert is sent, as far as the socket takes it at once.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn handshake(&mut self) -> Result<(), HandshakeFailure> {
        // A client speaks before it has received anything.
        self.receive(&mut [], &mut ReadBuf::new(&mut []))?;
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// Waits until [`handshake_step`](Self::handshake_step) can go on.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn handshake_ready(&self) -> Result<(), HandshakeFailure> {
        let wanted = if self.unsent.is_empty() { Interest::READABLE } else { Interest::WRITABLE };
        self.tcp.ready(wanted).await.map_err(|error| HandshakeFailure::from_io(&error))?;
        Ok(())
    }

    /// Goes on with the handshake of an accepted connection, as far as the peer's bytes are there.
    /// Returns whether it is over.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub fn handshake_step(&mut self) -> Result<bool, HandshakeFailure> {
        match self.poll_handshake(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// As [`handshake`](Self::handshake), of an accepted connection. It stays ready once the handshake
    /// is over and what was to be sent is sent.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFailure>> {
        loop {
            ready!(self.poll_send(cx)).map_err(|error| HandshakeFailure::from_io(&error))?;
            if self.established {
                return Poll::Ready(Ok(()));
            }
            let read = ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])));
            if read? == 0 && !self.established {
                return Poll::Ready(Err(HandshakeFailure::Closed));
            }
        }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What both sides have agreed upon. `server_name` is what the client asked for.
    pub fn info(&self, server_name: Option<String>) -> TlsInfo {
        TlsInfo::new(self.engine.state(), server_name)
    }

    /// The peer's certificate and those of its issuers (DER), as far as the peer has shown them.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.engine.state().peer_certificates().into_iter().flatten().map(AsRef::as_ref)
    }

    /// The application protocol that was agreed upon (ALPN).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.engine.state().alpn_protocol()
    }

    /// When the certificate ends that this side shows to a server which asks for one.
    pub fn certificate_end(&self) -> Option<SystemTime> {
        self.certificate_end
    }

    /// Whether the peer's stream has ended without close_notify, so that its end may be missing.
    pub fn is_truncated(&self) -> bool {
        matches!(self.end, Some(ReadEnd::Truncated | ReadEnd::Failed))
    }

    /// Whether the next read has a result at once.
    fn has_payload(&self) -> bool {
        self.payload_start < self.payload.len() || self.end.is_some()
    }

    /// Ready when a read is worth trying.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_payload() { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    /// Processes what has arrived, without waiting: what lies in the socket of an idle connection is a
    /// session ticket, a key update, or an alert. Returns whether the connection is still open.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if self.payload_start < self.payload.len() {
                return true;
            }
            if self.end.is_some() {
                return false;
            }
            match self.poll_receive(&mut cx, &mut ReadBuf::new(&mut [])) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0) | Err(_)) => return false,
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Ready when there is payload to be read: `true`, or when the peer's stream has ended: `false`.
    ///
    /// # Errors
    /// The connection failed.
    pub fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.payload_start < self.payload.len() {
                return Poll::Ready(Ok(true));
            }
            if self.end.is_some() {
                return Poll::Ready(Ok(false));
            }
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Whether the connection is open and has no payload to be read.
    pub fn is_idle(&mut self) -> bool {
        self.is_alive() && !self.has_payload()
    }

    /// Queues close_notify, so that the peer knows that nothing is missing. The socket may be unable
    /// to take it.
    fn queue_close_notify(&mut self) {
        if !std::mem::replace(&mut self.closing, true) && self.established {
            let (partial, unsent) = (&mut self.partial, &mut self.unsent);
            // A connection that failed has sent an alert in place of it.
            let _ = self.engine.write(Outgoing::CloseNotify, partial, unsent);
        }
    }

    /// Leaves out close_notify, so that the peer can tell that something is missing.
    pub fn abort(&mut self) {
        self.closing = true;
    }

    /// Sends close_notify if the socket takes it at once, and closes the socket's sending side.
    pub fn close_now(&mut self) {
        self.queue_close_notify();
        let mut cx = Context::from_waker(Waker::noop());
        // The peer may be gone.
        let _ = self.poll_send(&mut cx);
    }

    /// Reads once from the socket, and processes what came. Returns how many bytes came; 0 is the end
    /// of the TCP stream. Payload goes to `into`, and what has no room there waits in `payload`.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<usize, HandshakeFailure>> {
        // Most calls find nothing, and need no buffer.
        ready!(self.tcp.poll_read_ready(cx)).map_err(|error| HandshakeFailure::from_io(&error))?;
        READ.with_borrow_mut(|buffer| {
            buffer.resize(MAX_PARTIAL + CACHE_LINE + MAX_READ, 0);
            let padding = buffer[MAX_PARTIAL..].as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
            let place = MAX_PARTIAL + padding;
            let kept = self.partial.len();
            let Some(start) = place.checked_sub(kept) else {
                // rustls limits messages to less than this.
                return Poll::Ready(Err(HandshakeFailure::Protocol));
            };
            buffer[start..place].copy_from_slice(&self.partial);
            // No more than the caller has room for, or one record.
            let most = encrypted_len(into.remaining()).saturating_sub(kept).max(MAX_RECORD);
            let mut read = ReadBuf::new(&mut buffer[place..place + most.min(MAX_READ)]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))
                .map_err(|error| HandshakeFailure::from_io(&error))?;
            let came = read.filled().len();
            if came == 0 {
                self.end.get_or_insert(ReadEnd::Truncated);
                return Poll::Ready(Ok(0));
            }
            let received = &mut buffer[start..place + came];
            self.receive(received, into)?;
            // What must be answered (a key update, an alert) goes out with the next write, if the
            // socket does not take it now.
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(HandshakeFailure::from_io(&error)));
            }
            Poll::Ready(Ok(came))
        })
    }

    /// Processes `received`, which begins with what was left before.
    fn receive(
        &mut self,
        received: &mut [u8],
        into: &mut ReadBuf<'_>,
    ) -> Result<(), HandshakeFailure> {
        let payload = &mut self.payload;
        let deliver = &mut |bytes: &[u8]| {
            let now = if payload.is_empty() { bytes.len().min(into.remaining()) } else { 0 };
            let (now, later) = bytes.split_at(now);
            into.put_slice(now);
            payload.extend_from_slice(later);
        };
        let (used, failure) = match self.engine.read(received, &mut self.unsent, deliver) {
            Ok(progress) => {
                self.established |= progress.established;
                if progress.close_notify {
                    self.end = Some(ReadEnd::CloseNotify);
                }
                (progress.used, None)
            }
            Err(Failed { used, error }) => {
                self.closing = true;
                self.end = Some(ReadEnd::Failed);
                (used, Some(HandshakeFailure::from_rustls(error)))
            }
        };
        let left = received.get(used..).unwrap_or_default();
        if left.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(left);
        }
        match failure {
            None => Ok(()),
            Some(failure) => {
                self.partial = Vec::new();
                let mut cx = Context::from_waker(Waker::noop());
                // The alert; the peer may be gone.
                let _ = self.poll_send(&mut cx);
                Err(failure)
            }
        }
    }

    /// Writes the records that wait. `Ok` means that none are left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent_start < self.unsent.bytes().len() {
            let left = &self.unsent.bytes()[self.unsent_start..];
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, left))?;
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unsent_start += sent;
        }
        if self.unsent_start > 0 {
            self.unsent = Output::default();
            self.unsent_start = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands out payload that was decrypted before. Returns whether there was any.
    fn take_payload(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let waiting = &self.payload[self.payload_start..];
        if waiting.is_empty() {
            return false;
        }
        let taken = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..taken]);
        self.payload_start += taken;
        if self.payload_start == self.payload.len() {
            self.payload = Vec::new();
            self.payload_start = 0;
        }
        true
    }
}

/// How many bytes of full records have this much payload.
fn encrypted_len(payload: usize) -> usize {
    payload + (payload / MAX_PAYLOAD + 1) * TLS13_OVERHEAD
}

/// The peer learns that nothing is missing, if its socket takes it at once.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.established && !self.closing && self.unsent.is_empty() {
            self.close_now();
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.tcp).finish_non_exhaustive()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.take_payload(into) || this.end.is_some() || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = into.filled().len();
            match ready!(this.poll_receive(cx, into)) {
                Ok(_) if into.filled().len() > before => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(failure) => return Poll::Ready(Err(failure.into())),
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.end == Some(ReadEnd::Failed) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_send(cx))?;
        let payload = &payload[..payload.len().min(MAX_WRITE)];
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        WRITE.with_borrow_mut(|records| {
            records.clear();
            this.engine
                .write(Outgoing::Payload(payload), &mut this.partial, records)
                .map_err(|error| io::Error::from(HandshakeFailure::from_rustls(error)))?;
            let records = records.bytes();
            let mut sent = 0;
            while sent < records.len() {
                match Pin::new(&mut this.tcp).poll_write(cx, &records[sent..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(n)) => sent += n,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        this.unsent.extend(&records[sent..]);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(payload.len()))
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        PARTS.with_borrow_mut(|payload| {
            payload.clear();
            for part in parts {
                let room = MAX_WRITE - payload.len();
                payload.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.poll_write(cx, payload)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.queue_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}
