//! One request through three protocols is one trace.

use crate::{
    collector::{Collector, named},
    support::{
        http::{Client, Version, get},
        python::Service,
        scripted::{Scripted, batch, hello, reply_to},
        tollgate::Tollgate,
        wire::Message,
    },
};
use bson::doc;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A MongoDB server with one document.
fn database() -> Scripted {
    Scripted::answering(|message: &Message| {
        let command = message.document();
        let reply = match command.keys().next().map(String::as_str) {
            Some("find") => batch(true, 0, "shop.orders", &[doc! { "_id": 1, "total": 42 }]),
            Some("hello" | "ismaster" | "isMaster") => hello("127.0.0.1:1"),
            _ => doc! { "ok": 1.0 },
        };
        reply_to(message, &reply)
    })
}

/// The chain of services behind a proxy, and the proxy.
struct Chain {
    tollgate: Tollgate,
    web: Service,
    rpc: Service,
    db: Scripted,
}

impl Chain {
    fn start(tracing: &str) -> Option<Self> {
        let web = Service::start_with_traces("trace_services.py", &["web"])?;
        let rpc = Service::start_with_traces("trace_services.py", &["rpc"])?;
        let db = database();
        let config = format!(
            "{tracing}listeners:\n  \
             web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: web }}\n  \
             rpc: {{ address: \"127.0.0.1:0\", protocol: grpc, cluster: rpc }}\n  \
             db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db }}\n\
             clusters:\n  web: {{ endpoints: [\"{}\"] }}\n  \
             rpc: {{ endpoints: [\"{}\"], http: {{ version: 2 }} }}\n  \
             db: {{ endpoints: [\"{}\"] }}\n",
            web.address(),
            rpc.address(),
            db.address()
        );
        Some(Self { tollgate: Tollgate::start(&config), web, rpc, db })
    }

    /// Asks for a cart.
    fn ask(&self, traceparent: Option<&str>) {
        let client = Client::connect(self.tollgate.listener("web"), Version::One);
        let [rpc, db] = ["rpc", "db"].map(|name| self.tollgate.listener(name).to_string());
        let request = get("/carts/ann?token=s3cret").header("x-rpc", &rpc).header("x-db", &db);
        let request = match traceparent {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        };
        let answer = client.round_trip(request);
        assert_eq!((answer.status, answer.text()), (200, "42"));
    }
}

/// The attributes of a span that are the same in each run.
fn stable(span: &Value) -> Value {
    let mut attributes = span["attributes"].clone();
    for changing in ["client.port", "network.peer.port", "user_agent.original"] {
        attributes.as_object_mut().unwrap().remove(changing);
    }
    attributes
}

#[test]
fn a_request_through_three_protocols_is_one_trace() {
    for protocol in ["grpc", "http"] {
        let Some(collector) = Collector::start(protocol) else { return };
        let tracing = collector.tracing(protocol, "sample: 100%, service: edge");
        let Some(chain) = Chain::start(&tracing) else { return };
        chain.ask(None);
        let spans = collector.wait(5);
        let web = named(&spans, "server", "GET default");
        let to_web = named(&spans, "client", "GET");
        let rpc = named(&spans, "server", "shop.Carts/Get");
        let to_rpc = named(&spans, "client", "shop.Carts/Get");
        let find = named(&spans, "client", "find orders");
        let chain_of = [web, to_web, rpc, to_rpc, find];
        check_tree(&chain_of);
        check_attributes(&chain, &chain_of);
        let text = format!("{spans:?}");
        assert!(!text.contains("s3cret") && !text.contains("ann@example.net"), "{text}");
        check_log(&chain.tollgate, &chain_of);
        // A ping and a handshake have none, so no further one comes.
        assert_eq!(collector.after(chain.tollgate).len(), 5);
    }
}

