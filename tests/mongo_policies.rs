//! Policies before MongoDB: what drivers make of a no, and that no write gets round one.
//!
//! `tests/drivers/*_refused.*` print what pymongo and node saw: how often each operation was sent,
//! with what error it ended, and what became of pools, connections and heartbeats.

#![allow(clippy::panic)]

mod support;

use bson::{Document, doc};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    scripted::Scripted,
    secantus::Secantus,
    tollgate::Tollgate,
    tools,
    wire::{self, Compressor, op_msg},
};

/// One operation of a driver.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Done {
    code: Option<i32>,
    labels: Vec<String>,
    /// How many times the driver sent it.
    sent: usize,
}

/// A driver's run.
#[derive(Debug, Deserialize)]
struct Seen {
    done: Vec<Done>,
    cleared: usize,
    heartbeats_failed: usize,
    closed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Driver {
    Pymongo,
    Node,
}

const DRIVERS: [Driver; 2] = [Driver::Pymongo, Driver::Node];

impl Driver {
    /// Does these operations as the application `app`. `None` where it can't be installed.
    fn run(self, address: SocketAddr, app: &str, operations: &[&str]) -> Option<Seen> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let mut command = match self {
            Driver::Pymongo => {
                let mut command = Command::new(tools::python()?.join("python"));
                command.arg(scripts.join("pymongo_refused.py"));
                command
            }
            Driver::Node => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", tools::node_modules()?);
                command.arg(scripts.join("node_refused.js"));
                command
            }
        };
        let output =
            command.arg(address.to_string()).arg(app).args(operations).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let seen = serde_json::from_str::<Seen>(&said);
        Some(seen.unwrap_or_else(|error| {
            panic!("{self:?} {error}: {said}{}", String::from_utf8_lossy(&output.stderr))
        }))
    }
}

impl Seen {
    /// The driver lost no trust in the server, and no connection.
    fn is_calm(&self) {
        assert_eq!((self.cleared, self.heartbeats_failed, self.closed), (0, 0, 0), "{self:?}");
    }
}

/// A proxy with these policies before a real server.
fn guarded(policies: &str) -> Option<(Tollgate, &'static Secantus)> {
    let server = Secantus::shared()?;
    Some((Tollgate::mongo_guarded(server.address(), "", policies), server))
}

fn good() -> Done {
    Done { code: None, labels: Vec::new(), sent: 1 }
}

fn denied() -> Done {
    Done { code: Some(13), ..good() }
}

#[test]
fn a_rate_limit_slows_one_application_alone() {
    // None comes back in the time of the test, so that what passes does not depend on the machine.
    let policies = "  - name: greed\n    match: { app: 'greedy-*', operation: [find, insert] }\n    \
                    rate_limit: { rate: 1/h, burst: 3, key: [app], base_backoff: 1ms }\n";
    let Some((tollgate, _)) = guarded(policies) else { return };
    let address = tollgate.listener("db");
    for driver in DRIVERS {
        let app = format!("greedy-{driver:?}");
        let greedy = ["find", "insert", "find", "find", "insert", "ping", "find", "count"];
        let Some(greedy) = driver.run(address, &app, &greedy) else { continue };
        let labels = ["SystemOverloadedError".to_owned(), "RetryableError".to_owned()].to_vec();
        // The first time and two more (specifications, client-backpressure, `MAX_RETRIES`).
        let refused = Done { code: Some(462), labels, sent: 3 };
        let expected =
            [good(), good(), good(), refused.clone(), refused.clone(), good(), refused, good()];
        assert_eq!(greedy.done, expected, "{driver:?}");
        greedy.is_calm();
        let refused = tollgate
            .logged(9, |line| line["app"] == app.as_str() && line["reason"] == "rate_limited");
        assert_eq!(refused.len(), 9, "three operations, three times each");

        let modest = driver.run(address, &format!("modest-{driver:?}"), &["find"; 50]);
        let modest = modest.expect("a driver");
        assert_eq!(modest.done, vec![good(); 50]);
        modest.is_calm();
    }
}

/// What a client says first that knows how to back off, or one from before that.
fn greeting(app: &str, backs_off: bool) -> Document {
    let mut hello = doc! {"hello": 1, "client": {"application": {"name": app}}, "$db": "admin"};
    if backs_off {
        hello.insert("backpressure", "2");
    }
    hello
}

