//! Anything in a compressed message.
#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../protocols/mongo/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::decompress(bytes));
