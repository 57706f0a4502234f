//! Any text as a config.
#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/config/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|text: &str| target::read(text));
