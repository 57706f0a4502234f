//! `/clusters`: the state of endpoints, and ejecting, draining and restoring them by hand.

use super::{View, error};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cluster::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The form of the list: `?format=text`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Text,
}

pub(super) async fn list(
    State(view): State<View>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let clusters = (view.clusters)();
    match query {
        Err(wrong) => error(StatusCode::BAD_REQUEST, wrong.body_text()),
        Ok(Query(ListQuery { format: Format::Json })) => {
            Json(clusters.iter().map(|cluster| cluster.report()).collect::<Value>()).into_response()
        }
        Ok(Query(ListQuery { format: Format::Text })) => {
            let texts: Vec<_> = clusters.iter().map(|cluster| cluster.report_text()).collect();
            texts.join("\n").into_response()
        }
    }
}

/// The body of a request: `{"state": "drained"}`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: EndpointState,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndpointState {
    Ejected,
    Drained,
    InUse,
}

pub(super) async fn set_state(
    State(view): State<View>,
    Path((cluster, endpoint)): Path<(String, String)>,
    query: Result<Query<StateQuery>, QueryRejection>,
    body: Bytes,
) -> Response {
    let state = match requested_state(query, &body) {
        Ok(state) => state,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let found = match find(&view, &cluster) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let act = match state {
        EndpointState::Ejected => Cluster::operator_eject,
        EndpointState::Drained => Cluster::operator_drain,
        EndpointState::InUse => Cluster::operator_return,
    };
    match act(&found, &endpoint) {
        Ok(endpoints) => Json(json!({ "endpoints": endpoints })).into_response(),
        Err(unknown) => error(StatusCode::NOT_FOUND, unknown.to_string()),
    }
}

/// The cluster with this name.
#[expect(clippy::result_large_err, reason = "it is sent at once")]
pub(super) fn find(view: &View, name: &str) -> Result<Arc<Cluster>, Response> {
    let clusters = (view.clusters)();
    let found = clusters.iter().find(|cluster| **cluster.name() == *name).cloned();
    found.ok_or_else(|| {
        let names: Vec<&str> = clusters.iter().map(|cluster| &**cluster.name()).collect();
        let text = format!("there is no cluster `{name}`; there is {}", names.join(", "));
        error(StatusCode::NOT_FOUND, text)
    })
}

/// The state in the query: `?state=drained`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateQuery {
    state: Option<EndpointState>,
}

/// The requested state, from the query or else the body; or an error message.
fn requested_state(
    query: Result<Query<StateQuery>, QueryRejection>,
    body: &[u8],
) -> Result<EndpointState, String> {
    let Query(query) = query.map_err(|wrong| wrong.body_text())?;
    if let Some(state) = query.state {
        return Ok(state);
    }
    if body.is_empty() {
        let text = "name the endpoint's new state: ?state=ejected, drained or in_use, \
                    or a body such as {\"state\": \"drained\"}";
        return Err(text.to_owned());
    }
    let body: StateBody =
        serde_json::from_slice(body).map_err(|wrong| format!("the body is wrong: {wrong}"))?;
    Ok(body.state)
}
