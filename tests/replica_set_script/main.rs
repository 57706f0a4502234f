//! The scripted replica set keeps its promises to clients that reach it without the proxy.

#![allow(clippy::unwrap_used, clippy::panic)]

mod cursors;
mod drivers;
mod failover;
mod hello;
mod members;
mod roles;
mod routers;
#[path = "../support/mod.rs"]
mod support;
mod transactions;
mod under_way;

use bson::{Bson, Document, doc};
use support::{client::RawClient, replica_set::ReplicaSet, secantus::Secantus};

/// A set of three before the server that tests share. `None` where none can be installed.
fn three() -> Option<ReplicaSet> {
    Some(ReplicaSet::start(Secantus::shared()?.address(), 3))
}

/// A client of one member.
fn client(set: &ReplicaSet, member: usize) -> RawClient {
    RawClient::connect(set.address(member))
}

/// What a member answers to a command in the database `script`.
fn ask(set: &ReplicaSet, member: usize, command: Document) -> Document {
    client(set, member).command(1, &in_database(command))
}

fn in_database(mut command: Document) -> Document {
    command.entry("$db").or_insert("script".into());
    command
}

fn hello(set: &ReplicaSet, member: usize) -> Document {
    ask(set, member, doc! { "hello": 1 })
}

/// A `hello` that waits for news, as long as a test may take.
fn awaiting(known: &Document) -> Document {
    let version = known.get_document("topologyVersion").unwrap();
    doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 60_000, "$db": "admin" }
}

/// An insert of one document into a collection.
fn insert(collection: &str, id: i32) -> Document {
    doc! { "insert": collection, "documents": [{ "_id": id }] }
}

/// The same with a session's number: a write that a driver may send again.
fn retryable_insert(collection: &str, id: i32, number: i64) -> Document {
    let mut insert = insert(collection, id);
    insert.extend(doc! { "lsid": session(), "txnNumber": number });
    insert
}

/// A session that no other test has.
fn session() -> Document {
    let mut id = [0; 16];
    fastrand::fill(&mut id);
    let id = bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: id.to_vec() };
    doc! { "id": id }
}

fn find(collection: &str, mode: Option<&str>) -> Document {
    let mut find = doc! { "find": collection, "batchSize": 2 };
    find.extend(mode.map(|mode| ("$readPreference".to_owned(), doc! { "mode": mode }.into())));
    find
}

fn code(reply: &Document) -> i32 {
    reply.get_i32("code").unwrap_or_else(|_| panic!("no error: {reply}"))
}

fn succeeded(reply: &Document) -> bool {
    reply.get("ok").and_then(Bson::as_f64) == Some(1.0) && !reply.contains_key("writeConcernError")
}

fn labels(reply: &Document) -> Vec<&str> {
    let labels = reply.get_array("errorLabels").map(Vec::as_slice).unwrap_or_default();
    labels.iter().filter_map(Bson::as_str).collect()
}
