//! Outlier detection: endpoints that fail what they are given are taken out of use for a while.

mod rates;
mod tally;
#[cfg(test)]
mod tests;

pub(super) use tally::Tally;

use super::{Cluster, Endpoint, Out, balance, events::Event};
use crate::config::plan::{OutlierPlan, SessionFailures};
use operation::Outcome;
use rates::Suspect;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{self, Instant};

/// How often operations are summed up for reports where there is no outlier detection.
const INTERVAL: Duration = Duration::from_secs(10);

/// What found out that an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detector {
    /// Failed operations in a row.
    ConsecutiveFailures,
    /// Operations lost and connections failed, in a row.
    ConsecutiveLocalFailures,
    /// A rate of successes far below that of the others.
    SuccessRate,
    /// Too many failures in a hundred operations.
    FailurePercentage,
    /// Somebody said so.
    Operator,
}

impl Detector {
    /// Each, in the order of their discriminants.
    pub(super) const ALL: [Detector; 5] = [
        Detector::ConsecutiveFailures,
        Detector::ConsecutiveLocalFailures,
        Detector::SuccessRate,
        Detector::FailurePercentage,
        Detector::Operator,
    ];

    /// The word that logs and metrics use.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Detector::ConsecutiveFailures => "consecutive_failures",
            Detector::ConsecutiveLocalFailures => "consecutive_local_failures",
            Detector::SuccessRate => "success_rate",
            Detector::FailurePercentage => "failure_percentage",
            Detector::Operator => "operator",
        }
    }
}

/// An ejection that lasts.
#[derive(Debug)]
pub(super) struct Ejection {
    pub(super) detector: Detector,
    pub(super) reason: String,
    /// How many in a row this is: 1 is the first.
    pub(super) count: u32,
    /// When it ends; `None` if an operator has to end it.
    pub(super) until: Option<Instant>,
}

impl Cluster {
    /// Takes note of how an operation on an endpoint ended, after it took so long. Called for
    /// each operation, by any worker: no lock, no allocation, unless it makes an ejection.
    pub(super) fn observe(&self, endpoint: &Arc<Endpoint>, outcome: Outcome, took: Duration) {
        endpoint.meters().operation(outcome, took);
        match outcome {
            Outcome::Ok | Outcome::Rejected => endpoint.tally.good(took),
            Outcome::Failed => {
                let run = endpoint.tally.failed(took);
                self.suspect_run(endpoint, Detector::ConsecutiveFailures, run);
            }
            Outcome::Lost => {
                let run = endpoint.tally.lost(took);
                self.suspect_run(endpoint, Detector::ConsecutiveLocalFailures, run);
            }
            Outcome::Cancelled => {}
        }
    }

    /// Whether a session that was lost, by a `reset` or for want of a reply, is its endpoint's
    /// failure. Some clients deserve no reply.
    pub(super) fn blames_for_session(&self, reset: bool) -> bool {
        match self.plan.outlier_detection.as_ref().map(|plan| plan.session_failures) {
            None | Some(SessionFailures::Reset) => reset,
            Some(SessionFailures::None) => false,
            Some(SessionFailures::NoReply) => true,
        }
    }

    /// Takes note of whether a connection to an endpoint came about.
    pub(super) fn observe_connect(&self, endpoint: &Arc<Endpoint>, connected: bool) {
        if connected {
            return endpoint.tally.connected();
        }
        let run = endpoint.tally.unconnected();
        self.suspect_run(endpoint, Detector::ConsecutiveLocalFailures, run);
    }

    /// Ejects an endpoint whose `run` of failures is long enough. A run that goes on although
    /// nothing came of it is looked at again each time that it is that much longer.
    fn suspect_run(&self, endpoint: &Arc<Endpoint>, detector: Detector, run: u32) {
        let Some(plan) = &self.plan.outlier_detection else { return };
        let (limit, what) = match detector {
            Detector::ConsecutiveFailures => (plan.consecutive_failures, "operations failed"),
            _ => (plan.consecutive_local_failures, "operations were lost or connections failed"),
        };
        // Who returns and fails at once is known already: nobody else has to pay for knowing.
        let on_probation = endpoint.tally.on_probation.load(Relaxed);
        let enough = on_probation || run.is_multiple_of(limit.max(1));
        if limit == 0 || !enough || endpoint.is_out(Out::Ejected) {
            return;
        }
        let reason = match on_probation {
            true => "it failed again right after its return".to_owned(),
            false => format!("{run} {what} in a row"),
        };
        let suspect = (detector, plan.enforcing_consecutive, reason);
        if self.eject_suspect(plan, endpoint, suspect) {
            self.refresh();
            self.wake.notify_one();
        }
    }

    /// Ejects who stands out, or tells why not. Who is told `true` has the set made anew.
    fn eject_suspect(
        &self,
        plan: &OutlierPlan,
        endpoint: &Arc<Endpoint>,
        (detector, enforcing, reason): (Detector, u8, String),
    ) -> bool {
        // Of all that are about to be ejected, each has to see those before it.
        let _ejecting = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.is_out(Out::Ejected) {
            return false;
        }
        let why_not = if balance::share() * 100.0 >= f64::from(enforcing) {
            Some("it is not enforced")
        } else {
            self.spared(plan, endpoint)
        };
        if let Some(why_not) = why_not {
            if !endpoint.tally.told_lately.swap(true, Relaxed) {
                endpoint.meters().ejection(detector, false);
                self.events.tell(&Event::NotEjected {
                    endpoint,
                    detector,
                    reason: &reason,
                    why_not,
                });
            }
            return false;
        }
        let count = endpoint.tally.multiplier.fetch_add(1, Relaxed).saturating_add(1);
        let time = ejection_time(plan, count);
        self.eject_for(
            endpoint,
            Ejection { detector, reason, count, until: Some(Instant::now() + time) },
        );
        true
    }

