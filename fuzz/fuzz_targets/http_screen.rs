//! Anything from a client of HTTP/1.
#![no_main]

#[path = "../../protocols/http/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::screen(bytes));
