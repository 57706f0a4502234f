//! The running config, in the shape of a config file, for the admin interface. The plan types derive
//! it; here are the values that they hold in another form.

use super::plan::{AdminPlan, ConnectionLimits, ListenerPlan, Plan};
use cluster::ClusterPlan;
use policy::Rule;
use protocols::{ListenerProtocol, Pooling};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use values::Text;

impl Plan {
    /// The whole plan with all defaults, in the shape of a config file: reading it returns the same
    /// plan. Secrets are not shown.
    pub fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        let shown =
            |it: &Arc<ClusterPlan>| (it.name.to_string(), cluster(it, self.pooling.get(&it.name)));
        json["clusters"] = self.clusters.iter().map(shown).collect();
        let shown = |it: &Arc<ListenerPlan>| {
            (it.name.to_string(), listener(it, self.connection_limits.get(&it.name)))
        };
        json["listeners"] = self.listeners.iter().map(shown).collect();
        json
    }
}

/// A cluster with its pooling, which is a protocol's.
fn cluster(plan: &ClusterPlan, pooling: Option<&Pooling>) -> Value {
    let mut json = serde_json::to_value(plan).unwrap_or_default();
    json[Pooling::KEY] =
        serde_json::to_value(pooling.cloned().unwrap_or_default()).unwrap_or_default();
    if let (false, Some(keys)) = (plan.lb_policy.picks_by_key(), json.as_object_mut()) {
        keys.remove("hash");
    }
    json
}

/// A listener with its limits, which belong to the whole plan.
fn listener(plan: &ListenerPlan, limits: Option<&ConnectionLimits>) -> Value {
    let mut json = serde_json::to_value(plan).unwrap_or_default();
    let limits = serde_json::to_value(limits).unwrap_or_default();
    if let (Value::Object(keys), Value::Object(limits)) = (&mut json, limits) {
        keys.extend(limits);
    }
    json
}

/// The short form, if that says everything.
pub(super) fn admin<S: Serializer>(plan: &Option<AdminPlan>, to: S) -> Result<S::Ok, S::Error> {
    match plan {
        None => to.serialize_str("off"),
        Some(plan) if *plan == AdminPlan::new(plan.address) => plan.address.serialize(to),
        Some(plan) => plan.serialize(to),
    }
}

pub(super) fn drain<S: Serializer>(wait: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    json!({ "wait": Text(*wait) }).serialize(to)
}

pub(super) fn event_log<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    json!({ "path": path }).serialize(to)
}

pub(super) fn policies<S: Serializer>(rules: &[Arc<Rule>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(rules.iter().map(|rule| rule.to_json()))
}

pub(super) fn protocol<S: Serializer>(
    protocol: &Arc<dyn ListenerProtocol>,
    to: S,
) -> Result<S::Ok, S::Error> {
    protocol.to_json().serialize(to)
}
