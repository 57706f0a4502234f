//! Chooses the operations that a fault hits. The same seed chooses the same operations again.

use foldhash::quality::RandomState;
use operation::draw;
use std::{
    hash::{BuildHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Which of the operations that match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultSchedule {
    /// This percentage.
    Percent(f64),
    /// The one with this number, from 1.
    Nth(u64),
    /// Each one whose number is a multiple of this.
    Every(u64),
}

/// Decides about each operation in turn. All workers share it: the decision on the n-th operation
/// depends on the seed and on n only.
#[derive(Debug)]
pub(super) struct FaultSampler {
    pub(super) when: FaultSchedule,
    pub(super) seed: u64,
    /// How often at most.
    pub(super) times: Option<u64>,
    seen: AtomicU64,
    struck: AtomicU64,
}

/// A fault that strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    /// A number from 0 up to 1, the same again for the same seed and operation.
    pub(super) draw: f64,
}

impl FaultSampler {
    /// A sampler that has seen no operation yet.
    pub(super) fn new(when: FaultSchedule, seed: u64, times: Option<u64>) -> Self {
        Self { when, seed, times, seen: AtomicU64::new(0), struck: AtomicU64::new(0) }
    }

    /// Whether the fault applies to the next operation.
    pub(super) fn next(&self) -> Option<Hit> {
        let number = self.seen.fetch_add(1, Relaxed).wrapping_add(1);
        let strikes = match self.when {
            FaultSchedule::Percent(percent) => draw(self.seed, number, 0) * 100.0 < percent,
            FaultSchedule::Nth(nth) => number == nth,
            FaultSchedule::Every(every) => number.is_multiple_of(every),
        };
        (strikes && self.is_left()).then(|| Hit { draw: draw(self.seed, number, 1) })
    }

    /// Takes one of the times that are left.
    fn is_left(&self) -> bool {
        let Some(times) = self.times else { return true };
        let one_more = |struck: u64| (struck < times).then_some(struck + 1);
        self.struck.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }
}

/// A random seed.
pub(super) fn any_seed() -> u64 {
    RandomState::default().build_hasher().finish() >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the operations that the fault applied to.
    fn struck(sampler: &FaultSampler, of: u64) -> Vec<u64> {
        (1..=of).filter(|_| sampler.next().is_some()).collect()
    }

    #[test]
    fn a_seed_determines_which_operations_get_a_fault() {
        let with = |seed| FaultSampler::new(FaultSchedule::Percent(10.0), seed, None);
        let first = struck(&with(7), 1000);
        assert_eq!(first, struck(&with(7), 1000));
        assert_ne!(first, struck(&with(8), 1000));
    }

    #[test]
    fn a_percentage_may_have_fractions() {
        for (percent, expected) in [(100.0, 100_000), (10.0, 10_000), (0.1, 100)] {
            let struck =
                struck(&FaultSampler::new(FaultSchedule::Percent(percent), 1, None), 100_000).len();
            let off = struck.abs_diff(expected);
            assert!(off * off <= 16 * expected, "{struck} of {expected}");
        }
    }

    #[test]
    fn nth_hits_once_and_every_hits_repeatedly() {
        assert_eq!(struck(&FaultSampler::new(FaultSchedule::Nth(3), 1, None), 12), [3]);
        assert_eq!(struck(&FaultSampler::new(FaultSchedule::Every(5), 1, None), 12), [5, 10]);
    }

    #[test]
    fn times_bounds_the_hits() {
        assert_eq!(
            struck(&FaultSampler::new(FaultSchedule::Percent(100.0), 1, Some(2)), 12),
            [1, 2]
        );
        assert_eq!(struck(&FaultSampler::new(FaultSchedule::Every(5), 1, Some(1)), 12), [5]);
    }

    #[test]
    fn the_nth_decision_does_not_depend_on_the_thread() {
        let alone = struck(&FaultSampler::new(FaultSchedule::Percent(50.0), 3, None), 4000).len();
        let shared = FaultSampler::new(FaultSchedule::Percent(50.0), 3, None);
        let count = || (0..1000).filter(|_| shared.next().is_some()).count();
        let together: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(together, alone);
    }
}
