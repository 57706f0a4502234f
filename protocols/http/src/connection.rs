//! Serves a client's connection from its first byte to its end.

use crate::{
    body::Body,
    client_connection::ClientConnection,
    client_io::{ClientIo, ClientTraffic},
    earliest::Earliest,
    h1::{self, Handover, Served},
    h2::{ClientSocket, ServerConnection},
    incoming_request::{Abort, handle},
    local_reply::reason_phrase,
    response_body::ResponseBody,
    server::Server,
};
use bytes::BytesMut;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioTimer;
use net::Stream;
use operation::{Close, Rejection, Violation};
use session::{Phase, REST, Session, Timeouts, linger};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep, timeout};

/// Largest unwanted request body that is read to its end, in bytes.
const MAX_DISCARDED_BODY: u64 = 4 * 1024;

/// Stands for no timeout.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a client of a rejected connection may take to send a request and to read its response;
/// also how long a response to an overdue request may take.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection in its version.
enum VersionedConnection {
    Http1(Box<http1::Connection<ClientIo, RequestService>>),
    Http2(ServerConnection),
}

/// Serves the requests of an HTTP/1 connection.
#[derive(Clone)]
struct RequestService(Rc<ClientConnection>);

impl Service<Request<Incoming>> for RequestService {
    type Response = Response<ResponseBody>;
    type Error = Abort;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Abort>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = Rc::clone(&self.0);
        let head = request.method() == Method::HEAD;
        let old = request.version() == Version::HTTP_10;
        // hyper itself discards what it has read together with the head.
        let small =
            request.body().size_hint().exact().is_some_and(|size| size <= MAX_DISCARDED_BODY);
        let comes = !request.body().is_end_stream();
        Box::pin(async move {
            connection.state.response_due.set(true);
            connection.state.body_abandoned.set(comes);
            let answer = handle(Rc::clone(&connection), request.map(Body::Incoming)).await;
            connection.state.response_due.set(false);
            let mut answer = answer?;
            connection.state.discard_informational();
            if connection.tunnel.borrow().is_none() {
                connection.state.responses.set(connection.state.responses.get() + 1);
            }
            let state = &connection.state;
            let cut = state.body_abandoned.get() && (state.body_incomplete.get() || !small);
            // For HTTP/1.0 clients, such a response ends with the connection.
            let endless = old && !head && answer.body().size_hint().exact().is_none();
            if answer.status().canonical_reason().is_none() {
                set_reason_phrase(&mut answer);
            }
            if connection.is_last_response() || cut || endless {
                set_connection_close(&mut answer, old);
            }
            Ok(answer)
        })
    }
}

impl Server {
    /// Serves a client until its connection ends.
    pub fn serve(
        self: Rc<Self>,
        session: Rc<dyn Session>,
        client: Stream,
    ) -> Pin<Box<dyn Future<Output = Close>>> {
        Box::pin(serve(self, session, client, None))
    }

    /// Serves a client whose connection was rejected: its first request gets the rejection.
    pub fn reject(
        self: Rc<Self>,
        session: Rc<dyn Session>,
        client: Stream,
        no: Rejection,
    ) -> Pin<Box<dyn Future<Output = Close>>> {
        Box::pin(async move {
            let close = no.reason.close();
            // A client that sends no request in time gets no response.
            let _ = timeout(NOTICE_TIMEOUT, serve(self, session, client, Some(no))).await;
            close
        })
    }
}

async fn serve(
    server: Rc<Server>,
    session: Rc<dyn Session>,
    client: Stream,
    rejection: Option<Rejection>,
) -> Close {
    if rejection.is_some() || !h1::can_serve(&server) {
        let client_io = ClientIo::new(client, Rc::clone(&session), server.plan.limits());
        client_io.state().allow_half_close.set(server.plan.half_close);
        let connection = ClientConnection::new(server, session, &client_io, rejection);
        let monitor = ConnectionMonitor::new(&connection);
        // Boxed, so that a connection of the engine has no room for it.
        return Box::pin(serve_by_hyper(connection, client_io, monitor)).await;
    }
    match h1::serve(&server, &session, client).await {
        Served::Closed(close) => close,
        Served::Handover(handover) => Box::pin(take_over(server, session, *handover)).await,
    }
}

