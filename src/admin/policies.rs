//! `/policies` and `/faults`: shows the policies in force, and changes them while the proxy runs.

use super::{View, error};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use config::{self, Diagnostics};
use policy::{
    Live, Rule,
    live::{LiveFault, LivePolicy, MAX_ADDED, MAX_FAULTS},
};
use serde_json::{Value, json};
use std::time::Instant;
use tollgate_metrics::Effects;

/// All policies and faults in force, in the order of evaluation.
pub(super) async fn list(State(view): State<View>) -> Json<Value> {
    Json(all(&view.policies).collect())
}

/// The same without what they match and their settings.
pub(super) fn summary(policies: &Live) -> Value {
    let without = |mut json: Value| {
        if let Some(fields) = json.as_object_mut() {
            ["match", "settings", "configured"].iter().for_each(|key| drop(fields.remove(*key)));
        }
        json
    };
    all(policies).map(without).collect()
}

fn all(live: &Live) -> impl Iterator<Item = Value> {
    let now = Instant::now();
    let faults = live.faults(now).into_iter().map(move |fault| fault_json(&fault, now));
    faults.chain(live.policies().into_iter().map(|policy| policy_json(&policy)))
}

/// Changes a policy or adds one, until the proxy ends.
pub(super) async fn change(
    State(view): State<View>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let policies = view.policies.policies();
    let Some(LivePolicy { current, .. }) = policies.iter().find(|it| *it.current.name == *name)
    else {
        return add(&view, &name, &body);
    };
    let rule = match config::change(current, &body, &(view.scope)()) {
        Ok(rule) => rule,
        Err(problems) => return bad_request(&problems),
    };
    let Some(changed) = view.policies.change(&name, |_| rule) else {
        return error(StatusCode::NOT_FOUND, format!("the policy `{name}` is gone"));
    };
    let (old, new) = (current.to_json(), changed.current.to_json());
    tracing::warn!(policy = name, %old, %new, "a policy was changed by hand");
    let mut json = policy_json(&changed);
    json["was"] = old;
    Json(json).into_response()
}

/// Adds a policy before those of the config.
fn add(view: &View, name: &str, body: &[u8]) -> Response {
    let rule = match config::addition(name, body, &(view.scope)()) {
        Ok(Some(rule)) => rule,
        Ok(None) => return unknown(view, name),
        Err(problems) => return bad_request(&problems),
    };
    if view.policies.faults(Instant::now()).iter().any(|fault| *fault.rule.name == *name) {
        let text = format!("there is a fault `{name}`: give the policy another name");
        return error(StatusCode::CONFLICT, text);
    }
    let Some(added) = view.policies.add(rule) else {
        let text = format!("{MAX_ADDED} policies were added already; DELETE one");
        return error(StatusCode::CONFLICT, text);
    };
    let new = added.current.to_json();
    tracing::warn!(policy = name, %new, "a policy was added by hand");
    let mut reply = (StatusCode::CREATED, Json(policy_json(&added))).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/policies/{name}")) {
        reply.headers_mut().insert(header::LOCATION, place);
    }
    reply
}

fn unknown(view: &View, name: &str) -> Response {
    let policies = view.policies.policies();
    let names: Vec<&str> = policies.iter().map(|policy| &*policy.current.name).collect();
    let existing = match names.as_slice() {
        [] => "there is no policy at all".to_owned(),
        names => format!("there is {}", names.join(", ")),
    };
    let hint = "to add one, write its `match` (`{}` for everything) and what it does";
    let text = json!({ "error": values::hide(&format!("there is no policy `{name}`; {existing}")), "hint": hint });
    (StatusCode::NOT_FOUND, Json(text)).into_response()
}

