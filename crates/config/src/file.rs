//! The types of a config file. A key's doc line is its documentation, in editors too: it states the
//! unit and the default.

mod admin;
mod cluster;
mod endpoint;
mod failover;
mod pool;
mod replica_set;
mod tracing;

use super::plan::{OnReload, OnViolation, UpstreamConnectMode};
use policy::PolicySettings;
use protocols::ProtocolConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};
use values::NamedMap;
use values::spanned::{Opt, PartlySpanned, Spanned};
use values::{AtLeast, Count, InRange, Limit, OneOrMore, OrOff, Size, Workers, Zone};
pub(crate) use {
    admin::{Admin, AdminKeys},
    cluster::*,
    endpoint::{EndpointConfig, EndpointKeys},
    failover::FailoverConfig,
    pool::PoolConfig,
    replica_set::ReplicaSetConfig,
    tracing::{TraceAlways, Tracing},
};

/// The maximum of `max_series`: each series takes memory.
const MAX_SERIES: usize = 100_000;

/// A whole config file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "`key: value` lines, such as `listeners:`")]
#[schemars(extend("patternProperties" = { "^x-": true }))]
pub(crate) struct File {
    /// More files with `listeners`, `clusters` and `policies`: a path, a glob (`conf.d/*.yaml`), or a
    /// list of them, relative to the directory of this file. Default: none.
    #[expect(dead_code, reason = "`input` reads it before the rest; here its type is checked")]
    pub(crate) include: Option<Spanned<OneOrMore<String>>>,
    /// Where metrics, state and control are served: `ip:port`, `off`, or a map with separate
    /// control. Default: `127.0.0.1:9901`.
    pub(crate) admin: Option<Spanned<Admin>>,
    /// The number of worker threads, or `auto` for one per core. Default: `auto`.
    pub(crate) workers: Opt<Workers>,
    /// The most client connections at a time, over all listeners. Default: 10000.
    pub(crate) max_connections: Opt<Count>,
    /// What happens before a drain begins. Default: nothing.
    pub(crate) drain: Option<Spanned<Drain>>,
    /// How long a drain waits for operations to end. Default: `30s`.
    pub(crate) drain_timeout: Opt<Duration>,
    /// The time over which a drain closes connections that are idle, if another process serves their clients
    /// from then on, or another config: they do not all connect again at once. Default: half of
    /// `drain_timeout`.
    pub(crate) drain_spread: Opt<AtLeast>,
    /// Whether the config is read again when one of its files changes. They are compared by content, once a
    /// second; SIGHUP and `tollgate reload` do it at any time. Default: `false`.
    pub(crate) watch: Option<Spanned<bool>>,
    /// The Unix socket where the next process asks for the listening sockets (`tollgate run --upgrade`), with an
    /// absolute path. Default: an abstract socket that is named after the address of `admin`.
    pub(crate) upgrade_socket: Option<Spanned<String>>,
    /// The most series (operation × resource) of a listener, at most 100000; the rest share
    /// `other`. Default: 1000.
    pub(crate) max_series: Opt<InRange<1, MAX_SERIES>>,
    /// The proxy's zone: endpoints of the same zone are preferred. Default: none.
    pub(crate) zone: Opt<Zone>,
    /// Where clients connect, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) listeners: Option<Spanned<NamedMap<Listener>>>,
    /// Where operations go, by name (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    pub(crate) clusters: Option<Spanned<NamedMap<ClusterConfig>>>,
    /// Limits, faults and other rules for operations: each policy that matches applies, in this
    /// order. Default: none.
    pub(crate) policies: Option<Spanned<Vec<Spanned<PolicySettings>>>>,
    /// Where and which operations are logged, as JSON lines. Default: nowhere.
    pub(crate) access_log: Option<Spanned<AccessLog>>,
    /// Where events of endpoints are logged (unhealthy, ejected, back, panic, another set), as JSON
    /// lines. Default: nowhere.
    pub(crate) event_log: Option<Spanned<EventLog>>,
    /// Where spans of operations are sent, and which. The usual variables `OTEL_…` fill in what is
    /// left out; `{}` leaves out everything. Default: nowhere.
    pub(crate) tracing: Option<Spanned<Tracing>>,
}

/// What happens before a drain begins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ wait: 5s }`")]
pub(crate) struct Drain {
    /// How long connections are still accepted while `/ready` already answers 503, so that load
    /// balancers notice; or `off`. Default: `off`.
    pub(crate) wait: Opt<OrOff<Duration>>,
}

