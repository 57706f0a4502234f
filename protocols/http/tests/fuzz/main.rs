//! Replays the validator's fuzz corpus without the fuzzer.

#![allow(clippy::print_stdout, reason = "that tells which input failed")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../support/corpus.rs"]
mod corpus;
mod targets;

#[test]
fn whatever_a_client_says_is_screened_alike_whole_and_cut() {
    for case in corpus::cases() {
        println!("{}", case.name);
        targets::screen(&case.bytes);
        targets::heads(&case.bytes);
        targets::response(&case.bytes);
    }
}
