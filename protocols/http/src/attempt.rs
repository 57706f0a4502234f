//! Attempts: a request is sent to an endpoint, and where that fails to another one, as far as its
//! route has it.

mod address;
mod answered;

pub(crate) use address::address;
pub(crate) use answered::UpstreamResponse;

use crate::{
    body::Body,
    facts::{RequestFlags, UpstreamTarget},
    hygiene,
    pool::Pool,
    proxy::{Endpoint, Unreachable},
    record::{ActiveOperation, PendingAttempt},
    retry::{self, AttemptFailure, RequestInFlight},
    routes::{RetryPolicy, Route},
    upload::{BodyState, ContinueSignal, ReplayBody, RequestBody},
    visit::CloseWatcher,
    wire::UpstreamConn,
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version, header, request, response,
};
use hyper::{body::Incoming, client::conn::TrySendError};
use operation::{Close, Outcome, Reason};
use std::{
    cell::RefCell, error::Error, future::poll_fn, num::NonZeroU64, pin::pin, rc::Rc, sync::Arc,
    time::Duration,
};
use tokio::{
    select,
    time::{sleep, timeout},
};

/// What gRPC calls a call that nobody answered, and one that took too long.
const UNAVAILABLE: u32 = 14;
const DEADLINE_EXCEEDED: u32 = 4;

/// A request on its way, enough for any number of attempts.
pub(crate) struct UpstreamRequest<'e> {
    pub(crate) head: &'e request::Parts,
    /// What the service is asked as: `shop.example:8080`.
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) source: Rc<ReplayBody>,
    pub(crate) record: &'e Rc<ActiveOperation>,
    pub(crate) route: &'e Route,
    pub(crate) pool: &'e Rc<Pool>,
    pub(crate) hash: Option<u64>,
    /// How fast the body goes.
    pub(crate) pace: Option<NonZeroU64>,
    /// The client waits for word before it sends the body.
    pub(crate) waits: bool,
    /// The body is sent only when all of it is here.
    pub(crate) at_once: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// No endpoint can be reached.
    Unreachable(Unreachable),
    /// The service went away before it answered, or what it said is no HTTP.
    Lost(UpstreamError),
    /// The endpoint was taken out of use.
    Taken(Close),
    /// It took longer than an attempt may.
    TimedOut,
    /// The request's body is longer than it may be.
    TooLarge,
    /// The request's head is longer than the endpoint takes, which is so many bytes.
    HeadTooLarge(u32),
    /// The client broke off.
    Client,
}

/// How an attempt was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// The service said that it did nothing: the stream was refused, or the connection is over.
    Refused,
    /// The connection ended, and nothing tells what was done.
    Reset,
    /// The service reset this one stream; its connection goes on.
    Stream,
    /// What was answered is no HTTP.
    Unreadable,
    /// What was answered contradicts itself about its length, or has a coding that nobody knows.
    Contradicts,
    /// The head of the answer is longer than it may be.
    HeadTooLarge,
}

impl AttemptError {
    /// What may be tried again, as routes put it.
    fn kind(&self) -> Option<AttemptFailure> {
        match self {
            AttemptError::Unreachable(it) if it.reason == Reason::Overloaded => None,
            AttemptError::Unreachable(_) => Some(AttemptFailure::Connect),
            AttemptError::Lost(UpstreamError::Refused) => Some(AttemptFailure::Refused),
            // It would be as long again.
            AttemptError::Lost(UpstreamError::HeadTooLarge) => None,
            AttemptError::Lost(_) | AttemptError::Taken(_) => Some(AttemptFailure::Reset),
            AttemptError::TimedOut => Some(AttemptFailure::PerTryTimeout),
            AttemptError::TooLarge | AttemptError::HeadTooLarge(_) | AttemptError::Client => None,
        }
    }

