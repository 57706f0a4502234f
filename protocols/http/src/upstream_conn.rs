//! Connections to endpoints, on top of hyper.
//!
//! An HTTP/1 connection is polled by the request that uses it: request, response and both
//! connections are one task, without messages between tasks. An HTTP/2 connection is shared, so it
//! has its own task.

mod peer_settings;
mod upstream_socket;

use crate::{
    body::{Body, BodyError},
    header_policy::length,
    request_body::RequestBody,
    upstream_error::UpstreamError,
};
use bytes::Bytes;
use cluster::{CloseRequest, Lease};
use http::{Request, Response, Version, uri::Scheme};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::TokioTimer;
use net::Stream;
use peer_settings::{PeerSettings, SettingsReader};
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::task::{spawn_local, unconstrained};
use upstream_socket::UpstreamSocket;

/// Most headers of a response.
const MAX_HEADERS: usize = 256;

/// HTTP/2 receive windows: of a stream and of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A head size that every service accepts, in bytes: sent before the service has announced its
/// limit.
const SMALL_HEAD: usize = 8 * 1024;

/// Interval of HTTP/2 pings while there are streams, and the timeout of a ping.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// Runs hyper's tasks on this worker's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// What a request is sent on.
pub(crate) enum UpstreamConn {
    /// An exclusive HTTP/1 connection.
    H1(Box<H1Connection>),
    /// A stream of a shared HTTP/2 connection.
    H2Stream(H2Stream),
}

/// An HTTP/1 connection; carries one request at a time.
pub(crate) struct H1Connection {
    io: H1Io,
    max_head: usize,
    lease: Rc<Lease>,
    /// How long it waited for a connection slot of the cluster.
    pub(crate) queue_time: Duration,
    /// Requests sent so far.
    pub(crate) requests: u64,
    /// Since when it is idle.
    pub(crate) idle_since: Instant,
}

/// The socket of an HTTP/1 connection, by its owner.
enum H1Io {
    /// The HTTP/1 engine; a new connection too.
    Socket(Stream),
    Hyper(Box<HyperH1>),
    /// The connection is unusable.
    Ended,
}

struct HyperH1 {
    connection: http1::Connection<UpstreamSocket, RequestBody>,
    sender: http1::SendRequest<RequestBody>,
    ended: bool,
}

