//! The table of open connections, those with the most bytes first.

use super::{
    columns::{self, ListColumn, age, plain},
    table::size,
};
use serde::Deserialize;

/// An open connection, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SessionState {
    peer: String,
    listener: String,
    cluster: String,
    endpoint: String,
    operation: String,
    resource: String,
    age_ms: f64,
    idle_ms: f64,
    request_bytes: f64,
    reply_bytes: f64,
}

const COLUMNS: [ListColumn<SessionState>; 8] = [
    ListColumn { head: "CLIENT", width: None, from: 0, show: |it| plain(&*it.peer) },
    ListColumn { head: "LISTENER", width: None, from: 50, show: |it| plain(&*it.listener) },
    ListColumn {
        head: "UNDER WAY",
        width: None,
        from: 0,
        show: |it| plain(format!("{} {}", it.operation, it.resource).trim()),
    },
    ListColumn { head: "ENDPOINT", width: None, from: 90, show: |it| plain(&*it.endpoint) },
    ListColumn { head: "AGE", width: Some(5), from: 40, show: |it| plain(age(it.age_ms / 1e3)) },
    ListColumn { head: "IDLE", width: Some(5), from: 60, show: |it| plain(age(it.idle_ms / 1e3)) },
    ListColumn {
        head: "RECEIVED",
        width: Some(8),
        from: 76,
        show: |it| plain(size(it.request_bytes)),
    },
    ListColumn { head: "SENT", width: Some(7), from: 30, show: |it| plain(size(it.reply_bytes)) },
];

/// The table as text, no line longer than `width` columns.
pub fn render(sessions: &[SessionState], shape: (usize, bool)) -> String {
    columns::render(sessions, &COLUMNS, "no client is connected", shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_shows_what_is_under_way() {
        let sessions: Vec<SessionState> = serde_json::from_value(serde_json::json!([
            { "id": 7, "peer": "10.0.0.7:51022", "listener": "db", "endpoint": "10.0.1.1:27017",
              "operation": "find", "resource": "shop.orders", "age_ms": 60_000, "idle_ms": 12,
              "request_bytes": 4810, "reply_bytes": 6_553_600 },
            { "id": 8, "peer": "10.0.0.8:51023", "listener": "web", "age_ms": 5230, "idle_ms": 5000,
              "request_bytes": 0, "reply_bytes": 0 },
        ]))
        .unwrap();
        let expected = "\
CLIENT         LISTENER UNDER WAY        ENDPOINT         AGE  IDLE RECEIVED    SENT
10.0.0.7:51022 db       find shop.orders 10.0.1.1:27017   60s    0s    4.8kB   6.6MB
10.0.0.8:51023 web                                         5s    5s       0B      0B";
        assert_eq!(render(&sessions, (100, false)), expected);
        assert!(render(&[], (80, false)).ends_with("\nno client is connected"));
    }
}
