//! A thousand endpoints and a hundred thousand operations.

use super::*;
use crate::balance::pool::LOOKS;

const ENDPOINTS: usize = 1_000;
const OPERATIONS: usize = 100_000;
/// The weights; a third of the endpoints has each.
const WEIGHTS: [u32; 3] = [2, 3, 5];

/// The result of a simulation.
struct Seen {
    /// Picks by weight, in the order of [`WEIGHTS`].
    counts: [usize; 3],
    /// The most candidates that one pick examined.
    looks: usize,
}

/// Simulates operations while endpoints fail and return `changes` times and connections stay open.
fn simulate(policy: LbPolicy, changes: usize, except: usize) -> Seen {
    let hash = HashPlan { ring_size: 1 << 18, ..HashPlan::default() };
    let plan = ClusterPlan { hash, ..plan_by(policy) };
    let weights: Vec<u32> = WEIGHTS.into_iter().cycle().take(ENDPOINTS).collect();
    let members = weighing(&weights);
    let cluster = cluster(plan, &members);
    random::seed(6);
    let mut seen = Seen { counts: [0; 3], looks: 0 };
    let mut leases = Vec::new();
    for nth in 0..OPERATIONS {
        if nth % (OPERATIONS / changes) == 0 {
            let endpoint = &members[random::below(ENDPOINTS as u32) as usize].endpoint;
            // Each third change returns all, so that few are excluded at a time.
            match nth / (OPERATIONS / changes) % 3 {
                2 => members.iter().for_each(|m| _ = m.endpoint.readmit(Exclusion::Unhealthy)),
                0 => _ = endpoint.exclude(Exclusion::Unhealthy),
                _ => {
                    _ = endpoint.exclude(Exclusion::Ejected) && endpoint.readmit(Exclusion::Ejected)
                }
            }
            cluster.refresh();
        }
        let tried: Vec<_> = (0..except)
            .map(|_| members[random::below(ENDPOINTS as u32) as usize].endpoint.clone())
            .collect();
        LOOKS.set(0);
        let ask =
            PickOptions { hash: Some(random::random()), exclude: &tried, ..PickOptions::default() };
        let picked = cluster.pick(ask).unwrap();
        seen.looks = seen.looks.max(LOOKS.get());
        assert!(picked.usable(), "{policy:?}: unusable");
        assert!(!tried.iter().any(|t| Arc::ptr_eq(t, &picked)), "{policy:?}: left out");
        seen.counts[(usize::from(picked.address().port()) - 1) % 3] += 1;
        leases.push(Lease::new(&cluster, &picked));
    }
    seen
}

#[test]
fn weights_hold_and_failing_endpoints_are_not_picked() {
    for (policy, changes) in ALL.into_iter().zip([200, 200, 200, 4, 20]) {
        let Seen { counts, looks } = simulate(policy, changes, 0);
        let third = |weight: usize| (ENDPOINTS - weight).div_ceil(3) as f64;
        let total: f64 = (0..3).map(|i| third(i) * f64::from(WEIGHTS[i])).sum();
        for (index, &count) in counts.iter().enumerate() {
            let ought = OPERATIONS as f64 * third(index) * f64::from(WEIGHTS[index]) / total;
            assert_near(count as f64, ought, &format!("{policy:?} {counts:?}"));
        }
        // A candidate is found by halving the weights, in log₂ n steps; no others are examined.
        assert!(looks <= 2, "{policy:?}: {looks} candidates");
    }
}

#[test]
fn picks_with_exclusions_examine_few_candidates() {
    for (policy, changes) in ALL.into_iter().zip([50, 50, 50, 2, 5]) {
        let Seen { looks, .. } = simulate(policy, changes, 3);
        assert!(looks <= 2 + 2 * 3, "{policy:?}: {looks} candidates");
    }
}
