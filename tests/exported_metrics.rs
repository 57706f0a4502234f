//! One proxy with listeners of every protocol, driven until each metric of the table has moved.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{DateTime, Document, doc};
use socket2::{Domain, Socket, Type};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};
use support::{
    certificates::Certificates,
    client::RawClient,
    ends::{End, Upstream},
    eventually,
    http::{Client, Content, Reply, Service, Version, get, origin, post},
    metrics::Sample,
    scripted::{Scripted, batch, hello, reply_to},
    tollgate::{Tollgate, program},
    wire::{self, Message, op_msg},
};
use tollgate_metrics::table::{self, Kind, Metric, REASON, TABLE};

/// The metrics that are exported as 0 here, and what would be needed to move each.
const AT_ZERO: &[(&str, &str)] = &[
    (table::ACCEPT_PAUSED_TOTAL, "no free descriptor, as in tests/connections.rs: all else fails"),
    (table::PANICS_TOTAL, "a bug: tests/panics.rs counts a panic in its own process"),
    (table::LOG_DROPPED_TOTAL, "a stderr that nothing reads, as in tests/logs.rs"),
    (table::SPANS_EXPORTED_TOTAL, "a collector, as in tests/traces: here it is gone"),
    (table::SHAPES_EVICTED_TOTAL, "a thousand shapes: the tests of crates/shapes evict some"),
    (table::METRICS_DROPPED_TOTAL, "200,000 series; the tests of crates/metrics lower the limit"),
];

/// A gRPC message: `SERVING` of a health check, `OK` of a rate-limit service.
const GOOD: &[u8] = b"\0\0\0\0\x02\x08\x01";

/// How many endpoints of one cluster have series of their own.
const MAX_ENDPOINT_SERIES: u16 = 1024;

/// The servers behind the proxy.
struct Servers {
    wire: Upstream,
    db: Scripted,
    /// A replica set of a primary and a secondary that is behind.
    set: [Scripted; 2],
    web: Service,
    rpc: Service,
    /// Has a port and does not listen, so that connections to it are refused.
    gone: Socket,
}

impl Servers {
    fn start() -> Self {
        let rpc = Service::start(Version::Two, |asked| {
            let status = if asked.target.ends_with("/Missing") { "5" } else { "0" };
            let message = Content::from(GOOD).trailers(&[("grpc-status", status)]);
            Reply::ok(message).header("content-type", "application/grpc")
        });
        let gone = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        gone.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let (wire, web) = (Upstream::start(), origin(Version::One));
        Self { wire, db: Scripted::answering(answer), set: replica_set(), web, rpc, gone }
    }

