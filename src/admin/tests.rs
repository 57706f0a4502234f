//! The admin interface as its clients see it: HTTP over a plain socket.

use super::{listen::Limits, *};
use crate::{certificates::Certificates, threads::Threads};
use cluster::{CloseRequest, ClusterPlan, EndpointPlan, Exclusion};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::Duration,
};
use tollgate_metrics::table;
use values::Target;

mod dashboard;
mod guard;
mod policies;

/// A server on a port that the kernel picked, and what its view's closures see.
struct Fixture {
    server: Server,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    drains: Arc<AtomicUsize>,
    cluster: Arc<Cluster>,
    policies: Arc<Live>,
}

fn fixture() -> Fixture {
    within(Limits::default())
}

fn within(limits: Limits) -> Fixture {
    opened(&AdminPlan::new("127.0.0.1:0".parse().unwrap()), limits)
}

fn opened(admin: &AdminPlan, limits: Limits) -> Fixture {
    let (metrics, ready) = (Metrics::new(), Arc::new(AtomicBool::new(true)));
    let drains = Arc::new(AtomicUsize::new(0));
    let (is_ready, drained) = (ready.clone(), drains.clone());
    let at = |host: &str| EndpointPlan::new(Target::Host(host.into(), 27017));
    let plan = ClusterPlan::new("orders", vec![at("10.0.0.1"), at("10.0.0.2")]);
    let cluster = Cluster::new(Arc::new(plan), &metrics);
    let clusters = vec![cluster.clone()];
    let plan = config::parse("test", policies::CONFIG).unwrap();
    let policies = Live::new(plan.policies.clone());
    let plan = Arc::new(plan);
    let for_scope = Arc::clone(&plan);
    let view = View {
        metrics: metrics.clone(),
        config: Arc::new(|| json!({ "workers": 2 })),
        ready: Arc::new(move || is_ready.load(SeqCst)),
        last_reload: Arc::new(|| Value::Null),
        listeners: Arc::new(|| json!([{ "name": "orders-db" }])),
        clusters: Arc::new(move || clusters.clone()),
        certificates: Certificates::new(Arc::new(move || Arc::clone(&plan)), &policies, &metrics),
        policies: Arc::clone(&policies),
        scope: Arc::new(move || Scope::of(&for_scope)),
        tap: Arc::default(),
        sessions: crate::worker::Sessions::default(),
        shapes: crate::worker::QueryShapes::new(
            &[],
            ::shapes::SharedShapes::new(1, &Metrics::new()),
        ),
        reloader: Reloader::new().0,
        drain: Arc::new(move || {
            drained.fetch_add(1, SeqCst);
        }),
    };
    let server = serve_with_limits(
        admin,
        view,
        limits,
        &Threads::default().starter(),
        &mut Sockets::default(),
    )
    .unwrap();
    Fixture { server, metrics, ready, drains, cluster, policies }
}

struct Reply {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        assert!(self.head.contains("\r\ncontent-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.local_addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends a request and reads until the server closes, as it does after each reply.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let mut stream = self.connect();
        let host = self.server.local_addr();
        let host = if headers.to_lowercase().contains("host: ") {
            String::new()
        } else {
            format!("Host: {host}\r\n")
        };
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}{headers}\r\n").unwrap();
        read_reply(stream)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "")
    }
}

fn read_reply(mut stream: TcpStream) -> Reply {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("no end of the head");
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Reply { status, head: head.to_lowercase(), body: body.into() }
}

#[test]
fn it_is_ready_until_it_drains() {
    let admin = fixture();
    let reply = admin.get("/ready");
    assert_eq!((reply.status, reply.body.trim()), (200, "ready"));
    admin.ready.store(false, SeqCst);
    let reply = admin.get("/ready");
    assert_eq!((reply.status, reply.body.trim()), (503, "draining"));
    assert_eq!(admin.get("/live").status, 200);
}