impl HyperH1 {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended && self.connection.poll_without_shutdown(cx).is_ready() {
            self.ended = true;
        }
        if self.ended { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        // A new connection must be polled before it accepts a request.
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
        // It completes within this task, which needs no extra wake-up.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        // Reading the body wakes who polled the connection when it came, which is this task too. So
        // the connection gets its wake-ups only while the response has not come.
        poll_fn(|cx| {
            for cx in [&mut Context::from_waker(Waker::noop()), cx] {
                let _ = self.poll(cx);
                let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if polled.is_ready() {
                    return polled;
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl H1Connection {
    /// `max_head`: the longest head of a response, in bytes.
    pub(crate) fn new(stream: Stream, lease: Rc<Lease>, max_head: usize) -> Box<Self> {
        Box::new(Self {
            io: H1Io::Socket(stream),
            max_head,
            lease,
            queue_time: Duration::ZERO,
            requests: 0,
            idle_since: Instant::now(),
        })
    }

    /// The socket, for a request that hyper does not send. `None` if the connection is unusable.
    pub(crate) fn socket(&mut self) -> Option<&mut Stream> {
        if let H1Io::Hyper(_) = self.io
            && let H1Io::Hyper(hyper) = std::mem::replace(&mut self.io, H1Io::Ended)
        {
            let parts = hyper.connection.into_parts();
            if parts.read_buf.is_empty() {
                self.io = H1Io::Socket(parts.io.into_inner());
            }
        }
        match &mut self.io {
            H1Io::Socket(socket) => Some(socket),
            H1Io::Hyper(_) | H1Io::Ended => None,
        }
    }

    /// Hands the socket to hyper, if it is not yet.
    async fn hyper(&mut self) -> Option<&mut HyperH1> {
        if let H1Io::Socket(_) = self.io
            && let H1Io::Socket(socket) = std::mem::replace(&mut self.io, H1Io::Ended)
        {
            let mut builder = http1::Builder::new();
            builder.max_headers(MAX_HEADERS).max_header_size(self.max_head);
            let (sender, connection) = builder.handshake(UpstreamSocket::new(socket)).await.ok()?;
            self.io = H1Io::Hyper(Box::new(HyperH1 { connection, sender, ended: false }));
        }
        match &mut self.io {
            H1Io::Hyper(hyper) => Some(hyper),
            H1Io::Socket(_) | H1Io::Ended => None,
        }
    }

    /// Drives the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.io {
            H1Io::Socket(_) => Poll::Pending,
            H1Io::Hyper(hyper) => hyper.poll(cx),
            H1Io::Ended => Poll::Ready(()),
        }
    }

    /// The next frame of the response that it carries.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // hyper's connection wakes the reader of a body for each frame, and the reader wakes the
        // connection. Both are this task, which gets its wake-ups only once there is no frame.
        for cx in [&mut Context::from_waker(Waker::noop()), cx] {
            let mut polled = Pin::new(&mut *body).poll_frame(cx);
            if polled.is_pending() {
                let _ = self.poll(cx);
                polled = Pin::new(&mut *body).poll_frame(cx);
            }
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    }

    /// Whether it can carry another request, as far as is known.
    pub(crate) fn is_reusable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let usable = match &mut self.io {
            H1Io::Socket(socket) => socket.seems_idle(),
            // Processes what the service has sent meanwhile, above all its close.
            H1Io::Hyper(hyper) => hyper.poll(&mut cx).is_pending() && hyper.sender.is_ready(),
            H1Io::Ended => false,
        };
        usable && self.lease.close_request() == CloseRequest::None
    }

    async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.requests += 1;
        let Some(hyper) = self.hyper().await else { return Err(UpstreamError::Refused) };
        let answer = hyper.send(request).await;
        answer.map_err(|error| UpstreamError::of(&error))
    }

    /// Counts the connection.
    pub(crate) fn lease(&self) -> &Rc<Lease> {
        &self.lease
    }

    /// Returns the socket, which now carries another protocol, and what was read from it. `None` if the connection
    /// is unusable.
    pub(crate) fn into_parts(self) -> Option<(Stream, Bytes, Rc<Lease>)> {
        match self.io {
            H1Io::Socket(socket) => Some((socket, Bytes::new(), self.lease)),
            H1Io::Hyper(hyper) => {
                let parts = hyper.connection.into_parts();
                Some((parts.io.into_inner(), parts.read_buf, self.lease))
            }
            H1Io::Ended => None,
        }
    }
}

/// An HTTP/2 connection.
pub(crate) struct H2Connection {
    sender: http2::SendRequest<RequestBody>,
    pub(crate) lease: Rc<Lease>,
    encrypted: bool,
    /// The service's limit of concurrent streams.
    peer_max_streams: Box<dyn Fn() -> usize>,
    peer_settings: Rc<PeerSettings>,
    streams: Cell<usize>,
    requests: Cell<u64>,
    /// How long it waited for a connection slot of the cluster.
    pub(crate) queue_time: Cell<Duration>,
    /// Since when it has no stream.
    pub(crate) idle_since: Cell<Instant>,
    /// New streams are not accepted.
    pub(crate) closing: Cell<bool>,
}

impl H2Connection {
    pub(crate) async fn handshake(
        stream: Stream,
        lease: Rc<Lease>,
        max_head: usize,
    ) -> hyper::Result<Rc<Self>> {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(crate::h2::list_size(max_head))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let peer_settings = Rc::default();
        let encrypted = stream.plain().is_none();
        let (sender, connection) =
            builder.handshake(SettingsReader::new(stream, &peer_settings)).await?;
        let connection = Rc::new(RefCell::new(Some(connection)));
        let (held, moved) = (Rc::clone(&lease), Rc::clone(&connection));
        spawn_local(async move {
            // Streams learn of the connection's end themselves.
            let _ = poll_fn(|cx| match &mut *moved.borrow_mut() {
                Some(connection) => Pin::new(connection).poll(cx),
                None => Poll::Ready(Ok(())),
            })
            .await;
            // Senders notice the end only once the connection is dropped.
            moved.take();
            drop(held);
        });
        // Only the connection knows the service's current limit.
        let limit = Box::new(move || {
            let Ok(connection) = connection.try_borrow() else { return 0 };
            connection.as_ref().map_or(0, |connection| connection.current_max_send_streams())
        });
        Ok(Rc::new(Self {
            sender,
            lease,
            encrypted,
            peer_max_streams: limit,
            peer_settings,
            streams: Cell::new(0),
            requests: Cell::new(0),
            queue_time: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            closing: Cell::new(false),
        }))
    }

    /// Number of streams in use.
    pub(crate) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it can carry another stream: fewer than `most` are in use, and fewer than `requests`
    /// requests were sent.
    pub(crate) fn has_capacity(&self, most: usize, max_requests: u64) -> bool {
        let most = most.min((self.peer_max_streams)());
        !self.closing.get()
            && self.streams.get() < most
            && self.requests.get() < max_requests
            && self.is_alive()
    }

    /// Whether it is usable at all.
    pub(crate) fn is_alive(&self) -> bool {
        !self.sender.is_closed() && self.lease.close_request() == CloseRequest::None
    }
}

/// A stream of an HTTP/2 connection, counted until dropped.
pub(crate) struct H2Stream(Rc<H2Connection>);

impl H2Stream {
    pub(crate) fn new(shared: &Rc<H2Connection>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.requests.set(shared.requests.get() + 1);
        Self(Rc::clone(shared))
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut sender = self.0.sender.clone();
        if let Err(error) = sender.ready().await {
            tracing::debug!(%error, "an HTTP/2 connection takes no more streams");
        }
        sender.try_send_request(request).await.map_err(|error| UpstreamError::of(&error))
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

impl UpstreamConn {
    /// Sends a request, and waits for the response's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match self {
            UpstreamConn::H1(h1) => h1.send(request).await,
            UpstreamConn::H2Stream(stream) => stream.send(request).await,
        }
    }

    /// Drives an HTTP/1 connection; HTTP/2 connections have their own task.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        if let UpstreamConn::H1(h1) = self {
            let _ = h1.poll(cx);
        }
    }

