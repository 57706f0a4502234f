//! What deciding costs: one operation admitted and settled, with every policy that is always on.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use cluster::Cluster;
use criterion::{Criterion, criterion_group, criterion_main};
use operation::{
    AttributeValue, Attributes, Codec, ConnectionInfo, Gate as _, Operation, Outcome, Protocol,
    Settlement, Verdict,
};
use policy::gate::Gate;
use policy::series::CardinalityLimit;
use policy::{Live, PolicyEnv};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use tollgate_metrics::{Metrics, table};

/// A gate as a MongoDB listener of a fresh proxy has it, with these policies.
fn gate(policies: &str) -> Gate {
    gate_of(const { &mongo::Mongo::PROTOCOL }, policies)
}

/// The same for a listener of any protocol.
fn gate_of(protocol: &'static Protocol, policies: &str) -> Gate {
    let name = protocol.name;
    let text = format!(
        "listeners: {{ it: {{ address: 127.0.0.1:0, protocol: {name}, cluster: upstream }} }}\n\
         clusters: {{ upstream: {{ endpoints: [127.0.0.1:1] }} }}\n\
         policies: [{policies}]\n"
    );
    let plan = config::parse("bench.yaml", &text).unwrap();
    let rules = plan.policies.clone();
    let metrics = Metrics::new();
    metrics.declare(protocol);
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
        protocol,
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

/// Commands that are no `find`.
const WRITES: [&str; 4] = ["insert", "update", "delete", "findAndModify"];

/// How many rules a gate has, on one attribute.
const RULES: [usize; 4] = [0, 5, 50, 500];

/// An attribute, the condition of each rule that does not match, and of one that does.
type Conditions<'a> = (&'a str, fn(usize) -> String, &'a str);

/// What many rules on one attribute cost, of which none or one matches.
fn rules(bench: &mut Criterion) {
    let find = Find::new();
    let hash = find.attribute("query_hash");
    let request = Request { path: "/tenants/here/orders/4711", host: "here.example.com" };
    let mongo: [Conditions<'_>; 6] = [
        ("operation", |n| WRITES[n % WRITES.len()].to_owned(), "find"),
        ("resource", |n| format!("shop.{n}"), "shop.orders"),
        ("peer", |n| format!("10.1.{}.{}", n / 256, n % 256), "127.0.0.1"),
        ("callsite", |n| format!("site{n}"), "pay"),
        ("comment", |n| format!("*site{n}\\\"*"), "*pay\\\"*"),
        ("query_hash", |n| format!("{n:016x}"), &hash),
    ];
    for (key, other, own) in mongo {
        let operation = find.operation();
        rules_on(bench, key, &operation, other, own);
    }
    let http: [Conditions<'_>; 4] = [
        ("path", |n| format!("/tenants/{n}/orders"), "/tenants/here/orders/4711"),
        ("path_glob", |n| format!("/tenants/{n}/*"), "/tenants/here/*"),
        ("host", |n| format!("{n}.example.com"), "here.example.com"),
        ("host_glob", |n| format!("*{n}.example.com"), "here.*"),
    ];
    for (key, other, own) in http {
        let protocol = &tollgate_http::PROTOCOL;
        let operation =
            Operation { protocol, name: "GET", resource: "all", attributes: &request, ..FIND };
        rules_on(bench, key, &operation, other, own);
    }
}

/// Gates with rules on one attribute; `own` is its value in the operation.
fn rules_on(
    bench: &mut Criterion,
    name: &str,
    operation: &Operation<'_>,
    other: fn(usize) -> String,
    own: &str,
) {
    let key = name.trim_end_matches("_glob");
    for count in RULES {
        for matching in ["none", "one"] {
            let rule = |n: usize| {
                let value = if matching == "one" && n == count / 2 { own } else { &other(n) };
                let wanted = format!("{{ {key}: \"{value}\" }}");
                format!("{{ name: r{n}, match: {wanted}, concurrency_limit: {{ max: 1000 }} }}")
            };
            let policies: Vec<String> = (0..count).map(rule).collect();
            bench.bench_function(&format!("rules/{name}/{count}/{matching}"), |bench| {
                let gate = gate_of(operation.protocol, &policies.join(", "));
                ask_operation(&gate, operation);
                bench.iter(|| measured_rules(&gate, operation));
            });
        }
    }
}

/// One operation, as a function of its own so that valgrind can count it by name.
#[inline(never)]
fn measured_rules(gate: &Gate, operation: &Operation<'_>) {
    ask_operation(gate, operation);
}

/// A `find`, of which the codec reads the attributes.
struct Find {
    codec: mongo::Mongo,
    request: Vec<u8>,
}

impl Find {
    fn new() -> Self {
        let body = bson::rawdoc! {
            "find": "orders",
            "filter": { "_id": 4711_i64, "status": { "$in": ["open", "paid"] } },
            "comment": { "callingFunction": "pay" },
            "$db": "shop",
        };
        let len = (21 + body.as_bytes().len()) as i32;
        let header = [len, 1, 0, 2013, 0].map(i32::to_le_bytes).concat();
        let request = [&header[..], &[0], body.as_bytes()].concat();
        let here = SocketAddr::from(([127, 0, 0, 1], 27017));
        let listener = Arc::new(mongo::MongoListener::default());
        let info = ConnectionInfo { peer: here, local: here };
        let mut codec = mongo::Mongo::new(&listener, info);
        assert!(codec.request(&request).is_ok());
        Self { codec, request }
    }

    fn attribute(&self, name: &str) -> String {
        self.codec.attribute(&self.request, name).text().unwrap().into_owned()
    }

    fn operation(&self) -> Operation<'_> {
        Operation { head: &self.request, attributes: self, may_have_callsite: true, ..FIND }
    }
}

impl Attributes for Find {
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.codec.attribute(front, name)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// An HTTP request.
struct Request {
    path: &'static str,
    host: &'static str,
}

impl Attributes for Request {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            "path" => AttributeValue::known(self.path),
            "host" => AttributeValue::known(self.host),
            _ => AttributeValue::Absent,
        }
    }
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

/// An operation whose client and request are not known yet.
const FIND: Operation<'static> = Operation {
    protocol: const { &mongo::Mongo::PROTOCOL },
    name: "find",
    resource: "shop.orders",
    head: &[0; 200],
    attributes: &(),
    long_poll: false,
    limit_exempt: false,
    may_have_callsite: false,
    known_names: false,
    partial: false,
    may_have_other_resources: false,
    query_shape: None,
};

fn ask(gate: &Gate, client: &Client) {
    ask_operation(gate, &Operation { attributes: client, ..FIND });
}

fn ask_operation(gate: &Gate, operation: &Operation<'_>) {
    let now = Instant::now();
    let Verdict::Admit(ticket) = gate.admit(operation, now) else {
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

criterion_group!(benches, operations, crowd, rules);
criterion_main!(benches);
