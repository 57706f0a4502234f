//! MongoDB's messages pass as they are, however they are cut, and are understood all the same.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use serde_json::Value;
use std::time::Duration;
use support::{
    client::RawClient,
    scripted::{Scripted, batch, hello, reply_to},
    tollgate::{Tollgate, mongo_config},
    wire::{
        self, Compressor, EXHAUST_ALLOWED, LONGEST, MORE_TO_COME, Message, body, checksummed,
        compressed, op_msg, op_msg_of, op_query, op_reply, section, sequence,
    },
};

/// A proxy before this server, and a connection to it.
fn through(server: &Scripted) -> (Tollgate, RawClient) {
    let tollgate = Tollgate::mongo(server.address());
    let client = RawClient::connect(tollgate.listener("db"));
    (tollgate, client)
}

/// The log's one line for this operation.
fn logged(tollgate: &Tollgate, operation: &str) -> Value {
    let mut lines = tollgate.logged(1, |line| line["operation"] == operation);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

fn find(collection: &str) -> Document {
    doc! { "find": collection, "filter": { "_id": 1 }, "comment": "checkout.total", "$db": "shop" }
}

fn orders(from: i32, count: i32) -> Vec<Document> {
    (from..from + count).map(|n| doc! { "_id": n, "text": "an order" }).collect()
}

#[test]
fn a_sequence_before_the_body_is_an_insert_like_any_other() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let insert = doc! { "insert": "orders", "ordered": true, "$db": "shop" };
    let sections = [sequence("documents", &orders(0, 3)), body(&insert)];
    let message = op_msg_of(7, 0, 0, &sections);
    assert_eq!(client.round_trip(&message).answers(), 7);
    assert_eq!(server.bytes(message.len()), message);
    let line = logged(&tollgate, "insert");
    assert_eq!(line["resource"], "shop.orders");
    assert_eq!(line["documents"], 3);
    assert_eq!(line["outcome"], "ok");
}

#[test]
fn a_telemetry_section_passes_and_its_trace_is_logged() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let telemetry = doc! { "otel": { "traceparent": parent } }.to_vec().unwrap();
    let message = op_msg_of(7, 0, 0, &[body(&find("orders")), section(3, &telemetry)]);
    client.round_trip(&message);
    assert_eq!(server.bytes(message.len()), message);
    let line = logged(&tollgate, "find");
    assert_eq!(line["trace_id"], trace);
    assert_eq!(line["comment"], "checkout.total");
    assert_eq!(tollgate.metric("tollgate_violations_total", &[]), 0.0);
}

#[test]
fn a_checksum_stays_where_nothing_changes() {
    let reply = |m: &Message| checksummed(reply_to(m, &batch(true, 0, "shop.orders", &[])));
    let server = Scripted::answering(reply);
    let (_tollgate, mut client) = through(&server);
    let message = checksummed(op_msg(7, &find("orders")));
    let answer = client.round_trip(&message);
    assert_eq!(server.bytes(message.len()), message);
    assert!(answer.checksum_holds());
    assert_eq!(answer.0, reply(&Message(message)));
}

#[test]
fn a_checksum_is_right_again_where_the_handshake_was_rewritten() {
    let server = Scripted::answering(|m| checksummed(reply_to(m, &hello("db-1.internal:27017"))));
    let (tollgate, mut client) = through(&server);
    let offered = ["zstd", "of-the-future", "snappy"];
    let message =
        checksummed(op_msg(7, &doc! { "hello": 1, "compression": offered, "$db": "admin" }));
    let answer = client.round_trip(&message);
    assert!(answer.checksum_holds());
    let proxy = tollgate.listener("db").to_string();
    assert_eq!(answer.document().get_str("me").unwrap(), proxy);
    assert_eq!(answer.document(), hello(&proxy));
    let upstream = &server.received()[0].messages()[0];
    assert!(upstream.checksum_holds());
    let kept = doc! { "hello": 1, "compression": ["zstd", "snappy"], "$db": "admin" };
    assert_eq!(upstream.document(), kept);
}