/// Each span is below the one before it, in one trace that began at the first.
fn check_tree(spans: &[&Value; 5]) {
    let traces: BTreeSet<&str> =
        spans.iter().map(|span| span["trace_id"].as_str().unwrap()).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    assert_eq!(spans[0]["parent_span_id"], "");
    for pair in spans.windows(2) {
        assert_eq!(pair[1]["parent_span_id"], pair[0]["span_id"], "{pair:#?}");
        assert!(pair[0]["start"].as_u64() <= pair[1]["start"].as_u64(), "{pair:#?}");
    }
    // Whether the parent is in another process: the web service, then the one of gRPC.
    let remote: Vec<_> =
        spans.iter().map(|span| span["remote_parent"].as_bool().unwrap()).collect();
    assert_eq!(remote, [false, false, true, false, true]);
    for span in spans {
        assert_eq!(span["resource"]["service.name"], "edge");
        assert_eq!(span["resource"]["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&span["status"], &span["sampled"]), (&json!(0), &json!(true)));
        assert_eq!((&span["trace_state"], &span["links"]), (&json!("ot=th:0"), &json!([])));
    }
}

fn check_attributes(chain: &Chain, [web, to_web, rpc, to_rpc, find]: &[&Value; 5]) {
    let web_port = chain.web.address().port();
    assert_eq!(
        stable(web),
        json!({
            "network.protocol.name": "http", "network.protocol.version": "1.1",
            "http.request.method": "GET", "http.route": "default",
            "http.response.status_code": 200, "url.path": "/carts/ann", "url.scheme": "http",
            "server.address": "shop.example", "client.address": "127.0.0.1",
            "network.peer.address": "127.0.0.1",
            "tollgate.listener": "web", "tollgate.cluster": "web",
        })
    );
    assert_eq!(
        stable(to_web),
        json!({
            "network.protocol.name": "http", "network.protocol.version": "1.1",
            "http.request.method": "GET", "http.response.status_code": 200,
            "server.address": "127.0.0.1", "server.port": web_port,
            "tollgate.listener": "web", "tollgate.cluster": "web",
        })
    );
    assert_eq!(
        stable(rpc),
        json!({
            "rpc.system.name": "grpc", "rpc.method": "shop.Carts/Get",
            "rpc.response.status_code": "OK", "network.protocol.version": "2",
            "server.address": "127.0.0.1", "client.address": "127.0.0.1",
            "network.peer.address": "127.0.0.1", "tollgate.route": "default",
            "tollgate.listener": "rpc", "tollgate.cluster": "rpc",
        })
    );
    assert_eq!(
        stable(to_rpc),
        json!({
            "rpc.system.name": "grpc", "rpc.method": "shop.Carts/Get",
            "http.response.status_code": 200, "network.protocol.version": "2",
            "server.address": "127.0.0.1", "server.port": chain.rpc.address().port(),
            "tollgate.listener": "rpc", "tollgate.cluster": "rpc",
        })
    );
    let mut find = stable(find);
    let text = find["db.query.text"].take();
    assert!(text.as_str().unwrap().contains("user"), "{text}");
    assert_eq!(
        find,
        json!({
            "db.system.name": "mongodb", "db.namespace": "shop", "db.collection.name": "orders",
            "db.operation.name": "find", "db.query.summary": "find orders", "db.query.text": null,
            "db.response.returned_rows": 1, "server.address": "127.0.0.1",
            "server.port": chain.db.address().port(), "client.address": "127.0.0.1",
            "tollgate.app": "carts", "tollgate.callsite": "carts.get",
            "tollgate.listener": "db", "tollgate.cluster": "db",
        })
    );
}

/// The access log has the ids too.
fn check_log(tollgate: &Tollgate, [web, _, _, _, find]: &[&Value; 5]) {
    let line = &tollgate.logged(1, |line| line["listener"] == "web")[0];
    assert_eq!((&line["trace_id"], &line["span_id"]), (&web["trace_id"], &web["span_id"]));
    let line = &tollgate.logged(1, |line| line["operation"] == "find")[0];
    assert_eq!(line["trace_id"], find["trace_id"]);
}

#[test]
fn the_decision_of_the_client_holds_for_all_protocols() {
    let Some(collector) = Collector::start("grpc") else { return };
    let Some(none) = Chain::start(&collector.tracing("grpc", "sample: 0%")) else { return };
    none.ask(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let spans = collector.wait(5);
    let traces: BTreeSet<_> = spans.iter().map(|span| span["trace_id"].as_str().unwrap()).collect();
    assert_eq!(traces, BTreeSet::from(["4bf92f3577b34da6a3ce929d0e0e4736"]));
    let first = named(&spans, "server", "GET default");
    assert_eq!(first["parent_span_id"], "00f067aa0ba902b7");
    // It came without a `tracestate`, and gets none.
    assert!(spans.iter().all(|span| span["trace_state"] == ""));
    none.ask(None);
    assert_eq!(collector.after(none.tollgate).len(), 5);
    let Some(all) = Chain::start(&collector.tracing("grpc", "sample: 100%")) else { return };
    all.ask(Some("00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
    assert_eq!(collector.after(all.tollgate).len(), 5, "the client has decided");
}
