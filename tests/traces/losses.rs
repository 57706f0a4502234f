//! Collectors that are gone, silent or unwilling: operations go on, and lost spans are counted.

use crate::{
    collector::Collector,
    support::{
        client::RawClient,
        free_address,
        scripted::Scripted,
        tollgate::{Tollgate, mongo_config, program},
        wire::op_msg,
    },
};
use bson::doc;
use std::net::{SocketAddr, TcpListener};

const DROPPED: &str = "tollgate_spans_dropped_total";

/// A proxy before a MongoDB server that traces to this collector with these keys.
fn start(collector: SocketAddr, more: &str) -> (Tollgate, Scripted) {
    let db = Scripted::agreeing();
    let tracing = format!("tracing: {{ otlp: \"http://{collector}\", sample: 100%, {more} }}\n");
    let config = format!("workers: 1\n{tracing}{}", mongo_config(db.address(), ""));
    let mut program = program();
    program.env("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
    (Tollgate::start_as(program, "", &config), db)
}

/// Sends this many commands, a hundred at a time, and reads their replies.
fn send(tollgate: &Tollgate, count: usize) {
    let mut client = RawClient::connect(tollgate.listener("db"));
    let commands: Vec<u8> =
        (1..=100).flat_map(|id| op_msg(id, &doc! { "find": "orders", "$db": "shop" })).collect();
    for _ in 0..count / 100 {
        client.send(&commands);
        for id in 1..=100 {
            assert_eq!(client.read().answers(), id);
        }
    }
}

#[test]
fn a_collector_that_is_gone_costs_spans_only() {
    let (tollgate, _db) = start(free_address(), "max_spans_per_second: 100000");
    send(&tollgate, 1000);
    tollgate.wait_for_metric(DROPPED, &[("reason", "unreachable")], 1000.0);
    let logged = tollgate.stderr();
    assert_eq!(logged.matches("spans can't be exported").count(), 1, "{logged}");
}

#[test]
fn a_silent_collector_holds_up_no_operation() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let db = Scripted::agreeing();
    let tracing = format!(
        "tracing: {{ otlp: \"http://{}\", sample: 100%, max_spans_per_second: 1000000 }}\n",
        silent.local_addr().unwrap()
    );
    let config = format!("workers: 1\n{tracing}{}", mongo_config(db.address(), ""));
    // The time limit of an export is longer than this test.
    let tollgate = Tollgate::start(&config);
    send(&tollgate, 100);
    let _held = silent.accept().unwrap();
    // More than wait in the queue: all are answered while the first batch is.
    send(&tollgate, 12_000);
    let full = tollgate.metric(DROPPED, &[("reason", "queue_full")]);
    assert!(full > 3000.0, "{full}");
    assert_eq!(tollgate.metric(DROPPED, &[("reason", "unreachable")]), 0.0);
}

#[test]
fn spans_over_the_limit_per_second_are_counted() {
    let (tollgate, _db) = start(free_address(), "max_spans_per_second: 10");
    send(&tollgate, 500);
    let dropped = tollgate.metric(DROPPED, &[("reason", "rate")]);
    assert!((400.0..500.0).contains(&dropped), "{dropped}");
}

#[test]
fn spans_that_a_collector_rejects_are_counted() {
    let Some(collector) = Collector::rejecting("http", 3) else { return };
    let db = Scripted::agreeing();
    let tracing = collector.tracing("http", "sample: 100%");
    let tollgate = Tollgate::start(&format!("{tracing}{}", mongo_config(db.address(), "")));
    send(&tollgate, 100);
    collector.wait(100);
    let dropped = tollgate.metric(DROPPED, &[("reason", "refused")]);
    assert!(dropped >= 3.0 && dropped % 3.0 == 0.0, "{dropped}");
    let exported = tollgate.metric("tollgate_spans_exported_total", &[]);
    assert_eq!(exported + dropped, 100.0);
    assert!(tollgate.stderr().contains("too old"), "{}", tollgate.stderr());
}

#[test]
fn variables_name_the_collector_if_the_file_does_not() {
    let Some(collector) = Collector::start("http") else { return };
    let db = Scripted::agreeing();
    let url = collector.tracing("http", "").split('"').nth(1).unwrap().to_owned();
    let run = |disabled: &str| {
        let mut program = program();
        program.env("OTEL_EXPORTER_OTLP_ENDPOINT", &url);
        program.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        program.env("OTEL_TRACES_SAMPLER", "parentbased_always_on");
        program.env("OTEL_SERVICE_NAME", "from-the-environment");
        program.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
        program.env("OTEL_SDK_DISABLED", disabled);
        let config = format!("tracing: {{}}\n{}", mongo_config(db.address(), ""));
        let tollgate = Tollgate::start_as(program, "", &config);
        send(&tollgate, 100);
        collector.after(tollgate)
    };
    assert_eq!(run("true").len(), 0);
    let spans = run("false");
    assert_eq!(spans.len(), 100);
    assert_eq!(spans[0]["resource"]["service.name"], "from-the-environment");
    assert_eq!(spans[0]["resource"]["deployment.environment.name"], "test");
    assert_eq!(spans[0]["attributes"]["db.query.summary"], "find orders");
}
