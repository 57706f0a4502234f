//! `/config` and `/reloads`: reads the config again, or takes another one, while the proxy runs.

use super::{View, error};
use crate::reload::{ReloadError, ReloadSource};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The parameters of a reload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadQuery {
    /// Only report what would change: `?dry_run`, `?dry_run=true`.
    dry_run: Option<String>,
}

impl ReloadQuery {
    fn dry_run(&self) -> Result<bool, String> {
        match self.dry_run.as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(format!("`dry_run={other}`: write `?dry_run`, or leave it out")),
        }
    }
}

/// The last reloads, the newest first.
pub(super) async fn list(State(view): State<View>) -> Json<Value> {
    Json(view.reloader.report())
}

/// Takes the config in the body, or reads the file again if there is none.
pub(super) async fn reload(
    State(view): State<View>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
    body: Bytes,
) -> Response {
    let query = query.map_err(|wrong| wrong.body_text());
    let dry_run = match query.and_then(|Query(query)| query.dry_run()) {
        Ok(dry_run) => dry_run,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let source = match body.is_empty() {
        true => ReloadSource::File,
        false => ReloadSource::Text(body.to_vec()),
    };
    let report = match view.reloader.reload(source, dry_run).await {
        Ok(report) => report,
        Err(busy) => return error(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()),
    };
    let status = match &report.result {
        Ok(_) => StatusCode::OK,
        Err(ReloadError::Wrong(_)) => StatusCode::BAD_REQUEST,
        Err(ReloadError::Failed(_)) => StatusCode::CONFLICT,
    };
    let mut json = report.to_json();
    if let (Ok(reloaded), Some(keys)) = (&report.result, json.as_object_mut()) {
        keys.insert("text".to_owned(), json!(reloaded.changes.to_string()));
    }
    if let (Err(ReloadError::Wrong(problems)), Some(keys)) = (&report.result, json.as_object_mut())
    {
        keys.insert("text".to_owned(), json!(problems.to_string()));
    }
    (status, Json(json)).into_response()
}
