//! docs/access-log.md lists exactly the fields, outcomes and reasons that there are.

use crate::{blocks, first_column, read};
use grpc::Grpc;
use operation::{EndReason, Outcome};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tollgate::{demo, proxy::Proxy};

pub(crate) const PAGE: &str = "docs/access-log.md";

/// The part of the page under a heading.
pub(crate) fn part<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn the_page_lists_every_outcome() {
    let page = read(PAGE);
    assert_eq!(first_column(part(&page, "Outcomes")), Outcome::ALL.map(Outcome::as_str));
}

#[test]
fn the_page_lists_every_reason() {
    let page = read(PAGE);
    let mut expected: Vec<&str> = Vec::new();
    for reason in EndReason::all().map(EndReason::as_str) {
        // Several reasons share a label, such as `overloaded`.
        if !expected.contains(&reason) {
            expected.push(reason);
        }
    }
    assert_eq!(first_column(part(&page, "Reasons")), expected);
}

#[test]
fn every_field_that_a_protocol_adds_is_on_the_page() {
    let page = read(PAGE);
    let fields = first_column(part(&page, "Fields"));
    for protocol in protocols::all() {
        let operation::Protocol {
            logged,
            logged_when_slow,
            logged_with_values,
            item_name: item,
            ..
        } = protocol;
        let item = [*item];
        let counted: &[&str] = if item == [""] { &[] } else { &item };
        for field in [*logged, logged_when_slow, logged_with_values, counted].into_iter().flatten()
        {
            assert!(fields.contains(field), "{field} of {}", protocol.name);
        }
    }
}

#[test]
fn every_example_on_the_page_has_only_fields_that_are_on_it() {
    let page = read(PAGE);
    let fields: BTreeSet<&str> = first_column(part(&page, "Fields")).into_iter().collect();
    let lines: Vec<String> = blocks(&page, "json");
    assert!(lines.len() >= 3);
    for line in lines {
        let line: Value = serde_json::from_str(&line).unwrap();
        for field in line.as_object().unwrap().keys() {
            assert!(fields.contains(field.as_str()), "{field}");
        }
    }
}

/// Runs the demonstration before a log of slow operations with values, which has every field that
/// there is, and a connection of raw TCP.
#[test]
fn every_field_of_a_line_is_on_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let server = demo::DemoService::Mongo.start().unwrap();
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = format!(
        "admin: off\nworkers: 1\naccess_log: {{ path: {}, slower_than: 1ms, values: true }}\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db }}\n  \
         any: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: any }}\n\
         clusters:\n  db: {{ endpoints: [\"{server}\"] }}\n  any: {{ endpoints: [\"{}\"] }}\n\
         policies: [{{ name: dry, dry_run: true, match: {{ operation: find }}, deny: {{}} }}]\n",
        log.display(),
        echo.local_addr().unwrap(),
    );
    let proxy = Proxy::start(config::parse("test", &plan).unwrap()).unwrap();
    let until = CancellationToken::new();
    demo::DemoService::Mongo.spawn_traffic(proxy.listener("db").unwrap(), until.clone()).unwrap();
    pass_a_session(proxy.listener("any").unwrap(), &echo);

    let page = read(PAGE);
    let documented: BTreeSet<&str> = first_column(part(&page, "Fields")).into_iter().collect();
    // The demonstration has no logins, no traces and no time limits, and what is refused is not
    // slow; requests have tests of their own.
    let mut rare =
        vec!["user", "trace_id", "max_time_ms", "policy", "raw_query", Grpc::PROTOCOL.item_name];
    // Of operations that share connections: tests/mongo_pooled.rs.
    rare.extend(["answered", "pool_wait_ms", "held_ms"]);
    // tests/tls has these.
    rare.extend(["via", "sni", "tls_version", "tls_cipher", "client_certificate"]);
    let rare = |field: &&str| rare.contains(field) || tollgate_http::LOGGED.contains(field);
    let wanted: BTreeSet<&str> = documented.iter().copied().filter(|field| !rare(field)).collect();
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    while !wanted.iter().all(|field| seen.contains(*field)) {
        let missing: Vec<_> = wanted.iter().filter(|field| !seen.contains(**field)).collect();
        assert!(began.elapsed() < Duration::from_secs(60), "never logged: {missing:?}");
        thread::park_timeout(Duration::from_millis(50));
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            // The last line may still be on its way.
            let Ok(Value::Object(line)) = serde_json::from_str(line) else { continue };
            for field in line.keys().filter(|field| seen.insert((*field).clone())) {
                assert!(documented.contains(field.as_str()), "{field} is not on the page");
            }
        }
    }
    until.cancel();
    proxy.control().drain();
    proxy.wait().unwrap();
}

/// A session that takes a few milliseconds.
fn pass_a_session(address: std::net::SocketAddr, server: &TcpListener) {
    let mut client = TcpStream::connect(address).unwrap();
    let (mut service, _) = server.accept().unwrap();
    let began = Instant::now();
    let mut byte = [0];
    while began.elapsed() < Duration::from_millis(5) {
        client.write_all(&byte).unwrap();
        service.read_exact(&mut byte).unwrap();
        service.write_all(&byte).unwrap();
        client.read_exact(&mut byte).unwrap();
    }
}
