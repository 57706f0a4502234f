//! An ejection: what caused it, and how long it lasts.

use tokio::time::Instant;

/// What detected that an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detector {
    /// Failed operations in a row.
    ConsecutiveFailures,
    /// Operations lost and connections failed, in a row.
    ConsecutiveLocalFailures,
    /// A success rate far below that of the other endpoints.
    SuccessRate,
    /// Too high a percentage of failures.
    FailurePercentage,
    /// An operator's command.
    Operator,
}

impl Detector {
    /// Each, in the order of their discriminants.
    pub(crate) const ALL: [Detector; 5] = [
        Detector::ConsecutiveFailures,
        Detector::ConsecutiveLocalFailures,
        Detector::SuccessRate,
        Detector::FailurePercentage,
        Detector::Operator,
    ];

    /// The name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Detector::ConsecutiveFailures => "consecutive_failures",
            Detector::ConsecutiveLocalFailures => "consecutive_local_failures",
            Detector::SuccessRate => "success_rate",
            Detector::FailurePercentage => "failure_percentage",
            Detector::Operator => "operator",
        }
    }
}

/// A current ejection.
#[derive(Debug)]
pub(crate) struct Ejection {
    pub(crate) detector: Detector,
    pub(crate) reason: String,
    /// Its number in a series of ejections, from 1.
    pub(crate) count: u32,
    /// When it ends; `None` until an operator ends it.
    pub(crate) until: Option<Instant>,
}
