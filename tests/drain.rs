//! A drain cuts nothing short that would end by itself, waits for nothing else, and ends.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use rustix::process::Signal;
use std::{
    sync::{
        Mutex,
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    ends::{End, Upstream},
    eventually,
    scripted::{Scripted, reply_to},
    tollgate::{Tollgate, tcp_config},
    until_nothing_listens,
    wire::{EXHAUST_ALLOWED, body, op_msg, op_msg_of},
};

/// How a drain is asked for.
type TestRequest = fn(&Tollgate);

const WAYS: [TestRequest; 4] = [
    |tollgate| tollgate.signal(Signal::TERM),
    |tollgate| tollgate.signal(Signal::INT),
    |tollgate| tollgate.signal(Signal::QUIT),
    |tollgate| assert_eq!(tollgate.post("/drain").0, 202),
];

/// A proxy with a MongoDB listener `db` and a TCP listener `wire`.
fn before(database: &Scripted, upstream: &Upstream, drain_timeout: &str) -> Tollgate {
    waiting(database, upstream, drain_timeout, "off")
}

/// The same; connections are still accepted for so long after a drain was asked for.
fn waiting(database: &Scripted, upstream: &Upstream, drain_timeout: &str, wait: &str) -> Tollgate {
    let config = tcp_config(upstream.address(), "");
    let database = database.address();
    let config = config
        .replace(
            "listeners:",
            "listeners:\n  db: { address: \"127.0.0.1:0\", protocol: mongo, cluster: db }",
        )
        .replace("clusters:", &format!("clusters:\n  db: {{ endpoints: [\"{database}\"] }}"));
    let drain = format!("drain: {{ wait: {wait} }}\ndrain_timeout: {drain_timeout}\n");
    Tollgate::start(&format!("{drain}{config}"))
}

/// A server that answers `ping` at once, `hello` never, and anything else on demand.
fn held_back() -> (Scripted, Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let server = Scripted::start(move |peer| {
        while let Some(message) = peer.message() {
            match message.document().keys().next().map(String::as_str) {
                Some("hello") => continue,
                Some("ping") => {}
                _ => wait.lock().unwrap().recv().unwrap(),
            }
            peer.send(&reply_to(&message, &doc! { "ok": 1.0 }));
        }
    });
    (server, go)
}

fn find() -> Document {
    doc! { "find": "orders", "filter": {}, "$db": "shop" }
}

/// Connects, and shows that the connection works.
fn at_rest(tollgate: &Tollgate) -> RawClient {
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.command(1, &doc! { "ping": 1, "$db": "admin" });
    client
}

/// Waits until it reports a drain and accepts no connection.
fn draining(tollgate: &Tollgate, listeners: &[std::net::SocketAddr]) {
    eventually("/ready to say no", || (tollgate.get("/ready").0 == 503).then_some(()));
    assert_eq!(tollgate.get("/live").0, 200);
    for address in listeners {
        until_nothing_listens(*address);
    }
}

/// Waits until it says so in its log.
fn says(tollgate: &Tollgate, what: &str) {
    eventually(what, || tollgate.stderr().contains(what).then_some(()));
}

fn closed(tollgate: &Tollgate, reason: &str, count: f64) {
    let labels = [("listener", "db"), ("reason", reason)];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, count);
}

