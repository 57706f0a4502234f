//! A token bucket for bytes: a rate and a burst.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// One chunk is the bytes of this much time: short enough to be smooth at any rate, and long enough
/// for a timer.
const CHUNK: Duration = Duration::from_millis(20);

/// A bucket that any number of connections, on any worker, may share.
///
/// Its only state is the time at which all recorded bytes would have passed at the rate (the
/// theoretical arrival time of GCRA, ITU-T I.371). A caller that passes bytes advances it and waits
/// until the next bytes fit, so connections that share it take turns.
#[derive(Debug)]
pub struct ByteBucket {
    bytes: u64,
    per: Duration,
    /// How many bytes pass at once.
    chunk: u64,
    /// How far `arrival_time` may be ahead of now when bytes pass, in nanoseconds: the time of the
    /// burst without one chunk.
    tolerance: u64,
    created: Instant,
    /// The theoretical arrival time, in nanoseconds since `created`.
    arrival_time: AtomicU64,
}

impl ByteBucket {
    /// A bucket with a rate of `bytes` per `per`, and a burst of `burst` bytes, at least two chunks so
    /// that a late timer does not lower the rate.
    pub fn new(bytes: u64, per: Duration, burst: u64, now: Instant) -> Self {
        let chunk = u128::from(bytes) * CHUNK.as_nanos() / per.as_nanos().max(1);
        let chunk = u64::try_from(chunk).unwrap_or(u64::MAX).max(1);
        let burst = burst.max(chunk.saturating_mul(2));
        let mut bucket = Self {
            bytes: bytes.max(1),
            per,
            chunk,
            tolerance: 0,
            created: now,
            arrival_time: AtomicU64::new(0),
        };
        bucket.tolerance = bucket.nanos(burst.saturating_sub(chunk));
        bucket
    }

    /// A bucket with this rate, in bytes a second, as even as a timer permits.
    pub fn smooth(bytes: u64, now: Instant) -> Self {
        Self::new(bytes, Duration::from_secs(1), 0, now)
    }

    /// The most bytes that should pass at once.
    pub fn max_chunk(&self) -> usize {
        usize::try_from(self.chunk).unwrap_or(usize::MAX)
    }

    /// Records bytes that passed. Returns the earliest time at which further bytes should pass.
    pub fn record(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let now = now.saturating_duration_since(self.created);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let cost = self.nanos(bytes as u64);
        let after = |arrival_time: u64| arrival_time.max(now).saturating_add(cost);
        let before = self.arrival_time.fetch_update(Relaxed, Relaxed, |at| Some(after(at)));
        let fits = after(before.unwrap_or_else(|at| at)).saturating_sub(self.tolerance);
        (fits > now).then(|| self.created + Duration::from_nanos(fits))
    }

    /// The time that bytes take at the rate, in nanoseconds.
    fn nanos(&self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * self.per.as_nanos();
        u64::try_from(nanos.div_ceil(u128::from(self.bytes))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The times and sizes of chunks from a sender that always has data, with a timer that is `late`.
    fn push(
        bucket: &ByteBucket,
        from: Instant,
        time: Duration,
        late: Duration,
    ) -> Vec<(Instant, usize)> {
        let (mut now, mut passed) = (from, Vec::new());
        while now < from + time {
            passed.push((now, bucket.max_chunk()));
            if let Some(until) = bucket.record(bucket.max_chunk(), now) {
                assert!(until > now);
                now = until + late;
            }
        }
        passed
    }

    fn sum(passed: &[(Instant, usize)]) -> u64 {
        passed.iter().map(|(_, bytes)| *bytes as u64).sum()
    }

    #[test]
    fn no_more_than_the_burst_and_the_rate_pass_and_hardly_less() {
        let now = Instant::now();
        for rate in [50, 10 * 1024, 1 << 20, 1 << 30] {
            for burst in [0, 64 * 1024] {
                for late in [Duration::ZERO, Duration::from_millis(2)] {
                    let bucket = ByteBucket::new(rate, SECOND, burst, now);
                    let passed = sum(&push(&bucket, now, 10 * SECOND, late));
                    let burst = burst.max(2 * bucket.chunk);
                    let all = burst + 10 * rate;
                    assert!(passed <= all, "{passed} of {all}: {bucket:?}");
                    assert!(passed >= all * 99 / 100, "{passed} of {all}: {bucket:?}");
                }
            }
        }
    }

    #[test]
    fn low_rates_pass_evenly() {
        let now = Instant::now();
        let bucket = ByteBucket::smooth(10 * 1024, now);
        let passed = push(&bucket, now, 10 * SECOND, Duration::ZERO);
        for slice in 0..100 {
            let from = now + slice * SECOND / 10;
            let within = |at: &Instant| *at >= from && *at < from + SECOND / 10;
            let bytes: usize = passed.iter().filter(|(at, _)| within(at)).map(|(_, n)| n).sum();
            assert!((800..=1500).contains(&bytes), "{bytes} bytes in slice {slice}");
        }
    }

    #[test]
    fn a_rest_earns_no_more_than_the_burst() {
        let now = Instant::now();
        let bucket = ByteBucket::new(1000, SECOND, 500, now);
        push(&bucket, now, SECOND, Duration::ZERO);
        let later = now + 3600 * SECOND;
        let passed = sum(&push(&bucket, later, SECOND, Duration::ZERO));
        assert!((1480..=1520).contains(&passed), "{passed}");
    }

    #[test]
    fn connections_that_share_a_bucket_get_equal_shares() {
        let now = Instant::now();
        let bucket = ByteBucket::new(1 << 20, SECOND, 64 * 1024, now);
        let mut next = [now; 3];
        let mut got = [0; 3];
        // The third comes late.
        next[2] += SECOND;
        loop {
            let who = (0..3).min_by_key(|who| next[*who]).unwrap();
            let at = next[who];
            if at > now + 11 * SECOND {
                break;
            }
            got[who] += bucket.max_chunk();
            next[who] = bucket.record(bucket.max_chunk(), at).unwrap_or(at);
        }
        let all: usize = got.iter().sum();
        assert!(all.abs_diff(11 << 20) < 200_000, "{all}");
        assert!(got[0].abs_diff(got[1]) < 50_000, "{got:?}");
        assert!(got[2].abs_diff((10 << 20) / 3) < 100_000, "{got:?}");
    }

    #[test]
    fn the_slowest_rate_and_the_largest_burst_overflow_nothing() {
        let now = Instant::now();
        let day = Duration::from_secs(24 * 3600);
        let slow = ByteBucket::new(1, day, 0, now);
        assert!(slow.record(usize::MAX, now + day).is_some());
        assert!(slow.record(usize::MAX, now + 2 * day).is_some());
        let fast = ByteBucket::new(u64::MAX, SECOND, u64::MAX, now);
        fast.record(usize::MAX, now);
        assert!(fast.record(usize::MAX, now).is_some());
    }
}
