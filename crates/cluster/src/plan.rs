//! Plans of clusters: endpoints, load balancing, and fault detection.

use operation::Probe;
use schemars::Schema;
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use values::{Fault, FromText, Target, keyword_schema, parse_keyword};

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
    /// When health is ignored rather than everything refused.
    pub panic: PanicPlan,
    /// How an endpoint that is new, or healthy again, comes to its full share.
    pub slow_start: Option<SlowStartPlan>,
    /// How endpoints are asked whether they work.
    pub health_check: Option<HealthCheckPlan>,
    /// How failing endpoints are detected by their operations.
    pub outlier_detection: Option<OutlierPlan>,
    /// How much may be under way.
    pub circuit_breaker: BreakerPlan,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How many endpoints are tried, one after the other, before giving up. At least 1.
    pub connect_attempts: usize,
    /// How many preconnected sockets each worker keeps for each endpoint.
    pub spare_connections: usize,
    /// When an idle upstream connection is probed.
    pub keepalive: KeepalivePlan,
    /// How long sent bytes may stay unacknowledged before the connection is closed (RFC 5482);
    /// `None` is the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// How long connections to an endpoint that left the cluster may go on.
    pub drain_timeout: Duration,
    /// Names are looked up again after their TTL, but not sooner than this.
    pub dns_min_ttl: Duration,
    /// …and not later than this.
    pub dns_max_ttl: Duration,
}

/// A file of endpoints, and how its text is read.
#[derive(Clone, Debug)]
pub struct EndpointsFile {
    /// Where it is.
    pub path: PathBuf,
    /// Reads the file's text; the path is for messages.
    pub read: ReadEndpoints,
}

/// Makes endpoints of the text of a file, or returns what is wrong with it.
pub type ReadEndpoints = fn(&str, &Path) -> Result<Vec<EndpointPlan>, String>;

/// What a health check asks, with its settings: each protocol brings its own.
pub trait ProbeConfig: Debug + Send + Sync {
    /// Begins one check.
    fn begin(&self) -> Box<dyn Probe>;

    /// Its name in the config.
    fn name(&self) -> &'static str;

    /// Its settings as a config would have them.
    fn to_json(&self) -> serde_json::Value;

    /// Whether only the server is healthy that takes writes, of which a replica set has one.
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
    /// Where it is.
    pub at: Target,
    /// Its share beside the others of its priority: 1 to 1000. Those of an SRV record go before.
    pub weight: u32,
    /// 0 is served first; greater ones when too few before them are healthy. Those of an SRV
    /// record go before.
    pub priority: u8,
    /// The zone that it is in.
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
    /// The same one for the same key, by a ring of hashes (Ketama, as Envoy has it).
    RingHash,
    /// The same one for the same key, by Maglev's table (as Envoy has it).
    Maglev,
}

impl LbPolicy {
    /// Whether a key decides.
    pub fn picks_by_key(self) -> bool {
        matches!(self, LbPolicy::RingHash | LbPolicy::Maglev)
    }
}

/// What `ring_hash` and `maglev` pick by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPlan {
    /// The most that an endpoint may be loaded beside the mean, in percent (at least 100), before
    /// the next one of the ring is taken; `None` means that load does not count.
    pub bounded_load: Option<u32>,
    /// How many places a ring has at least.
    pub ring_size: u32,
}

impl Default for HashPlan {
    fn default() -> Self {
        Self { bounded_load: None, ring_size: 1024 }
    }
}

/// When health is ignored rather than everything refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PanicPlan {
    /// The share of usable endpoints in percent below which the cluster panics; 0 is never. `None`:
    /// 50 for six endpoints and more; with fewer, only when none is usable, since such clusters are
    /// built to survive one or two dead endpoints.
    pub threshold: Option<u8>,
    /// Refuse, in a panic, instead of ignoring health.
    pub fail: bool,
}

