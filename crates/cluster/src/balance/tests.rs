//! Picks by policy. `levels` tests priorities, zones and panic, `simulation` large clusters.

mod levels;
mod simulation;
mod warm_up;

use super::*;
use crate::{
    Lease,
    endpoint::EndpointMetrics,
    plan::{HashPlan, LbPolicy, PanicPlan, SlowStartPlan},
    tests::plan,
};
use std::time::Duration;
use tollgate_metrics::Metrics;

const ALL: [LbPolicy; 5] = [
    LbPolicy::RoundRobin,
    LbPolicy::LeastRequest,
    LbPolicy::Random,
    LbPolicy::RingHash,
    LbPolicy::Maglev,
];

/// A plan without endpoints: the tests make the members.
fn plan_by(lb_policy: LbPolicy) -> ClusterPlan {
    ClusterPlan { lb_policy, ..plan(&[]) }
}

/// An endpoint at this port of 127.0.0.1, with the first priority.
fn member(port: u16, weight: u32) -> Member {
    let address: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    let name: Arc<str> = address.to_string().into();
    let meters = EndpointMetrics::new(&"orders".into(), Arc::clone(&name), true, &Metrics::new());
    let endpoint = Arc::new(Endpoint::new(address, name, Arc::new(meters)));
    Member { endpoint, weight, priority: 0, zone: None }
}

/// Endpoints at ports from 1 on, with these weights.
fn weighing(weights: &[u32]) -> Vec<Member> {
    (1..).zip(weights).map(|(port, &weight)| member(port, weight)).collect()
}

fn cluster(plan: ClusterPlan, members: &[Member]) -> Arc<Cluster> {
    random::seed(4);
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    cluster.update_set(|_| members.to_vec());
    cluster
}

fn pick(cluster: &Cluster, members: &[Member], ask: PickOptions<'_>) -> Option<usize> {
    let picked = cluster.pick(ask)?;
    members.iter().position(|m| Arc::ptr_eq(&m.endpoint, &picked))
}

/// The number of picks of each member after `times` picks, each with a key of its own.
fn picks(cluster: &Cluster, members: &[Member], times: usize) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    for nth in 0..times {
        let hash = Some(Cluster::hash(&nth.to_be_bytes()));
        counts[pick(
            cluster,
            members,
            PickOptions { hash, exclude: &[], ..PickOptions::default() },
        )
        .unwrap()] += 1;
    }
    counts
}

/// The share of these counts in all picks, in percent.
fn percent(counts: &[usize]) -> f64 {
    100.0 * counts.iter().sum::<usize>() as f64
}

fn assert_near(is: f64, ought: f64, what: &str) {
    assert!((is - ought).abs() < ought.max(1.0) * 0.02, "{what}: {is} instead of {ought}");
}

fn out(members: &[Member]) {
    for member in members {
        member.endpoint.exclude(Exclusion::Unhealthy);
    }
}

#[test]
fn weights_hold_within_two_percent() {
    let members = weighing(&[1, 2, 3, 4]);
    for policy in ALL {
        let hash = HashPlan { ring_size: 1 << 18, ..HashPlan::default() };
        let cluster = cluster(ClusterPlan { hash, ..plan_by(policy) }, &members);
        let counts = picks(&cluster, &members, 100_000);
        for (index, &count) in counts.iter().enumerate() {
            let ought = 10_000.0 * (index + 1) as f64;
            assert_near(count as f64, ought, &format!("{policy:?} {counts:?}"));
        }
    }
}

#[test]
fn round_robin_is_exact_over_all_threads() {
    let members = weighing(&[1, 2, 7]);
    let cluster = cluster(plan_by(LbPolicy::RoundRobin), &members);
    let workers = (0..4).map(|_| {
        let (cluster, members) = (cluster.clone(), members.clone());
        std::thread::spawn(move || picks(&cluster, &members, 1_000))
    });
    let workers: Vec<_> = workers.collect();
    let counts = workers.into_iter().map(|worker| worker.join().unwrap());
    let sum = counts.fold([0; 3], |sum, counts| [0, 1, 2].map(|i| sum[i] + counts[i]));
    assert_eq!(sum, [400, 800, 2_800]);
}

