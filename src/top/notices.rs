//! What is said above the table: clusters that are not whole or at a limit, and refusals by policy.

use serde::Deserialize;
use std::collections::BTreeMap;

/// How many endpoints a line names.
const NAMED: usize = 2;

/// A cluster, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClusterState {
    pub(super) name: String,
    panic: bool,
    pause: Option<PauseState>,
    pub(super) endpoints: Vec<EndpointState>,
    circuit_breaker: BreakerCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct EndpointState {
    pub(super) address: String,
    pub(super) state: String,
    pub(super) state_seconds: f64,
    pub(super) active_operations: u64,
    pub(super) last_interval: LastInterval,
    pub(super) certificate_expires_in_seconds: Option<u64>,
    ejection: Option<Ejection>,
    last_check: Option<Check>,
    last_error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct LastInterval {
    pub(super) success_rate: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Ejection {
    reason: String,
    seconds_left: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Check {
    words: String,
}

/// A pause by an operator.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PauseState {
    waiting: u64,
    resumes_in_seconds: f64,
}

/// What is counted of a cluster, and its limits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct BreakerCounts {
    connections: u64,
    max_connections: Option<u64>,
    pending: u64,
    operations: Option<u64>,
    max_operations: Option<u64>,
}

/// A policy, as the admin interface reports it. Counts are since the proxy's start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whether it applies.
    pub enabled: bool,
    refused: u64,
    would_refuse: u64,
}

/// A line for each cluster that is not whole, or at a limit:
/// `shop: 2 of 3 in use, 127.0.0.1:24762 ejected 12 s`.
pub fn clusters(clusters: &[ClusterState]) -> Vec<String> {
    clusters.iter().filter_map(cluster).collect()
}

fn cluster(it: &ClusterState) -> Option<String> {
    let mut said = Vec::new();
    let out: Vec<&EndpointState> = it.endpoints.iter().filter(|it| it.state != "in_use").collect();
    let all = it.endpoints.len();
    if all == 0 {
        said.push("no endpoint".to_owned());
    } else if !out.is_empty() {
        said.push(format!("{} of {all} in use", all - out.len()));
        said.extend(out.iter().take(NAMED).map(|endpoint| endpoint.words()));
        if let Some(more @ 1..) = out.len().checked_sub(NAMED) {
            said.push(format!("{more} more"));
        }
    }
    if let Some(pause) = &it.pause {
        let PauseState { waiting, resumes_in_seconds } = pause;
        said.push(format!("PAUSED for {} s: {waiting} wait", resumes_in_seconds.ceil()));
    }
    if it.panic {
        said.push("PANIC: requests go to all of them".to_owned());
    }
    said.extend(it.circuit_breaker.words());
    (!said.is_empty()).then(|| format!("{}: {}", it.name, said.join(", ")))
}

impl EndpointState {
    /// Why it is in its state.
    pub(super) fn why(&self) -> String {
        match (&*self.state, &self.ejection, &self.last_check) {
            ("drained", ..) => "by an operator".to_owned(),
            ("ejected", Some(ejection), _) => ejection.reason.clone(),
            ("unhealthy", _, Some(check)) => check.words.clone(),
            _ => self.last_error.clone().unwrap_or_default(),
        }
    }

    fn words(&self) -> String {
        let Self { address, state, ejection, last_check, .. } = self;
        let left = ejection.as_ref().and_then(|it| it.seconds_left);
        match (left, last_check) {
            (Some(left), _) => format!("{address} {state} {} s", left.ceil()),
            (None, Some(check)) if state == "unhealthy" => {
                format!("{address} {state} ({})", check.words)
            }
            (None, _) => format!("{address} {state}"),
        }
    }
}

impl BreakerCounts {
    fn words(&self) -> Vec<String> {
        let mut said = Vec::new();
        let limits = [
            (self.operations, self.max_operations, "operations"),
            (Some(self.connections), self.max_connections, "connections"),
        ];
        for (now, most, what) in limits {
            if let (Some(now), Some(most)) = (now, most)
                && now >= most
            {
                said.push(format!("at its limit of {most} {what}"));
            }
        }
        if self.pending > 0 {
            said.push(format!("{} wait for a connection", self.pending));
        }
        said
    }
}

