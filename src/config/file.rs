//! What people write. A key's doc line is its documentation, in editors too: it tells the unit
//! and the default.

use super::{
    address::Endpoint,
    located::{Located, Named},
    plan::{LbPolicy, OnViolation},
    value::{Count, OrOff, Text, Workers},
};
use crate::protocols::Written;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};

/// A key that may be left out, and whose value is written as text.
pub(crate) type Given<T> = Option<Located<Text<T>>>;

/// Keys that are not part of this version yet. Whoever writes one is told so.
pub(crate) const LATER: &[&str] =
    &["policies", "health_check", "outlier_detection", "circuit_breaker", "weight", "priority"];

/// The most that `max_series` may be: each series holds memory.
pub(crate) const MAX_SERIES: usize = 100_000;
/// The most that `connect_attempts` may be.
pub(crate) const MAX_CONNECT_ATTEMPTS: usize = 100;

/// A whole config file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "`key: value` lines, such as `listeners:`")]
pub(crate) struct File {
    /// Where metrics, state and control are served: `ip:port`, or `off`. Default: `127.0.0.1:9901`.
    pub(crate) admin: Given<OrOff<SocketAddr>>,
    /// How many worker threads: a number, or `auto` for one a core. Default: `auto`.
    pub(crate) workers: Given<Workers>,
    /// How many client connections at once, over all listeners. Default: 10000.
    pub(crate) max_connections: Given<Count>,
    /// How long a drain waits for operations to end. Default: `30s`.
    pub(crate) drain_timeout: Given<Duration>,
    /// How many series (operation × resource) a listener keeps apart, at most 100000; the rest
    /// share `other`. Default: 1000.
    #[schemars(extend("maximum" = MAX_SERIES))]
    pub(crate) max_series: Given<Count>,
    /// Where clients connect, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) listeners: Option<Located<Named<Listener>>>,
    /// Where operations go, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    pub(crate) clusters: Option<Located<Named<Cluster>>>,
    /// Where and which operations are logged, as JSON lines. Default: nowhere.
    pub(crate) access_log: Option<Located<AccessLog>>,
}

/// One place where clients connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a listener's keys and values")]
pub(crate) struct Listener {
    /// Where it listens: `ip:port`, or `:port` for every interface. Port 0: the kernel picks.
    #[schemars(required)]
    pub(crate) address: Given<SocketAddr>,
    /// What its clients speak: a protocol's name, or `{ name: settings }`.
    #[schemars(required)]
    pub(crate) protocol: Option<Located<Written>>,
    /// The name of the cluster that its operations go to.
    #[schemars(required)]
    pub(crate) cluster: Option<Located<String>>,
    /// How long a connection may rest, or `off`. Default: `1h`.
    pub(crate) idle_timeout: Given<OrOff<Duration>>,
    /// How long a connection may live, or `off`. Default: `off`.
    pub(crate) max_connection_duration: Given<OrOff<Duration>>,
    /// How long both peers may say nothing at first, or `off`. Default: `1m`.
    pub(crate) first_byte_timeout: Given<OrOff<Duration>>,
    /// How long a client may take to end a message that it began, or `off`. Default: `5m`.
    pub(crate) message_timeout: Given<OrOff<Duration>>,
    /// How long a peer may take none of the bytes meant for it, or `off`. Default: `5m`.
    pub(crate) write_timeout: Given<OrOff<Duration>>,
    /// How many connections at once. Default: the `max_connections` of the whole proxy.
    pub(crate) max_connections: Given<Count>,
    /// What to do once a connection's bytes can't be read any more: `pass` them on unread, or
    /// `close`. Default: `pass`.
    pub(crate) on_violation: Given<OnViolation>,
}

/// A named set of endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a cluster's keys and values")]
pub(crate) struct Cluster {
    /// Its endpoints, at least one: `host:port`. Names are looked up, and again at their TTL.
    #[schemars(required, length(min = 1))]
    pub(crate) endpoints: Option<Located<Vec<Located<Endpoint>>>>,
    /// How an endpoint is picked: `round_robin`, `least_request` or `random`.
    /// Default: `least_request`.
    pub(crate) lb_policy: Given<LbPolicy>,
    /// How long one attempt to connect may take. Default: `1s`.
    pub(crate) connect_timeout: Given<Duration>,
    /// How many endpoints are tried, one after the other, before giving up: 1 to 100. Default: 3.
    #[schemars(extend("maximum" = MAX_CONNECT_ATTEMPTS))]
    pub(crate) connect_attempts: Given<Count>,
    /// How often the endpoints' names are looked up again. Default: at their TTL, within bounds.
    pub(crate) dns: Option<Located<Dns>>,
}

/// The bounds of a name's time to live.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_ttl: 5m }`")]
pub(crate) struct Dns {
    /// Names are not looked up again sooner than this. Default: `1s`.
    pub(crate) min_ttl: Given<Duration>,
    /// Names are looked up again after this at the latest. Default: `5m`.
    pub(crate) max_ttl: Given<Duration>,
}

/// Where and which operations are logged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ path: access.log }`")]
pub(crate) struct AccessLog {
    /// The file to append to. Default: `/dev/stdout`.
    pub(crate) path: Option<Located<String>>,
    /// Log only operations that took at least this long, with their query's shape.
    /// Default: every operation.
    pub(crate) slower_than: Given<Duration>,
    /// Show the values in queries too, not just their shape: they may be personal data.
    /// Default: `false`.
    pub(crate) values: Option<Located<bool>>,
}