#[test]
fn an_old_client_is_delayed_where_a_new_one_backs_off() {
    let server = Scripted::agreeing();
    let policies = "  - name: pace\n    match: { operation: find }\n    \
                    rate_limit: { rate: 10/s, burst: 1, key: [app], over: by_client, max_delay: 5s }\n";
    let tollgate = Tollgate::mongo_guarded(server.address(), "", policies);
    let find = |id| op_msg(id, &doc! {"find": "c", "$db": "d"});

    let mut old = RawClient::connect(tollgate.listener("db"));
    old.command(1, &greeting("old", false));
    let began = Instant::now();
    for id in 2..6 {
        old.send(&find(id));
        let reply = old.read();
        assert_eq!((reply.answers(), reply.document().get_f64("ok").unwrap()), (id, 1.0));
    }
    // The first is free; the other three are a tenth of a second apart.
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());

    let mut today = RawClient::connect(tollgate.listener("db"));
    today.command(1, &greeting("today", true));
    let mut codes = Vec::new();
    for id in 2..5 {
        today.send(&find(id));
        codes.push(today.read().document().get_i32("code").ok());
    }
    assert_eq!(codes[0], None);
    assert!(codes[1..].contains(&Some(462)), "{codes:?}");
}

#[test]
fn no_operation_waits_longer_than_its_limits() {
    let server = Scripted::agreeing();
    let policies = "  - name: pace\n    match: { operation: find }\n    \
                    rate_limit: { rate: 1/h, burst: 1, over: by_client, max_delay: 1s }\n";
    let tollgate = Tollgate::mongo_guarded(server.address(), "", policies);
    let mut old = RawClient::connect(tollgate.listener("db"));
    old.command(1, &greeting("old", false));
    let find = |id| op_msg(id, &doc! {"find": "c", "$db": "d"});
    old.send(&find(2));
    assert_eq!(old.read().document().get_f64("ok").unwrap(), 1.0);
    old.send(&find(3));
    assert_eq!(old.read().document().get_i32("code").unwrap(), 462);
    old.send(&op_msg(4, &doc! {"ping": 1, "$db": "d"}));
    assert_eq!(old.read().answers(), 4, "the connection goes on");
}

#[test]
fn a_denied_operation_never_reaches_the_server() {
    let policies =
        "  - name: no-drops\n    match: { operation: [drop, dropDatabase] }\n    deny: {}\n";
    let Some((tollgate, server)) = guarded(policies) else { return };
    for driver in DRIVERS {
        let through = ["insert", "drop", "drop_database", "find", "list"];
        let Some(seen) = driver.run(tollgate.listener("db"), "app", &through) else { continue };
        assert_eq!(seen.done, [good(), denied(), denied(), good(), good()], "{driver:?}");
        seen.is_calm();
        // Dropping it now shows that it was there all the time.
        let direct = driver.run(server.address(), "app", &["drop"]).expect("a driver");
        assert_eq!(direct.done, [good()]);
    }

    let upstream = Scripted::agreeing();
    let tollgate = Tollgate::mongo_guarded(upstream.address(), "", policies);
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&op_msg(1, &doc! {"drop": "c", "$db": "d"}));
    let no = client.read();
    assert_eq!((no.answers(), no.document().get_i32("code").unwrap()), (1, 13));
    assert!(!no.document().contains_key("errorLabels"));
    let ping = op_msg(2, &doc! {"ping": 1, "$db": "d"});
    client.send(&ping);
    client.read();
    assert_eq!(upstream.bytes(ping.len()), ping);
}

const READ_ONLY: &str = "  - name: nothing-changes\n    read_only: true\n";

#[test]
fn drivers_read_and_change_nothing() {
    let Some((tollgate, server)) = guarded(READ_ONLY) else { return };
    let reads = ["find", "count", "distinct", "aggregate", "list", "ping"];
    let writes = [
        "insert",
        "insert_many",
        "update",
        "delete",
        "find_and_modify",
        "bulk",
        "client_bulk",
        "out",
        "merge",
        "map_reduce",
        "apply_ops",
        "explain",
        "index",
        "create",
        "rename",
        "drop",
        "drop_database",
        "transaction",
    ];
    for driver in DRIVERS {
        let Some(seen) = driver.run(tollgate.listener("db"), "reports", &reads) else { continue };
        assert_eq!(seen.done, vec![good(); reads.len()], "{driver:?}");
        seen.is_calm();
        let seen = driver.run(tollgate.listener("db"), "reports", &writes).expect("a driver");
        for (write, done) in writes.iter().zip(&seen.done) {
            assert_eq!((done.code, done.labels.len()), (Some(13), 0), "{driver:?}: {write}");
            // A transaction is ended by an `abortTransaction`, which changes nothing.
            let most = if *write == "transaction" { 2 } else { 1 };
            assert!((1..=most).contains(&done.sent), "{driver:?}: {write} {done:?}");
        }
        seen.is_calm();

        // This one expects no answer, and none comes that could be mistaken for another's.
        let silent = ["unacknowledged", "find", "ping"];
        let seen = driver.run(tollgate.listener("db"), "reports", &silent).expect("a driver");
        assert_eq!(seen.done, vec![good(); 3], "{driver:?}");
        seen.is_calm();
    }
    let direct = DRIVERS[0].run(server.address(), "app", &["insert", "drop"]);
    assert_eq!(direct.expect("pymongo").done, [good(), good()], "only the way there is closed");
}

