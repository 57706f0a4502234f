//! What pymongo's applications notice when their cluster moves to another deployment: nothing but cursors
//! that were open.

#![allow(clippy::unwrap_used)]

mod support;

use bson::oid::ObjectId;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};
use support::{
    eventually,
    python::drivers,
    replica_set::ReplicaSet,
    secantus::{self, Secantus},
    tollgate::Tollgate,
    tools,
};

/// Code 43, `CursorNotFound`.
const CURSOR_NOT_FOUND: usize = 43;

/// Twelve threads of pymongo that work until it is finished.
struct Application {
    process: Child,
    said: BufReader<ChildStdout>,
}

/// What it saw.
#[derive(Debug, Deserialize)]
struct Seen {
    operations: usize,
    errors: BTreeMap<String, usize>,
    longest_ms: u64,
    /// How many documents a cursor still had that was open all the time, or the code of its error.
    open_cursor: usize,
    on_old: usize,
    on_new: usize,
    /// Acknowledged documents that are nowhere.
    lost: Vec<String>,
    /// Documents that are at both.
    twice: Vec<String>,
    /// Transactions of which only one document is there.
    halves: Vec<String>,
}

impl Application {
    /// Starts it, and waits until each of its threads has done an operation.
    fn start(programs: &Path, proxy: &str, servers: [&Secantus; 2], credentials: &str) -> Self {
        let uri = |address: &dyn std::fmt::Display| format!("mongodb://{credentials}{address}/");
        let [old, new] = servers.map(|server| uri(&server.address()));
        let mut process = Command::new(programs.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(drivers().join("pymongo_cutover.py"))
            .args([proxy, &old, &new, &format!("cutover_{}", ObjectId::new()), "cursor"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self { process, said }
    }

    fn finish(mut self) -> Seen {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(self.process.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

fn proxy(listener: &str, cluster: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 2\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", cluster: shop, \
         protocol: {{ mongo: {{ cluster_time: strip, {listener} }} }} }}\n\
         clusters:\n  shop: {{ {cluster}, pool: {{ max_pool_size: 8 }} }}\n"
    ))
}

fn post(tollgate: &Tollgate, path: &str) -> Value {
    let (status, body) = tollgate.post(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// How many operations endpoints have served, beside this many.
fn served(tollgate: &Tollgate, before: f64, more: f64) -> f64 {
    let labels = [("cluster", "shop"), ("outcome", "ok")];
    eventually("operations", || {
        let count = tollgate.metric("tollgate_endpoint_operations_total", &labels);
        (count >= before + more).then_some(count)
    })
}

/// Moves the cluster while the application works. Returns what that saw, the answer to the pause, and how
/// long all took.
fn move_to(tollgate: &Tollgate, application: Application, target: &str) -> (Seen, Value, Duration) {
    let before = served(tollgate, 0.0, 300.0);
    let began = Instant::now();
    // One cursor is open all the time.
    let paused = post(tollgate, "/clusters/shop/pause?drain_timeout=300ms");
    post(tollgate, &format!("/clusters/shop/switch?{target}"));
    post(tollgate, "/clusters/shop/resume");
    let took = began.elapsed();
    served(tollgate, before, 300.0);
    (application.finish(), paused, took)
}

fn check(seen: &Seen, paused: &Value, took: Duration) {
    assert!(seen.errors.is_empty(), "{seen:?}");
    assert!(seen.lost.is_empty() && seen.twice.is_empty() && seen.halves.is_empty(), "{seen:?}");
    assert!(seen.on_old > 50 && seen.on_new > 0, "{seen:?}");
    assert_eq!(seen.open_cursor, CURSOR_NOT_FOUND, "{seen:?}");
    assert_eq!(paused["drained"], true, "{paused}");
    assert!(paused["left"]["cursors"].as_u64() >= Some(1), "{paused}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(
        seen.operations > 200 && seen.longest_ms < 10_000,
        "none has waited for its bound: {seen:?}"
    );
}

/// Two deployments that know nothing of each other.
fn two_servers() -> Option<[Secantus; 2]> {
    Some([Secantus::start(false, false)?, Secantus::start(false, false)?])
}

#[test]
fn an_application_moves_to_another_server() {
    let (Some(programs), Some([old, new])) = (tools::python(), two_servers()) else { return };
    let tollgate = proxy("", &format!("endpoints: [\"{}\"]", old.address()));
    let uri = format!("mongodb://{}/", tollgate.listener("db"));
    let application = Application::start(&programs, &uri, [&old, &new], "");
    let (seen, paused, took) =
        move_to(&tollgate, application, &format!("endpoints={}", new.address()));
    check(&seen, &paused, took);
}

#[test]
fn an_application_moves_to_another_replica_set() {
    let (Some(programs), Some([old, new])) = (tools::python(), two_servers()) else { return };
    let (old_set, new_set) =
        (ReplicaSet::start(old.address(), 3), ReplicaSet::start(new.address(), 3));
    // Terms of one set say nothing about the other.
    for _ in 0..3 {
        old_set.elect(None);
        old_set.elect(Some(0));
    }
    let seed = old_set.address(1);
    let tollgate =
        proxy("present_as: primary", &format!("replica_set: {{ name: rs, seeds: [\"{seed}\"] }}"));
    let uri = format!("mongodb://{}/?replicaSet=rs", tollgate.listener("db"));
    let application = Application::start(&programs, &uri, [&old, &new], "");
    let target = format!("replica_set=rs&seeds={}", new_set.address(2));
    let (seen, paused, took) = move_to(&tollgate, application, &target);
    check(&seen, &paused, took);
    let cluster = &tollgate.json("/clusters")[0];
    let mut names: Vec<_> = cluster["endpoints"].as_array().unwrap().iter().collect();
    names.sort_by_key(|it| it["address"].as_str().unwrap().to_owned());
    let mut expected: Vec<_> = new_set.addresses().iter().map(ToString::to_string).collect();
    expected.sort();
    let addresses: Vec<_> = names.iter().map(|it| it["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, expected);
}

#[test]
fn an_application_that_logs_in_moves_to_another_server() {
    let servers = || Some([Secantus::start(true, false)?, Secantus::start(true, false)?]);
    let (Some(programs), Some([old, new])) = (tools::python(), servers()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, secantus::PASSWORD).unwrap();
    let account = format!("user: {}, password_file: {}", secantus::USER, password.display());
    let tollgate = proxy(
        &format!("auth: {{ lookup: {{ {account} }} }}"),
        &format!("endpoints: [\"{}\"]", old.address()),
    );
    let credentials = format!("{}:{}@", secantus::USER, secantus::PASSWORD);
    let uri = format!("mongodb://{credentials}{}/", tollgate.listener("db"));
    let application = Application::start(&programs, &uri, [&old, &new], &credentials);
    let (seen, paused, took) =
        move_to(&tollgate, application, &format!("endpoints={}", new.address()));
    check(&seen, &paused, took);
}
