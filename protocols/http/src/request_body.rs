//! A request's body on its way to a service: counted, bounded, and kept for further attempts.

use crate::{
    active_operation::ActiveOperation,
    body::{Body, BodyError},
    client_connection::ClientConnection,
    throttle::Throttle,
};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::{
    task::spawn_local,
    time::{Sleep, sleep, timeout},
};

/// How long to wait for `100 Continue` of the service.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client may take to send the end of a body that is otherwise complete.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body that any number of attempts can read.
pub(crate) struct ReplayBody {
    inner: RefCell<ReplayState>,
    /// Most bytes to keep, and most bytes of the body.
    max_kept: usize,
    max_bytes: u64,
    /// Set if trailers must be checked: the client's connection.
    connection: Option<Rc<ClientConnection>>,
    state: Cell<BodyState>,
    read_to_end: Cell<bool>,
    /// Since when a reader waits for more.
    waiting_since: Cell<Option<Instant>>,
}

struct ReplayState {
    body: Body,
    /// A frame that was read in advance.
    peeked: Option<Frame<Bytes>>,
    pieces: Vec<BodyPiece>,
    kept_bytes: usize,
    total: u64,
    ended: bool,
}

/// A part of a body that is kept.
#[derive(Clone)]
enum BodyPiece {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

/// State of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// It can be read.
    #[default]
    Readable,
    /// It exceeds what may be kept, so it can be sent only once.
    TooLargeToReplay,
    /// It exceeds the limit.
    TooLarge,
    /// The client aborted the request.
    Aborted,
}

impl ReplayBody {
    /// A body of at most `most` bytes, of which up to `max_kept` are kept for further attempts.
    /// Trailers are checked with the limits of this connection.
    pub(crate) fn new(
        body: Body,
        max_kept: usize,
        most: Option<u64>,
        connection: Option<&Rc<ClientConnection>>,
    ) -> Rc<Self> {
        let sent = Cell::new(body.is_end_stream());
        let inner = ReplayState {
            body,
            peeked: None,
            pieces: Vec::new(),
            kept_bytes: 0,
            total: 0,
            ended: sent.get(),
        };
        Rc::new(Self {
            inner: RefCell::new(inner),
            max_kept,
            max_bytes: most.unwrap_or(u64::MAX),
            connection: connection.cloned(),
            state: Cell::default(),
            read_to_end: sent,
            waiting_since: Cell::new(None),
        })
    }

    pub(crate) fn state(&self) -> BodyState {
        self.state.get()
    }

    /// Since when a reader waits for more, if one does.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since.get()
    }

    /// Whether all of it was read.
    pub(crate) fn is_read_to_end(&self) -> bool {
        self.read_to_end.get()
    }

    /// Whether all data has arrived and only END_STREAM or the last chunk is missing.
    pub(crate) fn only_end_missing(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.ended && inner.peeked.is_none() && inner.body.size_hint().exact() == Some(0)
    }

    /// Reads the first piece in advance. For a body of one piece the length is then known.
    pub(crate) async fn read_first_piece(&self) {
        poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            if inner.ended || inner.peeked.is_some() {
                return Poll::Ready(());
            }
            match ready!(self.poll_frame(&mut inner, cx)) {
                Some(Ok(frame)) => inner.peeked = Some(frame),
                Some(Err(_)) => {
                    inner.ended = true;
                    self.state.set(BodyState::Aborted);
                }
                None => {
                    inner.ended = true;
                    self.read_to_end.set(true);
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    fn poll_frame(
        &self,
        inner: &mut ReplayState,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut inner.body).poll_frame(cx);
        match polled.is_ready() {
            true => self.waiting_since.set(None),
            false if self.waiting_since.get().is_none() => {
                self.waiting_since.set(Some(Instant::now()))
            }
            false => {}
        }
        polled
    }

    /// Whether the client still has to send more of it.
    pub(crate) fn is_incomplete(&self) -> bool {
        !self.is_read_to_end() && !self.only_end_missing()
    }

    /// Reads the end of the body when it arrives. Without a reader, h2 would reset the stream of
    /// an HTTP/2 client that is about to end it.
    pub(crate) fn drain_end(self: Rc<Self>) {
        spawn_local(timeout(END_TIMEOUT, async move {
            poll_fn(|cx| self.poll_piece(cx, usize::MAX)).await;
        }));
    }

    /// Whether none of it was read.
    pub(crate) fn is_unread(&self) -> bool {
        let inner = self.inner.borrow();
        inner.total == 0 && (inner.ended || inner.pieces.is_empty())
    }

    /// Whether another attempt can read it from the start.
    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self.state.get(), BodyState::Readable) && (self.max_kept > 0 || self.is_unread())
    }

    /// Reads the piece at this position.
    fn poll_piece(
        &self,
        cx: &mut Context<'_>,
        at: usize,
    ) -> Poll<Option<Result<BodyPiece, BodyError>>> {
        let mut inner = self.inner.borrow_mut();
        if let Some(piece) = inner.pieces.get(at) {
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        let polled = match inner.peeked.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_frame(&mut inner, cx),
        };
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                inner.ended = true;
                self.state.set(BodyState::Aborted);
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                inner.ended = true;
                self.read_to_end.set(true);
                return Poll::Ready(None);
            }
        };
        let piece = match self.check_frame(frame) {
            Some(Ok(piece)) => piece,
            ended => {
                inner.ended = true;
                return Poll::Ready(ended);
            }
        };
        if let BodyPiece::Data(data) = &piece {
            inner.total += data.len() as u64;
            if inner.total > self.max_bytes {
                inner.ended = true;
                self.state.set(BodyState::TooLarge);
                return Poll::Ready(Some(Err(BodyTooLarge.into())));
            }
            inner.kept_bytes += data.len();
        }
        if inner.body.is_end_stream() {
            inner.ended = true;
            self.read_to_end.set(true);
        }
        if self.max_kept > 0 && self.state.get() == BodyState::Readable {
            if inner.kept_bytes > self.max_kept {
                self.state.set(BodyState::TooLargeToReplay);
                // Later reads continue after the dropped pieces.
                inner.pieces.clear();
            } else {
                inner.pieces.push(piece.clone());
            }
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// The piece in a frame; `None` if no trailer is left, so that the body has ended.
    fn check_frame(&self, frame: Frame<Bytes>) -> Option<Result<BodyPiece, BodyError>> {
        let frame = match frame.into_data() {
            Ok(data) => return Some(Ok(BodyPiece::Data(data))),
            Err(frame) => frame,
        };
        let mut trailers = frame.into_trailers().unwrap_or_default();
        if !self
            .connection
            .as_ref()
            .is_none_or(|connection| connection.screen_trailers(&mut trailers))
        {
            self.state.set(BodyState::Aborted);
            return Some(Err(TrailersTooLarge.into()));
        }
        if trailers.is_empty() {
            self.read_to_end.set(true);
            return None;
        }
        Some(Ok(BodyPiece::Trailers(trailers)))
    }

    fn is_end(&self, at: usize) -> bool {
        let inner = self.inner.borrow();
        inner.ended && at >= inner.pieces.len() && self.state.get() != BodyState::Aborted
    }

    fn size_hint(&self, at: usize) -> SizeHint {
        let inner = self.inner.borrow();
        if at == 0 && inner.total > 0 {
            // Read by an earlier attempt.
            if inner.ended {
                return SizeHint::with_exact(inner.total);
            }
            return inner
                .body
                .size_hint()
                .exact()
                .map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + inner.total));
        }
        match inner.peeked.as_ref().and_then(Frame::data_ref) {
            None => inner.body.size_hint(),
            Some(data) => inner.body.size_hint().exact().map_or_else(SizeHint::default, |left| {
                SizeHint::with_exact(left + data.len() as u64)
            }),
        }
    }
}

