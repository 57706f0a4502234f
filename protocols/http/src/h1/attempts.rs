//! The attempts of a request, each at an endpoint, until one has a response that counts.

use super::{
    attributes::HeadAttributes,
    field::header_map,
    operation::ActiveRequest,
    request::{ClientRequest, Failure},
    response_head::ResponseLength,
    upload::{AwaitedResponse, Awaiting},
};
use crate::{
    admitted_request::time_left,
    pool::{Pool, Unreachable},
    request_attributes::RequestFlags,
    retry::{AttemptFailure, is_safe_to_repeat},
    routes::RetryPolicy,
    upstream_conn::{H1Connection, UpstreamConn},
    upstream_error::UpstreamError,
    upstream_request::{AttemptError, NoRetry, RetryState},
};
use cluster::Endpoint;
use http::{Method, Version};
use operation::Outcome;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::time::sleep;

impl ClientRequest<'_> {
    /// Sends the request until it has a response, or may not be sent again.
    ///
    /// # Errors
    /// Why it has no response.
    pub(super) async fn send(
        &mut self,
        attributes: &HeadAttributes<'_>,
        operation: &mut ActiveRequest<'_>,
        awaiting: &mut Awaiting<'_>,
    ) -> Result<AwaitedResponse, Failure> {
        let route = &awaiting.matched.routed.route;
        let Some(policy) = &route.retry else {
            return self.attempt(attributes, operation, awaiting, &mut Vec::new()).await;
        };
        let in_flight = self.link.server.begin_request(route);
        let mut retries = RetryState::new(policy, in_flight);
        let mut tried = Vec::new();
        loop {
            awaiting.attempt_due = policy.per_try_timeout.map(|most| Instant::now() + most);
            let result = self.attempt(attributes, operation, awaiting, &mut tried).await;
            awaiting.attempt_due = None;
            let Some(failure) = self.failure(&result, policy, awaiting) else { return result };
            let replayable = awaiting.upload.is_replayable();
            let wait = match retries.next_wait(failure, &self.method(), replayable) {
                Ok(wait) => wait,
                Err(NoRetry(flag)) => {
                    flag.iter().for_each(|flag| attributes.progress.add_flag(*flag));
                    return result;
                }
            };
            if let Ok(response) = result {
                operation.end_attempt(Outcome::Failed);
                let sent = !awaiting.upload.is_incomplete(awaiting.out, &self.incoming);
                response.discard(awaiting.pool, sent);
            }
            attributes.progress.add_flag(RequestFlags::RETRIED);
            awaiting.upload.restart();
            self.pause(wait, awaiting).await?;
        }
    }

    fn method(&self) -> Method {
        Method::from_bytes(self.head.method.of(self.bytes)).unwrap_or_default()
    }

    /// How an attempt failed, as the retry policy sees it, and the pause that the service wants; `None` for the
    /// pause: it is too long.
    fn failure(
        &self,
        result: &Result<AwaitedResponse, Failure>,
        policy: &RetryPolicy,
        awaiting: &Awaiting<'_>,
    ) -> Option<(AttemptFailure, Option<Duration>)> {
        match result {
            Ok(AwaitedResponse { head, reply, .. }) => {
                let status = head.status.as_u16();
                if !policy.on.statuses.contains(status) {
                    return None;
                }
                let headers = header_map(reply.bytes(), awaiting.response_fields.iter());
                let pushback = self.link.server.dialect.pushback(&headers);
                let due = || self.response_deadline(awaiting).map(|(due, _)| due);
                let pause = pushback.within(|| time_left(&awaiting.matched.routed.route, due()));
                Some((AttemptFailure::Status(status), pause))
            }
            Err(Failure::Attempt(error)) => Some((error.failure()?, Some(Duration::ZERO))),
            Err(_) => None,
        }
    }

    /// Waits before the next attempt.
    async fn pause(&mut self, wait: Duration, awaiting: &Awaiting<'_>) -> Result<(), Failure> {
        let mut waiting = pin!(sleep(wait));
        poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_interrupt_unread(cx, awaiting).map(Err),
        })
        .await
    }

    /// Sends the request, and waits for the head of its response. Once more, if a kept connection was closed by the
    /// service meanwhile. Adds the endpoint to those that were tried.
    async fn attempt(
        &mut self,
        attributes: &HeadAttributes<'_>,
        operation: &mut ActiveRequest<'_>,
        awaiting: &mut Awaiting<'_>,
        tried: &mut Vec<Arc<Endpoint>>,
    ) -> Result<AwaitedResponse, Failure> {
        let pool = awaiting.pool;
        let hash = pool.cluster().hash_client(self.link.session.info().peer.ip());
        let mut conn = {
            let connecting = pin!(pool.get(hash, tried, &attributes.progress.wait_times));
            self.connect(attributes, awaiting, connecting).await?
        };
        if awaiting.matched.routed.route.retry.is_some() {
            tried.push(Arc::clone(conn.lease().endpoint()));
        }
        loop {
            let (fresh, lease) = (conn.requests == 0, Rc::clone(conn.lease()));
            let endpoint = Arc::clone(lease.endpoint());
            conn.requests += 1;
            let reached = (lease.endpoint().name(), Version::HTTP_11);
            attributes.progress.set_target(pool.cluster().name(), Some(reached));
            operation.start_attempt(&lease);
            let error = match self.await_response(conn, operation, awaiting).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            operation.end_attempt(error.outcome());
            let Failure::Attempt(AttemptError::Upstream(lost)) = error else { return Err(error) };
            if fresh
                && matches!(lost, UpstreamError::ConnectionReset | UpstreamError::InvalidResponse)
            {
                lease.record_no_answer();
            }
            let repeats = !fresh
                && lost == UpstreamError::ConnectionReset
                && awaiting.upload.is_repeatable()
                && is_safe_to_repeat(&self.method(), awaiting.upload.has_sent());
            if !repeats {
                return Err(error);
            }
            attributes.progress.add_flag(RequestFlags::STALE);
            awaiting.upload.restart();
            let again = pin!(pool.connect_new(hash, endpoint, &attributes.progress.wait_times));
            conn = self.connect(attributes, awaiting, again).await?;
        }
    }

    /// Waits for a connection to an endpoint.
    async fn connect(
        &mut self,
        attributes: &HeadAttributes<'_>,
        awaiting: &Awaiting<'_>,
        mut connecting: Pin<&mut impl Future<Output = Result<UpstreamConn, Unreachable>>>,
    ) -> Result<Box<H1Connection>, Failure> {
        let reached = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(reached) => Poll::Ready(Ok(reached)),
            Poll::Pending => self.poll_interrupt_unread(cx, awaiting).map(Err),
        });
        let reached = reached.await?;
        attributes.progress.attempts.set(attributes.progress.attempts.get() + 1);
        match reached {
            Ok(UpstreamConn::H1(conn)) => Ok(conn),
            Ok(UpstreamConn::H2Stream(_)) => Err(UpstreamError::Refused.into()),
            Err(unreachable) => {
                attributes.progress.set_target(awaiting.pool.cluster().name(), None);
                Err(Failure::Attempt(AttemptError::Unreachable(unreachable)))
            }
        }
    }
}

impl AwaitedResponse {
    /// Drops a response that does not go to the client. Its connection is kept if the request was sent and all of the
    /// response is here.
    fn discard(self, pool: &Pool, sent: bool) {
        let Self { conn, reply, head } = self;
        let here = (reply.len() - head.len) as u64;
        let complete = head.length == ResponseLength::Length(here) && !head.last;
        if complete && sent {
            pool.put(UpstreamConn::H1(conn));
        }
    }
}