    /// What becomes of the attempt's operation at its endpoint.
    fn outcome(&self) -> Outcome {
        match self {
            AttemptError::Taken(_) | AttemptError::TooLarge | AttemptError::Client => {
                Outcome::Cancelled
            }
            // The endpoint is well: it is the proxy that has a limit, or the client that is over one.
            AttemptError::HeadTooLarge(_) | AttemptError::Lost(UpstreamError::HeadTooLarge) => {
                Outcome::Cancelled
            }
            AttemptError::Unreachable(_) | AttemptError::Lost(_) | AttemptError::TimedOut => {
                Outcome::Lost
            }
        }
    }
}

/// Where an attempt has got to.
type AttemptEndpoint = RefCell<Option<Endpoint>>;

impl UpstreamRequest<'_> {
    /// Sends the request until it is answered, or may be tried no more. `failure` is what an
    /// answer says that may be tried again, and how long the service wants that to wait: `None` if
    /// it waits for too long.
    pub(crate) async fn run(
        &self,
        mut attempting: Option<RequestInFlight>,
        failure: impl AsyncFn(&mut UpstreamResponse) -> Option<(AttemptFailure, Option<Duration>)>,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        if self.at_once {
            self.source.gather().await;
            self.broke_off()?;
        }
        let mut tried: Vec<Endpoint> = Vec::new();
        let mut number = 0;
        loop {
            let mut result = self.hedged(&mut tried).await;
            let Some(retry) = &self.route.retry else { return result };
            let failure = match &mut result {
                Ok(answered) => failure(answered).await,
                Err(failed) => failed.kind().map(|kind| (kind, Some(Duration::ZERO))),
            };
            let covered = failure.filter(|(kind, _)| covers(retry, *kind, &self.head.method));
            let Some((_, wait)) = covered.filter(|_| number < retry.attempts) else {
                return result;
            };
            let Some(wait) = wait else {
                self.record.facts.flag(RequestFlags::PUSHED_BACK);
                return result;
            };
            if !self.source.is_whole() {
                self.record.facts.flag(RequestFlags::TOO_LARGE_TO_RETRY);
                return result;
            }
            if attempting.as_mut().is_some_and(|it| !it.may_retry(&retry.budget)) {
                self.record.facts.flag(RequestFlags::RETRY_BUDGET);
                return result;
            }
            number += 1;
            if let Some(trip) = result.ok().and_then(|answered| answered.trip) {
                trip.over(Outcome::Failed);
            }
            self.record.facts.flag(RequestFlags::RETRIED);
            sleep(wait + retry.backoff.wait(number, fastrand::f64())).await;
        }
    }

    /// Makes one attempt, and another one beside it if that takes long and the route has it so.
    async fn hedged(
        &self,
        tried: &mut Vec<Endpoint>,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let (one, two) = (AttemptEndpoint::default(), AttemptEndpoint::default());
        let before = tried.clone();
        let result = match self.route.hedge {
            None => self.timed(&before, &one).await,
            Some(after) => Box::pin(self.raced(&before, (&one, &two), after)).await,
        };
        tried.extend(one.into_inner());
        tried.extend(two.into_inner());
        result
    }

    async fn raced(
        &self,
        tried: &[Endpoint],
        (one, two): (&AttemptEndpoint, &AttemptEndpoint),
        after: Duration,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let mut first = pin!(self.timed(tried, one));
        if let Ok(result) = timeout(after, &mut first).await {
            return result;
        }
        // A body that is still coming can't be read by two.
        if !self.source.is_sent() || !self.source.is_whole() {
            return first.await;
        }
        self.record.facts.flag(RequestFlags::HEDGED);
        let beside: Vec<_> = tried.iter().cloned().chain(one.borrow().clone()).collect();
        let mut second = pin!(self.timed(&beside, two));
        select! {
            result = &mut first => match result {
                Ok(answered) => Ok(answered),
                Err(_) => second.await,
            },
            result = &mut second => match result {
                Ok(answered) => Ok(answered),
                Err(_) => first.await,
            },
        }
    }

    /// Makes one attempt, for as long as one may take.
    async fn timed(
        &self,
        tried: &[Endpoint],
        at: &AttemptEndpoint,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let most = self.route.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let Some(most) = most else { return self.attempt(tried, at).await };
        let mut attempt = pin!(self.attempt(tried, at));
        if let Ok(result) = timeout(most, &mut attempt).await {
            return result;
        }
        self.record.gives_up.set(Outcome::Lost);
        Err(AttemptError::TimedOut)
    }

    /// Makes one attempt; and another one if the connection was stale: kept from before, and
    /// closed by the service just when it was needed.
    async fn attempt(
        &self,
        tried: &[Endpoint],
        at: &AttemptEndpoint,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        self.record.gives_up.set(Outcome::Cancelled);
        let mut reached = self.pool.reach(self.hash, tried, &self.record.facts.waits).await;
        loop {
            let mut wire = match reached {
                Ok(wire) => wire,
                Err(unreachable) => {
                    let attempts = &self.record.facts.attempts;
                    attempts.set(attempts.get() + 1);
                    self.went(None);
                    return Err(AttemptError::Unreachable(unreachable));
                }
            };
            let facts = &self.record.facts;
            facts.attempts.set(facts.attempts.get() + 1);
            self.went(Some(&wire));
            let endpoint = wire.lease().endpoint().clone();
            *at.borrow_mut() = Some(endpoint.clone());
            let trip = PendingAttempt::begin(wire.lease(), self.record);
            let fresh = wire.is_fresh();
            let failed = match self.heeds(&mut wire).await {
                Ok(response) => {
                    let (mut head, body) = response.into_parts();
                    if let Err(lost) = self.reads(&mut head) {
                        let failed = AttemptError::Lost(lost);
                        trip.over(failed.outcome());
                        return Err(failed);
                    }
                    let trip = trip.answered();
                    let body = Body::Incoming(body);
                    return Ok(Box::new(UpstreamResponse { head, body, wire, trip }));
                }
                Err(failed) => failed,
            };
            trip.over(failed.outcome());
            let stale = !fresh
                && matches!(
                    failed,
                    AttemptError::Lost(UpstreamError::Reset | UpstreamError::Refused)
                )
                && self.source.is_whole()
                && (failed.did_nothing() || retry::is_safe_to_repeat(&self.head.method, true));
            if !stale {
                return Err(failed);
            }
            facts.flag(RequestFlags::STALE);
            reached = self.pool.fresh(self.hash, endpoint, &facts.waits).await;
        }
    }

    /// Whether an answer's head is one that may go on.
    fn reads(&self, head: &mut response::Parts) -> Result<(), UpstreamError> {
        let long = || hygiene::length::in_http2(&head.headers) > self.pool.max_head();
        if head.version >= Version::HTTP_2 && long() {
            return Err(UpstreamError::HeadTooLarge);
        }
        hygiene::length::answer(head).map_err(|_| UpstreamError::Contradicts)
    }

    fn went(&self, wire: Option<&UpstreamConn>) {
        let cluster = Arc::clone(self.pool.cluster().name());
        let endpoint = wire.map(|wire| Arc::clone(wire.lease().name()));
        let version = if self.pool.speaks_http2() { Version::HTTP_2 } else { Version::HTTP_11 };
        let version = wire.map(|_| version);
        self.record.facts.went.set(Some(UpstreamTarget { cluster, endpoint, version }));
    }

    /// Sends the request, for as long as the endpoint wants it.
    async fn heeds(&self, wire: &mut UpstreamConn) -> Result<Response<Incoming>, AttemptError> {
        let (lease, record) = (Rc::clone(wire.lease()), self.record);
        let (mut heed, version) = (CloseWatcher::default(), record.facts.version);
        select! {
            biased;
            sent = self.send(wire) => sent,
            close = poll_fn(|cx| heed.poll(cx, &record.visit, version, &*lease)) => {
                Err(AttemptError::Taken(close))
            }
        }
    }

    async fn send(&self, wire: &mut UpstreamConn) -> Result<Response<Incoming>, AttemptError> {
        let mut body = RequestBody::new(&self.source, Some(self.record));
        body.paced(self.pace.map(crate::pace::Throttle::new));
        let mut request = Request::from_parts(self.head.clone(), body);
        let (http2, endpoint) = (self.pool.speaks_http2(), Rc::clone(wire.lease()));
        address(&mut request, self.authority.as_ref(), endpoint.name(), http2);
        if let Some(limit) = wire.over_limit(&request).await {
            return Err(AttemptError::HeadTooLarge(limit));
        }
        if !self.pool.speaks_http2() {
            self.listen(&mut request);
        }
        let answer = wire.send(request).await;
        self.broke_off()?;
        answer.map_err(|error| AttemptError::Lost(lost(&error)))
    }

    /// Whether the request's body came to no good end.
    fn broke_off(&self) -> Result<(), AttemptError> {
        match self.source.state() {
            BodyState::TooLarge => Err(AttemptError::TooLarge),
            BodyState::Broken => Err(AttemptError::Client),
            BodyState::Fine | BodyState::NotKept => Ok(()),
        }
    }

    /// Hears what a service of HTTP/1.1 says before its answer.
    fn listen(&self, request: &mut Request<RequestBody>) {
        let wanted = self.waits.then(|| {
            let wanted = Arc::new(ContinueSignal::default());
            request.body_mut().until(&wanted);
            let expect = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, expect);
            wanted
        });
        // hyper can tell it to no client of HTTP/2, and one of HTTP/1.0 does not know it.
        let client = self.record.facts.version == Version::HTTP_11;
        let early = client.then(|| Arc::clone(&self.record.visit.notes.early));
        hyper::ext::on_informational(request, move |told| match (told.status(), &wanted, &early) {
            (StatusCode::CONTINUE, Some(wanted), _) => wanted.now(),
            (StatusCode::CONTINUE, None, _) | (_, _, None) => {}
            (status, _, Some(early)) => early.say(status, told.headers()),
        });
    }
}

