//! A client's connection, from its first byte to its end.

use crate::{
    body::Body,
    download::ResponseBody,
    exchange::{Abort, exchange},
    line::ClientIo,
    proxy::{Door, Phase, Timeouts},
    server::Server,
    visit::ClientConnection,
    wire::{LocalExecutor, list_size},
};
use bytes::BytesMut;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::TokioTimer;
use operation::{Close, No, Violation};
use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};

/// How much of a stream of HTTP/2 a client may send that nobody has taken yet, and how much of all
/// streams of its connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How many streams a client may reset that were never served, and how many it may have the proxy
/// reset for its faults, before its connection ends (CVE-2023-44487, CVE-2025-8671).
const MOST_RESETS: usize = 100;

/// How long a body may be that is read to its end though nobody wants it, in bytes.
const SMALL: u64 = 4 * 1024;

/// A time that never comes.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a client may take to ask that may not be served, and then to be told; and how long it
/// may take to tell it that its request took too long.
const TOLD: Duration = Duration::from_secs(1);

/// How long a client may take to end its own half.
const GOODBYE: Duration = Duration::from_secs(1);

/// A client's connection, with hyper's side of it.
enum HyperConnection {
    Http1(Box<http1::Connection<ClientIo, RequestService>>),
    Http2(Box<http2::Connection<ClientIo, RequestService, LocalExecutor>>),
}

/// Serves each request of a connection.
#[derive(Clone)]
struct RequestService(Rc<ClientConnection>);

impl Service<Request<Incoming>> for RequestService {
    type Response = Response<ResponseBody>;
    type Error = Abort;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Abort>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let visit = Rc::clone(&self.0);
        let http1 = request.version() < Version::HTTP_2;
        let head = request.method() == Method::HEAD;
        let bare = !http1 && head;
        let old = request.version() == Version::HTTP_10;
        // What hyper has read with the head it reads to its end by itself.
        let small = request.body().size_hint().exact().is_some_and(|size| size <= SMALL);
        let comes = !request.body().is_end_stream();
        Box::pin(async move {
            visit.notes.due.set(true);
            visit.notes.unread.set(comes);
            let answer = exchange(Rc::clone(&visit), request).await;
            visit.notes.due.set(false);
            let mut answer = answer?;
            visit.notes.forget_early();
            if bare && !answer.body().is_end_stream() {
                answer = without_body(answer);
            }
            if visit.tunnel.borrow().is_none() {
                visit.notes.answered.set(visit.notes.answered.get() + 1);
            }
            let notes = &visit.notes;
            let cut = notes.unread.get() && (notes.in_body.get() || !small);
            // Only its end tells a client of HTTP/1.0 where such an answer ends.
            let endless = old && !head && answer.body().size_hint().exact().is_none();
            if http1 && answer.status().canonical_reason().is_none() {
                give_reason(&mut answer);
            }
            if http1 && (visit.is_last() || cut || endless) {
                say_last(&mut answer, old);
            }
            Ok(answer)
        })
    }
}

impl Server {
    /// Serves a client until its connection ends.
    pub fn serve(
        self: Rc<Self>,
        door: Rc<dyn Door>,
        client: TcpStream,
    ) -> Pin<Box<dyn Future<Output = Close>>> {
        Box::pin(serve(self, door, client, None))
    }

    /// Serves a client whose connection may not be: its first request is told so.
    pub fn turn_away(
        self: Rc<Self>,
        door: Rc<dyn Door>,
        client: TcpStream,
        no: No,
    ) -> Pin<Box<dyn Future<Output = Close>>> {
        Box::pin(async move {
            let close = no.reason.close();
            // Whoever asks nothing in time has nothing to be told.
            let _ = timeout(TOLD, serve(self, door, client, Some(no))).await;
            close
        })
    }
}

