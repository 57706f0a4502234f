//! Outlier detection: endpoints whose operations fail are ejected for a while.

mod ejection;
mod rates;
mod stats;
#[cfg(test)]
mod tests;

pub(super) use ejection::{Detector, Ejection};
pub(super) use stats::OutlierStats;

use super::{Cluster, Endpoint, Exclusion, balance, events::Event};
use crate::plan::{OutlierPlan, SessionFailures};
use operation::Outcome;
use rates::Outlier;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{self, Instant};

/// The statistics interval where there is no outlier detection.
const INTERVAL: Duration = Duration::from_secs(10);

impl Cluster {
    /// Records the end of an operation on an endpoint. Called for each operation, by any worker: no
    /// lock and no allocation, unless it causes an ejection.
    pub(super) fn observe(&self, endpoint: &Arc<Endpoint>, outcome: Outcome, took: Duration) {
        endpoint.metrics().record_operation(outcome, took);
        match outcome {
            Outcome::Ok | Outcome::Rejected => endpoint.stats.record_success(took),
            Outcome::Failed => {
                let run = endpoint.stats.record_failure(took);
                self.check_consecutive(endpoint, Detector::ConsecutiveFailures, run);
            }
            Outcome::Lost => {
                let run = endpoint.stats.record_lost(took);
                self.check_consecutive(endpoint, Detector::ConsecutiveLocalFailures, run);
            }
            Outcome::Cancelled => {}
        }
    }

    /// Whether a lost session, by `reset` or without a reply, counts as its endpoint's failure.
    /// Some services do not reply by design.
    pub(super) fn session_counts(&self, reset: bool) -> bool {
        let plan = self.plan();
        match plan.outlier_detection.as_ref().map(|plan| plan.session_failures) {
            None | Some(SessionFailures::Reset) => reset,
            Some(SessionFailures::None) => false,
            Some(SessionFailures::NoReply) => true,
        }
    }

    /// Records whether a connect succeeded.
    pub(super) fn observe_connect(&self, endpoint: &Arc<Endpoint>, connected: bool) {
        if connected {
            return endpoint.stats.record_connected();
        }
        let run = endpoint.stats.record_connect_failure();
        self.check_consecutive(endpoint, Detector::ConsecutiveLocalFailures, run);
    }

    /// Ejects an endpoint whose `run` of failures is long enough. If it is not ejected, it is
    /// considered again after each further run of that length.
    fn check_consecutive(&self, endpoint: &Arc<Endpoint>, detector: Detector, run: u32) {
        let plan = self.plan();
        let Some(plan) = &plan.outlier_detection else { return };
        let (limit, what) = match detector {
            Detector::ConsecutiveFailures => (plan.consecutive_failures, "operations failed"),
            _ => (plan.consecutive_local_failures, "operations were lost or connections failed"),
        };
        // An endpoint that fails at once after its return is ejected again without a full run.
        let on_probation = endpoint.stats.on_probation.load(Relaxed);
        let enough = on_probation || run.is_multiple_of(limit.max(1));
        if limit == 0 || !enough || endpoint.is_excluded(Exclusion::Ejected) {
            return;
        }
        let reason = match on_probation {
            true => "it failed again right after its return".to_owned(),
            false => format!("{run} {what} in a row"),
        };
        let suspect = (detector, plan.enforcing_consecutive, reason);
        if self.try_eject(plan, endpoint, suspect) {
            self.refresh();
            self.sweep_needed.notify_one();
        }
    }

    /// Ejects the endpoint unless a safeguard forbids it. Returns `true` if the caller must refresh
    /// the set.
    fn try_eject(
        &self,
        plan: &OutlierPlan,
        endpoint: &Arc<Endpoint>,
        (detector, enforcing, reason): (Detector, u8, String),
    ) -> bool {
        // Concurrent ejections must see each other.
        let _ejecting = self.ejection_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.is_excluded(Exclusion::Ejected) {
            return false;
        }
        let why_not = if balance::share() * 100.0 >= f64::from(enforcing) {
            Some("it is not enforced")
        } else {
            self.why_not_eject(plan, endpoint)
        };
        if let Some(why_not) = why_not {
            if !endpoint.stats.reported_this_interval.swap(true, Relaxed) {
                endpoint.metrics().record_ejection(detector, false);
                self.events.report(&Event::NotEjected {
                    endpoint,
                    detector,
                    reason: &reason,
                    why_not,
                });
            }
            return false;
        }
        let count = endpoint.stats.ejection_count.fetch_add(1, Relaxed).saturating_add(1);
        let time = ejection_time(plan, count);
        self.eject(
            endpoint,
            Ejection { detector, reason, count, until: Some(Instant::now() + time) },
        );
        true
    }

