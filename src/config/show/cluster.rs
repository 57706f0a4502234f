//! A cluster, in the shape of the config.

use super::or_off;
use cluster::{
    BreakerPlan, ClusterPlan, EndpointPlan, HashPlan, HealthCheckPlan, KeepalivePlan, LbPolicy,
    OutlierPlan, RateDetector, SlowStartPlan,
};
use protocols::Pooling;
use serde_json::{Map, Value, json};
use values::Target;
use values::duration_text;

/// Features that are off by default are left out while off.
pub(super) fn cluster(plan: &ClusterPlan, pooling: Option<&Pooling>) -> Value {
    let mut keys = Map::new();
    let mut show = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    if !plan.endpoints.is_empty() {
        show("endpoints", plan.endpoints.iter().map(endpoint).collect());
    }
    if let Some(file) = &plan.endpoints_file {
        show("endpoints_file", file.path.to_string_lossy().into());
    }
    show(
        Pooling::KEY,
        serde_json::to_value(pooling.cloned().unwrap_or_default()).unwrap_or_default(),
    );
    show("lb_policy", plan.lb_policy.as_str().into());
    if matches!(plan.lb_policy, LbPolicy::RingHash | LbPolicy::Maglev) {
        show("hash", hash(&plan.hash));
    }
    if let Some(threshold) = plan.panic.threshold {
        show("panic_threshold", threshold.into());
    }
    show("on_panic", if plan.panic.fail { "fail" } else { "ignore_health" }.into());
    if let Some(plan) = &plan.slow_start {
        show("slow_start", slow_start(plan));
    }
    if let Some(plan) = &plan.health_check {
        show("health_check", health_check(plan));
    }
    if let Some(plan) = &plan.outlier_detection {
        show("outlier_detection", outlier_detection(plan));
    }
    show("circuit_breaker", circuit_breaker(&plan.circuit_breaker));
    show("connect_timeout", duration_text(plan.connect_timeout).into());
    show("connect_attempts", plan.connect_attempts.into());
    show("spare_connections", plan.spare_connections.into());
    show("keepalive", keepalive(&plan.keepalive));
    show("tcp_user_timeout", or_off(plan.tcp_user_timeout).into());
    show("drain_timeout", duration_text(plan.drain_timeout).into());
    let (min_ttl, max_ttl) = (duration_text(plan.dns_min_ttl), duration_text(plan.dns_max_ttl));
    show("dns", json!({ "min_ttl": min_ttl, "max_ttl": max_ttl }));
    Value::Object(keys)
}

fn endpoint(plan: &EndpointPlan) -> Value {
    let written = plan.at.to_string();
    let mut json = match &plan.at {
        Target::Host(..) if *plan == EndpointPlan::new(plan.at.clone()) => return written.into(),
        Target::Host(..) => {
            json!({ "address": written, "weight": plan.weight, "priority": plan.priority })
        }
        Target::Srv(_) => json!({ "srv": written }),
    };
    if let (Some(zone), Some(keys)) = (&plan.zone, json.as_object_mut()) {
        keys.insert("zone".to_owned(), (**zone).into());
    }
    json
}

fn hash(plan: &HashPlan) -> Value {
    json!({
        // The only key so far.
        "key": "peer",
        "bounded_load": plan.bounded_load.map_or("off".into(), Value::from),
        "ring_size": plan.ring_size,
    })
}

fn slow_start(plan: &SlowStartPlan) -> Value {
    json!({
        "window": duration_text(plan.window),
        "aggression": plan.aggression,
        "min_weight": plan.min_weight,
    })
}

fn health_check(plan: &HealthCheckPlan) -> Value {
    json!({
        "interval": duration_text(plan.interval),
        "timeout": duration_text(plan.timeout),
        "jitter": plan.jitter,
        "edge_interval": duration_text(plan.edge_interval),
        "healthy_threshold": plan.healthy_threshold,
        "unhealthy_threshold": plan.unhealthy_threshold,
        "initial": if plan.initial_healthy { "healthy" } else { "unhealthy" },
        "reuse_connection": plan.reuse_connection,
        "close_connections_on_unhealthy": plan.close_connections_on_unhealthy,
        "probe": plan.probe.to_json(),
    })
}

fn outlier_detection(plan: &OutlierPlan) -> Value {
    json!({
        "consecutive_failures": times(plan.consecutive_failures),
        "consecutive_local_failures": times(plan.consecutive_local_failures),
        "session_failures": plan.session_failures.as_str(),
        "interval": duration_text(plan.interval),
        "base_ejection_time": duration_text(plan.base_ejection_time),
        "max_ejection_time": duration_text(plan.max_ejection_time),
        "max_ejection_percent": plan.max_ejection_percent,
        "enforcing_consecutive": plan.enforcing_consecutive,
        "success_rate": detector(plan.success_rate, "stdev_factor", plan.stdev_factor.into()),
        "failure_percentage":
            detector(plan.failure_percentage, "threshold", plan.failure_threshold.into()),
    })
}

/// A number of consecutive events; 0 is never.
fn times(times: u32) -> Value {
    if times == 0 { "off".into() } else { times.into() }
}

fn detector(plan: RateDetector, own_key: &str, own: Value) -> Value {
    if plan == RateDetector::OFF {
        return "off".into();
    }
    json!({
        "minimum_endpoints": plan.minimum_endpoints,
        "minimum_operations": plan.minimum_operations,
        own_key: own,
        "enforcing": plan.enforcing,
    })
}

fn circuit_breaker(plan: &BreakerPlan) -> Value {
    let limit = |limit: Option<usize>| limit.map_or("off".into(), Value::from);
    json!({
        "max_connections": limit(plan.max_connections),
        "max_connections_per_endpoint": limit(plan.max_connections_per_endpoint),
        "max_pending": plan.max_pending,
        "pending_timeout": duration_text(plan.pending_timeout),
        "max_operations": limit(plan.max_operations),
        "retry_percent": plan.retry_percent,
        "min_retries": plan.min_retries,
    })
}

fn keepalive(plan: &KeepalivePlan) -> Value {
    json!({
        "idle": duration_text(plan.idle),
        "interval": duration_text(plan.interval),
        "probes": plan.probes,
    })
}
