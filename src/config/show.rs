//! What runs, in the words of a config file: for people who ask the admin interface.

use super::{
    plan::{AccessLogPlan, ClusterPlan, ListenerPlan, Plan},
    value::duration_text,
};
use serde_json::{Map, Value, json};
use std::time::Duration;

impl Plan {
    /// The whole plan with every default filled in, in the shape of a config file: reading it
    /// back gives the same plan. A plan holds no secrets yet; those it will hold stay out.
    pub fn to_json(&self) -> Value {
        let listeners = self.listeners.iter().map(|it| (it.name.to_string(), listener(it)));
        let clusters = self.clusters.iter().map(|it| (it.name.to_string(), cluster(it)));
        let mut json = json!({
            "admin": self.admin.map_or("off".to_owned(), |address| address.to_string()),
            "workers": self.workers,
            "max_connections": self.max_connections,
            "drain_timeout": duration_text(self.drain_timeout),
            "max_series": self.max_series,
            "listeners": listeners.collect::<Map<_, _>>(),
            "clusters": clusters.collect::<Map<_, _>>(),
        });
        if let (Some(log), Some(keys)) = (&self.access_log, json.as_object_mut()) {
            keys.insert("access_log".to_owned(), access_log(log));
        }
        json
    }
}

fn listener(plan: &ListenerPlan) -> Value {
    json!({
        "address": plan.address.to_string(),
        "protocol": plan.protocol.to_json(),
        "cluster": &*plan.cluster,
        "idle_timeout": or_off(plan.idle_timeout),
        "max_connection_duration": or_off(plan.max_connection_duration),
        "first_byte_timeout": or_off(plan.first_byte_timeout),
        "message_timeout": or_off(plan.message_timeout),
        "write_timeout": or_off(plan.write_timeout),
        "max_connections": plan.max_connections,
        "on_violation": plan.on_violation.as_str(),
    })
}

fn cluster(plan: &ClusterPlan) -> Value {
    json!({
        "endpoints": plan.endpoints.iter().map(|endpoint| endpoint.at.to_string()).collect::<Vec<_>>(),
        "lb_policy": plan.lb_policy.as_str(),
        "connect_timeout": duration_text(plan.connect_timeout),
        "connect_attempts": plan.connect_attempts,
        "dns": {
            "min_ttl": duration_text(plan.dns_min_ttl),
            "max_ttl": duration_text(plan.dns_max_ttl),
        },
    })
}

fn access_log(plan: &AccessLogPlan) -> Value {
    let mut json = json!({ "path": plan.path, "values": plan.values });
    if let (Some(least), Some(keys)) = (plan.slower_than, json.as_object_mut()) {
        keys.insert("slower_than".to_owned(), duration_text(least).into());
    }
    json
}

fn or_off(limit: Option<Duration>) -> String {
    limit.map_or("off".to_owned(), duration_text)
}
