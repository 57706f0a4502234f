//! Every query of the dashboard has data in a Prometheus that scrapes the demonstration and a proxy at the edge.

use crate::{
    read,
    support::{
        PATIENCE,
        certificates::Certificates,
        ends::Upstream,
        eventually, free_address,
        tollgate::{Tollgate, page, program},
        tools,
    },
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Metrics that have no series while all is well, and what gives them one.
const EXCUSED: [(&str, &str); 19] = [
    ("tollgate_dns_lookups_total", "a name that can't be looked up"),
    ("tollgate_violations_total", "bytes that are not the listener's protocol"),
    ("tollgate_requests_not_held_total", "more held requests than there is room for"),
    ("tollgate_endpoints_capped_total", "a cluster with more than a thousand endpoints"),
    ("tollgate_endpoint_primary", "a replica set"),
    ("tollgate_endpoint_lag_seconds", "a replica set"),
    ("tollgate_pause_waiting", "a cluster that an operator has paused"),
    ("tollgate_cluster_paused", "a cluster that an operator has paused"),
    ("tollgate_pauses_expired_total", "a pause that no operator has ended"),
    ("tollgate_pool_wait_seconds_bucket", "operations that wait for a connection of a pool"),
    ("tollgate_tls_reloads_total", "a certificate file that can't be used"),
    ("tollgate_shared_limit_duration_seconds_bucket", "a store that answers"),
    ("tollgate_pool_refusals_total", "a pool whose queue is full"),
    ("tollgate_orphans_total", "clients that vanish within a transaction"),
    ("tollgate_replays_total", "an election of a replica set"),
    ("tollgate_held_seconds_bucket", "an election of a replica set"),
    ("tollgate_mirrored_total", "a listener with `mirror`"),
    ("tollgate_config_reloads_total", "a reload"),
    ("tollgate_config_last_reload_seconds", "a reload"),
];

/// A process that is killed when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Prometheus that scrapes these every second.
struct Prometheus {
    _process: Running,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Prometheus {
    fn start(mut program: Command, targets: &[SocketAddr]) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: tollgate\n    \
             static_configs: [{{ targets: {targets:?} }}]\n",
            targets = targets.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        program.arg(format!("--config.file={}", file.display()));
        program.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        program.arg(format!("--web.listen-address={address}"));
        let this = Self { _process: Running::start(&mut program), _folder: folder, address };
        eventually("Prometheus", || {
            page(address, "GET", "/-/ready", "").ok().filter(|(status, _)| *status == 200)
        });
        this
    }

    /// The numbers that a query gives now.
    fn values(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let (status, body) = page(self.address, "GET", &path, "").unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let samples = answer["data"]["result"].as_array().unwrap().iter();
        samples.map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }
}

/// What the demonstration does not have: TLS, a limit with a store and traces with a collector (neither answers),
/// and logs.
fn edge(certificates: &Certificates, upstream: &Upstream) -> Tollgate {
    let (store, collector) = (free_address(), free_address());
    let (pair, address) = (certificates.pair("server"), upstream.address());
    Tollgate::start(&format!(
        "event_log: {{ path: {events} }}\n\
         tracing: {{ otlp: \"http://{collector}\", sample: 100% }}\n\
         listeners:\n  safe: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire, tls: {{ certificates: {pair} }} }}\n\
         clusters:\n  wire: {{ endpoints: [\"{address}\"] }}\n\
         policies:\n  - {{ name: shared, rate_limit: {{ rate: 100/s, shared: {{ redis: {{ address: \"{store}\" }} }} }} }}\n",
        events = certificates.directory().join("events.jsonl").display(),
    ))
}

#[test]
fn every_query_of_the_dashboard_has_data() {
    let Some(prometheus) = tools::program("prometheus") else { return };
    let (certificates, upstream) = (Certificates::new(), Upstream::start());
    certificates.issue("server", &["localhost"]);
    let edge = edge(&certificates, &upstream);
    let demo = free_address();
    let _demo = Running::start(program().args(["demo", "--admin", &demo.to_string()]));
    let prometheus = Prometheus::start(prometheus, &[demo, edge.admin()]);

    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/tollgate.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap()))
    });
    let queries: Vec<_> = queries
        .map(|(title, query)| {
            let query = query.replace("$listener", ".*").replace("$__rate_interval", "20s");
            assert!(!query.contains('$'), "{title}: a variable without a value: {query}");
            (title, query)
        })
        .collect();
    assert!(queries.len() > 70, "{}", queries.len());
    let excuse = |query: &str| EXCUSED.iter().find(|(metric, _)| query.contains(metric));
    let (excused, mut missing): (Vec<_>, Vec<_>) =
        queries.into_iter().partition(|(_, query)| excuse(query).is_some());

    // The demonstration refuses nothing until its policy is switched on.
    eventually("the demonstration to refuse", || {
        let body = "{\"enabled\":true}";
        let put = page(demo, "PUT", "/policies/slow-reports", body).ok()?;
        (put.0 == 200).then_some(())
    });
    let began = Instant::now();
    while !missing.is_empty() {
        assert!(began.elapsed() < PATIENCE, "no data: {missing:#?}");
        // Counters must move between two scrapes.
        let mut stream = certificates.connect(edge.listener("safe"), "localhost", None);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        drop((stream, upstream.accept()));
        missing.retain(|(_, query)| !prometheus.values(query).iter().any(|it| it.is_finite()));
        std::thread::park_timeout(Duration::from_millis(200));
    }
    // These are queries all the same.
    for (_, query) in &excused {
        prometheus.values(query);
    }
    for (metric, why) in EXCUSED {
        let asked = excused.iter().any(|(_, query)| query.contains(metric));
        assert!(asked, "no query asks for {metric}, which needs {why}");
    }
}
