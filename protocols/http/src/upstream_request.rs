//! Sends a request to an endpoint, and to another endpoint if the attempt fails and the route has a
//! retry policy.

mod retry_state;
mod target;
mod upstream_response;

pub(crate) use retry_state::{NoRetry, RetryState};
pub(crate) use target::set_target;
pub(crate) use upstream_response::UpstreamResponse;

use crate::{
    active_operation::{ActiveOperation, PendingAttempt},
    attempt_span::AttemptSpan,
    body::Body,
    client_connection::CloseWatcher,
    header_policy,
    pool::{Pool, Unreachable},
    request_attributes::RequestFlags,
    request_body::{BodyState, ContinueSignal, ReplayBody, RequestBody},
    retry::{self, AttemptFailure, RequestInFlight},
    routes::Route,
    upstream_conn::UpstreamConn,
    upstream_error::UpstreamError,
};
use cluster::Endpoint;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request, response};
use operation::{Close, Outcome, RejectReason};
use std::{
    cell::RefCell,
    future::poll_fn,
    num::NonZeroU64,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    select,
    time::{sleep, timeout},
};

/// A request to be sent upstream. It can be sent by any number of attempts.
pub(crate) struct UpstreamRequest<'e> {
    pub(crate) head: &'e request::Parts,
    /// Value of `host` or `:authority` upstream: `shop.example:8080`.
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) body: Rc<ReplayBody>,
    pub(crate) operation: &'e Rc<ActiveOperation>,
    pub(crate) route: &'e Route,
    pub(crate) pool: &'e Rc<Pool>,
    pub(crate) hash: Option<u64>,
    /// Bytes of request body per second, if a policy limits them.
    pub(crate) throttle: Option<NonZeroU64>,
    /// The client sent `expect: 100-continue` and holds its body back.
    pub(crate) expects_continue: bool,
    /// The body is sent only once all of it has been read.
    pub(crate) buffer_request: bool,
}

/// Why an attempt has no response.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// No connection to an endpoint could be made.
    Unreachable(Unreachable),
    /// The connection failed before the response, or the response is invalid.
    Upstream(UpstreamError),
    /// The endpoint asked for its connections to be closed (removed, ejected, drained).
    EndpointClosed(Close),
    /// The attempt exceeded `per_try_timeout`.
    TimedOut,
    /// The request's body exceeds `max_request_body`.
    TooLarge,
    /// The request's head exceeds the endpoint's limit, given here in bytes.
    HeadTooLarge(u32),
    /// The client aborted the request.
    ClientAborted,
}

impl AttemptError {
    /// The failure that routes may retry on; `None` if it must not be retried.
    pub(crate) fn failure(&self) -> Option<AttemptFailure> {
        match self {
            AttemptError::Unreachable(it) if it.reason == RejectReason::Overloaded => None,
            AttemptError::Unreachable(_) => Some(AttemptFailure::Connect),
            AttemptError::Upstream(UpstreamError::Refused) => Some(AttemptFailure::Refused),
            // A second response would be as long.
            AttemptError::Upstream(UpstreamError::HeadTooLarge) => None,
            AttemptError::Upstream(_) | AttemptError::EndpointClosed(_) => {
                Some(AttemptFailure::Reset)
            }
            AttemptError::TimedOut => Some(AttemptFailure::PerTryTimeout),
            AttemptError::TooLarge
            | AttemptError::HeadTooLarge(_)
            | AttemptError::ClientAborted => None,
        }
    }

    /// The outcome that is recorded at the endpoint.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            AttemptError::EndpointClosed(_)
            | AttemptError::TooLarge
            | AttemptError::ClientAborted => Outcome::Cancelled,
            // The endpoint is healthy: the limit is the proxy's, or the client exceeds the
            // endpoint's limit.
            AttemptError::HeadTooLarge(_) | AttemptError::Upstream(UpstreamError::HeadTooLarge) => {
                Outcome::Cancelled
            }
            AttemptError::Unreachable(_) | AttemptError::Upstream(_) | AttemptError::TimedOut => {
                Outcome::Lost
            }
        }
    }
}

/// The endpoint that an attempt was sent to, once it is known.
type AttemptEndpoint = RefCell<Option<Arc<Endpoint>>>;

