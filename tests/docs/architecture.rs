//! ARCHITECTURE.md maps every crate and every top-level module of `src/`, and names only files that exist.

use crate::{path, read};
use std::{collections::BTreeSet, fs};

const PAGE: &str = "ARCHITECTURE.md";

/// The words in backquotes in this text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first column of the map.
fn mapped() -> BTreeSet<String> {
    let page = read(PAGE);
    let (_, map) = page.split_once("\n## The map\n").unwrap();
    let map = map.split("\n## ").next().unwrap();
    let cells = map.lines().filter(|line| line.starts_with("| `"));
    cells.flat_map(|row| quoted(row.split(" | ").next().unwrap())).map(str::to_owned).collect()
}

#[test]
fn the_map_has_every_crate_and_every_top_level_module() {
    let folders = ["crates", "protocols"].into_iter().flat_map(|parent| {
        let entries = fs::read_dir(path(parent)).unwrap().map(|entry| entry.unwrap());
        let crates = entries.filter(|entry| entry.path().join("Cargo.toml").exists());
        crates.map(move |entry| format!("{parent}/{}", entry.file_name().to_str().unwrap()))
    });
    let library = read("src/lib.rs");
    let modules = library.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let wanted: BTreeSet<String> =
        folders.chain(modules.map(|module| format!("src/{module}"))).collect();
    let mapped = mapped();
    assert!(wanted.len() > 15, "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&mapped).collect();
    assert!(missing.is_empty(), "the map of {PAGE} lacks {missing:?}");
}

#[test]
fn every_path_on_the_page_exists() {
    let page = read(PAGE);
    let paths: Vec<&str> = quoted(&page)
        .filter(|word| !word.contains(['{', ' ']))
        .filter(|word| {
            ["src/", "crates/", "protocols/", "tests/"].iter().any(|top| word.starts_with(top))
        })
        .collect();
    assert!(paths.len() > 50);
    for word in paths {
        let found = path(word).exists() || path(&format!("{word}.rs")).exists();
        assert!(found, "{PAGE} names {word}, which does not exist");
    }
}
