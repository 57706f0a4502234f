//! Peers that lie, vanish or flood: bounded, closed where nothing else is left, and counted.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use serde_json::Value;
use std::time::Duration;
use std::{
    sync::{Mutex, mpsc::channel},
    time::Instant,
};
use support::{
    client::RawClient,
    scripted::{Peer, Scripted, reply_to},
    tollgate::Tollgate,
    wire::{self, Compressor, claiming, compressed_claiming, op_msg, op_msg_reply, op_query},
};

const MIB: u64 = 1 << 20;

fn find(collection: &str) -> Document {
    doc! { "find": collection, "filter": {}, "$db": "shop" }
}

/// Sends these bytes on a connection of their own, and waits for it to be closed unanswered.
fn closed_at_once(tollgate: &Tollgate, bytes: &[u8]) {
    ends_at_once(RawClient::connect(tollgate.listener("db")), bytes);
}

fn ends_at_once(mut client: RawClient, bytes: &[u8]) {
    let start = Instant::now();
    client.try_send(bytes);
    assert!(client.read_until_close().is_empty(), "an answer to {:02x?}", &bytes[..16]);
    assert!(start.elapsed().as_secs() < 2, "{:?} to close", start.elapsed());
}

#[test]
fn a_length_that_no_message_has_closes_the_connection() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let before = tollgate.peak_memory();
    for (n, length) in [0, 15, -1, i32::MAX, 48_000_001].into_iter().enumerate() {
        closed_at_once(&tollgate, &claiming(length));
        let labels = [("listener", "db"), ("protocol", "mongo"), ("kind", "length")];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, n as f64 + 1.0);
    }
    assert!(server.received().iter().all(|one| one.bytes.is_empty()), "nothing reaches the server");
    assert!(tollgate.peak_memory() - before < 8 * MIB, "memory by a claimed length");
    let reason = [("listener", "db"), ("reason", "client_violation")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 5.0);
}

#[test]
fn a_decompression_bomb_is_refused_in_little_memory() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let before = tollgate.peak_memory();
    let text = doc! { "find": "orders", "$db": "shop", "filter": { "text": "x".repeat(15 << 20) } };
    let swelling = op_msg(7, &text);
    let excessive = Compressor::ALL.map(|how| [(how, 48_000_001), (how, i32::MAX)]);
    // More than the message itself claims. (Snappy's own header would give the lie away.)
    let lying = [(Compressor::Zlib, 100), (Compressor::Zstd, 100)];
    for (how, size) in excessive.into_iter().flatten().chain(lying) {
        let (client, _) = RawClient::offering(tollgate.listener("db"));
        ends_at_once(client, &compressed_claiming(&swelling, how, size));
    }
    let labels = [("listener", "db"), ("kind", "decompression_bomb")];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, 8.0);
    assert!(tollgate.peak_memory() - before < 16 * MIB, "a bomb in memory");
}

#[test]
fn a_highly_compressed_message_is_named_in_little_memory() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let text = doc! { "find": "orders", "$db": "shop", "filter": { "text": "x".repeat(15 << 20) } };
    let swelling = op_msg(7, &text);
    let before = tollgate.peak_memory();
    let message = wire::compressed(&swelling, Compressor::Zstd);
    assert!(message.len() < 4096, "{} bytes", message.len());
    let (mut client, _) = RawClient::offering(tollgate.listener("db"));
    client.round_trip(&message);
    let line = tollgate.logged(1, |line| line["operation"] == "find").remove(0);
    assert_eq!(line["resource"], "shop.orders");
    assert!(tollgate.peak_memory() - before < 16 * MIB, "a bomb in memory");
}

#[test]
fn an_unreadable_compressed_message_passes() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let (mut client, hello) = RawClient::offering(tollgate.listener("db"));
    let mut broken = wire::compressed(&op_msg(1, &find("orders")), Compressor::Zlib);
    broken[25..].fill(0xff);
    let good = op_msg(2, &find("orders"));
    client.round_trip(&broken);
    assert_eq!(client.round_trip(&good).answers(), 2);
    let sent = [hello, broken, good].concat();
    assert_eq!(server.bytes(sent.len()), sent);
    let labels = [("listener", "db"), ("kind", "bad_compression")];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, 1.0);
    assert_eq!(tollgate.logged(1, |line| line["operation"] == "find").len(), 1);
}