#[test]
fn every_handshake_is_answered_in_its_own_family() {
    let server = Scripted::answering(|m| reply_to(m, &hello("db-1.internal:27017")));
    let (tollgate, mut client) = through(&server);
    let proxy = tollgate.listener("db").to_string();
    let handshakes = [
        (op_query(1, "admin.$cmd", &doc! { "isMaster": true }), wire::OP_REPLY),
        (op_query(2, "admin.$cmd", &doc! { "ismaster": 1, "helloOk": true }), wire::OP_REPLY),
        (op_msg(3, &doc! { "ismaster": 1, "helloOk": true, "$db": "admin" }), wire::OP_MSG),
        (op_msg(4, &doc! { "hello": 1, "$db": "admin" }), wire::OP_MSG),
    ];
    for (at, (message, family)) in handshakes.iter().enumerate() {
        let answer = client.round_trip(message);
        assert_eq!(answer.opcode(), *family, "handshake {at}");
        assert_eq!(answer.answers(), at as i32 + 1);
        assert_eq!(answer.document(), hello(&proxy), "handshake {at}");
    }
    let sent: Vec<u8> = handshakes.iter().flat_map(|(message, _)| message.clone()).collect();
    assert_eq!(server.bytes(sent.len()), sent);
}

#[test]
fn an_old_client_s_query_is_read_like_a_new_one_s() {
    let server = Scripted::answering(|m| op_reply(9, m.id(), &doc! { "ok": 1.0 }));
    let (tollgate, mut client) = through(&server);
    client.round_trip(&op_query(1, "shop.$cmd", &doc! { "$query": { "count": "orders" } }));
    assert_eq!(logged(&tollgate, "count")["resource"], "shop.orders");
}

#[test]
fn an_unacknowledged_write_takes_no_reply() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let insert = doc! { "insert": "orders", "writeConcern": { "w": 0 }, "$db": "shop" };
    let quiet =
        op_msg_of(1, 0, MORE_TO_COME, &[body(&insert), sequence("documents", &orders(0, 2))]);
    client.send(&quiet);
    let answer = client.round_trip(&op_msg(2, &doc! { "ping": 1, "$db": "admin" }));
    assert_eq!(answer.answers(), 2);
    client.finish();
    assert!(client.read_until_close().is_empty(), "one reply only");
    let insert = logged(&tollgate, "insert");
    assert_eq!(insert["outcome"], "ok");
    assert_eq!(insert["documents"], 2);
    assert_eq!(logged(&tollgate, "ping")["outcome"], "ok");
}

/// Answers a `getMore` with batches of 10 without further requests. A server numbers each
/// after its request's id or, as MongoDB does, after the batch before.
fn streaming(batches: i32, after_the_last: bool) -> Scripted {
    Scripted::start(move |peer| {
        let Some(request) = peer.message() else { return };
        let mut answers = request.id();
        for n in 0..batches {
            let last = n == batches - 1;
            let id = 1000 + n;
            let cursor = if last { 0 } else { 42 };
            let document = batch(false, cursor, "shop.orders", &orders(n * 10, 10));
            let flags = if last { 0 } else { MORE_TO_COME };
            if !peer.send(&op_msg_of(id, answers, flags, &[body(&document)])) {
                return;
            }
            answers = if after_the_last { id } else { request.id() };
        }
        peer.silence();
    })
}

fn get_more() -> Vec<u8> {
    let more = doc! { "getMore": 42_i64, "collection": "orders", "batchSize": 10, "$db": "shop" };
    op_msg_of(7, 0, EXHAUST_ALLOWED, &[body(&more)])
}

#[test]
fn an_exhaust_cursor_s_hundred_batches_are_one_operation() {
    for after_the_last in [false, true] {
        let server = streaming(100, after_the_last);
        let (tollgate, mut client) = through(&server);
        client.send(&get_more());
        for n in 0..100 {
            assert_eq!(client.read().id(), 1000 + n);
        }
        let line = logged(&tollgate, "getMore");
        assert_eq!(line["outcome"], "ok");
        assert_eq!(line["documents"], 1000);
        assert_eq!(line["resource"], "shop.orders");
    }
}