#[test]
fn it_is_ready_without_a_dependency_and_says_so() {
    let cluster = |host: &str| {
        let at = EndpointPlan::new(Target::Host(host.into(), 27017));
        Cluster::new(Arc::new(ClusterPlan::new("orders", vec![at])), &Metrics::new())
    };
    let (known, unknown) = (cluster("10.0.0.1"), cluster("nowhere"));
    assert_eq!(ready_words(std::slice::from_ref(&known)), "ready\n");
    let expected = "ready; 1 of 2 clusters have no endpoint: /clusters shows why\n";
    assert_eq!(ready_words(&[known, unknown]), expected);
}

#[test]
fn metrics_are_prometheus_text() {
    let admin = fixture();
    admin.metrics.counter(table::CONNECTIONS_TOTAL, &[("listener", "l")]).increment(3);
    let reply = admin.get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("\r\ncontent-type: text/plain; version=0.0.4"));
    assert!(reply.body.contains("\ntollgate_connections_total{listener=\"l\"} 3\n"));
}

#[test]
fn a_scrape_of_many_series_arrives_whole() {
    let admin = fixture();
    for i in 0..20_000 {
        let name = format!("listener-{i}");
        admin.metrics.counter(table::CONNECTIONS_TOTAL, &[("listener", &name)]).increment(1);
    }
    let reply = admin.get("/metrics");
    let length: usize = reply
        .head
        .split_once("\r\ncontent-length: ")
        .and_then(|(_, rest)| rest.lines().next()?.parse().ok())
        .unwrap();
    assert_eq!(reply.body.len(), length);
    assert_eq!(reply.body.matches("tollgate_connections_total{").count(), 20_000);
}

#[test]
fn state_is_json() {
    let admin = fixture();
    assert_eq!(admin.get("/listeners").json(), json!([{ "name": "orders-db" }]));
    assert_eq!(admin.get("/clusters").json()[0]["name"], "orders");
    assert_eq!(admin.get("/config").json()["workers"], 2);
}

/// Three operations: `find` often, `insert` slow, `drop` failing.
fn record(metrics: &Metrics) {
    for (name, count, seconds, outcome, bytes) in [
        ("find", 100, 0.001, "ok", 10),
        ("insert", 2, 1.0, "ok", 5000),
        ("drop", 5, 0.01, "failed", 1),
    ] {
        let with = |label, value| {
            let row =
                [("listener", "l"), ("protocol", "p"), ("operation", name), ("resource", "r")];
            row.into_iter().chain([(label, value)]).collect::<Vec<_>>()
        };
        metrics.counter(table::OPERATIONS_TOTAL, &with("outcome", outcome)).increment(count);
        metrics.counter(table::OPERATION_BYTES_TOTAL, &with("direction", "reply")).increment(bytes);
        metrics
            .histogram(table::OPERATION_DURATION_SECONDS, &with("", "")[..4])
            .record_many(seconds, count as usize);
    }
}

