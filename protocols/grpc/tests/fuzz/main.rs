//! What fuzzing found, and the inputs that reach the most code, are survived once more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]
#![allow(clippy::expect_used, reason = "that is how a test fails")]
#![allow(clippy::print_stdout, reason = "that tells which input failed")]

mod targets;

use std::{fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Gives a target every input that is kept for it.
fn replay(name: &str, target: fn(&[u8])) {
    let kept = root().join("fixtures/fuzz").join(name);
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to play again");
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        target(&fs::read(path).unwrap());
    }
}

#[test]
fn frames_are_taken_out_alike_whole_and_cut() {
    replay("grpc_frames", targets::frames);
}

#[test]
fn any_json_request_is_read_as_others_read_it_or_rejected() {
    replay("grpc_json_request", targets::json_request);
}

#[test]
fn any_message_is_written_as_others_write_it_or_an_error() {
    replay("grpc_json_answer", targets::json_answer);
}

#[test]
fn whatever_a_browser_says_passes_alike_whole_and_cut() {
    replay("grpc_web", targets::browser);
}
