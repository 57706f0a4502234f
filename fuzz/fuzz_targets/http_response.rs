//! A service's answer to the HTTP/1 engine.
#![no_main]

#[path = "../../protocols/http/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::response(bytes));
