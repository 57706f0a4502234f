//! A cluster is paused, pointed to another MongoDB deployment, and resumes, while clients work.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, Timestamp, doc};
use serde_json::Value;
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    ends::Upstream,
    eventually, free_address,
    http::{Client, Reply, Service, Version, get},
    scripted::{Scripted, batch, hello, reply_to},
    tollgate::{CommandOutput, Tollgate, output_of},
    wire::op_msg,
};

/// A primary that answers with its name. `find` opens a cursor, and `getMore` ends it.
fn server(name: &'static str) -> Scripted {
    Scripted::answering(move |message| {
        let command = message.document();
        let reply = match command.keys().next().map(String::as_str) {
            Some("hello" | "isMaster") => hello("db.example:27017"),
            Some("find") => batch(true, 7, "shop.orders", &[]),
            Some("getMore") => batch(false, 0, "shop.orders", &[]),
            _ => doc! { "name": name, "ok": 1.0 },
        };
        reply_to(message, &reply)
    })
}

/// A proxy with two workers before a server, and with a second server in its config.
fn proxy(old: SocketAddr, new: SocketAddr, pool: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 2\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{old}\"], pool: {{ max_pool_size: 4, {pool} }} }}\n  \
         shop-new: {{ endpoints: [\"{new}\"] }}\n"
    ))
}

fn post(tollgate: &Tollgate, path: &str) -> Value {
    let (status, body) = tollgate.post(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// What the admin interface refuses: the status, and the words.
fn refusal(tollgate: &Tollgate, path: &str) -> (u16, String) {
    let (status, body) = tollgate.post(path);
    let json: Value = serde_json::from_str(&body).unwrap();
    (status, json["error"].as_str().unwrap_or_else(|| panic!("{path}: {body}")).to_owned())
}

fn ping() -> Document {
    doc! { "ping": 1, "$db": "admin" }
}

/// Which server answers a client.
fn name(client: &mut RawClient, id: i32) -> String {
    client.command(id, &ping()).get_str("name").unwrap().to_owned()
}

fn waiting(tollgate: &Tollgate, count: u64) {
    eventually("operations to wait", || {
        (tollgate.json("/clusters")[0]["pause"]["waiting"] == count).then_some(())
    });
}

#[test]
fn an_operation_waits_and_goes_to_the_other_deployment() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "old");
    let paused = post(&tollgate, "/clusters/shop/pause");
    assert_eq!((&paused["paused"], &paused["drained"]), (&true.into(), &true.into()));
    assert_eq!(tollgate.metric("tollgate_cluster_paused", &[("cluster", "shop")]), 1.0);
    client.send(&op_msg(2, &ping()));
    waiting(&tollgate, 1);
    assert_eq!(tollgate.metric("tollgate_pause_waiting", &[("cluster", "shop")]), 1.0);
    let switched = post(&tollgate, "/clusters/shop/switch?to=shop-new");
    assert_eq!(switched["endpoints"], serde_json::json!([new.address().to_string()]));
    assert_eq!(switched["to"], "cluster `shop-new` of the config");
    post(&tollgate, "/clusters/shop/resume");
    assert_eq!(client.read().document().get_str("name").unwrap(), "new");
    let cluster = &tollgate.json("/clusters")[0];
    assert!(cluster["pause"].is_null());
    assert_eq!(cluster["switched_to"], switched["to"]);
    eventually("the connections to the old server to close", || {
        old.received().iter().all(|connection| connection.closed).then_some(())
    });
    assert!(client.has_ended(Duration::from_secs(20)), "it knows the old deployment's time");
    assert!(tollgate.stderr().contains("a restart returns to what the config says"));
}

