//! What people write about a cluster. A key's doc line tells the unit and the default.

use super::EndpointConfig;
use crate::config::keyword::{InitialHealth, OnPanic};
use crate::protocols::{Pooling, WrittenProbe};
use cluster::{LbPolicy, SessionFailures};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use values::spanned::Opt;
use values::spanned::{MapOrOff, Spanned, WordList};
use values::{Count, Factor, InRange, Limit, OrOff, Percent};

/// A named set of endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a cluster's keys and values")]
#[schemars(rename = "Cluster")]
#[schemars(extend("anyOf" = [{ "required": ["endpoints"] }, { "required": ["endpoints_file"] }]))]
pub(crate) struct ClusterConfig {
    /// Its endpoints, at least one: `host:port`, or a map. Names are looked up, and again at
    /// their TTL. Default: those of `endpoints_file` alone; one of the two is required.
    #[schemars(length(min = 1))]
    pub(crate) endpoints: Option<Spanned<Vec<Spanned<EndpointConfig>>>>,
    /// A file with more endpoints: YAML or JSON, a list as under `endpoints`. It is read again
    /// whenever it changes. Default: none.
    pub(crate) endpoints_file: Option<Spanned<String>>,
    /// How its endpoints are spoken to by HTTP. Default: see its keys.
    #[serde(rename = "http")]
    pub(crate) pooling: Option<Spanned<Pooling>>,
    /// How an endpoint is picked: `round_robin`, `least_request`, `random`, or always the same
    /// one for the same key by `ring_hash` or `maglev`. Default: `least_request`.
    pub(crate) lb_policy: Opt<LbPolicy>,
    /// What `ring_hash` and `maglev` pick by. Default: the client's address.
    pub(crate) hash: Option<Spanned<Hash>>,
    /// With a smaller share of usable endpoints than this, in percent, there is panic: so few
    /// can't bear the load. 0 is never. Default: 50 for six endpoints and more; among fewer there
    /// is panic when none is usable.
    pub(crate) panic_threshold: Opt<Percent>,
    /// What to do in a panic: `ignore_health` and use every endpoint, or `fail`, which refuses
    /// clients. Default: `ignore_health`.
    pub(crate) on_panic: Opt<OnPanic>,
    /// How an endpoint that is new, or healthy again, comes to its full share; `{}` for every
    /// default. Default: at once.
    pub(crate) slow_start: Option<Spanned<SlowStart>>,
    /// How endpoints are asked whether they work; `{}` for every default. Default: they are not.
    pub(crate) health_check: Option<Spanned<HealthCheck>>,
    /// How endpoints that fail are found by the operations that they are given; `{}` for every
    /// default. Default: they are not.
    pub(crate) outlier_detection: Option<Spanned<OutlierDetection>>,
    /// How much may be under way. Default: as much as there is.
    pub(crate) circuit_breaker: Option<Spanned<CircuitBreaker>>,
    /// How long one attempt to connect may take. Default: `1s`.
    pub(crate) connect_timeout: Opt<Duration>,
    /// How many endpoints are tried, one after the other, before giving up. Default: 3.
    pub(crate) connect_attempts: Opt<InRange<1, 100>>,
    /// How many connections to each endpoint each worker holds ready for clients to come.
    /// Default: 0.
    pub(crate) spare_connections: Opt<InRange<0, 100>>,
    /// When an upstream connection that rests is asked whether it still stands. Default: after a
    /// minute.
    pub(crate) keepalive: Option<Spanned<Keepalive>>,
    /// How long sent bytes may stay unacknowledged before the connection is given up, at most
    /// `49d`, or `off` to leave that to the system. Default: as long as `keepalive` takes to give
    /// one up that rests.
    pub(crate) tcp_user_timeout: Opt<OrOff<Duration>>,
    /// How long connections to an endpoint that left the cluster may go on. Default: `30s`.
    pub(crate) drain_timeout: Opt<Duration>,
    /// How often the endpoints' names are looked up again. Default: at their TTL, within bounds.
    pub(crate) dns: Option<Spanned<Dns>>,
}

