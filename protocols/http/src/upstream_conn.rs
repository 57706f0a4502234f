//! Connections to endpoints.
//!
//! An HTTP/1 connection, on top of hyper, is polled by the request that uses it: request, response
//! and both connections are one task, without messages between tasks. An HTTP/2 connection is shared,
//! so it has its own task.

mod upstream_socket;

use crate::{
    body::{Body, BodyError},
    h2::H2Stream,
    request_body::RequestBody,
    upstream_error::UpstreamError,
};
use bytes::Bytes;
use cluster::{CloseRequest, Lease};
use http::{Request, Response, Version, uri::Scheme};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use net::Stream;
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::task::unconstrained;
use upstream_socket::UpstreamSocket;

/// Most headers of a response.
const MAX_HEADERS: usize = 256;

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
    ) -> Result<Response<Body>, UpstreamError> {
        self.requests += 1;
        let Some(hyper) = self.hyper().await else { return Err(UpstreamError::Refused) };
        match hyper.send(request).await {
            Ok(answer) => Ok(answer.map(Body::Incoming)),
            Err(error) => Err(UpstreamError::of_hyper(&error)),
        }
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

impl UpstreamConn {
    /// Sends a request, and waits for the response's head.
    ///
    /// # Errors
    /// Why there is no response.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, UpstreamError> {
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
        match self {
            UpstreamConn::H1(_) => None,
            UpstreamConn::H2Stream(stream) => stream.exceeded_head_limit(request).await,
        }
    }

    pub(crate) fn lease(&self) -> &Rc<Lease> {
        match self {
            UpstreamConn::H1(h1) => h1.lease(),
            UpstreamConn::H2Stream(stream) => stream.lease(),
        }
    }

    /// The scheme of requests, which HTTP/2 has in their heads. `None`: HTTP/1.1.
    pub(crate) fn http2_scheme(&self) -> Option<Scheme> {
        match self {
            UpstreamConn::H1(_) => None,
            UpstreamConn::H2Stream(stream) if stream.is_encrypted() => Some(Scheme::HTTPS),
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
            UpstreamConn::H2Stream(stream) => stream.queue_time(),
        }
    }

    /// Whether it carries its first request.
    pub(crate) fn is_new(&self) -> bool {
        match self {
            UpstreamConn::H1(h1) => h1.requests == 0,
            UpstreamConn::H2Stream(stream) => stream.is_first(),
        }
    }
}

impl fmt::Debug for UpstreamConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(self.lease().endpoint().name()).finish()
    }
}
