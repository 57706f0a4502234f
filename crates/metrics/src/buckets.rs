//! The fixed buckets of every histogram, and quantiles computed from them.

/// One bucket per bound, and one for larger values.
pub const BUCKETS: usize = 72;

/// Upper bounds in nanoseconds: the preferred numbers R10 (ISO 3), 10 µs to 100 s. A value equal to
/// a bound is below it, as in Prometheus.
pub(super) const BOUNDS: [u64; BUCKETS - 1] = bounds();

const fn bounds() -> [u64; BUCKETS - 1] {
    const R10: [u64; 10] = [100, 125, 160, 200, 250, 320, 400, 500, 630, 800];
    let mut bounds = [0; BUCKETS - 1];
    let mut hundredth = 100;
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = R10[i % 10] * hundredth;
        if i % 10 == 9 {
            hundredth *= 10;
        }
        i += 1;
    }
    bounds
}

/// The bucket for a duration in nanoseconds.
pub fn bucket(nanos: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < nanos)
}

/// The exported bounds: 1, 2.5 and 5 of each decade from 100 µs to 50 s. Each is the index of the
/// last bucket below it.
pub(super) fn exported() -> impl Iterator<Item = usize> {
    (10..BOUNDS.len() - 1).filter(|i| matches!(i % 10, 0 | 4 | 7))
}

/// The upper bound of each bucket but the last, in milliseconds.
pub fn bounds_ms() -> impl Iterator<Item = f64> {
    BOUNDS.iter().map(|bound| *bound as f64 / 1e6)
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The content of a histogram when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The number of values in each bucket; not cumulative.
    pub buckets: [u64; BUCKETS],
    /// The sum of all values, in nanoseconds.
    pub sum: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Distribution {
    /// Adds the values of another histogram.
    pub fn add(&mut self, other: &Self) {
        let buckets = self.buckets.iter_mut().zip(&other.buckets);
        buckets.for_each(|(sum, held)| *sum = sum.wrapping_add(*held));
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The value in nanoseconds that a share `q` of all values do not exceed, as if the values of
    /// one bucket were spread evenly over it; `None` without values. Values above the last bound
    /// count as that bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (held, bound) in self.buckets.iter().zip(BOUNDS) {
            let (held, upper) = (*held as f64, bound as f64);
            if held > 0.0 && below + held >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / held).max(0.0));
            }
            below += held;
            lower = upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_preferred_numbers_from_10_us_to_100_s() {
        assert_eq!(BOUNDS[..4], [10_000, 12_500, 16_000, 20_000]);
        assert_eq!(
            BOUNDS[60..],
            [
                10_000_000_000,
                12_500_000_000,
                16_000_000_000,
                20_000_000_000,
                25_000_000_000,
                32_000_000_000,
                40_000_000_000,
                50_000_000_000,
                63_000_000_000,
                80_000_000_000,
                100_000_000_000
            ]
        );
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn exported_bounds_read_as_people_write_them() {
        let texts: Vec<String> = exported().map(|i| seconds(BOUNDS[i]).to_string()).collect();
        assert_eq!(
            texts.join(" "),
            "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 25 50"
        );
    }

    #[test]
    fn a_value_on_a_bound_lies_below_it() {
        for (i, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket(bound), i);
            assert_eq!(bucket(bound + 1), i + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let mut all = Distribution::default();
        all.buckets[bucket(1_100_000)] = 100; // between 1 ms and 1.25 ms
        assert_eq!(all.quantile(0.0), Some(1_000_000.0));
        assert_eq!(all.quantile(0.5), Some(1_125_000.0));
        assert_eq!(all.quantile(1.0), Some(1_250_000.0));
    }

    #[test]
    fn a_quantile_of_even_values_is_close() {
        let mut all = Distribution::default();
        for micros in 1..=10_000u64 {
            all.buckets[bucket(micros * 1000)] += 1;
        }
        for (q, expected) in [(0.5, 5_000_000.0), (0.9, 9_000_000.0), (0.99, 9_900_000.0)] {
            let told = all.quantile(q).unwrap();
            assert!((told - expected).abs() / expected < 0.01, "{q}: {told} for {expected}");
        }
    }

    #[test]
    fn a_value_above_the_last_bound_is_that_bound() {
        let mut all = Distribution::default();
        all.buckets[BUCKETS - 1] = 1;
        assert_eq!(all.quantile(0.5), Some(100e9));
    }
}
