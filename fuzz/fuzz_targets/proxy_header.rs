//! Anything where a PROXY header is expected.
#![no_main]

#[path = "../../crates/proxy-protocol/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::header(bytes));
