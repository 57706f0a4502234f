//! Plans of clusters: endpoints, load balancing and limits.

mod detection;
mod failover;
mod pool;
mod replica_set;

pub use detection::{
    FailurePercentagePlan, HealthCheckPlan, InitialHealth, OutlierPlan, ProbeConfig, RateDetector,
    SessionFailures, SuccessRatePlan,
};
pub use failover::{FailoverPlan, LostRequests, RetryableWrites};
pub use pool::PoolPlan;
use proxy_protocol::Version;
pub use replica_set::ReplicaSetPlan;
use serde::{Serialize, Serializer};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tls::{ClientTls, StartTls};
use values::{Keyword, ObjectSource, Target, shown};

/// A named set of endpoints. It is serialized as in a config, without features that are off.
#[derive(Debug, Serialize)]
pub struct ClusterPlan {
    /// Its name in logs and metrics.
    #[serde(skip)]
    pub name: Arc<str>,
    /// Its endpoints, as written; a name may stand for several addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointPlan>,
    /// A file with more endpoints, read again whenever it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints_file: Option<EndpointsFile>,
    /// The replica set whose members are its endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<ReplicaSetPlan>,
    /// The zone that the proxy itself is in; endpoints of the same zone are preferred.
    #[serde(skip)]
    pub zone: Option<Arc<str>>,
    /// How an endpoint is picked.
    #[serde(serialize_with = "shown")]
    pub lb_policy: LbPolicy,
    /// Settings of `ring_hash` and `maglev`; not used by others.
    pub hash: HashPlan,
    /// When health is ignored or picks fail.
    #[serde(flatten)]
    pub panic: PanicPlan,
    /// How an endpoint that is new, or healthy again, gets its full share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStartPlan>,
    /// Active health checks; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckPlan>,
    /// How failing endpoints are detected by their operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierPlan>,
    /// Limits on what is in flight.
    pub circuit_breaker: BreakerPlan,
    /// The version of the PROXY protocol header that connections begin with; `None`: no header.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Version>,
    /// The protocol in which endpoints are asked for TLS; `None`: connections begin with TLS.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
    /// Connections that operations share; `None`: each client connection has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolPlan>,
    /// What happens to the operations of the pool when an endpoint fails; `None` without a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverPlan>,
    /// How connections are encrypted; `None`: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<ClientTls>>,
    /// How long one attempt to connect may take, TLS included.
    #[serde(serialize_with = "shown")]
    pub connect_timeout: Duration,
    /// How many endpoints are tried, one after the other, before the connection fails. At least 1.
    pub connect_attempts: usize,
    /// How many preconnected sockets each worker keeps for each endpoint.
    pub spare_connections: usize,
    /// When an idle upstream connection is probed.
    pub keepalive: KeepalivePlan,
    /// How long sent bytes may stay unacknowledged before the connection is closed (RFC 5482);
    /// `None` is the system's default.
    #[serde(serialize_with = "shown")]
    pub tcp_user_timeout: Option<Duration>,
    /// How long connections to an endpoint that left the cluster may stay open.
    #[serde(serialize_with = "shown")]
    pub drain_timeout: Duration,
    /// How often names are resolved again.
    pub dns: DnsPlan,
    /// As it was written. What its listeners decide about it is no part of it, nor are the files of
    /// `tls` and the `endpoints_file`, which are read again on their own.
    #[serde(skip)]
    pub source: ObjectSource,
}

/// The bounds of the TTL of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DnsPlan {
    /// The minimum time before names are resolved again.
    #[serde(serialize_with = "shown")]
    pub min_ttl: Duration,
    /// The maximum time before names are resolved again.
    #[serde(serialize_with = "shown")]
    pub max_ttl: Duration,
}

impl Default for DnsPlan {
    fn default() -> Self {
        Self { min_ttl: Duration::from_secs(1), max_ttl: Duration::from_secs(5 * 60) }
    }
}

/// A file of endpoints, and how to parse it.
#[derive(Clone, Debug)]
pub struct EndpointsFile {
    /// Its path.
    pub path: PathBuf,
    /// Parses the file's text; the path is for messages.
    pub read: ReadEndpoints,
}

/// Its path.
impl Serialize for EndpointsFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.path.display())
    }
}

/// Makes endpoints of a file's text, or returns the error.
pub type ReadEndpoints = fn(&str, &Path) -> Result<Vec<EndpointPlan>, String>;

