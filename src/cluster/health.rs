//! Health checks: every endpoint is asked, again and again, whether it works.

mod check;
mod state;

use super::{Cluster, Endpoint, Out, Wish, balance, events::Event};
use crate::config::plan::HealthCheckPlan;
use check::{Checker, Unanswered};
use operation::Probe;
use state::State;
use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{self, Instant},
};

/// How many checks of a cluster may be under way at once.
const AT_ONCE: usize = 100;
/// First checks are spread over so much time for each endpoint, but not over more than `FIRST`.
const FIRST_EACH: Duration = Duration::from_millis(10);
const FIRST: Duration = Duration::from_secs(1);

/// The last check of an endpoint.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) good: bool,
    /// What it told: `primary of rs0`, `connection refused`.
    pub(super) words: String,
    /// When it ended.
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// Makes the probe of one check.
type Begin = Arc<dyn Fn() -> Box<dyn Probe> + Send + Sync>;

impl Cluster {
    /// Checks every endpoint again and again, those that come too, until dropped. Ends at once
    /// where there is nothing to check.
    pub async fn check_health(self: Arc<Self>) {
        let Some(plan) = self.plan.health_check.clone() else { return };
        let probe = plan.probe.clone();
        let begin = move || probe.begin();
        self.check_by(plan, Arc::new(begin)).await;
    }

    /// Checks by means of the probes that `begin` makes.
    pub(crate) async fn check_by(self: Arc<Self>, plan: HealthCheckPlan, begin: Begin) {
        let plan = Arc::new(plan);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        let mut checked: BTreeMap<*const Endpoint, _> = BTreeMap::new();
        loop {
            let endpoints = self.endpoints();
            let before = std::mem::take(&mut checked);
            let spread = FIRST_EACH.saturating_mul(endpoints.len() as u32).min(FIRST);
            for endpoint in endpoints {
                let key = Arc::as_ptr(&endpoint);
                let task = before.get(&key).cloned().unwrap_or_else(|| {
                    let first = spread.mul_f64(balance::share());
                    let asked = Asked {
                        cluster: Arc::clone(&self),
                        endpoint,
                        plan: Arc::clone(&plan),
                        begin: Arc::clone(&begin),
                        places: Arc::clone(&places),
                    };
                    tasks.spawn(asked.again_and_again(first))
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
                    () = self.stale.notified() => self.refresh(),
                    Some(ended) = tasks.join_next() => {
                        // An endpoint that is not checked any more must not go unnoticed.
                        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                            resume_unwind(panic);
                        }
                    }
                }
            }
        }
    }

    /// Takes note of a check; `changed` is what the endpoint is taken for from now on, if that is
    /// something else than before. Somebody has to make the set anew then.
    fn checked(&self, endpoint: &Arc<Endpoint>, check: Check, changed: Option<bool>) {
        endpoint.meters().checked(Some(check.good));
        if let Some(healthy) = changed {
            self.health_changed(endpoint, healthy, &check.words);
        }
        if !check.good {
            self.hurry();
        }
        endpoint.check.store(Some(Arc::new(check)));
    }

    fn health_changed(&self, endpoint: &Arc<Endpoint>, healthy: bool, reason: &str) {
        self.events.tell(&Event::Health { endpoint, healthy, reason });
        let plan = self.plan.health_check.as_ref();
        let closes = plan.is_some_and(|plan| plan.close_connections_on_unhealthy);
        if healthy {
            endpoint.bring_back(Out::Unhealthy);
            endpoint.wishes_instead(Wish::Unhealthy, endpoint.usual_wish());
            let by_hand = endpoint.ejection.load().as_ref().is_some_and(|e| e.until.is_none());
            if !by_hand {
                self.uneject(endpoint, "its health checks are good again");
            }
        } else {
            endpoint.take_out(Out::Unhealthy);
            if closes
                && (endpoint.wishes_instead(Wish::Stay, Wish::Unhealthy)
                    || endpoint.wishes_instead(Wish::Rest, Wish::Unhealthy))
            {
                self.nudge();
            }
        }
    }
}

/// An endpoint that is checked.
struct Asked {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    plan: Arc<HealthCheckPlan>,
    begin: Begin,
    places: Arc<Semaphore>,
}

impl Asked {
    /// Checks until aborted, for the first time after `first`.
    async fn again_and_again(self, first: Duration) {
        let Asked { cluster, endpoint, plan, begin, places } = self;
        let mut state = State::new(!endpoint.is_out(Out::Unhealthy));
        let mut checker = Checker::new(endpoint.address(), plan.timeout, plan.reuse_connection);
        let mut pause = first;
        // All were checked first within a moment; from the second time on they are spread.
        let mut spread = Some(balance::share());
        loop {
            time::sleep(pause).await;
            // The semaphore is never closed, so this always is a place.
            let place = places.acquire().await.ok();
            let began = Instant::now();
            let verdict = checker.check(|| begin()).await;
            drop(place);
            let at = Instant::now();
            let answered = match verdict {
                Ok(words) => Some((true, words)),
                Err(Unanswered::Failed(words)) => Some((false, words)),
                // That says nothing about the endpoint.
                Err(Unanswered::Local(error)) => {
                    endpoint.meters().checked(None);
                    cluster.tell_local(&endpoint, &error);
                    None
                }
            };
            if let Some((good, words)) = answered {
                let changed = state.note(&plan, good);
                let check = Check { good, words, at, took: at - began };
                cluster.checked(&endpoint, check, changed);
                if changed.is_some() {
                    cluster.stale.notify_one();
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
