//! Two ends of a TLS connection, and a host between them that changes their records.
#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../crates/tls/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::records(bytes));
