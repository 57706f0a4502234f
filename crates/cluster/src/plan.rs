//! Plans of clusters: endpoints, load balancing, and fault detection.

use operation::Probe;
use schemars::Schema;
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use values::{Diagnostic, FromText, Target, keyword_schema, parse_keyword};

/// A named set of endpoints.
#[derive(Debug)]
pub struct ClusterPlan {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its endpoints, as written; a name may stand for several addresses.
    pub endpoints: Vec<EndpointPlan>,
    /// A file with more endpoints, read again whenever it changes.
    pub endpoints_file: Option<EndpointsFile>,
    /// The zone that the proxy itself is in; endpoints of the same zone are preferred.
    pub zone: Option<Arc<str>>,
    /// How an endpoint is picked.
    pub lb_policy: LbPolicy,
    /// Settings of `ring_hash` and `maglev`.
    pub hash: HashPlan,
    /// When health is ignored or picks fail.
    pub panic: PanicPlan,
    /// How an endpoint that is new, or healthy again, gets its full share.
    pub slow_start: Option<SlowStartPlan>,
    /// Active health checks; `None` is none.
    pub health_check: Option<HealthCheckPlan>,
    /// How failing endpoints are detected by their operations.
    pub outlier_detection: Option<OutlierPlan>,
    /// Limits on what is in flight.
    pub circuit_breaker: BreakerPlan,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How many endpoints are tried, one after the other, before the connection fails. At least 1.
    pub connect_attempts: usize,
    /// How many preconnected sockets each worker keeps for each endpoint.
    pub spare_connections: usize,
    /// When an idle upstream connection is probed.
    pub keepalive: KeepalivePlan,
    /// How long sent bytes may stay unacknowledged before the connection is closed (RFC 5482);
    /// `None` is the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// How long connections to an endpoint that left the cluster may stay open.
    pub drain_timeout: Duration,
    /// The minimum time before names are resolved again…
    pub dns_min_ttl: Duration,
    /// …and the maximum.
    pub dns_max_ttl: Duration,
}

/// A file of endpoints, and how to parse it.
#[derive(Clone, Debug)]
pub struct EndpointsFile {
    /// Its path.
    pub path: PathBuf,
    /// Parses the file's text; the path is for messages.
    pub read: ReadEndpoints,
}

/// Makes endpoints of a file's text, or returns the error.
pub type ReadEndpoints = fn(&str, &Path) -> Result<Vec<EndpointPlan>, String>;

/// A probe with its settings, from a protocol.
pub trait ProbeConfig: Debug + Send + Sync {
    /// Starts one check.
    fn begin(&self) -> Box<dyn Probe>;

    /// Its name in the config.
    fn name(&self) -> &'static str;

    /// Its settings in the shape of the config.
    fn to_json(&self) -> serde_json::Value;

    /// Whether only the primary of a replica set is healthy.
    fn wants_the_primary(&self) -> bool {
        false
    }
}

impl ClusterPlan {
    /// A cluster of these endpoints, with every default.
    pub fn new(name: &str, endpoints: Vec<EndpointPlan>) -> Self {
        Self {
            name: name.into(),
            endpoints,
            endpoints_file: None,
            zone: None,
            lb_policy: LbPolicy::LeastRequest,
            hash: HashPlan::default(),
            panic: PanicPlan::default(),
            slow_start: None,
            health_check: None,
            outlier_detection: None,
            circuit_breaker: BreakerPlan::default(),
            connect_timeout: Duration::from_secs(1),
            connect_attempts: 3,
            spare_connections: 0,
            keepalive: KeepalivePlan::default(),
            tcp_user_timeout: Some(KeepalivePlan::default().budget()),
            drain_timeout: Duration::from_secs(30),
            dns_min_ttl: Duration::from_secs(1),
            dns_max_ttl: Duration::from_secs(5 * 60),
        }
    }
}

/// One endpoint, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// Its address or name.
    pub at: Target,
    /// Its weight among endpoints of the same priority: 1 to 1000. Weights of an SRV record take
    /// precedence.
    pub weight: u32,
    /// 0 is used first; higher numbers when too few before them are healthy. Priorities of an SRV
    /// record take precedence.
    pub priority: u8,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

