//! What picking costs: one endpoint of a thousand, by each policy, as every connection asks for it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use cluster::{Cluster, ClusterPlan, EndpointPlan, HashPlan, LbPolicy, PickOptions};
use criterion::{Criterion, criterion_group, criterion_main};
use std::{hint::black_box, sync::Arc};
use values::Target;

fn cluster(lb_policy: LbPolicy, bounded_load: Option<u32>) -> Arc<Cluster> {
    let at = |i: u32| Target::Host(format!("10.0.{}.{}", i / 250, i % 250 + 1), 27017);
    // Weights that differ, so that none takes the shorter way of equal ones.
    let endpoint = |i| EndpointPlan { weight: 1 + i % 7, ..EndpointPlan::new(at(i)) };
    let plan = ClusterPlan {
        lb_policy,
        hash: HashPlan { bounded_load, ..HashPlan::default() },
        ..ClusterPlan::new("orders", (0..1_000).map(endpoint).collect())
    };
    Cluster::new(Arc::new(plan), &tollgate_metrics::Metrics::new())
}

fn picks(bench: &mut Criterion) {
    for (name, policy, bounded) in [
        ("round_robin", LbPolicy::RoundRobin, None),
        ("least_request", LbPolicy::LeastRequest, None),
        ("random", LbPolicy::Random, None),
        ("ring_hash", LbPolicy::RingHash, None),
        ("ring_hash_bounded", LbPolicy::RingHash, Some(150)),
        ("maglev", LbPolicy::Maglev, None),
    ] {
        let cluster = cluster(policy, bounded);
        assert_eq!(cluster.endpoints().len(), 1_000);
        let mut key = 0_u64;
        bench.bench_function(&format!("pick/{name}"), |bench| {
            bench.iter(|| {
                // As many keys as there are picks, so that places are not in the cache by habit.
                key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                black_box(cluster.pick(PickOptions {
                    hash: Some(key),
                    exclude: &[],
                    placement: None,
                }))
            });
        });
    }
}

fn hashes(bench: &mut Criterion) {
    bench.bench_function("hash/16_bytes", |bench| {
        bench.iter(|| Cluster::hash(black_box(b"203.0.113.77:123")));
    });
}

criterion_group!(benches, picks, hashes);
criterion_main!(benches);