#[test]
fn a_drain_waits_for_operations_and_sessions() {
    for ask in WAYS {
        let ((server, go), upstream) = (held_back(), Upstream::start());
        let mut tollgate = before(&server, &upstream, "1m");
        let listeners = ["db", "wire"].map(|name| tollgate.listener(name));
        let (mut session, mut back) = upstream.session(&tollgate);
        let mut idle = at_rest(&tollgate);
        let mut busy = at_rest(&tollgate);
        busy.send(&op_msg(7, &find()));
        server.wait("the find", |all| all.iter().any(|one| one.messages().len() == 2));
        ask(&tollgate);
        draining(&tollgate, &listeners);
        assert!(idle.read_until_close().is_empty());
        closed(&tollgate, "drain", 1.0);
        go.send(()).unwrap();
        assert_eq!(busy.read().answers(), 7, "the reply that was under way");
        assert!(busy.read_until_close().is_empty());
        closed(&tollgate, "drain", 2.0);
        session.send(b"still here");
        back.expect(b"still here");
        assert!(tollgate.is_running());
        drop(session);
        back.expect_end();
        drop(back);
        assert_eq!(tollgate.end().code(), Some(0));
        let outcomes = |name: &str| {
            let log = tollgate.access_log();
            let lines = log.iter().filter(|line| line["operation"] == name);
            lines.map(|line| line["outcome"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(outcomes("find"), ["ok"]);
        assert_eq!(outcomes("session"), ["ok"]);
    }
}

#[test]
fn a_hello_that_waits_for_news_holds_nothing_up() {
    let ((server, _go), upstream) = (held_back(), Upstream::start());
    let mut tollgate = before(&server, &upstream, "1m");
    let mut monitor = RawClient::connect(tollgate.listener("db"));
    let version = doc! { "processId": bson::oid::ObjectId::new(), "counter": 1_i64 };
    let hello = doc! {
        "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 10_000, "$db": "admin",
    };
    monitor.send(&op_msg_of(1, 0, EXHAUST_ALLOWED, &[body(&hello)]));
    server.wait("the hello", |all| all.iter().any(|one| one.messages().len() == 1));
    let asked = Instant::now();
    assert_eq!(tollgate.stop().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(monitor.read_until_close().is_empty());
}

#[test]
fn a_session_that_goes_on_is_closed_at_the_drain_timeout() {
    let ((server, _go), upstream) = (held_back(), Upstream::start());
    let mut tollgate = before(&server, &upstream, "300ms");
    let (mut session, mut back) = upstream.session(&tollgate);
    session.send(b"still here");
    back.expect(b"still here");
    let mut busy = at_rest(&tollgate);
    busy.send(&op_msg(7, &find()));
    server.wait("the find", |all| all.iter().any(|one| one.messages().len() == 2));
    let asked = Instant::now();
    assert_eq!(tollgate.stop().code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    session.expect_end();
    back.expect_end();
    assert!(busy.read_until_close().is_empty());
    let log = tollgate.access_log();
    for operation in ["session", "find"] {
        let line = log.iter().find(|line| line["operation"] == operation).unwrap();
        assert_eq!(line["reason"], "drain_timeout", "{line}");
        assert_eq!(line["outcome"], "cancelled", "{line}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let ((server, _go), upstream) = (held_back(), Upstream::start());
        let mut tollgate = before(&server, &upstream, "1m");
        let (mut session, mut back): (End, End) = upstream.session(&tollgate);
        tollgate.signal(signals[0]);
        draining(&tollgate, &[]);
        session.send(b"still here");
        back.expect(b"still here");
        tollgate.signal(signals[1]);
        assert_eq!(tollgate.end().code(), Some(0));
        session.expect_end();
    }
}

#[test]
fn a_proxy_without_connections_ends_at_once() {
    for ask in WAYS {
        let (server, upstream) = (Scripted::agreeing(), Upstream::start());
        let mut tollgate = before(&server, &upstream, "1m");
        ask(&tollgate);
        assert_eq!(tollgate.end().code(), Some(0));
    }
}

#[test]
fn a_waiting_drain_accepts_connections_but_is_not_ready() {
    for (ask, by_signal) in WAYS.into_iter().zip([true, true, true, false]) {
        let (server, upstream) = (Scripted::agreeing(), Upstream::start());
        let mut tollgate = waiting(&server, &upstream, "1m", "1m");
        // A client that comes just before the end, and goes, leaves no session here.
        let listener = tollgate.listener("db");
        ask(&tollgate);
        draining(&tollgate, &[]);
        let (mut session, mut back) = upstream.session(&tollgate);
        session.send(b"late");
        back.expect(b"late");
        at_rest(&tollgate);
        if !by_signal {
            // What runs it sends a signal as well, which is no reason to hurry.
            tollgate.signal(Signal::TERM);
            says(&tollgate, "draining already");
            drop(upstream.session(&tollgate));
        }
        tollgate.signal(Signal::TERM);
        says(&tollgate, "second signal: the drain begins now");
        draining(&tollgate, &[listener]);
        session.send(b"still here");
        back.expect(b"still here");
        drop((session, back));
        assert_eq!(tollgate.end().code(), Some(0));
    }
}

#[test]
fn a_drain_begins_by_itself_once_it_has_waited() {
    for ask in WAYS {
        let (server, upstream) = (Scripted::agreeing(), Upstream::start());
        let mut tollgate = waiting(&server, &upstream, "1m", "300ms");
        let asked = Instant::now();
        ask(&tollgate);
        assert_eq!(tollgate.end().code(), Some(0));
        assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    }
}
