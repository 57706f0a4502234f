//! Policies: what is in force, and changing it while the proxy runs.

use super::{View, error};
use crate::{
    config::{self, Change, Problems},
    metrics::Effects,
    policy::{
        Rule,
        live::{Changed, Fault, MAX_FAULTS},
    },
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::time::Instant;

/// Everything that is in force, in the order in which operations meet it.
pub(super) async fn list(State(view): State<View>) -> Json<Value> {
    let now = Instant::now();
    let faults = view.policies.faults(now);
    let faults = faults.iter().map(|fault| fault_json(fault, &view, now));
    let policies = view.policies.policies();
    let policies = policies.iter().map(|policy| policy_json(policy, &view));
    Json(faults.chain(policies).collect())
}

/// Changes a policy, until the proxy ends or its config is read again.
pub(super) async fn change(
    State(view): State<View>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let policies = view.policies.policies();
    if !policies.iter().any(|policy| *policy.now.name == *name) {
        let names: Vec<&str> = policies.iter().map(|policy| &*policy.now.name).collect();
        let known = match names.as_slice() {
            [] => "there is none at all".to_owned(),
            names => format!("there is {}", names.join(", ")),
        };
        return error(StatusCode::NOT_FOUND, format!("there is no policy `{name}`; {known}"));
    }
    let wanted = match config::change(&name, &body, &view.scope) {
        Ok(wanted) => wanted,
        Err(problems) => return wrong(&problems),
    };
    let changed = view.policies.change(&name, |known| match wanted {
        Change::Whole(rule) => *rule,
        // What it does is the same, and remembers what it knew.
        Change::Switch(switch) => known.switched(switch.enabled, switch.dry_run, Instant::now()),
    });
    let Some(changed) = changed else {
        return error(StatusCode::NOT_FOUND, format!("the policy `{name}` is gone"));
    };
    let Rule { enabled, dry_run, .. } = *changed.now;
    tracing::warn!(policy = name, enabled, dry_run, "a policy was changed by hand");
    Json(policy_json(&changed, &view)).into_response()
}

/// The faults alone.
pub(super) async fn faults(State(view): State<View>) -> Json<Value> {
    let now = Instant::now();
    Json(view.policies.faults(now).iter().map(|fault| fault_json(fault, &view, now)).collect())
}

/// Puts a fault before all other policies, for some time.
pub(super) async fn add_fault(State(view): State<View>, body: Bytes) -> Response {
    let policies = view.policies.policies();
    let taken = |name: &str| policies.iter().any(|policy| *policy.now.name == *name);
    let (rule, lasts) = match config::fault(&body, &view.scope, taken) {
        Ok(fault) => fault,
        Err(problems) => return wrong(&problems),
    };
    let now = Instant::now();
    let rule = Rule { expires: now.checked_add(lasts), ..rule };
    let Some(fault) = view.policies.add_fault(rule, now) else {
        let text =
            format!("there are {MAX_FAULTS} faults already; DELETE one, or wait for its end");
        return error(StatusCode::CONFLICT, text);
    };
    tracing::warn!(fault = fault.id, policy = &*fault.rule.name, ?lasts, "a fault begins");
    let mut reply = (StatusCode::CREATED, Json(fault_json(&fault, &view, now))).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/faults/{}", fault.id)) {
        reply.headers_mut().insert(header::LOCATION, place);
    }
    reply
}

/// Takes a fault back.
pub(super) async fn remove_fault(State(view): State<View>, Path(id): Path<String>) -> Response {
    view.policies.expire(Instant::now());
    if view.policies.remove_fault(&id) {
        tracing::warn!(fault = id, "a fault was taken back");
        return StatusCode::NO_CONTENT.into_response();
    }
    let text = format!("there is no fault `{id}`: it has ended, or was taken back");
    error(StatusCode::NOT_FOUND, text)
}

/// What is wrong with a body, in the words of `tollgate check`.
fn wrong(problems: &Problems) -> Response {
    let told = json!({ "error": problems.to_string(), "problems": problems.to_json() });
    (StatusCode::BAD_REQUEST, Json(told)).into_response()
}

fn fault_json(fault: &Fault, view: &View, now: Instant) -> Value {
    let mut json = rule_json(&fault.rule, view, now);
    json["id"] = fault.id.as_str().into();
    json
}

fn policy_json(policy: &Changed, view: &View) -> Value {
    let mut json = rule_json(&policy.now, view, Instant::now());
    json["changed"] = policy.is_changed().into();
    json
}

fn rule_json(rule: &Rule, view: &View, now: Instant) -> Value {
    let Effects { refused, bent, would_refuse, would_bend } = view.metrics.effects(&rule.name);
    let mut json = json!({
        "name": &*rule.name,
        "kind": rule.action.kind(),
        "enabled": rule.enabled,
        "dry_run": rule.dry_run,
        "match": rule.matching.to_json(),
        "settings": rule.action.to_json(),
        "refused": refused,
        "bent": bent,
        "would_refuse": would_refuse,
        "would_bend": would_bend,
    });
    if let Some(end) = rule.expires {
        let left = end.saturating_duration_since(now).as_millis();
        json["expires_in_ms"] = u64::try_from(left).unwrap_or(u64::MAX).into();
    }
    json
}
