//! A collector inside TLS, which wants a token.

use crate::{
    collector::Collector,
    support::{
        certificates::Certificates,
        client::RawClient,
        scripted::Scripted,
        tollgate::{Tollgate, mongo_config, program},
    },
};
use bson::doc;
use std::fs;

/// A proxy that traces one command to this collector.
fn trace_one(collector: &Collector, tls: &str, headers: &str) -> Tollgate {
    let db = Scripted::agreeing();
    let tracing = collector.encrypted_tracing(&format!(
        "protocol: grpc, sample: 100%, tls: {{ {tls} }}, headers_file: \"{headers}\""
    ));
    let mut program = program();
    program.env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    let config = format!("{tracing}{}", mongo_config(db.address(), ""));
    let tollgate = Tollgate::start_as(program, "", &config);
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.command(1, &doc! { "find": "orders", "$db": "shop" });
    tollgate
}

#[test]
fn an_encrypted_collector_gets_spans_and_its_token() {
    let certificates = Certificates::new();
    certificates.issue("collector", &["collector.example.net"]);
    let headers = certificates.path("headers");
    fs::write(&headers, "authorization: Bearer t0ken\n").unwrap();
    let headers = headers.display().to_string();
    let Some(collector) = Collector::encrypted(&certificates, "collector") else { return };
    let ca = certificates.path("ca.crt").display().to_string();
    let tls = format!("ca: \"{ca}\", server_name: collector.example.net");
    let tollgate = trace_one(&collector, &tls, &headers);
    assert_eq!(collector.wait(1)[0]["name"], "find orders");
    assert!(!tollgate.get("/config").1.contains("t0ken"));
    // Without the authority, and for another name, nothing is sent.
    for tls in ["server_name: collector.example.net".to_owned(), format!("ca: \"{ca}\"")] {
        let tollgate = trace_one(&collector, &tls, &headers);
        let dropped = [("reason", "unreachable")];
        tollgate.wait_for_metric("tollgate_spans_dropped_total", &dropped, 1.0);
        assert!(tollgate.stderr().contains("certificate"), "{}", tollgate.stderr());
    }
    assert_eq!(collector.spans().len(), 1);
}
