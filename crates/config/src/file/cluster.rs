//! The config of a cluster. A key's doc line states the unit and the default.

use super::{EndpointConfig, FailoverConfig, PoolConfig, ReplicaSetConfig};
use cluster::{InitialHealth, LbPolicy, OnPanic, SessionFailures};
use protocols::{ConfiguredProbe, Pooling};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use values::spanned::Opt;
use values::{Count, Factor, InRange, Limit, OrOff, Percent};
use values::{MapOrOff, OneOrMore, spanned::Spanned};

/// A named set of endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a cluster's keys and values")]
#[schemars(rename = "Cluster")]
#[schemars(extend("anyOf" = [
    { "required": ["endpoints"] }, { "required": ["endpoints_file"] }, { "required": ["replica_set"] }
]))]
pub(crate) struct ClusterConfig {
    /// Its endpoints, at least one: `host:port`, or a map. Names are resolved, and again at their
    /// TTL. Default: those of `endpoints_file` or `replica_set` alone; one of the three is required.
    #[schemars(length(min = 1))]
    pub(crate) endpoints: Option<Spanned<Vec<Spanned<EndpointConfig>>>>,
    /// A file with more endpoints: YAML or JSON, a list as under `endpoints`. It is read again
    /// after each change. Default: none.
    pub(crate) endpoints_file: Option<Spanned<String>>,
    /// The replica set whose members are its endpoints: they are found by asking them, and followed when
    /// they come, go, or change their role. Not beside `endpoints`, `endpoints_file` or `health_check`.
    /// For clusters of `mongo` listeners. Default: none.
    pub(crate) replica_set: Option<Spanned<ReplicaSetConfig>>,
    /// Settings of HTTP to its endpoints. Default: see its keys.
    #[serde(rename = "http")]
    pub(crate) pooling: Option<Spanned<Pooling>>,
    /// Begin each connection with a header of the PROXY protocol, which says who the client is: `v1` or
    /// `v2`. Not for clusters that `http` and `grpc` listeners use: there a connection serves several
    /// clients. Default: no header.
    pub(crate) proxy_protocol: Opt<proxy_protocol::Version>,
    /// Ask the endpoints for TLS in their own protocol, before the handshake: `postgres`. Only for clusters
    /// with `tls` that `tcp` listeners use. Default: connections begin with TLS.
    pub(crate) starttls: Opt<tls::StartTls>,
    /// How connections to its endpoints are encrypted; `{}` for every default: verified, by the host as
    /// written, with the authorities of the system. Default: not at all.
    pub(crate) tls: Option<Spanned<tls::ClusterSettings>>,
    /// Let the operations of all clients share connections to its endpoints; `{}` for every default. For
    /// clusters of `mongo` listeners. Default: each client connection has an upstream connection of its
    /// own.
    pub(crate) pool: Option<Spanned<PoolConfig>>,
    /// What happens to the operations of the `pool` when an endpoint fails; `{}` for every default. Only
    /// beside `pool`. Default: see its keys.
    pub(crate) failover: Option<Spanned<FailoverConfig>>,
    /// How an endpoint is picked: `round_robin`, `least_request`, `random`, or always the same
    /// one for the same key by `ring_hash` or `maglev`. Default: `least_request`.
    pub(crate) lb_policy: Opt<LbPolicy>,
    /// Settings of `ring_hash` and `maglev`. Default: the client's address.
    pub(crate) hash: Option<Spanned<Hash>>,
    /// The share of usable endpoints, in percent, below which the cluster panics, since too few
    /// endpoints can't bear the load. 0 is never. Default: 50 for six endpoints and more; with
    /// fewer, only when none is usable.
    pub(crate) panic_threshold: Opt<Percent>,
    /// What to do in panic: `ignore_health` and use every endpoint, or `fail`, which rejects
    /// clients. Default: `ignore_health`.
    pub(crate) on_panic: Opt<OnPanic>,
    /// How an endpoint that is new, or healthy again, gets its full share; `{}` for every default.
    /// Default: at once.
    pub(crate) slow_start: Option<Spanned<SlowStart>>,
    /// Active health checks of the endpoints; `{}` for every default. Default: no checks.
    pub(crate) health_check: Option<Spanned<HealthCheck>>,
    /// How failing endpoints are detected by their operations; `{}` for every default. Default: no
    /// detection.
    pub(crate) outlier_detection: Option<Spanned<OutlierDetection>>,
    /// Limits on what is in flight. Default: no limits except on waiting clients and retries.
    pub(crate) circuit_breaker: Option<Spanned<CircuitBreaker>>,
    /// How long one attempt to connect may take. Default: `1s`.
    pub(crate) connect_timeout: Opt<Duration>,
    /// How many endpoints are tried, one after the other, before the connection fails. Default: 3.
    pub(crate) connect_attempts: Opt<InRange<1, 100>>,
    /// How many connections to each endpoint each worker opens in advance. Default: 0.
    pub(crate) spare_connections: Opt<InRange<0, 100>>,
    /// When an idle upstream connection is probed. Default: after a minute.
    pub(crate) keepalive: Option<Spanned<Keepalive>>,
    /// How long sent bytes may stay unacknowledged before the connection is closed, at most `49d`,
    /// or `off` to leave that to the system. Default: as long as `keepalive` takes to close an idle
    /// one.
    pub(crate) tcp_user_timeout: Opt<OrOff<Duration>>,
    /// How long connections to an endpoint that left the cluster may stay open. Default: `30s`.
    pub(crate) drain_timeout: Opt<Duration>,
    /// How often the endpoints' names are resolved again. Default: at their TTL, within bounds.
    pub(crate) dns: Option<Spanned<Dns>>,
}