/// Serves a connection whose next request the HTTP/1 engine has left to hyper.
async fn take_over(server: Rc<Server>, session: Rc<dyn Session>, handover: Handover) -> Close {
    let Handover { client, unread, requests, started, last_activity, admitted } = handover;
    let mut client_io = ClientIo::new(client, Rc::clone(&session), server.plan.limits());
    client_io.put_back(unread, last_activity);
    client_io.state().responses.set(requests);
    let connection = ClientConnection::new(server, session, &client_io, None);
    connection.requests.set(requests);
    connection.admitted.set(admitted);
    let monitor = ConnectionMonitor { started, ..ConnectionMonitor::new(&connection) };
    serve_by_hyper(connection, client_io, monitor).await
}

async fn serve_by_hyper(
    connection: Rc<ClientConnection>,
    mut client_io: ClientIo,
    mut monitor: ConnectionMonitor,
) -> Close {
    // Only the first bytes of a connection may be HTTP/2's preface.
    let may_be_http2 = connection.requests.get() == 0;
    let version = poll_fn(|cx| {
        if !may_be_http2 {
            return Poll::Ready(Ok(false));
        }
        if let Poll::Ready(http2) = client_io.poll_detect_http2(cx) {
            return Poll::Ready(http2.map_err(|_| Close::ClientReset));
        }
        monitor.silent = client_io.is_silent();
        monitor.poll(cx).map(Err)
    });
    let http2 = match version.await {
        Ok(http2) => http2,
        Err(close) => return close,
    };
    (monitor.silent, monitor.http2) = (false, http2);
    let mut versioned = VersionedConnection::begin(client_io, &connection, http2);
    let end = poll_fn(|cx| {
        if let Poll::Ready(result) = versioned.poll(cx) {
            return Poll::Ready(ConnectionEnd::Http(result));
        }
        match monitor.poll(cx) {
            Poll::Ready(close) => Poll::Ready(ConnectionEnd::Monitor(close)),
            Poll::Pending => {
                if monitor.starts_drain() {
                    versioned.drain();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    });
    let complete;
    let close = match end.await {
        ConnectionEnd::Monitor(close) => {
            connection.close_reason.set(close);
            return close;
        }
        ConnectionEnd::Http(result) => {
            complete = result.is_ok();
            close_reason(&connection, &monitor, result)
        }
    };
    let tunnel = connection.tunnel.borrow_mut().take();
    let VersionedConnection::Http1(mut http1) = versioned else { return close };
    if complete && tunnel.is_none() && !connection.state.reset_on_close.get() {
        // Flushes the last response before the socket is closed. A failed response must not look
        // complete.
        let _ = poll_fn(|cx| Pin::new(&mut *http1).poll(cx)).await;
    }
    let parts = http1.into_parts();
    let (mut client, unread) = parts.io.into_parts(BytesMut::from(&parts.read_buf[..]));
    if let Some(tunnel) = tunnel {
        // Boxed, so that other connections keep no room for it.
        return Box::pin(tunnel.run(&connection, (client, unread), monitor.started)).await;
    }
    close_client(&mut client, connection.state.reset_on_close.get()).await;
    close
}

/// Ends the client's connection by a reset, or else with a lingering close.
async fn close_client(client: &mut Stream, reset: bool) {
    if reset {
        client.reset_on_drop();
    } else {
        linger(client).await;
    }
}

enum ConnectionEnd {
    Http(Result<(), ConnectionError>),
    Monitor(Close),
}

/// Sets a reason phrase for statuses without one: hyper would write `<none>`.
fn set_reason_phrase(answer: &mut Response<ResponseBody>) {
    if answer.extensions().get::<hyper::ext::ReasonPhrase>().is_none()
        && let Ok(words) =
            hyper::ext::ReasonPhrase::try_from(reason_phrase(answer.status()).as_bytes())
    {
        answer.extensions_mut().insert(words);
    }
}

/// Sets `connection: close`, as this is the connection's last response.
fn set_connection_close(answer: &mut Response<ResponseBody>, old: bool) {
    if old {
        // For such a client hyper adds `keep-alive` unless the response has version 1.0; without
        // the header the connection closes.
        *answer.version_mut() = Version::HTTP_10;
        return;
    }
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// The reason why the connection ended by itself.
fn close_reason(
    connection: &ClientConnection,
    monitor: &ConnectionMonitor,
    result: Result<(), ConnectionError>,
) -> Close {
    let state = &connection.state;
    match result {
        _ if connection.close_reason.get() != Close::ClientReset => connection.close_reason.get(),
        _ if state.client_left.get() => Close::Client,
        _ if state.write_stalled.get() => Close::WriteTimeout,
        _ if state.had_h1_error.get() => Close::ClientViolation,
        _ if state.socket_failed.get() => Close::ClientReset,
        Ok(()) if monitor.draining => Close::Drain,
        // The client closes too after the last response.
        Ok(()) if connection.is_last_response() => Close::MaxRequests,
        Ok(()) => Close::Client,
        Err(error) if error.is_incomplete() || state.read_eof.get() => Close::ClientReset,
        Err(error) => {
            tracing::debug!(peer = %connection.session.info().peer, %error, "an HTTP connection ended");
            connection.session.count_violation(error.violation());
            Close::ClientViolation
        }
    }
}

/// Why a connection could not go on.
enum ConnectionError {
    Http1(hyper::Error),
    Http2(::h2::Error),
}

impl ConnectionError {
    /// Whether it ended in the middle of a request.
    fn is_incomplete(&self) -> bool {
        matches!(self, ConnectionError::Http1(error) if error.is_incomplete_message())
    }

    /// How the client broke the protocol.
    fn violation(&self) -> Violation {
        let reason = match self {
            ConnectionError::Http1(_) => None,
            ConnectionError::Http2(error) => error.reason(),
        };
        Violation(match reason {
            Some(::h2::Reason::ENHANCE_YOUR_CALM) => "http2_flood",
            Some(::h2::Reason::FLOW_CONTROL_ERROR) => "http2_window",
            Some(::h2::Reason::FRAME_SIZE_ERROR) => "http2_frame_size",
            Some(::h2::Reason::COMPRESSION_ERROR) => "http2_compression",
            Some(_) => "http2_protocol",
            None => "unreadable",
        })
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::Http1(error) => error.fmt(f),
            ConnectionError::Http2(error) => error.fmt(f),
        }
    }
}

impl VersionedConnection {
    fn begin(client_io: ClientIo, connection: &Rc<ClientConnection>, http2: bool) -> Self {
        if http2 {
            let (stream, front) = client_io.into_parts(BytesMut::new());
            let (session, state) = (Rc::clone(&connection.session), Rc::clone(&connection.state));
            let socket = ClientSocket::new(stream, ClientTraffic::new(session, state), front);
            return VersionedConnection::Http2(ServerConnection::begin(socket, connection));
        }
        let (plan, each) = (&connection.server.plan, RequestService(Rc::clone(connection)));
        let mut builder = http1::Builder::new();
        // `ClientIo` decides whether a half-closed client is gone.
        builder
            .max_headers(plan.max_headers)
            .header_read_timeout(None)
            .half_close(true)
            .timer(TokioTimer::new());
        VersionedConnection::Http1(Box::new(builder.serve_connection(client_io, each)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        match self {
            VersionedConnection::Http1(connection) => {
                connection.poll_without_shutdown(cx).map_err(ConnectionError::Http1)
            }
            VersionedConnection::Http2(connection) => {
                connection.poll(cx).map_err(ConnectionError::Http2)
            }
        }
    }

    fn drain(&mut self) {
        match self {
            VersionedConnection::Http1(connection) => {
                Pin::new(&mut **connection).graceful_shutdown()
            }
            VersionedConnection::Http2(connection) => connection.drain(),
        }
    }
}

/// Decides when a connection must close: timeouts, drain, and operators.
struct ConnectionMonitor {
    connection: Rc<ClientConnection>,
    timeouts: Timeouts,
    started: Instant,
    /// The client has sent nothing.
    silent: bool,
    http2: bool,
    draining: bool,
    drain_announced: bool,
    sleep: Pin<Box<Sleep>>,
    /// When the timer fires.
    timer_due: Option<Instant>,
}

impl ConnectionMonitor {
    fn new(connection: &Rc<ClientConnection>) -> Self {
        Self {
            timeouts: connection.session.timeouts().clone(),
            connection: Rc::clone(connection),
            started: Instant::now(),
            silent: true,
            http2: false,
            draining: false,
            drain_announced: false,
            sleep: Box::pin(sleep(FAR_FUTURE)),
            timer_due: None,
        }
    }

    /// Whether the connection must now announce that it accepts no further requests.
    fn starts_drain(&mut self) -> bool {
        let drains = self.draining
            || self.connection.is_last_response()
                && self.connection.state.active_operations.get() == 0;
        drains && !std::mem::replace(&mut self.drain_announced, true)
    }

    /// Ready when the connection must close now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.connection.session.set_waker(cx.waker());
        self.connection.wake_streams();
        if let Some(close) = self.connection.session.kill_reason() {
            return Poll::Ready(close);
        }
        match self.connection.session.phase() {
            Phase::Closing => return Poll::Ready(Close::DrainTimeout),
            Phase::Draining if self.connection.requests.get() == 0 && self.silent => {
                return Poll::Ready(Close::Drain);
            }
            Phase::Draining => self.draining = true,
            Phase::SoftDraining => self.draining |= self.may_close_softly(),
            Phase::Running => {}
        }
        loop {
            let Some((due, close)) = self.next_deadline() else { return Poll::Pending };
            // A timer that fires too early is reset then: cheaper than to reset it with each
            // request.
            if self.timer_due.is_none_or(|set| due < set) {
                self.timer_due = Some(due);
                self.sleep.as_mut().reset(due.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer_due = None;
            if Instant::now() >= due {
                return Poll::Ready(close);
            }
        }
    }

    /// Whether the client learns of the end before it sends another request: by a frame, by the head of an answer
    /// that is due, or because it has rested.
    fn may_close_softly(&self) -> bool {
        let (state, requests) = (&self.connection.state, self.connection.requests.get());
        let last = state.last_activity.get().unwrap_or(self.started);
        let rested = state.active_operations.get() == 0 && last.elapsed() >= REST;
        self.http2 || rested || requests > state.responses.get()
    }

    /// The next deadline.
    fn next_deadline(&self) -> Option<(Instant, Close)> {
        let (state, timeouts) = (&self.connection.state, &self.timeouts);
        let (busy, served) =
            (state.active_operations.get() > 0, self.connection.requests.get() > 0);
        let (started, greets) = (self.started, !served && !busy);
        let owes = state.incomplete_since.get().filter(|_| !greets);
        // A client without response gets one first, which may take a moment.
        let telling = if self.connection.requests.get() > state.responses.get() {
            NOTICE_TIMEOUT
        } else {
            Duration::ZERO
        };
        let mut next = Earliest::default();
        next.add(Some(started), timeouts.max_duration, |_| Close::MaxDuration);
        let silent = self.silent.then_some(started);
        next.add(silent, timeouts.first_byte, |_| Close::FirstByteTimeout);
        let greets = (greets && !self.silent).then_some(started);
        next.add(greets, timeouts.handshake, |_| Close::HandshakeTimeout);
        let owes = owes.map(|since| since + telling);
        next.add(owes, timeouts.message, |_| Close::MessageTimeout);
        let moved = (!busy).then(|| state.last_activity.get().unwrap_or(started));
        next.add(moved, timeouts.idle, |_| Close::IdleTimeout);
        // Over HTTP/1 `ClientIo` notices that the client does not read.
        let stalled = self.connection.stalled_since().filter(|_| self.http2);
        next.add(stalled, timeouts.write, |_| Close::WriteTimeout);
        next.take()
    }
}
