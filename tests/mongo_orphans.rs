//! What clients of a pool leave open when they vanish: transactions, cursors, exhaust cursors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Binary, Document, doc, spec::BinarySubtype};
use std::time::{Duration, Instant};
use support::{
    client::RawClient,
    eventually,
    replica_set::{Hold, ReplicaSet},
    secantus::Secantus,
    tollgate::Tollgate,
    wire,
};

/// The flag by which a client accepts many replies to one request.
const EXHAUST_ALLOWED: u32 = 1 << 16;

/// A proxy before a replica set with one member.
fn proxy(set: &ReplicaSet, failover: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: rs }}\n\
         clusters:\n  rs: {{ replica_set: {{ name: rs, seeds: [\"{}\"] }}, pool: {{}}, failover: {{ {failover} }} }}\n",
        set.address(0)
    ))
}

/// A client that describes itself as the process with this name.
fn client_of(tollgate: &Tollgate, process: &str, load_balanced: bool) -> RawClient {
    let mut client = RawClient::connect(tollgate.listener("db"));
    let metadata = doc! { "driver": { "name": process, "version": "1" }, "os": { "type": "test" } };
    let mut hello = doc! { "hello": 1, "client": metadata, "$db": "admin" };
    if load_balanced {
        hello.insert("loadBalanced", true);
    }
    assert_eq!(client.command(1, &hello).get_f64("ok").unwrap(), 1.0);
    client
}

fn in_transaction(session: u8, mut command: Document) -> Document {
    let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![session; 16] };
    command.extend(doc! { "lsid": { "id": id }, "txnNumber": 1_i64, "autocommit": false });
    command
}

/// Begins a transaction that has changed the document `_id: 1`.
fn begin(client: &mut RawClient, session: u8, collection: &str) {
    let seed = doc! { "insert": collection, "documents": [{ "_id": 1, "n": 0 }], "$db": "test" };
    assert_eq!(client.command(2, &seed).get_i32("n").unwrap(), 1);
    let update = doc! { "q": { "_id": 1 }, "u": { "$inc": { "n": 1 } } };
    let write =
        doc! { "update": collection, "updates": [update], "startTransaction": true, "$db": "test" };
    let reply = client.command(3, &in_transaction(session, write));
    assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
}

fn aborts(set: &ReplicaSet) -> usize {
    set.counters(0).operations("abortTransaction")
}

fn batch(client: &mut RawClient, collection: &str) -> i64 {
    let find = doc! { "find": collection, "batchSize": 1, "$db": "test" };
    client.command(4, &find).get_document("cursor").unwrap().get_i64("id").unwrap()
}

fn fill(client: &mut RawClient, collection: &str) {
    let documents: Vec<_> = (0..500).map(|id| doc! { "_id": id }).collect();
    let insert = doc! { "insert": collection, "documents": documents, "$db": "test" };
    assert_eq!(client.command(5, &insert).get_i32("n").unwrap(), 500);
}

#[test]
fn an_open_transaction_ends_after_the_grace() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "");
    let mut other = client_of(&tollgate, "php", false);
    let mut client = client_of(&tollgate, "php", false);
    begin(&mut client, 1, "orphaned");
    drop(client);
    let gone = Instant::now();
    set.wait("the transaction to be aborted", |all| all[0].operations("abortTransaction") == 1);
    let ended = gone.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_millis(1500)).contains(&ended),
        "{ended:?}"
    );
    // Its lock is free.
    let update = doc! { "q": { "_id": 1 }, "u": { "$inc": { "n": 1 } } };
    let write = doc! { "update": "orphaned", "updates": [update], "$db": "test" };
    assert_eq!(other.command(6, &write).get_i32("n").unwrap(), 1);
    tollgate.wait_for_metric("tollgate_orphans_total", &[("kind", "transaction")], 1.0);
}

#[test]
fn a_transaction_goes_on_when_its_client_goes_on() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "orphan_grace: 100ms");
    let mut second = client_of(&tollgate, "app", false);
    let mut first = client_of(&tollgate, "app", false);
    begin(&mut first, 2, "continued");
    drop(first);
    let find = in_transaction(2, doc! { "find": "continued", "$db": "test" });
    assert_eq!(second.command(6, &find).get_f64("ok").unwrap(), 1.0);
    // What the first one left has been looked at when the second one's has ended.
    let mut third = client_of(&tollgate, "app", false);
    begin(&mut third, 3, "continued_marker");
    drop(third);
    set.wait("the other transaction to be aborted", |all| {
        all[0].operations("abortTransaction") == 1
    });
    let commit = in_transaction(2, doc! { "commitTransaction": 1, "$db": "admin" });
    let reply = second.command(7, &commit);
    assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
    drop(second);
    assert_eq!(aborts(&set), 1);
}

