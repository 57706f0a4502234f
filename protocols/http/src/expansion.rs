//! How much header compression may make of a client's bytes: by HTTP/2 a byte can stand for a header
//! of 4 kB, and the service behind is sent all of it (HPACK, RFC 7541).
//!
//! Two bounds. A head may hold few bytes of lines that it has already: no client has a reason to
//! send a line twice, and without that a head is at most the 4 kB of the compression's table larger
//! than what came. And a connection has a budget for what it makes of its bytes beyond their
//! number, which is given back as time passes: enough for 4,000 calls a second with 8 kB of metadata
//! that never changes, or 20,000 requests a second with 1.6 kB.

use foldhash::{HashSet, HashSetExt};
use http::HeaderMap;
use operation::Violation;
use std::{cell::Cell, time::Instant};

/// How many bytes of lines a head may hold that it holds already.
const MOST_REPEATED: usize = 4 << 10;

/// How many bytes beyond those received a connection may make at once…
const MOST_AHEAD: u64 = 16 << 20;

/// …and how many a second.
const RATE: u64 = 32 << 20;

/// What a client is counted for that goes beyond.
pub(crate) const VIOLATION: Violation = Violation("header_flood");

/// What one connection has made of its bytes.
pub(crate) struct HpackBudget {
    /// How many bytes it is ahead.
    ahead: Cell<u64>,
    /// How many were received when it was looked last, and when that was.
    received: Cell<u64>,
    looked: Cell<Instant>,
}

impl HpackBudget {
    /// Of a connection that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { ahead: Cell::new(0), received: Cell::new(0), looked: Cell::new(now) }
    }

    /// Whether these headers, of `size` bytes, are within both bounds, where so many bytes were
    /// received on the connection in all.
    pub(crate) fn affords(
        &self,
        headers: &HeaderMap,
        size: u64,
        received: u64,
        now: Instant,
    ) -> bool {
        let millis = now.saturating_duration_since(self.looked.get()).as_millis();
        let mut paid = received.saturating_sub(self.received.replace(received));
        if millis > 0 {
            self.looked.set(now);
            paid = paid.saturating_add(
                u64::try_from(millis).unwrap_or(u64::MAX).saturating_mul(RATE / 1000),
            );
        }
        let ahead = self.ahead.get().saturating_sub(paid).saturating_add(size);
        self.ahead.set(ahead);
        ahead <= MOST_AHEAD && repeated(headers) <= MOST_REPEATED
    }
}

/// How many bytes of these headers are lines that stand there a second time.
fn repeated(headers: &HeaderMap) -> usize {
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
    fn lines_that_stand_there_twice_are_bounded() {
        let now = Instant::now();
        let long = "x".repeat(3900);
        let affords =
            |values: &[&str]| HpackBudget::new(now).affords(&lines(values), 60_000, 60_000, now);
        assert!(affords(&[&*long; 2]));
        assert!(!affords(&[&*long; 3]));
        let crumbs: Vec<String> = (0..15).map(|n| format!("{n}{long}")).collect();
        let crumbs: Vec<&str> = crumbs.iter().map(String::as_str).collect();
        assert!(affords(&crumbs), "a cookie in pieces");
    }

    #[test]
    fn a_client_that_pays_for_its_bytes_is_never_over() {
        let (now, none) = (Instant::now(), HeaderMap::new());
        let expansion = HpackBudget::new(now);
        for n in 1..10_000 {
            assert!(expansion.affords(&none, 60_000, n * 60_000, now));
        }
    }

    #[test]
    fn calls_with_metadata_that_never_changes_are_within_the_budget() {
        let (start, none) = (Instant::now(), HeaderMap::new());
        for (rate, size) in [(4000, 8 << 10), (20_000, 1600)] {
            let expansion = HpackBudget::new(start);
            for n in 0..10 * rate {
                let now = start + Duration::from_secs(1) * n / rate;
                assert!(expansion.affords(&none, size, u64::from(n) * 20, now), "{rate}: {n}");
            }
        }
    }

    #[test]
    fn a_few_bytes_that_become_many_are_over_the_budget() {
        let (start, none) = (Instant::now(), HeaderMap::new());
        let expansion = HpackBudget::new(start);
        let over = (1..100_000_u32).find(|n| {
            let now = start + Duration::from_micros(10) * *n;
            !expansion.affords(&none, 4096, u64::from(*n) * 12, now)
        });
        assert!((4000..6000).contains(&over.unwrap()), "{over:?}");
    }
}
