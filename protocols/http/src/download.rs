//! An answer's body on its way to the client: counted, watched, and the operation's end.

use crate::{
    body::{Body, BodyError},
    dialect::Dialect,
    facts::RequestFlags,
    pace::Throttle,
    pool::Pool,
    record::{ActiveOperation, OperationEnd},
    visit::{ClientConnection, CloseWatcher},
    wire::UpstreamConn,
};
use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use operation::{Close, Cut, Outcome, Place, Reason};
use std::{
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// An answer's body.
pub(crate) struct ResponseBody {
    body: Body,
    /// What a client is told that comes to no operation.
    watched: Option<Box<TrackedResponse>>,
}

/// The body of an operation's answer.
struct TrackedResponse {
    record: Rc<ActiveOperation>,
    dialect: Rc<dyn Dialect>,
    /// How it ended, if the head told.
    told: Option<OperationEnd>,
    wire: Option<(UpstreamConn, Rc<Pool>)>,
    clock: ResponseTimeouts,
    cut: Option<Cut>,
    pace: Option<Throttle>,
    visit: Rc<ClientConnection>,
    heed: CloseWatcher,
    translated: bool,
    passed: u64,
    /// What passes before a cut is with the client's connection already.
    handed: bool,
    /// The answer breaks off as soon as that is so.
    broken: Option<(OperationEnd, BodyError)>,
    offer: StallWatch,
    /// Held for as long as the operation is under way.
    _permit: Option<Box<dyn std::any::Any>>,
}

/// An answer's being one that the client could take more of: it has not asked since it was given
/// the last of it.
struct StallWatch {
    visit: Rc<ClientConnection>,
    stands: bool,
}

impl StallWatch {
    fn new(visit: &Rc<ClientConnection>) -> Self {
        let mut offer = Self { visit: Rc::clone(visit), stands: false };
        offer.set(true);
        offer
    }

    fn set(&mut self, stands: bool) {
        let offered = &self.visit.offered;
        match (self.stands, stands) {
            (false, true) => offered.set(offered.get() + 1),
            (true, false) => offered.set(offered.get() - 1),
            _ => {}
        }
        self.stands = stands;
        self.visit.taken.set(Instant::now());
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// What is left to be known of an answer once its head is there.
pub(crate) struct ResponseContext {
    pub(crate) record: Rc<ActiveOperation>,
    pub(crate) dialect: Rc<dyn Dialect>,
    pub(crate) told: Option<OperationEnd>,
    pub(crate) wire: Option<(UpstreamConn, Rc<Pool>)>,
    pub(crate) clock: ResponseTimeouts,
    pub(crate) cut: Option<Cut>,
    pub(crate) pace: Option<Throttle>,
    pub(crate) visit: Rc<ClientConnection>,
    pub(crate) permit: Option<Box<dyn std::any::Any>>,
    /// Somebody makes the client's words of it.
    pub(crate) translated: bool,
}

/// How long an answer may take.
#[derive(Default)]
pub(crate) struct ResponseTimeouts {
    /// All of it, from when the request had gone.
    pub(crate) timeout: Option<Duration>,
    /// All of it, until then.
    pub(crate) until: Option<Instant>,
    /// Without a byte, so long.
    pub(crate) idle: Option<Duration>,
    pub(crate) sleep: Option<Pin<Box<Sleep>>>,
}

impl ResponseTimeouts {
    /// Ready when it took too long, with the word for that.
    fn poll(&mut self, cx: &mut Context<'_>, record: &ActiveOperation) -> Poll<&'static str> {
        loop {
            let idle = self.idle.map(|idle| record.moved.get() + idle);
            let timeout = self.timeout.and_then(|timeout| Some(record.sent.get()? + timeout));
            let dues = [idle, timeout, self.until];
            let Some(due) = dues.into_iter().flatten().min() else { return Poll::Pending };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if sleep.deadline() > due.into() {
                sleep.as_mut().reset(due.into());
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(if idle == Some(due) { "idle_timeout" } else { "timed_out" });
            }
            sleep.as_mut().reset(due.into());
        }
    }
}

impl ResponseBody {
    /// An answer to no operation.
    pub(crate) fn plain(body: Body) -> Self {
        Self { body, watched: None }
    }

    /// The body of an operation's answer.
    pub(crate) fn watched(body: Body, rest: ResponseContext) -> Self {
        let ResponseContext {
            record,
            dialect,
            told,
            wire,
            clock,
            cut,
            pace,
            visit,
            permit,
            translated,
        } = rest;
        let watched = TrackedResponse {
            record,
            dialect,
            told,
            wire,
            clock,
            cut,
            pace,
            offer: StallWatch::new(&visit),
            visit,
            heed: CloseWatcher::default(),
            translated,
            passed: 0,
            handed: false,
            broken: None,
            _permit: permit,
        };
        let mut download = Self { body, watched: Some(Box::new(watched)) };
        if download.body.is_end_stream() {
            download.finish(None);
        }
        download
    }

    /// Whether no more of it may pass.
    fn is_cut(&self) -> bool {
        self.watched.as_ref().is_some_and(|it| it.left() == Some(0))
    }

    /// The whole answer has passed.
    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        let Some(mut watched) = self.watched.take() else { return };
        let told = watched.told.take();
        if let Some(Cut { place: Place::End, reset }) = watched.cut {
            watched.visit.cut_at_end(reset);
        }
        let end = told.unwrap_or_else(|| watched.dialect.judge_trailers(trailers).into());
        watched.end(&end);
    }

    /// The answer ends before its end. What has come of it is written first, its head above all:
    /// hyper drops all that it has not written when a body breaks off.
    fn break_off(
        &mut self,
        cx: &Context<'_>,
        end: OperationEnd,
        why: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(watched) = &mut self.watched else { return self.fail(&end, why) };
        if watched.record.facts.version < Version::HTTP_11 {
            // To such a client the connection's end in good order is the end of the answer.
            watched.visit.notes.reset.set(true);
        }
        if std::mem::replace(&mut watched.handed, true) {
            return self.fail(&end, why);
        }
        watched.broken = Some((end, why));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The answer ends before its end.
    fn fail(
        &mut self,
        end: &OperationEnd,
        why: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut words = None;
        if let Some(watched) = self.watched.take() {
            words = watched.last_words(end);
            watched.record.facts.flag(RequestFlags::ANSWER_CUT);
            watched.record.settle(end);
        }
        self.body = Body::Empty;
        Poll::Ready(Some(words.map(Frame::trailers).ok_or(why)))
    }

    /// Cuts the connection.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(watched) = &mut self.watched else { return Poll::Pending };
        if !std::mem::replace(&mut watched.handed, true) {
            // What has passed is written as soon as there is nothing more to write.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let reset = watched.cut.is_some_and(|cut| cut.reset);
        watched.visit.cut(watched.record.facts.version, Close::Injected, reset);
        Poll::Ready(BodyCutShort("cut on purpose").into())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            return polled;
        }
        let Some((wire, _)) = self.watched.as_mut().and_then(|it| it.wire.as_mut()) else {
            return polled;
        };
        wire.poll(cx);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// What holds the answer up, or ends it.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<(OperationEnd, BodyError)> {
        let Some(watched) = &mut self.watched else { return Poll::Pending };
        if let Poll::Ready(reason) = watched.clock.poll(cx, &watched.record) {
            return Poll::Ready((
                OperationEnd::of(Outcome::Lost, reason),
                BodyCutShort(reason).into(),
            ));
        }
        let Some((wire, _)) = &watched.wire else { return Poll::Pending };
        let version = watched.record.facts.version;
        let close = ready!(watched.heed.poll(cx, &watched.visit, version, &**wire.lease()));
        let end = OperationEnd::of(close.outcome(false), close.as_str());
        Poll::Ready((end, BodyCutShort(close.as_str()).into()))
    }
}

impl TrackedResponse {
    /// How much of it may pass before it is cut.
    fn left(&self) -> Option<u64> {
        match self.cut?.place {
            Place::Reply(most) => Some(most.saturating_sub(self.passed)),
            Place::Request | Place::End | Place::After(_) => None,
        }
    }

    /// What the client is told where the answer breaks off, unless that is somebody's wish.
    fn last_words(&self, end: &OperationEnd) -> Option<HeaderMap> {
        let (reason, words) = match end.reason {
            Some("injected") => return None,
            Some("timed_out") => (Reason::TimedOut, "the service took too long"),
            Some("idle_timeout") => (Reason::TimedOut, "nothing moved for too long"),
            _ => (Reason::Lost, "the service's answer broke off"),
        };
        // Whoever translates sees for himself that it does.
        if self.translated { None } else { self.dialect.last_words(reason, words) }
    }

    fn end(mut self: Box<Self>, end: &OperationEnd) {
        self.record.settle(end);
        if let Some((mut wire, pool)) = self.wire.take() {
            // It learns that the answer is over only when it is polled.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            wire.poll(&mut cx);
            pool.give_back(wire);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let download = &mut *self;
        let broken = download.watched.as_mut().and_then(|it| it.broken.take());
        if let Some((end, why)) = broken {
            return download.fail(&end, why);
        }
        if let Some(pace) = download.watched.as_mut().and_then(|it| it.pace.as_mut()) {
            ready!(pace.poll(cx));
        }
        if download.is_cut() {
            let why = ready!(download.poll_cut(cx));
            return download.fail(&OperationEnd::of(Outcome::Lost, Close::Injected.as_str()), why);
        }
        download.offer(false);
        match download.poll_body(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let frame = download.took(frame);
                download.offer(true);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(why))) => {
                let reason =
                    if is_unreadable(&*why) { "upstream_violation" } else { "upstream_reset" };
                download.break_off(cx, OperationEnd::of(Outcome::Lost, reason), why)
            }
            Poll::Ready(None) => {
                download.finish(None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let (end, why) = ready!(download.poll_watch(cx));
                download.break_off(cx, end, why)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_cut()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ResponseBody {
    /// It has something that the client has not asked for yet, or no more.
    fn offer(&mut self, stands: bool) {
        if let Some(watched) = &mut self.watched {
            watched.offer.set(stands);
        }
    }

    /// A frame passes.
    fn took(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Some(watched) = &mut self.watched else { return frame };
        let now = Instant::now();
        watched.record.moved.set(now);
        if let Some(trailers) = frame.trailers_ref() {
            let trailers = trailers.clone();
            self.finish(Some(&trailers));
            return frame;
        }
        let Ok(mut data) = frame.into_data() else { return Frame::data(Bytes::new()) };
        let all = data.len();
        if let Some(left) = watched.left() {
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        watched.passed += data.len() as u64;
        // A shorter reply is whole.
        let ends = data.len() == all && self.body.is_end_stream();
        watched.record.answered(&data);
        if let Some(pace) = &mut watched.pace {
            pace.passed(data.len());
        }
        if ends {
            self.finish(None);
        }
        Frame::data(data)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Whoever knows that there is nothing more does not ask for it.
        if self.body.is_end_stream() && !self.is_cut() {
            return self.finish(None);
        }
        let Some(watched) = self.watched.take() else { return };
        watched.record.dropped();
    }
}

/// Whether it is h2 that ended an answer, since it could not read it.
fn is_unreadable(why: &(dyn Error + 'static)) -> bool {
    let source = why.source().or(Some(why));
    let broken = source.and_then(|it| it.downcast_ref::<h2::Error>());
    broken.is_some_and(|it| it.is_reset() && it.is_library())
}

/// Why an answer ended before its end.
#[derive(Debug)]
struct BodyCutShort(&'static str);

impl fmt::Display for BodyCutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for BodyCutShort {}
