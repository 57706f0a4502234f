//! A hundred reloads in a row, each of another object, while pymongo, wrk and h2load work: no operation fails, no limit
//! is refilled, no endpoint comes back that an operator has ejected, and wrong configs in between change nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};
use support::{
    PATIENCE, free_address, nginx::Nginx, python::drivers, secantus::Secantus, tollgate::Tollgate,
    tools,
};

const RELOADS: usize = 100;

/// The config of a round. Each round changes another object, back and forth.
fn config(round: usize, services: &Services) -> String {
    let Services { mongo, web, addresses: [db, http, limited, extra] } = services;
    let on = |turn: usize| (round / 10) % 2 == usize::from(round % 10 >= turn);
    let pick = |turn: usize, a: &str, b: &str| if on(turn) { a } else { b }.to_owned();
    let extra = match on(0) {
        true => format!("  extra: {{ address: '{extra}', protocol: tcp, cluster: web }}\n"),
        false => String::new(),
    };
    let db_timeout = pick(1, "connect_timeout: 1s", "connect_timeout: 2s");
    let web_timeout = pick(2, "outlier_detection: {}", "outlier_detection: { interval: 5s }");
    let idle = pick(3, "idle_timeout: 10m", "idle_timeout: 20m");
    let rest = pick(4, "write_timeout: 4m", "write_timeout: 6m");
    let matching =
        pick(5, "match: { listener: limited },", "match: { protocol: tcp, listener: limited },");
    let other = pick(6, "", "  - { name: nobody, match: { peer: 192.0.2.1 }, deny: {} }\n");
    let pool = pick(7, "max_pool_size: 20", "max_pool_size: 30");
    let slow = pick(8, "max_series: 500", "max_series: 600");
    let weight = pick(9, "1", "2");
    format!(
        "workers: 2\n{slow}\nlisteners:\n  db: {{ address: '{db}', protocol: mongo, cluster: db, {idle} }}\n  \
         web: {{ address: '{http}', protocol: http, cluster: web, {idle}, {rest} }}\n  \
         limited: {{ address: '{limited}', protocol: tcp, cluster: web }}\n{extra}\
         clusters:\n  db: {{ endpoints: ['{mongo}'], pool: {{ {pool} }}, {db_timeout} }}\n  \
         web: {{ endpoints: [{{ address: '{web}', weight: {weight} }}, '127.0.0.1:1'], {web_timeout} }}\n\
         policies:\n{other}  - {{ name: few, {matching} rate_limit: {{ rate: 1/h, burst: 1, unit: connections, \
         key: [listener] }} }}\n",
    )
}

/// What the proxy stands before, and where.
struct Services {
    mongo: String,
    web: String,
    addresses: [String; 4],
}

/// Every wrong config of the fixtures.
fn wrong_configs() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/bad");
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|it| it.extension().is_some_and(|it| it == "yaml")).collect();
    files.sort();
    files.iter().map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into()).collect()
}

/// Runs a program until `over`, and checks each of its outputs. Returns how often it ran.
fn runs(over: &AtomicBool, program: &str, arguments: &[&str], is_good: fn(&str) -> bool) -> usize {
    let mut times = 0;
    while !over.load(SeqCst) {
        let Some(mut command) = tools::program(program) else { return times };
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && is_good(&text), "{program}: {text}");
        times += 1;
    }
    times
}

fn pymongo(address: &str) -> Child {
    let mut child = Command::new(tools::python().unwrap().join("python"))
        .arg(drivers().join("pymongo_steady.py"))
        .arg(format!("mongodb://{address}/?directConnection=true"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Ends pymongo, and returns its report.
fn report(mut child: Child) -> Value {
    drop(child.stdin.take());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Ends the load when dropped.
struct Ended<'o>(&'o AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Whether a connection is let in.
fn is_let_in(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET /small HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
}

#[test]
fn a_hundred_reloads_under_load_fail_no_operation() {
    let (Some(mongo), Some(nginx)) = (Secantus::start(false, false), Nginx::start()) else {
        return;
    };
    let addresses = [(); 4].map(|()| free_address().to_string());
    let (mongo_address, web) = (mongo.address().to_string(), nginx.address().to_string());
    let services = Services { mongo: mongo_address, web, addresses };
    let [db, http, limited, _] = &services.addresses;
    let tollgate = Tollgate::start(&config(0, &services));
    assert_eq!(tollgate.post("/clusters/web/endpoints/127.0.0.1:1?state=ejected").0, 200);
    assert!(is_let_in(limited) && !is_let_in(limited), "the bucket is empty");
    let (wrong, over) = (wrong_configs(), AtomicBool::new(false));
    let url = format!("http://{http}/small");
    let driver = pymongo(db);
    thread::scope(|scope| {
        let wrk = scope.spawn(|| {
            runs(&over, "wrk", &["-t1", "-c8", "-d1s", &url], |text| {
                text.contains("requests in")
                    && !text.contains("Socket errors")
                    && !text.contains("Non-2xx")
            })
        });
        let h2load = scope.spawn(|| {
            runs(&over, "h2load", &["-n500", "-c4", "-m5", &url], |text| {
                text.contains(" 500 succeeded, 0 failed, 0 errored, 0 timeout")
            })
        });
        // Also if a check fails.
        let _ended = Ended(&over);
        for round in 1..=RELOADS {
            let result = tollgate.reload(&config(round, &services));
            assert_eq!(result["result"], "ok", "{round}: {result}");
            let config = &wrong[round % wrong.len()];
            std::fs::write(tollgate.config_file(), config).unwrap();
            let (status, answer) = tollgate.post("/config");
            assert_eq!(status, 400, "{config}\n{answer}");
        }
        over.store(true, SeqCst);
        assert!(wrk.join().unwrap() + h2load.join().unwrap() > 0);
    });
    let seen = report(driver);
    assert_eq!(seen["errors"], serde_json::json!({}), "{seen}");
    assert!(seen["operations"].as_u64() > Some(RELOADS as u64), "{seen}");
    assert!(!is_let_in(limited), "no reload has refilled the bucket");
    let clusters = tollgate.json("/clusters");
    let web = clusters.as_array().unwrap().iter().find(|it| it["name"] == "web").unwrap();
    let ejected = web["endpoints"].as_array().unwrap().iter();
    let ejected = ejected.filter(|it| it["address"] == "127.0.0.1:1" && it["state"] == "ejected");
    assert_eq!(ejected.count(), 1, "{web}");
    let labels = [("result", "ok")];
    assert_eq!(tollgate.metric("tollgate_config_reloads_total", &labels) as usize, RELOADS);
    for outcome in ["failed", "lost"] {
        let labels = [("outcome", outcome)];
        assert_eq!(tollgate.metric("tollgate_operations_total", &labels), 0.0, "{outcome}");
    }
}