/// The request's body exceeds `max_request_body`.
#[derive(Debug)]
pub(crate) struct BodyTooLarge;

impl fmt::Display for BodyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body is longer than it may be")
    }
}

impl Error for BodyTooLarge {}

/// The request's trailers exceed the client's budget.
#[derive(Debug)]
struct TrailersTooLarge;

impl fmt::Display for TrailersTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's trailers are more than they may be")
    }
}

impl Error for TrailersTooLarge {}

/// Whether the service wants a body that its client holds back (`expect: 100-continue`).
#[derive(Default)]
pub(crate) struct ContinueSignal {
    received: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ContinueSignal {
    /// The service wants the body.
    pub(crate) fn set(&self) {
        self.received.store(true, Ordering::Relaxed);
        let waker = self.waker.lock().map(|mut waker| waker.take());
        if let Ok(Some(waker)) = waker {
            waker.wake();
        }
    }

    fn is_set(&self, cx: &Context<'_>) -> bool {
        if let Ok(mut waker) = self.waker.lock() {
            *waker = Some(cx.waker().clone());
        }
        self.received.load(Ordering::Relaxed)
    }
}

/// A request's body as one attempt reads it.
pub(crate) struct RequestBody {
    body: Rc<ReplayBody>,
    position: usize,
    operation: Option<Rc<ActiveOperation>>,
    hold: Option<(Arc<ContinueSignal>, Pin<Box<Sleep>>)>,
    throttle: Option<Throttle>,
}

impl RequestBody {
    /// Sent bytes are counted in `operation`, if there is one.
    pub(crate) fn new(source: &Rc<ReplayBody>, operation: Option<&Rc<ActiveOperation>>) -> Self {
        Self {
            body: Rc::clone(source),
            position: 0,
            operation: operation.cloned(),
            hold: None,
            throttle: None,
        }
    }

    /// Holds the body back until the service wants it.
    pub(crate) fn hold_until(&mut self, wanted: &Arc<ContinueSignal>) {
        self.hold = Some((Arc::clone(wanted), Box::pin(sleep(CONTINUE_TIMEOUT))));
    }

    /// Limits the rate.
    pub(crate) fn set_throttle(&mut self, pace: Option<Throttle>) {
        self.throttle = pace;
    }

    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((wanted, timeout)) = &mut self.hold {
            if !wanted.is_set(cx) {
                ready!(timeout.as_mut().poll(cx));
            }
            self.hold = None;
        }
        Poll::Ready(())
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        ready!(this.poll_hold(cx));
        if let Some(pace) = &mut this.throttle {
            ready!(pace.poll(cx));
        }
        let piece = ready!(this.body.poll_piece(cx, this.position));
        if (this.body.is_read_to_end() || this.body.only_end_missing())
            && let Some(operation) = &this.operation
            && operation.request_sent.get().is_none()
        {
            operation.request_sent.set(Some(Instant::now()));
        }
        let Some(piece) = piece.transpose()? else { return Poll::Ready(None) };
        this.position += 1;
        Poll::Ready(Some(Ok(match piece {
            BodyPiece::Data(data) => {
                if let Some(operation) = &this.operation {
                    operation.add_request_bytes(&data);
                }
                if let Some(pace) = &mut this.throttle {
                    pace.record(data.len());
                }
                Frame::data(data)
            }
            BodyPiece::Trailers(trailers) => Frame::trailers(trailers),
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end(self.position)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint(self.position)
    }
}