impl UpstreamRequest<'_> {
    /// Sends the request until it has a response or may not be retried. `failure` classifies a
    /// response: what a route may retry on, and how long the service wants the retry to wait
    /// (`None`: too long).
    pub(crate) async fn send_with_retries(
        &self,
        in_flight: Option<RequestInFlight>,
        failure: impl AsyncFn(&mut UpstreamResponse) -> Option<(AttemptFailure, Option<Duration>)>,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        if self.buffer_request {
            self.body.read_first_piece().await;
            self.check_request_body()?;
        }
        let policy = self.route.retry.as_ref();
        let mut retries = policy.map(|policy| RetryState::new(policy, in_flight));
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let mut result = self.send_hedged(&mut tried).await;
            let Some(retries) = &mut retries else { return result };
            let failure = match &mut result {
                Ok(response) => failure(response).await,
                Err(failed) => failed.failure().map(|kind| (kind, Some(Duration::ZERO))),
            };
            let Some(failure) = failure else { return result };
            let next = retries.next_wait(failure, &self.head.method, self.body.is_replayable());
            let wait = match next {
                Ok(wait) => wait,
                Err(NoRetry(flag)) => {
                    flag.iter().for_each(|flag| self.operation.attributes.progress.add_flag(*flag));
                    return result;
                }
            };
            if let Some(attempt) = result.ok().and_then(|response| response.attempt) {
                attempt.finish(Outcome::Failed, Instant::now());
            }
            self.operation.attributes.progress.add_flag(RequestFlags::RETRIED);
            sleep(wait).await;
        }
    }

    /// Makes one attempt, and a second one in parallel if the first is slow and the route has
    /// `hedge`.
    async fn send_hedged(
        &self,
        tried: &mut Vec<Arc<Endpoint>>,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let (one, two) = (AttemptEndpoint::default(), AttemptEndpoint::default());
        let before = tried.clone();
        let result = match self.route.hedge {
            None => self.attempt_with_timeout(&before, &one).await,
            Some(after) => Box::pin(self.race_hedge(&before, (&one, &two), after)).await,
        };
        tried.extend(one.into_inner());
        tried.extend(two.into_inner());
        result
    }

    async fn race_hedge(
        &self,
        tried: &[Arc<Endpoint>],
        (one, two): (&AttemptEndpoint, &AttemptEndpoint),
        after: Duration,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let mut first = pin!(self.attempt_with_timeout(tried, one));
        if let Ok(result) = timeout(after, &mut first).await {
            return result;
        }
        // A body that is still arriving cannot be read by two attempts.
        if !self.body.is_read_to_end() || !self.body.is_replayable() {
            return first.await;
        }
        self.operation.attributes.progress.add_flag(RequestFlags::HEDGED);
        let beside: Vec<_> = tried.iter().cloned().chain(one.borrow().clone()).collect();
        let mut second = pin!(self.attempt_with_timeout(&beside, two));
        select! {
            result = &mut first => match result {
                Ok(response) => Ok(response),
                Err(_) => second.await,
            },
            result = &mut second => match result {
                Ok(response) => Ok(response),
                Err(_) => first.await,
            },
        }
    }

    /// Makes one attempt, at most as long as `per_try_timeout`.
    async fn attempt_with_timeout(
        &self,
        tried: &[Arc<Endpoint>],
        at: &AttemptEndpoint,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        let most = self.route.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let Some(most) = most else { return self.attempt(tried, at).await };
        let mut attempt = pin!(self.attempt(tried, at));
        if let Ok(result) = timeout(most, &mut attempt).await {
            return result;
        }
        self.operation.abandoned_outcome.set(Outcome::Lost);
        Err(AttemptError::TimedOut)
    }

    /// Makes one attempt, and one more if a pooled connection turned out to be stale, that is,
    /// closed by the service as the request was sent.
    async fn attempt(
        &self,
        tried: &[Arc<Endpoint>],
        at: &AttemptEndpoint,
    ) -> Result<Box<UpstreamResponse>, AttemptError> {
        self.operation.abandoned_outcome.set(Outcome::Cancelled);
        let attributes = &self.operation.attributes;
        let cluster = self.pool.cluster().name();
        let mut span = AttemptSpan::begin(attributes, cluster);
        let mut reached =
            self.pool.get(self.hash, tried, &self.operation.attributes.progress.wait_times).await;
        loop {
            let mut conn = match reached {
                Ok(conn) => conn,
                Err(unreachable) => return Err(self.unreached(unreachable, span)),
            };
            let attributes = &self.operation.attributes;
            attributes.progress.attempts.set(attributes.progress.attempts.get() + 1);
            self.record_target(Some(&conn));
            let endpoint = conn.lease().endpoint().clone();
            *at.borrow_mut() = Some(endpoint.clone());
            let attempt = PendingAttempt::start(conn.lease(), self.operation, span.take());
            let fresh = conn.is_new();
            let failed = match self.send_until_closed(&mut conn, &attempt).await {
                Ok(response) => {
                    let (mut head, body) = response.into_parts();
                    if let Err(lost) = self.check_head(&mut head) {
                        let failed = AttemptError::Upstream(lost);
                        attempt.finish(failed.outcome());
                        return Err(failed);
                    }
                    let mut attempt = attempt.into_guard();
                    if let Some(attempt) = &mut attempt {
                        attempt.set_response(head.status, conn.version());
                    }
                    return Ok(Box::new(UpstreamResponse { head, body, conn, attempt }));
                }
                Err(failed) => failed,
            };
            attempt.finish(failed.outcome());
            if fresh && failed.is_no_answer() {
                conn.lease().record_no_answer();
            }
            let stale = !fresh
                && matches!(
                    failed,
                    AttemptError::Upstream(UpstreamError::ConnectionReset | UpstreamError::Refused)
                )
                && self.body.is_replayable()
                && (failed.is_unprocessed() || retry::is_safe_to_repeat(&self.head.method, true));
            if !stale {
                return Err(failed);
            }
            attributes.progress.add_flag(RequestFlags::STALE);
            span = AttemptSpan::begin(attributes, cluster);
            reached =
                self.pool.connect_new(self.hash, endpoint, &attributes.progress.wait_times).await;
        }
    }

    /// Records an attempt that has reached no endpoint.
    fn unreached(&self, unreachable: Unreachable, span: Option<AttemptSpan>) -> AttemptError {
        let attempts = &self.operation.attributes.progress.attempts;
        attempts.set(attempts.get() + 1);
        self.record_target(None);
        if let Some(span) = span {
            span.finish(Outcome::Lost, Instant::now());
        }
        AttemptError::Unreachable(unreachable)
    }

    /// Checks the response's head, and normalizes its length headers.
    fn check_head(&self, head: &mut response::Parts) -> Result<(), UpstreamError> {
        let long = || header_policy::length::h2_size(&head.headers) > self.pool.max_head();
        if head.version >= Version::HTTP_2 && long() {
            return Err(UpstreamError::HeadTooLarge);
        }
        header_policy::length::normalize_response(head)
            .map_err(|_| UpstreamError::ConflictingLength)
    }

    fn record_target(&self, conn: Option<&UpstreamConn>) {
        let endpoint = conn.map(|conn| (conn.lease().endpoint().name(), conn.version()));
        self.operation.attributes.progress.set_target(self.pool.cluster().name(), endpoint);
    }

    /// Sends the request. Ends early when the endpoint wants the connection closed.
    async fn send_until_closed(
        &self,
        conn: &mut UpstreamConn,
        attempt: &PendingAttempt<'_>,
    ) -> Result<Response<Body>, AttemptError> {
        let (lease, operation) = (Rc::clone(conn.lease()), self.operation);
        let (mut watcher, version) = (CloseWatcher::default(), operation.attributes.version);
        select! {
            biased;
            sent = self.send(conn, attempt) => sent,
            close = poll_fn(|cx| watcher.poll(cx, &operation.connection, version, &lease)) => {
                Err(AttemptError::EndpointClosed(close))
            }
        }
    }

    async fn send(
        &self,
        conn: &mut UpstreamConn,
        attempt: &PendingAttempt<'_>,
    ) -> Result<Response<Body>, AttemptError> {
        let mut body = RequestBody::new(&self.body, Some(self.operation));
        body.set_throttle(self.throttle.map(crate::throttle::Throttle::new));
        let mut request = Request::from_parts(self.head.clone(), body);
        attempt.send_in(request.headers_mut());
        let (http2, name) = (conn.http2_scheme(), conn.lease().endpoint().name());
        set_target(&mut request, self.authority.as_ref(), name, http2);
        if let Some(limit) = conn.exceeded_head_limit(&request).await {
            return Err(AttemptError::HeadTooLarge(limit));
        }
        if conn.version() == Version::HTTP_11 {
            self.handle_informational(&mut request);
        }
        let answer = conn.send(request).await;
        self.check_request_body()?;
        answer.map_err(AttemptError::Upstream)
    }

    /// Returns an error if the request's body is too large or was aborted.
    fn check_request_body(&self) -> Result<(), AttemptError> {
        match self.body.state() {
            BodyState::TooLarge => Err(AttemptError::TooLarge),
            BodyState::Aborted => Err(AttemptError::ClientAborted),
            BodyState::Readable | BodyState::TooLargeToReplay => Ok(()),
        }
    }

    /// Handles 1xx responses of an HTTP/1.1 service.
    fn handle_informational(&self, request: &mut Request<RequestBody>) {
        let wanted = self.expects_continue.then(|| {
            let wanted = Arc::new(ContinueSignal::default());
            request.body_mut().hold_until(&wanted);
            let expect = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, expect);
            wanted
        });
        // HTTP/2 clients get no 1xx, and HTTP/1.0 does not have them.
        let client = self.operation.attributes.version == Version::HTTP_11;
        let early = client.then(|| Arc::clone(&self.operation.connection.state.informational));
        hyper::ext::on_informational(request, move |told| match (told.status(), &wanted, &early) {
            (StatusCode::CONTINUE, Some(wanted), _) => wanted.set(),
            (StatusCode::CONTINUE, None, _) | (_, _, None) => {}
            (status, _, Some(early)) => early.push(status, told.headers()),
        });
    }
}

impl AttemptError {
    /// Whether the service cannot have processed the request.
    fn is_unprocessed(&self) -> bool {
        matches!(self, AttemptError::Upstream(UpstreamError::Refused))
    }

    /// Whether the service has closed the connection, or sent what is no HTTP.
    fn is_no_answer(&self) -> bool {
        use UpstreamError::{ConnectionReset, InvalidResponse};
        matches!(self, AttemptError::Upstream(ConnectionReset | InvalidResponse))
    }
}

#[cfg(test)]
mod tests;
