//! Clusters: how their endpoints are doing, and taking endpoints out of use and back by hand.

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

/// In which form: `?format=text`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
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
    shown: Result<Query<Shown>, QueryRejection>,
) -> Response {
    let clusters = (view.clusters)();
    match shown {
        Err(wrong) => error(StatusCode::BAD_REQUEST, wrong.body_text()),
        Ok(Query(Shown { format: Format::Json })) => {
            Json(clusters.iter().map(|cluster| cluster.report()).collect::<Value>()).into_response()
        }
        Ok(Query(Shown { format: Format::Text })) => {
            let texts: Vec<_> = clusters.iter().map(|cluster| cluster.report_text()).collect();
            texts.join("\n").into_response()
        }
    }
}

/// What is asked of an endpoint: `{"state": "drained"}`, or the same in the query.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: Wish,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    Ejected,
    Drained,
    InUse,
}

pub(super) async fn steer(
    State(view): State<View>,
    Path((cluster, endpoint)): Path<(String, String)>,
    query: Result<Query<QueryWanted>, QueryRejection>,
    body: Bytes,
) -> Response {
    let wanted = match wanted(query, &body) {
        Ok(wanted) => wanted,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let clusters = (view.clusters)();
    let Some(found) = clusters.iter().find(|known| **known.name() == *cluster) else {
        let names: Vec<&str> = clusters.iter().map(|known| &**known.name()).collect();
        let text = format!("there is no cluster `{cluster}`; there is {}", names.join(", "));
        return error(StatusCode::NOT_FOUND, text);
    };
    let act = match wanted {
        Wish::Ejected => Cluster::operator_eject,
        Wish::Drained => Cluster::operator_drain,
        Wish::InUse => Cluster::operator_return,
    };
    match act(found, &endpoint) {
        Ok(endpoints) => Json(json!({ "endpoints": endpoints })).into_response(),
        Err(unknown) => error(StatusCode::NOT_FOUND, unknown.to_string()),
    }
}

/// See [`Wanted`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryWanted {
    state: Option<Wish>,
}

/// What is wanted, by the query or else the body; or what is wrong with both.
fn wanted(query: Result<Query<QueryWanted>, QueryRejection>, body: &[u8]) -> Result<Wish, String> {
    let Query(query) = query.map_err(|wrong| wrong.body_text())?;
    if let Some(wish) = query.state {
        return Ok(wish);
    }
    if body.is_empty() {
        let text = "say what becomes of the endpoint: ?state=ejected, drained or in_use, \
                    or a body such as {\"state\": \"drained\"}";
        return Err(text.to_owned());
    }
    let wanted: Wanted =
        serde_json::from_slice(body).map_err(|wrong| format!("the body is wrong: {wrong}"))?;
    Ok(wanted.state)
}
