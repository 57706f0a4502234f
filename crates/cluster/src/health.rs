//! Health checks: every endpoint is probed periodically.

mod check;
mod result;
mod state;

pub(super) use result::HealthCheckResult;

use super::{CloseRequest, Cluster, Endpoint, Exclusion, PickOptions, balance, events::Event};
use crate::plan::HealthCheckPlan;
use check::{CheckError, Checker};
use operation::Probe;
use state::HealthState;
use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{self, Instant},
};

/// How many checks of a cluster may run at once.
const MAX_CONCURRENT: usize = 100;
/// First checks are spread over this time per endpoint, but not over more than `MAX_FIRST_SPREAD`.
const FIRST_SPREAD_PER_ENDPOINT: Duration = Duration::from_millis(10);
const MAX_FIRST_SPREAD: Duration = Duration::from_secs(1);

/// Makes the probe of one check.
type ProbeFactory = Arc<dyn Fn() -> Box<dyn Probe> + Send + Sync>;

impl Cluster {
    /// Checks every endpoint periodically, including those added later, until dropped. Returns at
    /// once if no health check is configured.
    pub async fn check_health(self: Arc<Self>) {
        let Some(plan) = self.plan().health_check.clone() else { return };
        let probe = plan.probe.clone();
        let begin = move || probe.begin();
        self.check_by(plan, Arc::new(begin)).await;
    }

    /// Whether it is known of every endpoint how it is, as far as it is checked: after the first checks, and when the
    /// primary of a replica set is known.
    pub fn is_checked(&self) -> bool {
        let is_checked = |it: &Arc<Endpoint>| it.last_check.load().is_some();
        let checks = self.plan().health_check.is_some();
        let all = !checks || self.endpoints().iter().all(is_checked);
        all && (!self.has_roles() || self.pick(PickOptions::default()).is_some())
    }

    /// Checks with the probes that `begin` creates.
    pub(crate) async fn check_by(self: Arc<Self>, plan: HealthCheckPlan, begin: ProbeFactory) {
        let plan = Arc::new(plan);
        let places = Arc::new(Semaphore::new(MAX_CONCURRENT));
        let mut tasks = JoinSet::new();
        let mut checked: BTreeMap<*const Endpoint, _> = BTreeMap::new();
        loop {
            let endpoints = self.endpoints();
            let before = std::mem::take(&mut checked);
            let spread = FIRST_SPREAD_PER_ENDPOINT
                .saturating_mul(endpoints.len() as u32)
                .min(MAX_FIRST_SPREAD);
            for endpoint in endpoints {
                let key = Arc::as_ptr(&endpoint);
                let task = before.get(&key).cloned().unwrap_or_else(|| {
                    let first = spread.mul_f64(balance::share());
                    let asked = CheckLoop {
                        cluster: Arc::clone(&self),
                        endpoint,
                        plan: Arc::clone(&plan),
                        new_probe: Arc::clone(&begin),
                        permits: Arc::clone(&places),
                    };
                    tasks.spawn(asked.run(first))
                });
                checked.insert(key, task);
            }
            for (_, gone) in before.iter().filter(|(key, _)| !checked.contains_key(*key)) {
                gone.abort();
            }
            // Changes that come together, as in a first round, make one new set.
            loop {
                tokio::select! {
                    () = self.set_changed.notified() => break,
                    () = self.refresh_needed.notified() => self.refresh(),
                    Some(ended) = tasks.join_next() => {
                        // A check loop that panicked must not go unnoticed.
                        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                            resume_unwind(panic);
                        }
                    }
                }
            }
        }
    }

    /// Records a check; `changed` is the new health, if it changed. The caller must then refresh
    /// the set.
    fn record_check(
        &self,
        endpoint: &Arc<Endpoint>,
        check: HealthCheckResult,
        changed: Option<bool>,
    ) {
        endpoint.metrics().record_check(Some(check.good));
        if let Some(healthy) = changed {
            self.health_changed(endpoint, healthy, &check.message);
        }
        if !check.good {
            self.request_refresh();
        }
        endpoint.last_check.store(Some(Arc::new(check)));
    }

    pub(crate) fn health_changed(&self, endpoint: &Arc<Endpoint>, healthy: bool, reason: &str) {
        self.events.report(&Event::Health { endpoint, healthy, reason });
        let plan = self.plan();
        let check = plan.health_check.as_ref();
        let closes = check.is_some_and(|check| check.close_connections_on_unhealthy);
        if healthy {
            endpoint.readmit(Exclusion::Unhealthy);
            endpoint.compare_set_close_request(
                CloseRequest::Unhealthy,
                endpoint.default_close_request(),
            );
            let by_hand = endpoint.ejection.load().as_ref().is_some_and(|e| e.until.is_none());
            if !by_hand {
                self.restore(endpoint, "its health checks are good again");
            }
        } else {
            endpoint.exclude(Exclusion::Unhealthy);
            if closes
                && (endpoint.compare_set_close_request(CloseRequest::None, CloseRequest::Unhealthy)
                    || endpoint
                        .compare_set_close_request(CloseRequest::WhenIdle, CloseRequest::Unhealthy))
            {
                self.notify_connections();
            }
        }
    }
}

/// The periodic check of one endpoint.
struct CheckLoop {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    plan: Arc<HealthCheckPlan>,
    new_probe: ProbeFactory,
    permits: Arc<Semaphore>,
}

impl CheckLoop {
    /// Checks until aborted, for the first time after `first`.
    async fn run(self, first: Duration) {
        let CheckLoop { cluster, endpoint, plan, new_probe: begin, permits: places } = self;
        let mut state = HealthState::new(!endpoint.is_excluded(Exclusion::Unhealthy));
        let mut checker = Checker::new(Arc::clone(&endpoint), plan.timeout, plan.reuse_connection)
            .prepared(&cluster.plan(), cluster.destination.load().tls.clone());
        let mut pause = first;
        // All first checks come close together; from the second on they are spread.
        let mut spread = Some(balance::share());
        loop {
            time::sleep(pause).await;
            // The semaphore is never closed, so this always succeeds.
            let place = places.acquire().await.ok();
            let began = Instant::now();
            let verdict = checker.check(|| begin()).await;
            drop(place);
            let at = Instant::now();
            let answered = match verdict {
                Ok(words) => Some((true, words)),
                Err(CheckError::Failed(words)) => Some((false, words)),
                // This says nothing about the endpoint.
                Err(CheckError::Local(error)) => {
                    endpoint.metrics().record_check(None);
                    cluster.report_local_error(&endpoint, &error);
                    None
                }
            };
            if let Some((good, words)) = answered {
                let changed = state.record(&plan, good);
                let check = HealthCheckResult { good, message: words, at, took: at - began };
                cluster.record_check(&endpoint, check, changed);
                if changed.is_some() {
                    cluster.refresh_needed.notify_one();
                }
            }
            pause = state.pause(&plan, balance::share());
            if let Some(share) = spread.take() {
                pause = pause.mul_f64(share);
            }
        }
    }
}

#[cfg(test)]
mod tests;
