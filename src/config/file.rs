//! What people write. A key's doc line is its documentation, in editors too: it tells the unit
//! and the default.

mod admin;
mod cluster;
mod endpoint;

use super::plan::{OnViolation, UpstreamConnectMode};
use crate::{policy::configured::Written as Policy, protocols::Written};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};
use values::spanned::{NamedMap, Opt, PartlySpanned, Spanned};
use values::{AtLeast, Count, InRange, Limit, OrOff, Size, Workers, Zone};
pub(crate) use {
    admin::{Admin, AdminKeys},
    cluster::*,
    endpoint::{EndpointConfig, EndpointKeys},
};

/// The most that `max_series` may be: each series holds memory.
const MAX_SERIES: usize = 100_000;

/// A whole config file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "`key: value` lines, such as `listeners:`")]
#[schemars(extend("patternProperties" = { "^x-": true }))]
pub(crate) struct File {
    /// Where metrics, state and control are served: `ip:port`, `off`, or a map that keeps control
    /// apart. Default: `127.0.0.1:9901`.
    pub(crate) admin: Option<Spanned<Admin>>,
    /// How many worker threads: a number, or `auto` for one a core. Default: `auto`.
    pub(crate) workers: Opt<Workers>,
    /// How many client connections at once, over all listeners. Default: 10000.
    pub(crate) max_connections: Opt<Count>,
    /// What is done before a drain begins. Default: nothing.
    pub(crate) drain: Option<Spanned<Drain>>,
    /// How long a drain waits for operations to end. Default: `30s`.
    pub(crate) drain_timeout: Opt<Duration>,
    /// How many series (operation × resource) a listener keeps apart, at most 100000; the rest
    /// share `other`. Default: 1000.
    pub(crate) max_series: Opt<InRange<1, MAX_SERIES>>,
    /// The zone that the proxy is in: endpoints of the same zone are preferred. Default: none.
    pub(crate) zone: Opt<Zone>,
    /// Where clients connect, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) listeners: Option<Spanned<NamedMap<Listener>>>,
    /// Where operations go, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    pub(crate) clusters: Option<Spanned<NamedMap<ClusterConfig>>>,
    /// What is done to operations: each policy that matches applies, in this order. Default: none.
    pub(crate) policies: Option<Spanned<Vec<Spanned<Policy>>>>,
    /// Where and which operations are logged, as JSON lines. Default: nowhere.
    pub(crate) access_log: Option<Spanned<AccessLog>>,
    /// Where it is logged what happens to endpoints (unhealthy, ejected, back, panic, another
    /// set), as JSON lines. Default: nowhere.
    pub(crate) event_log: Option<Spanned<EventLog>>,
}

/// What is done before a drain begins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ wait: 5s }`")]
pub(crate) struct Drain {
    /// How long connections are still accepted after `/ready` has begun to say 503, so that load
    /// balancers have the time to notice; or `off`. Default: `off`.
    pub(crate) wait: Opt<OrOff<Duration>>,
}

/// One place where clients connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a listener's keys and values")]
pub(crate) struct Listener {
    /// Where it listens: `ip:port`, or `:port` for every interface. Port 0: the kernel picks.
    #[schemars(required)]
    pub(crate) address: Opt<SocketAddr>,
    /// What its clients speak: a protocol's name, or `{ name: settings }`.
    #[schemars(required)]
    pub(crate) protocol: Option<PartlySpanned<Written>>,
    /// The name of the cluster that its operations go to, and of requests those that no route
    /// takes. It is required unless routes lead to clusters. Default: none.
    pub(crate) cluster: Option<Spanned<String>>,
    /// How long a connection may rest, or `off`. Default: `1h`.
    pub(crate) idle_timeout: Opt<OrOff<Duration>>,
    /// How long a connection may live, or `off`. Default: `off`.
    pub(crate) max_connection_duration: Opt<OrOff<Duration>>,
    /// How long both peers may say nothing at first, or `off`. Default: `1m`.
    pub(crate) first_byte_timeout: Opt<OrOff<Duration>>,
    /// How long a client may take until its first message can be read, or `off`. Default: `1m`.
    pub(crate) handshake_timeout: Opt<OrOff<Duration>>,
    /// How long a client may take to end a message that it began, or `off`. Of a request's body of
    /// HTTP it limits the pauses: an upload that flows has no end of time. Default: `5m`.
    pub(crate) message_timeout: Opt<OrOff<Duration>>,
    /// How long a peer may take none of the bytes meant for it, or `off`. Default: `5m`.
    pub(crate) write_timeout: Opt<OrOff<Duration>>,
    /// How long a connection one side of which has ended may move no byte, or `off`. It is for
    /// connections that carry bytes: `tcp`, `mongo`, and what HTTP is upgraded to. Default: `5m`.
    pub(crate) half_close_timeout: Opt<OrOff<Duration>>,
    /// How long bytes sent to a client may stay unacknowledged before its connection is given up,
    /// at most `49d`, or `off` to leave that to the system. Where it is not written, a longer
    /// `write_timeout` that is holds for it too. Default: `2m`.
    pub(crate) tcp_user_timeout: Opt<OrOff<Duration>>,
    /// How many connections at once. Default: the `max_connections` of the whole proxy.
    pub(crate) max_connections: Opt<Count>,
    /// How many bytes of requests may be held, over all connections, until policies can decide
    /// about them: of a long request a policy may need what stands at its end. Default: `64MiB`.
    pub(crate) max_held_bytes: Opt<Size>,
    /// How many connections are kept for it, whatever other listeners have open. Default: an even
    /// share of half of the whole proxy's `max_connections`.
    pub(crate) reserved_connections: Opt<Limit>,
    /// When a `tcp` listener connects to the upstream: `immediate`, or `on_client_data`, with the
    /// client's first byte. A `mongo` listener always waits for that byte. Default: immediate.
    pub(crate) upstream_connect_mode: Opt<UpstreamConnectMode>,
    /// What to do once a connection's bytes can't be read any more: `pass` them on unread, or
    /// `close`. Default: `pass`.
    pub(crate) on_violation: Opt<OnViolation>,
}

/// Where and which operations are logged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ path: access.log }`")]
pub(crate) struct AccessLog {
    /// The file to append to. Default: `/dev/stdout`.
    pub(crate) path: Option<Spanned<String>>,
    /// Log only operations that took at least this long, with their query's shape; `0s` logs every
    /// operation with its shape. Default: every operation, without.
    pub(crate) slower_than: Opt<AtLeast>,
    /// Show the values in queries too, not just their shape: they may be personal data.
    /// Default: `false`.
    pub(crate) values: Option<Spanned<bool>>,
}

/// Where it is logged what happens to endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ path: events.log }`")]
pub(crate) struct EventLog {
    /// The file to append to. Default: `/dev/stdout`.
    pub(crate) path: Option<Spanned<String>>,
}