#[test]
fn no_write_gets_round_a_read_only_listener_in_any_disguise() {
    let upstream = Scripted::agreeing();
    let tollgate = Tollgate::mongo_guarded(upstream.address(), "", READ_ONLY);
    let padding = "x".repeat(70_000);
    let stored = vec![doc! {"$match": {"a": padding}}, doc! {"$out": "copy"}];
    let commands = [
        doc! {"aggregate": "c", "pipeline": [{"$out": "copy"}], "$db": "d"},
        doc! {"aggregate": "c", "pipeline": [{"$merge": "copy"}, {"$match": {}}], "$db": "d"},
        doc! {"aggregate": "c", "pipeline": stored, "$db": "d"},
        doc! {"bulkWrite": 1, "ops": [], "nsInfo": [], "$db": "admin"},
        doc! {"applyOps": [], "$db": "admin"},
        doc! {"mapReduce": "c", "out": "copy", "$db": "d"},
        doc! {"findAndModify": "c", "remove": true, "$db": "d"},
        doc! {"explain": {"aggregate": "c", "pipeline": [{"$out": "copy"}]}, "$db": "d"},
        doc! {"explain": {"delete": "c"}, "$db": "d"},
        doc! {"nobodyKnowsThis": 1, "$db": "d"},
        doc! {"aggregate": "c", "pipeline": [{"$facet": {"a": [{"$out": "copy"}]}}], "$db": "d"},
        doc! {"aggregate": "c", "pipeline": [
            {"$unionWith": {"coll": "c", "pipeline": [{"$merge": "copy"}]}},
        ], "$db": "d"},
        doc! {"aggregate": "c", "pipeline": [
            {"$lookup": {"from": "c", "pipeline": [{"$out": "copy"}], "as": "x"}},
        ], "$db": "d"},
    ];
    let (mut client, hello) = RawClient::offering(tollgate.listener("db"));
    let mut id = 0;
    for command in &commands {
        let plain = |id| op_msg(id, command);
        let mut ways: Vec<Box<dyn Fn(i32) -> Vec<u8>>> = vec![
            Box::new(plain),
            Box::new(move |id| wire::checksummed(plain(id))),
            Box::new(move |id| wire::op_query(id, "d.$cmd", command)),
        ];
        for how in Compressor::ALL {
            ways.push(Box::new(move |id| wire::compressed(&plain(id), how)));
        }
        for way in ways {
            id += 1;
            client.send(&way(id));
            let no = client.read();
            assert_eq!(no.answers(), id, "{command}");
            assert_eq!(no.document().get_i32("code").unwrap(), 13, "{command}");
        }
    }
    let rows = wire::sequence("documents", &[doc! {"_id": 1}]);
    let insert = wire::body(&doc! {"insert": "c", "$db": "d"});
    client.send(&wire::op_msg_of(900, 0, 0, &[rows.clone(), insert.clone()]));
    assert_eq!(client.read().document().get_i32("code").unwrap(), 13);
    // These expect no answer: they are dropped silently.
    client.send(&wire::op_msg_of(901, 0, wire::MORE_TO_COME, &[insert, rows]));
    client.send(&wire::message(902, 0, 2002, b"\0\0\0\0d.c\0"));
    client.send(&wire::message(903, 0, 2006, b"\0\0\0\0d.c\0"));
    let find = op_msg(904, &doc! {"find": "c", "$db": "d"});
    client.send(&find);
    assert_eq!(client.read().answers(), 904);
    let seen = [hello, find].concat();
    assert_eq!(upstream.bytes(seen.len()), seen, "the service saw the read, and nothing else");
}
