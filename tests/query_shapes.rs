//! Commands counted by the shape of their query, and programs that query badly, through a running proxy.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use serde_json::Value;
use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use support::{
    client::RawClient,
    eventually,
    python::drivers,
    scripted::{Scripted, batch, reply_to},
    secantus::Secantus,
    tollgate::{Tollgate, output_of},
    tools,
    wire::op_msg,
};

/// The rows of `GET /shapes` with these parameters.
fn shapes(tollgate: &Tollgate, parameters: &str) -> Vec<Value> {
    tollgate.json(&format!("/shapes{parameters}"))["shapes"].as_array().unwrap().clone()
}

/// The row of this operation and query.
fn row(rows: &[Value], operation: &str, query: &str) -> Value {
    let mut found =
        rows.iter().filter(|row| row["operation"] == operation && row["query"] == query);
    let row = found.next().unwrap_or_else(|| panic!("no {operation} {query} in {rows:#?}"));
    assert!(found.next().is_none(), "two rows of {operation} {query}");
    row.clone()
}

/// What was found by now, each as its kind and its call site.
fn found(tollgate: &Tollgate) -> Vec<(String, String)> {
    let findings = tollgate.json("/findings");
    let of = |finding: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&finding["finding"]), text(&finding["callsites"][0]))
    };
    findings.as_array().unwrap().iter().map(of).collect()
}

/// Runs a program of `tests/drivers`. `None` where its driver can't be installed.
fn run(script: &str, tollgate: &Tollgate, app: &str, program: &str) -> Option<()> {
    let mut command = if script.ends_with(".py") {
        Command::new(tools::python()?.join("python"))
    } else {
        let mut node = Command::new("node");
        node.env("NODE_PATH", tools::node_modules()?);
        node
    };
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(drivers().join(script));
    command.arg(tollgate.listener("db").to_string()).args([app, program]);
    let output = command.output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {program}: {error}");
    Some(())
}

