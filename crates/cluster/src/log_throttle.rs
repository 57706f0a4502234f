//! Recurring log messages are logged once a minute.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// How often the same recurring message is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lets one message a minute through.
#[derive(Debug)]
pub(super) struct LogThrottle {
    began: Instant,
    /// When it last did, in milliseconds after `began` plus one; 0 is never.
    last: AtomicU64,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl LogThrottle {
    /// Whether the message may be logged now.
    pub(super) fn is_due(&self) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.began.elapsed()) + 1;
        let last = self.last.load(Relaxed);
        (last == 0 || now - last.min(now) >= millis(LOG_INTERVAL))
            && self.last.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}
