//! Replays the inputs that are kept for the fuzz target, and some that are made of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]
#![allow(clippy::print_stdout, reason = "that tells which input failed")]

mod targets;

use std::{fs, path::PathBuf};

#[test]
fn any_header_gives_one_result_whole_and_cut() {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fuzz/proxy_header");
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to replay");
    let mut random = fastrand::Rng::with_seed(16);
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        let bytes = fs::read(path).unwrap();
        targets::header(&bytes);
        for _ in 0..500 {
            let mut changed = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            targets::header(&changed);
        }
    }
}