    /// Waits for a future while driving the connection.
    pub(crate) async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// The service's limit for heads, in bytes, if this request exceeds it. Some services would
    /// close the whole connection, which other requests share.
    pub(crate) async fn exceeded_head_limit(&self, request: &Request<RequestBody>) -> Option<u32> {
        let UpstreamConn::H2Stream(H2Stream(shared)) = self else { return None };
        let peer_settings = &shared.peer_settings;
        if peer_settings.max_head().is_none() && !peer_settings.is_pending() {
            return None;
        }
        let size = size_in_http2(request);
        if peer_settings.is_pending() && size > SMALL_HEAD {
            peer_settings.wait().await;
        }
        peer_settings.max_head().filter(|takes| size > *takes as usize)
    }

    pub(crate) fn lease(&self) -> &Rc<Lease> {
        match self {
            UpstreamConn::H1(h1) => h1.lease(),
            UpstreamConn::H2Stream(stream) => &stream.0.lease,
        }
    }

    /// The scheme of requests, which HTTP/2 has in their heads. `None`: HTTP/1.1.
    pub(crate) fn http2_scheme(&self) -> Option<Scheme> {
        match self {
            UpstreamConn::H1(_) => None,
            UpstreamConn::H2Stream(stream) if stream.0.encrypted => Some(Scheme::HTTPS),
            UpstreamConn::H2Stream(_) => Some(Scheme::HTTP),
        }
    }

    /// The HTTP version that it speaks.
    pub(crate) fn version(&self) -> Version {
        match self {
            UpstreamConn::H1(_) => Version::HTTP_11,
            UpstreamConn::H2Stream(_) => Version::HTTP_2,
        }
    }

    /// How long it waited for a connection slot of the cluster.
    pub(crate) fn queue_time(&self) -> Duration {
        match self {
            UpstreamConn::H1(h1) => h1.queue_time,
            UpstreamConn::H2Stream(stream) => stream.0.queue_time.get(),
        }
    }

    /// Whether it carries its first request.
    pub(crate) fn is_new(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.requests == 0,
            UpstreamConn::H2Stream(stream) => stream.0.requests.get() <= 1,
        }
    }
}

/// Size of a request's head as HTTP/2 counts it (RFC 9113, 6.5.2).
fn size_in_http2(request: &Request<RequestBody>) -> usize {
    let of = |name: &str, value: usize| name.len() + value + 32;
    let uri = request.uri();
    let own = of(":method", request.method().as_str().len())
        + of(":scheme", uri.scheme_str().map_or(0, str::len))
        + of(":authority", uri.authority().map_or(0, |it| it.as_str().len()))
        + of(":path", uri.path_and_query().map_or(0, |it| it.as_str().len()));
    own + length::h2_size(request.headers())
}

impl fmt::Debug for UpstreamConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(self.lease().endpoint().name()).finish()
    }
}
