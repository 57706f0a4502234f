//! Operator commands for endpoints: eject, drain, return.

use super::{
    CloseRequest, Cluster, Endpoint, Exclusion,
    events::Event,
    outlier::{Detector, Ejection},
};
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

/// No such endpoint.
#[derive(Debug, thiserror::Error)]
#[error("cluster `{cluster}` has no endpoint `{requested}`; it has {}", list(.known))]
pub struct NoSuchEndpoint {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The endpoint that was asked for.
    pub requested: String,
    /// The addresses of the cluster.
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
    /// Excludes an endpoint until it is [returned](Cluster::operator_return); its connections stay
    /// open. `who` is an address or a configured name, which may have several addresses. Returns
    /// the number of endpoints.
    ///
    /// `max_ejection_percent` and the last-endpoint safeguard do not apply: the operator decides.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn operator_eject(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.find_endpoints(who)?;
        for endpoint in &found {
            let _ejecting = self.ejection_lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.eject(
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

    /// Excludes an endpoint and closes its connections when idle, and after `drain_timeout` at
    /// once.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn operator_drain(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.find_endpoints(who)?;
        for endpoint in found.iter().filter(|endpoint| endpoint.exclude(Exclusion::Drained)) {
            let until = Instant::now() + self.plan().drain_timeout;
            endpoint.drain_deadline.store(Some(Arc::new(until)));
            endpoint.set_role_lost(false);
            endpoint.compare_set_close_request(CloseRequest::None, CloseRequest::WhenIdle);
            self.events.report(&Event::Drained { endpoint, drained: true });
        }
        self.refresh();
        self.sweep_needed.notify_one();
        self.notify_connections();
        Ok(found.len())
    }

    /// Ends a drain or an ejection, whatever its cause. Health checks still apply.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn operator_return(&self, who: &str) -> Result<usize, NoSuchEndpoint> {
        let found = self.find_endpoints(who)?;
        for endpoint in &found {
            self.restore(endpoint, "an operator said so");
            if endpoint.readmit(Exclusion::Drained) {
                endpoint.drain_deadline.store(None);
                if !endpoint.is_excluded(Exclusion::Removed) {
                    endpoint.compare_set_close_request(CloseRequest::WhenIdle, CloseRequest::None);
                    endpoint.compare_set_close_request(CloseRequest::Removed, CloseRequest::None);
                }
                self.events.report(&Event::Drained { endpoint, drained: false });
            }
        }
        self.refresh();
        Ok(found.len())
    }

    /// Closes connections to drained endpoints whose time is over.
    pub(super) fn close_drained(&self, now: Instant) {
        let over = |endpoint: &&Arc<Endpoint>| {
            endpoint.drain_deadline.load().as_deref().is_some_and(|until| *until <= now)
        };
        let endpoints = self.endpoints();
        let mut closing = endpoints.iter().filter(over).peekable();
        if closing.peek().is_none() {
            return;
        }
        for endpoint in closing {
            endpoint.drain_deadline.store(None);
            endpoint.set_close_request(CloseRequest::Removed);
        }
        self.notify_connections();
    }

    /// The endpoints with this address or configured name.
    fn find_endpoints(&self, who: &str) -> Result<Vec<Arc<Endpoint>>, NoSuchEndpoint> {
        let mut endpoints = self.endpoints();
        let known = || endpoints.iter().map(|e| e.address().to_string()).collect();
        let is = |e: &Arc<Endpoint>| **e.name() == *who || e.address().to_string() == who;
        if !endpoints.iter().any(is) {
            let (cluster, wanted) = (Arc::clone(&self.name), who.to_owned());
            return Err(NoSuchEndpoint { cluster, requested: wanted, known: known() });
        }
        endpoints.retain(is);
        Ok(endpoints)
    }
}

#[cfg(test)]
mod tests;
