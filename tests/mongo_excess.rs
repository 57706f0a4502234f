//! Nesting and numbers without measure: read as far as needed, bounded, without effect on others.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use support::{
    client::RawClient,
    scripted::{Scripted, reply_to},
    tollgate::{Tollgate, mongo_config, program},
    wire::{self, Compressor, OP_MSG, message, op_msg},
};

const MIB: u64 = 1 << 20;

fn find(collection: &str) -> Document {
    doc! { "find": collection, "filter": {}, "$db": "shop" }
}

#[test]
fn what_is_compressed_twice_is_inflated_not_even_once() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let (mut client, mut sent) = RawClient::offering(tollgate.listener("db"));
    for (n, inner) in (1..).zip(Compressor::ALL) {
        let once = wire::compressed(&op_msg(n, &find("hidden")), inner);
        for outer in Compressor::ALL {
            let twice = wire::compressed(&once, outer);
            client.round_trip(&twice);
            sent.extend(twice);
        }
    }
    let good = op_msg(99, &find("orders"));
    assert_eq!(client.round_trip(&good).answers(), 99);
    sent.extend(good);
    assert_eq!(server.bytes(sent.len()), sent);
    let labels = [("listener", "db"), ("kind", "nested_compression")];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, 9.0);
    assert_eq!(tollgate.logged(1, |line| line["operation"] == "find").len(), 1);
    assert!(!tollgate.access_log_text().contains("hidden"));
}

/// `{a: {a: {…}}}`, of this many levels.
fn nested(depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for level in (1..=depth).rev() {
        out.extend((5 + 8 * level as i32).to_le_bytes());
        out.extend(b"\x03a\0");
    }
    out.extend([5, 0, 0, 0, 0]);
    out.resize(out.len() + depth, 0);
    out
}

/// `{first: "orders", key: …, $db: "shop"}` in a message, with this document under `key`.
fn around(id: i32, answers: i32, first: &str, key: &str, document: &[u8]) -> Vec<u8> {
    let mut fields = format!("\x02{first}\0\x07\0\0\0orders\0\x03{key}\0").into_bytes();
    fields.extend(document);
    fields.extend(b"\x02$db\0\x05\0\0\0shop\0\x01ok\0\0\0\0\0\0\0\xf0\x3f");
    let mut inside = vec![0; 5];
    inside.extend((5 + fields.len() as i32).to_le_bytes());
    inside.extend(fields);
    inside.push(0);
    message(id, answers, OP_MSG, &inside)
}

#[test]
fn documents_of_any_depth_are_stepped_over() {
    // A server takes 200 levels; the proxy neither counts them nor follows them.
    let depths = [200, 5_000, 500_000];
    let server = Scripted::answering(move |asked| {
        let depth = depths[asked.id() as usize];
        around(1_000, asked.id(), "text", "cursor", &nested(depth))
    });
    // With the query in the log, which is read deeper than all else.
    let tollgate =
        Tollgate::start_as(program(), "slower_than: 0.001ms", &mongo_config(server.address(), ""));
    let before = tollgate.peak_memory();
    let mut client = RawClient::connect(tollgate.listener("db"));
    for (id, depth) in (0..).zip(depths) {
        for key in ["filter", "comment", "lsid"] {
            let reply = client.round_trip(&around(id, 0, "find", key, &nested(depth)));
            assert!(reply.0 == around(1_000, id, "text", "cursor", &nested(depth)), "{depth}");
        }
    }
    let lines = tollgate.logged(9, |line| line["operation"] == "find");
    assert!(lines.iter().all(|line| line["outcome"] == "ok"), "{lines:?}");
    // `$db` of the deepest lies far behind what is read at first, and is learned as it passes.
    assert!(lines.iter().all(|line| line["resource"] == "shop.orders"), "{lines:?}");
    tollgate.wait_for_metric("tollgate_violations_total", &[], 0.0);
    assert!(tollgate.peak_memory() - before < 16 * MIB, "depth in memory");
}

#[test]
fn a_million_tiny_messages_delay_no_other_client() {
    const MESSAGES: usize = 1_000_000;
    const STRANGE: i32 = 9_999;
    let server = Scripted::start(|peer| {
        while let Some(asked) = peer.message() {
            if asked.opcode() == STRANGE {
                return peer.silence();
            }
            peer.send(&reply_to(&asked, &doc! { "ok": 1.0 }));
        }
    });
    let config = format!("workers: 1\n{}", mongo_config(server.address(), ""));
    let tollgate = Tollgate::start_as(program(), "slower_than: 1h", &config);
    let address = tollgate.listener("db");
    let mut honest = RawClient::connect(address);
    honest.command(1, &find("orders"));
    let before = tollgate.peak_memory();

    let over = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut client = RawClient::connect(address);
            let thousand = message(7, 0, STRANGE, &[]).repeat(1_000);
            (0..MESSAGES / 1_000).for_each(|_| client.send(&thousand));
            over.store(true, Ordering::Relaxed);
            client
        }
    });
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        honest.command(2 + answered, &find("orders"));
        answered += 1;
    }
    let flood = flood.join().unwrap();
    assert!(answered >= 20, "{answered} answers beside a flood on the same worker");
    let strange = [("listener", "db"), ("operation", "other")];
    tollgate.wait_for_metric("tollgate_operations_total", &strange, MESSAGES as f64);
    let finds = [("listener", "db"), ("operation", "find")];
    tollgate.wait_for_metric("tollgate_operations_total", &finds, f64::from(answered + 1));
    assert!(tollgate.peak_memory() - before < 16 * MIB, "a flood in memory");
    drop(flood);
}
