//! When a request takes too long, and for whom.

use super::Serving;
use crate::upload::Source;
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
pub(crate) enum Late {
    Route(Duration),
    Policy(Limit),
    Client,
    Idle,
    /// The client's own, for sending its request.
    Request,
}

impl Serving {
    /// Ready when it took too long.
    pub(crate) async fn late(&self, went_on: Instant, source: Option<&Source>) -> Late {
        loop {
            let now = Instant::now();
            let Some((due, late)) = self.due(went_on, now, source) else { return pending().await };
            if due <= now {
                // How long a client waits says nothing of the service.
                if !matches!(late, Late::Client | Late::Request) {
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
        let timeout = self.asked.route.timeout;
        let most = if timeout.is_some() { Duration::MAX } else { LONGEST_PUSHBACK };
        let due = self.due(went_on, now, None);
        due.map_or(most, |(due, _)| most.min(due.saturating_duration_since(now)))
    }

    /// When it takes too long, and for whom.
    fn due(
        &self,
        went_on: Instant,
        now: Instant,
        source: Option<&Source>,
    ) -> Option<(Instant, Late)> {
        let (record, route) = (&self.record, &self.asked.route);
        let limit = self.terms.limit.as_ref();
        let dues = [
            route.timeout.map(|it| (record.sent.get().unwrap_or(now) + it, Late::Route(it))),
            limit.map(|it| (went_on + it.after, Late::Policy(it.clone()))),
            self.asked.patience.map(|it| (record.began + it, Late::Client)),
            route.idle_timeout.map(|it| (record.moved.get().max(went_on) + it, Late::Idle)),
            source.and_then(|it| Some((self.request_due(it)?, Late::Request))),
        ];
        dues.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// When all of the request is to be here, for as long as it is not.
    fn request_due(&self, source: &Source) -> Option<Instant> {
        if source.is_sent() || source.lacks_only_its_end() {
            return None;
        }
        let (visit, record) = (&self.visit, &self.record);
        let since = match record.facts.version < Version::HTTP_2 {
            true => visit.notes.owes_since.get()?,
            false if visit.server.dialect.streams() => return None,
            false => record.began,
        };
        Some(since + visit.door.patience().message?)
    }
}