/// Removes a policy that was added through the admin API.
pub(super) async fn remove(State(view): State<View>, Path(name): Path<String>) -> Response {
    let policies = view.policies.policies();
    let Some(policy) = policies.iter().find(|it| *it.current.name == *name) else {
        return unknown(&view, &name);
    };
    if view.policies.remove(&name) {
        let old = policy.current.to_json();
        tracing::warn!(policy = name, %old, "a policy was removed by hand");
        return StatusCode::NO_CONTENT.into_response();
    }
    let text = format!(
        "the policy `{name}` comes from the config and can't be removed: PUT {{\"enabled\": false}} instead"
    );
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, text);
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("PUT"));
    reply
}

/// The running configuration, with the policies in force now.
pub(super) async fn config(State(view): State<View>) -> Json<Value> {
    let mut config = (view.config)();
    let policies = view.policies.policies();
    if !policies.is_empty() {
        config["policies"] = policies.iter().map(|policy| policy.current.to_json()).collect();
    }
    Json(config)
}

/// The faults in force.
pub(super) async fn faults(State(view): State<View>) -> Json<Value> {
    let now = Instant::now();
    Json(view.policies.faults(now).iter().map(|fault| fault_json(fault, now)).collect())
}

/// Adds a fault before all other policies, for a limited time.
pub(super) async fn add_fault(State(view): State<View>, body: Bytes) -> Response {
    let policies = view.policies.policies();
    let taken = |name: &str| policies.iter().any(|policy| *policy.current.name == *name);
    let (rule, lasts) = match config::fault(&body, &(view.scope)(), taken) {
        Ok(fault) => fault,
        Err(problems) => return bad_request(&problems),
    };
    let now = Instant::now();
    let rule = Rule { expires: now.checked_add(lasts), ..rule };
    let Some(fault) = view.policies.add_fault(rule, now) else {
        let text =
            format!("there are {MAX_FAULTS} faults already; DELETE one, or wait for its end");
        return error(StatusCode::CONFLICT, text);
    };
    tracing::warn!(
        fault = fault.id,
        policy = &*fault.rule.name,
        ?lasts,
        "a fault was added by hand"
    );
    let mut reply = (StatusCode::CREATED, Json(fault_json(&fault, now))).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/faults/{}", fault.id)) {
        reply.headers_mut().insert(header::LOCATION, place);
    }
    reply
}

/// Removes a fault.
pub(super) async fn remove_fault(State(view): State<View>, Path(id): Path<String>) -> Response {
    view.policies.expire(Instant::now());
    if view.policies.remove_fault(&id) {
        tracing::warn!(fault = id, "a fault was removed by hand");
        return StatusCode::NO_CONTENT.into_response();
    }
    let text = format!("there is no fault `{id}`: it has ended or was removed");
    error(StatusCode::NOT_FOUND, text)
}

/// The response to a wrong body, with the messages of `tollgate check`.
fn bad_request(problems: &Diagnostics) -> Response {
    let body = json!({ "error": problems.to_string(), "problems": problems.to_json() });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn fault_json(fault: &LiveFault, now: Instant) -> Value {
    let mut json = rule_json(&fault.rule, now);
    json["id"] = fault.id.as_str().into();
    json
}

fn policy_json(policy: &LivePolicy) -> Value {
    let mut json = rule_json(&policy.current, Instant::now());
    json["changed"] = policy.is_changed().into();
    match &policy.configured {
        None => json["added"] = true.into(),
        Some(from) if policy.is_changed() => json["configured"] = from.to_json(),
        Some(_) => {}
    }
    json
}

fn rule_json(rule: &Rule, now: Instant) -> Value {
    let Effects { refused, modified, would_refuse, would_modify } = rule.counts.effects();
    let mut json = json!({
        "name": &*rule.name,
        "kind": rule.config.kind(),
        "enabled": rule.enabled,
        "dry_run": rule.dry_run,
        "match": rule.matching.to_json(),
        "settings": rule.config.to_json(),
        "refused": refused,
        "modified": modified,
        "would_refuse": would_refuse,
        "would_modify": would_modify,
    });
    if let Some(end) = rule.expires {
        let left = end.saturating_duration_since(now).as_millis();
        json["expires_in_ms"] = u64::try_from(left).unwrap_or(u64::MAX).into();
    }
    json
}
