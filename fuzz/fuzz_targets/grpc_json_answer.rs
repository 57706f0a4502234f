//! Anything from a service that is called with JSON.
#![no_main]

#[path = "../../protocols/grpc/tests/fuzz/targets.rs"]
#[allow(dead_code, reason = "each target calls one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::json_answer(bytes));
