//! Anything from a server, after a recorded client's requests.
#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../protocols/mongo/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::server(bytes));