#[test]
fn an_abandoned_exhaust_cursor_is_closed_within_a_second() {
    let server = streaming(i32::MAX / 20, true);
    let (tollgate, mut client) = through(&server);
    client.send(&get_more());
    (0..10).for_each(|_| drop(client.read()));
    drop(client);
    let took = server.wait("the close", |all| all.iter().all(|one| one.closed));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(logged(&tollgate, "getMore")["outcome"], "cancelled");
    tollgate.wait_for_metric("tollgate_operations_active", &[], 0.0);
    tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 0.0);
}

#[test]
fn compression_hides_nothing_and_stays() {
    let told = |how: Option<Compressor>| {
        let pack = move |message: Vec<u8>| match how {
            Some(how) => compressed(&message, how),
            None => message,
        };
        let document = batch(true, 0, "shop.orders", &orders(0, 200));
        let reply = pack(wire::op_msg_reply(9, 7, &document));
        let sent_back = reply.clone();
        let server = Scripted::answering(move |asked| match asked.id() {
            7 => sent_back.clone(),
            _ => reply_to(asked, &doc! { "ok": 1.0 }),
        });
        let tollgate = Tollgate::mongo(server.address());
        let (mut client, hello) = RawClient::offering(tollgate.listener("db"));
        let request = pack(op_msg(7, &find("orders")));
        assert_eq!(client.round_trip(&request).0, reply, "{how:?}");
        let sent = [hello, request.clone()].concat();
        assert_eq!(server.bytes(sent.len()), sent, "{how:?}");
        let line = logged(&tollgate, "find");
        assert_eq!(line["request_bytes"], request.len(), "the wire's bytes");
        let shape = [("listener", "db"), ("shape", "targeted"), ("resource", "shop.orders")];
        tollgate.wait_for_metric("tollgate_mongo_reads_total", &shape, 1.0);
        assert_eq!(tollgate.metric("tollgate_violations_total", &[]), 0.0, "{how:?}");
        ["operation", "resource", "outcome", "documents", "comment"].map(|key| line[key].clone())
    };
    let plain = told(None);
    assert_eq!(plain[3], 200);
    for how in Compressor::ALL {
        assert_eq!(told(Some(how)), plain, "{how:?}");
    }
}

#[test]
fn a_byte_at_a_time_is_the_same_conversation() {
    let server = Scripted::start(|peer| {
        while let Some(message) = peer.message() {
            let reply = reply_to(&message, &batch(true, 0, "shop.orders", &orders(0, 2)));
            peer.trickle(&reply);
        }
    });
    let (tollgate, mut client) = through(&server);
    let message = op_msg(7, &find("orders"));
    client.trickle(&message);
    let answer = client.read();
    let expected =
        reply_to(&Message(message.clone()), &batch(true, 0, "shop.orders", &orders(0, 2)));
    assert_eq!(answer.0, expected);
    assert_eq!(server.bytes(message.len()), message);
    let line = logged(&tollgate, "find");
    assert_eq!(line["documents"], 2);
    assert_eq!(line["request_bytes"], message.len());
    assert_eq!(line["reply_bytes"], expected.len());
}

#[test]
fn fifty_requests_in_one_segment_are_fifty_operations() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let requests: Vec<u8> =
        (1..=50).flat_map(|id| op_msg(id, &find(&format!("c{}", id % 5)))).collect();
    client.send(&requests);
    for id in 1..=50 {
        assert_eq!(client.read().answers(), id);
    }
    assert_eq!(server.bytes(requests.len()), requests);
    for n in 0..5 {
        let resource = format!("shop.c{n}");
        let labels = [("operation", "find"), ("resource", resource.as_str()), ("outcome", "ok")];
        tollgate.wait_for_metric("tollgate_operations_total", &labels, 10.0);
    }
    assert_eq!(tollgate.logged(50, |line| line["operation"] == "find").len(), 50);
}

