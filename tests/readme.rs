//! What the README shows is so: its commands exist, and its first config is small. Its configs are checked with
//! those of all pages, in `tests/docs/prose.rs`.

use std::process::Command;

const README: &str = include_str!("../README.md");

/// The fenced blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_smallest_config_is_small() {
    assert!(blocks("yaml")[0].lines().count() < 8);
}

#[test]
fn every_command_in_the_readme_exists() {
    let help = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for row in README.lines().filter_map(|line| line.strip_prefix("| `tollgate ")) {
        let command = row.split([' ', '`']).next().unwrap();
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
}
