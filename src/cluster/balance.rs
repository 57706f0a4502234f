//! Which endpoint is next.

use super::Endpoint;
use crate::config::plan::LbPolicy;
use std::{
    cell::Cell,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A policy, with what it remembers between picks.
#[derive(Debug)]
pub(super) struct Balance {
    policy: LbPolicy,
    turn: AtomicUsize,
}

impl Balance {
    pub(super) fn new(policy: LbPolicy) -> Self {
        // Proxies that start together should not all begin with the first endpoint; and no
        // beginning is so late that the count wraps around in a proxy's life.
        Self { policy, turn: AtomicUsize::new(below(1 << 16)) }
    }

    /// The next one of the usable endpoints that are not in `except`.
    pub(super) fn pick<'e>(
        &self,
        endpoints: &'e [Arc<Endpoint>],
        except: &[Arc<Endpoint>],
    ) -> Option<&'e Arc<Endpoint>> {
        let candidates =
            || endpoints.iter().filter(|e| e.usable() && !except.iter().any(|x| Arc::ptr_eq(x, e)));
        let count = candidates().count();
        if count < 2 {
            return candidates().next();
        }
        // An endpoint may become unusable between counting and here, hence the `or_else`s.
        match self.policy {
            LbPolicy::RoundRobin => candidates().nth(self.turn.fetch_add(1, Relaxed) % count),
            LbPolicy::Random => candidates().nth(below(count)),
            LbPolicy::LeastRequest => {
                let (first, second) = two_below(count);
                match (candidates().nth(first), candidates().nth(second)) {
                    (Some(a), Some(b)) if b.active_connections() < a.active_connections() => {
                        Some(b)
                    }
                    (a, b) => a.or(b),
                }
            }
        }
        .or_else(|| candidates().next())
    }
}

/// The word that the config and reports use.
pub(super) fn word(policy: LbPolicy) -> &'static str {
    match policy {
        LbPolicy::RoundRobin => "round_robin",
        LbPolicy::LeastRequest => "least_request",
        LbPolicy::Random => "random",
    }
}

/// Two different numbers below `n`, which is at least 2, in random order: for two candidates
/// that is a full comparison, and a tie falls to either alike.
fn two_below(n: usize) -> (usize, usize) {
    let first = below(n);
    let second = below(n - 1);
    (first, if second < first { second } else { second + 1 })
}

/// A random number below `n`, or 0.
fn below(n: usize) -> usize {
    // The high half of a 64 × 64 bit product (Lemire 2019); the bias is n / 2⁶⁴.
    ((u128::from(random()) * n as u128) >> 64) as usize
}

/// A random number from `0.0` to just below `1.0`.
pub(super) fn share() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64 (Steele et al. 2014), one for each thread: fast, evenly spread, no secret.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(seed());
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn seed() -> u64 {
    foldhash::fast::RandomState::default().hash_one(std::thread::current().id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Lease, endpoint::Meters};

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        let meters = Arc::new(Meters::new("c", "e".into(), &metrics::NoopRecorder));
        (1..=n)
            .map(|port| Arc::new(Endpoint::new(([127, 0, 0, 1], port).into(), meters.clone())))
            .collect()
    }

    fn picks(policy: LbPolicy, endpoints: &[Arc<Endpoint>], times: usize) -> Vec<usize> {
        let balance = Balance::new(policy);
        let mut counts = vec![0; endpoints.len()];
        for _ in 0..times {
            let picked = balance.pick(endpoints, &[]).unwrap();
            counts[usize::from(picked.address().port()) - 1] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_gives_each_endpoint_exactly_its_turn() {
        assert_eq!(picks(LbPolicy::RoundRobin, &endpoints(3), 30_000), [10_000; 3]);
    }

    #[test]
    fn random_and_idle_least_request_spread_evenly() {
        // 10 000 ± 400 is five standard deviations.
        for policy in [LbPolicy::Random, LbPolicy::LeastRequest] {
            for count in picks(policy, &endpoints(3), 30_000) {
                assert!((9_600..=10_400).contains(&count), "{policy:?}: {count}");
            }
        }
    }

    #[test]
    fn least_request_of_two_always_takes_the_less_busy() {
        let endpoints = endpoints(2);
        let _busy = Lease::new(&endpoints[0]);
        assert_eq!(picks(LbPolicy::LeastRequest, &endpoints, 1_000), [0, 1_000]);
    }

    #[test]
    fn least_request_of_many_never_takes_the_busiest() {
        let endpoints = endpoints(5);
        let _busy = Lease::new(&endpoints[2]);
        let counts = picks(LbPolicy::LeastRequest, &endpoints, 10_000);
        assert_eq!(counts[2], 0);
        assert!(counts.iter().filter(|&&c| c > 2_000).count() == 4, "{counts:?}");
    }

    #[test]
    fn least_request_fills_up_evenly_when_connections_stay() {
        let endpoints = endpoints(4);
        let balance = Balance::new(LbPolicy::LeastRequest);
        let leases: Vec<_> =
            (0..4_000).map(|_| Lease::new(balance.pick(&endpoints, &[]).unwrap())).collect();
        for endpoint in &endpoints {
            assert!(endpoint.active_connections().abs_diff(1_000) < 20, "{endpoint:?}");
        }
        drop(leases);
        assert!(endpoints.iter().all(|e| e.active_connections() == 0));
    }

    #[test]
    fn what_is_excepted_is_not_picked_and_nothing_left_is_none() {
        let endpoints = endpoints(3);
        for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
            let balance = Balance::new(policy);
            for _ in 0..100 {
                let picked = balance.pick(&endpoints, &endpoints[..2]).unwrap();
                assert!(Arc::ptr_eq(picked, &endpoints[2]));
                let picked = balance.pick(&endpoints, &endpoints[1..2]).unwrap();
                assert!(!Arc::ptr_eq(picked, &endpoints[1]));
            }
            assert!(balance.pick(&endpoints, &endpoints).is_none());
            assert!(balance.pick(&[], &[]).is_none());
        }
    }

    #[test]
    fn the_generator_is_even_over_its_range_and_differs_between_threads() {
        let mut buckets = [0; 10];
        for _ in 0..100_000 {
            buckets[below(10)] += 1;
            assert!((0.0..1.0).contains(&share()));
        }
        assert!(buckets.iter().all(|&b| (9_500..=10_500).contains(&b)), "{buckets:?}");
        let elsewhere = std::thread::spawn(random).join().unwrap();
        assert_ne!(elsewhere, std::thread::spawn(random).join().unwrap());
    }
}
