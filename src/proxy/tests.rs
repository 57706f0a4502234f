use super::{discovery::run_restarting, *};
use cluster::{Cluster, ClusterPlan, EndpointPlan, HealthCheckPlan};
use config::plan::ListenerPlan;
use policy::access_log::AccessLogPlan;
use session::Timeouts;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};
use values::Target;

fn plan(upstream: SocketAddr, log: Option<&std::path::Path>) -> Plan {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = ListenerPlan::new("echo", loopback, protocols::plain("tcp").unwrap(), "echo");
    Plan {
        pooling: Default::default(),
        connection_limits: Default::default(),
        admin: None,
        workers: 2,
        max_connections: 100,
        drain_wait: None,
        drain_timeout: Duration::from_secs(5),
        drain_spread: Duration::ZERO,
        watch: false,
        upgrade_socket: None,
        max_series: 100,
        zone: None,
        event_log: None,
        tracing: None,
        listeners: vec![Arc::new(ListenerPlan {
            timeouts: Timeouts { first_byte: None, ..listener.timeouts },
            ..listener
        })],
        clusters: vec![Arc::new(ClusterPlan::new(
            "echo",
            vec![EndpointPlan::new(Target::Host(upstream.ip().to_string(), upstream.port()))],
        ))],
        policies: Vec::new(),
        access_log: log.map(|path| AccessLogPlan {
            path: path.into(),
            slower_than: None,
            values: false,
        }),
    }
}

/// Reads all, then answers with what it read, reversed.
fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || {
                let mut socket = socket.unwrap();
                let mut all = Vec::new();
                socket.read_to_end(&mut all).unwrap();
                all.reverse();
                socket.write_all(&all).unwrap();
            });
        }
    });
    address
}

#[test]
fn a_half_closed_connection_gets_its_reply_and_a_log_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let proxy = Proxy::start(plan(mirror(), Some(&log))).unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let mut client = TcpStream::connect(proxy.listener("echo").unwrap()).unwrap();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    got.reverse();
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    drop(client);
    proxy.control().drain();
    proxy.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["operation"], "session");
    assert_eq!(line["outcome"], "ok");
    assert_eq!(line["reason"], "client");
    assert_eq!(line["request_bytes"], sent.len());
    assert_eq!(line["reply_bytes"], sent.len());
}

#[test]
fn a_session_that_found_no_upstream_is_explained_in_the_log() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let proxy = Proxy::start(plan(nobody, Some(&log))).unwrap();
    let mut client = TcpStream::connect(proxy.listener("echo").unwrap()).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    proxy.control().drain();
    proxy.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["outcome"], "lost");
    assert_eq!(line["reason"], "connect_failed");
}

#[test]
fn an_endpoint_whose_checks_fail_is_a_line_in_the_event_log() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.jsonl");
    let mut plan = plan(nobody, None);
    plan.event_log = Some(log.clone());
    let health_check = Some(HealthCheckPlan {
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
        edge_interval: Duration::from_secs(60),
        ..HealthCheckPlan::new(std::sync::Arc::new(protocols::ProbePlan::default()))
    });
    let endpoints = plan.clusters[0].endpoints.clone();
    plan.clusters =
        vec![Arc::new(ClusterPlan { health_check, ..ClusterPlan::new("echo", endpoints) })];
    let proxy = Proxy::start(plan).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    while !lines().contains('\n') {
        assert!(std::time::Instant::now() < deadline, "no check within a minute");
        std::thread::yield_now();
    }
    proxy.control().drain();
    proxy.wait().unwrap();
    let text = lines();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["healthy"]), (&"health_changed".into(), &false.into()));
    assert_eq!((&line["cluster"], &line["reason"]), (&"echo".into(), &"connection refused".into()));
    assert_eq!(line["endpoint"], nobody.to_string());
}

#[test]
fn a_thread_that_ends_drains_the_proxy() {
    let proxy = Proxy::start(plan(mirror(), None)).unwrap();
    let control = proxy.control();
    assert!(control.is_ready());
    let broken = proxy.threads.starter().start("worker-9", |_| panic!("a bug"));
    broken.unwrap().join().unwrap();
    let address = proxy.listener("echo").unwrap();
    let error = format!("{:#}", proxy.wait().unwrap_err());
    assert!(error.starts_with("the thread worker-9 ended: a panic"), "{error}");
    assert!(!control.is_ready());
    assert!(TcpStream::connect(address).is_err(), "the workers have ended");
}

#[test]
fn a_cluster_s_task_that_panics_begins_again() {
    let cluster = Cluster::new(Arc::new(ClusterPlan::new("echo", Vec::new())), &Metrics::new());
    static TRIES: AtomicBool = AtomicBool::new(false);
    async fn fails_once(_: Arc<Cluster>) {
        assert!(TRIES.swap(true, SeqCst), "on purpose");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let task = run_restarting(cluster, |cluster| Box::pin(fails_once(cluster)));
    runtime.unwrap().block_on(task);
    assert!(TRIES.load(SeqCst));
}
