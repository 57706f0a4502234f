//! `/operations/live`: the last operations, recorded while a client asks for them.

use super::{View, error};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use policy::live_tap::{TapFilter, TapReport, WATCHED_FOR};
use serde::Deserialize;
use serde_json::json;
use std::time::Instant;

/// Which operations: `?after=17&outcome=not_ok&slower_than=100ms&resource=shop.*`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LiveQuery {
    after: u64,
    outcome: Option<String>,
    slower_than: Option<String>,
    listener: Option<String>,
    operation: Option<String>,
    resource: Option<String>,
    housekeeping: bool,
}

/// The longest glob that is accepted, in bytes.
const MAX_GLOB: usize = 256;

impl LiveQuery {
    /// The filter, or an error message.
    fn filter(self) -> Result<TapFilter, String> {
        let outcome = self.outcome.filter(|it| !it.is_empty());
        let slower_than = self.slower_than.filter(|it| !it.is_empty());
        let slower_than = slower_than.map(|text| {
            humantime::parse_duration(&text)
                .map_err(|_| format!("`{text}` is no duration: write one such as 100ms or 2s"))
        });
        let glob = |glob: Option<String>| match glob.filter(|it| !it.is_empty()) {
            Some(glob) if glob.len() > MAX_GLOB => {
                Err(format!("a name of {} bytes is too long: {MAX_GLOB} are allowed", glob.len()))
            }
            glob => Ok(glob),
        };
        Ok(TapFilter {
            outcome: outcome.map(|text| text.parse()).transpose()?,
            slower_than: slower_than.transpose()?.unwrap_or_default(),
            listener: glob(self.listener)?,
            operation: glob(self.operation)?,
            resource: glob(self.resource)?,
            housekeeping: self.housekeeping,
        })
    }
}

/// Lists the operations, and keeps their recording going.
pub(super) async fn list(
    State(view): State<View>,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    let after = query.after;
    let filter = match query.filter() {
        Ok(filter) => filter,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong),
    };
    let TapReport { next, operations } = view.tap.watch(&filter, after, Instant::now());
    let recorded_for_ms = WATCHED_FOR.as_millis() as u64;
    let report =
        json!({ "next": next, "recorded_for_ms": recorded_for_ms, "operations": operations });
    Json(report).into_response()
}