impl AttemptError {
    /// Whether the service can't have acted on it.
    fn did_nothing(&self) -> bool {
        matches!(self, AttemptError::Lost(UpstreamError::Refused))
    }
}

/// Whether a route has it that such a failure is tried again.
fn covers(retry: &RetryPolicy, failure: AttemptFailure, method: &Method) -> bool {
    let on = &retry.on;
    match failure {
        // Nothing was done, and so nothing is done twice. What gRPC's clients are told then is
        // UNAVAILABLE, and of a try that took too long DEADLINE_EXCEEDED.
        AttemptFailure::Connect => on.connect_failure || on.grpc(UNAVAILABLE),
        AttemptFailure::Refused => on.refused_stream || on.reset || on.grpc(UNAVAILABLE),
        AttemptFailure::Reset => (on.reset || on.grpc(UNAVAILABLE)) && retry.repeats(method),
        AttemptFailure::PerTryTimeout => {
            (on.statuses.contains(504) || on.grpc(DEADLINE_EXCEEDED)) && retry.repeats(method)
        }
        AttemptFailure::Status(status) => on.statuses.contains(status) && retry.repeats(method),
        AttemptFailure::Code(code) => on.grpc(code.into()) && retry.repeats(method),
    }
}

/// How an attempt was lost.
fn lost(error: &TrySendError<Request<RequestBody>>) -> UpstreamError {
    if error.message().is_some() {
        return UpstreamError::Refused;
    }
    let error = error.error();
    let reason = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    let unprocessed = reason.is_some_and(|it| {
        it.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR))
    });
    match () {
        () if unprocessed => UpstreamError::Refused,
        () if reason.is_some_and(|it| it.is_reset() && it.is_remote()) => UpstreamError::Stream,
        () if error.is_parse_too_large() => UpstreamError::HeadTooLarge,
        () if error.is_parse() => UpstreamError::Unreadable,
        () if reason.is_some_and(|it| it.is_reset() && it.is_library()) => {
            UpstreamError::Unreadable
        }
        () => UpstreamError::Reset,
    }
}

#[cfg(test)]
mod tests;
