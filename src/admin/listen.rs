//! Connections to the admin interface: few at a time, none for long, and none that is silent while
//! another one waits for its place.

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

/// How often it is looked for a connection to close while a new one waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much of the admin interface its clients can take up.
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

/// A listener that keeps to its limits.
#[derive(Debug)]
pub(super) struct Guarded<L> {
    listener: L,
    free: Arc<Semaphore>,
    open: Arc<Open>,
    limits: Limits,
    /// Is cancelled once another process accepts here, and this one is to leave it to that.
    replaced: CancellationToken,
}

impl<L> Guarded<L> {
    pub(super) fn new(listener: L, limits: Limits, replaced: CancellationToken) -> Self {
        let free = Arc::new(Semaphore::new(limits.connections));
        Self { listener, free, open: Arc::default(), limits, replaced }
    }
}

/// A place for a connection that was accepted. Where there is none the oldest connection that has
/// not sent its request is closed; where all have, the oldest that has had its time for one.
async fn place(
    free: Arc<Semaphore>,
    open: Arc<Open>,
    age: Duration,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
        return Some(place);
    }
    loop {
        open.close_one(age);
        if let Ok(place) = timeout(LOOK_EVERY, Arc::clone(&free).acquire_owned()).await {
            // The semaphore is never closed, so this always is a place.
            return place.ok();
        }
    }
}

impl<L: Listener> Listener for Guarded<L>
where
    L::Io: Unpin,
{
    type Io = Mortal<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Mortal<L::Io>, L::Addr) {
        let (stream, peer) = tokio::select! {
            biased;
            () = self.replaced.cancelled() => std::future::pending().await,
            accepted = self.listener.accept() => accepted,
        };
        let (free, open) = (Arc::clone(&self.free), Arc::clone(&self.open));
        let place = place(free, open, self.limits.request).await;
        let connection = self.open.add();
        let mortal = Mortal {
            stream,
            end: Box::pin(sleep_until(connection.since + self.limits.request)),
            closed: Box::pin(connection.close.clone().cancelled_owned()),
            connection,
            open: Arc::clone(&self.open),
            lifetime: self.limits.lifetime,
            _place: place,
        };
        (mortal, peer)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// The connections that are open, the oldest first.
#[derive(Debug, Default)]
struct Open(Mutex<VecDeque<Arc<Connection>>>);

/// A connection, as its listener knows it.
#[derive(Debug)]
struct Connection {
    since: Instant,
    /// It is being answered: its whole request has come.
    answered: AtomicBool,
    close: CancellationToken,
}

impl Open {
    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            since: Instant::now(),
            answered: AtomicBool::new(false),
            close: CancellationToken::new(),
        });
        self.all().push_back(Arc::clone(&connection));
        connection
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.all().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Closes the oldest connection without an answer, or the oldest of all if it is at least this old.
    fn close_one(&self, age: Duration) {
        let all = self.all();
        let silent = all.iter().find(|it| !it.answered.load(Relaxed));
        let old = all.front().filter(|it| it.since.elapsed() >= age);
        if let Some(connection) = silent.or(old) {
            connection.close.cancel();
        }
    }
}

/// A connection that fails once its time is over, or its place is needed.
#[derive(Debug)]
pub(super) struct Mortal<S> {
    stream: S,
    end: Pin<Box<Sleep>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    connection: Arc<Connection>,
    open: Arc<Open>,
    lifetime: Duration,
    /// Given back after the stream is closed.
    _place: Option<OwnedSemaphorePermit>,
}

impl<S: Unpin> Mortal<S> {
    /// The stream while it may live.
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        let ended = self.end.as_mut().poll(cx).is_ready();
        if ended || self.closed.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }

    /// The stream to write a response to: the request has arrived, so the client gets more time.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        if !self.connection.answered.swap(true, Relaxed) {
            self.end.as_mut().reset(self.connection.since + self.lifetime);
        }
        self.alive(cx)
    }
}

impl<S> Drop for Mortal<S> {
    fn drop(&mut self) {
        self.open.remove(&self.connection);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mortal<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mortal<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answer(cx)?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answer(cx)?.poll_write_vectored(cx, bufs)
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
