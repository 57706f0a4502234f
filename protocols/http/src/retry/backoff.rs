//! How long to wait before another attempt.

use http::HeaderMap;
use http::header::RETRY_AFTER;
use std::time::Duration;

/// Waits that grow, and of which a random share is waited, so that many who failed at once don't
/// come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// What waits grow from: before attempt n, at most (2^n - 1) times this. Default: 25 ms.
    pub base: Duration,
    /// The longest wait. Default: 250 ms.
    pub max: Duration,
    /// Up to which time what a service says in `retry-after` is waited instead; `None`: it is not
    /// looked at.
    pub retry_after: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        let [base, max] = [25, 250].map(Duration::from_millis);
        Self { base, max, retry_after: None }
    }
}

impl Backoff {
    /// How long to wait before the attempt that follows the first as the `retry`th, from 1.
    /// `share` is random, 0 to 1.
    pub fn wait(&self, retry: u32, share: f64) -> Duration {
        let factor = 1_u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
        let longest = self.base.saturating_mul(factor).min(self.max);
        longest.mul_f64(share.clamp(0.0, 1.0))
    }

    /// How long the answer to a failed attempt asks to wait, in whole seconds; `None` where that is
    /// not looked at or not told. `Some(None)` is longer than anybody here waits: there shall be no
    /// other attempt.
    pub fn told(&self, answer: &HeaderMap) -> Option<Option<Duration>> {
        let most = self.retry_after?;
        // A date would need a clock that agrees with the service's.
        let seconds = answer.get(RETRY_AFTER)?.to_str().ok()?;
        if seconds.is_empty() || !seconds.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let wait = Duration::from_secs(seconds.parse().unwrap_or(u64::MAX));
        Some((wait <= most).then_some(wait))
    }
}
