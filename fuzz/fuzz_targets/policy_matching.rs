//! Any match and any operation.
#![no_main]

#[path = "../../tests/matching/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    target::matching(bytes);
    target::glob(bytes);
});
