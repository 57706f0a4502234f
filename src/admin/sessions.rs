//! `/sessions`: lists open connections, and closes one.

use super::{View, error};
use crate::{
    connection::session_info::{SessionQuery, SessionReport},
    worker::WorkerTimeout,
};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;

/// Lists the open connections.
pub(super) async fn list(
    State(view): State<View>,
    query: Result<Query<SessionQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    match view.sessions.list(&query).await {
        Ok(sessions) => {
            Json(sessions.iter().map(SessionReport::to_json).collect::<Value>()).into_response()
        }
        Err(WorkerTimeout) => busy(),
    }
}

/// Closes one of them.
pub(super) async fn kill(State(view): State<View>, Path(id): Path<String>) -> Response {
    let killed = match id.parse() {
        Ok(id) => view.sessions.kill(id).await,
        Err(_) => Ok(false),
    };
    match killed {
        Ok(true) => {
            tracing::warn!(session = id, "a session was closed by hand");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => error(StatusCode::NOT_FOUND, format!("there is no session `{id}`")),
        Err(WorkerTimeout) => busy(),
    }
}

pub(super) fn busy() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "a worker did not answer in time: try again")
}