#[test]
fn transactions_and_cursors_end_before_the_switch() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "");
    let [mut begins, mut reads, mut waits] =
        [(); 3].map(|()| RawClient::connect(tollgate.listener("db")));
    let in_transaction = |name: &str| {
        doc! { name: "orders", "lsid": { "id": 7 }, "txnNumber": 1_i64, "autocommit": false,
        "$db": "shop" }
    };
    let mut first = in_transaction("insert");
    first.insert("startTransaction", true);
    begins.command(1, &first);
    reads.command(1, &doc! { "find": "orders", "$db": "shop" });
    let admin = tollgate.admin();
    let pausing = thread::spawn(move || {
        let path = "/clusters/shop/pause?drain_timeout=20s";
        support::tollgate::page(admin, "POST", path, "").unwrap().1
    });
    eventually("the pause", || (!tollgate.json("/clusters")[0]["pause"].is_null()).then_some(()));
    waits.send(&op_msg(2, &ping()));
    waiting(&tollgate, 1);
    assert!(!pausing.is_finished());
    reads.command(2, &doc! { "getMore": 7_i64, "collection": "orders", "$db": "shop" });
    assert_eq!(begins.command(2, &in_transaction("update")).get_str("name").unwrap(), "old");
    assert!(!pausing.is_finished());
    begins.command(3, &in_transaction("commitTransaction"));
    let paused: Value = serde_json::from_str(&pausing.join().unwrap()).unwrap();
    assert_eq!(paused["drained"], true, "{paused}");
    assert!(paused["left"].as_object().unwrap().values().all(|left| *left == 0), "{paused}");
    post(&tollgate, "/clusters/shop/resume");
    assert_eq!(waits.read().document().get_str("name").unwrap(), "old");
}

#[test]
fn what_does_not_end_is_cut_and_goes_on_after_a_resume() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.command(1, &doc! { "find": "orders", "$db": "shop" });
    let paused = post(&tollgate, "/clusters/shop/pause?drain_timeout=50ms");
    assert_eq!((&paused["drained"], &paused["left"]["cursors"]), (&true.into(), &1.into()));
    client.send(&op_msg(2, &doc! { "getMore": 7_i64, "collection": "orders", "$db": "shop" }));
    waiting(&tollgate, 1);
    post(&tollgate, "/clusters/shop/resume");
    assert_eq!(client.read().answers(), 2);
}

#[test]
fn a_waiting_operation_gets_its_error_at_its_bound() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "wait_queue_timeout: 100ms");
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "old");
    post(&tollgate, "/clusters/shop/pause");
    let began = Instant::now();
    let refused = client.command(2, &ping());
    assert!(began.elapsed() >= Duration::from_millis(100));
    let words = refused.get_str("errmsg").unwrap();
    assert!(words.contains("`shop` is paused by an operator"), "{words}");
    assert!(words.contains("pool.wait_queue_timeout"), "{words}");
    assert_eq!(refused.get_i32("code").unwrap(), 462);
    let labels = refused.get_array("errorLabels").unwrap();
    assert!(labels.contains(&"RetryableError".into()), "{labels:?}");
    let refusals = [("cluster", "shop"), ("reason", "paused")];
    assert_eq!(tollgate.metric("tollgate_pool_refusals_total", &refusals), 1.0);
}

#[test]
fn a_forgotten_pause_ends_by_itself() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    post(&tollgate, "/clusters/shop/pause?drain_timeout=10ms&resume_after=300ms");
    assert_eq!(name(&mut client, 1), "old");
    let expired = tollgate.metric("tollgate_pauses_expired_total", &[("cluster", "shop")]);
    assert_eq!(expired, 1.0);
    let (status, words) = refusal(&tollgate, "/clusters/shop/switch?to=shop-new");
    assert_eq!(status, 409);
    assert!(words.contains("`shop` is not paused"), "{words}");
    eventually("the log", || tollgate.stderr().contains("has resumed by itself").then_some(()));
}