    /// The proxy's config. `endpoints.yaml` in this directory lists the endpoints of `many`.
    fn config(&self, directory: &Path, certificates: &Certificates) -> String {
        let pair = certificates.pair("server");
        let [file, events] =
            ["endpoints.yaml", "events.log"].map(|name| directory.join(name).display().to_string());
        let (wire, db, set) = (self.wire.address(), self.db.address(), self.set[0].address());
        let gone = self.gone.local_addr().unwrap().as_socket().unwrap();
        let (web, rpc, gone_port) = (self.web.address(), self.rpc.address(), gone.port());
        let rpc_cluster = self.rpc.endpoints();
        format!(
            r#"
workers: 1
max_series: 1
event_log: {{ path: "{events}" }}
tracing: {{ otlp: "http://127.0.0.1:1", sample: 100%, max_spans_per_second: 1 }}
listeners:
  wire: {{ address: "127.0.0.1:0", protocol: tcp, cluster: wire }}
  many: {{ address: "127.0.0.1:0", protocol: tcp, cluster: many }}
  gone: {{ address: "127.0.0.1:0", protocol: tcp, cluster: gone }}
  db:
    {{ address: "127.0.0.1:0", protocol: {{ mongo: {{ shard_keys: {{ shop.orders: [customer] }} }} }}, cluster: db,
      max_held_bytes: 1KiB }}
  pooled: {{ address: "127.0.0.1:0", protocol: mongo, cluster: pooled }}
  set: {{ address: "127.0.0.1:0", protocol: {{ mongo: {{ mirror: {{ to: absent }} }} }}, cluster: set }}
  absent: {{ address: "127.0.0.1:0", protocol: mongo, cluster: absent }}
  web: {{ address: "127.0.0.1:0", protocol: http, cluster: web }}
  rpc: {{ address: "127.0.0.1:0", protocol: grpc, cluster: rpc }}
  safe: {{ address: "127.0.0.1:0", protocol: mongo, cluster: gone, tls: {{ certificates: {pair} }} }}
clusters:
  wire: {{ endpoints: ["{wire}"], circuit_breaker: {{ max_connections: 1, max_pending: 1, pending_timeout: 1h }} }}
  many: {{ endpoints_file: "{file}" }}
  gone:
    endpoints: ["localhost:{gone_port}"]
    health_check: {{ interval: 250ms, unhealthy_threshold: 1, probe: {{ tcp: {{}} }} }}
    outlier_detection: {{ consecutive_local_failures: 1, enforcing_consecutive: 0 }}
  db: {{ endpoints: ["{db}"] }}
  absent: {{ endpoints: ["{gone}"], pool: {{}}, failover: {{ hold: 1ms }} }}
  pooled: {{ endpoints: ["{db}"], pool: {{ max_pool_size: 1, wait_queue_size: 1, wait_queue_timeout: 1h }} }}
  set: {{ replica_set: {{ name: rs, seeds: ["{set}"] }}, pool: {{}}, failover: {{ orphan_grace: 1ms }} }}
  web:
    endpoints: ["{gone}", "{web}"]
    outlier_detection: {{ consecutive_local_failures: 1, base_ejection_time: 1h }}
    lb_policy: round_robin
  rpc: {{ {rpc_cluster} }}
policies:
- {{ name: stop, match: {{ operation: drop }}, deny: {{}} }}
- {{ name: dry-stop, match: {{ comment: nightly }}, dry_run: true, deny: {{}} }}
- {{ name: slow, match: {{ listener: web }}, fault: {{ delay: 1ms }} }}
- {{ name: dry-slow, match: {{ listener: web }}, dry_run: true, fault: {{ delay: 1ms }} }}
- {{ name: one-key, match: {{ listener: db }}, rate_limit: {{ rate: 1/h, burst: 1000, key: [resource], max_keys: 1 }} }}
- name: shared
  match: {{ listener: rpc }}
  rate_limit:
    rate: 1000000/s
    shared:
      timeout: 5s
      rate_limit_service: {{ address: "{rpc}", domain: shop, descriptors: [[{{ key: peer }}]] }}
- name: no-store
  match: {{ listener: rpc }}
  rate_limit: {{ rate: 1000000/s, shared: {{ redis: {{ address: "{gone}" }}, on_store_failure: allow }} }}
"#
        )
    }
}

/// A primary, and a secondary that is a minute behind. A `find` opens a cursor.
fn replica_set() -> [Scripted; 2] {
    let hosts = Arc::new(OnceLock::<Vec<String>>::new());
    let members = [("isWritablePrimary", 0), ("secondary", 60)].map(|(role, behind)| {
        let hosts = Arc::clone(&hosts);
        Scripted::answering(move |message| {
            let command = message.document();
            let reply = match command.keys().next().map(String::as_str) {
                Some("hello") => {
                    let written =
                        DateTime::from_system_time(SystemTime::now() - Duration::from_secs(behind));
                    let mut hello = hello("");
                    hello.extend(doc! { "isWritablePrimary": false, "ismaster": false });
                    hello.extend(doc! { role: true, "lastWrite": { "lastWriteDate": written } });
                    hello.insert("hosts", hosts.wait().clone());
                    hello
                }
                Some("find") => batch(true, 7, "shop.orders", &[]),
                Some("getMore") => doc! { "ok": 0.0, "code": 43, "errmsg": "no such cursor" },
                _ => doc! { "ok": 1.0 },
            };
            reply_to(message, &reply)
        })
    });
    let addresses = members.iter().map(|member| member.address().to_string());
    hosts.set(addresses.collect()).unwrap();
    members
}

/// A client of a replica set that leaves a cursor open, and looks for one that no member has.
fn drive_replica_set(tollgate: &Tollgate) {
    let mut client = RawClient::connect(tollgate.listener("set"));
    // The mirror can't be reached.
    client.command(3, &doc! { "count": "orders", "$db": "shop" });
    client.command(2, &doc! { "getMore": 9_i64, "collection": "orders", "$db": "shop" });
    client.command(1, &doc! { "find": "orders", "$db": "shop" });
}

/// The proxy where no file can grow, as on a full disk: the lines of both logs are lost.
fn without_disk() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(program().get_program());
    shell
}

