//! The page for browsers, the list of paths, and the tables that can be sorted and truncated.

use super::{
    View, error,
    guard::{Control, Rules},
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use tollgate_metrics::Times;

/// The page, its script and its style. Nothing else is loaded.
const PAGE: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// Whether a client wants a page for people. `curl` and scripts do not.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

/// The page for browsers.
pub(super) fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// Serves the page's script.
pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// Serves the style.
pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

/// The list of paths of a socket with these access rules.
pub(super) fn paths(rules: &Rules) -> Html<String> {
    let note = match &rules.control {
        Control::Allowed(None) => String::new(),
        Control::Allowed(Some(_)) => {
            "Requests that change something need the token in <code>admin.token_file</code>.".into()
        }
        Control::ReadOnly(why) => why.replace('&', "&amp;").replace('<', "&lt;"),
    };
    Html(include_str!("page/paths.html").replace("<!-- control -->", &note))
}

/// The order and number of rows: `?sort=p99&limit=10`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableQuery {
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
}

/// The sort key; rows with the largest value come first.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// The total time of all operations.
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

type TableQueryResult = Result<Query<TableQuery>, QueryRejection>;

pub(super) async fn operations(State(view): State<View>, query: TableQueryResult) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    let mut rows = view.metrics.operations();
    query.apply(&mut rows, |row| {
        (row.times, row.count, row.errors, row.request_bytes + row.reply_bytes)
    });
    Json(rows).into_response()
}

pub(super) async fn callsites(State(view): State<View>, query: TableQueryResult) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, wrong.body_text()),
    };
    let mut rows = view.metrics.callsites();
    query.apply(&mut rows, |row| (row.times, row.count, 0, 0));
    Json(rows).into_response()
}
