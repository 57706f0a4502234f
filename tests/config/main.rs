//! Good configs are read, bad ones are reported with a place, a snippet and a hint, and the
//! schema that editors use agrees with both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

mod fuzzed;
mod includes;
mod plan;
mod policies;
mod rejected;
mod schema;
mod sources;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Set this to write what `tollgate check` prints now into the fixtures.
const REWRITE: &str = "REWRITE_FIXTURES";

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_bad_config_has_its_golden_problems() {
    let files = fixtures("bad");
    assert!(files.len() >= 28, "{}", files.len());
    for path in files {
        let problems = config::load(&path).expect_err(&path.display().to_string());
        // The path as it was typed leads each problem; the fixture has the file's name alone.
        let folder = format!("{}/", path.parent().unwrap().display());
        let printed = format!("{problems}\n").replace(&folder, "");
        let expected = path.with_extension("txt");
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&expected, &printed).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap();
        assert_eq!(printed, expected, "{}: {REWRITE}=1 writes it anew", path.display());
    }
}

#[test]
fn every_good_config_is_read() {
    let files = fixtures("good");
    assert!(files.len() >= 5, "{}", files.len());
    for path in files {
        if let Err(problems) = config::load(&path) {
            panic!("{problems}");
        }
    }
}

#[test]
fn a_shown_plan_reads_back_as_itself() {
    for path in fixtures("good") {
        let shown = config::load(&path).unwrap().to_json();
        let again = config::parse("shown", &shown.to_string()).unwrap();
        assert_eq!(again.to_json(), shown, "{}", path.display());
    }
}