impl ClusterPlan {
    /// A cluster of these endpoints, with every default.
    pub fn new(name: &str, endpoints: Vec<EndpointPlan>) -> Self {
        Self {
            name: name.into(),
            endpoints,
            endpoints_file: None,
            replica_set: None,
            zone: None,
            lb_policy: LbPolicy::LeastRequest,
            hash: HashPlan::default(),
            panic: PanicPlan::default(),
            slow_start: None,
            health_check: None,
            outlier_detection: None,
            circuit_breaker: BreakerPlan::default(),
            proxy_protocol: None,
            starttls: None,
            pool: None,
            failover: None,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            connect_attempts: 3,
            spare_connections: 0,
            keepalive: KeepalivePlan::default(),
            tcp_user_timeout: Some(KeepalivePlan::default().budget()),
            drain_timeout: Duration::from_secs(30),
            dns: DnsPlan::default(),
            source: ObjectSource::default(),
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
    /// The name for TLS, instead of the cluster's or of its host.
    pub server_name: Option<Arc<str>>,
}

impl EndpointPlan {
    /// An endpoint with every default.
    pub fn new(at: Target) -> Self {
        Self { at, weight: 1, priority: 0, zone: None, server_name: None }
    }
}

/// `host:port`, or the keys.
impl Serialize for EndpointPlan {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        /// A name's own weight and priority are not used if it is that of SRV records.
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Keys<'a> {
            Srv { srv: &'a str },
            Host { address: &'a str, weight: u32, priority: u8 },
        }
        #[derive(Serialize)]
        struct WithNames<'a> {
            #[serde(flatten)]
            keys: Keys<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            zone: &'a Option<Arc<str>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            server_name: &'a Option<Arc<str>>,
        }
        let at = self.at.to_string();
        let Self { weight, priority, zone, server_name, .. } = self;
        let keys = match &self.at {
            Target::Host(..) if *self == EndpointPlan::new(self.at.clone()) => {
                return to.serialize_str(&at);
            }
            Target::Host(..) => Keys::Host { address: &at, weight: *weight, priority: *priority },
            Target::Srv(_) => Keys::Srv { srv: &at },
        };
        WithNames { keys, zone, server_name }.serialize(to)
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

/// Settings of `ring_hash` and `maglev`. The key is always the client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "key", rename = "peer")]
pub struct HashPlan {
    /// The highest load of an endpoint, in percent of the mean (at least 100), before the next one
    /// is picked; `None`: load does not count.
    #[serde(serialize_with = "shown")]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PanicPlan {
    /// The share of usable endpoints in percent below which the cluster panics; 0 is never. `None`:
    /// 50 for six endpoints and more; with fewer, only when none is usable, since such clusters are
    /// built to survive one or two dead endpoints.
    #[serde(rename = "panic_threshold", skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
    /// What picks do in panic.
    #[serde(serialize_with = "shown")]
    pub on_panic: OnPanic,
}

/// What picks do in panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPanic {
    /// They ignore health.
    #[default]
    IgnoreHealth,
    /// They fail.
    Fail,
}

/// How an endpoint that is new, or healthy again, gets its full share.
///
/// Its weight is multiplied by `max(min_weight, (elapsed / window)^(1 / aggression))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SlowStartPlan {
    /// How long until the full share.
    #[serde(serialize_with = "shown")]
    pub window: Duration,
    /// 1 is linear growth, more is faster at first.
    pub aggression: f64,
    /// The initial share, in percent: 1 to 100.
    pub min_weight: u8,
}

/// Limits on what is in flight. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerPlan {
    /// The most upstream connections, open or being opened.
    #[serde(serialize_with = "shown")]
    pub max_connections: Option<usize>,
    /// The most upstream connections to one endpoint.
    #[serde(serialize_with = "shown")]
    pub max_connections_per_endpoint: Option<usize>,
    /// The most clients that wait for a connection.
    pub max_pending: usize,
    /// How long a client waits for a connection.
    #[serde(serialize_with = "shown")]
    pub pending_timeout: Duration,
    /// The most operations in flight.
    #[serde(serialize_with = "shown")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KeepalivePlan {
    /// The idle time before the first probe.
    #[serde(serialize_with = "shown")]
    pub idle: Duration,
    /// The time between probes.
    #[serde(serialize_with = "shown")]
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

impl Keyword for LbPolicy {
    const EXPECTED: &str = "how endpoints are picked";
    const WORDS: &[(&str, Self)] = &[
        ("round_robin", LbPolicy::RoundRobin),
        ("least_request", LbPolicy::LeastRequest),
        ("random", LbPolicy::Random),
        ("ring_hash", LbPolicy::RingHash),
        ("maglev", LbPolicy::Maglev),
    ];
}

impl Keyword for OnPanic {
    const EXPECTED: &str = "`ignore_health` or `fail`";
    const WORDS: &[(&str, Self)] =
        &[("ignore_health", OnPanic::IgnoreHealth), ("fail", OnPanic::Fail)];
}
