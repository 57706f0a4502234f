//! The running config, in the shape of a config file, for the admin interface. The plan types derive
//! it; here are the values that they hold in another form.

use super::plan::{AdminPlan, ConnectionLimits, ListenerPlan, Plan};
use cluster::ClusterPlan;
use foldhash::fast::FixedState;
use policy::Rule;
use protocols::{ListenerProtocol, Pooling};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};
use std::{
    hash::{BuildHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use values::Text;

impl Plan {
    /// The whole plan with all defaults, in the shape of a config file: reading it returns the same
    /// plan. Secrets are not shown.
    pub fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["clusters"] = self.shown_clusters().collect();
        json["listeners"] = self.shown_listeners().collect();
        json
    }

    /// A number that identifies what [`Plan::to_json`] returns. The objects are shown one after the other: all at
    /// once they may take megabytes.
    pub fn hash(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        serde_json::to_string(self).unwrap_or_default().hash(&mut hasher);
        for (name, shown) in self.shown_clusters().chain(self.shown_listeners()) {
            (name, shown.to_string()).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn shown_clusters(&self) -> impl Iterator<Item = (String, Value)> {
        let pooling = |it: &ClusterPlan| self.pooling.get(&it.name);
        self.clusters.iter().map(move |it| (it.name.to_string(), cluster(it, pooling(it))))
    }

    fn shown_listeners(&self) -> impl Iterator<Item = (String, Value)> {
        let limits = |it: &ListenerPlan| self.connection_limits.get(&it.name);
        self.listeners.iter().map(move |it| (it.name.to_string(), listener(it, limits(it))))
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
