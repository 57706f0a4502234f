//! Ring hashing (Ketama as in Envoy): the same endpoint for the same key, so that both kinds of
//! proxy agree.

use super::hash;
use std::fmt::Write as _;

/// The most entries of a ring, whatever its weights ask for.
const MAX_SIZE: u64 = 8 * 1024 * 1024;

/// Ring entries in the order of their hashes. Endpoints are known by their index.
#[derive(Debug)]
pub(super) struct Ring {
    hashes: Vec<u64>,
    owners: Vec<u32>,
}

impl Ring {
    /// The ring for endpoints at these addresses with their weights, with at least `min_size`
    /// entries, but not more than 8 388 608.
    pub(super) fn new(endpoints: &[(String, u32)], min_size: u32) -> Self {
        Self::sized(endpoints, u64::from(min_size).min(MAX_SIZE), MAX_SIZE)
    }

    /// The ring is sized so that the lightest endpoint has a whole number of entries, unless that
    /// is too many. Entries are assigned by running sums, which distributes fractions.
    fn sized(endpoints: &[(String, u32)], min_size: u64, max_size: u64) -> Self {
        let sum: u64 = endpoints.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let share = |weight: u32| f64::from(weight) / sum as f64;
        let lightest = endpoints.iter().map(|&(_, weight)| share(weight)).fold(1.0, f64::min);
        let scale = ((lightest * min_size as f64).ceil() / lightest).min(max_size as f64);

        let mut places: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize);
        let (mut are, mut ought) = (0.0, 0.0);
        let mut name = String::new();
        for (owner, (address, weight)) in (0..).zip(endpoints) {
            ought += scale * share(*weight);
            let mut nth = 0;
            while are < ought {
                name.clear();
                let _ = write!(name, "{address}_{nth}");
                places.push((hash(name.as_bytes()), owner));
                nth += 1;
                are += 1.0;
            }
        }
        places.sort_unstable();
        let (hashes, owners) = places.into_iter().unzip();
        Self { hashes, owners }
    }

    /// The owner of the `nth` entry from that of `key` on: 0 is its own.
    pub(super) fn owner(&self, key: u64, nth: usize) -> usize {
        let place = self.hashes.partition_point(|&hash| hash < key) + nth;
        self.owners[place % self.owners.len()] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ports: std::ops::RangeInclusive<u16>, weights: &[u32]) -> Vec<(String, u32)> {
        ports.map(|p| format!("127.0.0.1:{p}")).zip(weights.iter().copied()).collect()
    }

    /// How many of `n` keys, evenly spread, each endpoint has.
    fn histogram(ring: &Ring, n: u64, endpoints: usize) -> Vec<u32> {
        let mut counts = vec![0; endpoints];
        for i in 0..n {
            counts[ring.owner(i * (u64::MAX / n), 0)] += 1;
        }
        counts
    }

    // The values of these tests are those of Envoy's ring_hash_lb_test.cc.

    #[test]
    fn the_places_are_those_of_envoy() {
        let ring = Ring::new(&at(90..=95, &[1; 6]), 12);
        let expected = [
            (833437586790550860, 4),
            (928266305478181108, 2),
            (1033482794131418490, 0),
            (3551244743356806947, 5),
            (3851675632748031481, 3),
            (5583722120771150861, 1),
            (6311230543546372928, 1),
            (7700377290971790572, 3),
            (13144177310400110813, 5),
            (13444792449719432967, 2),
            (15516499411664133160, 4),
            (16117243373044804889, 0),
        ];
        let places: Vec<_> = ring.hashes.iter().copied().zip(ring.owners.iter().copied()).collect();
        assert_eq!(places, expected);
        let keys = [0, u64::MAX, 3551244743356806947, 3551244743356806948, 16117243373044804880];
        assert_eq!(keys.map(|key| ring.owner(key, 0)), [4, 4, 5, 3, 0]);
    }

    #[test]
    fn the_next_ones_are_those_of_envoy() {
        let ring = Ring::new(&at(90..=95, &[1; 6]), 12);
        assert_eq!([0, 1, 2, 13].map(|nth| ring.owner(0, nth)), [4, 2, 0, 2]);
    }

    #[test]
    fn the_size_is_rounded_up_for_the_lightest() {
        let ring = Ring::new(&at(80..=81, &[1; 2]), 3);
        let expected = [
            (5454692015285649509, 0),
            (7859399908942313493, 1),
            (13838424394637650569, 0),
            (16064866803292627174, 1),
        ];
        let places: Vec<_> = ring.hashes.iter().copied().zip(ring.owners.iter().copied()).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn weights_have_their_places() {
        let ring = Ring::sized(&at(90..=92, &[1, 2, 3]), 6, 6);
        let expected = [
            (928266305478181108, 2),
            (4443673547860492590, 2),
            (5583722120771150861, 1),
            (6311230543546372928, 1),
            (13444792449719432967, 2),
            (16117243373044804889, 0),
        ];
        assert_eq!(expected.map(|(key, _)| ring.owner(key, 0)), expected.map(|(_, owner)| owner));
    }

    #[test]
    fn a_large_weighted_ring_spreads_as_envoy_does() {
        let ring = Ring::new(&at(90..=92, &[1, 2, 3]), 6144);
        assert_eq!(ring.hashes.len(), 6144);
        assert_eq!(histogram(&ring, 6000, 3), [987, 1932, 3081]);
    }

    #[test]
    fn a_ring_that_is_full_has_fractions() {
        let ring = Ring::sized(&at(90..=91, &[1; 2]), 1023, 1023);
        assert_eq!(ring.hashes.len(), 1023);
        assert_eq!(histogram(&ring, 1023, 2), [526, 497]);
        let ring = Ring::sized(&at(90..=93, &[1; 4]), 2, 2);
        assert_eq!(histogram(&ring, 1024, 4).iter().filter(|&&count| count == 0).count(), 2);
    }

    #[test]
    fn an_endpoint_that_leaves_moves_only_its_own_keys() {
        let before = at(1000..=1019, &[1; 20]);
        let mut after = before.clone();
        after.remove(7);
        let (old, new) = (Ring::new(&before, 1024), Ring::new(&after, 1024));
        let keys = (0..20_000).map(|i: u32| hash(&i.to_be_bytes()));
        let (mut lost, mut moved) = (0, 0);
        for key in keys {
            let (was, is) = (&before[old.owner(key, 0)], &after[new.owner(key, 0)]);
            match *was == before[7] {
                true => lost += 1,
                false => moved += u32::from(was != is),
            }
        }
        // 20 of the lightest have 52 places each, 19 have 54: a few more for everyone.
        assert!((600..1_400).contains(&lost), "{lost}");
        assert!(moved < 20_000 / 20, "{moved}");
    }

    #[test]
    fn a_ring_never_outgrows_its_bound() {
        let ring = Ring::sized(&at(90..=91, &[1, 65_535]), 1024, 4096);
        assert_eq!(ring.hashes.len(), 4096);
    }
}
