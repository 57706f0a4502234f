//! What the last check of an endpoint found.

use std::time::Duration;
use tokio::time::Instant;

/// The last check of an endpoint.
#[derive(Debug)]
pub(crate) struct HealthCheckResult {
    pub(crate) good: bool,
    /// Its result as text: `primary of rs0`, `connection refused`.
    pub(crate) message: String,
    /// When it ended.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}