/// `insert` fails, `sleep` is not answered, everything else succeeds.
fn answer(asked: &Message) -> Vec<u8> {
    if asked.opcode() == wire::OP_MSG && asked.document().contains_key("sleep") {
        return Vec::new();
    }
    let inserts = asked.opcode() == wire::OP_MSG && asked.document().contains_key("insert");
    let document = match inserts {
        true => doc! { "ok": 0.0, "code": 11000, "codeName": "DuplicateKey", "errmsg": "twice" },
        false => doc! { "ok": 1.0 },
    };
    reply_to(asked, &document)
}

fn find(collection: &str, filter: Document, comment: &str) -> Vec<u8> {
    op_msg(1, &doc! { "find": collection, "filter": filter, "comment": comment, "$db": "shop" })
}

/// Every row of the table, and of what protocols count of their own.
fn rows() -> Vec<Metric> {
    TABLE.iter().copied().chain(protocols::all().flat_map(table::extras)).collect()
}

/// Whether the sample belongs to this row: by its name, and by the names of its labels.
fn is_of(sample: &Sample, row: &Metric) -> bool {
    let suffixes: &[&str] = match row.kind {
        Kind::Histogram => &["_bucket", "_sum", "_count"],
        Kind::Counter | Kind::Gauge => &[""],
    };
    let suffix = sample.name.strip_prefix(row.name);
    let Some(suffix) = suffix.filter(|suffix| suffixes.contains(suffix)) else { return false };
    let mut labels: BTreeSet<&str> = row.labels.iter().copied().collect();
    if suffix == "_bucket" {
        labels.insert("le");
    }
    if !sample.labels.contains_key(REASON) && row.name == table::OPERATIONS_TOTAL {
        labels.remove(REASON);
    }
    sample.labels.keys().map(String::as_str).eq(labels)
}

/// Whether any sample of this row is more than 0.
fn has_moved(samples: &[Sample], row: &Metric) -> bool {
    samples.iter().any(|sample| is_of(sample, row) && sample.value > 0.0)
}

/// MongoDB: an answer, an error, a refusal, a request too long to be held, and bytes that are no
/// message.
fn drive_mongo(tollgate: &Tollgate) {
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.round_trip(&find("orders", doc! { "customer": 3 }, "checkout.total"));
    client.round_trip(&find("orders", doc! { "customer": 3 }, "nightly"));
    let many: Vec<i32> = (0..1001).collect();
    client.round_trip(&find("orders", doc! { "customer": { "$in": many } }, "checkout.total"));
    for number in 0..20 {
        client.round_trip(&find(&format!("orders-{number}"), doc! {}, "checkout.total"));
    }
    client.round_trip(&find("orders", doc! { "text": "y".repeat(1 << 20) }, "checkout.total"));
    let insert = doc! { "insert": "orders", "documents": [{ "_id": 1 }], "$db": "shop" };
    client.round_trip(&op_msg(2, &insert));
    let refused = client.round_trip(&op_msg(3, &doc! { "drop": "orders", "$db": "shop" }));
    assert_eq!(refused.document().get_i32("code").unwrap(), 13, "denied");
    let mut broken = RawClient::connect(tollgate.listener("db"));
    broken.send(&[0; 16]);
    broken.drain();
}

/// Pools: an operation that is held before a service that is down, one that keeps the only connection, one that waits for it, and one for which there is no
/// room. The two in the middle must be kept.
fn drive_pool(tollgate: &Tollgate) -> [RawClient; 2] {
    let ping = doc! { "ping": 1, "$db": "admin" };
    let held = RawClient::connect(tollgate.listener("absent")).round_trip(&op_msg(1, &ping));
    assert_eq!(held.document().get_i32("code").unwrap(), 6);
    let connect = || RawClient::connect(tollgate.listener("pooled"));
    let [mut first, mut second, mut third] = [connect(), connect(), connect()];
    first.round_trip(&op_msg(1, &ping));
    first.send(&op_msg(2, &doc! { "sleep": 1, "$db": "admin" }));
    let active = [("cluster", "pooled"), ("state", "active")];
    tollgate.wait_for_metric(table::POOL_CONNECTIONS, &active, 1.0);
    second.send(&op_msg(3, &ping));
    tollgate.wait_for_metric(table::POOL_WAITING, &[("cluster", "pooled")], 1.0);
    let refused = third.round_trip(&op_msg(4, &ping));
    assert_eq!(refused.document().get_i32("code").unwrap(), 462);
    [first, second]
}

