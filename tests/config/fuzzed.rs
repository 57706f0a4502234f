//! What fuzzing found, and the inputs that reach the most code, are survived once more.

use super::{fixtures, target};
use std::{fs, path::Path};

#[test]
fn any_text_is_read_or_reported() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz/config");
    let mut paths: Vec<_> = fs::read_dir(kept).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is nothing to play again");
    paths.extend(fixtures("good").into_iter().chain(fixtures("bad")));
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        target::read(&String::from_utf8_lossy(&fs::read(path).unwrap()));
    }
}
