//! Each file: how long it may be, where it lies, and how it begins.

use crate::walk::{FOLDERS, code, names, production_sources, read, root, shown, sources};

/// How many lines of code a file may have, tests and comments not counted.
const LONGEST: usize = 400;

#[test]
fn no_file_is_longer_than_a_person_can_hold() {
    let mut wrong = Vec::new();
    for path in production_sources(&FOLDERS) {
        let lines = code(&read(&path)).len();
        if lines > LONGEST {
            wrong.push(format!("{} has {lines} lines of code", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_module_lies_beside_its_folder() {
    // What the tests share has to be `tests/support/mod.rs`: beside it, Cargo would run it.
    for path in FOLDERS.iter().flat_map(|folder| sources(folder)) {
        assert_ne!(path.file_name().unwrap(), "mod.rs", "{}", shown(&path));
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in FOLDERS.iter().chain(&["tests"]).flat_map(|folder| sources(folder)) {
        if path.ends_with("tests.rs") {
            continue; // For the file that it lies beside.
        }
        assert!(read(&path).starts_with("//! "), "{} does not open with `//!`", shown(&path));
    }
}

#[test]
fn every_metric_of_the_table_is_recorded_somewhere() {
    let [table, constants] =
        ["table.rs", "table/names.rs"].map(|file| root().join("crates/metrics/src").join(file));
    let files = production_sources(&["src", "crates"]);
    let others = files.iter().filter(|path| **path != table && **path != constants);
    let others: Vec<String> = others.map(|path| code(&read(path)).join("\n")).collect();
    let constants = read(&constants);
    let constants = constants.lines().filter_map(|line| line.strip_prefix("pub const "));
    let constants: Vec<_> = constants.filter_map(|rest| rest.split_once(": &str")).collect();
    assert!(constants.len() > 30, "{constants:?}");
    for (name, _) in constants {
        assert!(others.iter().any(|text| names(text, name)), "no code records {name}");
    }
}
