//! `/shapes`: which query costs most; `/findings`: programs that query badly.

use super::{View, error, sessions::busy};
use crate::worker::WorkerTimeout;
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shapes::ShapeOrder;

/// The order and the number of shapes: `?by=errors&limit=10`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShapeQuery {
    #[serde(default)]
    by: ShapeOrder,
    limit: Option<usize>,
}

/// Lists the shapes.
pub(super) async fn list(
    State(view): State<View>,
    query: Result<Query<ShapeQuery>, QueryRejection>,
) -> Response {
    let Query(ShapeQuery { by, limit }) = match query {
        Ok(query) => query,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    match view.shapes.list(by, limit.unwrap_or(usize::MAX)).await {
        Ok(report) => Json(report).into_response(),
        Err(WorkerTimeout) => busy(),
    }
}

/// Forgets all shapes and findings.
pub(super) async fn reset(State(view): State<View>) -> Response {
    match view.shapes.reset().await {
        Ok(()) => {
            tracing::info!("query shapes and findings were reset by hand");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(WorkerTimeout) => busy(),
    }
}

/// Lists the findings.
pub(super) async fn findings(State(view): State<View>) -> Response {
    Json(view.shapes.shared.findings()).into_response()
}
