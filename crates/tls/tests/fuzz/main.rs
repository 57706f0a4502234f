//! Replays the inputs that are kept for the fuzz targets, and some that are made of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]
#![allow(clippy::print_stdout, reason = "that tells which input failed")]

mod targets;

use std::{fs, path::PathBuf};

/// Gives a target every input that is kept for it, and each of them with some bytes changed.
fn replay(name: &str, target: fn(&[u8])) {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fuzz").join(name);
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to replay");
    let mut random = fastrand::Rng::with_seed(16);
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        let bytes = fs::read(path).unwrap();
        target(&bytes);
        for _ in 0..50 {
            let mut changed = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            target(&changed);
        }
    }
}

#[test]
fn any_first_bytes_give_one_result_whole_and_cut() {
    replay("client_hello", targets::client_hello);
}

#[test]
fn changed_records_deliver_no_changed_bytes() {
    replay("tls_records", targets::records);
}
