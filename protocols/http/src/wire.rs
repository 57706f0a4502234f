//! A connection to an endpoint, with hyper's side of it.
//!
//! One of HTTP/1 is polled by whoever uses it: a request, its answer and both connections are one
//! task, and no message passes between tasks. One of HTTP/2 is shared, and so has a task of its own.

mod greeting;
mod socket;

use crate::{
    hygiene::length,
    proxy::{Lease, Wish},
    upload::RequestBody,
};
use greeting::{PeerSettings, SettingsReader};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::TokioTimer;
use socket::UpstreamSocket;
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    task::{spawn_local, unconstrained},
};

/// How many headers an answer may have.
const MAX_HEADERS: usize = 256;

/// How much of an answer a stream of HTTP/2 may send that nobody has taken yet, and how much all
/// streams of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A head that every service takes, in bytes: it is sent before the service has said how much that is.
const SMALL_HEAD: usize = 8 * 1024;

/// How often a connection of HTTP/2 with streams on it is asked for a sign of life, and how long
/// that may take.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// Runs hyper's tasks on this worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// What a request is sent to the service by.
pub(crate) enum UpstreamConn {
    /// A connection of its own.
    Own(Box<H1Connection>),
    /// A stream of a connection that others use too.
    Stream(H2Stream),
}

/// A connection of HTTP/1, which carries one request at a time.
pub(crate) struct H1Connection {
    connection: http1::Connection<UpstreamSocket, RequestBody>,
    sender: http1::SendRequest<RequestBody>,
    lease: Rc<dyn Lease>,
    /// How long it waited for a place among the cluster's connections.
    pub(crate) queued: Duration,
    /// How many requests it has carried.
    pub(crate) carried: u64,
    /// Since when it rests.
    pub(crate) rests_since: Instant,
    ended: bool,
}

impl H1Connection {
    pub(crate) async fn begin(
        stream: TcpStream,
        lease: Rc<dyn Lease>,
        max_head: usize,
    ) -> hyper::Result<Box<Self>> {
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_header_size(max_head);
        let (sender, connection) = builder.handshake(UpstreamSocket::new(stream)).await?;
        let rests_since = Instant::now();
        let queued = Duration::ZERO;
        Ok(Box::new(Self {
            connection,
            sender,
            lease,
            queued,
            carried: 0,
            rests_since,
            ended: false,
        }))
    }

    /// Moves bytes both ways.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended && self.connection.poll_without_shutdown(cx).is_ready() {
            self.ended = true;
        }
        if self.ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether it can carry another request, as far as is known.
    pub(crate) fn is_free(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // What the service has said meanwhile, above all that it is gone, is heard now.
        self.poll(&mut cx).is_pending() && self.sender.is_ready() && self.lease.wish() == Wish::Stay
    }

    async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        // A connection takes a request only once it has been polled, as one that was kept has.
        if !self.sender.is_ready() {
            poll_fn(|cx| {
                let ended = self.poll(cx).is_ready();
                match self.sender.poll_ready(cx) {
                    Poll::Pending if !ended => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            })
            .await;
        }
        self.carried += 1;
        // Whatever completes it happens in this task, which need not be woken for it once more.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|cx| {
            let _ = self.poll(cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// What counts it.
    pub(crate) fn lease(&self) -> &Rc<dyn Lease> {
        &self.lease
    }

    /// Takes the socket back: it carries another protocol now.
    pub(crate) fn open(self) -> (TcpStream, bytes::Bytes, Rc<dyn Lease>) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf, self.lease)
    }
}

/// A connection of HTTP/2.
pub(crate) struct H2Connection {
    sender: http2::SendRequest<RequestBody>,
    pub(crate) lease: Rc<dyn Lease>,
    /// How many streams the service bears.
    limit: Box<dyn Fn() -> usize>,
    greeting: Rc<PeerSettings>,
    streams: Cell<usize>,
    carried: Cell<u64>,
    /// How long it waited for a place among the cluster's connections.
    pub(crate) queued: Cell<Duration>,
    /// Since when it has no stream.
    pub(crate) rests_since: Cell<Instant>,
    /// It takes no more streams.
    pub(crate) retired: Cell<bool>,
}