#[test]
fn the_longest_insert_there_is_passes_in_little_memory() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let insert = doc! { "insert": "orders", "ordered": true, "$db": "shop" };
    let filled = |length| doc! { "text": "x".repeat(length) };
    let build = |last| {
        let documents = [filled(15_999_000), filled(15_999_000), filled(last)];
        op_msg_of(7, 0, 0, &[body(&insert), sequence("documents", &documents)])
    };
    let message = build(1000 + LONGEST - build(1000).len());
    assert_eq!(message.len(), LONGEST);
    let before = tollgate.peak_memory();
    assert_eq!(client.round_trip(&message).answers(), 7);
    assert!(server.bytes(LONGEST) == message, "not the same bytes");
    let line = logged(&tollgate, "insert");
    assert_eq!(line["documents"], 3);
    assert_eq!(line["request_bytes"], LONGEST);
    let grown = tollgate.peak_memory() - before;
    assert!(grown < 8 << 20, "{grown} bytes for a message that need not be held");
}

#[test]
fn the_longest_reply_there_is_passes_in_little_memory() {
    let order = doc! { "text": "x".repeat(15_000_000) };
    let reply = batch(true, 0, "shop.orders", &[order.clone(), order.clone(), order]);
    let expected = reply.clone();
    let server = Scripted::answering(move |message| reply_to(message, &reply));
    let (tollgate, mut client) = through(&server);
    let before = tollgate.peak_memory();
    assert!(client.round_trip(&op_msg(7, &find("orders"))).document() == expected);
    assert_eq!(logged(&tollgate, "find")["documents"], 3);
    let grown = tollgate.peak_memory() - before;
    assert!(grown < 8 << 20, "{grown} bytes more");
}

#[test]
fn an_unknown_kind_of_message_passes() {
    let server = Scripted::agreeing();
    let (tollgate, mut client) = through(&server);
    let unknown = wire::message(1, 0, 4711, b"of the future");
    let known = op_msg(2, &find("orders"));
    client.send(&unknown);
    assert_eq!(client.round_trip(&known).answers(), 2);
    assert_eq!(server.bytes(unknown.len() + known.len()), [unknown, known].concat());
    assert_eq!(logged(&tollgate, "find")["outcome"], "ok");
}

#[test]
fn a_drain_ends_the_process_in_good_order() {
    let server = Scripted::agreeing();
    let (mut tollgate, mut client) = through(&server);
    client.round_trip(&op_msg(1, &find("orders")));
    assert!(tollgate.stop().success());
    assert!(client.read_until_close().is_empty());
    assert_eq!(tollgate.access_log().len(), 1, "what happened is in the log");
}

#[test]
fn a_refusal_does_not_overtake_the_reply_to_an_older_request() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let server = Scripted::answering(move |message| {
        let _ = gone.lock().unwrap().recv();
        reply_to(message, &doc! { "ok": 1.0 })
    });
    let policies = "  - { name: closed, match: { operation: find }, deny: {} }\n";
    let tollgate = Tollgate::mongo_guarded(server.address(), "", policies);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let ping = doc! { "ping": 1, "$db": "admin" };
    let asked = [op_msg(21, &find("a")), op_msg(22, &ping), op_msg(23, &find("b"))];
    client.send(&asked.concat());
    assert_eq!(client.read().answers(), 21);
    tollgate.wait_for_metric("tollgate_refusals_total", &[], 2.0);
    go.send(()).unwrap();
    assert_eq!([client.read().answers(), client.read().answers()], [22, 23]);
}

#[test]
fn a_get_more_of_an_unknown_cursor_has_its_own_call_site() {
    let server = Scripted::answering(|message| reply_to(message, &batch(false, 0, "shop.c", &[])));
    let (tollgate, mut client) = through(&server);
    let more =
        doc! { "getMore": 4242_i64, "collection": "c", "comment": "cart.history", "$db": "shop" };
    client.round_trip(&op_msg(7, &more));
    assert_eq!(logged(&tollgate, "getMore")["callsite"], "cart.history");
}

