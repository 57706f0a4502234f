//! The running config, in the shape of a config file, for the admin interface.

mod cluster;

use super::plan::{AdminPlan, ListenerPlan, Plan};
use crate::policy::access_log::AccessLogPlan;
use cluster::cluster;
use serde_json::{Map, Value, json};
use std::time::Duration;
use values::{Size, duration_text};

impl Plan {
    /// The whole plan with all defaults, in the shape of a config file: reading it returns the same
    /// plan. Secrets are not shown.
    pub fn to_json(&self) -> Value {
        let listeners = self.listeners.iter().map(|it| (it.name.to_string(), listener(it)));
        let clusters = self
            .clusters
            .iter()
            .map(|it| (it.name.to_string(), cluster(it, self.pooling.get(&it.name))));
        let mut json = json!({
            "admin": self.admin.as_ref().map_or("off".into(), admin),
            "workers": self.workers,
            "max_connections": self.max_connections,
            "drain": { "wait": or_off(self.drain_wait) },
            "drain_timeout": duration_text(self.drain_timeout),
            "max_series": self.max_series,
            "listeners": listeners.collect::<Map<_, _>>(),
            "clusters": clusters.collect::<Map<_, _>>(),
        });
        let Some(keys) = json.as_object_mut() else { return json };
        if !self.policies.is_empty() {
            let policies = self.policies.iter().map(|rule| rule.to_json()).collect();
            keys.insert("policies".to_owned(), policies);
        }
        if let Some(log) = &self.access_log {
            keys.insert("access_log".to_owned(), access_log(log));
        }
        if let Some(path) = &self.event_log {
            keys.insert("event_log".to_owned(), json!({ "path": path }));
        }
        if let Some(zone) = &self.zone {
            keys.insert("zone".to_owned(), (**zone).into());
        }
        json
    }
}

/// The token itself is not part of the plan.
fn admin(plan: &AdminPlan) -> Value {
    if *plan == AdminPlan::new(plan.address) {
        return plan.address.to_string().into();
    }
    let mut json = json!({ "address": plan.address.to_string() });
    if let Some(control) = &plan.control {
        json["control"] = control.to_string().into();
    }
    if let Some(file) = &plan.token_file {
        json["token_file"] = json!(file);
    }
    if !plan.allowed_hosts.is_empty() {
        json["allowed_hosts"] = plan.allowed_hosts.iter().map(|host| &**host).collect();
    }
    json
}

fn listener(plan: &ListenerPlan) -> Value {
    let mut json = json!({
        "address": plan.address.to_string(),
        "protocol": plan.protocol.to_json(),
        "idle_timeout": or_off(plan.timeouts.idle),
        "max_connection_duration": or_off(plan.timeouts.max_duration),
        "first_byte_timeout": or_off(plan.timeouts.first_byte),
        "handshake_timeout": or_off(plan.timeouts.handshake),
        "message_timeout": or_off(plan.timeouts.message),
        "write_timeout": or_off(plan.timeouts.write),
        "half_close_timeout": or_off(plan.timeouts.half_close),
        "tcp_user_timeout": or_off(plan.tcp_user_timeout),
        "max_connections": plan.max_connections,
        "max_held_bytes": Size(plan.max_held_bytes as u64).text(),
        "reserved_connections": plan.reserved_connections,
        "on_violation": plan.on_violation.as_str(),
    });
    let Some(keys) = json.as_object_mut() else { return json };
    if let Some(cluster) = &plan.cluster {
        keys.insert("cluster".to_owned(), (**cluster).into());
    }
    if !plan.protocol.client_speaks_first() {
        let mode = plan.upstream_connect_mode.as_str();
        keys.insert("upstream_connect_mode".to_owned(), mode.into());
    }
    json
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