impl EndpointPlan {
    /// An endpoint with every default.
    pub fn new(at: Target) -> Self {
        Self { at, weight: 1, priority: 0, zone: None }
    }
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbPolicy {
    /// One after the other, by weight.
    RoundRobin,
    /// The less busy of two picked at random, by weight.
    LeastRequest,
    /// At random, by weight.
    Random,
    /// The same one for the same key, by a hash ring (Ketama as in Envoy).
    RingHash,
    /// The same one for the same key, by Maglev's table as in Envoy.
    Maglev,
}

impl LbPolicy {
    /// Whether endpoints are picked by key.
    pub fn picks_by_key(self) -> bool {
        matches!(self, LbPolicy::RingHash | LbPolicy::Maglev)
    }
}

/// Settings of `ring_hash` and `maglev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPlan {
    /// The highest load of an endpoint, in percent of the mean (at least 100), before the next one
    /// is picked; `None`: load does not count.
    pub bounded_load: Option<u32>,
    /// The minimum size of the ring.
    pub ring_size: u32,
}

impl Default for HashPlan {
    fn default() -> Self {
        Self { bounded_load: None, ring_size: 1024 }
    }
}

/// When health is ignored or picks fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PanicPlan {
    /// The share of usable endpoints in percent below which the cluster panics; 0 is never. `None`:
    /// 50 for six endpoints and more; with fewer, only when none is usable, since such clusters are
    /// built to survive one or two dead endpoints.
    pub threshold: Option<u8>,
    /// In panic, picks fail instead of ignoring health.
    pub fail: bool,
}

/// How an endpoint that is new, or healthy again, gets its full share.
///
/// Its weight is multiplied by `max(min_weight, (elapsed / window)^(1 / aggression))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStartPlan {
    /// How long until the full share.
    pub window: Duration,
    /// 1 is linear growth, more is faster at first.
    pub aggression: f64,
    /// The initial share, in percent: 1 to 100.
    pub min_weight: u8,
}

/// Active health checks.
#[derive(Clone, Debug)]
pub struct HealthCheckPlan {
    /// The time between two checks of an endpoint.
    pub interval: Duration,
    /// The timeout of a check, connecting included.
    pub timeout: Duration,
    /// The most that is added to `interval` at random, in percent of it.
    pub jitter: u8,
    /// The time between two checks while the last one contradicts the endpoint's state.
    pub edge_interval: Duration,
    /// How many successful checks in a row make an endpoint healthy. The very first check decides
    /// alone.
    pub healthy_threshold: u32,
    /// How many failed checks in a row make it unhealthy.
    pub unhealthy_threshold: u32,
    /// An endpoint's health before its first check.
    pub initial_healthy: bool,
    /// Keep the connection for the next check.
    pub reuse_connection: bool,
    /// Close the connections to an endpoint that becomes unhealthy.
    pub close_connections_on_unhealthy: bool,
    /// The probe.
    pub probe: Arc<dyn ProbeConfig>,
}

impl HealthCheckPlan {
    /// Checks by `probe`, with every other default.
    pub fn new(probe: Arc<dyn ProbeConfig>) -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            jitter: 10,
            edge_interval: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 3,
            initial_healthy: true,
            reuse_connection: true,
            close_connections_on_unhealthy: false,
            probe,
        }
    }
}

/// How failing endpoints are detected by their operations.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierPlan {
    /// How many failed operations in a row eject; 0 is never.
    pub consecutive_failures: u32,
    /// How many connection failures in a row (not connected, reset, timed out) eject; 0 is never.
    pub consecutive_local_failures: u32,
    /// Which ends of a TCP session count as such a failure.
    pub session_failures: SessionFailures,
    /// How often success rates and failure percentages are evaluated, and endpoints return.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long.
    pub base_ejection_time: Duration,
    /// …and no longer than this.
    pub max_ejection_time: Duration,
    /// The most endpoints that are ejected at a time, in percent; one may always be, if another is
    /// left.
    pub max_ejection_percent: u8,
    /// Ejects when the success rate is below the mean of all by more than `stdev_factor` standard
    /// deviations.
    pub success_rate: RateDetector,
    /// See `success_rate`.
    pub stdev_factor: f64,
    /// Ejects when at least `failure_threshold` percent of the operations failed.
    pub failure_percentage: RateDetector,
    /// See `failure_percentage`.
    pub failure_threshold: u8,
    /// The percentage of ejections by consecutive failures that are enforced; the others are only
    /// reported.
    pub enforcing_consecutive: u8,
}

