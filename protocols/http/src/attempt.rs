//! Attempts: a request is sent to an endpoint, and where that fails to another one, as far as its
//! route has it.

mod address;
mod answered;

pub(crate) use address::address;
pub(crate) use answered::Answered;

use crate::{
    body::Body,
    facts::{Flags, Went},
    hygiene,
    pool::Pool,
    proxy::{Endpoint, Unreachable},
    record::{Record, Underway},
    retry::{self, Attempting, Failure},
    routes::{Retry, Route},
    upload::{Source, State, Upload, Wanted},
    visit::Heed,
    wire::Wire,
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
pub(crate) struct Errand<'e> {
    pub(crate) head: &'e request::Parts,
    /// What the service is asked as: `shop.example:8080`.
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) source: Rc<Source>,
    pub(crate) record: &'e Rc<Record>,
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
pub(crate) enum Failed {
    /// No endpoint can be reached.
    Unreachable(Unreachable),
    /// The service went away before it answered, or what it said is no HTTP.
    Lost(Lost),
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
pub(crate) enum Lost {
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

impl Failed {
    /// What may be tried again, as routes put it.
    fn kind(&self) -> Option<Failure> {
        match self {
            Failed::Unreachable(it) if it.reason == Reason::Overloaded => None,
            Failed::Unreachable(_) => Some(Failure::Connect),
            Failed::Lost(Lost::Refused) => Some(Failure::Refused),
            // It would be as long again.
            Failed::Lost(Lost::HeadTooLarge) => None,
            Failed::Lost(_) | Failed::Taken(_) => Some(Failure::Reset),
            Failed::TimedOut => Some(Failure::PerTryTimeout),
            Failed::TooLarge | Failed::HeadTooLarge(_) | Failed::Client => None,
        }
    }