/// HTTP: answers, an error, and an endpoint that takes no connection and so is ejected.
fn drive_http(tollgate: &Tollgate) {
    let client = Client::connect(tollgate.listener("web"), Version::One);
    for _ in 0..4 {
        assert_eq!(client.round_trip(get("/seen")).status, 200);
    }
    assert_eq!(client.round_trip(post("/read", "body")).status, 200);
    assert_eq!(client.round_trip(get("/status/404")).status, 404);
}

/// gRPC: a call that ends with `OK`, and one that does not.
fn drive_grpc(tollgate: &Tollgate) {
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    for (method, status) in [("/shop.Prices/Get", "0"), ("/shop.Prices/Missing", "5")] {
        let call = post(method, &[0; 5][..]).header("content-type", "application/grpc");
        let answer = client.round_trip(call.header("te", "trailers"));
        assert_eq!(answer.trailers["grpc-status"], status, "{answer:?}");
    }
}

/// TCP: a session that goes on, one that waits for its connection, and one for which there is no
/// room. The first two must be held.
fn drive_tcp(tollgate: &Tollgate, server: &Upstream) -> [End; 3] {
    let (mut first, mut served) = server.session(tollgate);
    first.send(b"question");
    served.expect(b"question");
    let second = End::connect(tollgate.listener("wire"));
    tollgate.wait_for_metric(table::CONNECTIONS_PENDING, &[("cluster", "wire")], 1.0);
    End::connect(tollgate.listener("wire")).expect_end();
    End::connect(tollgate.listener("gone")).expect_end();
    [first, served, second]
}

/// A pause that ends by itself, and one for whose end a session waits, which must be held.
fn drive_pauses(tollgate: &Tollgate) -> End {
    let pause = |query: &str| assert_eq!(tollgate.post(&format!("/clusters/{query}")).0, 200);
    pause("db/pause?drain_timeout=1ms&resume_after=2ms");
    pause("wire/pause?drain_timeout=1ms&resume_after=1h");
    let waits = End::connect(tollgate.listener("wire"));
    tollgate.wait_for_metric(table::PAUSE_WAITING, &[("cluster", "wire")], 1.0);
    waits
}

/// TLS: a handshake, and a renewed certificate.
fn drive_tls(tollgate: &Tollgate, certificates: &Certificates) {
    let mut stream = certificates.connect(tollgate.listener("safe"), "localhost", None);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    certificates.issue("server", &["localhost"]);
}

#[test]
fn a_proxy_that_serves_every_protocol_exports_every_metric() {
    let directory = tempfile::tempdir().unwrap();
    let endpoints = (1..=MAX_ENDPOINT_SERIES + 1).fold(String::new(), |mut list, port| {
        writeln!(list, "- \"127.0.0.1:{port}\"").unwrap();
        list
    });
    std::fs::write(directory.path().join("endpoints.yaml"), endpoints).unwrap();
    let servers = Servers::start();
    let certificates = Certificates::new();
    certificates.issue("server", &["localhost"]);
    let config = servers.config(directory.path(), &certificates);
    let tollgate = Tollgate::start_as(without_disk(), "", &config);
    drive_mongo(&tollgate);
    drive_replica_set(&tollgate);
    drive_http(&tollgate);
    drive_grpc(&tollgate);
    drive_tls(&tollgate, &certificates);
    assert_eq!(tollgate.post("/config").0, 200);
    let _held = (drive_tcp(&tollgate, &servers.wire), drive_pool(&tollgate));
    let _waits = drive_pauses(&tollgate);

    let stays_at_zero = |row: &Metric| AT_ZERO.iter().any(|(name, _)| *name == row.name);
    let rows = rows();
    for row in rows.iter().filter(|row| !stays_at_zero(row)) {
        let what = format!("{} with the labels {:?} to be more than 0", row.name, row.labels);
        eventually(&what, || has_moved(&tollgate.metrics(), row).then_some(()));
    }
    let samples = tollgate.metrics();
    for row in &rows {
        assert!(samples.iter().any(|sample| is_of(sample, row)), "{} is not exported", row.name);
        assert_eq!(has_moved(&samples, row), !stays_at_zero(row), "{}", row.name);
    }
    for sample in &samples {
        assert!(rows.iter().any(|row| is_of(sample, row)), "no row of the table: {sample:?}");
    }
    for (name, why) in AT_ZERO {
        assert!(rows.iter().any(|row| row.name == *name) && !why.is_empty(), "{name} is no row");
    }
}