#[test]
fn message_timeout_ends_slow_requests_but_not_slow_replies() {
    let (enough, thinking) = channel();
    let thinking = Mutex::new(thinking);
    let server = Scripted::start(move |peer| {
        while let Some(message) = peer.message() {
            thinking.lock().unwrap().recv().unwrap();
            peer.send(&reply_to(&message, &doc! { "ok": 1.0 }));
        }
    });
    let tollgate = Tollgate::mongo_with(server.address(), "message_timeout: 300ms");
    let message = op_msg(7, &find("orders"));
    let mut patient = RawClient::connect(tollgate.listener("db"));
    patient.send(&message);
    // Also a header alone, and a message of which the front is there and the rest is owed.
    let long = op_msg(8, &doc! { "insert": "orders", "$db": "shop", "text": "x".repeat(200_000) });
    for begun in [&message[..3], &message[..20], &long[..100_000]] {
        let mut slow = RawClient::connect(tollgate.listener("db"));
        slow.send(begun);
        slow.read_until_close();
    }
    let labels = [("listener", "db"), ("reason", "message_timeout")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 3.0);
    enough.send(()).unwrap();
    assert_eq!(patient.read().answers(), 7);
}

#[test]
fn a_first_message_that_trickles_is_not_waited_for() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo_with(server.address(), "handshake_timeout: 300ms");
    let mut patient = RawClient::connect(tollgate.listener("db"));
    assert_eq!(patient.round_trip(&op_msg(7, &find("orders"))).answers(), 7);
    let mut slow = RawClient::connect(tollgate.listener("db"));
    // A byte now and then puts no end off: what counts is the whole message.
    let message = op_msg(7, &find("orders"));
    let mut bytes = message.iter();
    while let Some(byte) = bytes.next()
        && !slow.has_ended(Duration::from_millis(20))
    {
        slow.try_send(&[*byte]);
    }
    assert!(bytes.next().is_some(), "it was let go on to the end");
    let labels = [("listener", "db"), ("reason", "handshake_timeout")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
    // A client that has sent a first byte may take its time.
    assert_eq!(patient.round_trip(&op_msg(8, &find("orders"))).answers(), 8);
}