async fn serve(
    server: Rc<Server>,
    door: Rc<dyn Door>,
    client: TcpStream,
    turned_away: Option<No>,
) -> Close {
    let mut line = ClientIo::new(client, Rc::clone(&door), server.plan.limits());
    line.notes().half_close.set(server.plan.half_close);
    let visit = ClientConnection::new(server, door, Rc::clone(line.notes()), turned_away);
    let mut watch = ConnectionMonitor::new(&visit);
    let greeted = poll_fn(|cx| {
        if let Poll::Ready(spoken) = line.poll_speaks_http2(cx) {
            return Poll::Ready(spoken.map_err(|_| Close::ClientReset));
        }
        watch.silent = line.is_silent();
        watch.poll(cx).map(Err)
    });
    let http2 = match greeted.await {
        Ok(http2) => http2,
        Err(close) => return close,
    };
    (watch.silent, watch.http2) = (false, http2);
    let mut connection = HyperConnection::begin(line, &visit, http2);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(result) = connection.poll(cx) {
            return Poll::Ready(ConnectionEnd::Itself(result));
        }
        match watch.poll(cx) {
            Poll::Ready(close) => Poll::Ready(ConnectionEnd::Watched(close)),
            Poll::Pending => {
                if watch.drains() {
                    connection.drain();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    });
    let whole;
    let close = match ended.await {
        ConnectionEnd::Watched(close) => {
            visit.close.set(close);
            return close;
        }
        ConnectionEnd::Itself(result) => {
            whole = result.is_ok();
            told(&visit, &watch, result)
        }
    };
    let tunnel = visit.tunnel.borrow_mut().take();
    let HyperConnection::Http1(mut connection) = connection else { return close };
    if whole && tunnel.is_none() && !visit.notes.reset.get() {
        // What is left of the last answer is written before the socket is taken back. One that broke
        // off must not be ended as if it were whole.
        let _ = poll_fn(|cx| Pin::new(&mut *connection).poll(cx)).await;
    }
    let parts = connection.into_parts();
    let (mut client, unread) = parts.io.open(BytesMut::from(&parts.read_buf[..]));
    if let Some(tunnel) = tunnel {
        return tunnel.run(&visit, (client, unread), watch.began).await;
    }
    goodbye(&mut client, visit.notes.reset.get()).await;
    close
}

enum ConnectionEnd {
    Itself(hyper::Result<()>),
    Watched(Close),
}

/// Puts words behind a status that has none of its own: hyper would write `<none>`.
fn give_reason(answer: &mut Response<ResponseBody>) {
    let words: &[u8] = match answer.status().as_u16() {
        499 => b"Client Closed Request",
        _ => b"",
    };
    if answer.extensions().get::<hyper::ext::ReasonPhrase>().is_none()
        && let Ok(words) = hyper::ext::ReasonPhrase::try_from(words)
    {
        answer.extensions_mut().insert(words);
    }
}

/// Says that the connection ends with this answer.
fn say_last(answer: &mut Response<ResponseBody>, old: bool) {
    if old {
        // hyper adds `keep-alive` for such a client, unless the answer itself is of that version: then
        // nothing is said, which is a close.
        *answer.version_mut() = Version::HTTP_10;
        return;
    }
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// An answer to HEAD. Over HTTP/1 hyper itself leaves bodies out.
fn without_body(answer: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = answer.into_parts();
    if let Some(len) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(len.into());
    }
    Response::from_parts(head, ResponseBody::plain(Body::Empty))
}

/// Why a connection ended that hyper ended.
fn told(visit: &ClientConnection, watch: &ConnectionMonitor, result: hyper::Result<()>) -> Close {
    let notes = &visit.notes;
    match result {
        _ if visit.close.get() != Close::ClientReset => visit.close.get(),
        _ if notes.left.get() => Close::Client,
        _ if notes.stalled.get() => Close::WriteTimeout,
        _ if notes.faulty.get() => Close::ClientViolation,
        _ if notes.broken.get() => Close::ClientReset,
        Ok(()) if watch.draining => Close::Drain,
        // The client closes too once it has been told.
        Ok(()) if visit.is_last() => Close::MaxRequests,
        Ok(()) => Close::Client,
        Err(error) if error.is_incomplete_message() || notes.ended.get() => Close::ClientReset,
        Err(error) => {
            tracing::debug!(peer = %visit.door.link().peer, %error, "an HTTP connection ended");
            visit.door.violation(violation(&error));
            Close::ClientViolation
        }
    }
}

/// What a client did that hyper ended its connection for.
fn violation(error: &hyper::Error) -> Violation {
    let broken = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    Violation(match broken.and_then(h2::Error::reason) {
        Some(h2::Reason::ENHANCE_YOUR_CALM) => "http2_flood",
        Some(h2::Reason::FLOW_CONTROL_ERROR) => "http2_window",
        Some(h2::Reason::FRAME_SIZE_ERROR) => "http2_frame_size",
        Some(h2::Reason::COMPRESSION_ERROR) => "http2_compression",
        Some(_) => "http2_protocol",
        None => "unreadable",
    })
}

/// Ends a connection in an orderly way: were the client's last bytes left unread, the kernel would
/// reset it, and what the client was told last could be lost. Or with a reset, where that is asked.
async fn goodbye(client: &mut TcpStream, reset: bool) {
    if reset {
        // It may be gone already.
        let _ = client.set_zero_linger();
        return;
    }
    let _ = client.shutdown().await;
    let mut ignored = [0; 4096];
    let _ =
        timeout(GOODBYE, async { while client.read(&mut ignored).await.is_ok_and(|n| n > 0) {} })
            .await;
}

impl HyperConnection {
    fn begin(line: ClientIo, visit: &Rc<ClientConnection>, http2: bool) -> Self {
        let (plan, each) = (&visit.server.plan, RequestService(Rc::clone(visit)));
        if http2 {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(plan.max_streams)
                .max_header_list_size(list_size(plan.max_head))
                .max_pending_accept_reset_streams(MOST_RESETS)
                .max_local_error_reset_streams(MOST_RESETS);
            return HyperConnection::Http2(Box::new(builder.serve_connection(line, each)));
        }
        let mut builder = http1::Builder::new();
        // Whether a client that has ended its half is gone is for the line to tell.
        builder
            .max_headers(plan.max_headers)
            .header_read_timeout(None)
            .half_close(true)
            .timer(TokioTimer::new());
        HyperConnection::Http1(Box::new(builder.serve_connection(line, each)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            HyperConnection::Http1(connection) => connection.poll_without_shutdown(cx),
            HyperConnection::Http2(connection) => Pin::new(&mut **connection).poll(cx),
        }
    }

    fn drain(&mut self) {
        match self {
            HyperConnection::Http1(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            HyperConnection::Http2(connection) => Pin::new(&mut **connection).graceful_shutdown(),
        }
    }
}

/// Watches the clock, and what the proxy does, over a connection.
struct ConnectionMonitor {
    visit: Rc<ClientConnection>,
    patience: Timeouts,
    began: Instant,
    /// The client has sent nothing yet.
    silent: bool,
    http2: bool,
    draining: bool,
    told: bool,
    sleep: Pin<Box<Sleep>>,
    /// When that rings.
    due: Option<Instant>,
}

impl ConnectionMonitor {
    fn new(visit: &Rc<ClientConnection>) -> Self {
        Self {
            patience: visit.door.patience(),
            visit: Rc::clone(visit),
            began: Instant::now(),
            silent: true,
            http2: false,
            draining: false,
            told: false,
            sleep: Box::pin(sleep(FOR_EVER)),
            due: None,
        }
    }

    /// Whether the connection is to be told now that it takes no more requests.
    fn drains(&mut self) -> bool {
        let drains = self.draining || self.visit.is_last() && self.visit.notes.busy.get() == 0;
        drains && !std::mem::replace(&mut self.told, true)
    }

    /// Ready when the connection is to end now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.visit.door.wakes(cx.waker());
        self.visit.nudges();
        if self.visit.door.is_killed() {
            return Poll::Ready(Close::Killed);
        }
        match self.visit.door.phase() {
            Phase::Leaving => return Poll::Ready(Close::DrainTimeout),
            Phase::Draining if self.visit.served.get() == 0 && self.silent => {
                return Poll::Ready(Close::Drain);
            }
            Phase::Draining => self.draining = true,
            Phase::Working => {}
        }
        loop {
            let Some((due, close)) = self.next() else { return Poll::Pending };
            // A timer that rings too early is set anew then: that is cheaper than to move it with
            // each request.
            if self.due.is_none_or(|set| due < set) {
                self.due = Some(due);
                self.sleep.as_mut().reset(due.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.due = None;
            if Instant::now() >= due {
                return Poll::Ready(close);
            }
        }
    }

    /// What happens next if nothing else does.
    fn next(&self) -> Option<(Instant, Close)> {
        let (notes, patience) = (&self.visit.notes, &self.patience);
        let (busy, served) = (notes.busy.get() > 0, self.visit.served.get() > 0);
        let after = |from: Instant, time: Option<Duration>, close| Some((from + time?, close));
        let moved = notes.moved.get().unwrap_or(self.began);
        let greets = !served && !busy;
        let owes = notes.owes_since.get().filter(|_| !greets);
        // Who has no answer yet is told so first, which takes a moment.
        let telling =
            if self.visit.served.get() > notes.answered.get() { TOLD } else { Duration::ZERO };
        [
            after(self.began, patience.life, Close::MaxDuration),
            after(self.began, patience.first_byte, Close::FirstByteTimeout).filter(|_| self.silent),
            after(self.began, patience.handshake, Close::HandshakeTimeout)
                .filter(|_| greets && !self.silent),
            owes.and_then(|since| after(since + telling, patience.message, Close::MessageTimeout)),
            after(moved, patience.idle, Close::IdleTimeout).filter(|_| !busy),
            // Over HTTP/1 it is the socket that takes nothing, and the line hears of that.
            self.visit.offered_since().and_then(|since| {
                after(since, patience.write, Close::WriteTimeout).filter(|_| self.http2)
            }),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(due, _)| *due)
    }
}