#[test]
fn a_load_balanced_transaction_ends_with_its_connection() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "orphan_grace: 1m");
    let mut client = client_of(&tollgate, "php", true);
    begin(&mut client, 4, "balanced");
    drop(client);
    let gone = Instant::now();
    set.wait("the transaction to be aborted", |all| all[0].operations("abortTransaction") == 1);
    assert!(gone.elapsed() < Duration::from_millis(500), "{:?}", gone.elapsed());
}

#[test]
fn cursors_end_with_the_last_connection_of_their_process() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "orphan_grace: 50ms");
    let killed = || set.counters(0).operations("killCursors");
    let mut other = client_of(&tollgate, "other", false);
    let mut first = client_of(&tollgate, "app", false);
    let second = client_of(&tollgate, "app", false);
    fill(&mut first, "left_cursors");
    let cursor = batch(&mut first, "left_cursors");
    drop(first);
    begin(&mut other, 5, "left_cursors_marker");
    drop(other);
    set.wait("the time to pass", |all| all[0].operations("abortTransaction") == 1);
    assert_eq!(killed(), 0, "the process lives");
    let mut third = client_of(&tollgate, "app", false);
    let more =
        doc! { "getMore": cursor, "collection": "left_cursors", "batchSize": 1, "$db": "test" };
    assert_eq!(third.command(8, &more).get_f64("ok").unwrap(), 1.0);
    drop((second, third));
    set.wait("the cursor to be killed", |all| all[0].operations("killCursors") == 1);
    tollgate.wait_for_metric("tollgate_orphans_total", &[("kind", "cursor")], 1.0);
}

#[test]
fn orphans_can_be_left_to_the_server() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "orphan_grace: off");
    let mut client = client_of(&tollgate, "php", true);
    begin(&mut client, 6, "left_alone");
    drop(client);
    let mut other = client_of(&tollgate, "php", true);
    let abort = in_transaction(6, doc! { "abortTransaction": 1, "$db": "admin" });
    assert_eq!(other.command(9, &abort).get_f64("ok").unwrap(), 1.0);
    assert_eq!(aborts(&set), 1);
}

#[test]
fn an_exhaust_cursor_stops_with_its_client() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "");
    let mut client = client_of(&tollgate, "app", false);
    let documents: Vec<_> =
        (0..2000).map(|id| doc! { "_id": id, "x": "y".repeat(10_000) }).collect();
    for part in documents.chunks(200) {
        let insert = doc! { "insert": "exhausted", "documents": part.to_vec(), "$db": "test" };
        assert_eq!(client.command(5, &insert).get_i32("n").unwrap(), part.len() as i32);
    }
    let cursor = batch(&mut client, "exhausted");
    let more =
        doc! { "getMore": cursor, "collection": "exhausted", "batchSize": 10, "$db": "test" };
    client.send(&wire::op_msg_of(6, 0, EXHAUST_ALLOWED, &[wire::body(&more)]));
    client.read();
    let active = || tollgate.json("/pools")[0]["endpoints"][0]["active"].as_u64();
    assert_eq!(active(), Some(1));
    drop(client);
    let gone = Instant::now();
    eventually("the connection to be closed", || (active() == Some(0)).then_some(()));
    assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
}

#[test]
fn a_commit_whose_connection_was_lost_can_be_repeated() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let tollgate = proxy(&set, "");
    let mut client = client_of(&tollgate, "app", true);
    begin(&mut client, 7, "repeated");
    let commit = in_transaction(7, doc! { "commitTransaction": 1, "$db": "admin" });
    set.hold(0, Some(Hold::Before));
    client.send(&wire::op_msg(8, &commit));
    set.wait("the commit to be held", |all| all[0].held == 1);
    drop(client);
    // What another client leaves is ended meanwhile.
    set.hold(0, None);
    let mut other = client_of(&tollgate, "other", true);
    begin(&mut other, 8, "repeated_marker");
    drop(other);
    set.wait("the other transaction to be aborted", |all| {
        all[0].operations("abortTransaction") == 1
    });
    let mut again = client_of(&tollgate, "app", true);
    let reply = again.command(9, &commit);
    assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
    assert_eq!(aborts(&set), 1);
}
