//! Weights as slots on a line: each endpoint owns as many slots as it weighs.
//!
//! A random slot is a weighted random endpoint. Turns visit all slots in strides of about the
//! golden ratio, so that each endpoint gets exactly its share of any `total` consecutive turns,
//! spread as evenly as possible (three-distance theorem), without a stored sequence.

/// The most slots: turns multiply two of them within 64 bits.
const MAX_TOTAL: u64 = u32::MAX as u64;

/// The weights of some endpoints, which are known by their index.
#[derive(Debug)]
pub(super) struct Weights {
    /// Where each one's slots end; empty if each has one slot.
    ends: Vec<u32>,
    /// How many slots there are. 0 only without endpoints.
    total: u32,
    /// The distance in slots between two turns, coprime with `total`.
    stride: u32,
}

impl Weights {
    /// These weights; 0 counts as the smallest possible weight.
    pub(super) fn new(weights: &[u64]) -> Self {
        let divisor = weights.iter().fold(0, |divisor, &w| gcd(divisor, w.max(1))).max(1);
        let reduced = weights.iter().map(|&w| w.max(1) / divisor);
        let sum = reduced.clone().fold(0, u64::saturating_add);
        // The error is less than one slot in four billion, and only for sums beyond that.
        let room = MAX_TOTAL - weights.len() as u64;
        let fitted = reduced.map(|w| match sum <= MAX_TOTAL {
            true => w,
            false => (u128::from(w) * u128::from(room) / u128::from(sum)).max(1) as u64,
        });
        let ends: Vec<u32> = fitted
            .scan(0, |end, w| {
                *end += w as u32;
                Some(*end)
            })
            .collect();
        let total = ends.last().copied().unwrap_or(0);
        match total as usize == ends.len() {
            true => Self { ends: Vec::new(), total, stride: 1 },
            false => Self { ends, total, stride: stride(total) },
        }
    }

    /// How many slots there are.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// The owner of this slot, which is below `total`.
    pub(super) fn owner(&self, place: u32) -> usize {
        match self.ends.is_empty() {
            true => place as usize,
            false => self.ends.partition_point(|&end| end <= place),
        }
    }

    /// The first of an endpoint's slots.
    pub(super) fn start(&self, index: usize) -> u32 {
        match self.ends.is_empty() {
            true => index as u32,
            false => index.checked_sub(1).map_or(0, |before| self.ends[before]),
        }
    }

    /// How many slots an endpoint has.
    pub(super) fn of(&self, index: usize) -> u32 {
        match self.ends.is_empty() {
            true => 1,
            false => self.ends[index] - self.start(index),
        }
    }

    /// The slot of this turn.
    pub(super) fn place_of_turn(&self, turn: usize) -> u32 {
        let total = u64::from(self.total.max(1));
        ((turn as u64 % total) * u64::from(self.stride) % total) as u32
    }
}

/// A number near `total` divided by the golden ratio that is coprime with it.
fn stride(total: u32) -> u32 {
    let golden = (f64::from(total) * 0.618_033_988_749_894_9) as u32;
    (golden.max(1)..total).find(|&s| gcd(s.into(), total.into()) == 1).unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &Weights, turns: std::ops::Range<usize>) -> Vec<usize> {
        turns.map(|turn| weights.owner(weights.place_of_turn(turn))).collect()
    }

    #[test]
    fn equal_weights_take_turns_in_order() {
        assert_eq!(turns(&Weights::new(&[7, 7, 7]), 0..6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn any_full_round_gives_each_exactly_its_weight() {
        for given in [&[5, 1, 1][..], &[1000, 1], &[3, 9, 27, 6], &[997, 991, 2, 1, 1]] {
            let weights = Weights::new(given);
            let total = weights.total() as usize;
            let divisor = given.iter().sum::<u64>() as usize / total;
            for begin in [0, 1, 12_345] {
                let mut counts = vec![0; given.len()];
                for owner in turns(&weights, begin..begin + total) {
                    counts[owner] += divisor as u64;
                }
                assert_eq!(counts, given, "from turn {begin}");
            }
        }
    }

    #[test]
    fn heavy_ones_turns_are_spread() {
        // Weights of 5, 1 and 1: the two light ones are never adjacent.
        let seen = turns(&Weights::new(&[5, 1, 1]), 0..14);
        assert!(seen.windows(2).all(|pair| pair.contains(&0)), "{seen:?}");
        // Half of the weight, and never more than two turns in a row.
        let seen = turns(&Weights::new(&[100, 30, 20, 50]), 0..1_000);
        assert!(seen.windows(3).all(|row| row.iter().any(|&owner| owner != 0)), "{seen:?}");
    }

    #[test]
    fn places_have_owners_and_owners_places() {
        for given in [&[1, 1, 1][..], &[4, 2, 6, 2], &[1]] {
            let weights = Weights::new(given);
            for index in 0..given.len() {
                let start = weights.start(index);
                for place in start..start + weights.of(index) {
                    assert_eq!(weights.owner(place), index);
                }
            }
            assert_eq!(weights.start(given.len() - 1) + weights.of(given.len() - 1), weights.total);
        }
    }

    #[test]
    fn weights_without_bound_are_scaled_down_within_two_percent() {
        let given: Vec<u64> = (0..2_000).map(|i| 1_000_000 + i * 50_021).collect();
        let weights = Weights::new(&given);
        let sum: u64 = given.iter().sum();
        assert!(sum > MAX_TOTAL && weights.total() > u32::MAX / 2);
        for (index, &w) in given.iter().enumerate() {
            let (is, ought) = (f64::from(weights.of(index)), w as f64);
            let ratio = is / f64::from(weights.total()) / (ought / sum as f64);
            assert!((0.98..1.02).contains(&ratio), "{index}: {ratio}");
        }
        assert_eq!(Weights::new(&[u64::MAX, u64::MAX]).total(), 2);
        assert!(Weights::new(&[u64::MAX, 1]).of(1) >= 1);
    }

    #[test]
    fn no_weights_have_no_place_and_zero_is_the_least() {
        assert_eq!(Weights::new(&[]).total(), 0);
        assert_eq!(Weights::new(&[]).place_of_turn(5), 0);
        assert_eq!(Weights::new(&[0, 3]).of(0), 1);
    }
}