/// What policies refused between two answers of the admin interface, in one line; `None` if
/// nothing.
pub fn refusals(before: &[Policy], now: &[Policy], seconds: f64) -> Option<String> {
    let earlier: BTreeMap<&str, &Policy> = before.iter().map(|it| (it.name.as_str(), it)).collect();
    let counted = |word: &str, count: fn(&Policy) -> u64| {
        let rates = now.iter().filter_map(|policy| {
            // After a restart, counts begin at zero.
            let then = earlier.get(policy.name.as_str()).filter(|it| count(it) <= count(policy));
            let more = count(policy) - then.map_or(0, |it| count(it));
            let rate = more as f64 / seconds.max(0.001);
            (more > 0).then(|| format!("{} {}/s", policy.name, super::table::number(rate)))
        });
        let rates: Vec<String> = rates.collect();
        (!rates.is_empty()).then(|| format!("{word} {}", rates.join(", ")))
    };
    let said = [
        counted("refused by", |it| it.refused),
        counted("would be refused by", |it| it.would_refuse),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn notices(of: Value) -> Vec<String> {
        clusters(&serde_json::from_value::<Vec<ClusterState>>(of).unwrap())
    }

    #[test]
    fn a_cluster_that_is_whole_says_nothing() {
        let whole = json!([{ "name": "shop", "panic": false, "lb_policy": "random",
            "endpoints": [{ "address": "a:1", "state": "in_use", "ejection": null }],
            "circuit_breaker": { "connections": 3, "max_connections": 1024, "pending": 0,
                                 "operations": null, "max_operations": null } }]);
        assert!(notices(whole).is_empty());
    }

    #[test]
    fn endpoints_that_are_out_of_use_are_named_with_why() {
        let out = json!([{ "name": "shop", "endpoints": [
            { "address": "a:1", "state": "in_use" },
            { "address": "b:1", "state": "ejected", "ejection": { "seconds_left": 11.4 } },
            { "address": "c:1", "state": "unhealthy", "last_check": { "words": "refused" } },
            { "address": "d:1", "state": "drained" },
        ] }]);
        let line = "shop: 1 of 4 in use, b:1 ejected 12 s, c:1 unhealthy (refused), 1 more";
        assert_eq!(notices(out), [line]);
        let none = json!([{ "name": "shop", "endpoints": [] }]);
        assert_eq!(notices(none), ["shop: no endpoint"]);
    }

    #[test]
    fn a_cluster_at_a_limit_says_which() {
        let full = json!([{ "name": "shop", "panic": true,
            "endpoints": [{ "address": "a:1", "state": "in_use" }],
            "circuit_breaker": { "connections": 5, "max_connections": 5, "pending": 2,
                                 "operations": 20, "max_operations": 20 } }]);
        let line = "shop: PANIC: requests go to all of them, at its limit of 20 operations, at its \
                    limit of 5 connections, 2 wait for a connection";
        assert_eq!(notices(full), [line]);
    }

    #[test]
    fn a_paused_cluster_says_how_many_wait() {
        let paused = json!([{ "name": "shop", "endpoints": [{ "address": "a:1", "state": "in_use" }],
            "pause": { "seconds": 1.0, "resumes_in_seconds": 58.2, "waiting": 12 } }]);
        assert_eq!(notices(paused), ["shop: PAUSED for 59 s: 12 wait"]);
    }

    #[test]
    fn recent_rejections_are_listed_by_policy() {
        let policy = |name: &str, refused, would_refuse| Policy {
            name: name.to_owned(),
            enabled: true,
            refused,
            would_refuse,
        };
        let before = [policy("slow", 10, 0), policy("old", 9, 0), policy("try", 0, 1)];
        let now = [policy("slow", 34, 0), policy("old", 9, 0), policy("try", 0, 2)];
        let line = refusals(&before, &now, 2.0);
        assert_eq!(line.as_deref(), Some("refused by slow 12/s; would be refused by try 0.5/s"));
        assert_eq!(refusals(&now, &now, 2.0), None);
        // A restarted proxy.
        assert_eq!(
            refusals(&now, &[policy("slow", 3, 0)], 1.0).as_deref(),
            Some("refused by slow 3.0/s")
        );
    }
}
