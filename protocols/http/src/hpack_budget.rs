//! Bounds HPACK amplification: one byte of HTTP/2 may stand for a header of 4 kB, and the service
//! is sent all of it (RFC 7541).
//!
//! There are two bounds. Repeated lines of a head may have few bytes: no client needs to send a
//! line twice, and without repetition a head exceeds its encoding by at most the 4 kB of the HPACK
//! table. And each connection has a budget for decoded bytes beyond those received, which refills
//! with time: enough for 4,000 calls a second with 8 kB of constant metadata, or 20,000 requests a
//! second with 1.6 kB.

use foldhash::{HashSet, HashSetExt};
use http::HeaderMap;
use operation::Violation;
use std::{cell::Cell, time::Instant};

/// Most bytes of repeated lines in a head.
const MAX_REPEATED: usize = 4 << 10;

/// Most decoded bytes beyond those received at once…
const MAX_AHEAD: u64 = 16 << 20;

/// …and per second.
const RATE: u64 = 32 << 20;

/// Counted when a client exceeds either bound.
pub(crate) const VIOLATION: Violation = Violation("header_flood");

/// Decoded header bytes of one connection.
pub(crate) struct HpackBudget {
    /// Decoded bytes beyond those paid for.
    ahead: Cell<u64>,
    /// Bytes received at the last check, and its time.
    received: Cell<u64>,
    last_check: Cell<Instant>,
}

impl HpackBudget {
    /// The budget of a connection accepted at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { ahead: Cell::new(0), received: Cell::new(0), last_check: Cell::new(now) }
    }

    /// Whether headers of `size` bytes are within both bounds. `received` is the number of bytes
    /// received on the connection so far.
    pub(crate) fn allows(
        &self,
        headers: &HeaderMap,
        size: u64,
        received: u64,
        now: Instant,
    ) -> bool {
        let millis = now.saturating_duration_since(self.last_check.get()).as_millis();
        let mut paid = received.saturating_sub(self.received.replace(received));
        if millis > 0 {
            self.last_check.set(now);
            paid = paid.saturating_add(
                u64::try_from(millis).unwrap_or(u64::MAX).saturating_mul(RATE / 1000),
            );
        }
        let ahead = self.ahead.get().saturating_sub(paid).saturating_add(size);
        self.ahead.set(ahead);
        ahead <= MAX_AHEAD && repeated_bytes(headers) <= MAX_REPEATED
    }
}

/// Bytes of lines that occur a second time.
fn repeated_bytes(headers: &HeaderMap) -> usize {
    if headers.len() == headers.keys_len() {
        return 0;
    }
    let mut seen = HashSet::with_capacity(headers.len());
    let again = headers.iter().filter(|line| !seen.insert(*line));
    again.map(|(name, value)| name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::Duration;

    fn lines(values: &[&str]) -> HeaderMap {
        let line = |value: &&str| (http::header::COOKIE, HeaderValue::from_str(value).unwrap());
        values.iter().map(line).collect()
    }

    #[test]
    fn repeated_lines_are_bounded() {
        let now = Instant::now();
        let long = "x".repeat(3900);
        let affords =
            |values: &[&str]| HpackBudget::new(now).allows(&lines(values), 60_000, 60_000, now);
        assert!(affords(&[&*long; 2]));
        assert!(!affords(&[&*long; 3]));
        let crumbs: Vec<String> = (0..15).map(|n| format!("{n}{long}")).collect();
        let crumbs: Vec<&str> = crumbs.iter().map(String::as_str).collect();
        assert!(affords(&crumbs), "a cookie in pieces");
    }

    #[test]
    fn uncompressed_headers_never_exceed_the_budget() {
        let (now, none) = (Instant::now(), HeaderMap::new());
        let expansion = HpackBudget::new(now);
        for n in 1..10_000 {
            assert!(expansion.allows(&none, 60_000, n * 60_000, now));
        }
    }

    #[test]
    fn calls_with_constant_metadata_are_within_the_budget() {
        let (start, none) = (Instant::now(), HeaderMap::new());
        for (rate, size) in [(4000, 8 << 10), (20_000, 1600)] {
            let expansion = HpackBudget::new(start);
            for n in 0..10 * rate {
                let now = start + Duration::from_secs(1) * n / rate;
                assert!(expansion.allows(&none, size, u64::from(n) * 20, now), "{rate}: {n}");
            }
        }
    }

    #[test]
    fn amplified_headers_exceed_the_budget() {
        let (start, none) = (Instant::now(), HeaderMap::new());
        let expansion = HpackBudget::new(start);
        let over = (1..100_000_u32).find(|n| {
            let now = start + Duration::from_micros(10) * *n;
            !expansion.allows(&none, 4096, u64::from(*n) * 12, now)
        });
        assert!((4000..6000).contains(&over.unwrap()), "{over:?}");
    }
}
