//! Timeouts of a request before its response.

use super::AdmittedRequest;
use crate::{earliest::Earliest, request_body::ReplayBody, routes::Route};
use http::Version;
use operation::{Outcome, ReplyTimeout};
use std::{
    future::pending,
    time::{Duration, Instant},
};
use tokio::time::sleep_until;

/// Longest pause that a service may demand on a route without timeout.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(15);

/// Which timeout expired.
pub(crate) enum RequestTimeout {
    Route(Duration),
    Policy(ReplyTimeout),
    Client,
    Idle,
    /// The client sent nothing of its request for this long.
    Pause(Duration),
    /// The client's request took longer than this.
    Request(Duration),
}

impl RequestTimeout {
    /// Whether it is the client's own, which does not blame the service.
    pub(crate) fn is_clients(&self) -> bool {
        use RequestTimeout::{Client, Pause, Request};
        matches!(self, Client | Pause(_) | Request(_))
    }
}

/// How long a retry may wait on this route, before this deadline.
pub(crate) fn time_left(route: &Route, due: Option<Instant>) -> Duration {
    let limited = route.timeout.or(route.total_timeout).is_some();
    let most = if limited { Duration::MAX } else { LONGEST_PUSHBACK };
    due.map_or(most, |due| most.min(due.saturating_duration_since(Instant::now())))
}

impl AdmittedRequest {
    /// Ready when a timeout expires.
    pub(crate) async fn timeout(
        &self,
        went_on: Instant,
        replay: Option<&ReplayBody>,
    ) -> RequestTimeout {
        let mut now = went_on;
        loop {
            let Some((due, late)) = self.next_deadline(went_on, now, replay) else {
                return pending().await;
            };
            if due <= now {
                if !late.is_clients() {
                    self.operation.abandoned_outcome.set(Outcome::Lost);
                }
                return late;
            }
            sleep_until(due.into()).await;
            now = Instant::now();
        }
    }

    /// How long a retry may wait.
    pub(super) fn time_left(&self, went_on: Instant) -> Duration {
        let due = self.next_deadline(went_on, Instant::now(), None);
        time_left(&self.routed.route, due.map(|(due, _)| due))
    }

    /// The first deadline, and its timeout.
    fn next_deadline(
        &self,
        went_on: Instant,
        now: Instant,
        replay: Option<&ReplayBody>,
    ) -> Option<(Instant, RequestTimeout)> {
        let (operation, route) = (&self.operation, &self.routed.route);
        let limit = self.terms.reply_timeout.as_ref();
        let sent = operation.request_sent.get().unwrap_or(now);
        let mut next = Earliest::default();
        next.add(Some(sent), route.timeout, RequestTimeout::Route);
        next.add(Some(sent), route.total_timeout, RequestTimeout::Route);
        if let Some(limit) = limit {
            let expired = |_| RequestTimeout::Policy(limit.clone());
            next.add(Some(went_on), Some(limit.after), expired);
        }
        let client_timeout = self.routed.client_timeout;
        next.add(Some(operation.started), client_timeout, |_| RequestTimeout::Client);
        let moved = operation.last_activity.get().max(went_on);
        next.add(Some(moved), route.idle_timeout, |_| RequestTimeout::Idle);
        if let Some(replay) = replay {
            self.add_request_deadlines(now, replay, &mut next);
        }
        next.take()
    }

    /// Adds the deadlines for the next byte of the request and for its end, while it is incomplete.
    fn add_request_deadlines(
        &self,
        now: Instant,
        replay: &ReplayBody,
        next: &mut Earliest<RequestTimeout>,
    ) {
        if replay.is_read_to_end() || replay.only_end_missing() {
            return;
        }
        let (connection, operation) = (&self.connection, &self.operation);
        let http2 = operation.attributes.version >= Version::HTTP_2;
        if http2 && connection.server.dialect.allows_endless_requests() {
            return;
        }
        // No timeout while a slow service blocks the client.
        let waits =
            if http2 { replay.waiting_since() } else { connection.state.incomplete_since.get() };
        let (waits, pause) = (waits.unwrap_or(now), connection.session.timeouts().message);
        next.add(Some(waits), pause, RequestTimeout::Pause);
        let request_timeout = connection.server.plan.request_timeout;
        next.add(Some(operation.started), request_timeout, RequestTimeout::Request);
    }
}