#[test]
fn what_is_plainly_another_protocol_is_called_by_its_name() {
    let tollgate = Tollgate::mongo(Scripted::agreeing().address());
    closed_at_once(&tollgate, b"GET / HTTP/1.1\r\nhost: db\r\n\r\n");
    let tls = [0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    closed_at_once(&tollgate, &tls);
    closed_at_once(&tollgate, b"PROXY TCP4 10.0.0.7 10.0.0.8 51000 27017\r\n");
    for kind in ["looks_like_http", "looks_like_tls", "looks_like_proxy_header"] {
        tollgate.wait_for_metric("tollgate_violations_total", &[("kind", kind)], 1.0);
    }
}

#[test]
fn a_service_that_is_not_mongodb_is_reported_at_once() {
    let server = Scripted::start(|peer| {
        peer.message();
        peer.send(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    let tollgate = Tollgate::mongo(server.address());
    for hello in [
        op_msg(7, &doc! { "hello": 1, "$db": "admin" }),
        op_query(7, "admin.$cmd", &doc! { "ismaster": 1 }),
    ] {
        let mut client = RawClient::connect(tollgate.listener("db"));
        let answer = client.round_trip(&hello);
        assert_eq!(answer.answers(), 7);
        let words = answer.document().get_str("errmsg").unwrap().to_owned();
        let expected =
            format!("endpoint {} of `db` does not speak mongo: looks_like_http", server.address());
        assert_eq!(words, expected);
        assert_eq!(client.read_until_close(), b"");
    }
    let labels = [("reason", "upstream_violation")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 2.0);
}

#[test]
fn rejected_names_make_no_series() {
    let refusal = doc! {
        "ok": 0.0, "errmsg": "not authorized", "code": 13, "codeName": "Unauthorized",
    };
    let server = Scripted::answering(move |message| reply_to(message, &refusal));
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let mut ask = |from: i32, to: i32| {
        // Names that follow no order, so that nothing can be made of what they share.
        let name = |n: i32| format!("c{:08x}", (n as u32).wrapping_mul(2_654_435_761));
        for start in (from..to).step_by(100) {
            let batch = start..to.min(start + 100);
            let requests: Vec<u8> =
                batch.clone().flat_map(|n| op_msg(n, &find(&name(n)))).collect();
            client.send(&requests);
            batch.for_each(|n| assert_eq!(client.read().answers(), n));
        }
    };
    let counted = |total: f64| {
        let labels = [("operation", "find"), ("resource", "other"), ("outcome", "rejected")];
        tollgate.wait_for_metric("tollgate_operations_total", &labels, total);
        let samples = tollgate.metrics();
        samples.iter().filter(|sample| sample.name.starts_with("tollgate_")).count()
    };
    ask(0, 100);
    let few = counted(100.0);
    ask(100, 100_000);
    assert_eq!(counted(100_000.0), few);
    assert!(!tollgate.get("/metrics").1.contains("shop.c"), "a stranger's words in a label");
}

/// Asks once, before a server that does this, and returns the log's line about it.
fn asked(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Value {
    let server = Scripted::start(script);
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&op_msg(7, &find("orders")));
    client.read_until_close();
    let line = tollgate.logged(1, |line| line["operation"] == "find").remove(0);
    tollgate.wait_for_metric("tollgate_operations_active", &[], 0.0);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    line
}

#[test]
fn a_server_that_leaves_without_a_word_loses_the_operation() {
    let line = asked(|peer| drop(peer.message()));
    assert_eq!(line["outcome"], "lost", "{line}");
    assert!(line["reason"].is_string(), "{line}");
}

#[test]
fn a_reply_without_a_request_settles_nothing() {
    let line = asked(|peer| {
        peer.message();
        peer.send(&op_msg_reply(9, 999, &doc! { "ok": 1.0 }));
    });
    assert_eq!(line["outcome"], "lost", "{line}");
}

#[test]
fn a_reply_cut_short_loses_the_operation() {
    let line = asked(|peer| {
        let Some(message) = peer.message() else { return };
        let reply = reply_to(&message, &doc! { "text": "x".repeat(1000), "ok": 1.0 });
        peer.send(&reply[..reply.len() / 2]);
    });
    assert_eq!(line["outcome"], "lost", "{line}");
}

#[test]
fn a_client_that_closes_cancels_its_operation() {
    let server = Scripted::start(Peer::silence);
    let tollgate = Tollgate::mongo(server.address());
    let message = op_msg(7, &find("orders"));
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&message);
    server.bytes(message.len());
    drop(client);
    let line = tollgate.logged(1, |line| line["operation"] == "find").remove(0);
    assert_eq!(line["outcome"], "cancelled", "{line}");
    server.wait("the close", |all| all.iter().all(|one| one.closed));
}

#[test]
fn an_unreachable_server_closes_the_connection() {
    let tollgate = Tollgate::mongo(support::free_address());
    for _ in 0..20 {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.try_send(&op_msg(7, &find("orders")));
        client.read_until_close();
    }
    let reason = [("listener", "db"), ("reason", "connect_failed")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 20.0);
    // It is said, but not twenty times: once a minute and worker.
    let said = tollgate.stderr().matches("accepted a connection").count();
    assert!((1..20).contains(&said), "{said} times:\n{}", tollgate.stderr());
    let refused = [("cluster", "db"), ("result", "refused")];
    assert!(tollgate.metric("tollgate_upstream_connect_total", &refused) >= 1.0);
}

#[test]
fn a_bomb_behind_a_good_request_closes_the_connection_too() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let (mut client, _) = RawClient::offering(tollgate.listener("db"));
    client.round_trip(&op_msg(1, &find("orders")));
    let bomb = compressed_claiming(&op_msg(2, &find("orders")), Compressor::Zlib, i32::MAX);
    client.try_send(&bomb);
    assert!(client.read_until_close().is_empty());
    let reason = [("listener", "db"), ("reason", "client_violation")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &reason, 1.0);
}

#[test]
fn names_before_a_log_in_make_no_metrics() {
    // As a server that demands a login: anybody may ask who it is, and nothing more.
    let server = Scripted::answering(|m| match m.document() {
        asked
            if asked.contains_key("find")
                && asked.get_str("comment").ok() != Some("known.site") =>
        {
            reply_to(m, &doc! { "ok": 0.0, "code": 13, "codeName": "Unauthorized" })
        }
        _ => reply_to(m, &doc! { "ok": 1.0 }),
    });
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let known = doc! { "find": "orders", "comment": "known.site", "$db": "shop" };
    client.command(1, &known);
    client.command(2, &doc! { "find": "orders", "comment": "invented.site", "$db": "shop" });
    client.command(3, &doc! { "hello": 1, "$db": "invented_hello" });
    client.command(4, &doc! { "ping": 1, "$db": "invented_ping" });
    client.command(5, &known);
    let site = [("callsite", "known.site"), ("resource", "shop.orders")];
    tollgate.wait_for_metric("tollgate_callsite_operations_total", &site, 2.0);
    tollgate.wait_for_metric("tollgate_operations_total", &[("operation", "ping")], 1.0);
    let (_, metrics) = tollgate.get("/metrics");
    let invented: Vec<_> = metrics.lines().filter(|line| line.contains("invented")).collect();
    assert!(invented.is_empty(), "{invented:#?}");
}

#[test]
fn an_impossible_number_of_documents_is_harmless() {
    let server = Scripted::answering(|m| {
        let most = i64::MAX;
        reply_to(m, &doc! { "n": most, "nInserted": most, "nUpserted": most, "ok": 1.0 })
    });
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let insert = doc! { "insert": "orders", "documents": [{ "_id": 1 }], "$db": "shop" };
    for id in 1..3 {
        client.command(id, &insert);
    }
    let lines = tollgate.logged(2, |line| line["operation"] == "insert");
    assert_eq!(lines[1]["documents"], u64::MAX);
}