/// How an endpoint that is new, or healthy again, comes to its full share.
///
/// Its weight is multiplied by `max(min_weight, (elapsed / window)^(1 / aggression))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStartPlan {
    /// How long it takes.
    pub window: Duration,
    /// 1 grows evenly, more grows faster at first.
    pub aggression: f64,
    /// The share to begin with, in percent: 1 to 100.
    pub min_weight: u8,
}

/// How endpoints are asked whether they work.
#[derive(Clone, Debug)]
pub struct HealthCheckPlan {
    /// The time between two checks of an endpoint.
    pub interval: Duration,
    /// How long a check may take, connecting included.
    pub timeout: Duration,
    /// How much longer than `interval` the pause may be, at random, in percent of it.
    pub jitter: u8,
    /// The time between two checks while the last one contradicts the endpoint's state.
    pub edge_interval: Duration,
    /// How many good checks in a row make an endpoint healthy. The first check of all decides
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
    /// Ejected after that many failed operations in a row; 0 is never.
    pub consecutive_failures: u32,
    /// Ejected after that many failures of the way to it in a row (not connected, reset, timed
    /// out); 0 is never.
    pub consecutive_local_failures: u32,
    /// Which ends of a session of raw bytes count as such a failure.
    pub session_failures: SessionFailures,
    /// How often success rates and failure percentages are looked at, and returns.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long.
    pub base_ejection_time: Duration,
    /// …and no longer than this.
    pub max_ejection_time: Duration,
    /// The most endpoints that may be ejected at once, in percent; one may always be, if another
    /// is left.
    pub max_ejection_percent: u8,
    /// Ejected when the rate of successes is below the mean of all by more than `stdev_factor`
    /// standard deviations.
    pub success_rate: RateDetector,
    /// See `success_rate`.
    pub stdev_factor: f64,
    /// Ejected when at least `failure_threshold` percent of its operations failed.
    pub failure_percentage: RateDetector,
    /// See `failure_percentage`.
    pub failure_threshold: u8,
    /// The percentage of ejections by consecutive failures that are enforced; the others are only
    /// reported.
    pub enforcing_consecutive: u8,
}

/// Which ends of a session, that is of a connection that is one operation, are its endpoint's
/// failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFailures {
    /// None: whether it can be connected to is all that counts.
    None,
    /// Those that the endpoint resets.
    Reset,
    /// Also those that it closes without having sent a byte.
    NoReply,
}

/// When a detector that compares an interval's operations has enough to go by, and whether it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDetector {
    /// Endpoints with enough operations that it takes.
    pub minimum_endpoints: u32,
    /// Operations in an interval that an endpoint needs to count.
    pub minimum_operations: u32,
    /// The percentage of ejections that are enforced; 0 only reports.
    pub enforcing: u8,
}

impl RateDetector {
    /// Never enough to go by.
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

/// How much may be under way. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPlan {
    /// Upstream connections, open or being opened.
    pub max_connections: Option<usize>,
    /// Upstream connections to one endpoint.
    pub max_connections_per_endpoint: Option<usize>,
    /// Clients that may wait for a connection when there are enough.
    pub max_pending: usize,
    /// How long they wait.
    pub pending_timeout: Duration,
    /// Operations.
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

/// When an upstream connection that rests is asked whether it still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePlan {
    /// After so long a rest.
    pub idle: Duration,
    /// How long until it is asked again.
    pub interval: Duration,
    /// How many probes are sent before it is closed.
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
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        LB_POLICIES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for LbPolicy {
    const EXPECTED: &str = "how endpoints are picked";

    fn from_text(text: &str) -> Result<Self, Fault> {
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
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        SESSION_FAILURES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for SessionFailures {
    const EXPECTED: &str = "`none`, `reset` or `no_reply`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        parse_keyword(text, &SESSION_FAILURES)
    }

    fn schema() -> Schema {
        keyword_schema(&SESSION_FAILURES)
    }
}
