//! Anything where gRPC's frames should be.
#![no_main]

#[path = "../../protocols/grpc/tests/fuzz/targets.rs"]
#[allow(dead_code, reason = "each target calls one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::frames(bytes));