#[test]
fn a_switch_that_can_t_work_changes_nothing() {
    let (old, dead) = (server("old"), free_address());
    let standalone = Scripted::answering(|message| {
        reply_to(message, &doc! { "ismaster": true, "maxWireVersion": 27, "ok": 1.0 })
    });
    let tollgate = proxy(old.address(), dead, "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "old");
    post(&tollgate, "/clusters/shop/pause");
    for (query, status, part) in [
        ("to=shop-new", 502, "connection refused"),
        ("to=nowhere", 404, "there is no cluster `nowhere`"),
        (&format!("endpoints={}", standalone.address()), 502, "would drop a standalone server"),
        (&format!("replica_set=rs1&seeds={dead}"), 502, "no primary of `rs1` was found"),
        ("endpoints=db-1", 400, "db-1"),
        ("to=shop-new&endpoints=db-1:1", 400, "name what the cluster is to point to"),
        ("", 400, "name what the cluster is to point to"),
        ("where=there", 400, "unknown field `where`"),
    ] {
        let (seen, words) = refusal(&tollgate, &format!("/clusters/shop/switch?{query}"));
        assert_eq!(seen, status, "{query}: {words}");
        assert!(words.contains(part), "{query}: {words}");
    }
    post(&tollgate, "/clusters/shop/resume");
    assert_eq!(name(&mut client, 2), "old");
    let (status, words) = refusal(&tollgate, "/clusters/shop/resume");
    assert_eq!((status, words.contains("is not paused")), (409, true), "{words}");
}

#[test]
fn wrong_times_are_refused() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = proxy(old.address(), new.address(), "");
    for (query, part) in [
        ("drain_timeout=1h", "at most 20s"),
        ("drain_timeout=5", "has no unit"),
        ("resume_after=2h", "at most 3600s"),
        ("drain_timeout=2s&resume_after=1s", "must be longer than `drain_timeout`"),
        ("for=1s", "unknown field `for`"),
    ] {
        let (status, words) = refusal(&tollgate, &format!("/clusters/shop/pause?{query}"));
        assert_eq!(status, 400, "{query}: {words}");
        assert!(words.contains(part), "{query}: {words}");
    }
    assert!(tollgate.json("/clusters")[0]["pause"].is_null());
    let body = r#"{"timeout": "1s", "resume_after": "10s"}"#;
    let (status, body) = tollgate.send("POST", "/clusters/shop/pause", body);
    assert_eq!(status, 200, "{body}");
}

/// Runs a command against the admin interface of a proxy.
fn command(tollgate: &Tollgate, arguments: &[&str]) -> CommandOutput {
    let admin = tollgate.admin().to_string();
    output_of(&[arguments, &["--admin", &admin]].concat())
}

