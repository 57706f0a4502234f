//! Open connections: which there are, and ending one.

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

/// The open connections.
pub(super) async fn list(
    State(view): State<View>,
    choice: Result<Query<SessionQuery>, QueryRejection>,
) -> Response {
    let Query(choice) = match choice {
        Ok(choice) => choice,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    match view.sessions.list(&choice).await {
        Ok(sessions) => {
            Json(sessions.iter().map(SessionReport::to_json).collect::<Value>()).into_response()
        }
        Err(WorkerTimeout) => busy(),
    }
}

/// Ends one of them.
pub(super) async fn end(State(view): State<View>, Path(id): Path<String>) -> Response {
    let known = match id.parse() {
        Ok(id) => view.sessions.kill(id).await,
        Err(_) => Ok(false),
    };
    match known {
        Ok(true) => {
            tracing::warn!(session = id, "a session is ended by hand");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => error(StatusCode::NOT_FOUND, format!("there is no session `{id}`")),
        Err(WorkerTimeout) => busy(),
    }
}

fn busy() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "a worker is too busy to answer: ask again")
}
