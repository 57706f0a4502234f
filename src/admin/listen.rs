//! Limits on connections to the admin interface: their number, their age, and their silence while
//! others wait for a permit.

use axum::serve::Listener;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The interval at which a connection is evicted while a new one waits.
const EVICT_INTERVAL: Duration = Duration::from_millis(250);

/// The limits on connections to the admin interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many connections are served at once.
    pub(super) connections: usize,
    /// How long a client may take to send its request.
    pub(super) request: Duration,
    /// How long a connection may live: long enough for one request and its reply.
    pub(super) lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, request: Duration::from_secs(5), lifetime: Duration::from_secs(30) }
    }
}

/// A listener that enforces the limits.
#[derive(Debug)]
pub(super) struct LimitedListener<L> {
    listener: L,
    free: Arc<Semaphore>,
    open: Arc<OpenConnections>,
    limits: Limits,
    /// Cancelled once another process accepts here and this one must stop.
    replaced: CancellationToken,
}

impl<L> LimitedListener<L> {
    pub(super) fn new(listener: L, limits: Limits, replaced: CancellationToken) -> Self {
        let free = Arc::new(Semaphore::new(limits.connections));
        Self { listener, free, open: Arc::default(), limits, replaced }
    }
}

/// Acquires the permit of an accepted connection. If there is none, closes the oldest connection
/// that has not sent its request, or else the oldest one of at least this age.
async fn acquire_permit(
    free: Arc<Semaphore>,
    open: Arc<OpenConnections>,
    age: Duration,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
        return Some(permit);
    }
    loop {
        open.close_one(age);
        if let Ok(permit) = timeout(EVICT_INTERVAL, Arc::clone(&free).acquire_owned()).await {
            // The semaphore is never closed, so this is always a permit.
            return permit.ok();
        }
    }
}

impl<L: Listener> Listener for LimitedListener<L>
where
    L::Io: Unpin,
{
    type Io = LimitedConnection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (LimitedConnection<L::Io>, L::Addr) {
        let (stream, peer) = tokio::select! {
            biased;
            () = self.replaced.cancelled() => std::future::pending().await,
            accepted = self.listener.accept() => accepted,
        };
        let (free, open) = (Arc::clone(&self.free), Arc::clone(&self.open));
        let permit = acquire_permit(free, open, self.limits.request).await;
        let connection = self.open.add();
        let limited = LimitedConnection {
            stream,
            end: Box::pin(sleep_until(connection.since + self.limits.request)),
            closed: Box::pin(connection.close.clone().cancelled_owned()),
            connection,
            open: Arc::clone(&self.open),
            lifetime: self.limits.lifetime,
            _permit: permit,
        };
        (limited, peer)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// The open connections, the oldest first.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<VecDeque<Arc<Connection>>>);

/// The listener's record of a connection.
#[derive(Debug)]
struct Connection {
    since: Instant,
    /// The whole request has arrived, and the response is being written.
    responding: AtomicBool,
    close: CancellationToken,
}

impl OpenConnections {
    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            since: Instant::now(),
            responding: AtomicBool::new(false),
            close: CancellationToken::new(),
        });
        self.all().push_back(Arc::clone(&connection));
        connection
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.all().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Closes the oldest connection that still sends its request, or the oldest of all if it has at
    /// least this age.
    fn close_one(&self, age: Duration) {
        let all = self.all();
        let silent = all.iter().find(|other| !other.responding.load(Relaxed));
        let old = all.front().filter(|oldest| oldest.since.elapsed() >= age);
        if let Some(connection) = silent.or(old) {
            connection.close.cancel();
        }
    }
}

/// A connection that fails once its time is over or it is evicted.
#[derive(Debug)]
pub(super) struct LimitedConnection<S> {
    stream: S,
    end: Pin<Box<Sleep>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    connection: Arc<Connection>,
    open: Arc<OpenConnections>,
    lifetime: Duration,
    /// Released after the stream is closed.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S: Unpin> LimitedConnection<S> {
    /// The stream, or an error once the connection must end.
    fn live_stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        let ended = self.end.as_mut().poll(cx).is_ready();
        if ended || self.closed.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }

    /// The stream to write a response to: the request has arrived, so the client gets more time.
    fn response_stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        if !self.connection.responding.swap(true, Relaxed) {
            self.end.as_mut().reset(self.connection.since + self.lifetime);
        }
        self.live_stream(cx)
    }
}

impl<S> Drop for LimitedConnection<S> {
    fn drop(&mut self) {
        self.open.remove(&self.connection);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.live_stream(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedConnection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.response_stream(cx)?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.response_stream(cx)?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live_stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live_stream(cx)?.poll_shutdown(cx)
    }
}