fn names(reply: &Reply) -> Vec<String> {
    let rows = reply.json();
    let name = |row: &Value| row["operation"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn operations_come_by_total_time_or_as_chosen() {
    let admin = fixture();
    record(&admin.metrics);
    let reply = admin.get("/operations");
    assert_eq!(names(&reply), ["insert", "find", "drop"]);
    assert_eq!(names(&admin.get("/operations?sort=count")), ["find", "drop", "insert"]);
    assert_eq!(names(&admin.get("/operations?sort=errors&limit=1")), ["drop"]);
    assert_eq!(names(&admin.get("/operations?sort=p50")), ["insert", "drop", "find"]);
    assert_eq!(names(&admin.get("/operations?sort=bytes&limit=2")), ["insert", "find"]);
    assert_eq!(names(&admin.get("/operations?limit=0")), Vec::<String>::new());

    let row = &reply.json()[0];
    assert_eq!(row["listener"], "l");
    assert_eq!(row["count"], 2);
    assert_eq!(row["total_ms"], 2000.0);
    assert_eq!(row["reply_bytes"], 5000);
    assert_eq!(row["errors"], 0);
    assert_eq!(row["outcomes"], json!({ "ok": 2 }));
    assert!(row["p99_ms"].as_f64().unwrap() <= 1000.0);
    assert_eq!(reply.json()[2]["errors"], 5);
    assert_eq!(reply.json()[2]["outcomes"], json!({ "failed": 5 }));
}

#[test]
fn callsites_are_rows() {
    let admin = fixture();
    let labels =
        [("listener", "l"), ("callsite", "cart.rs:7"), ("operation", "find"), ("resource", "r")];
    admin.metrics.counter(table::CALLSITE_OPERATIONS_TOTAL, &labels).increment(4);
    let rows = admin.get("/callsites?sort=count").json();
    assert_eq!(rows[0]["callsite"], "cart.rs:7");
    assert_eq!(rows[0]["count"], 4);
    assert_eq!(rows[0]["p50_ms"], Value::Null);
}

#[test]
fn an_invalid_choice_is_an_error() {
    let admin = fixture();
    for (query, word) in [("sort=colour", "colour"), ("limit=-1", "limit"), ("limt=1", "limt")] {
        let reply = admin.get(&format!("/operations?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.json()["error"].as_str().unwrap().contains(word), "{}", reply.body);
    }
}

#[test]
fn wrong_paths_and_methods_are_json_errors() {
    let admin = fixture();
    let reply = admin.get("/nowhere");
    assert_eq!(reply.status, 404);
    assert!(reply.json()["error"].as_str().unwrap().contains("/nowhere"));
    let reply = admin.ask("POST", "/metrics", "Content-Length: 0\r\n");
    assert_eq!(reply.status, 405);
    assert!(reply.json()["error"].as_str().unwrap().contains("POST"));
    assert_eq!(admin.get("/drain").status, 405);
    assert_eq!(admin.drains.load(SeqCst), 0);
}

#[test]
fn the_index_links_to_every_page() {
    let admin = fixture();
    let reply = admin.get("/paths");
    assert_eq!(admin.get("/").body, reply.body, "what is no browser gets it at once");
    assert!(reply.head.contains("\r\ncontent-type: text/html"));
    let links: Vec<&str> =
        reply.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() >= 8);
    for link in links {
        assert_eq!(admin.get(link).status, 200, "{link}");
    }
}

#[test]
fn a_drain_is_accepted_and_begun() {
    let admin = fixture();
    let reply = admin.ask("POST", "/drain", "Content-Length: 0\r\n");
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json(), json!({ "draining": true }));
    assert_eq!(admin.drains.load(SeqCst), 1);
}

#[test]
fn a_client_that_does_not_send_its_request_is_let_go() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    let admin = within(limits);
    let mut rest = Vec::new();
    let mut silent = admin.connect();
    assert_eq!(silent.read_to_end(&mut rest).unwrap(), 0);
    let mut halting = admin.connect();
    halting.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    assert_eq!(halting.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn a_new_client_takes_the_place_of_the_oldest_silent_one() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let admin = within(limits);
    let mut oldest = admin.connect();
    let mut second = admin.connect();
    second.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n").unwrap();
    assert_eq!(admin.get("/live").status, 200);
    assert_eq!(oldest.read(&mut [0; 1]).unwrap(), 0);
    // There was room for the second one all the time.
    second.write_all(b"\r\n").unwrap();
    assert_eq!(read_reply(second).status, 200);
}

#[test]
fn clients_that_do_not_read_are_closed_after_a_time() {
    let limits =
        Limits { connections: 1, request: Duration::from_millis(100), ..Limits::default() };
    let admin = within(limits);
    for i in 0..200_000 {
        let name = format!("listener-{i}");
        admin.metrics.counter(table::CONNECTIONS_TOTAL, &[("listener", &name)]).increment(1);
    }
    let mut deaf = admin.connect();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Its answer has begun, and is longer than what the system keeps for it.
    deaf.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(admin.get("/live").status, 200);
}

#[test]
fn a_dropped_server_lets_everybody_go() {
    let admin = fixture();
    let mut silent = admin.connect();
    drop(admin.server);
    // An end or a reset, but no wait for the connection's own time to be over.
    let end = silent.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(io::ErrorKind::ConnectionReset)), "{end:?}");
}

