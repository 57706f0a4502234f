//! How much may pass in how much time, in nanoseconds.

use governor::Quota;
use std::{num::NonZeroU32, time::Duration};
use values::Rate;

/// How many in how much time, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) rate: Rate,
    pub(super) burst: u64,
}

/// The longest that a burst may take to be earned again.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The highest rate of single units, a second, that nanoseconds resolve well enough.
const FASTEST: u64 = 10_000_000;

impl Allowance {
    /// As much as may pass in a second, but at least one.
    pub(super) fn one_second(rate: Rate) -> u64 {
        (rate.amount / rate.per.as_secs().max(1)).max(1)
    }

    /// The time in which this amount is earned, rounded to the nanosecond.
    pub(super) fn nanos(&self, amount: u64) -> u64 {
        let rate = u128::from(self.rate.amount.max(1));
        let nanos = (u128::from(amount) * self.rate.per.as_nanos() + rate / 2) / rate;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Whether a burst takes longer to be earned than anybody waits.
    pub(super) fn takes_ages(&self) -> bool {
        u128::from(self.nanos(self.burst)) > LONGEST.as_nanos()
    }

    /// Whether single units come too fast for nanoseconds, or are too many at once.
    pub(super) fn is_too_fast(&self) -> bool {
        self.rate.amount / self.rate.per.as_secs().max(1) > FASTEST
            || u32::try_from(self.burst).is_err()
    }

    /// The same in governor's terms, for single things. It counts in whole nanoseconds: at
    /// [`FASTEST`] that is half a percent off at worst, at a million a second 0.05 %.
    pub(super) fn quota(&self) -> Quota {
        let burst = u32::try_from(self.burst).ok().and_then(NonZeroU32::new);
        let each = Duration::from_nanos(self.nanos(1).max(1));
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        quota.allow_burst(burst.unwrap_or(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(amount: u64, secs: u64, burst: u64) -> Allowance {
        Allowance { rate: Rate { amount, per: Duration::from_secs(secs) }, burst }
    }

    #[test]
    fn rates_are_exact_to_the_nanosecond() {
        assert_eq!(allowance(500, 1, 1).nanos(1), 2_000_000);
        assert_eq!(allowance(6000, 60, 1).nanos(1), 10_000_000);
        assert_eq!(allowance(1, 86_400, 1).nanos(1), 86_400_000_000_000);
        // Many are reckoned together, so that what one is off does not add up.
        assert_eq!(allowance(3, 1, 1).nanos(1), 333_333_333);
        assert_eq!(allowance(3, 1, 1).nanos(3_000_000), 1_000_000_000_000_000);
        // A GiB a second is less than a nanosecond a byte.
        assert_eq!(allowance(1 << 30, 1, 1).nanos(1 << 30), 1_000_000_000);
        assert_eq!(allowance(1 << 30, 1, 1).nanos(1 << 20), 976_563);
        assert_eq!(allowance(1, 86_400, 1).nanos(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_burst_is_a_second_s_worth_where_nothing_else_is_said() {
        let second = |amount, secs| Allowance::one_second(allowance(amount, secs, 1).rate);
        assert_eq!(second(500, 1), 500);
        assert_eq!(second(6000, 60), 100);
        assert_eq!(second(3, 3600), 1);
    }

    #[test]
    fn rates_beyond_the_resolution_are_detected() {
        assert!(!allowance(10_000_000, 1, 10_000_000).is_too_fast());
        assert!(allowance(11_000_000, 1, 1).is_too_fast());
        assert!(allowance(1, 1, 1 << 32).is_too_fast());
        assert!(!allowance(1, 86_400, 36_000).takes_ages());
        assert!(allowance(1, 86_400, 37_000).takes_ages());
    }
}
