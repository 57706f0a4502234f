//! A response's body on its way to the client: counts it, applies timeouts and policies, and
//! settles the operation at its end.

use crate::{
    active_operation::{ActiveOperation, OperationEnd},
    body::{Body, BodyError},
    client_connection::{ClientConnection, CloseWatcher},
    pool::Pool,
    request_attributes::RequestFlags,
    throttle::Throttle,
    upstream_conn::UpstreamConn,
};
use bytes::Bytes;
use cluster::OperationPermit;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use operation::{Close, ClosePoint, EndReason, InjectedClose, Outcome, RejectReason};
use std::{
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// A response's body.
pub(crate) struct ResponseBody {
    body: Body,
    /// `None` for responses that belong to no operation.
    tracked: Option<Box<TrackedResponse>>,
}

/// State of an operation's response.
struct TrackedResponse {
    operation: Rc<ActiveOperation>,
    /// The outcome, if the head showed it.
    head_end: Option<OperationEnd>,
    upstream: Option<(UpstreamConn, Rc<Pool>)>,
    timeouts: ResponseTimeouts,
    cut: Option<InjectedClose>,
    throttle: Option<Throttle>,
    connection: Rc<ClientConnection>,
    close_watcher: CloseWatcher,
    translated: bool,
    bytes_sent: u64,
    /// The bytes before an injected cut have been flushed to the client.
    flushed: bool,
    /// The error that ends the response after the flush.
    pending_error: Option<(OperationEnd, BodyError)>,
    stall_watch: StallWatch,
    /// Counts the operation in its cluster until dropped.
    _permit: OperationPermit,
}

/// Tracks a response with data that the client has not polled for since its last frame.
struct StallWatch {
    connection: Rc<ClientConnection>,
    pending: bool,
}

impl StallWatch {
    fn new(connection: &Rc<ClientConnection>) -> Self {
        let mut offer = Self { connection: Rc::clone(connection), pending: false };
        offer.set(true);
        offer
    }

    fn set(&mut self, stands: bool) {
        let offered = &self.connection.pending_responses;
        match (self.pending, stands) {
            (false, true) => offered.set(offered.get() + 1),
            (true, false) => offered.set(offered.get() - 1),
            _ => {}
        }
        self.pending = stands;
        // Only HTTP/2 clients can stall a response while their socket stays writable.
        if self.connection.state.http2.get() {
            self.connection.last_taken.set(Instant::now());
        }
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// What a response body needs to know of its operation.
pub(crate) struct ResponseContext {
    pub(crate) operation: Rc<ActiveOperation>,
    pub(crate) head_end: Option<OperationEnd>,
    pub(crate) upstream: Option<(UpstreamConn, Rc<Pool>)>,
    pub(crate) timeouts: ResponseTimeouts,
    pub(crate) cut: Option<InjectedClose>,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) connection: Rc<ClientConnection>,
    pub(crate) permit: OperationPermit,
    /// A translator reads this body.
    pub(crate) translated: bool,
}

/// Timeouts of a response.
#[derive(Default)]
pub(crate) struct ResponseTimeouts {
    /// For the whole response, from the end of the request.
    pub(crate) timeout: Option<Duration>,
    /// For the whole response, as a point in time.
    pub(crate) deadline: Option<Instant>,
    /// Longest time without a byte.
    pub(crate) idle: Option<Duration>,
    pub(crate) sleep: Option<Pin<Box<Sleep>>>,
}

impl ResponseTimeouts {
    /// Ready with the reason when a timeout expires.
    fn poll(&mut self, cx: &mut Context<'_>, operation: &ActiveOperation) -> Poll<EndReason> {
        loop {
            let idle = self.idle.map(|idle| operation.last_activity.get() + idle);
            let timeout =
                self.timeout.and_then(|timeout| Some(operation.request_sent.get()? + timeout));
            let dues = [idle, timeout, self.deadline];
            let Some(due) = dues.into_iter().flatten().min() else { return Poll::Pending };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if sleep.deadline() > due.into() {
                sleep.as_mut().reset(due.into());
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(if idle == Some(due) {
                    EndReason::ResponseIdle
                } else {
                    RejectReason::TimedOut.into()
                });
            }
            sleep.as_mut().reset(due.into());
        }
    }
}

impl ResponseBody {
    /// The body of a response that belongs to no operation.
    pub(crate) fn untracked(body: Body) -> Self {
        Self { body, tracked: None }
    }

    /// State of an operation's response.
    pub(crate) fn tracked(body: Body, rest: ResponseContext) -> Self {
        let ResponseContext {
            operation,
            head_end: told,
            upstream: conn,
            timeouts: clock,
            cut,
            throttle: pace,
            connection,
            permit,
            translated,
        } = rest;
        let tracked = TrackedResponse {
            operation,
            head_end: told,
            upstream: conn,
            timeouts: clock,
            cut,
            throttle: pace,
            stall_watch: StallWatch::new(&connection),
            connection,
            close_watcher: CloseWatcher::default(),
            translated,
            bytes_sent: 0,
            flushed: false,
            pending_error: None,
            _permit: permit,
        };
        let mut this = Self { body, tracked: Some(Box::new(tracked)) };
        if this.body.is_end_stream() {
            this.finish(None);
        }
        this
    }

    /// Whether the injected cut is reached.
    fn is_at_cut(&self) -> bool {
        self.tracked.as_ref().is_some_and(|it| it.bytes_before_cut() == Some(0))
    }

    /// The response is complete.
    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        let Some(mut tracked) = self.tracked.take() else { return };
        let told = tracked.head_end.take();
        if let Some(InjectedClose { at: ClosePoint::AfterReply, reset }) = tracked.cut {
            tracked.connection.close_after_operation(reset);
        }
        let end = told.unwrap_or_else(|| {
            tracked.connection.server.dialect.outcome_of_trailers(trailers).into()
        });
        tracked.settle(&end);
    }

    /// Fails the response after everything received so far was flushed: hyper drops unwritten
    /// bytes, even the head, when a body fails.
    fn fail_after_flush(
        &mut self,
        cx: &Context<'_>,
        end: OperationEnd,
        why: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(tracked) = &mut self.tracked else { return self.fail(&end, why) };
        if tracked.operation.attributes.version < Version::HTTP_11 {
            // An HTTP/1.0 client reads an orderly close as the end of a complete response.
            tracked.connection.state.reset_on_close.set(true);
        }
        if std::mem::replace(&mut tracked.flushed, true) {
            return self.fail(&end, why);
        }
        tracked.pending_error = Some((end, why));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the response with an error.
    fn fail(
        &mut self,
        end: &OperationEnd,
        why: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut words = None;
        if let Some(tracked) = self.tracked.take() {
            words = tracked.error_trailers(end);
            tracked.operation.attributes.progress.add_flag(RequestFlags::ANSWER_CUT);
            tracked.operation.settle(end);
        }
        self.body = Body::Empty;
        Poll::Ready(Some(words.map(Frame::trailers).ok_or(why)))
    }

    /// Cuts the connection as injected by a policy.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(tracked) = &mut self.tracked else { return Poll::Pending };
        if !std::mem::replace(&mut tracked.flushed, true) {
            // hyper flushes what was sent once the body is pending.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let reset = tracked.cut.is_some_and(|cut| cut.reset);
        tracked.connection.abort(tracked.operation.attributes.version, Close::Injected, reset);
        Poll::Ready(BodyCutShort("cut on purpose").into())
    }

    /// The next frame. Polls an HTTP/1 connection too, since nothing else does.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.tracked.as_mut().and_then(|it| it.upstream.as_mut()) {
            Some((UpstreamConn::H1(conn), _)) => conn.poll_frame(cx, &mut self.body),
            _ => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    /// Ready when a timeout expires or the endpoint closes its connections.
    fn poll_interrupt(&mut self, cx: &mut Context<'_>) -> Poll<(OperationEnd, BodyError)> {
        let Some(tracked) = &mut self.tracked else { return Poll::Pending };
        if let Poll::Ready(reason) = tracked.timeouts.poll(cx, &tracked.operation) {
            return Poll::Ready((
                OperationEnd::new(Outcome::Lost, reason),
                BodyCutShort(reason.as_str()).into(),
            ));
        }
        let Some((conn, _)) = &tracked.upstream else { return Poll::Pending };
        let version = tracked.operation.attributes.version;
        let close =
            ready!(tracked.close_watcher.poll(cx, &tracked.connection, version, conn.lease()));
        let end = OperationEnd::new(close.outcome(false), close);
        Poll::Ready((end, BodyCutShort(close.as_str()).into()))
    }
}

impl TrackedResponse {
    /// Bytes that may still be sent before an injected cut.
    fn bytes_before_cut(&self) -> Option<u64> {
        match self.cut?.at {
            ClosePoint::AfterReplyBytes(most) => Some(most.saturating_sub(self.bytes_sent)),
            ClosePoint::BeforeRequest | ClosePoint::AfterReply | ClosePoint::AfterDelay(_) => None,
        }
    }

    /// Error trailers of a response that fails, unless the failure was injected.
    fn error_trailers(&self, end: &OperationEnd) -> Option<HeaderMap> {
        let (reason, words) = match end.reason {
            Some(reason) if reason.is_injected() => return None,
            Some(EndReason::Rejected(RejectReason::TimedOut)) => {
                (RejectReason::TimedOut, "the service took too long")
            }
            Some(EndReason::ResponseIdle) => (RejectReason::TimedOut, "nothing moved for too long"),
            _ => (RejectReason::Lost, "the service's answer broke off"),
        };
        // A translator handles the failure itself.
        if self.translated {
            None
        } else {
            self.connection.server.dialect.error_trailers(reason, words)
        }
    }

    fn settle(mut self: Box<Self>, end: &OperationEnd) {
        self.operation.settle(end);
        if let Some((conn, pool)) = self.upstream.take() {
            pool.put(conn);
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
        let this = &mut *self;
        let broken = this.tracked.as_mut().and_then(|it| it.pending_error.take());
        if let Some((end, why)) = broken {
            return this.fail(&end, why);
        }
        if let Some(pace) = this.tracked.as_mut().and_then(|it| it.throttle.as_mut()) {
            ready!(pace.poll(cx));
        }
        if this.is_at_cut() {
            let why = ready!(this.poll_cut(cx));
            return this.fail(&OperationEnd::new(Outcome::Lost, Close::Injected), why);
        }
        this.set_pending(false);
        match this.poll_body(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let frame = this.on_frame(frame);
                this.set_pending(true);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(why))) => {
                let reason = if is_unreadable(&*why) {
                    Close::UpstreamViolation
                } else {
                    Close::UpstreamReset
                };
                this.fail_after_flush(cx, OperationEnd::new(Outcome::Lost, reason), why)
            }
            Poll::Ready(None) => {
                this.finish(None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let (end, why) = ready!(this.poll_interrupt(cx));
                this.fail_after_flush(cx, end, why)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_at_cut()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ResponseBody {
    /// Records whether a frame waits for the client.
    fn set_pending(&mut self, stands: bool) {
        if let Some(tracked) = &mut self.tracked {
            tracked.stall_watch.set(stands);
        }
    }

    /// Counts a frame, and truncates it at an injected cut.
    fn on_frame(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Some(tracked) = &mut self.tracked else { return frame };
        let now = Instant::now();
        tracked.operation.last_activity.set(now);
        if let Some(trailers) = frame.trailers_ref() {
            let trailers = trailers.clone();
            self.finish(Some(&trailers));
            return frame;
        }
        let Ok(mut data) = frame.into_data() else { return Frame::data(Bytes::new()) };
        let all = data.len();
        if let Some(left) = tracked.bytes_before_cut() {
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        tracked.bytes_sent += data.len() as u64;
        // A response shorter than the cut is complete.
        let ends = data.len() == all && self.body.is_end_stream();
        tracked.operation.add_response_bytes(&data);
        if let Some(pace) = &mut tracked.throttle {
            pace.record(data.len());
        }
        if ends {
            self.finish(None);
        }
        Frame::data(data)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not poll a body again once `is_end_stream` is true.
        if self.body.is_end_stream() && !self.is_at_cut() {
            return self.finish(None);
        }
        let Some(tracked) = self.tracked.take() else { return };
        tracked.operation.response_dropped();
    }
}

/// Whether h2 ended the response because it was not valid HTTP/2.
fn is_unreadable(why: &(dyn Error + 'static)) -> bool {
    let source = why.source().or(Some(why));
    let broken = source.and_then(|it| it.downcast_ref::<h2::Error>());
    broken.is_some_and(|it| it.is_reset() && it.is_library())
}

/// Why a response's body ended early.
#[derive(Debug)]
struct BodyCutShort(&'static str);

impl fmt::Display for BodyCutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for BodyCutShort {}