#[test]
fn call_sites_beyond_the_limit_are_counted_as_other() {
    let server =
        Scripted::answering(|message| reply_to(message, &batch(true, 0, "shop.orders", &[])));
    let config = mongo_config(server.address(), "");
    let tollgate = Tollgate::start(&format!("max_series: 3\n{config}"));
    let mut client = RawClient::connect(tollgate.listener("db"));
    for id in 0..6 {
        let comment = format!("site.{id}");
        client
            .round_trip(&op_msg(id, &doc! { "find": "orders", "comment": comment, "$db": "shop" }));
    }
    tollgate.wait_for_metric("tollgate_callsite_operations_total", &[], 6.0);
    let other = [("callsite", "other"), ("operation", "find"), ("resource", "shop.orders")];
    assert_eq!(tollgate.metric("tollgate_callsite_operations_total", &other), 3.0);
    assert_eq!(tollgate.metric("tollgate_callsite_duration_seconds_count", &other), 3.0);
}

/// How often the proxy's own log says this.
fn warnings(tollgate: &Tollgate, words: &str) -> usize {
    tollgate
        .stderr()
        .lines()
        .filter(|line| line.contains("\"WARN\"") && line.contains(words))
        .count()
}

#[test]
fn several_members_behind_a_listener_are_logged_once() {
    let members = ["a:1", "b:1"].map(|me| {
        let mut told = hello(me);
        told.insert("hosts", vec!["a:1", "b:1"]);
        Scripted::answering(move |message| reply_to(message, &told))
    });
    let [one, two] = members.each_ref().map(Scripted::address);
    let config = mongo_config(one, "")
        .replace("endpoints: [", &format!("lb_policy: round_robin, endpoints: [\"{two}\", "));
    let tollgate = Tollgate::start(&config);
    for _ in 0..4 {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.command(7, &doc! { "hello": 1, "$db": "admin" });
    }
    let said = "several members of the replica set `rs` answer behind this listener";
    support::eventually("a warning", || (warnings(&tollgate, said) == 1).then_some(()));
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    assert_eq!(warnings(&tollgate, said), 1);
    assert_eq!(warnings(&tollgate, "is not in `members`"), 0, "none are named");
}

#[test]
fn a_member_without_a_listener_is_logged_once() {
    let mut told = hello("a:1");
    told.insert("hosts", vec!["a:1", "b:1"]);
    let server = Scripted::answering(move |message| reply_to(message, &told));
    let named = "protocol: { mongo: { members: { \"a:1\": \"proxy:1\" } } }";
    let config = mongo_config(server.address(), "").replace("protocol: mongo", named);
    let tollgate = Tollgate::start(&config);
    let mut client = RawClient::connect(tollgate.listener("db"));
    for id in 0..3 {
        client.command(id, &doc! { "hello": 1, "$db": "admin" });
    }
    let said = "b:1 of the replica set `rs` is not in `members`: drivers do not see it";
    support::eventually("a warning", || (warnings(&tollgate, said) == 1).then_some(()));
}

#[test]
fn a_login_by_certificate_is_explained_in_the_log_once() {
    let refused = doc! { "ok": 0, "code": 18, "errmsg": "Authentication failed." };
    let server = Scripted::answering(move |message| reply_to(message, &refused));
    let tollgate = Tollgate::start(&mongo_config(server.address(), ""));
    let mut client = RawClient::connect(tollgate.listener("db"));
    let scram =
        doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": "", "$db": "admin" };
    client.command(1, &scram);
    let login = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=app" };
    let hello = doc! { "hello": 1, "speculativeAuthenticate": login.clone(), "$db": "admin" };
    client.command(2, &hello);
    let mut external = login;
    external.insert("$db", "$external");
    client.command(3, &external);
    let said = "the server sees the proxy's certificate";
    support::eventually("a warning", || (warnings(&tollgate, said) == 1).then_some(()));
    drop(client);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    assert_eq!(warnings(&tollgate, said), 1);
}
