//! A connection's socket, plain or encrypted.

use socket2::SockRef;
use std::{
    io::{self, ErrorKind, IoSlice},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::SystemTime,
};
use tls::TlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A connection's socket.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes inside TLS, after the handshake.
    Tls(Box<TlsStream>),
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl Stream {
    /// The TCP socket.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.tcp(),
        }
    }

    /// The socket, if its bytes are the connection's own.
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// The application protocol that TLS has agreed upon (ALPN).
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.alpn(),
        }
    }

    /// The peer's certificate and those of its issuers (DER), as far as the peer has shown them.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        let stream = match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream),
        };
        stream.into_iter().flat_map(|stream| stream.peer_certificates())
    }

    /// When the certificate ends that this side shows to a server which asks for one.
    pub fn certificate_end(&self) -> Option<SystemTime> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.certificate_end(),
        }
    }

    /// The local address.
    ///
    /// # Errors
    /// The socket is no longer connected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    /// Ready when a read is worth trying.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Ready when there is something to be read, `1`, or when the peer's stream has ended, `0`. Nothing
    /// is used up.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_peek(cx, &mut ReadBuf::new(&mut [0])),
            Self::Tls(stream) => stream.poll_payload(cx).map_ok(usize::from),
        }
    }

    /// Whether the peer's stream has ended in a way that may hide missing bytes: a TLS connection that
    /// was closed without close_notify.
    pub fn is_truncated(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.is_truncated(),
        }
    }

    /// Whether the connection is open and the peer has sent nothing that was not read. Does not wait,
    /// and uses up no payload.
    pub fn is_idle(&mut self) -> bool {
        match self {
            Self::Plain(socket) => {
                let peeked = SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]);
                matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => stream.is_idle(),
        }
    }

    /// As [`is_idle`](Stream::is_idle), as far as the runtime has noticed: without a system call, unless
    /// something has arrived.
    pub fn seems_idle(&mut self) -> bool {
        match self {
            Self::Plain(socket) => {
                let peek = || SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]);
                let peeked = socket.try_io(Interest::READABLE, peek);
                matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => stream.is_idle(),
        }
    }

    /// Whether the connection is still open. What the peer has sent is left to be read.
    pub fn is_alive(&mut self) -> bool {
        match self {
            Self::Plain(socket) => {
                match SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]) {
                    Ok(bytes) => bytes > 0,
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                }
            }
            Self::Tls(stream) => stream.is_alive(),
        }
    }

    /// Writes as much as the socket takes at once. Returns how much of it that was.
    pub fn write_now(&mut self, bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(self).poll_write(&mut cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            _ => 0,
        }
    }

    /// Closes the sending side now, as far as the socket allows; nothing is waited for.
    pub fn close_write(&mut self) {
        if let Self::Tls(stream) = self {
            stream.close_now();
        }
        // The peer may be gone.
        let _ = SockRef::from(self.tcp()).shutdown(Shutdown::Write);
    }

    /// Closes both sides now.
    pub fn close(&mut self) {
        if let Self::Tls(stream) = self {
            stream.close_now();
        }
        // The peer may be gone.
        let _ = SockRef::from(self.tcp()).shutdown(Shutdown::Both);
    }

    /// Makes dropping the socket reset the connection.
    pub fn reset_on_drop(&mut self) {
        if let Self::Tls(stream) = self {
            stream.abort();
        }
        // The peer may be gone.
        let _ = self.tcp().set_zero_linger();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