    /// What becomes of the attempt's operation at its endpoint.
    fn outcome(&self) -> Outcome {
        match self {
            Failed::Taken(_) | Failed::TooLarge | Failed::Client => Outcome::Cancelled,
            // The endpoint is well: it is the proxy that has a limit, or the client that is over one.
            Failed::HeadTooLarge(_) | Failed::Lost(Lost::HeadTooLarge) => Outcome::Cancelled,
            Failed::Unreachable(_) | Failed::Lost(_) | Failed::TimedOut => Outcome::Lost,
        }
    }
}

/// Where an attempt has got to.
type Place = RefCell<Option<Endpoint>>;

impl Errand<'_> {
    /// Sends the request until it is answered, or may be tried no more. `failure` is what an
    /// answer says that may be tried again, and how long the service wants that to wait: `None` if
    /// it waits for too long.
    pub(crate) async fn run(
        &self,
        mut attempting: Option<Attempting>,
        failure: impl AsyncFn(&mut Answered) -> Option<(Failure, Option<Duration>)>,
    ) -> Result<Box<Answered>, Failed> {
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
                self.record.facts.flag(Flags::PUSHED_BACK);
                return result;
            };
            if !self.source.is_whole() {
                self.record.facts.flag(Flags::TOO_LARGE_TO_RETRY);
                return result;
            }
            if attempting.as_mut().is_some_and(|it| !it.may_retry(&retry.budget)) {
                self.record.facts.flag(Flags::RETRY_BUDGET);
                return result;
            }
            number += 1;
            if let Some(trip) = result.ok().and_then(|answered| answered.trip) {
                trip.over(Outcome::Failed);
            }
            self.record.facts.flag(Flags::RETRIED);
            sleep(wait + retry.backoff.wait(number, fastrand::f64())).await;
        }
    }

    /// Makes one attempt, and another one beside it if that takes long and the route has it so.
    async fn hedged(&self, tried: &mut Vec<Endpoint>) -> Result<Box<Answered>, Failed> {
        let (one, two) = (Place::default(), Place::default());
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
        (one, two): (&Place, &Place),
        after: Duration,
    ) -> Result<Box<Answered>, Failed> {
        let mut first = pin!(self.timed(tried, one));
        if let Ok(result) = timeout(after, &mut first).await {
            return result;
        }
        // A body that is still coming can't be read by two.
        if !self.source.is_sent() || !self.source.is_whole() {
            return first.await;
        }
        self.record.facts.flag(Flags::HEDGED);
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
    async fn timed(&self, tried: &[Endpoint], at: &Place) -> Result<Box<Answered>, Failed> {
        let most = self.route.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let Some(most) = most else { return self.attempt(tried, at).await };
        let mut attempt = pin!(self.attempt(tried, at));
        if let Ok(result) = timeout(most, &mut attempt).await {
            return result;
        }
        self.record.gives_up.set(Outcome::Lost);
        Err(Failed::TimedOut)
    }

    /// Makes one attempt; and another one if the connection was stale: kept from before, and
    /// closed by the service just when it was needed.
    async fn attempt(&self, tried: &[Endpoint], at: &Place) -> Result<Box<Answered>, Failed> {
        self.record.gives_up.set(Outcome::Cancelled);
        let mut reached = self.pool.reach(self.hash, tried, &self.record.facts.waits).await;
        loop {
            let mut wire = match reached {
                Ok(wire) => wire,
                Err(unreachable) => {
                    let attempts = &self.record.facts.attempts;
                    attempts.set(attempts.get() + 1);
                    self.went(None);
                    return Err(Failed::Unreachable(unreachable));
                }
            };
            let facts = &self.record.facts;
            facts.attempts.set(facts.attempts.get() + 1);
            self.went(Some(&wire));
            let endpoint = wire.lease().endpoint().clone();
            *at.borrow_mut() = Some(endpoint.clone());
            let trip = Underway::begin(wire.lease(), self.record);
            let fresh = wire.is_fresh();
            let failed = match self.heeds(&mut wire).await {
                Ok(response) => {
                    let (mut head, body) = response.into_parts();
                    if let Err(lost) = self.reads(&mut head) {
                        let failed = Failed::Lost(lost);
                        trip.over(failed.outcome());
                        return Err(failed);
                    }
                    let trip = trip.answered();
                    let body = Body::Incoming(body);
                    return Ok(Box::new(Answered { head, body, wire, trip }));
                }
                Err(failed) => failed,
            };
            trip.over(failed.outcome());
            let stale = !fresh
                && matches!(failed, Failed::Lost(Lost::Reset | Lost::Refused))
                && self.source.is_whole()
                && (failed.did_nothing() || retry::is_safe_to_repeat(&self.head.method, true));
            if !stale {
                return Err(failed);
            }
            facts.flag(Flags::STALE);
            reached = self.pool.fresh(self.hash, endpoint, &facts.waits).await;
        }
    }

    /// Whether an answer's head is one that may go on.
    fn reads(&self, head: &mut response::Parts) -> Result<(), Lost> {
        let long = || hygiene::length::in_http2(&head.headers) > self.pool.max_head();
        if head.version >= Version::HTTP_2 && long() {
            return Err(Lost::HeadTooLarge);
        }
        hygiene::length::answer(head).map_err(|_| Lost::Contradicts)
    }

    fn went(&self, wire: Option<&Wire>) {
        let cluster = Arc::clone(self.pool.cluster().name());
        let endpoint = wire.map(|wire| Arc::clone(wire.lease().name()));
        let version = if self.pool.speaks_http2() { Version::HTTP_2 } else { Version::HTTP_11 };
        let version = wire.map(|_| version);
        self.record.facts.went.set(Some(Went { cluster, endpoint, version }));
    }

    /// Sends the request, for as long as the endpoint wants it.
    async fn heeds(&self, wire: &mut Wire) -> Result<Response<Incoming>, Failed> {
        let (lease, record) = (Rc::clone(wire.lease()), self.record);
        let (mut heed, version) = (Heed::default(), record.facts.version);
        select! {
            biased;
            sent = self.send(wire) => sent,
            close = poll_fn(|cx| heed.poll(cx, &record.visit, version, &*lease)) => {
                Err(Failed::Taken(close))
            }
        }
    }

    async fn send(&self, wire: &mut Wire) -> Result<Response<Incoming>, Failed> {
        let mut body = Upload::new(&self.source, Some(self.record));
        body.paced(self.pace.map(crate::pace::Pace::new));
        let mut request = Request::from_parts(self.head.clone(), body);
        let (http2, endpoint) = (self.pool.speaks_http2(), Rc::clone(wire.lease()));
        address(&mut request, self.authority.as_ref(), endpoint.name(), http2);
        if let Some(limit) = wire.over_limit(&request).await {
            return Err(Failed::HeadTooLarge(limit));
        }
        if !self.pool.speaks_http2() {
            self.listen(&mut request);
        }
        let answer = wire.send(request).await;
        self.broke_off()?;
        answer.map_err(|error| Failed::Lost(lost(&error)))
    }

    /// Whether the request's body came to no good end.
    fn broke_off(&self) -> Result<(), Failed> {
        match self.source.state() {
            State::TooLarge => Err(Failed::TooLarge),
            State::Broken => Err(Failed::Client),
            State::Fine | State::NotKept => Ok(()),
        }
    }

    /// Hears what a service of HTTP/1.1 says before its answer.
    fn listen(&self, request: &mut Request<Upload>) {
        let wanted = self.waits.then(|| {
            let wanted = Arc::new(Wanted::default());
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

impl Failed {
    /// Whether the service can't have acted on it.
    fn did_nothing(&self) -> bool {
        matches!(self, Failed::Lost(Lost::Refused))
    }
}

/// Whether a route has it that such a failure is tried again.
fn covers(retry: &Retry, failure: Failure, method: &Method) -> bool {
    let on = &retry.on;
    match failure {
        // Nothing was done, and so nothing is done twice. What gRPC's clients are told then is
        // UNAVAILABLE, and of a try that took too long DEADLINE_EXCEEDED.
        Failure::Connect => on.connect_failure || on.grpc(UNAVAILABLE),
        Failure::Refused => on.refused_stream || on.reset || on.grpc(UNAVAILABLE),
        Failure::Reset => (on.reset || on.grpc(UNAVAILABLE)) && retry.repeats(method),
        Failure::PerTryTimeout => {
            (on.statuses.contains(504) || on.grpc(DEADLINE_EXCEEDED)) && retry.repeats(method)
        }
        Failure::Status(status) => on.statuses.contains(status) && retry.repeats(method),
        Failure::Code(code) => on.grpc(code.into()) && retry.repeats(method),
    }
}

/// How an attempt was lost.
fn lost(error: &TrySendError<Request<Upload>>) -> Lost {
    if error.message().is_some() {
        return Lost::Refused;
    }
    let error = error.error();
    let reason = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    let unprocessed = reason.is_some_and(|it| {
        it.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR))
    });
    match () {
        () if unprocessed => Lost::Refused,
        () if reason.is_some_and(|it| it.is_reset() && it.is_remote()) => Lost::Stream,
        () if error.is_parse_too_large() => Lost::HeadTooLarge,
        () if error.is_parse() => Lost::Unreadable,
        () if reason.is_some_and(|it| it.is_reset() && it.is_library()) => Lost::Unreadable,
        () => Lost::Reset,
    }
}

#[cfg(test)]
mod tests;