    /// Carries an ejection out. Who calls this holds `ejecting`, and has the set made anew.
    pub(super) fn eject_for(&self, endpoint: &Arc<Endpoint>, ejection: Ejection) {
        endpoint.take_out(Out::Ejected);
        endpoint.tally.ejected_lately.store(true, Relaxed);
        endpoint.meters().ejection(ejection.detector, true);
        self.events.tell(&Event::Ejected { endpoint, ejection: &ejection });
        endpoint.ejection.store(Some(Arc::new(ejection)));
    }

    /// Why an endpoint may not be ejected, if so: too many are already, or no other is left.
    fn spared(&self, plan: &OutlierPlan, endpoint: &Arc<Endpoint>) -> Option<&'static str> {
        let set = self.set.load();
        let (mut all, mut ejected, mut left) = (0, 0, false);
        for other in set.endpoints() {
            all += 1;
            ejected += usize::from(other.is_out(Out::Ejected));
            left |= other.usable() && !Arc::ptr_eq(other, endpoint);
        }
        if !left {
            return Some("no other endpoint is usable");
        }
        let most = (all * usize::from(plan.max_ejection_percent) / 100).max(1);
        (ejected >= most).then_some("max_ejection_percent is reached")
    }

    /// Ends an ejection, if there is one, and begins counting anew. Who is told `true` has the set
    /// made anew.
    pub(super) fn uneject(&self, endpoint: &Arc<Endpoint>, reason: &str) -> bool {
        let _ejecting = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        endpoint.tally.clear();
        let ended = endpoint.bring_back(Out::Ejected);
        if ended {
            endpoint.ejection.store(None);
            self.events.tell(&Event::Returned { endpoint, reason });
        }
        ended
    }

    /// Looks at what operations came to at each interval, brings back whose time of ejection is
    /// over, and closes what is left on drained endpoints, until dropped.
    pub async fn sweep(self: Arc<Self>) {
        let interval = self.plan.outlier_detection.as_ref().map_or(INTERVAL, |plan| plan.interval);
        let mut next = Instant::now() + interval;
        loop {
            let due = self.next_due().map_or(next, |due| due.min(next));
            tokio::select! {
                () = time::sleep_until(due) => {}
                () = self.wake.notified() => {}
            }
            let now = Instant::now();
            if now >= next {
                self.end_interval();
                next += interval;
                if next <= now {
                    // What was missed while the machine slept is not made up for.
                    next = now + interval;
                }
            }
            self.return_due(now);
            self.close_drained(now);
        }
    }

    /// When the next ejection or drain ends.
    fn next_due(&self) -> Option<Instant> {
        let set = self.set.load();
        let dues = set.endpoints().flat_map(|endpoint| {
            let ejection = endpoint.ejection.load().as_ref().and_then(|ejection| ejection.until);
            let drained = endpoint.drained.load().as_deref().copied();
            [ejection, drained]
        });
        dues.flatten().min()
    }

    /// Brings back whose time is over.
    fn return_due(&self, now: Instant) {
        let over = |endpoint: &Endpoint| {
            let ejection = endpoint.ejection.load();
            ejection.as_ref().and_then(|ejection| ejection.until).is_some_and(|until| until <= now)
        };
        let mut changed = false;
        for endpoint in self.endpoints().iter().filter(|endpoint| over(endpoint)) {
            if self.uneject(endpoint, "its time is over") {
                endpoint.tally.on_probation.store(true, Relaxed);
                changed = true;
            }
        }
        if changed {
            self.refresh();
        }
    }

    /// Ends an interval: ejects who stands out, and forgives who did well.
    pub(super) fn end_interval(&self) {
        let endpoints = self.endpoints();
        let windows: Vec<_> = endpoints.iter().map(|e| e.tally.end_interval()).collect();
        for endpoint in &endpoints {
            let ejected = endpoint.is_out(Out::Ejected);
            if !endpoint.tally.ejected_lately.swap(ejected, Relaxed) && !ejected {
                let less = |n: u32| n.checked_sub(1);
                let _ = endpoint.tally.multiplier.fetch_update(Relaxed, Relaxed, less);
            }
        }
        let Some(plan) = &self.plan.outlier_detection else { return };
        let in_use: Vec<usize> =
            (0..endpoints.len()).filter(|&i| !endpoints[i].is_out(Out::Ejected)).collect();
        let compared: Vec<_> = in_use.iter().map(|&i| &*windows[i]).collect();
        let mut changed = false;
        for Suspect { index, detector, enforcing, reason } in rates::suspects(plan, &compared) {
            let endpoint = &endpoints[in_use[index]];
            changed |= self.eject_suspect(plan, endpoint, (detector, enforcing, reason));
        }
        if changed {
            self.refresh();
        }
    }
}

/// How long the `count`-th ejection in a row lasts.
fn ejection_time(plan: &OutlierPlan, count: u32) -> Duration {
    let longest = plan.max_ejection_time.max(plan.base_ejection_time);
    plan.base_ejection_time.saturating_mul(count).min(longest)
}
