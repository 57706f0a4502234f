//! The documentation is held to the code: tables are generated, configs parse, names exist.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` rewrites what is generated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod admin;
mod alerts;
mod architecture;
mod configuration;
mod contract;
mod contract_admin;
mod deploy;
mod deploy_tls;
mod faults;
mod metrics;
mod operating;
mod prose;
mod threat_model;
mod troubleshooting;
mod violations;

use std::{fs, path::PathBuf};

/// A file of this repository.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a page with what the code says between `<!-- begin NAME -->` and `<!-- end NAME -->`,
/// or rewrites it.
fn agrees(page: &str, name: &str, generated: &str) {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let text = read(page);
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} lacks {begin}"));
    let (written, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} lacks {end}"));
    let generated = format!("\n{}\n\n", generated.trim());
    if std::env::var_os("UPDATE_DOCS").is_some_and(|wish| wish == "1") {
        fs::write(path(page), format!("{before}{begin}{generated}{end}{after}")).unwrap();
    } else {
        assert!(
            written == generated,
            "{page} is out of date: run UPDATE_DOCS=1 cargo test --test docs\n{generated}"
        );
    }
}

/// The fenced blocks of this language in a page.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .map(str::to_owned)
        .collect()
}

/// The words in backquotes at the front of a table's rows, in this part of a page.
fn first_column(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}
