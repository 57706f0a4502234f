//! What is compressed: only as it was agreed on, and by decoders whose memory is bounded.

use crate::{
    find, guarded_with,
    support::{
        client::RawClient,
        scripted::Scripted,
        tollgate::Tollgate,
        wire::{self, Compressor, compressed, op_msg},
    },
};
use bson::doc;
use std::io::Write;

#[test]
fn compression_that_was_not_negotiated_bypasses_no_policy() {
    let server = Scripted::agreeing();
    let policies = "  - { name: closed, match: { resource: 'audit.*' }, deny: {} }\n";
    let tollgate = Tollgate::mongo_guarded(server.address(), "", policies);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let message = compressed(&op_msg(1, &find("orders", "shop", 10)), Compressor::Zstd);
    assert_eq!(client.round_trip(&message).document().get_i32("code").unwrap(), 13);
    let labels = [("listener", "db"), ("kind", "compression_not_negotiated")];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, 1.0);
}

#[test]
fn decoders_are_bounded_before_a_log_in() {
    // If a policy guards, a client that cannot be read for lack of room is closed.
    let dry = "  - { name: dry, match: { operation: drop }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("", dry);
    let before = guarded.tollgate.peak_memory();
    let long = op_msg(
        1,
        &doc! { "insert": "c", "documents": [{ "x": "\0".repeat(40_000_000) }], "$db": "d" },
    );
    // A window as large as it may be, and a frame behind it that only says how long it is: the
    // decoder waits for the rest of that.
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    zstd.set_parameter(zstd::zstd_safe::CParameter::WindowLog(23)).unwrap();
    zstd.write_all(&long[16..]).unwrap();
    let mut packed = zstd.finish().unwrap();
    packed.extend(0x184D_2A50_u32.to_le_bytes());
    packed.extend(250_000_u32.to_le_bytes());
    let mut message = wire::packed(&long, 3, long.len() as i32 - 16, &packed);
    let claimed = (message.len() as i32 + 250_000).to_le_bytes();
    message[..4].copy_from_slice(&claimed);
    message.resize(100_000, 0);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let (mut client, _) = RawClient::offering(guarded.tollgate.listener("db"));
        client.send(&message);
        waiting.push(client);
    }
    let labels = [("listener", "db")];
    guarded.tollgate.wait_for_metric("tollgate_operations_active", &labels, 40.0);
    let taken = guarded.tollgate.peak_memory() - before;
    assert!(taken < 130 << 20, "{taken} bytes for 40 decoders");
    guarded.passes(&op_msg(9, &doc! { "ping": 1, "$db": "admin" }));
}
