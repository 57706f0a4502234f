//! When a service wants to be asked again.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime};

/// When a service wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not before so long. It asks for nothing with `Duration::ZERO`.
    After(Duration),
    /// Not at all.
    Never,
}

impl Default for Pushback {
    fn default() -> Self {
        Pushback::After(Duration::ZERO)
    }
}

impl Pushback {
    /// As `retry-after` tells it (RFC 9110 §10.2.3): in seconds, or by a date, which is compared
    /// to the service's own clock where the answer tells it. What can't be read asks for nothing.
    pub fn of_http(headers: &HeaderMap, now: SystemTime) -> Self {
        let Some(told) = headers.get(header::RETRY_AFTER).and_then(|it| it.to_str().ok()) else {
            return Self::default();
        };
        if !told.is_empty() && told.bytes().all(|b| b.is_ascii_digit()) {
            return Pushback::After(Duration::from_secs(told.parse().unwrap_or(u64::MAX)));
        }
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        let own = headers.get(header::DATE).and_then(|it| date(it.to_str().ok()?));
        let left = date(told).and_then(|at| at.duration_since(own.unwrap_or(now)).ok());
        Pushback::After(left.unwrap_or_default())
    }

    /// How long to wait for it, if that is no longer than `left`.
    pub fn within(self, left: impl FnOnce() -> Duration) -> Option<Duration> {
        match self {
            Pushback::After(wait) if wait.is_zero() || wait < left() => Some(wait),
            Pushback::After(_) | Pushback::Never => None,
        }
    }
}