#[test]
fn each_command_is_counted_by_its_shape() {
    let Some(server) = Secantus::shared() else { return };
    for tollgate in [server.proxy(), server.pooled_proxy()] {
        let Some(()) = run("pymongo_queries.py", &tollgate, "mixer", "mix") else { return };
        let rows = shapes(&tollgate, "");
        let numbers = |row: &Value| {
            ["calls", "continuations", "errors", "documents"].map(|key| row[key].as_u64().unwrap())
        };
        let by_id = row(&rows, "find", r#"{"filter":{"_id":"?number"}}"#);
        assert_eq!(numbers(&by_id), [7, 0, 0, 7]);
        assert_eq!(by_id["resource"], "queries_mix.items");
        assert_eq!(by_id["apps"][0], "mixer");
        let sorted =
            r#"{"filter":{"kind":"?string","price":{"$lt":"?number"}},"sort":{"price":-1}}"#;
        assert_eq!(numbers(&row(&rows, "find", sorted)), [3, 0, 0, 0]);
        let report = row(&rows, "find", r#"{"filter":{"price":{"$gte":"?number"}}}"#);
        assert_eq!(numbers(&report), [1, 2, 0, 250]);
        assert_eq!(report["callsites"][0], "report.py:5");
        let update = concat!(
            r#"{"updates":[{"q":{"_id":"?number"},"u":{"$set":{"price":"?number"}},"#,
            r#""multi":"?bool","upsert":"?bool"}]}"#,
        );
        assert_eq!(numbers(&row(&rows, "update", update)), [4, 0, 0, 4]);
        // One of 250, two that fail, one of a thousand.
        let insert = row(&rows, "insert", "");
        assert_eq!(numbers(&insert), [4, 0, 2, 1250]);
        assert!(
            rows.iter().all(|row| row["operation"] != "getMore" && row["operation"] != "hello")
        );
        for row in &rows {
            let (p50, p99) = (row["p50_ms"].as_f64().unwrap(), row["p99_ms"].as_f64().unwrap());
            assert!(p50 <= p99 && row["total_ms"].as_f64().unwrap() > 0.0, "{row}");
            assert!(row["first_seen"].as_str().unwrap() <= row["last_seen"].as_str().unwrap());
        }
        let export = ("unbounded_result".to_owned(), "export.py:9".to_owned());
        let list = ("long_list".to_owned(), String::new());
        assert_eq!(found(&tollgate), [export, list]);
    }
}

#[test]
fn a_loop_of_queries_is_found_by_its_call_site() {
    let Some(server) = Secantus::shared() else { return };
    for (script, callsite) in
        [("pymongo_queries.py", "users.py:30"), ("node_queries.js", "users.js:30")]
    {
        let tollgate = server.proxy();
        let Some(()) = run(script, &tollgate, "shop", "loop") else { return };
        let all = found(&tollgate);
        assert!(all.contains(&("n_plus_one".to_owned(), callsite.to_owned())), "{all:?}");
        assert!(all.iter().all(|(_, site)| site == callsite), "{all:?}");
        let findings = tollgate.json("/findings");
        assert_eq!(findings[0]["apps"][0], "shop");
        assert!(findings[0]["median_run"].as_u64().unwrap() >= 10, "{findings}");
        assert!(findings[0]["resource"].as_str().unwrap().ends_with(".users"), "{findings}");
        assert!(tollgate.stderr().contains("n_plus_one"), "{}", tollgate.stderr());
    }
}

#[test]
fn queries_sent_at_once_are_found_by_their_call_site() {
    let Some(server) = Secantus::shared() else { return };
    let tollgate = server.proxy();
    let Some(()) = run("node_queries.js", &tollgate, "shop", "burst") else { return };
    let all = found(&tollgate);
    let burst = ("n_plus_one_burst".to_owned(), "users.js:30".to_owned());
    // If connections are opened slowly, one of them may get ten queries.
    assert!(all.contains(&burst) && all.iter().all(|(_, site)| *site == burst.1), "{all:?}");
}

#[test]
fn a_program_with_one_query_for_all_items_has_no_finding() {
    let Some(server) = Secantus::shared() else { return };
    for script in ["pymongo_queries.py", "node_queries.js"] {
        let tollgate = server.proxy();
        let Some(()) = run(script, &tollgate, "shop", "join") else { return };
        assert_eq!(found(&tollgate), []);
        assert_eq!(tollgate.metric("tollgate_findings_total", &[]), 0.0);
    }
}

/// A server whose every find returns these documents and a cursor, if it is not 0.
fn server(cursor: i64) -> Scripted {
    Scripted::answering(move |message| {
        let reply = match message.document().keys().next().map(String::as_str) {
            Some("find") => batch(true, cursor, "shop.orders", &[doc! { "_id": 1 }]),
            _ => doc! { "ok": 1.0 },
        };
        reply_to(message, &reply)
    })
}

fn find(status: &str) -> Vec<u8> {
    op_msg(7, &doc! { "find": "orders", "filter": { "status": status }, "$db": "shop" })
}

#[test]
fn shapes_show_no_values_and_are_reset() {
    let server = server(0);
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    for status in ["secret-1", "secret-2"] {
        client.round_trip(&find(status));
    }
    let rows = shapes(&tollgate, "?by=calls&limit=1");
    assert_eq!((rows.len(), &rows[0]["calls"]), (1, &2.into()));
    assert!(!tollgate.get("/shapes").1.contains("secret"));
    let logged = tollgate.logged(2, |line| line["operation"] == "find");
    assert!(logged.iter().all(|line| line["resource"] == "shop.orders"));
    assert_eq!(tollgate.get("/shapes?by=price").0, 400);
    assert_eq!(tollgate.send("DELETE", "/shapes", "").0, 204);
    assert_eq!(shapes(&tollgate, ""), Vec::<Value>::new());
    client.round_trip(&find("secret-3"));
    assert_eq!(shapes(&tollgate, "")[0]["calls"], 1);
}

#[test]
fn a_listener_that_does_not_count_shapes_has_none() {
    let server = server(0);
    let config = support::tollgate::mongo_config(server.address(), "")
        .replace("protocol: mongo", "protocol: { mongo: { query_shapes: false } }");
    let tollgate = Tollgate::start(&config);
    RawClient::connect(tollgate.listener("db")).round_trip(&find("open"));
    tollgate.logged(1, |line| line["operation"] == "find");
    assert_eq!(shapes(&tollgate, ""), Vec::<Value>::new());
}

#[test]
fn short_connections_are_found() {
    let server = server(0);
    let tollgate = Tollgate::mongo(server.address());
    eventually("churn to be found", || {
        for _ in 0..50 {
            RawClient::connect(tollgate.listener("db")).round_trip(&find("open"));
        }
        let churn = found(&tollgate).iter().any(|(kind, _)| kind == "connection_churn");
        churn.then_some(())
    });
}

#[test]
fn top_shows_shapes() {
    let server = server(0);
    let tollgate = Tollgate::mongo(server.address());
    let (admin, done) = (tollgate.admin().to_string(), AtomicBool::new(false));
    let shown = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = RawClient::connect(tollgate.listener("db"));
            while !done.load(Relaxed) {
                client.round_trip(&find("open"));
            }
        });
        let shown = output_of(&["top", "--once", "--shapes", "--interval", "300ms", &admin]);
        done.store(true, Relaxed);
        shown
    });
    assert!(
        shown.out.contains("QUERY") && shown.out.contains("{\"filter\":{\"stat"),
        "{}",
        shown.out
    );
}