/// An address where clients connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a listener's keys and values")]
pub(crate) struct Listener {
    /// The address to listen on: `ip:port`, or `:port` for every interface. Port 0: the kernel
    /// picks.
    #[schemars(required)]
    pub(crate) address: Opt<SocketAddr>,
    /// The protocol of its clients: a name, or `{ name: settings }`.
    #[schemars(required)]
    pub(crate) protocol: Option<PartlySpanned<ProtocolConfig>>,
    /// The name of the cluster for its operations; with routes, for requests that no route matches.
    /// Required unless routes lead to clusters. Default: none.
    pub(crate) cluster: Option<Spanned<String>>,
    /// From whom connections begin with a header of the PROXY protocol, versions 1 and 2, which says who
    /// the client is. Default: from nobody, and no header is read.
    pub(crate) proxy_protocol: Option<Spanned<proxy_protocol::ListenerSettings>>,
    /// The clusters of clients that ask for these names by TLS (SNI): `{ NAME: CLUSTER }`; a wildcard of
    /// one label is `*.example.net`. Without `tls` the handshake is read and TLS passes through: only for
    /// `tcp`. Others go to `cluster`, and are refused if there is none. Default: all go to `cluster`.
    pub(crate) sni: Option<Spanned<NamedMap<String>>>,
    /// Answer clients that ask for TLS in their own protocol, before the handshake: `postgres`. Only for
    /// `tcp`, with `tls` or `sni`. Clients that begin with TLS at once are served too. Default: none.
    pub(crate) starttls: Opt<tls::StartTls>,
    /// How its clients are encrypted. Default: not at all.
    pub(crate) tls: Option<Spanned<tls::ListenerSettings>>,
    /// How long a connection may be idle, or `off`. Default: `1h`.
    pub(crate) idle_timeout: Opt<OrOff<Duration>>,
    /// How long a connection may be open, or `off`. Default: `off`.
    pub(crate) max_connection_duration: Opt<OrOff<Duration>>,
    /// How long a new connection may stay silent on both sides, or `off`. Default: `1m`.
    pub(crate) first_byte_timeout: Opt<OrOff<Duration>>,
    /// How long a client may take to send its first complete message, or `off`. Default: `1m`.
    pub(crate) handshake_timeout: Opt<OrOff<Duration>>,
    /// How long a client may take to complete a message that it began, or `off`. For the body of an
    /// HTTP request it limits the pauses: a steady upload may take any time. Default: `5m`.
    pub(crate) message_timeout: Opt<OrOff<Duration>>,
    /// How long a peer may accept none of the bytes sent to it, or `off`. Default: `5m`.
    pub(crate) write_timeout: Opt<OrOff<Duration>>,
    /// How long a half-closed connection may move no byte, or `off`. For connections that carry
    /// bytes: `tcp`, `mongo`, and upgraded HTTP. Default: `5m`.
    pub(crate) half_close_timeout: Opt<OrOff<Duration>>,
    /// How long bytes sent to a client may stay unacknowledged before its connection is closed, at
    /// most `49d`, or `off` to leave that to the system. If it is not set, a longer `write_timeout`
    /// applies to it too. Default: `2m`.
    pub(crate) tcp_user_timeout: Opt<OrOff<Duration>>,
    /// The most connections at a time. Default: the `max_connections` of the whole proxy.
    pub(crate) max_connections: Opt<Count>,
    /// The most bytes of requests held, over all connections, until policies can decide: a policy
    /// may need the end of a long request. Default: `64MiB`.
    pub(crate) max_held_bytes: Opt<Size>,
    /// How many connections are reserved for it, whatever other listeners have open. Default: an
    /// even share of half of the whole proxy's `max_connections`.
    pub(crate) reserved_connections: Opt<Limit>,
    /// When a `tcp` listener connects to the upstream: `immediate`, or `on_client_data`, with the
    /// client's first byte. A `mongo` listener always waits for that byte. Default: immediate.
    pub(crate) upstream_connect_mode: Opt<UpstreamConnectMode>,
    /// How open connections end when a reload of the config changes the listener: `keep` lets them end as
    /// they began, `rest` closes them when they are idle, within `drain_timeout`. Default: `keep`.
    pub(crate) on_reload: Opt<OnReload>,
    /// What to do when the bytes of a connection can't be parsed: `pass` them on unparsed, or
    /// `close`. Default: `pass`.
    pub(crate) on_violation: Opt<OnViolation>,
}

/// Where and which operations are logged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ path: access.log }`")]
pub(crate) struct AccessLog {
    /// The file to append to. Default: `/dev/stdout`.
    pub(crate) path: Option<Spanned<String>>,
    /// Log only operations that took at least this long, with the shape of their query; `0s` logs
    /// every operation with its shape. Default: every operation, without.
    pub(crate) slower_than: Opt<AtLeast>,
    /// Log the values in queries too, not only their shape: they may be personal data. Default:
    /// `false`.
    pub(crate) values: Option<Spanned<bool>>,
}

/// Where events of endpoints are logged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ path: events.log }`")]
pub(crate) struct EventLog {
    /// The file to append to. Default: `/dev/stdout`.
    pub(crate) path: Option<Spanned<String>>,
}
