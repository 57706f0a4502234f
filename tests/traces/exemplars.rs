//! Exemplars: a real Prometheus scrapes them.

use crate::support::{
    client::RawClient,
    eventually, free_address,
    scripted::Scripted,
    tollgate::{Tollgate, mongo_config, page},
    tools,
};
use bson::doc;
use serde_json::Value;
use std::process::{Child, Command, Stdio};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A Prometheus, until dropped.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn query(address: std::net::SocketAddr, path: &str) -> Option<Value> {
    let (status, body) = page(address, "GET", path, "").ok()?;
    (status == 200).then(|| serde_json::from_str(&body).unwrap())
}

#[test]
fn prometheus_stores_the_trace_of_a_slow_operation() {
    let Some(mut prometheus) = tools::program("prometheus") else { return };
    let db = Scripted::agreeing();
    let nowhere = free_address();
    let tracing = format!("tracing: {{ otlp: \"http://{nowhere}\", sample: 0% }}\n");
    let tollgate = Tollgate::start(&format!("{tracing}{}", mongo_config(db.address(), "")));
    let mut client = RawClient::connect(tollgate.listener("db"));
    // A name has series of its own once the service has confirmed it.
    client.command(1, &doc! { "find": "orders", "$db": "shop" });
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    client.command(2, &doc! { "find": "orders", "$db": "shop", "comment": parent });
    let (directory, address) = (tempfile::tempdir().unwrap(), free_address());
    let config = directory.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: edge\n  static_configs:\n  \
         - targets: [\"{}\"]\n",
        tollgate.admin()
    );
    std::fs::write(&config, scrape).unwrap();
    let _prometheus = Prometheus(run(prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--enable-feature=exemplar-storage")));
    let path = "/api/v1/query_exemplars?start=0&end=9999999999\
                &query=tollgate_operation_duration_seconds_bucket";
    let exemplar = eventually("an exemplar", || {
        let found = query(address, path)?;
        found["data"][0]["exemplars"].as_array()?.first().cloned()
    });
    assert_eq!(exemplar["labels"]["trace_id"], TRACE);
    assert_eq!(exemplar["labels"]["span_id"].as_str().unwrap().len(), 16);
    let targets = query(address, "/api/v1/targets").unwrap();
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    // The samples are those of the other format.
    let rows = query(address, "/api/v1/query?query=tollgate_operations_total").unwrap();
    assert!(!rows["data"]["result"].as_array().unwrap().is_empty(), "{rows}");
}

fn run(command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("prometheus runs")
}
