//! A client's heads, as the HTTP/1 engine and as the validator read them.
#![no_main]

#[path = "../../protocols/http/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _ = targets::heads(bytes));
