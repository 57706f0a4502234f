//! Plans of health checks and outlier detection.

use operation::Probe;
use serde::{Serialize, Serializer};
use std::{fmt::Debug, sync::Arc, time::Duration};
use values::{Keyword, shown, shown_or_off};

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

/// Active health checks.
#[derive(Clone, Debug, Serialize)]
pub struct HealthCheckPlan {
    /// The time between two checks of an endpoint.
    #[serde(serialize_with = "shown")]
    pub interval: Duration,
    /// The timeout of a check, connecting included.
    #[serde(serialize_with = "shown")]
    pub timeout: Duration,
    /// The most that is added to `interval` at random, in percent of it.
    pub jitter: u8,
    /// The time between two checks while the last one contradicts the endpoint's state.
    #[serde(serialize_with = "shown")]
    pub edge_interval: Duration,
    /// How many successful checks in a row make an endpoint healthy. The very first check decides
    /// alone.
    pub healthy_threshold: u32,
    /// How many failed checks in a row make it unhealthy.
    pub unhealthy_threshold: u32,
    /// An endpoint's health before its first check.
    #[serde(serialize_with = "shown")]
    pub initial: InitialHealth,
    /// Keep the connection for the next check.
    pub reuse_connection: bool,
    /// Close the connections to an endpoint that becomes unhealthy.
    pub close_connections_on_unhealthy: bool,
    /// The probe.
    #[serde(serialize_with = "probe")]
    pub probe: Arc<dyn ProbeConfig>,
}

/// Whether an endpoint counts as healthy before its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialHealth {
    /// It is used at once.
    Healthy,
    /// It is used after a successful check.
    Unhealthy,
}

fn probe<S: Serializer>(probe: &Arc<dyn ProbeConfig>, to: S) -> Result<S::Ok, S::Error> {
    probe.to_json().serialize(to)
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
            initial: InitialHealth::Healthy,
            reuse_connection: true,
            close_connections_on_unhealthy: false,
            probe,
        }
    }
}

/// How failing endpoints are detected by their operations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutlierPlan {
    /// How many failed operations in a row eject; 0 is never.
    #[serde(serialize_with = "shown_or_off")]
    pub consecutive_failures: u32,
    /// How many connection failures in a row (not connected, reset, timed out) eject; 0 is never.
    #[serde(serialize_with = "shown_or_off")]
    pub consecutive_local_failures: u32,
    /// Which ends of a TCP session count as such a failure.
    #[serde(serialize_with = "shown")]
    pub session_failures: SessionFailures,
    /// How often success rates and failure percentages are evaluated, and endpoints return.
    #[serde(serialize_with = "shown")]
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long.
    #[serde(serialize_with = "shown")]
    pub base_ejection_time: Duration,
    /// …and no longer than this.
    #[serde(serialize_with = "shown")]
    pub max_ejection_time: Duration,
    /// The most endpoints that are ejected at a time, in percent; one may always be, if another is
    /// left.
    pub max_ejection_percent: u8,
    /// Ejects endpoints with a lower success rate than the others; `None`: no.
    #[serde(serialize_with = "keys_or_off")]
    pub success_rate: Option<SuccessRatePlan>,
    /// Ejects endpoints with too many failed operations; `None`: no.
    #[serde(serialize_with = "keys_or_off")]
    pub failure_percentage: Option<FailurePercentagePlan>,
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

fn keys_or_off<T: Serialize, S: Serializer>(keys: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match keys {
        Some(keys) => keys.serialize(to),
        None => to.serialize_str("off"),
    }
}

/// Ejects an endpoint whose success rate is below the mean of all by more than `stdev_factor`
/// standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SuccessRatePlan {
    /// When rates are compared.
    #[serde(flatten)]
    pub detector: RateDetector,
    /// How many standard deviations below the mean are allowed.
    pub stdev_factor: f64,
}

impl Default for SuccessRatePlan {
    fn default() -> Self {
        let detector =
            RateDetector { minimum_endpoints: 5, minimum_operations: 100, enforcing: 100 };
        Self { detector, stdev_factor: 1.9 }
    }
}

/// Ejects an endpoint if at least `threshold` percent of its operations failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FailurePercentagePlan {
    /// When percentages are compared.
    #[serde(flatten)]
    pub detector: RateDetector,
    /// The percentage of failed operations that ejects.
    pub threshold: u8,
}

impl Default for FailurePercentagePlan {
    fn default() -> Self {
        let detector = RateDetector { minimum_endpoints: 5, minimum_operations: 50, enforcing: 0 };
        Self { detector, threshold: 85 }
    }
}

/// How much data a detector that compares an interval's operations needs, and whether it is
/// enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateDetector {
    /// The minimum number of endpoints with enough operations.
    pub minimum_endpoints: u32,
    /// The minimum number of operations of an endpoint in an interval.
    pub minimum_operations: u32,
    /// The percentage of ejections that are enforced; 0 only reports.
    pub enforcing: u8,
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
            success_rate: Some(SuccessRatePlan::default()),
            failure_percentage: Some(FailurePercentagePlan::default()),
            enforcing_consecutive: 100,
        }
    }
}

impl Keyword for InitialHealth {
    const EXPECTED: &str = "`healthy` or `unhealthy`";
    const WORDS: &[(&str, Self)] =
        &[("healthy", InitialHealth::Healthy), ("unhealthy", InitialHealth::Unhealthy)];
}

impl Keyword for SessionFailures {
    const EXPECTED: &str = "`none`, `reset` or `no_reply`";
    const WORDS: &[(&str, Self)] = &[
        ("none", SessionFailures::None),
        ("reset", SessionFailures::Reset),
        ("no_reply", SessionFailures::NoReply),
    ];
}
