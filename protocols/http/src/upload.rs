//! A request's body on its way to a service: counted, bounded, and kept where it may have to be
//! sent again.

use crate::{
    body::{Body, BodyError},
    pace::Throttle,
    record::ActiveOperation,
    visit::ClientConnection,
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

/// How long a service may take to say that it wants the body, where the client asks for that.
const CONTINUE: Duration = Duration::from_secs(1);

/// How long a client may take to say that its request has ended, all of which is here.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A request's body, from which any number of attempts may be made.
pub(crate) struct ReplayBody {
    inner: RefCell<ReplayState>,
    /// How many bytes may be kept, and how many there may be at all.
    keeps: usize,
    most: u64,
    /// Whose connection it comes by, where its trailers are to be looked at.
    visit: Option<Rc<ClientConnection>>,
    state: Cell<BodyState>,
    sent: Cell<bool>,
    /// Since when somebody waits for more of it.
    waits_since: Cell<Option<Instant>>,
}

struct ReplayState {
    body: Body,
    /// What was heard of it before anybody could be told.
    ahead: Option<Frame<Bytes>>,
    kept: Vec<BodyPiece>,
    size: usize,
    total: u64,
    ended: bool,
}

/// A part of a body that is kept.
#[derive(Clone)]
enum BodyPiece {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

/// What became of a body so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// It comes.
    #[default]
    Fine,
    /// It is longer than may be kept, and so it can be sent once only.
    NotKept,
    /// It is longer than it may be.
    TooLarge,
    /// The client broke off.
    Broken,
}

impl ReplayBody {
    /// A body of at most `most` bytes, of which `keeps` are kept to be sent again. Trailers that came
    /// by this visit are screened.
    pub(crate) fn new(
        body: Body,
        keeps: usize,
        most: Option<u64>,
        visit: Option<&Rc<ClientConnection>>,
    ) -> Rc<Self> {
        let sent = Cell::new(body.is_end_stream());
        let inner = ReplayState {
            body,
            ahead: None,
            kept: Vec::new(),
            size: 0,
            total: 0,
            ended: sent.get(),
        };
        Rc::new(Self {
            inner: RefCell::new(inner),
            keeps,
            most: most.unwrap_or(u64::MAX),
            visit: visit.cloned(),
            state: Cell::default(),
            sent,
            waits_since: Cell::new(None),
        })
    }

    pub(crate) fn state(&self) -> BodyState {
        self.state.get()
    }

    /// Since when more of it is waited for, if it is.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.waits_since.get()
    }

    /// Whether all of it was read.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.get()
    }

    /// Whether nothing of it is still to come but word that this was all.
    pub(crate) fn lacks_only_its_end(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.ended && inner.ahead.is_none() && inner.body.size_hint().exact() == Some(0)
    }

    /// Waits for the one piece of a body that comes in one, so that its length is known.
    pub(crate) async fn gather(&self) {
        poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            if inner.ended || inner.ahead.is_some() {
                return Poll::Ready(());
            }
            match ready!(self.poll_frame(&mut inner, cx)) {
                Some(Ok(frame)) => inner.ahead = Some(frame),
                Some(Err(_)) => {
                    inner.ended = true;
                    self.state.set(BodyState::Broken);
                }
                None => {
                    inner.ended = true;
                    self.sent.set(true);
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
            true => self.waits_since.set(None),
            false if self.waits_since.get().is_none() => self.waits_since.set(Some(Instant::now())),
            false => {}
        }
        polled
    }

    /// Whether more of it is to come from the client.
    pub(crate) fn still_comes(&self) -> bool {
        !self.is_sent() && !self.lacks_only_its_end()
    }

    /// Hears that word, should it come. Were nobody there to hear it, hyper would tell a client of
    /// HTTP/2 that its request is not wanted any more, while it still says that it has ended.
    pub(crate) fn hear_its_end(self: Rc<Self>) {
        spawn_local(timeout(LAST_WORD, async move {
            poll_fn(|cx| self.poll(cx, usize::MAX)).await;
        }));
    }

    /// Whether none of it was read.
    pub(crate) fn is_untouched(&self) -> bool {
        let inner = self.inner.borrow();
        inner.total == 0 && (inner.ended || inner.kept.is_empty())
    }

    /// Whether another attempt can be made of it.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.state.get(), BodyState::Fine) && (self.keeps > 0 || self.is_untouched())
    }

    /// The piece at this place.
    fn poll(&self, cx: &mut Context<'_>, at: usize) -> Poll<Option<Result<BodyPiece, BodyError>>> {
        let mut inner = self.inner.borrow_mut();
        if let Some(piece) = inner.kept.get(at) {
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        let polled = match inner.ahead.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_frame(&mut inner, cx),
        };
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                inner.ended = true;
                self.state.set(BodyState::Broken);
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                inner.ended = true;
                self.sent.set(true);
                return Poll::Ready(None);
            }
        };
        let piece = match self.piece(frame) {
            Some(Ok(piece)) => piece,
            ended => {
                inner.ended = true;
                return Poll::Ready(ended);
            }
        };
        if let BodyPiece::Data(data) = &piece {
            inner.total += data.len() as u64;
            if inner.total > self.most {
                inner.ended = true;
                self.state.set(BodyState::TooLarge);
                return Poll::Ready(Some(Err(BodyTooLarge.into())));
            }
            inner.size += data.len();
        }
        if inner.body.is_end_stream() {
            inner.ended = true;
            self.sent.set(true);
        }
        if self.keeps > 0 && self.state.get() == BodyState::Fine {
            if inner.size > self.keeps {
                self.state.set(BodyState::NotKept);
                // Whoever reads from here on has read what was kept.
                inner.kept.clear();
            } else {
                inner.kept.push(piece.clone());
            }
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// What a frame brings; `None` if nothing is left of it, and so the body has ended.
    fn piece(&self, frame: Frame<Bytes>) -> Option<Result<BodyPiece, BodyError>> {
        let frame = match frame.into_data() {
            Ok(data) => return Some(Ok(BodyPiece::Data(data))),
            Err(frame) => frame,
        };
        let mut trailers = frame.into_trailers().unwrap_or_default();
        if !self.visit.as_ref().is_none_or(|visit| visit.screen(&mut trailers)) {
            self.state.set(BodyState::Broken);
            return Some(Err(TrailersTooLarge.into()));
        }
        if trailers.is_empty() {
            self.sent.set(true);
            return None;
        }
        Some(Ok(BodyPiece::Trailers(trailers)))
    }

    fn is_end(&self, at: usize) -> bool {
        let inner = self.inner.borrow();
        inner.ended && at >= inner.kept.len() && self.state.get() != BodyState::Broken
    }

    fn size_hint(&self, at: usize) -> SizeHint {
        let inner = self.inner.borrow();
        if at == 0 && inner.total > 0 {
            // Read before, by an attempt that failed.
            if inner.ended {
                return SizeHint::with_exact(inner.total);
            }
            return inner
                .body
                .size_hint()
                .exact()
                .map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + inner.total));
        }
        match inner.ahead.as_ref().and_then(Frame::data_ref) {
            None => inner.body.size_hint(),
            Some(data) => inner.body.size_hint().exact().map_or_else(SizeHint::default, |left| {
                SizeHint::with_exact(left + data.len() as u64)
            }),
        }
    }
}

