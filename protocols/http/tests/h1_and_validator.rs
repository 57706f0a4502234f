//! What the HTTP/1 engine takes for a complete head, the validator takes alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/mutations.rs"]
mod mutations;
#[allow(dead_code, reason = "shared with the fuzzer")]
#[path = "fuzz/targets.rs"]
mod targets;

use mutations::Mutations;
use targets::heads;

/// Number of connections, unless the environment variable `SCREEN_MUTATIONS` is set.
const MUTATIONS: u64 = 100_000;

#[test]
fn the_corpus_is_read_as_by_the_validator() {
    let cases = corpus::cases();
    let read: Vec<_> = cases.iter().map(|case| heads(&case.bytes)).collect();
    let accepted = read.iter().filter(|heads| **heads > 0).count();
    assert!(accepted > 20, "{accepted} cases begin with a usual head");
}

#[test]
fn mutated_connections_are_read_as_by_the_validator() {
    let wanted = std::env::var("SCREEN_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let mutations = Mutations::of(corpus::cases());
    let mut read = 0;
    for seed in 0..wanted.unwrap_or(MUTATIONS) {
        let mut random = fastrand::Rng::with_seed(seed);
        read += heads(&mutations.connection(&mut random));
    }
    println!("{read} heads");
    assert!(read as u64 > wanted.unwrap_or(MUTATIONS) / 20, "{read} heads");
}