    /// Carries out an ejection. The caller holds `ejection_lock`, and refreshes the set.
    pub(super) fn eject(&self, endpoint: &Arc<Endpoint>, ejection: Ejection) {
        endpoint.exclude(Exclusion::Ejected);
        endpoint.stats.ejected_this_interval.store(true, Relaxed);
        endpoint.metrics().record_ejection(ejection.detector, true);
        self.events.report(&Event::Ejected { endpoint, ejection: &ejection });
        endpoint.ejection.store(Some(Arc::new(ejection)));
    }

    /// Why an endpoint may not be ejected: too many are already, or no other is left.
    fn why_not_eject(&self, plan: &OutlierPlan, endpoint: &Arc<Endpoint>) -> Option<&'static str> {
        let set = self.set.load();
        let (mut all, mut ejected, mut left) = (0, 0, false);
        for other in set.endpoints() {
            all += 1;
            ejected += usize::from(other.is_excluded(Exclusion::Ejected));
            left |= other.usable() && !Arc::ptr_eq(other, endpoint);
        }
        if !left {
            return Some("no other endpoint is usable");
        }
        let most = (all * usize::from(plan.max_ejection_percent) / 100).max(1);
        (ejected >= most).then_some("max_ejection_percent is reached")
    }

    /// Ends an ejection, if there is one, and resets its counters. Returns `true` if the caller
    /// must refresh the set.
    pub(super) fn restore(&self, endpoint: &Arc<Endpoint>, reason: &str) -> bool {
        let _ejecting = self.ejection_lock.lock().unwrap_or_else(PoisonError::into_inner);
        endpoint.stats.clear();
        let ended = endpoint.readmit(Exclusion::Ejected);
        if ended {
            endpoint.ejection.store(None);
            self.events.report(&Event::Returned { endpoint, reason });
        }
        ended
    }

    /// Evaluates statistics at each interval, ends ejections, and closes connections to drained
    /// endpoints, until dropped.
    pub async fn sweep(self: Arc<Self>) {
        let interval =
            self.plan().outlier_detection.as_ref().map_or(INTERVAL, |plan| plan.interval);
        let mut next = Instant::now() + interval;
        loop {
            let due = self.next_deadline().map_or(next, |due| due.min(next));
            tokio::select! {
                () = time::sleep_until(due) => {}
                () = self.sweep_needed.notified() => {}
            }
            let now = Instant::now();
            if now >= next {
                self.end_interval();
                next += interval;
                if next <= now {
                    // Intervals missed while the machine slept are skipped.
                    next = now + interval;
                }
            }
            self.restore_due(now);
            self.close_drained(now);
        }
    }

    /// When the next ejection or drain ends.
    fn next_deadline(&self) -> Option<Instant> {
        let set = self.set.load();
        let dues = set.endpoints().flat_map(|endpoint| {
            let ejection = endpoint.ejection.load().as_ref().and_then(|ejection| ejection.until);
            let drained = endpoint.drain_deadline.load().as_deref().copied();
            [ejection, drained]
        });
        dues.flatten().min()
    }

    /// Ends the ejections that are due.
    fn restore_due(&self, now: Instant) {
        let over = |endpoint: &Endpoint| {
            let ejection = endpoint.ejection.load();
            ejection.as_ref().and_then(|ejection| ejection.until).is_some_and(|until| until <= now)
        };
        let mut changed = false;
        for endpoint in self.endpoints().iter().filter(|endpoint| over(endpoint)) {
            if self.restore(endpoint, "its time is over") {
                endpoint.stats.on_probation.store(true, Relaxed);
                changed = true;
            }
        }
        if changed {
            self.refresh();
        }
    }

    /// Ends an interval: ejects outliers, and lowers the ejection count of endpoints that did well.
    pub(super) fn end_interval(&self) {
        let endpoints = self.endpoints();
        let windows: Vec<_> = endpoints.iter().map(|e| e.stats.end_interval()).collect();
        for endpoint in &endpoints {
            let ejected = endpoint.is_excluded(Exclusion::Ejected);
            if !endpoint.stats.ejected_this_interval.swap(ejected, Relaxed) && !ejected {
                let less = |n: u32| n.checked_sub(1);
                let _ = endpoint.stats.ejection_count.fetch_update(Relaxed, Relaxed, less);
            }
        }
        let plan = self.plan();
        let Some(plan) = &plan.outlier_detection else { return };
        let in_use: Vec<usize> = (0..endpoints.len())
            .filter(|&i| !endpoints[i].is_excluded(Exclusion::Ejected))
            .collect();
        let compared: Vec<_> = in_use.iter().map(|&i| &*windows[i]).collect();
        let mut changed = false;
        for Outlier { index, detector, enforcing, reason } in rates::outliers(plan, &compared) {
            let endpoint = &endpoints[in_use[index]];
            changed |= self.try_eject(plan, endpoint, (detector, enforcing, reason));
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
