//! What deciding costs: one operation admitted and settled, with every policy that is always on.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use cluster::Cluster;
use criterion::{Criterion, criterion_group, criterion_main};
use operation::{
    AttributeValue, Attributes, Codec, Gate as _, Operation, Outcome, Settlement, Verdict,
};
use policy::gate::Gate;
use policy::series::CardinalityLimit;
use policy::{Live, PolicyEnv};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};
use tollgate_metrics::{Metrics, table};

/// A gate as a listener of a fresh proxy has it, with these policies.
fn gate(policies: &str) -> Gate {
    let text = format!(
        "listeners: {{ mongo: {{ address: 127.0.0.1:0, protocol: mongo, cluster: upstream }} }}\n\
         clusters: {{ upstream: {{ endpoints: [127.0.0.1:1] }} }}\n\
         policies: [{policies}]\n"
    );
    let plan = config::parse("bench.yaml", &text).unwrap();
    let rules = plan.policies.clone();
    let metrics = Metrics::new();
    metrics.declare(&mongo::Mongo::PROTOCOL);
    let cardinality = || {
        let capped = metrics.counter(table::METRICS_DROPPED_TOTAL, &[]);
        Arc::new(CardinalityLimit::new(1000, capped))
    };
    let listener = Arc::clone(&plan.listeners[0].name);
    let active = metrics.gauge(table::OPERATIONS_ACTIVE, &[("listener", &listener)]);
    let materials = PolicyEnv {
        has_preface: false,
        cluster: Some(Cluster::new(Arc::clone(&plan.clusters[0]), &metrics)),
        metrics: metrics.clone(),
        listener,
        protocol: const { &mongo::Mongo::PROTOCOL },
        callsites: cardinality(),
        shapes: None,
        lines: None,
        tap: Arc::default(),
        tracer: Arc::default(),
    };
    Gate::live(Live::new(rules), materials, cardinality(), active)
}

/// Policies, each beside a gate without any.
const POLICIES: [(&str, &str); 5] = [
    ("gate", ""),
    ("gate_rate_limit", "{ name: a, rate_limit: { rate: 10000000/s, key: [peer] } }"),
    (
        "gate_rate_limit_of_bytes",
        "{ name: a, rate_limit: { rate: 1000GiB/s, unit: bytes, key: [peer] } }",
    ),
    ("gate_concurrency_limit", "{ name: a, concurrency_limit: { max: 50 } }"),
    ("gate_connection_limit", "{ name: a, connection_limit: { max: 50, key: [peer] } }"),
];

fn operations(bench: &mut Criterion) {
    for (name, policies) in POLICIES {
        let gate = gate(policies);
        // The first one proves that there is such a thing, and makes room for those that follow.
        operation(&gate);
        bench.bench_function(name, |bench| bench.iter(|| measured(&gate)));
    }
}

/// What a million clients cost that come in turn, more than find room, and one between each.
fn crowd(bench: &mut Criterion) {
    let gate = gate("{ name: a, rate_limit: { rate: 10/s, burst: 400000000, key: [peer] } }");
    operation(&gate);
    let mut next = 0;
    bench.bench_function("gate_rate_limit_crowd", |bench| {
        bench.iter(|| {
            next = (next + 1) % 1_000_000;
            ask(&gate, &Client(Ipv4Addr::from_bits(next << 8)));
        });
    });
    bench.bench_function("gate_rate_limit_beside_a_crowd", |bench| {
        bench.iter(|| {
            next = (next + 1) % 1_000_000;
            ask(&gate, &Client(Ipv4Addr::from_bits(next << 8)));
            operation(&gate);
        });
    });
}

/// A client with no attribute except its address.
struct Client(Ipv4Addr);

impl Attributes for Client {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> AttributeValue<'a> {
        AttributeValue::Absent
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(IpAddr::V4(self.0))
    }
}

/// One operation, as a function of its own so that valgrind can count it by name.
#[inline(never)]
fn measured(gate: &Gate) {
    operation(gate);
}

fn operation(gate: &Gate) {
    ask(gate, &Client(Ipv4Addr::LOCALHOST));
}

fn ask(gate: &Gate, client: &Client) {
    let now = Instant::now();
    let operation = Operation {
        protocol: const { &mongo::Mongo::PROTOCOL },
        name: "find",
        resource: "shop.orders",
        head: &[0; 200],
        attributes: client,
        long_poll: false,
        limit_exempt: false,
        may_have_callsite: false,
        known_names: false,
        partial: false,
        may_have_other_resources: false,
        query_shape: None,
    };
    let Verdict::Admit(ticket) = gate.admit(&operation, now) else {
        unreachable!("no policy here says no")
    };
    ticket.settle(&Settlement {
        request_bytes: 200,
        reply_bytes: 200,
        reply_items: 1,
        confirmed: true,
        first_byte: Some(now),
        ..Settlement::new(Outcome::Ok, now)
    });
}

criterion_group!(benches, operations, crowd);
criterion_main!(benches);
