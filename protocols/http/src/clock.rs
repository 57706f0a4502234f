//! The runtime's clock, which tests may pause.

use std::time::Instant;

/// The time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
