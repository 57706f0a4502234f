//! The evidence that the threat model names is there: every test and every fuzz target.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const PAGE: &str = include_str!("../../docs/threat-model.md");

/// Every Rust file of this repository, and the files of tests by their paths.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The words in backquotes in the last column of the page's tables.
fn evidence() -> Vec<&'static str> {
    let rows =
        PAGE.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 3);
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The names of a file's tests: of its functions that the attribute stands before.
fn tests(text: &str) -> Vec<String> {
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split_once('('));
            found.extend(name.filter(|_| is_test).map(|(name, _)| name.to_owned()));
            is_test = false;
        }
    }
    found
}

#[test]
fn every_test_and_target_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "tests", "protocols", "crates"]
        .iter()
        .for_each(|part| sources(&root.join(part), &mut files));
    let mut names = BTreeSet::new();
    for file in files {
        names.extend(tests(&fs::read_to_string(file).unwrap()));
    }
    for target in fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap() {
        let path = target.unwrap().path();
        names.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    let evidence = evidence();
    assert!(evidence.len() > 40, "{} pieces of evidence", evidence.len());
    let commands = ["cargo deny check"];
    for name in evidence.into_iter().filter(|name| !commands.contains(name)) {
        assert!(names.contains(name), "{name} is no test and no fuzz target");
    }
}

#[test]
fn every_file_of_tests_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = PAGE.split(|c: char| c.is_whitespace() || ",;".contains(c));
    let paths: Vec<&str> = words.filter(|word| word.starts_with("tests/")).collect();
    assert!(paths.len() >= 5);
    for path in paths {
        assert!(root.join(path.trim_end_matches('.')).exists(), "{path}");
    }
}
