//! The table of endpoints, those out of use first, and that of listeners.

use super::{
    columns::{self, ListColumn, age, loud_if, plain},
    layout::{RED, YELLOW},
    notices::{ClusterState, EndpointState},
    table::duration,
};
use serde::Deserialize;

/// A listener, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ListenerState {
    name: String,
    address: String,
    protocol: String,
    clusters: Vec<String>,
    connections: u64,
    max_connections: u64,
}

struct EndpointRow {
    cluster: String,
    now: EndpointState,
}

/// From which share of failures on an endpoint is shown in a colour, in percent.
const FAILING: f64 = 1.0;

const ENDPOINTS: [ListColumn<EndpointRow>; 9] = [
    ListColumn { head: "CLUSTER", width: None, from: 0, show: |it| plain(&*it.cluster) },
    ListColumn { head: "ENDPOINT", width: None, from: 0, show: |it| plain(&*it.now.address) },
    ListColumn {
        head: "STATE",
        width: None,
        from: 0,
        show: |it| plain(it.now.state.replace('_', " ")),
    },
    ListColumn { head: "WHY", width: None, from: 90, show: |it| plain(it.now.why()) },
    ListColumn {
        head: "SINCE",
        width: Some(5),
        from: 48,
        show: |it| plain(age(it.now.state_seconds)),
    },
    ListColumn {
        head: "OPS",
        width: Some(4),
        from: 70,
        show: |it| plain(it.now.active_operations.to_string()),
    },
    ListColumn {
        head: "ERR%",
        width: Some(5),
        from: 60,
        show: |it| match it.now.last_interval.success_rate {
            None => plain("-"),
            Some(rate) => loud_if(100.0 - rate > FAILING, format!("{:.1}", 100.0 - rate), RED),
        },
    },
    ListColumn {
        head: "P99",
        width: Some(7),
        from: 40,
        show: |it| plain(duration(it.now.last_interval.p99_ms)),
    },
    ListColumn {
        head: "CERT",
        width: Some(5),
        from: 76,
        show: |it| match it.now.certificate_expires_in_seconds {
            None => plain("-"),
            Some(left) => super::certificates::left(left),
        },
    },
];

const LISTENERS: [ListColumn<ListenerState>; 6] = [
    ListColumn { head: "LISTENER", width: None, from: 0, show: |it| plain(&*it.name) },
    ListColumn { head: "ADDRESS", width: None, from: 0, show: |it| plain(&*it.address) },
    ListColumn { head: "PROTOCOL", width: None, from: 60, show: |it| plain(&*it.protocol) },
    ListColumn { head: "CLUSTERS", width: None, from: 80, show: |it| plain(it.clusters.join(" ")) },
    ListColumn {
        head: "CONNECTIONS",
        width: Some(11),
        from: 40,
        show: |it| {
            let full = it.connections * 10 >= it.max_connections * 9;
            loud_if(full, it.connections.to_string(), YELLOW)
        },
    },
    ListColumn {
        head: "MAX",
        width: Some(7),
        from: 50,
        show: |it| plain(it.max_connections.to_string()),
    },
];

/// Both tables as text, no line longer than `width` columns. With `colour` it holds escape codes.
pub fn render(
    clusters: &[ClusterState],
    listeners: &[ListenerState],
    (width, colour): (usize, bool),
) -> String {
    let rows = clusters.iter().flat_map(|cluster| {
        let row =
            |now: &EndpointState| EndpointRow { cluster: cluster.name.clone(), now: now.clone() };
        cluster.endpoints.iter().map(row)
    });
    let mut rows: Vec<EndpointRow> = rows.collect();
    // A stable sort: the proxy's order is kept otherwise.
    rows.sort_by_key(|row| row.now.state == "in_use");
    let endpoints =
        columns::render(&rows, &ENDPOINTS, "no cluster has an endpoint", (width, colour));
    let listeners = columns::render(listeners, &LISTENERS, "there is no listener", (width, colour));
    format!("{endpoints}\n\n{listeners}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(width: usize, colour: bool) -> String {
        let clusters = serde_json::json!([{ "name": "shop", "endpoints": [
            { "address": "10.0.0.1:80", "state": "in_use", "state_seconds": 7200.0, "active_operations": 3,
              "last_interval": { "success_rate": 97.5, "p99_ms": 12.0 },
              "certificate_expires_in_seconds": 172_800 },
            { "address": "10.0.0.2:80", "state": "ejected", "state_seconds": 6.0, "active_operations": 0,
              "ejection": { "reason": "5 operations failed in a row", "seconds_left": 4.0 } },
        ] }]);
        let listeners = serde_json::json!([{ "name": "web", "address": "0.0.0.0:8080", "protocol": "http",
            "clusters": ["shop"], "connections": 95, "max_connections": 100 }]);
        let read =
            (serde_json::from_value(clusters).unwrap(), serde_json::from_value(listeners).unwrap());
        let (clusters, listeners): (Vec<ClusterState>, Vec<ListenerState>) = read;
        render(&clusters, &listeners, (width, colour))
    }

    #[test]
    fn endpoints_out_of_use_come_first() {
        let expected = "\
CLUSTER ENDPOINT    STATE   WHY                          SINCE  OPS  ERR%     P99  CERT
shop    10.0.0.2:80 ejected 5 operations failed in a row    6s    0     -       -     -
shop    10.0.0.1:80 in use                                  2h    3   2.5  12.0ms    2d

LISTENER ADDRESS      PROTOCOL CLUSTERS CONNECTIONS     MAX
web      0.0.0.0:8080 http     shop              95     100";
        assert_eq!(tables(100, false), expected);
        let coloured = tables(100, true);
        assert!(coloured.contains(RED) && coloured.contains(YELLOW), "{coloured}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 0..200 {
            let text = tables(width, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        }
    }
}
