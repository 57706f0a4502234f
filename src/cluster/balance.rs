//! Which endpoint is next.

use super::{Ask, Endpoint, set::Member};
use crate::config::plan::{ClusterPlan, LbPolicy};
use std::{
    cell::Cell,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// What picking remembers from one pick to the next, whatever becomes of the set.
#[derive(Debug)]
pub(super) struct Turns(AtomicUsize);

impl Default for Turns {
    /// Proxies that start together should not all begin with the first endpoint; and no
    /// beginning is so late that the count wraps around in a proxy's life.
    fn default() -> Self {
        Self(AtomicUsize::new(below(1 << 16)))
    }
}

/// Which endpoints are picked, and how: worked out once for each set.
#[derive(Debug)]
pub(super) struct Table {
    policy: LbPolicy,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Table {
    /// The table for these members, as they are `now`.
    pub(super) fn new(plan: &ClusterPlan, members: &[Member], _now: Instant) -> Self {
        let usable = members.iter().filter(|member| member.endpoint.usable());
        let endpoints = usable.map(|member| Arc::clone(&member.endpoint)).collect();
        Self { policy: plan.lb_policy, endpoints }
    }

    /// The next one.
    pub(super) fn pick(&self, ask: Ask<'_>, turns: &Turns) -> Option<&Arc<Endpoint>> {
        let candidates =
            || self.endpoints.iter().filter(|e| !ask.except.iter().any(|x| Arc::ptr_eq(x, e)));
        let count = candidates().count();
        if count < 2 {
            return candidates().next();
        }
        match self.policy {
            LbPolicy::RoundRobin => candidates().nth(turns.0.fetch_add(1, Relaxed) % count),
            LbPolicy::LeastRequest => {
                let (first, second) = two_below(count);
                match (candidates().nth(first), candidates().nth(second)) {
                    (Some(a), Some(b)) if b.load() < a.load() => Some(b),
                    (a, b) => a.or(b),
                }
            }
            _ => candidates().nth(below(count)),
        }
    }
}

/// The word that the config and reports use.
pub(super) fn word(policy: LbPolicy) -> &'static str {
    match policy {
        LbPolicy::RoundRobin => "round_robin",
        LbPolicy::LeastRequest => "least_request",
        LbPolicy::Random => "random",
        LbPolicy::RingHash => "ring_hash",
        LbPolicy::Maglev => "maglev",
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
    use crate::cluster::{Cluster, Lease, tests::plan_at};

    fn cluster(n: u16, lb_policy: LbPolicy) -> Arc<Cluster> {
        let addresses: Vec<_> = (1..=n).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let plan = ClusterPlan { lb_policy, ..plan_at(&addresses) };
        Cluster::new(Arc::new(plan), &metrics::NoopRecorder)
    }

    fn picks(cluster: &Cluster, times: usize) -> Vec<usize> {
        let mut counts = vec![0; cluster.endpoints().len()];
        for _ in 0..times {
            let picked = cluster.pick(Ask::default()).unwrap();
            counts[usize::from(picked.address().port()) - 1] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_gives_each_endpoint_exactly_its_turn() {
        assert_eq!(picks(&cluster(3, LbPolicy::RoundRobin), 30_000), [10_000; 3]);
    }

    #[test]
    fn random_and_idle_least_request_spread_evenly() {
        // 10 000 ± 400 is five standard deviations.
        for policy in [LbPolicy::Random, LbPolicy::LeastRequest] {
            for count in picks(&cluster(3, policy), 30_000) {
                assert!((9_600..=10_400).contains(&count), "{policy:?}: {count}");
            }
        }
    }

    #[test]
    fn least_request_of_two_always_takes_the_less_busy() {
        let cluster = cluster(2, LbPolicy::LeastRequest);
        let _busy = Lease::new(&cluster, &cluster.endpoints()[0]);
        assert_eq!(picks(&cluster, 1_000), [0, 1_000]);
    }

    #[test]
    fn least_request_of_many_never_takes_the_busiest() {
        let cluster = cluster(5, LbPolicy::LeastRequest);
        let _busy = Lease::new(&cluster, &cluster.endpoints()[2]);
        let counts = picks(&cluster, 10_000);
        assert_eq!(counts[2], 0);
        assert!(counts.iter().filter(|&&c| c > 2_000).count() == 4, "{counts:?}");
    }

    #[test]
    fn least_request_fills_up_evenly_when_connections_stay() {
        let cluster = cluster(4, LbPolicy::LeastRequest);
        let endpoints = cluster.endpoints();
        let leases: Vec<_> = (0..4_000)
            .map(|_| Lease::new(&cluster, &cluster.pick(Ask::default()).unwrap()))
            .collect();
        for endpoint in &endpoints {
            assert!(endpoint.active_connections().abs_diff(1_000) < 20, "{endpoint:?}");
        }
        drop(leases);
        assert!(endpoints.iter().all(|e| e.active_connections() == 0));
    }

    #[test]
    fn what_is_excepted_is_not_picked_and_nothing_left_is_none() {
        for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
            let cluster = cluster(3, policy);
            let endpoints = cluster.endpoints();
            let but = |except| cluster.pick(Ask { except, ..Ask::default() });
            for _ in 0..100 {
                assert!(Arc::ptr_eq(&but(&endpoints[..2]).unwrap(), &endpoints[2]));
                assert!(!Arc::ptr_eq(&but(&endpoints[1..2]).unwrap(), &endpoints[1]));
            }
            assert!(but(&endpoints).is_none());
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