#[test]
fn least_request_of_two_picks_the_less_busy() {
    let members = weighing(&[1, 1]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let _busy = Lease::new(&cluster, &members[0].endpoint);
    assert_eq!(picks(&cluster, &members, 1_000), [0, 1_000]);
}

#[test]
fn least_request_of_many_never_picks_the_busiest() {
    let members = weighing(&[1; 5]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let busy = Lease::new(&cluster, &members[2].endpoint);
    let counts = picks(&cluster, &members, 10_000);
    assert_eq!(counts[2], 0);
    assert!(counts.iter().filter(|&&c| c > 2_300).count() == 4, "{counts:?}");
    // Operations count as connections do.
    let lease = Lease::new(&cluster, &members[0].endpoint);
    lease.operation_started();
    lease.operation_started();
    assert!(picks(&cluster, &members, 1_000)[0] == 0);
    drop(busy);
}

#[test]
fn least_request_fills_up_by_weight_when_connections_stay() {
    let members = weighing(&[1, 1, 3, 5]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let leases: Vec<_> = (0..10_000)
        .map(|_| Lease::new(&cluster, &cluster.pick(PickOptions::default()).unwrap()))
        .collect();
    for member in &members {
        let ought = f64::from(member.weight) * 1_000.0;
        assert_near(member.endpoint.active_connections() as f64, ought, "connections");
    }
    drop(leases);
    assert!(members.iter().all(|m| m.endpoint.active_connections() == 0));
}

#[test]
fn excluded_endpoints_are_not_picked_and_none_left_is_none() {
    for (policy, weights) in ALL.into_iter().flat_map(|p| [(p, [1, 1, 1]), (p, [1, 1000, 1])]) {
        let members = weighing(&weights);
        let cluster = cluster(plan_by(policy), &members);
        let endpoints = cluster.endpoints();
        for hash in [None, Some(Cluster::hash(b"a")), Some(0), Some(u64::MAX)] {
            let but = |except| {
                pick(
                    &cluster,
                    &members,
                    PickOptions { exclude: except, hash, ..PickOptions::default() },
                )
            };
            for _ in 0..100 {
                assert_eq!(but(&endpoints[..2]), Some(2), "{policy:?}");
                assert_ne!(but(&endpoints[1..2]), Some(1), "{policy:?}");
            }
            assert_eq!(but(&endpoints), None, "{policy:?}");
        }
    }
}

#[test]
fn picks_of_an_excluded_endpoint_are_shared_by_all_others() {
    let members = weighing(&[1; 10]);
    for policy in ALL {
        let hash = HashPlan { ring_size: 1 << 16, ..HashPlan::default() };
        let cluster = cluster(ClusterPlan { hash, ..plan_by(policy) }, &members);
        let except = [members[3].endpoint.clone()];
        let mut counts = [0; 10];
        for nth in 0..18_000_usize {
            let hash = Some(Cluster::hash(&nth.to_be_bytes()));
            counts[pick(
                &cluster,
                &members,
                PickOptions { hash, exclude: &except, ..PickOptions::default() },
            )
            .unwrap()] += 1;
        }
        assert_eq!(counts[3], 0);
        let even = (0..10).filter(|&i| i != 3).all(|i| (1_750..2_250).contains(&counts[i]));
        assert!(even, "{policy:?} {counts:?}");
    }
}

#[test]
fn second_attempts_take_no_turn() {
    // Otherwise every other client of two would start with the endpoint that failed before.
    let members = weighing(&[1, 1]);
    let cluster = cluster(plan_by(LbPolicy::RoundRobin), &members);
    let except = [members[0].endpoint.clone()];
    let mut failed = 0;
    for _ in 0..1_000 {
        if pick(&cluster, &members, PickOptions::default()) == Some(0) {
            failed += 1;
            assert_eq!(
                pick(
                    &cluster,
                    &members,
                    PickOptions { exclude: &except, hash: None, ..PickOptions::default() }
                ),
                Some(1)
            );
        }
    }
    assert_eq!(failed, 500);
}

#[test]
fn a_key_stays_and_no_key_is_random() {
    let members = weighing(&[1; 20]);
    for policy in [LbPolicy::RingHash, LbPolicy::Maglev] {
        let cluster = cluster(plan_by(policy), &members);
        for key in ["10.0.0.1", "10.0.0.2", "alice"] {
            let hash = Some(Cluster::hash(key.as_bytes()));
            let ask = PickOptions { hash, exclude: &[], ..PickOptions::default() };
            let own = pick(&cluster, &members, ask);
            assert!((0..100).all(|_| pick(&cluster, &members, ask) == own));
        }
        let mut counts = [0; 20];
        for _ in 0..20_000 {
            counts[pick(&cluster, &members, PickOptions::default()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}

#[test]
fn keys_hash_as_in_envoy() {
    // From the reference implementation of XXH64, without a seed.
    assert_eq!(Cluster::hash(b""), 0xef46_db37_51d8_e999);
    assert_eq!(Cluster::hash(b"10.0.0.1"), 0xed16_cb68_c786_e3d7);
    assert_eq!(Cluster::hash(&[b'a'; 100]), 0x3750_41e8_b1de_cfb3);
}

fn bounded(policy: LbPolicy, percent: u32) -> ClusterPlan {
    let hash = HashPlan { bounded_load: Some(percent), ..HashPlan::default() };
    ClusterPlan { hash, ..plan_by(policy) }
}

#[test]
fn a_key_whose_endpoint_is_over_its_bound_goes_to_another() {
    let members = weighing(&[1, 1, 2]);
    for policy in [LbPolicy::RingHash, LbPolicy::Maglev] {
        let cluster = cluster(bounded(policy, 125), &members);
        let ask = PickOptions {
            hash: Some(Cluster::hash(b"everyone")),
            exclude: &[],
            ..PickOptions::default()
        };
        let own = pick(&cluster, &members, ask).unwrap();
        let leases: Vec<_> =
            (0..1_000).map(|_| Lease::new(&cluster, &cluster.pick(ask).unwrap())).collect();
        let loads = [0, 1, 2].map(|i| members[i].endpoint.load());
        // 125 % of their shares of 1000, and one more as in Envoy.
        let bounds = [1, 1, 2].map(|weight| 1_001 * 125 / 100 * weight / 4 + 2);
        assert!(loads.iter().zip(bounds).all(|(load, bound)| *load <= bound), "{loads:?}");
        assert!(loads[own] + 3 >= bounds[own], "its own endpoint is full: {loads:?}");
        drop(leases);
        assert_eq!(pick(&cluster, &members, ask), Some(own), "nothing is left of the load");
    }
}

#[test]
fn load_within_the_bound_moves_no_key() {
    let members = weighing(&[1; 4]);
    let cluster = cluster(bounded(LbPolicy::Maglev, 150), &members);
    let ask =
        PickOptions { hash: Some(Cluster::hash(b"alice")), exclude: &[], ..PickOptions::default() };
    let own = pick(&cluster, &members, ask).unwrap();
    let leases: Vec<_> = members.iter().map(|m| Lease::new(&cluster, &m.endpoint)).collect();
    // ⌈(4 + 1) × 150 %⌉ = 8 slots, 2 of them its own: with one operation it is at its bound, not
    // beyond.
    leases[own].operation_started();
    assert_eq!(pick(&cluster, &members, ask), Some(own));
    leases[own].operation_started();
    leases[own].operation_started();
    assert_ne!(pick(&cluster, &members, ask), Some(own));
    for _ in 0..3 {
        leases[own].operation_ended(operation::Outcome::Ok, Duration::ZERO);
    }
    assert_eq!(pick(&cluster, &members, ask), Some(own));
}

#[test]
fn an_empty_cluster_picks_none_and_does_not_panic() {
    for policy in ALL {
        let cluster = cluster(plan_by(policy), &[]);
        let ask = PickOptions { hash: Some(1), exclude: &[], ..PickOptions::default() };
        assert!(cluster.pick(ask).is_none() && cluster.pick(PickOptions::default()).is_none());
        assert!(!cluster.set.load().table.panics());
    }
}
