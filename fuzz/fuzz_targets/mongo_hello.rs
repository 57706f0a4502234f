//! Any `hello`, and any reply to one.
#![no_main]

#[path = "../../protocols/mongo/tests/fuzz/hello.rs"]
mod hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hello::hello(bytes));
