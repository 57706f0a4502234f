//! A connection to a service over HTTP/2, which requests share. Its own task moves its frames.

use super::{
    connection_headers::remove_connection_headers,
    keep_alive::KeepAlive,
    peer_settings::{PeerSettings, SettingsReader},
    upload::{Upload, UploadGuard},
};
use crate::{
    body::{Body, BodyError},
    clock,
    header_policy::length,
    upstream_error::UpstreamError,
};
use ::h2::{
    SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use bytes::Bytes;
use cluster::{CloseRequest, Lease};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Method, Request, Response, header};
use net::Stream;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_local,
};

/// Receive window of a stream.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Largest window that HTTP/2 has.
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Most bytes of a stream that are written and not sent yet.
const SEND_BUFFER: usize = 1024 * 1024;

/// Largest frame that is received.
const FRAME_SIZE: u32 = 16 * 1024;

/// Most streams that the service may have the proxy reset for protocol errors.
const MAX_RESETS: usize = 1024;

/// A head size that every service accepts, in bytes: sent before the service has announced its
/// limit.
const SMALL_HEAD: usize = 8 * 1024;

/// A connection to a service.
pub(crate) struct H2Connection {
    /// Opens no stream itself: each request has a copy, which may have to wait.
    sender: RefCell<SendRequest<Bytes>>,
    pub(crate) lease: Rc<Lease>,
    encrypted: bool,
    peer_settings: Rc<PeerSettings>,
    driver: Rc<Driver>,
    requests: Cell<u64>,
    /// How long it waited for a connection slot of the cluster.
    pub(crate) queue_time: Cell<Duration>,
    /// Since when it has no stream.
    pub(crate) idle_since: Cell<Instant>,
    /// New streams are not accepted.
    pub(crate) closing: Cell<bool>,
}

/// What a connection shares with its task.
struct Driver {
    waker: RefCell<Waker>,
    /// Uploads that the task does not know yet.
    uploads: RefCell<Vec<Upload>>,
    streams: Cell<usize>,
    /// No request can use the connection any more.
    dropped: Cell<bool>,
    ended: Cell<bool>,
}

impl H2Connection {
    /// Opens a connection for up to `max_streams` requests at a time, with responses' heads of up to
    /// `max_head` bytes.
    pub(crate) async fn handshake(
        stream: Stream,
        lease: Rc<Lease>,
        (max_head, max_streams): (usize, usize),
    ) -> Result<Rc<Self>, ::h2::Error> {
        let peer_settings = Rc::default();
        let received = Rc::new(Cell::new(clock::now()));
        let encrypted = stream.plain().is_none();
        let socket = SettingsReader::new(stream, &peer_settings, &received);
        let (sender, connection) = builder(max_head, max_streams).handshake(socket).await?;
        let driver = Rc::new(Driver {
            waker: RefCell::new(Waker::noop().clone()),
            uploads: RefCell::default(),
            streams: Cell::new(0),
            dropped: Cell::new(false),
            ended: Cell::new(false),
        });
        let (held, shared) = (Rc::clone(&lease), Rc::clone(&driver));
        spawn_local(async move {
            drive(connection, &shared, &received).await;
            shared.ended.set(true);
            drop(held);
        });
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            lease,
            encrypted,
            peer_settings,
            driver,
            requests: Cell::new(0),
            queue_time: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            closing: Cell::new(false),
        }))
    }

    /// Number of streams in use.
    pub(crate) fn streams(&self) -> usize {
        self.driver.streams.get()
    }

    /// Whether it can carry another stream: fewer than `most` are in use, and fewer than `requests`
    /// requests were sent.
    pub(crate) fn has_capacity(&self, most: usize, max_requests: u64) -> bool {
        !self.closing.get()
            && self.requests.get() < max_requests
            && self.is_alive()
            && self.streams() < most.min(self.sender.borrow().current_max_send_streams())
    }

    /// Whether it is usable at all.
    pub(crate) fn is_alive(&self) -> bool {
        // An error here also says that the service goes away, with streams that go on.
        let mut cx = Context::from_waker(Waker::noop());
        !self.driver.ended.get()
            && self.lease.close_request() == CloseRequest::None
            && !matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl Drop for H2Connection {
    fn drop(&mut self) {
        // Without any sender the connection closes once its task runs.
        self.driver.dropped.set(true);
        self.driver.waker.borrow().wake_by_ref();
    }
}

fn builder(max_head: usize, max_streams: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(max_streams))
        .max_frame_size(FRAME_SIZE)
        .max_header_list_size(super::list_size(max_head))
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_RESETS));
    builder
}

/// The receive window of a connection: responses that their clients do not read fill the windows of
/// their streams, and must leave room for the other responses.
fn connection_window(max_streams: usize) -> u32 {
    u32::try_from(max_streams)
        .map_or(MAX_WINDOW, |streams| STREAM_WINDOW.saturating_mul(streams).min(MAX_WINDOW))
}

