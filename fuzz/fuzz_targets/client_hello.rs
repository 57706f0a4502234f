//! Anything where a ClientHello is expected.
#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../crates/tls/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::client_hello(bytes));
