//! `contract/` lists every name that users build on. docs/stability.md says what that promises.
//!
//! `UPDATE_CONTRACT=1 cargo test --test docs contract` writes the files. It refuses to drop or change a line that
//! the Unreleased section of CHANGELOG.md does not name under `### Breaking`.

use crate::{access_log, configuration, first_column, metrics, path, read};
use std::{collections::BTreeSet, env, fs, process::Command};
use tollgate_metrics::table::{Metric, TABLE};

/// The lines of `old` that `new` lacks and that the changelog does not announce as breaking.
///
/// A line is announced if its name, the part before the first two spaces, stands in backquotes under `### Breaking`
/// in the section `## Unreleased`.
fn unannounced<'l>(old: &'l str, new: &str, changelog: &str) -> Vec<&'l str> {
    let kept: BTreeSet<&str> = new.lines().collect();
    let unreleased = changelog.split("\n## ").find(|section| section.starts_with("Unreleased"));
    let breaking = unreleased.and_then(|section| section.split("\n### Breaking\n").nth(1));
    let breaking = breaking.and_then(|text| text.split("\n### ").next()).unwrap_or_default();
    let announced = |line: &str| {
        let name = line.split("  ").next().unwrap_or(line);
        breaking.contains(&format!("`{name}`"))
    };
    old.lines().filter(|line| !kept.contains(line) && !announced(line)).collect()
}

/// Compares a file of `contract/` with what the code has, or rewrites it.
pub(crate) fn holds(file: &str, lines: &[String]) {
    let file = path("contract").join(file);
    let old = fs::read_to_string(&file).unwrap_or_default();
    let new: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if old == new {
        return;
    }
    if env::var_os("UPDATE_CONTRACT").is_none_or(|value| value != "1") {
        let (had, has): (BTreeSet<_>, BTreeSet<_>) = (old.lines().collect(), new.lines().collect());
        panic!(
            "{} differs from the code: run UPDATE_CONTRACT=1 cargo test --test docs contract\n\
             only in the file: {:#?}\nonly in the code: {:#?}",
            file.display(),
            had.difference(&has),
            has.difference(&had)
        );
    }
    let changelog = read("CHANGELOG.md");
    let gone = unannounced(&old, &new, &changelog);
    assert!(
        gone.is_empty(),
        "{} loses lines that CHANGELOG.md does not name under `### Breaking` in `## Unreleased`: {gone:#?}",
        file.display()
    );
    fs::create_dir_all(path("contract")).unwrap();
    fs::write(file, new).unwrap();
}

#[test]
fn a_line_may_go_only_if_the_changelog_names_it_as_breaking() {
    let (old, new) = ("a.b  text\na.c  text\nd  number\n", "a.b  text\na.c  number\n");
    let log =
        |breaking: &str| format!("# Log\n\n## Unreleased\n\nNew.\n{breaking}\n## 0.1.0\n\n`d`\n");
    assert_eq!(unannounced(old, new, &log("")), ["a.c  text", "d  number"]);
    assert_eq!(unannounced(old, new, &log("\n### Breaking\n\n- `d` is gone.\n")), ["a.c  text"]);
    let both = "\n### Breaking\n\n- `d` is gone, and `a.c` is a number.\n";
    assert_eq!(unannounced(old, new, &log(both)), Vec::<&str>::new());
    assert_eq!(unannounced(old, old, &log("")), Vec::<&str>::new());
}

#[test]
fn config() {
    holds("config.txt", &configuration::keys());
}

#[test]
fn metrics() {
    let mut metrics = [TABLE.to_vec(), metrics::of_protocols()].concat();
    metrics.sort_by_key(|metric| metric.name);
    let line = |metric: &Metric| {
        let Metric { name, kind, unit, labels, .. } = metric;
        let line = format!("{name}  {}  {unit}  {}", kind.as_str(), labels.join(","));
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = metrics.iter().map(line).collect();
    holds("metrics.txt", &lines);
}

#[test]
fn access_log() {
    let page = read(access_log::PAGE);
    let fields = first_column(access_log::part(&page, "Fields"));
    holds("access_log.txt", &fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
}

#[test]
fn reasons() {
    let page = read(access_log::PAGE);
    let words = |heading: &str, kind: &str| -> Vec<String> {
        let words = first_column(access_log::part(&page, heading));
        words.iter().map(|word| format!("{kind} {word}")).collect()
    };
    let kinds = [("Outcomes", "outcome"), ("Reasons", "reason"), ("Flags", "flag")];
    let mut lines: Vec<String> =
        kinds.iter().flat_map(|(heading, kind)| words(heading, kind)).collect();
    let events = read("docs/reliability.md");
    let events = first_cells(access_log::part(&events, "Events"));
    assert_eq!(events.iter().copied().collect::<BTreeSet<_>>(), events_of_the_code());
    lines.extend(events.iter().map(|event| format!("event {event}")));
    holds("reasons.txt", &lines);
}

/// The names that `Event::name` returns.
fn events_of_the_code() -> BTreeSet<&'static str> {
    let code = include_str!("../../crates/cluster/src/events.rs");
    let (_, code) = code.split_once("fn name(&self) -> &'static str {").unwrap();
    let (code, _) = code.split_once("\n    }\n").unwrap();
    code.split('"').skip(1).step_by(2).collect()
}

/// Every word in backquotes in the first cell of a table's rows.
fn first_cells(part: &str) -> Vec<&str> {
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|word| !word.is_empty()).collect()
}

/// The commands, arguments and options that `tollgate help` lists, each with its default and its values.
#[test]
fn command_line() {
    let help = |command: &str| {
        let arguments = [command, "-h"].into_iter().filter(|argument| !argument.is_empty());
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help("");
    let commands = top.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.split_whitespace().next());
    let mut lines = Vec::new();
    for command in commands.filter(|command| *command != "help") {
        lines.push(format!("tollgate {command}"));
        for line in help(command).lines() {
            let line = line.trim_start();
            let Some(name) = line.split("  ").next().filter(|it| it.starts_with(['-', '<', '[']))
            else {
                continue;
            };
            let notes = line.split('[').skip(1).filter_map(|rest| rest.split(']').next());
            let notes = notes.filter(|it| it.starts_with("default") || it.starts_with("possible"));
            let notes: Vec<&str> = notes.collect();
            let line = format!("tollgate {command} {name}  {}", notes.join("  "));
            lines.push(line.trim_end().to_owned());
        }
    }
    holds("command_line.txt", &lines);
}
