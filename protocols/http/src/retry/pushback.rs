//! When a service wants a retry.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime};

/// When a service wants a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not before this time has passed; `Duration::ZERO`: no request.
    After(Duration),
    /// Never.
    Never,
}

impl Default for Pushback {
    fn default() -> Self {
        Pushback::After(Duration::ZERO)
    }
}

impl Pushback {
    /// Parses `retry-after` (RFC 9110 §10.2.3): seconds, or a date relative to the response's own
    /// `date`. An invalid value requests nothing.
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

    /// The time to wait, if it is less than `left`.
    pub fn within(self, left: impl FnOnce() -> Duration) -> Option<Duration> {
        match self {
            Pushback::After(wait) if wait.is_zero() || wait < left() => Some(wait),
            Pushback::After(_) | Pushback::Never => None,
        }
    }
}
