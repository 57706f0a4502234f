//! Whether a policy applies is what a slow reference says: on all inputs that fuzzing kept, and on
//! some made by chance.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]
#![allow(clippy::print_stdout, reason = "that tells which input failed")]

mod target;

use std::{fs, path::Path};

#[test]
fn whatever_is_matched_is_matched_as_the_reference_says() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz/policy_matching");
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to play again");
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        let bytes = fs::read(path).unwrap();
        target::matching(&bytes);
        target::glob(&bytes);
    }
}

#[test]
fn what_chance_makes_is_matched_as_the_reference_says() {
    let mut state = 1_u64;
    for seed in 0..4_000 {
        let bytes: Vec<u8> = (0..96)
            .map(|_| {
                // An xorshift: what it gives is the same on every machine.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        println!("{seed}");
        target::matching(&bytes);
        target::glob(&bytes);
    }
}
