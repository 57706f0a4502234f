//! An answer's body on its way to the client: counted, watched, and the operation's end.

use crate::{
    body::{Body, BodyError},
    dialect::Dialect,
    facts::Flags,
    pace::Pace,
    pool::{Pool, wished},
    record::{End, Record},
    visit::Visit,
    wire::Wire,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use operation::{Cut, Outcome, Place, Reason};
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
pub(crate) struct Download {
    body: Body,
    /// What a client is told that comes to no operation.
    watched: Option<Box<Watched>>,
}

/// The body of an operation's answer.
struct Watched {
    record: Rc<Record>,
    dialect: Rc<dyn Dialect>,
    /// How it ended, if the head told.
    told: Option<End>,
    wire: Option<(Wire, Rc<Pool>)>,
    clock: Clock,
    cut: Option<Cut>,
    pace: Option<Pace>,
    visit: Rc<Visit>,
    translated: bool,
    passed: u64,
    /// Held for as long as the operation is under way.
    _permit: Option<Box<dyn std::any::Any>>,
}

/// What is left to be known of an answer once its head is there.
pub(crate) struct Rest {
    pub(crate) record: Rc<Record>,
    pub(crate) dialect: Rc<dyn Dialect>,
    pub(crate) told: Option<End>,
    pub(crate) wire: Option<(Wire, Rc<Pool>)>,
    pub(crate) clock: Clock,
    pub(crate) cut: Option<Cut>,
    pub(crate) pace: Option<Pace>,
    pub(crate) visit: Rc<Visit>,
    pub(crate) permit: Option<Box<dyn std::any::Any>>,
    /// Somebody makes the client's words of it.
    pub(crate) translated: bool,
}

/// How long an answer may take.
#[derive(Default)]
pub(crate) struct Clock {
    /// All of it, from when the request had gone.
    pub(crate) timeout: Option<Duration>,
    /// All of it, until then.
    pub(crate) until: Option<Instant>,
    /// Without a byte, so long.
    pub(crate) idle: Option<Duration>,
    pub(crate) sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Ready when it took too long, with the word for that.
    fn poll(&mut self, cx: &mut Context<'_>, record: &Record) -> Poll<&'static str> {
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

impl Download {
    /// An answer to no operation.
    pub(crate) fn plain(body: Body) -> Self {
        Self { body, watched: None }
    }

    /// The body of an operation's answer.
    pub(crate) fn watched(body: Body, rest: Rest) -> Self {
        let Rest { record, dialect, told, wire, clock, cut, pace, visit, permit, translated } =
            rest;
        let watched = Watched {
            record,
            dialect,
            told,
            wire,
            clock,
            cut,
            pace,
            visit,
            translated,
            passed: 0,
            _permit: permit,
        };
        let mut download = Self { body, watched: Some(Box::new(watched)) };
        if download.body.is_end_stream() && !download.is_cut_at_end() {
            download.finish(None);
        }
        download
    }

    fn is_cut_at_end(&self) -> bool {
        self.watched.as_ref().is_some_and(|it| it.cut.is_some())
    }

    /// The whole answer has passed.
    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        let Some(mut watched) = self.watched.take() else { return };
        let told = watched.told.take();
        let end = told.unwrap_or_else(|| watched.dialect.judge_trailers(trailers).into());
        watched.end(&end);
    }

    /// The answer ends before its end.
    fn fail(&mut self, end: &End, why: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut words = None;
        if let Some(watched) = self.watched.take() {
            words = watched.last_words(end);
            watched.record.facts.flag(Flags::ANSWER_CUT);
            watched.record.settle(end);
        }
        self.body = Body::Empty;
        Poll::Ready(Some(words.map(Frame::trailers).ok_or(why)))
    }

    /// Cuts the connection if this is the place.
    fn cut(&mut self) -> Option<BodyError> {
        let watched = self.watched.as_ref()?;
        let cut = watched.cut?;
        let here = match cut.place {
            Place::Reply(most) => watched.passed >= most,
            Place::End => self.body.is_end_stream(),
            Place::Request => false,
        };
        if !here {
            return None;
        }
        watched.visit.cut(cut.reset);
        Some(Broken("cut on purpose").into())
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
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<(End, BodyError)> {
        let Some(watched) = &mut self.watched else { return Poll::Pending };
        if let Poll::Ready(reason) = watched.clock.poll(cx, &watched.record) {
            return Poll::Ready((End::of(Outcome::Lost, reason), Broken(reason).into()));
        }
        let wish = watched.wire.as_ref().and_then(|(wire, _)| wished(wire.lease().wish()));
        match wish {
            Some(close) => {
                let end = End::of(close.outcome(false), close.as_str());
                Poll::Ready((end, Broken(close.as_str()).into()))
            }
            None => Poll::Pending,
        }
    }
}

impl Watched {
    /// What the client is told where the answer breaks off, unless that is somebody's wish.
    fn last_words(&self, end: &End) -> Option<HeaderMap> {
        let (reason, words) = match end.reason {
            Some("injected") => return None,
            Some("timed_out") => (Reason::TimedOut, "the service took too long"),
            Some("idle_timeout") => (Reason::TimedOut, "nothing moved for too long"),
            _ => (Reason::Lost, "the service's answer broke off"),
        };
        // Whoever translates sees for himself that it does.
        if self.translated { None } else { self.dialect.last_words(reason, words) }
    }

    fn end(mut self: Box<Self>, end: &End) {
        self.record.settle(end);
        if let Some((mut wire, pool)) = self.wire.take() {
            // It learns that the answer is over only when it is polled.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            wire.poll(&mut cx);
            pool.give_back(wire);
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let download = &mut *self;
        if let Some(pace) = download.watched.as_mut().and_then(|it| it.pace.as_mut()) {
            ready!(pace.poll(cx));
        }
        if let Some(why) = download.cut() {
            return download.fail(&End::of(Outcome::Lost, "injected"), why);
        }
        match download.poll_body(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(download.took(frame)))),
            Poll::Ready(Some(Err(why))) => {
                download.fail(&End::of(Outcome::Lost, "upstream_reset"), why)
            }
            Poll::Ready(None) => {
                download.finish(None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let (end, why) = ready!(download.poll_watch(cx));
                download.fail(&end, why)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_cut_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Download {
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
        if let Some(Cut { place: Place::Reply(most), .. }) = watched.cut {
            let left = usize::try_from(most - watched.passed).unwrap_or(usize::MAX);
            data.truncate(left);
        }
        watched.passed += data.len() as u64;
        watched.record.answered(&data);
        if let Some(pace) = &mut watched.pace {
            pace.passed(data.len());
        }
        if self.body.is_end_stream() && !self.is_cut_at_end() {
            self.finish(None);
        }
        Frame::data(data)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Whoever knows that there is nothing more does not ask for it.
        if self.body.is_end_stream() {
            if let Some(_cut) = self.cut() {
                let _ = self.fail(&End::of(Outcome::Lost, "injected"), Broken("cut").into());
            }
            return self.finish(None);
        }
        if let Some(watched) = self.watched.take() {
            watched.record.gone();
        }
    }
}

/// Why an answer ended before its end.
#[derive(Debug)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Broken {}