/// Which ends of a session, that is of a connection that is one operation, count as failures of its
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFailures {
    /// None, only failures to connect.
    None,
    /// A reset by the endpoint.
    Reset,
    /// Also a close by the endpoint before its first byte.
    NoReply,
}

/// How much data a detector that compares an interval's operations needs, and whether it is
/// enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDetector {
    /// The minimum number of endpoints with enough operations.
    pub minimum_endpoints: u32,
    /// The minimum number of operations of an endpoint in an interval.
    pub minimum_operations: u32,
    /// The percentage of ejections that are enforced; 0 only reports.
    pub enforcing: u8,
}

impl RateDetector {
    /// Never enough data.
    pub const OFF: Self =
        Self { minimum_endpoints: u32::MAX, minimum_operations: u32::MAX, enforcing: 0 };
}

impl Default for OutlierPlan {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            consecutive_local_failures: 5,
            session_failures: SessionFailures::Reset,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
            success_rate: RateDetector {
                minimum_endpoints: 5,
                minimum_operations: 100,
                enforcing: 100,
            },
            stdev_factor: 1.9,
            failure_percentage: RateDetector {
                minimum_endpoints: 5,
                minimum_operations: 50,
                enforcing: 0,
            },
            failure_threshold: 85,
            enforcing_consecutive: 100,
        }
    }
}

/// Limits on what is in flight. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPlan {
    /// The most upstream connections, open or being opened.
    pub max_connections: Option<usize>,
    /// The most upstream connections to one endpoint.
    pub max_connections_per_endpoint: Option<usize>,
    /// The most clients that wait for a connection.
    pub max_pending: usize,
    /// How long a client waits for a connection.
    pub pending_timeout: Duration,
    /// The most operations in flight.
    pub max_operations: Option<usize>,
    /// Second and later attempts to connect, in percent of the connections being opened…
    pub retry_percent: u8,
    /// …and how many are always allowed.
    pub min_retries: usize,
}

impl Default for BreakerPlan {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_endpoint: None,
            max_pending: 1024,
            pending_timeout: Duration::from_secs(2),
            max_operations: None,
            retry_percent: 20,
            min_retries: 10,
        }
    }
}

/// When an idle upstream connection is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePlan {
    /// The idle time before the first probe.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// How many unanswered probes close the connection.
    pub probes: u32,
}

impl KeepalivePlan {
    /// How long it takes to detect a dead peer.
    pub fn budget(&self) -> Duration {
        self.idle.saturating_add(self.interval.saturating_mul(self.probes))
    }
}

impl Default for KeepalivePlan {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 3 }
    }
}

const LB_POLICIES: [(&str, LbPolicy); 5] = [
    ("round_robin", LbPolicy::RoundRobin),
    ("least_request", LbPolicy::LeastRequest),
    ("random", LbPolicy::Random),
    ("ring_hash", LbPolicy::RingHash),
    ("maglev", LbPolicy::Maglev),
];

impl LbPolicy {
    /// The keyword in a config.
    pub fn as_str(self) -> &'static str {
        LB_POLICIES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for LbPolicy {
    const EXPECTED: &str = "how endpoints are picked";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &LB_POLICIES)
    }

    fn schema() -> Schema {
        keyword_schema(&LB_POLICIES)
    }
}

const SESSION_FAILURES: [(&str, SessionFailures); 3] = [
    ("none", SessionFailures::None),
    ("reset", SessionFailures::Reset),
    ("no_reply", SessionFailures::NoReply),
];

impl SessionFailures {
    /// The keyword in a config.
    pub fn as_str(self) -> &'static str {
        SESSION_FAILURES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for SessionFailures {
    const EXPECTED: &str = "`none`, `reset` or `no_reply`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &SESSION_FAILURES)
    }

    fn schema() -> Schema {
        keyword_schema(&SESSION_FAILURES)
    }
}
