//! The table of pools: the connections that operations share, of each endpoint.

use super::{
    layout::{Heads, Line, RED, YELLOW, lay_out},
    table::{WIDE, bar, percent},
};
use serde::Deserialize;
use std::ops::Range;

/// The pool of a cluster, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PoolState {
    cluster: String,
    max_pool_size: u64,
    endpoints: Vec<PoolEndpoint>,
}

/// The connections to one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PoolEndpoint {
    endpoint: String,
    idle: u64,
    active: u64,
    awaiting: u64,
    connecting: u64,
    waiting: u64,
}

/// One line of the table.
struct PoolRow<'a> {
    cluster: &'a str,
    most: u64,
    now: &'a PoolEndpoint,
}

impl PoolRow<'_> {
    /// How many of the connections that operations may use are in use.
    fn used(&self) -> f64 {
        self.now.active as f64 / self.most.max(1) as f64
    }
}

/// A column of numbers.
struct Column {
    head: &'static str,
    width: usize,
    /// How wide the table is where it is shown.
    at: Range<usize>,
    show: fn(&PoolRow<'_>) -> String,
}

const ANY: usize = usize::MAX;

const NUMBERS: [Column; 9] = [
    Column { head: "ACTIVE", width: 6, at: 0..ANY, show: |row| row.now.active.to_string() },
    Column { head: "MAX", width: 6, at: 56..ANY, show: |row| row.most.to_string() },
    Column { head: "USED", width: 5, at: 44..ANY, show: |row| percent(row.used(), 1.0) },
    Column { head: "IDLE", width: 6, at: 50..ANY, show: |row| row.now.idle.to_string() },
    Column {
        head: "CONNECTING",
        width: 10,
        at: 90..ANY,
        show: |row| row.now.connecting.to_string(),
    },
    Column { head: "AWAITING", width: 8, at: 70..ANY, show: |row| row.now.awaiting.to_string() },
    Column { head: "WAITING", width: 7, at: 0..ANY, show: |row| row.now.waiting.to_string() },
    Column { head: "", width: 10, at: 104..WIDE, show: |row| bar(row.used(), 1.0, 10) },
    Column { head: "", width: 30, at: WIDE..ANY, show: |row| bar(row.used(), 1.0, 30) },
];

/// The table as text, the fullest pools first, no line longer than `width` columns. With `colour` it
/// holds escape codes.
pub fn render(pools: &[PoolState], width: usize, colour: bool) -> String {
    let mut rows: Vec<PoolRow<'_>> = pools.iter().flat_map(rows).collect();
    rows.sort_by(|a, b| {
        let fullest = b.now.waiting.cmp(&a.now.waiting).then(b.used().total_cmp(&a.used()));
        fullest.then_with(|| (a.cluster, &a.now.endpoint).cmp(&(b.cluster, &b.now.endpoint)))
    });
    let columns: Vec<&Column> = NUMBERS.iter().filter(|it| it.at.contains(&width)).collect();
    let line = |row: &PoolRow<'_>| Line {
        texts: vec![row.cluster.to_owned(), row.now.endpoint.clone()],
        numbers: columns.iter().map(|it| ((it.show)(row), tint(it.head, row))).collect(),
    };
    let heads = Heads {
        texts: vec!["CLUSTER", "ENDPOINT"],
        numbers: columns.iter().map(|it| (it.head, it.width)).collect(),
    };
    let lines: Vec<Line> = rows.iter().map(line).collect();
    lay_out(&heads, &lines, "no cluster has a `pool`", (width, colour))
}

/// A line for each pool in which operations wait: `shop: 3 wait for a pooled connection`.
pub fn notices(pools: &[PoolState]) -> Vec<String> {
    let waiting = |pool: &PoolState| pool.endpoints.iter().map(|it| it.waiting).sum::<u64>();
    let full = pools.iter().filter(|pool| waiting(pool) > 0);
    full.map(|pool| {
        let (name, waiting) = (&pool.cluster, waiting(pool));
        format!("{name}: {waiting} wait for a pooled connection")
    })
    .collect()
}

fn rows(pool: &PoolState) -> impl Iterator<Item = PoolRow<'_>> {
    let (cluster, most) = (&pool.cluster, pool.max_pool_size);
    pool.endpoints.iter().map(move |now| PoolRow { cluster, most, now })
}

fn tint(head: &str, row: &PoolRow<'_>) -> &'static str {
    match head {
        "WAITING" if row.now.waiting > 0 => RED,
        "USED" if row.used() >= 1.0 => YELLOW,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Vec<PoolState> {
        let json = serde_json::json!([
            { "cluster": "users", "max_pool_size": 100, "max_awaiting": 100, "endpoints": [
                { "endpoint": "mongo-3:27017", "idle": 20, "active": 5, "awaiting": 0,
                  "connecting": 0, "waiting": 0 },
            ] },
            { "cluster": "shop", "max_pool_size": 40, "max_awaiting": 100, "endpoints": [
                { "endpoint": "mongo-1:27017", "idle": 8, "active": 30, "awaiting": 12,
                  "connecting": 2, "waiting": 0, "role": "secondary" },
                { "endpoint": "mongo-2:27017", "idle": 0, "active": 40, "awaiting": 3,
                  "connecting": 0, "waiting": 17 },
            ] },
        ]);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_fullest_pools_come_first() {
        let expected = "\
CLUSTER ENDPOINT      ACTIVE    MAX  USED   IDLE CONNECTING AWAITING WAITING
shop    mongo-2:27017     40     40  100%      0          0        3      17
shop    mongo-1:27017     30     40   75%      8          2       12       0
users   mongo-3:27017      5    100    5%     20          0        0       0";
        assert_eq!(render(&pools(), 100, false), expected);
    }

    #[test]
    fn a_narrow_terminal_shows_what_waits() {
        let expected = "\
CLUSTER ENDPOINT      ACTIVE WAITING
shop    mongo-2:27017     40      17
shop    mongo-1:27017     30       0
users   mongo-3:27017      5       0";
        assert_eq!(render(&pools(), 40, false), expected);
        for width in 0..200 {
            let text = render(&pools(), width, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_proxy_without_pools_says_so() {
        assert!(render(&[], 80, false).ends_with("\nno cluster has a `pool`"));
    }

    #[test]
    fn operations_that_wait_are_noticed() {
        assert_eq!(notices(&pools()), ["shop: 17 wait for a pooled connection"]);
        let text = render(&pools(), 80, true);
        assert!(text.contains(RED) && text.contains(YELLOW), "{text}");
    }
}
