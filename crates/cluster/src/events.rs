//! Endpoint events: log messages always, and JSON lines if an event log is configured.

use super::{
    Endpoint,
    outlier::{Detector, Ejection},
    report::tenth,
};
use arc_swap::ArcSwapOption;
use operation::Role;
use process::log_file::Sink;
use serde_json::{Value, json};
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

/// How many endpoints an event names; of further ones it gives the number.
const MAX_NAMED: usize = 100;

/// An endpoint event.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// Health checks have changed the state.
    Health { endpoint: &'a Endpoint, healthy: bool, reason: &'a str },
    /// A member of a replica set has another role.
    Role { endpoint: &'a Endpoint, role: Role, reason: &'a str },
    /// An endpoint was ejected.
    Ejected { endpoint: &'a Endpoint, ejection: &'a Ejection },
    /// An endpoint would have been ejected, but for `why_not`.
    NotEjected { endpoint: &'a Endpoint, detector: Detector, reason: &'a str, why_not: &'a str },
    /// An ejection has ended.
    Returned { endpoint: &'a Endpoint, reason: &'a str },
    /// An operator drains it, or ends that.
    Drained { endpoint: &'a Endpoint, drained: bool },
    /// Too few endpoints are usable, or enough again.
    Panic { entered: bool, reason: &'a str },
    /// A connection could not be opened because this machine lacks a resource.
    LocalError { endpoint: &'a Endpoint, reason: &'a str },
    /// An operator pauses the cluster, switches it, or lets it resume.
    Cutover { step: CutoverStep, reason: &'a str },
    /// Endpoints were added or removed.
    Set { added: &'a [Arc<Endpoint>], removed: &'a [Arc<Endpoint>] },
}

/// A step of a cutover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutoverStep {
    /// An operator has paused the cluster.
    Paused,
    /// An operator has pointed it to other endpoints.
    Switched,
    /// An operator has ended the pause.
    Resumed,
    /// The pause has ended because its time was over.
    Expired,
}

/// Writes a cluster's events.
#[derive(Debug)]
pub(super) struct Events {
    cluster: Arc<str>,
    file: ArcSwapOption<Sink>,
}

/// The message for a connection that this machine could not open.
const LOCAL_ERROR: &str = "this machine lacks what a connection takes (ports, descriptors, memory): \
                       no endpoint is blamed";

impl Events {
    pub(super) fn new(cluster: Arc<str>) -> Self {
        Self { cluster, file: ArcSwapOption::empty() }
    }

    /// Writes events as JSON lines to this file from now on; `None`: to none.
    pub(super) fn write_to(&self, file: Option<Sink>) {
        self.file.store(file.map(Arc::new));
    }

    /// Logs an event. Does not block.
    pub(super) fn report(&self, event: &Event<'_>) {
        self.log(event);
        if let Some(file) = &*self.file.load() {
            let mut line = self.line(event, SystemTime::now()).to_string().into_bytes();
            line.push(b'\n');
            file.send(line, 1);
        }
    }

    fn log(&self, event: &Event<'_>) {
        let cluster = &*self.cluster;
        match *event {
            Event::Health { endpoint, healthy, reason } => {
                self.log_health(endpoint, healthy, reason);
            }
            Event::Role { endpoint, role, reason } => {
                let (endpoint, role) = (display_name(endpoint), role.as_str());
                tracing::info!(cluster, endpoint, role, reason, "the member's role has changed");
            }
            Event::Ejected { endpoint, ejection } => {
                let Ejection { reason, count, detector, .. } = ejection;
                let (endpoint, detector) = (display_name(endpoint), detector.as_str());
                let seconds = seconds_left(ejection);
                tracing::warn!(
                    cluster,
                    endpoint,
                    detector,
                    reason,
                    count,
                    seconds,
                    "endpoint is ejected"
                );
            }
            Event::NotEjected { endpoint, detector, reason, why_not } => {
                let (endpoint, detector) = (display_name(endpoint), detector.as_str());
                tracing::warn!(
                    cluster,
                    endpoint,
                    detector,
                    reason,
                    why_not,
                    "endpoint would be ejected"
                );
            }
            Event::Returned { endpoint, reason } => {
                tracing::info!(
                    cluster,
                    endpoint = display_name(endpoint),
                    reason,
                    "endpoint returns"
                );
            }
            Event::Drained { endpoint, drained } => self.log_drained(endpoint, drained),
            Event::Panic { entered: true, reason } => {
                tracing::warn!(cluster, reason, "too few endpoints are usable: panic");
            }
            Event::Panic { entered: false, reason } => {
                tracing::info!(cluster, reason, "enough endpoints are usable: no panic");
            }
            Event::LocalError { endpoint, reason } => {
                tracing::warn!(cluster, endpoint = display_name(endpoint), reason, "{LOCAL_ERROR}");
            }
            Event::Cutover { step, reason } => self.log_cutover(step, reason),
            Event::Set { added, removed } => {
                let (added, removed) = (names(added), names(removed));
                tracing::info!(cluster, ?added, ?removed, "endpoints changed");
            }
        }
    }

    fn log_cutover(&self, step: CutoverStep, reason: &str) {
        let cluster = &*self.cluster;
        match step {
            CutoverStep::Paused => tracing::warn!(cluster, reason, "the cluster is paused"),
            CutoverStep::Switched => tracing::warn!(cluster, reason, "the cluster was switched"),
            CutoverStep::Resumed => tracing::warn!(cluster, reason, "the cluster has resumed"),
            CutoverStep::Expired => {
                tracing::error!(cluster, reason, "the cluster has resumed by itself");
            }
        }
    }

    fn log_health(&self, endpoint: &Endpoint, healthy: bool, reason: &str) {
        let (cluster, endpoint) = (&*self.cluster, display_name(endpoint));
        if healthy {
            tracing::info!(cluster, endpoint, reason, "endpoint is healthy");
        } else {
            tracing::warn!(cluster, endpoint, reason, "endpoint is unhealthy");
        }
    }

    fn log_drained(&self, endpoint: &Endpoint, drained: bool) {
        let (cluster, endpoint) = (&*self.cluster, display_name(endpoint));
        if drained {
            tracing::info!(cluster, endpoint, "endpoint is drained by an operator");
        } else {
            tracing::info!(cluster, endpoint, "endpoint is no longer drained");
        }
    }

    /// An event as a line of the event log.
    fn line(&self, event: &Event<'_>, now: SystemTime) -> Value {
        let mut line = json!({
            "time": humantime::format_rfc3339_millis(now).to_string(),
            "cluster": &*self.cluster,
            "event": event.name(),
        });
        if let Some(endpoint) = event.endpoint() {
            line["endpoint"] = endpoint.address().to_string().into();
            line["name"] = (&**endpoint.name()).into();
        }
        let mut put = |key: &str, value: Value| line[key] = value;
        match *event {
            Event::Health { healthy, reason, .. } => {
                put("healthy", healthy.into());
                put("reason", reason.into());
            }
            Event::Role { role, reason, .. } => {
                put("role", role.as_str().into());
                put("reason", reason.into());
            }
            Event::Ejected { ejection, .. } => {
                put("detector", ejection.detector.as_str().into());
                put("reason", ejection.reason.as_str().into());
                put("count", ejection.count.into());
                put("seconds", seconds_left(ejection).into());
            }
            Event::NotEjected { detector, reason, why_not, .. } => {
                put("detector", detector.as_str().into());
                put("reason", reason.into());
                put("why_not", why_not.into());
            }
            Event::Returned { reason, .. }
            | Event::Panic { reason, .. }
            | Event::Cutover { reason, .. }
            | Event::LocalError { reason, .. } => {
                put("reason", reason.into());
            }
            Event::Drained { .. } => put("reason", "an operator said so".into()),
            Event::Set { added, removed } => {
                put("added", names(added).into());
                put("removed", names(removed).into());
                let reason = format!("{} added, {} removed", added.len(), removed.len());
                put("reason", reason.into());
            }
        }
        line
    }
}

impl<'a> Event<'a> {
    fn name(&self) -> &'static str {
        match self {
            Event::Health { .. } => "health_changed",
            Event::Role { .. } => "role_changed",
            Event::Ejected { .. } => "ejected",
            Event::NotEjected { .. } => "not_ejected",
            Event::Returned { .. } => "returned",
            Event::Drained { drained: true, .. } => "drained",
            Event::Drained { drained: false, .. } => "undrained",
            Event::Panic { entered: true, .. } => "panic_entered",
            Event::Panic { entered: false, .. } => "panic_left",
            Event::LocalError { .. } => "local_error",
            Event::Cutover { step: CutoverStep::Paused, .. } => "paused",
            Event::Cutover { step: CutoverStep::Switched, .. } => "switched",
            Event::Cutover { step: CutoverStep::Resumed, .. } => "resumed",
            Event::Cutover { step: CutoverStep::Expired, .. } => "pause_expired",
            Event::Set { .. } => "set_changed",
        }
    }

    /// The endpoint of the event, if it concerns a single one.
    fn endpoint(&self) -> Option<&'a Endpoint> {
        match *self {
            Event::Health { endpoint, .. }
            | Event::Role { endpoint, .. }
            | Event::Ejected { endpoint, .. }
            | Event::NotEjected { endpoint, .. }
            | Event::Returned { endpoint, .. }
            | Event::LocalError { endpoint, .. }
            | Event::Drained { endpoint, .. } => Some(endpoint),
            Event::Panic { .. } | Event::Cutover { .. } | Event::Set { .. } => None,
        }
    }
}

/// `db-1:27017 (10.0.0.1:27017)`, or the address alone where that is the name.
fn display_name(endpoint: &Endpoint) -> String {
    let (name, address) = (endpoint.name(), endpoint.address().to_string());
    if **name == *address { address } else { format!("{name} ({address})") }
}

/// How long an ejection lasts, in seconds; `None` until an operator ends it.
fn seconds_left(ejection: &Ejection) -> Option<f64> {
    let left = ejection.until?.saturating_duration_since(Instant::now());
    Some(tenth(left.as_secs_f64()))
}

fn names(endpoints: &[Arc<Endpoint>]) -> Vec<String> {
    let mut names: Vec<_> = endpoints.iter().take(MAX_NAMED).map(|e| display_name(e)).collect();
    if endpoints.len() > MAX_NAMED {
        names.push(format!("and {} more", endpoints.len() - MAX_NAMED));
    }
    names
}

#[cfg(test)]
mod tests;
