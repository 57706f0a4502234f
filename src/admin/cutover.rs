//! `/clusters/NAME/pause`, `switch` and `resume`: moves a cluster to another service.

use super::{View, clusters::find, error};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cluster::{Cluster, EndpointPlan, PauseOptions, SwitchError, SwitchTarget};
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use values::{FromText, Target, host_port};

/// The default of `drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest `drain_timeout`: the answer must come while the connection may live.
const MAX_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// The default of `resume_after`.
const RESUME_AFTER: Duration = Duration::from_secs(60);
/// The longest `resume_after`.
const MAX_RESUME_AFTER: Duration = Duration::from_secs(60 * 60);

/// What an operator must know of a switch.
const NOTE: &str = "a restart returns to what the config says: write it there before";

/// The query or the body of a pause.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PauseQuery {
    #[serde(alias = "timeout")]
    drain_timeout: Option<String>,
    resume_after: Option<String>,
}

/// The query or the body of a switch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SwitchQuery {
    to: Option<String>,
    endpoints: Option<Addresses>,
    replica_set: Option<String>,
    seeds: Option<Addresses>,
    members: BTreeMap<String, String>,
}

/// One or more `host:port`: a list, or a text with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Addresses {
    Text(String),
    List(Vec<String>),
}

impl Addresses {
    fn targets(&self) -> Result<Vec<Target>, String> {
        let parts: Vec<&str> = match self {
            Addresses::Text(text) => text.split(',').map(str::trim).collect(),
            Addresses::List(list) => list.iter().map(String::as_str).collect(),
        };
        parts.into_iter().map(target).collect()
    }
}

pub(super) async fn pause(
    State(view): State<View>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let options = parameters(query.as_deref(), &body).and_then(pause_options);
    let options = match options {
        Ok(options) => options,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let cluster = match find(&view, &name) {
        Ok(cluster) => cluster,
        Err(response) => return response,
    };
    let report = cluster.pause(options).await;
    Json(json!({
        "cluster": name,
        "paused": true,
        "drained": report.drained,
        "took_ms": millis(report.took),
        "left": report.left,
        "resumes_in_seconds": options.resume_after.saturating_sub(report.took).as_secs(),
    }))
    .into_response()
}

pub(super) async fn switch(
    State(view): State<View>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let asked: SwitchQuery = match parameters(query.as_deref(), &body) {
        Ok(asked) => asked,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let cluster = match find(&view, &name) {
        Ok(cluster) => cluster,
        Err(response) => return response,
    };
    let target = match switch_target(&view, &cluster, &asked) {
        Ok(target) => target,
        Err(response) => return response,
    };
    match cluster.switch(target).await {
        Ok(report) => Json(json!({
            "cluster": name,
            "to": report.to,
            "endpoints": report.endpoints,
            "took_ms": millis(report.took),
            "note": NOTE,
        }))
        .into_response(),
        Err(refused) => {
            let status = match refused {
                SwitchError::Unusable(_) => StatusCode::BAD_GATEWAY,
                SwitchError::NotPaused(_) | SwitchError::Differs(_) => StatusCode::CONFLICT,
            };
            error(status, refused.to_string())
        }
    }
}

pub(super) async fn resume(State(view): State<View>, Path(name): Path<String>) -> Response {
    let cluster = match find(&view, &name) {
        Ok(cluster) => cluster,
        Err(response) => return response,
    };
    match cluster.resume() {
        Ok(lasted) => {
            let lasted_ms = millis(lasted);
            Json(json!({ "cluster": name, "paused": false, "lasted_ms": lasted_ms }))
                .into_response()
        }
        Err(refused) => error(StatusCode::CONFLICT, refused.to_string()),
    }
}

/// Reads parameters from the body, or else from the query.
fn parameters<T: for<'de> Deserialize<'de>>(query: Option<&str>, body: &[u8]) -> Result<T, String> {
    match (query.unwrap_or_default(), body) {
        ("", []) => serde_json::from_str("{}").map_err(|wrong| wrong.to_string()),
        ("", body) => {
            serde_json::from_slice(body).map_err(|wrong| format!("the body is wrong: {wrong}"))
        }
        (query, []) => {
            let uri = format!("/?{query}").parse().map_err(|_| "the query is wrong".to_owned())?;
            let read = axum::extract::Query::<T>::try_from_uri(&uri);
            read.map(|read| read.0).map_err(|wrong| wrong.body_text())
        }
        _ => Err("write the parameters in the query or in the body, not in both".to_owned()),
    }
}

fn pause_options(asked: PauseQuery) -> Result<PauseOptions, String> {
    let time = |key: &str, text: Option<String>, default, most: Duration| {
        let Some(text) = text else { return Ok(default) };
        let time = match Duration::from_text(&text) {
            Ok(time) => time,
            Err(fault) => return Err(format!("{key}: {}: {}", fault.message, fault.hint)),
        };
        if time > most {
            return Err(format!("{key}: `{text}` is too long: at most {}s", most.as_secs()));
        }
        Ok(time)
    };
    let PauseQuery { drain_timeout, resume_after } = asked;
    let drain_timeout = time("drain_timeout", drain_timeout, DRAIN_TIMEOUT, MAX_DRAIN_TIMEOUT)?;
    let resume_after = time("resume_after", resume_after, RESUME_AFTER, MAX_RESUME_AFTER)?;
    if resume_after <= drain_timeout {
        let text = "the cluster would resume by itself before it is drained: `resume_after` must be \
                    longer than `drain_timeout`";
        return Err(text.to_owned());
    }
    Ok(PauseOptions { drain_timeout, resume_after })
}

/// What the cluster is to point to.
#[expect(clippy::result_large_err, reason = "it is sent at once")]
fn switch_target(
    view: &View,
    cluster: &Cluster,
    asked: &SwitchQuery,
) -> Result<SwitchTarget, Response> {
    let wrong = |text: String| error(StatusCode::BAD_REQUEST, text);
    match asked {
        SwitchQuery { to: Some(to), endpoints: None, replica_set: None, seeds: None, .. } => {
            let other = find(view, to)?;
            let target = cluster.target_of(&other);
            target.map_err(|refused| error(StatusCode::CONFLICT, refused.to_string()))
        }
        SwitchQuery { to: None, endpoints: Some(endpoints), replica_set: None, seeds: None, .. } => {
            let endpoints = endpoints.targets().map_err(wrong)?;
            Ok(cluster.target_at(endpoints.into_iter().map(EndpointPlan::new).collect()))
        }
        SwitchQuery {
            to: None,
            endpoints: None,
            replica_set: Some(set),
            seeds: Some(seeds),
            members,
        } => {
            let seeds = seeds.targets().map_err(wrong)?;
            let dialled = members.iter().map(|(name, at)| Ok((name.to_ascii_lowercase(), target(at)?)));
            let members = dialled.collect::<Result<_, String>>().map_err(wrong)?;
            let plan = config::replica_set(set, seeds, members);
            let plan = plan.ok_or_else(|| wrong("no protocol has replica sets".to_owned()))?;
            Ok(cluster.target_set(plan))
        }
        _ => Err(wrong(
            "name what the cluster is to point to: `to=CLUSTER` of the config, `endpoints=HOST:PORT,…`, or \
             `replica_set=NAME&seeds=HOST:PORT,…`"
                .to_owned(),
        )),
    }
}

fn target(text: &str) -> Result<Target, String> {
    host_port(text).map_err(|fault| format!("{}: {}", fault.message, fault.hint))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}
