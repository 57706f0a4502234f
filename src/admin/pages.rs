//! The pages that are more than one value: the index, and tables that can be sorted and cut.

use super::{
    View, error,
    guard::{Control, Rules},
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use tollgate_metrics::Times;

/// The index, as it is where these rules hold.
pub(super) fn index(rules: &Rules) -> Html<String> {
    let told = match &rules.control {
        Control::Here(None) => String::new(),
        Control::Here(Some(_)) => {
            "Requests that change something need the token in <code>admin.token_file</code>.".into()
        }
        Control::Elsewhere(why) => why.replace('&', "&amp;").replace('<', "&lt;"),
    };
    Html(include_str!("index.html").replace("<!-- control -->", &told))
}

/// Which rows, and in which order: `?sort=p99&limit=10`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableQuery {
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
}

/// What rows are sorted by, the largest first.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// The time that all operations took together.
    #[default]
    Time,
    Count,
    Errors,
    Bytes,
    P50,
    P90,
    P99,
}

impl TableQuery {
    /// Sorts and truncates `rows`; `measure` returns times, count, errors and bytes of a row.
    fn apply<T>(self, rows: &mut Vec<T>, measure: impl Fn(&T) -> (Times, u64, u64, u64)) {
        let key = |row: &T| {
            let (times, count, errors, bytes) = measure(row);
            match self.sort {
                Sort::Time => times.total_ms,
                Sort::Count => count as f64,
                Sort::Errors => errors as f64,
                Sort::Bytes => bytes as f64,
                Sort::P50 => times.p50_ms.unwrap_or_default(),
                Sort::P90 => times.p90_ms.unwrap_or_default(),
                Sort::P99 => times.p99_ms.unwrap_or_default(),
            }
        };
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
        rows.truncate(self.limit.unwrap_or(usize::MAX));
    }
}

type Chosen = Result<Query<TableQuery>, QueryRejection>;

pub(super) async fn operations(State(view): State<View>, choice: Chosen) -> Response {
    let Query(choice) = match choice {
        Ok(choice) => choice,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    let mut rows = view.metrics.operations();
    choice.apply(&mut rows, |row| {
        (row.times, row.count, row.errors, row.request_bytes + row.reply_bytes)
    });
    Json(rows).into_response()
}

pub(super) async fn callsites(State(view): State<View>, choice: Chosen) -> Response {
    let Query(choice) = match choice {
        Ok(choice) => choice,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    let mut rows = view.metrics.callsites();
    choice.apply(&mut rows, |row| (row.times, row.count, 0, 0));
    Json(rows).into_response()
}
