//! The command line: what each command prints, its exit code, and what is never said.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod explain;
mod hints;
mod proxied;
mod secrets;
mod top;
mod variables;

use serde_json::Value;
use std::{net::TcpListener, path::PathBuf};
use support::{
    ends::Upstream,
    tollgate::{CommandOutput, output_of, program, tcp_config},
};

/// A config file that goes away with the test.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tollgate.yaml"), text).unwrap();
        Self(directory)
    }

    fn path(&self) -> String {
        self.0.path().join("tollgate.yaml").display().to_string()
    }
}

fn fixture(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("fixtures/config").join(name).display().to_string()
}

/// Asserts that it failed with this code, and said all of these words on stderr.
fn failed(output: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for word in words {
        assert!(output.err.contains(word), "no {word:?} in {output:?}");
    }
    assert!(!output.err.contains("panicked"), "{output:?}");
}

const COMMANDS: [&str; 6] = ["run", "check", "proxy", "demo", "schema", "top"];

#[test]
fn the_help_names_every_command() {
    let help = output_of(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        assert!(help.out.contains(&format!("\n  {command} ")), "no {command} in {help:?}");
        let help = output_of(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.out.contains(&format!("Usage: tollgate {command}")), "{help:?}");
    }
    assert!(output_of(&["--version"]).out.starts_with("tollgate "));
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    failed(&output_of(&[]), 2, &["Usage: tollgate"]);
    failed(&output_of(&["gibberish"]), 2, &["gibberish", "Usage"]);
    failed(&output_of(&["proxy", "tcp", ":1"]), 2, &["UPSTREAM"]);
    failed(&output_of(&["check", "--format", "xml"]), 2, &["text", "json"]);
    failed(&output_of(&["demo", "--duration", "soon"]), 2, &["soon"]);
}

#[test]
fn a_valid_config_is_ok_and_opens_no_connection() {
    // Everything that a run would touch: a taken port, a server, a name that doesn't exist.
    let (taken, upstream) = (Upstream::start(), Upstream::start());
    let config = tcp_config(upstream.address(), "")
        .replace("127.0.0.1:0", &taken.address().to_string())
        .replace("endpoints: [", "endpoints: [\"nowhere.invalid:1\", ");
    let file = File::new(&config);
    let check = output_of(&["check", "-c", &file.path()]);
    assert_eq!((check.code, check.out.as_str(), check.err.as_str()), (Some(0), "ok\n", ""));
    let check = output_of(&["check", "--format", "json", "-c", &file.path()]);
    assert_eq!((check.code, check.out.as_str()), (Some(0), "[]\n"));
    assert!(!upstream.was_called() && !taken.was_called());
}

#[test]
fn a_config_may_come_by_stdin() {
    let good = std::fs::File::open(fixture("good/minimal.yaml")).unwrap();
    let check = program().args(["check", "-c", "-"]).stdin(good).output().unwrap();
    assert!(check.status.success() && check.stdout.starts_with(b"ok\n"), "{check:?}");
    let bad = std::fs::File::open(fixture("bad/unknown_key.yaml")).unwrap();
    let check = program().args(["check", "-c", "-"]).stdin(bad).output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(text.starts_with("stdin:5:5: unknown key `clustr`"), "{text}");
}

#[test]
fn a_bad_config_is_reported_with_position_and_hint() {
    let path = fixture("bad/unknown_key.yaml");
    let check = output_of(&["check", "-c", &path]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.starts_with(&format!("{path}:5:5: unknown key `clustr`")), "{check:?}");
    assert!(check.out.contains("hint: "), "{check:?}");
    // `run` reports the same, in another place.
    failed(&output_of(&["run", "-c", &path]), 1, &[check.out.trim_end()]);
}

#[test]
fn a_bad_config_is_reported_as_json() {
    let path = fixture("bad/many_at_once.yaml");
    let check = output_of(&["check", "--format", "json", "-c", &path]);
    assert_eq!(check.code, Some(1), "{check:?}");
    let problems: Vec<Value> = serde_json::from_str(&check.out).unwrap();
    assert!(problems.len() > 2, "{problems:?}");
    for problem in problems {
        assert_eq!(problem["file"], path);
        assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{problem}");
        assert!(!problem["message"].as_str().unwrap().is_empty(), "{problem}");
    }
}

#[test]
fn paths_in_a_config_are_relative_to_the_working_folder() {
    let config = File::new(
        "listeners:\n  rpc: { address: \":9090\", cluster: a, protocol: { grpc: { transcode: { \
         descriptors: set.binpb } } } }\nclusters: { a: { endpoints: [a:1] } }\n",
    );
    let here = tempfile::tempdir().unwrap();
    let check = || {
        let mut tollgate = program();
        let output = tollgate.current_dir(&here).args(["check", "-c", &config.path()]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(check().contains("`set.binpb` can't be read"), "{}", check());
    std::fs::write(here.path().join("set.binpb"), "found, and no such thing").unwrap();
    assert!(check().contains("`set.binpb` is no descriptor set"), "{}", check());
}

#[test]
fn the_schema_has_every_key_that_a_config_may_have() {
    let schema = output_of(&["schema"]);
    assert_eq!((schema.code, schema.err.as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&schema.out).unwrap();
    let config = std::fs::read_to_string(fixture("good/every_key.yaml")).unwrap();
    let top = config.lines().filter(|line| !line.starts_with([' ', '#']));
    let keys: Vec<&str> = top.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys {
        let description = &schema["properties"][key]["description"];
        assert!(description.as_str().is_some_and(|text| !text.is_empty()), "{key}: {description}");
    }
}

#[test]
fn a_run_without_a_file_says_what_to_do() {
    failed(
        &output_of(&["run", "-c", "/nonexistent.yaml"]),
        1,
        &["/nonexistent.yaml", "hint", "-c"],
    );
}

#[test]
fn an_error_names_what_can_not_be_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let upstream = support::free_address();
    let config = tcp_config(upstream, "");

    let listener = config.replace("127.0.0.1:0", &address);
    let file = File::new(&format!("admin: off\n{listener}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["listener `wire`", &address, "in use"]);

    let file = File::new(&format!("admin: \"{address}\"\n{config}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["admin", &address, "in use"]);

    let log = "access_log: { path: /nonexistent/access.log }";
    let file = File::new(&format!("admin: off\n{log}\n{config}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["access log", "/nonexistent/access.log"]);
}