/// The request's body is longer than it may be.
#[derive(Debug)]
pub(crate) struct BodyTooLarge;

impl fmt::Display for BodyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body is longer than it may be")
    }
}

impl Error for BodyTooLarge {}

/// The request's trailers are more than its client may send.
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
    said: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ContinueSignal {
    /// The service wants it.
    pub(crate) fn now(&self) {
        self.said.store(true, Ordering::Relaxed);
        let waker = self.waker.lock().map(|mut waker| waker.take());
        if let Ok(Some(waker)) = waker {
            waker.wake();
        }
    }

    fn is_said(&self, cx: &Context<'_>) -> bool {
        if let Ok(mut waker) = self.waker.lock() {
            *waker = Some(cx.waker().clone());
        }
        self.said.load(Ordering::Relaxed)
    }
}

/// One attempt's share of a request's body.
pub(crate) struct RequestBody {
    source: Rc<ReplayBody>,
    at: usize,
    record: Option<Rc<ActiveOperation>>,
    held: Option<(Arc<ContinueSignal>, Pin<Box<Sleep>>)>,
    pace: Option<Throttle>,
}

impl RequestBody {
    /// What is sent is counted in `record`, if there is one.
    pub(crate) fn new(source: &Rc<ReplayBody>, record: Option<&Rc<ActiveOperation>>) -> Self {
        Self { source: Rc::clone(source), at: 0, record: record.cloned(), held: None, pace: None }
    }

    /// Held back until the service wants it.
    pub(crate) fn until(&mut self, wanted: &Arc<ContinueSignal>) {
        self.held = Some((Arc::clone(wanted), Box::pin(sleep(CONTINUE))));
    }

    /// No faster than this.
    pub(crate) fn paced(&mut self, pace: Option<Throttle>) {
        self.pace = pace;
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((wanted, patience)) = &mut self.held {
            if !wanted.is_said(cx) {
                ready!(patience.as_mut().poll(cx));
            }
            self.held = None;
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
        let upload = &mut *self;
        ready!(upload.poll_held(cx));
        if let Some(pace) = &mut upload.pace {
            ready!(pace.poll(cx));
        }
        let piece = ready!(upload.source.poll(cx, upload.at));
        if (upload.source.is_sent() || upload.source.lacks_only_its_end())
            && let Some(record) = &upload.record
            && record.sent.get().is_none()
        {
            record.sent.set(Some(Instant::now()));
        }
        let Some(piece) = piece.transpose()? else { return Poll::Ready(None) };
        upload.at += 1;
        Poll::Ready(Some(Ok(match piece {
            BodyPiece::Data(data) => {
                if let Some(record) = &upload.record {
                    record.asked(&data);
                }
                if let Some(pace) = &mut upload.pace {
                    pace.passed(data.len());
                }
                Frame::data(data)
            }
            BodyPiece::Trailers(trailers) => Frame::trailers(trailers),
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end(self.at)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint(self.at)
    }
}