/// Settings of `ring_hash` and `maglev`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ key: peer }`")]
pub(crate) struct Hash {
    /// What the key is made of: a word or a list. `peer` is the client's address without its port.
    /// Default: `peer`.
    pub(crate) key: Option<Spanned<OneOrMore<String>>>,
    /// The highest load of an endpoint, in percent of the mean, before the next one is picked, or
    /// `off`. Default: `off`.
    pub(crate) bounded_load: Opt<OrOff<InRange<100, 10_000>>>,
    /// The minimum size of the ring of `ring_hash`. Default: 1024.
    pub(crate) ring_size: Opt<InRange<1, 1_048_576>>,
}

/// How an endpoint that is new, or healthy again, gets its full share: its weight is multiplied by
/// (elapsed / window) to the power of (1 / aggression).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ window: 30s }`")]
pub(crate) struct SlowStart {
    /// How long until the full share. Default: `30s`.
    pub(crate) window: Opt<Duration>,
    /// 1 is linear growth, more is faster at first. Default: 1.0.
    pub(crate) aggression: Opt<Factor>,
    /// The initial share, in percent. Default: 10.
    pub(crate) min_weight: Opt<InRange<1, 100>>,
}

/// Active health checks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ interval: 5s }`")]
pub(crate) struct HealthCheck {
    /// The time between two checks of an endpoint. Default: `5s`.
    pub(crate) interval: Opt<Duration>,
    /// The timeout of a check, connecting included; no longer than `interval`, and as long if that
    /// is shorter than the default. Default: `1s`.
    pub(crate) timeout: Opt<Duration>,
    /// The most that is added to `interval` at random, in percent of it. Default: 10.
    pub(crate) jitter: Opt<Percent>,
    /// The time between two checks while the last one contradicts the endpoint's state; no longer
    /// than `interval`, and as long if that is shorter than the default. Default: `1s`.
    pub(crate) edge_interval: Opt<Duration>,
    /// How many successful checks in a row make an endpoint healthy; the very first check decides
    /// alone. Default: 1.
    pub(crate) healthy_threshold: Opt<InRange<1, 1000>>,
    /// How many failed checks in a row make an endpoint unhealthy. Default: 3.
    pub(crate) unhealthy_threshold: Opt<InRange<1, 1000>>,
    /// The state of an endpoint before its first check: `healthy` or `unhealthy`. Default:
    /// `healthy`.
    pub(crate) initial: Opt<InitialHealth>,
    /// Keep the connection for the next check; not with the probe of raw bytes, whose answers have
    /// no recognizable end. Default: `true`.
    pub(crate) reuse_connection: Option<Spanned<bool>>,
    /// Close the connections to an endpoint that becomes unhealthy. Default: `false`.
    pub(crate) close_connections_on_unhealthy: Option<Spanned<bool>>,
    /// The probe: a protocol's name, or `{ name: settings }`. Default: the protocols of the
    /// cluster's listeners.
    pub(crate) probe: Option<Spanned<ConfiguredProbe>>,
}

