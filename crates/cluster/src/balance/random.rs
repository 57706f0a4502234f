//! Random numbers for picking: fast and uniform, not secret.

use std::{cell::Cell, hash::BuildHasher};

thread_local! {
    static STATE: Cell<u64> = Cell::new(
        foldhash::fast::RandomState::default().hash_one(std::thread::current().id()),
    );
}

/// SplitMix64 (Steele et al. 2014), one for each thread.
pub(super) fn random() -> u64 {
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    mixed(state)
}

/// The bits of `x`, mixed so that each depends on all: SplitMix64's last step.
pub(super) fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A random number below `n`, or 0.
pub(crate) fn below(n: u32) -> u32 {
    // The high half of a product (Lemire 2019); the bias is n / 2³².
    (((random() >> 32) * u64::from(n)) >> 32) as u32
}

/// A random number from `0.0` to just below `1.0`.
pub(crate) fn share() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}

/// Seeds this thread's generator.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    STATE.set(mixed(seed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_even_over_its_range() {
        seed(1);
        let mut buckets = [0; 10];
        for _ in 0..100_000 {
            buckets[below(10) as usize] += 1;
            assert!((0.0..1.0).contains(&share()));
        }
        assert!(buckets.iter().all(|&b| (9_500..=10_500).contains(&b)), "{buckets:?}");
    }

    #[test]
    fn threads_draw_different_numbers_unless_seeds_are_equal() {
        let elsewhere = |f: fn() -> u64| std::thread::spawn(f).join().unwrap();
        assert_ne!(elsewhere(random), elsewhere(random));
        let seeded = || {
            seed(7);
            random()
        };
        assert_eq!(elsewhere(seeded), elsewhere(seeded));
    }

    #[test]
    fn below_nothing_is_nothing() {
        assert_eq!((below(0), below(1)), (0, 0));
    }
}
