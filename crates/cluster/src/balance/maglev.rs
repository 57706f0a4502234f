//! Maglev hashing: the same endpoint for the same key, by the table of Eisenbud et al. 2016, filled
//! as Envoy fills it, so that both kinds of proxy agree.

use twox_hash::XxHash64;

/// The table size: a prime.
const SIZE: u64 = 65_537;
/// An entry without an owner.
const FREE: u32 = u32::MAX;

/// The owner of each table entry. Endpoints are known by their index.
#[derive(Debug)]
pub(super) struct Maglev {
    owners: Vec<u32>,
}

/// An endpoint's permutation of the table entries.
struct Preference {
    owner: u32,
    weight: f64,
    /// The entry that it claims next…
    next: u64,
    /// …and the distance to the one after that.
    skip: u64,
    /// It is skipped until `round * weight` reaches this.
    target: f64,
}

impl Maglev {
    /// The table of endpoints at these addresses, with their weights.
    pub(super) fn new(endpoints: &[(String, u32)]) -> Self {
        Self::sized(endpoints, SIZE)
    }

    /// `size` is a prime, so each endpoint's permutation reaches every entry.
    fn sized(endpoints: &[(String, u32)], size: u64) -> Self {
        let sum: u64 = endpoints.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let share = |weight: u32| f64::from(weight) / sum as f64;
        let heaviest = endpoints.iter().map(|&(_, weight)| share(weight)).fold(0.0, f64::max);
        let mut sorted: Vec<_> = (0..).zip(endpoints).collect();
        sorted.sort_by_key(|(_, endpoint)| *endpoint);
        let mut choices: Vec<Preference> = sorted
            .into_iter()
            .map(|(owner, (address, weight))| Preference {
                owner,
                weight: share(*weight),
                next: XxHash64::oneshot(0, address.as_bytes()) % size,
                skip: XxHash64::oneshot(1, address.as_bytes()) % (size - 1) + 1,
                target: 0.0,
            })
            .collect();

        let mut owners = vec![FREE; size as usize];
        let mut free = match choices.is_empty() {
            true => 0,
            false => owners.len(),
        };
        let mut round = 0.0;
        while free > 0 {
            round += 1.0;
            for choice in &mut choices {
                if free == 0 || round * choice.weight < choice.target {
                    continue;
                }
                choice.target += heaviest;
                while owners[choice.next as usize] != FREE {
                    choice.next = (choice.next + choice.skip) % size;
                }
                owners[choice.next as usize] = choice.owner;
                free -= 1;
            }
        }
        Self { owners }
    }

    /// The owner of the `nth` choice for `key`: 0 is its own, the others are far apart.
    pub(super) fn owner(&self, key: u64, nth: usize) -> usize {
        let place = (key ^ (nth as u64).wrapping_neg()) % self.owners.len() as u64;
        self.owners[place as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::hash;

    fn at(ports: std::ops::RangeInclusive<u16>, weights: &[u32]) -> Vec<(String, u32)> {
        ports.map(|p| format!("127.0.0.1:{p}")).zip(weights.iter().copied()).collect()
    }

    // The values of these three tests are those of Envoy's maglev_lb_test.cc.

    #[test]
    fn the_places_are_those_of_envoy() {
        let mut endpoints = at(90..=95, &[1; 6]);
        assert_eq!(Maglev::sized(&endpoints, 7).owners, [2, 4, 0, 1, 5, 0, 3]);
        // …in whatever order the endpoints come.
        endpoints.reverse();
        assert_eq!(Maglev::sized(&endpoints, 7).owners, [3, 1, 5, 4, 0, 5, 2]);
    }

    #[test]
    fn weights_have_their_places() {
        let table = Maglev::sized(&at(90..=91, &[1, 2]), 17);
        assert_eq!(table.owners, [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn the_next_ones_are_those_of_envoy() {
        let table = Maglev::sized(&at(90..=95, &[1; 6]), 7);
        assert_eq!([0, 1, 2].map(|nth| table.owner(10, nth)), [1, 0, 5]);
    }

    #[test]
    fn each_endpoint_has_its_weight_within_a_percent() {
        let weights = [1, 2, 3, 4, 10];
        let table = Maglev::new(&at(1..=5, &weights));
        for (owner, weight) in (0..).zip(weights) {
            let count = table.owners.iter().filter(|&&o| o == owner).count();
            let share = count as f64 / SIZE as f64 / (f64::from(weight) / 20.0);
            assert!((0.99..1.01).contains(&share), "{weight}: {count}");
        }
    }

    #[test]
    fn an_endpoint_that_leaves_moves_about_twice_its_keys() {
        let before = at(1000..=1019, &[1; 20]);
        let mut after = before.clone();
        after.remove(7);
        let (old, new) = (Maglev::new(&before), Maglev::new(&after));
        let moved = (0..20_000u32)
            .map(|i| hash(&i.to_be_bytes()))
            .filter(|&key| before[old.owner(key, 0)] != after[new.owner(key, 0)])
            .count();
        assert!((1_000..2_500).contains(&moved), "{moved}");
    }
}
