//! Connections to the admin interface: few at a time, and none for long.

use axum::serve::Listener;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// How much of the admin interface strangers can take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many connections are served at once; more wait to be accepted.
    pub(super) connections: usize,
    /// How long a connection may live: long enough for one request and its reply.
    pub(super) lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, lifetime: Duration::from_secs(30) }
    }
}

/// A listener that keeps to its limits.
#[derive(Debug)]
pub(super) struct Guarded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    lifetime: Duration,
}

impl Guarded {
    pub(super) fn new(listener: TcpListener, limits: Limits) -> Self {
        let free = Arc::new(Semaphore::new(limits.connections));
        Self { listener, free, lifetime: limits.lifetime }
    }
}

impl Listener for Guarded {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        // The semaphore is never closed, so this always is a place.
        let place = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(sleep(self.lifetime));
        (Mortal { stream, end, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
#[derive(Debug)]
pub(super) struct Mortal {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// Given back after the stream is closed.
    _place: Option<OwnedSemaphorePermit>,
}

impl Mortal {
    /// The stream while it may live.
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?.poll_shutdown(cx)
    }
}