#[test]
fn clusters_are_json_or_a_table() {
    let admin = fixture();
    let endpoints = admin.get("/clusters").json()[0]["endpoints"].clone();
    assert_eq!(endpoints[1]["address"], "10.0.0.2:27017");
    let again = admin.get("/clusters?format=json").json()[0]["endpoints"][1]["address"].clone();
    assert_eq!(again, endpoints[1]["address"]);
    let table = admin.get("/clusters?format=text");
    assert!(table.head.contains("\r\ncontent-type: text/plain"), "{}", table.head);
    assert!(table.body.starts_with("orders: least_request, 2 of 2 endpoints in use\n"));
    assert_eq!(admin.get("/clusters?format=xml").status, 400);
}

impl Fixture {
    /// Asks for something to become of an endpoint of `orders`.
    fn steer(&self, path: &str, body: &str) -> Reply {
        self.send("POST", &format!("/clusters/{path}"), body)
    }

    /// Sends a request with a body.
    fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        let length = body.len();
        self.ask(method, path, &format!("Content-Length: {length}\r\n\r\n{body}"))
    }
}

#[test]
fn an_endpoint_is_taken_out_and_brought_back_by_hand() {
    let admin = fixture();
    let first = "orders/endpoints/10.0.0.1:27017";
    let endpoint = admin.cluster.endpoints()[0].clone();
    let reply = admin.steer(first, "{\"state\": \"drained\"}");
    assert_eq!((reply.status, reply.json()), (200, json!({ "endpoints": 1 })));
    assert!(endpoint.is_excluded(Exclusion::Drained));
    assert_eq!(endpoint.close_request(), CloseRequest::WhenIdle);
    assert_eq!(admin.steer(&format!("{first}?state=in_use"), "").status, 200);
    assert!(endpoint.usable());
    assert_eq!(admin.steer(&format!("{first}?state=ejected"), "").status, 200);
    assert!(endpoint.is_excluded(Exclusion::Ejected));
    assert_eq!(admin.get("/clusters").json()[0]["endpoints"][0]["state"], "ejected");
}

#[test]
fn an_impossible_change_of_an_endpoint_is_an_error() {
    let admin = fixture();
    let first = "orders/endpoints/10.0.0.1:27017";
    for (path, body, status, word) in [
        (first, "", 400, "?state=ejected"),
        (first, "{}", 400, "state"),
        (first, "{\"state\": \"gone\"}", 400, "gone"),
        ("orders/endpoints/10.0.0.1:27017?state=gone", "", 400, "gone"),
        ("orders/endpoints/10.0.0.1:27017?stat=drained", "", 400, "stat"),
        ("orders/endpoints/10.0.0.9:27017?state=drained", "", 404, "10.0.0.2:27017"),
        ("carts/endpoints/10.0.0.1:27017?state=drained", "", 404, "orders"),
    ] {
        let reply = admin.steer(path, body);
        assert_eq!(reply.status, status, "{path} {body}");
        let text = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(text.contains(word), "{text}");
    }
    assert!(admin.cluster.endpoints().iter().all(|endpoint| endpoint.usable()));
    let evil = "Origin: http://evil.example\r\nContent-Length: 0\r\n";
    let reply = admin.ask("POST", &format!("/clusters/{first}?state=drained"), evil);
    assert_eq!(reply.status, 403);
}