/// Settings of `ring_hash` and `maglev`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ key: peer }`")]
pub(crate) struct Hash {
    /// What makes the key: a word or a list. `peer` is the client's address without its port.
    /// Default: `peer`.
    pub(crate) key: Option<Spanned<WordList>>,
    /// The most that an endpoint may be loaded beside the mean, in percent, before the next one
    /// is taken, or `off`. Default: `off`.
    pub(crate) bounded_load: Opt<OrOff<InRange<100, 10_000>>>,
    /// How many places the ring of `ring_hash` has at least. Default: 1024.
    pub(crate) ring_size: Opt<InRange<1, 1_048_576>>,
}

/// How an endpoint that is new, or healthy again, comes to its full share: its weight is
/// multiplied by (elapsed / window) to the power of (1 / aggression).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ window: 30s }`")]
pub(crate) struct SlowStart {
    /// How long it takes. Default: `30s`.
    pub(crate) window: Opt<Duration>,
    /// 1 grows evenly, more grows faster at first. Default: 1.0.
    pub(crate) aggression: Opt<Factor>,
    /// The share to begin with, in percent. Default: 10.
    pub(crate) min_weight: Opt<InRange<1, 100>>,
}

/// How endpoints are asked whether they work.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ interval: 5s }`")]
pub(crate) struct HealthCheck {
    /// The time between two checks of an endpoint. Default: `5s`.
    pub(crate) interval: Opt<Duration>,
    /// How long a check may take, connecting included; no longer than `interval`, and as long if
    /// that is shorter than the default. Default: `1s`.
    pub(crate) timeout: Opt<Duration>,
    /// How much longer than `interval` the pause may be, at random, in percent of it. Default: 10.
    pub(crate) jitter: Opt<Percent>,
    /// The time between two checks while the last one tells otherwise than the endpoint's state;
    /// no longer than `interval`, and as long if that is shorter than the default. Default: `1s`.
    pub(crate) edge_interval: Opt<Duration>,
    /// How many good checks in a row make an endpoint healthy; the first check of all decides
    /// alone. Default: 1.
    pub(crate) healthy_threshold: Opt<InRange<1, 1000>>,
    /// How many failed checks in a row make an endpoint unhealthy. Default: 3.
    pub(crate) unhealthy_threshold: Opt<InRange<1, 1000>>,
    /// What an endpoint is taken for before its first check: `healthy` or `unhealthy`.
    /// Default: `healthy`.
    pub(crate) initial: Opt<InitialHealth>,
    /// Keep the connection for the next check; not with the probe of raw bytes, of whose answers
    /// nothing tells the end. Default: `true`.
    pub(crate) reuse_connection: Option<Spanned<bool>>,
    /// Close the connections to an endpoint that becomes unhealthy. Default: `false`.
    pub(crate) close_connections_on_unhealthy: Option<Spanned<bool>>,
    /// What is asked: a protocol's name, or `{ name: settings }`. Default: what the listeners of
    /// this cluster speak.
    pub(crate) probe: Option<Spanned<WrittenProbe>>,
}

/// How endpoints that fail are found by the operations that they are given. What is found is
/// ejected: left out for a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ consecutive_failures: 5 }`")]
pub(crate) struct OutlierDetection {
    /// Ejected after that many failed operations in a row, or `off`. Default: 5.
    pub(crate) consecutive_failures: Opt<OrOff<Count>>,
    /// Ejected after that many failures of the way to it in a row (not connected, reset, timed
    /// out), or `off`. Default: 5.
    pub(crate) consecutive_local_failures: Opt<OrOff<Count>>,
    /// Which ends of a raw TCP session are failures of its endpoint, beside connections that do not
    /// come about: `none`; `reset`, those that the endpoint resets; or `no_reply`, also those that
    /// it closes without having sent a byte. The last is for services that always answer: others
    /// hang up on cancelled queries, and on clients that speak something else. Default: `reset`.
    pub(crate) session_failures: Opt<SessionFailures>,
    /// How often success rates and failure percentages are looked at, and endpoints return.
    /// Default: `10s`.
    pub(crate) interval: Opt<Duration>,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long. Default: `30s`.
    pub(crate) base_ejection_time: Opt<Duration>,
    /// How long an ejection lasts at most. Default: `5m`.
    pub(crate) max_ejection_time: Opt<Duration>,
    /// The most endpoints that may be ejected at once, in percent; one may always be, if another
    /// is left. Default: 50.
    pub(crate) max_ejection_percent: Opt<Percent>,
    /// How many of a hundred ejections by consecutive failures are carried out; the others are
    /// told only. Default: 100.
    pub(crate) enforcing_consecutive: Opt<Percent>,
    /// Finds endpoints that succeed more rarely than the others, or `off`. Default: on.
    pub(crate) success_rate: Option<Spanned<MapOrOff<SuccessRate>>>,
    /// Finds endpoints of whose operations too many fail, or `off`. Default: on, but it only
    /// tells.
    pub(crate) failure_percentage: Option<Spanned<MapOrOff<FailurePercentage>>>,
}