impl H2Connection {
    pub(crate) async fn begin(
        stream: TcpStream,
        lease: Rc<dyn Lease>,
        max_head: usize,
    ) -> hyper::Result<Rc<Self>> {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(list_size(max_head))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let greeting = Rc::default();
        let (sender, connection) =
            builder.handshake(SettingsReader::new(stream, &greeting)).await?;
        let connection = Rc::new(RefCell::new(Some(connection)));
        let (held, moved) = (Rc::clone(&lease), Rc::clone(&connection));
        spawn_local(async move {
            // Whoever has a stream on it hears of its end.
            let _ = poll_fn(|cx| match &mut *moved.borrow_mut() {
                Some(connection) => Pin::new(connection).poll(cx),
                None => Poll::Ready(Ok(())),
            })
            .await;
            // Its senders hear of it only when it is gone.
            moved.take();
            drop(held);
        });
        // What the service said of it last is known to the connection alone.
        let limit = Box::new(move || {
            let Ok(connection) = connection.try_borrow() else { return 0 };
            connection.as_ref().map_or(0, |connection| connection.current_max_send_streams())
        });
        Ok(Rc::new(Self {
            sender,
            lease,
            limit,
            greeting,
            streams: Cell::new(0),
            carried: Cell::new(0),
            queued: Cell::default(),
            rests_since: Cell::new(Instant::now()),
            retired: Cell::new(false),
        }))
    }

    /// How many streams it carries.
    pub(crate) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it can carry another stream beside `most` − 1 others, after `carried` at most.
    pub(crate) fn is_free(&self, most: usize, carried: u64) -> bool {
        let most = most.min((self.limit)());
        !self.retired.get()
            && self.streams.get() < most
            && self.carried.get() < carried
            && self.is_alive()
    }

    /// Whether it is of use at all.
    pub(crate) fn is_alive(&self) -> bool {
        !self.sender.is_closed() && self.lease.wish() == Wish::Stay
    }
}

/// One stream of a connection of HTTP/2; it is counted there until dropped.
pub(crate) struct H2Stream(Rc<H2Connection>);

impl H2Stream {
    pub(crate) fn begin(shared: &Rc<H2Connection>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.carried.set(shared.carried.get() + 1);
        Self(Rc::clone(shared))
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut sender = self.0.sender.clone();
        if let Err(error) = sender.ready().await {
            tracing::debug!(%error, "an HTTP/2 connection takes no more streams");
        }
        sender.try_send_request(request).await
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.rests_since.set(Instant::now());
    }
}

impl UpstreamConn {
    /// Sends a request, and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            UpstreamConn::Own(own) => own.send(request).await,
            UpstreamConn::Stream(stream) => stream.send(request).await,
        }
    }

    /// Moves bytes, where nobody else does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        if let UpstreamConn::Own(own) = self {
            let _ = own.poll(cx);
        }
    }

    /// Waits for something that its bytes have to be moved for.
    pub(crate) async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// How many bytes of a head the service takes, if this request has more. Some services end the
    /// whole connection over it, on which there are the requests of others too.
    pub(crate) async fn over_limit(&self, request: &Request<RequestBody>) -> Option<u32> {
        let UpstreamConn::Stream(H2Stream(shared)) = self else { return None };
        let greeting = &shared.greeting;
        if greeting.limit().is_none() && !greeting.is_awaited() {
            return None;
        }
        let size = size_in_http2(request);
        if greeting.is_awaited() && size > SMALL_HEAD {
            greeting.heard().await;
        }
        greeting.limit().filter(|takes| size > *takes as usize)
    }

    pub(crate) fn lease(&self) -> &Rc<dyn Lease> {
        match self {
            UpstreamConn::Own(own) => &own.lease,
            UpstreamConn::Stream(stream) => &stream.0.lease,
        }
    }

    /// How long it waited for a place among the cluster's connections.
    pub(crate) fn queued(&self) -> Duration {
        match self {
            UpstreamConn::Own(own) => own.queued,
            UpstreamConn::Stream(stream) => stream.0.queued.get(),
        }
    }

    /// Whether nothing was sent by it before.
    pub(crate) fn is_fresh(&self) -> bool {
        match self {
            UpstreamConn::Own(own) => own.carried == 0,
            UpstreamConn::Stream(stream) => stream.0.carried.get() <= 1,
        }
    }
}

/// How large a head h2 lets pass whose limit is this. Of one that is larger nothing is left to tell
/// what was wrong with it; so it has some more room, and the limit is held elsewhere.
pub(crate) fn list_size(max_head: usize) -> u32 {
    u32::try_from(max_head.saturating_mul(2)).unwrap_or(u32::MAX)
}

/// How large a request's head is as HTTP/2 counts it (RFC 9113, 6.5.2).
fn size_in_http2(request: &Request<RequestBody>) -> usize {
    let of = |name: &str, value: usize| name.len() + value + 32;
    let uri = request.uri();
    let own = of(":method", request.method().as_str().len())
        + of(":scheme", uri.scheme_str().map_or(0, str::len))
        + of(":authority", uri.authority().map_or(0, |it| it.as_str().len()))
        + of(":path", uri.path_and_query().map_or(0, |it| it.as_str().len()));
    own + length::in_http2(request.headers())
}

impl fmt::Debug for UpstreamConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(self.lease().name()).finish()
    }
}
