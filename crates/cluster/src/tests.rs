//! Helpers for the tests of clusters, and the tests of reports.

use super::*;
use crate::plan::{DnsPlan, EndpointPlan, LbPolicy};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use values::Target;

/// A plan for a cluster `orders` with these endpoints.
pub(super) fn plan(endpoints: &[(&str, u16)]) -> ClusterPlan {
    let at = |&(host, port): &(&str, u16)| EndpointPlan::new(Target::Host(host.into(), port));
    ClusterPlan {
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: Duration::from_secs(30),
        dns: DnsPlan { min_ttl: Duration::from_millis(1), max_ttl: Duration::from_secs(60) },
        ..ClusterPlan::new("orders", endpoints.iter().map(at).collect())
    }
}

/// A plan for a cluster `orders` with endpoints at these addresses.
pub(super) fn plan_at(addresses: &[SocketAddr]) -> ClusterPlan {
    let hosts: Vec<_> = addresses.iter().map(|a| (a.ip().to_string(), a.port())).collect();
    plan(&hosts.iter().map(|(host, port)| (host.as_str(), *port)).collect::<Vec<_>>())
}

/// A listener whose connections wait in its backlog, and its address.
pub(super) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection made synchronously, so that time can be paused. Its other end is closed.
pub(super) fn loopback() -> TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// An address that refuses connections for as long as the socket is kept.
pub(super) fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Metrics, read by name and labels.
#[derive(Default)]
pub(super) struct Recorded(Metrics);

impl Recorded {
    /// The counter with these label values, in order: `name(orders, ok)`. 0 if there is none.
    pub(super) fn count(&self, metric: &str) -> u64 {
        self.read(metric).unwrap_or_default() as u64
    }

    /// The gauge with these label values; it must exist.
    pub(super) fn gauge(&self, metric: &str) -> f64 {
        self.read(metric).unwrap()
    }

    /// The series with these label values, if it exists.
    pub(super) fn read(&self, metric: &str) -> Option<f64> {
        let mut text = String::new();
        self.0.render(&mut text);
        let named = |line: &str| {
            let (name, rest) = line.split_once('{')?;
            let (labels, value) = rest.split_once("} ")?;
            let values: Vec<_> = labels.split('"').skip(1).step_by(2).collect();
            let found = format!("{name}({})", values.join(", ")) == metric;
            found.then(|| value.parse().unwrap())
        };
        text.lines().find_map(named)
    }
}

impl std::ops::Deref for Recorded {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        &self.0
    }
}

#[tokio::test]
async fn a_report_has_the_last_events_of_each_endpoint() {
    let (_listener, open) = listener().await;
    let (_socket, shut) = closed();
    let cluster = Cluster::new(Arc::new(plan_at(&[open, shut])), &Metrics::new());
    let mut upstreams = Vec::new();
    for _ in 0..4 {
        upstreams.push(cluster.connect(None).await.unwrap());
    }
    let report = cluster.report();
    assert_eq!((&report["name"], &report["dns"]), (&json!("orders"), &json!(null)));
    assert_eq!(report["lb_policy"], "round_robin");
    let fields = |index: usize| {
        let endpoint = &report["endpoints"][index];
        ["address", "name", "active_connections", "connects_ok", "connects_failed", "last_error"]
            .map(|field| endpoint[field].clone())
    };
    let (open, shut) = (open.to_string(), shut.to_string());
    assert_eq!(fields(0), [json!(open), json!(open), json!(4), json!(4), json!(0), json!(null)]);
    let refused = json!("connection refused");
    assert_eq!(fields(1), [json!(shut), json!(shut), json!(0), json!(0), json!(2), refused]);
}

#[test]
fn an_ipv6_endpoint_is_written_with_brackets() {
    let cluster = Cluster::new(Arc::new(plan(&[("::1", 27017)])), &Metrics::new());
    assert_eq!(&**cluster.endpoints()[0].name(), "[::1]:27017");
}

#[tokio::test]
async fn localhost_is_found_and_connected_to() {
    let (_listener, address) = listener().await;
    let plan = Arc::new(plan(&[("localhost", address.port())]));
    let cluster = Cluster::new(plan, &Metrics::new());
    assert!(cluster.pick(PickOptions::default()).is_none());
    cluster.resolve().await;
    let upstream = cluster.connect(None).await.unwrap();
    assert_eq!(upstream.stream.tcp().peer_addr().unwrap(), address);
    assert_eq!(**upstream.lease.endpoint().name(), *format!("localhost:{}", address.port()));
    assert_eq!(cluster.report()["dns"], json!({ "last_ok_seconds_ago": 0, "last_error": null }));
}

#[test]
fn clusters_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: T) {}
    let cluster = Cluster::new(Arc::new(plan(&[])), &Metrics::new());
    shared(&cluster);
    sent(cluster.discover());
}

/// A health check that succeeds once it is connected.
#[derive(Debug)]
pub(crate) struct Connects;

impl crate::ProbeConfig for Connects {
    fn begin(&self) -> Box<dyn operation::Probe> {
        Box::new(Connects)
    }

    fn name(&self) -> &'static str {
        "connects"
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "connects": {} })
    }
}

impl operation::Probe for Connects {
    fn write_request(&mut self, _: &mut bytes::BytesMut) {}

    fn evaluate(&mut self, _: &[u8]) -> operation::ProbeResult {
        operation::ProbeResult::NeedMore
    }
}
