//! When a request takes too long, and for whom.

use super::AdmittedRequest;
use crate::upload::ReplayBody;
use http::Version;
use operation::{Limit, Outcome};
use std::{
    future::pending,
    time::{Duration, Instant},
};
use tokio::time::sleep_until;

/// The longest that a service may have a request wait whose route has no time-out.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(15);

/// Whose time is over.
pub(crate) enum RequestTimeout {
    Route(Duration),
    Policy(Limit),
    Client,
    Idle,
    /// The client's own: nothing of its request came for so long.
    Pause(Duration),
    /// …or its request has not ended in so long.
    Request(Duration),
}

impl AdmittedRequest {
    /// Ready when it took too long.
    pub(crate) async fn late(
        &self,
        went_on: Instant,
        source: Option<&ReplayBody>,
    ) -> RequestTimeout {
        loop {
            let now = Instant::now();
            let Some((due, late)) = self.due(went_on, now, source) else { return pending().await };
            if due <= now {
                // How long a client waits says nothing of the service.
                if !matches!(
                    late,
                    RequestTimeout::Client | RequestTimeout::Pause(_) | RequestTimeout::Request(_)
                ) {
                    self.record.gives_up.set(Outcome::Lost);
                }
                return late;
            }
            sleep_until(due.into()).await;
        }
    }

    /// How long a request that was read may still rest.
    pub(super) fn left(&self, went_on: Instant) -> Duration {
        let now = Instant::now();
        let route = &self.asked.route;
        let most = if route.timeout.or(route.total_timeout).is_some() {
            Duration::MAX
        } else {
            LONGEST_PUSHBACK
        };
        let due = self.due(went_on, now, None);
        due.map_or(most, |(due, _)| most.min(due.saturating_duration_since(now)))
    }

    /// When it takes too long, and for whom.
    fn due(
        &self,
        went_on: Instant,
        now: Instant,
        source: Option<&ReplayBody>,
    ) -> Option<(Instant, RequestTimeout)> {
        let (record, route) = (&self.record, &self.asked.route);
        let limit = self.terms.limit.as_ref();
        let sent = record.sent.get().unwrap_or(now);
        let [pause, request] = self.request_dues(now, source);
        let dues = [
            route.timeout.map(|it| (sent + it, RequestTimeout::Route(it))),
            route.total_timeout.map(|it| (sent + it, RequestTimeout::Route(it))),
            limit.map(|it| (went_on + it.after, RequestTimeout::Policy(it.clone()))),
            self.asked.patience.map(|it| (record.began + it, RequestTimeout::Client)),
            route
                .idle_timeout
                .map(|it| (record.moved.get().max(went_on) + it, RequestTimeout::Idle)),
            pause,
            request,
        ];
        dues.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// When more of the request is to be here, and when all of it, for as long as it is not.
    fn request_dues(
        &self,
        now: Instant,
        source: Option<&ReplayBody>,
    ) -> [Option<(Instant, RequestTimeout)>; 2] {
        let due = source.filter(|it| !it.is_sent() && !it.lacks_only_its_end());
        let Some(source) = due else { return [None, None] };
        let (visit, record) = (&self.visit, &self.record);
        let http2 = record.facts.version >= Version::HTTP_2;
        if http2 && visit.server.dialect.streams() {
            return [None, None];
        }
        // Where the service is the slow one, nobody waits for the client.
        let waits = if http2 { source.waits_since() } else { visit.notes.owes_since.get() };
        let pause = visit.door.patience().message;
        [
            pause.map(|it| (waits.unwrap_or(now) + it, RequestTimeout::Pause(it))),
            visit
                .server
                .plan
                .request_timeout
                .map(|it| (record.began + it, RequestTimeout::Request(it))),
        ]
    }
}