/// Moves the frames of a connection until it ends.
async fn drive(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin, Bytes>,
    driver: &Driver,
    received: &Cell<Instant>,
) {
    let mut pings = KeepAlive::new(connection.ping_pong());
    let mut uploads = FuturesUnordered::new();
    poll_fn(|cx| {
        driver.waker.borrow_mut().clone_from(cx.waker());
        uploads.extend(driver.uploads.take());
        while let Poll::Ready(Some(())) = uploads.poll_next_unpin(cx) {}
        // Also a service that does not take the end of its connection has to answer.
        let busy = driver.streams.get() > 0 || driver.dropped.get();
        if pings.poll(cx, busy, received.get()).is_ready() {
            tracing::debug!("a service does not answer pings");
            return Poll::Ready(());
        }
        // Streams learn of the connection's end themselves.
        Pin::new(&mut connection).poll(cx).map(|_| ())
    })
    .await;
}

/// A stream of a connection, counted until dropped. An upload ends with it: a service that has answered
/// may leave the rest unread forever.
pub(crate) struct H2Stream {
    connection: Rc<H2Connection>,
    upload: RefCell<Option<UploadGuard>>,
}

impl H2Stream {
    pub(crate) fn new(shared: &Rc<H2Connection>) -> Self {
        shared.driver.streams.set(shared.streams() + 1);
        shared.requests.set(shared.requests.get() + 1);
        Self { connection: Rc::clone(shared), upload: RefCell::default() }
    }

    /// Sends a request, and waits for the response's head. The connection's task sends what is left of
    /// the body, also after the response.
    ///
    /// # Errors
    /// Why there is no response.
    pub(crate) async fn send(
        &self,
        request: Request<impl http_body::Body<Data = Bytes, Error = BodyError> + Unpin + 'static>,
    ) -> Result<Response<Body>, UpstreamError> {
        let (mut head, body) = request.into_parts();
        remove_connection_headers(&mut head.headers);
        if let Some(length) =
            body.size_hint().exact().filter(|it| *it > 0 || has_body(&head.method))
        {
            head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        let ends = body.is_end_stream();
        let (response, stream) = self.open(Request::from_parts(head, ()), ends).await?;
        if !ends {
            self.upload(body, stream).await;
        }
        let answer = response.await.map_err(|error| UpstreamError::of_h2(&error))?;
        let (head, stream) = answer.into_parts();
        let body = Body::received(stream, &head.headers);
        Ok(Response::from_parts(head, body))
    }

    /// Opens a stream, once the service allows one more.
    async fn open(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), UpstreamError> {
        let mut sender = self.connection.sender.borrow().clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            tracing::debug!(%error, "an HTTP/2 connection takes no more streams");
            return Err(UpstreamError::Refused);
        }
        let failed = |error| UpstreamError::of_h2(&error);
        let opened = sender.send_request(request, ends).map_err(failed)?;
        poll_fn(|cx| sender.poll_ready(cx)).await.map_err(failed)?;
        Ok(opened)
    }

    /// Sends a body as far as it has come; the connection's task sends the rest.
    async fn upload(
        &self,
        body: impl http_body::Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
        stream: SendStream<Bytes>,
    ) {
        let Some((upload, guard)) = Upload::begin(body, stream).await else { return };
        let driver = &self.connection.driver;
        self.upload.replace(Some(guard));
        driver.uploads.borrow_mut().push(upload);
        driver.waker.borrow().wake_by_ref();
    }

    /// The service's limit for heads, in bytes, if this request exceeds it. Some services would
    /// close the whole connection, which other requests share.
    pub(crate) async fn exceeded_head_limit<B>(&self, request: &Request<B>) -> Option<u32> {
        let peer_settings = &self.connection.peer_settings;
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
        &self.connection.lease
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.connection.encrypted
    }

    /// How long its connection waited for a connection slot of the cluster.
    pub(crate) fn queue_time(&self) -> Duration {
        self.connection.queue_time.get()
    }

    /// Whether its connection carries its first request.
    pub(crate) fn is_first(&self) -> bool {
        self.connection.requests.get() <= 1
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let driver = &self.connection.driver;
        driver.streams.set(driver.streams.get() - 1);
        self.connection.idle_since.set(Instant::now());
    }
}

/// Whether requests of this method usually have a body, so that an empty one has a length too.
fn has_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}

/// Size of a request's head as HTTP/2 counts it (RFC 9113, 6.5.2).
fn size_in_http2<B>(request: &Request<B>) -> usize {
    let of = |name: &str, value: usize| name.len() + value + 32;
    let uri = request.uri();
    let own = of(":method", request.method().as_str().len())
        + of(":scheme", uri.scheme_str().map_or(0, str::len))
        + of(":authority", uri.authority().map_or(0, |it| it.as_str().len()))
        + of(":path", uri.path_and_query().map_or(0, |it| it.as_str().len()));
    own + length::h2_size(request.headers())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[test]
    fn unread_responses_leave_room_in_the_connections_window() {
        assert_eq!(connection_window(100), 100 * STREAM_WINDOW);
        assert_eq!(connection_window(100_000), MAX_WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_read_loses_its_connection() {
        // There is no room for the frame that ends the connection.
        let (near, _far) = duplex(32);
        let (sender, connection) = builder(1024, 1).handshake(near).await.unwrap();
        drop(sender);
        let driver = Driver {
            waker: RefCell::new(Waker::noop().clone()),
            uploads: RefCell::default(),
            streams: Cell::new(0),
            dropped: Cell::new(true),
            ended: Cell::new(false),
        };
        let received = Cell::new(clock::now());
        let ended = drive(connection, &driver, &received);
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends");
    }
}
