//! What an operator may do to endpoints: eject them, drain them, bring them back.

use super::{
    Cluster, Endpoint, Out, Wish,
    events::Event,
    outlier::{Detector, Ejection},
};
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

/// There is no such endpoint.
#[derive(Debug, thiserror::Error)]
#[error("cluster `{cluster}` has no endpoint `{wanted}`; it has {}", list(.known))]
pub struct NoSuchEndpoint {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// What was asked for.
    pub wanted: String,
    /// The addresses that there are.
    pub known: Vec<String>,
}

/// How many endpoints an error lists.
const MAX_LISTED: usize = 20;

fn list(known: &[String]) -> String {
    match known.len() {
        0 => "none".to_owned(),
        n if n > MAX_LISTED => {
            format!("{} and {} more", known[..MAX_LISTED].join(", "), n - MAX_LISTED)
        }
        _ => known.join(", "),
    }
}

impl Cluster {
    /// Takes an endpoint out of use until it is [returned](Cluster::return_by_hand); its
    /// connections go on. `who` is an address or a name as written, which may stand for several.
    /// How many endpoints that made.
    ///
    /// Neither `max_ejection_percent` nor whether another is left counts: who says so knows why.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn eject_by_hand(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.named(who)?;
        for endpoint in &found {
            let _ejecting = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
            self.eject_for(
                endpoint,
                Ejection {
                    detector: Detector::Operator,
                    reason: "an operator said so".to_owned(),
                    count: 1,
                    until: None,
                },
            );
        }
        self.refresh();
        Ok(found.len())
    }

    /// Takes an endpoint out of use, has its connections close as soon as nothing is under way,
    /// and after `drain_timeout` at once.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn drain_by_hand(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.named(who)?;
        for endpoint in found.iter().filter(|endpoint| endpoint.take_out(Out::Drained)) {
            let until = Instant::now() + self.plan.drain_timeout;
            endpoint.drained.store(Some(Arc::new(until)));
            endpoint.wishes_instead(Wish::Stay, Wish::Rest);
            self.events.tell(&Event::Drained { endpoint, drained: true });
        }
        self.refresh();
        self.wake.notify_one();
        self.nudge();
        Ok(found.len())
    }

    /// Brings an endpoint back that was drained, or ejected by whomever. What health checks say
    /// stays.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn return_by_hand(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.named(who)?;
        for endpoint in &found {
            self.uneject(endpoint, "an operator said so");
            if endpoint.bring_back(Out::Drained) {
                endpoint.drained.store(None);
                if !endpoint.is_out(Out::Removed) {
                    endpoint.wishes_instead(Wish::Rest, Wish::Stay);
                    endpoint.wishes_instead(Wish::Removed, Wish::Stay);
                }
                self.events.tell(&Event::Drained { endpoint, drained: false });
            }
        }
        self.refresh();
        Ok(found.len())
    }

    /// Has connections close whose endpoints were drained long enough ago.
    pub(super) fn close_drained(&self, now: Instant) {
        let over = |endpoint: &&Arc<Endpoint>| {
            endpoint.drained.load().as_deref().is_some_and(|until| *until <= now)
        };
        let endpoints = self.endpoints();
        let mut closing = endpoints.iter().filter(over).peekable();
        if closing.peek().is_none() {
            return;
        }
        for endpoint in closing {
            endpoint.drained.store(None);
            endpoint.wishes(Wish::Removed);
        }
        self.nudge();
    }

    /// The endpoints of this address, or name as written.
    fn named(&self, who: &str) -> Result<Vec<Arc<Endpoint>>, NoSuchEndpoint> {
        let mut endpoints = self.endpoints();
        let known = || endpoints.iter().map(|e| e.address().to_string()).collect();
        let is = |e: &Arc<Endpoint>| **e.name() == *who || e.address().to_string() == who;
        if !endpoints.iter().any(is) {
            let (cluster, wanted) = (Arc::clone(&self.plan.name), who.to_owned());
            return Err(NoSuchEndpoint { cluster, wanted, known: known() });
        }
        endpoints.retain(is);
        Ok(endpoints)
    }
}

#[cfg(test)]
mod tests;
