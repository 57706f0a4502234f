//! Encrypted connections to the admin interface.

use axum::serve::Listener;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tls::{HandshakeFailure, ServerTls, TlsStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// How often a failure of one reason is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A listening address whose clients are encrypted.
#[derive(Debug)]
pub(super) struct TlsListener {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    failures: Arc<HandshakeFailures>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: Arc<ServerTls>) -> Self {
        Self { listener, tls, failures: Arc::default() }
    }

    fn begin(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
    ) -> Result<TlsConnection, HandshakeFailure> {
        let stream = TlsStream::server(socket, self.tls.config())?;
        Ok(TlsConnection { stream, peer, failures: Arc::clone(&self.failures) })
    }
}

impl Listener for TlsListener {
    type Io = TlsConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsConnection, SocketAddr) {
        loop {
            let (socket, peer) = Listener::accept(&mut self.listener).await;
            match self.begin(socket, peer) {
                Ok(connection) => return (connection, peer),
                Err(failure) => self.failures.log(&failure, peer),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// An accepted connection. The first read completes the handshake, so that a client which stalls in it
/// is a client which sends no request.
#[derive(Debug)]
pub(super) struct TlsConnection {
    stream: TlsStream,
    peer: SocketAddr,
    failures: Arc<HandshakeFailures>,
}

impl TlsConnection {
    /// The stream, once its handshake is over.
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream>>> {
        if let Err(failure) = ready!(self.stream.poll_handshake(cx)) {
            self.failures.log(&failure, self.peer);
            return Poll::Ready(Err(failure.into()));
        }
        Poll::Ready(Ok(Pin::new(&mut self.stream)))
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_established(cx))?.poll_read(cx, into)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// When a failure of each reason was last logged: a scanner must not fill the log.
#[derive(Debug, Default)]
struct HandshakeFailures(Mutex<BTreeMap<&'static str, Instant>>);

impl HandshakeFailures {
    fn log(&self, failure: &HandshakeFailure, peer: SocketAddr) {
        let (reason, now) = (failure.reason(), Instant::now());
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(reason).is_some_and(|last| now - *last < LOG_INTERVAL) {
            return;
        }
        logged.insert(reason, now);
        tracing::warn!(
            %peer,
            reason,
            error = %failure,
            "a connection to the admin interface is closed before its request"
        );
    }
}
