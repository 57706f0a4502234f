//! Certificates are renewed while drivers and load generators work.

#![allow(clippy::print_stdout, reason = "figures of a run by hand")]

use super::{
    https_service::HttpsService,
    support::{
        certificates::Certificates, eventually, python::drivers, secantus::Secantus,
        tollgate::Tollgate, tools,
    },
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
};

/// A proxy with TLS on both sides, before a MongoDB server that asks for a certificate and a service
/// of both versions of HTTP.
fn start(mongo: &Secantus, web: &HttpsService) -> Tollgate {
    let certificates = Certificates::shared();
    let (near, far) = (certificates.pair("listener"), certificates.pair("cluster"));
    let ca = certificates.path("ca.crt").display().to_string();
    let (mongo, web) = (mongo.address(), web.endpoint());
    Tollgate::start(&format!(
        "listeners:\n  db: {{ address: '127.0.0.1:0', protocol: mongo, cluster: db, tls: {{ certificates: {near} }} }}\n  \
         web: {{ address: '127.0.0.1:0', protocol: http, cluster: web, tls: {{ certificates: {near} }} }}\n\
         clusters:\n  db: {{ endpoints: ['{mongo}'], tls: {{ ca: {ca}, certificate: {far} }} }}\n  \
         web: {{ endpoints: ['{web}'], tls: {{ ca: {ca}, certificate: {far} }}, \
         http: {{ version: auto, max_requests_per_connection: 100 }} }}\n"
    ))
}

#[test]
fn renewals_under_load_fail_no_operation() {
    renew_under_load(3);
}

#[test]
#[ignore = "takes a minute: files are compared once a second"]
fn fifty_renewals_under_load_fail_no_operation() {
    renew_under_load(50);
}

/// Renews the certificates of both sides this many times, while clients keep connections open and
/// make new ones.
fn renew_under_load(times: usize) {
    let certificates = Certificates::shared();
    issue(certificates);
    let Some(mongo) = Secantus::start_encrypted(false) else { return };
    let web = HttpsService::start(certificates, |_| &["h2", "http/1.1"]);
    let tollgate = start(&mongo, &web);
    let port = tollgate.listener("web").port();
    let mut pymongo = start_pymongo(&tollgate);
    let requests = thread::scope(|scope| {
        let renewals = scope.spawn(|| (0..times).for_each(|_| renew(certificates, &tollgate)));
        let mut requests = 0;
        while !renewals.is_finished() {
            requests += wrk(port).unwrap_or_default() + h2load(port).unwrap_or_default();
        }
        requests
    });
    println!("wrk and h2load: {requests} requests");
    let report = end(&mut pymongo);
    println!("pymongo: {report}");
    assert_eq!(report["errors"], serde_json::json!({}), "{report}");
    assert!(report["operations"].as_u64() > Some(times as u64), "{report}");
    assert!(report["clients"].as_u64() > Some(times as u64), "{report}");
    for outcome in ["failed", "rejected", "lost"] {
        let labels = [("outcome", outcome)];
        assert_eq!(tollgate.metric("tollgate_operations_total", &labels), 0.0, "{outcome}");
    }
}

fn issue(certificates: &Certificates) {
    certificates.issue("listener", &["localhost"]);
    certificates.issue("cluster", &["tollgate.example.net"]);
}

/// Renews the certificates of both sides, and waits until they are in use.
fn renew(certificates: &Certificates, tollgate: &Tollgate) {
    let in_use = || {
        let listed = tollgate.json("/tls");
        let listed = listed["certificates"].as_array().unwrap().iter();
        listed.map(|it| it["fingerprint"].clone()).collect::<Vec<_>>()
    };
    let before = in_use();
    issue(certificates);
    eventually("new certificates everywhere", || {
        let now = in_use();
        assert_eq!(now.len(), 4, "{now:?}");
        now.iter().all(|it| !before.contains(it)).then_some(())
    });
}

/// Makes a connection for each request, for a second. Returns the number of requests, or nothing where
/// there is no wrk.
fn wrk(port: u16) -> Option<u64> {
    let said = run("wrk", &["-t1", "-c4", "-d1s", "-Hconnection: close"], port)?;
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    let count = said.lines().find_map(|line| line.trim().split_once(" requests in"));
    Some(count.unwrap().0.parse().unwrap())
}

/// Makes requests on HTTP/2 connections that last. Returns their number, or nothing where there is no h2load.
fn h2load(port: u16) -> Option<u64> {
    let said = run("h2load", &["-n200", "-c4", "-m5"], port)?;
    assert!(said.contains(" 200 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    Some(200)
}

/// Runs a program that loads the listener `web`, and returns what it prints.
fn run(program: &str, arguments: &[&str], port: u16) -> Option<String> {
    let url = format!("https://localhost:{port}/");
    let output = tools::program(program)?.args(arguments).arg(url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}");
    Some(said)
}

/// Runs pymongo before the listener `db`, and waits until it is at work.
fn start_pymongo(tollgate: &Tollgate) -> Child {
    let ca = Certificates::shared().path("ca.crt").display().to_string();
    let port = tollgate.listener("db").port();
    let uri = format!("mongodb://localhost:{port}/?directConnection=true&tls=true&tlsCAFile={ca}");
    let mut child = Command::new(tools::python().unwrap().join("python"))
        .arg(drivers().join("pymongo_steady.py"))
        .arg(uri)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = child.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Ends pymongo, and returns its report.
fn end(pymongo: &mut Child) -> Value {
    drop(pymongo.stdin.take());
    let mut said = String::new();
    pymongo.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert!(pymongo.wait().unwrap().success());
    serde_json::from_str(&said).unwrap()
}