#[test]
fn commands_move_a_cluster_to_another_deployment() {
    let (old, new, dead) = (server("old"), server("new"), free_address());
    let tollgate = proxy(old.address(), new.address(), "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "old");
    let early = command(&tollgate, &["switch", "shop", "--to", "shop-new"]);
    assert_eq!(early.code, Some(1));
    assert!(early.err.contains("cluster `shop` is not paused"), "{early:?}");
    let paused = command(&tollgate, &["pause", "shop", "--resume-after", "90s"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert!(paused.out.starts_with("`shop` is paused, and drained after "), "{paused:?}");
    let dead = dead.to_string();
    let wrong = command(&tollgate, &["switch", "shop", "--endpoints", &dead]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("nothing has changed: "), "{wrong:?}");
    let switched =
        command(&tollgate, &["switch", "shop", "--endpoints", &new.address().to_string()]);
    assert_eq!(switched.code, Some(0), "{switched:?}");
    let words = format!("`shop` points to {0} ({0}); a restart returns", new.address());
    assert!(switched.out.starts_with(&words), "{switched:?}");
    let resumed = command(&tollgate, &["resume", "shop"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "new");
    assert_eq!(command(&tollgate, &["resume", "shop"]).code, Some(1));
    assert_eq!(command(&tollgate, &["switch", "shop"]).code, Some(2));
    assert_eq!(command(&tollgate, &["pause", "elsewhere"]).code, Some(1));
}

#[test]
fn connections_of_clients_own_close_at_the_switch() {
    let (old, new) = (server("old"), server("new"));
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{}\"], circuit_breaker: {{ pending_timeout: 20s }} }}\n",
        old.address()
    ));
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(name(&mut client, 1), "old");
    let paused = command(&tollgate, &["pause", "shop"]);
    assert_eq!(paused.code, Some(1), "{paused:?}");
    assert!(paused.err.contains("left are 1 connections of clients' own"), "{paused:?}");
    assert_eq!(name(&mut client, 2), "old");
    let mut late = RawClient::connect(tollgate.listener("db"));
    late.send(&op_msg(1, &ping()));
    waiting(&tollgate, 1);
    post(&tollgate, &format!("/clusters/shop/switch?endpoints={}", new.address()));
    assert!(client.has_ended(Duration::from_secs(20)));
    post(&tollgate, "/clusters/shop/resume");
    assert_eq!(late.read().document().get_str("name").unwrap(), "new");
}

#[test]
fn a_tcp_connection_waits_for_the_resume() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let tollgate = Tollgate::tcp(old.address(), "");
    assert_eq!(post(&tollgate, "/clusters/wire/pause")["drained"], true);
    let _client = std::net::TcpStream::connect(tollgate.listener("wire")).unwrap();
    waiting(&tollgate, 1);
    post(&tollgate, &format!("/clusters/wire/switch?endpoints={}", new.address()));
    post(&tollgate, "/clusters/wire/resume");
    eventually("the connection at the other service", || new.was_called().then_some(()));
    assert!(!old.was_called());
}

/// A reply with the deployment's time.
fn timed(mut reply: Document) -> Document {
    let time = Timestamp { time: 1_764_000_000, increment: 1 };
    let signature = doc! { "keyId": 7_i64 };
    reply.insert("$clusterTime", doc! { "clusterTime": time, "signature": signature });
    reply.insert("operationTime", time);
    reply
}

#[test]
fn clients_see_nothing_of_the_deployment_s_time() {
    let server = Scripted::answering(|message| {
        let command = message.document();
        let reply = match command.get_i32("find") {
            Ok(documents) => {
                let document = doc! { "text": "x".repeat(1000) };
                let documents = vec![document; documents.unsigned_abs() as usize];
                batch(true, 0, "shop.orders", &documents)
            }
            Err(_) => hello("db.example:27017"),
        };
        reply_to(message, &timed(reply))
    });
    let tollgate = Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", cluster: db, \
         protocol: {{ mongo: {{ cluster_time: strip }} }} }}\n\
         clusters:\n  db: {{ endpoints: [\"{}\"], pool: {{ max_pool_size: 1 }} }}\n",
        server.address()
    ));
    let mut clients = [(); 2].map(|()| RawClient::connect(tollgate.listener("db")));
    let is_timed = |seen: &Document| {
        ["$clusterTime", "operationTime"].into_iter().any(|name| seen.contains_key(name))
    };
    let hello = clients[0].command(1, &doc! { "hello": 1, "$db": "admin" });
    assert!(!is_timed(&hello), "{hello}");
    for (id, documents) in (2..).zip([0_i32, 3, 63, 64, 65, 66, 300, 3000, 0, 3000]) {
        let find = timed(doc! { "find": documents, "$db": "shop" });
        for client in &mut clients {
            let reply = client.command(id, &find);
            assert!(!is_timed(&reply), "{documents} documents");
            let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
            assert_eq!(batch.len(), documents.unsigned_abs() as usize);
        }
    }
    let received = server.received();
    assert_eq!(received.len(), 1, "the connection was given back each time");
    let commands = received[0].messages().into_iter().map(|message| message.document());
    let finds: Vec<_> = commands.filter(|command| command.contains_key("find")).collect();
    assert_eq!(finds.len(), 20);
    assert!(finds.iter().all(|find| !find.contains_key("$clusterTime")));
}

#[test]
fn a_request_of_http_waits_for_the_resume() {
    let [old, new] = ["old", "new"].map(|name| {
        Service::start(Version::One, move |_| Reply::ok(name).header("x-service", name))
    });
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: web }}\n\
         clusters:\n  web: {{ endpoints: [\"{}\"], circuit_breaker: {{ pending_timeout: 20s }} }}\n",
        old.address()
    ));
    let client = Client::connect(tollgate.listener("web"), Version::One);
    assert_eq!(client.round_trip(get("/")).header("x-service"), "old");
    assert_eq!(post(&tollgate, "/clusters/web/pause")["drained"], true);
    let waits = client.begin(get("/"));
    waiting(&tollgate, 1);
    post(&tollgate, &format!("/clusters/web/switch?endpoints={}", new.address()));
    post(&tollgate, "/clusters/web/resume");
    assert_eq!(waits.answer().header("x-service"), "new");
}
