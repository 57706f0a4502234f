//! Backoff: how long to wait before a retry.

use std::time::Duration;

/// Growing waits with random jitter, so that requests which failed together do not retry together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Base of the waits: before retry n, at most (2^n - 1) times this. Default: 25 ms.
    pub base: Duration,
    /// The longest wait. Default: 250 ms.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        let [base, max] = [25, 250].map(Duration::from_millis);
        Self { base, max }
    }
}

impl Backoff {
    /// The wait before the `retry`th retry, counted from 1. `share` is random, 0 to 1.
    pub fn wait(&self, retry: u32, share: f64) -> Duration {
        let factor = 1_u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
        let longest = self.base.saturating_mul(factor).min(self.max);
        longest.mul_f64(share.clamp(0.0, 1.0))
    }
}