/// Ejects an endpoint whose rate of successes in an interval is below the mean of all by more
/// than `stdev_factor` standard deviations.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values such as `{ enforcing: 100 }`, or `off`")]
pub(crate) struct SuccessRate {
    /// How many endpoints with enough operations it takes. Default: 5.
    pub(crate) minimum_endpoints: Opt<Count>,
    /// How many operations in an interval an endpoint needs to count. Default: 100.
    pub(crate) minimum_operations: Opt<Count>,
    /// How many standard deviations below the mean are too many. Default: 1.9.
    pub(crate) stdev_factor: Opt<Factor>,
    /// How many of a hundred ejections are carried out; 0 only tells. Default: 100.
    pub(crate) enforcing: Opt<Percent>,
}

/// Ejects an endpoint of whose operations in an interval at least `threshold` percent failed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values such as `{ threshold: 85 }`, or `off`")]
pub(crate) struct FailurePercentage {
    /// How many endpoints with enough operations it takes. Default: 5.
    pub(crate) minimum_endpoints: Opt<Count>,
    /// How many operations in an interval an endpoint needs to count. Default: 50.
    pub(crate) minimum_operations: Opt<Count>,
    /// How many failed operations of a hundred are too many. Default: 85.
    pub(crate) threshold: Opt<InRange<1, 100>>,
    /// How many of a hundred ejections are carried out; 0 only tells. Default: 0.
    pub(crate) enforcing: Opt<Percent>,
}

/// How much may be under way. Who finds too many connections waits for one; what is over another
/// limit is refused, in the words of its protocol.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_connections: 1024 }`")]
pub(crate) struct CircuitBreaker {
    /// How many upstream connections, open or being opened, or `off`. Default: `off`.
    pub(crate) max_connections: Opt<OrOff<Count>>,
    /// How many upstream connections to one endpoint, or `off`. Default: `off`.
    pub(crate) max_connections_per_endpoint: Opt<OrOff<Count>>,
    /// How many clients may wait for a connection when there are enough. Default: 1024.
    pub(crate) max_pending: Opt<Limit>,
    /// How long they wait. Default: `2s`.
    pub(crate) pending_timeout: Opt<Duration>,
    /// How many operations, or `off`. Default: `off`.
    pub(crate) max_operations: Opt<OrOff<Count>>,
    /// How many second and later attempts to connect, in percent of what is being connected.
    /// Default: 20.
    pub(crate) retry_percent: Opt<Percent>,
    /// How many of those are always allowed. Default: 10.
    pub(crate) min_retries: Opt<Limit>,
}

/// When an idle upstream connection is probed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ idle: 1m }`")]
pub(crate) struct Keepalive {
    /// After so long a rest: whole seconds, `1s` to `9h`. Default: `1m`.
    pub(crate) idle: Opt<Duration>,
    /// How long until it is asked again: whole seconds, `1s` to `9h`. Default: `10s`.
    pub(crate) interval: Opt<Duration>,
    /// How many times it is asked before it is given up. Default: 3.
    pub(crate) probes: Opt<InRange<1, 127>>,
}

/// The bounds of a name's time to live.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_ttl: 5m }`")]
pub(crate) struct Dns {
    /// Names are not looked up again sooner than this. Default: `1s`.
    pub(crate) min_ttl: Opt<Duration>,
    /// Names are looked up again after this at the latest. Default: `5m`.
    pub(crate) max_ttl: Opt<Duration>,
}
