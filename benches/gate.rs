//! What deciding costs: one operation admitted and settled, with every policy that is always on.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use criterion::{Criterion, criterion_group, criterion_main};
use operation::{Codec, Gate as _, Operation, Outcome, Settlement, Verdict};
use std::{sync::Arc, time::Instant};
use tollgate::{
    cluster::Cluster,
    config,
    gate::Gate,
    metrics::{Metrics, table},
    policy::{Live, Materials},
    series::Census,
};

/// A gate as a listener of a fresh proxy has it.
fn gate() -> Gate {
    let plan = config::for_proxy("mongo", "127.0.0.1:0", "127.0.0.1:1", None).unwrap();
    let metrics = Metrics::new();
    metrics.declare(&mongo::Mongo::PROTOCOL);
    let census = || {
        let capped = metrics.counter(table::METRICS_DROPPED_TOTAL, &[]);
        Arc::new(Census::new(1000, capped))
    };
    let listener = Arc::clone(&plan.listeners[0].name);
    let active = metrics.gauge(table::OPERATIONS_ACTIVE, &[("listener", &listener)]);
    let materials = Materials {
        cluster: Cluster::new(Arc::clone(&plan.clusters[0]), &metrics),
        plan: Arc::new(plan),
        metrics: metrics.clone(),
        listener,
        protocol: const { &mongo::Mongo::PROTOCOL },
        callsites: census(),
        lines: None,
    };
    Gate::live(Live::new(Vec::new()), materials, census(), active)
}

fn operations(bench: &mut Criterion) {
    let gate = gate();
    // The first one proves that there is such a thing, and makes room for those that follow.
    operation(&gate);
    bench.bench_function("gate", |bench| bench.iter(|| measured(&gate)));
}

/// One operation, under a name that valgrind can be told to count.
#[inline(never)]
fn measured(gate: &Gate) {
    operation(gate);
}

fn operation(gate: &Gate) {
    let now = Instant::now();
    let operation = Operation {
        protocol: const { &mongo::Mongo::PROTOCOL },
        name: "find",
        resource: "shop.orders",
        front: &[0; 200],
        attributes: &(),
        awaits: false,
        callsite: false,
    };
    let Verdict::Go(ticket) = gate.admit(&operation, now) else {
        unreachable!("no policy here says no")
    };
    ticket.settle(&Settlement {
        request_bytes: 200,
        reply_bytes: 200,
        reply_items: 1,
        confirmed: true,
        first_byte: Some(now),
        ..Settlement::bare(Outcome::Ok, now)
    });
}

criterion_group!(benches, operations);
criterion_main!(benches);