/// How failing endpoints are detected by their operations. They are ejected, that is, not used for
/// a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ consecutive_failures: 5 }`")]
pub(crate) struct OutlierDetection {
    /// How many failed operations in a row eject, or `off`. Default: 5.
    pub(crate) consecutive_failures: Opt<OrOff<Count>>,
    /// How many connection failures in a row (not connected, reset, timed out) eject, or `off`.
    /// Default: 5.
    pub(crate) consecutive_local_failures: Opt<OrOff<Count>>,
    /// Which ends of a raw TCP session count as failures of its endpoint, beside failures to
    /// connect: `none`; `reset`, a reset by the endpoint; or `no_reply`, also a close by the
    /// endpoint before its first byte. The last is for services that always answer: others close
    /// after cancelled queries, and for clients of another protocol. Default: `reset`.
    pub(crate) session_failures: Opt<SessionFailures>,
    /// How often success rates and failure percentages are evaluated, and endpoints return.
    /// Default: `10s`.
    pub(crate) interval: Opt<Duration>,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long. Default: `30s`.
    pub(crate) base_ejection_time: Opt<Duration>,
    /// How long an ejection lasts at most. Default: `5m`.
    pub(crate) max_ejection_time: Opt<Duration>,
    /// The most endpoints that are ejected at a time, in percent; one may always be, if another is
    /// left. Default: 50.
    pub(crate) max_ejection_percent: Opt<Percent>,
    /// How many of a hundred ejections by consecutive failures are enforced; the others are only
    /// logged. Default: 100.
    pub(crate) enforcing_consecutive: Opt<Percent>,
    /// Ejects endpoints with a lower success rate than the others, or `off`. Default: on.
    pub(crate) success_rate: Option<Spanned<MapOrOff<SuccessRate>>>,
    /// Ejects endpoints with too many failed operations, or `off`. Default: on, but it only logs.
    pub(crate) failure_percentage: Option<Spanned<MapOrOff<FailurePercentage>>>,
}

/// Ejects an endpoint whose success rate in an interval is below the mean of all by more than
/// `stdev_factor` standard deviations.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values such as `{ enforcing: 100 }`, or `off`")]
pub(crate) struct SuccessRate {
    /// The minimum number of endpoints with enough operations. Default: 5.
    pub(crate) minimum_endpoints: Opt<Count>,
    /// The minimum number of operations of an endpoint in an interval. Default: 100.
    pub(crate) minimum_operations: Opt<Count>,
    /// How many standard deviations below the mean are allowed. Default: 1.9.
    pub(crate) stdev_factor: Opt<Factor>,
    /// How many of a hundred ejections are enforced; with 0 they are only logged. Default: 100.
    pub(crate) enforcing: Opt<Percent>,
}

/// Ejects an endpoint if at least `threshold` percent of its operations in an interval failed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values such as `{ threshold: 85 }`, or `off`")]
pub(crate) struct FailurePercentage {
    /// The minimum number of endpoints with enough operations. Default: 5.
    pub(crate) minimum_endpoints: Opt<Count>,
    /// The minimum number of operations of an endpoint in an interval. Default: 50.
    pub(crate) minimum_operations: Opt<Count>,
    /// The percentage of failed operations that ejects. Default: 85.
    pub(crate) threshold: Opt<InRange<1, 100>>,
    /// How many of a hundred ejections are enforced; with 0 they are only logged. Default: 0.
    pub(crate) enforcing: Opt<Percent>,
}

/// Limits on what is in flight. A client beyond a limit of connections waits for one; an operation
/// beyond another limit is rejected, with an error of its protocol.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_connections: 1024 }`")]
pub(crate) struct CircuitBreaker {
    /// The most upstream connections, open or being opened, or `off`. Default: `off`.
    pub(crate) max_connections: Opt<OrOff<Count>>,
    /// The most upstream connections to one endpoint, or `off`. Default: `off`.
    pub(crate) max_connections_per_endpoint: Opt<OrOff<Count>>,
    /// The most clients that wait for a connection. Default: 1024.
    pub(crate) max_pending: Opt<Limit>,
    /// How long a client waits for a connection. Default: `2s`.
    pub(crate) pending_timeout: Opt<Duration>,
    /// The most operations in flight, or `off`. Default: `off`.
    pub(crate) max_operations: Opt<OrOff<Count>>,
    /// The most second and later attempts to connect, in percent of the connections being opened.
    /// Default: 20.
    pub(crate) retry_percent: Opt<Percent>,
    /// How many of these attempts are always allowed. Default: 10.
    pub(crate) min_retries: Opt<Limit>,
}

/// When an idle upstream connection is probed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ idle: 1m }`")]
pub(crate) struct Keepalive {
    /// The idle time before the first probe: whole seconds, `1s` to `9h`. Default: `1m`.
    pub(crate) idle: Opt<Duration>,
    /// The time between probes: whole seconds, `1s` to `9h`. Default: `10s`.
    pub(crate) interval: Opt<Duration>,
    /// How many unanswered probes close the connection. Default: 3.
    pub(crate) probes: Opt<InRange<1, 127>>,
}

/// The bounds of the TTL of names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_ttl: 5m }`")]
pub(crate) struct Dns {
    /// The minimum time before names are resolved again. Default: `1s`.
    pub(crate) min_ttl: Opt<Duration>,
    /// The maximum time before names are resolved again. Default: `5m`.
    pub(crate) max_ttl: Opt<Duration>,
}
