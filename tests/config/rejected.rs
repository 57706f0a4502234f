//! Files and arguments that are rejected, and how their problems are reported.

use crate::plan::{CLUSTER, listening_on};
use config::{for_proxy, load, parse};

const MAX_FILE: usize = 4 << 20;

#[test]
fn all_wrong_arguments_are_reported() {
    let problems = for_proxy("mongodb", "localhost:1", "db", Some("off")).unwrap_err();
    let printed = problems.to_string();
    for part in ["did you mean `mongo`?", "`localhost` is not an IP", "`db` has no port"] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    assert!(problems.0.iter().all(|problem| problem.line() == 0 && problem.snippet().is_empty()));
}

#[test]
fn problems_are_json_for_machines() {
    let json = listening_on(":99999").unwrap_err().to_json();
    let expected = serde_json::json!([{
        "file": "t.yaml", "line": 1, "column": 28, "message": "there is no port 99999",
        "hint": "ports end at 65535",
    }]);
    assert_eq!(json, expected);
}

#[test]
fn conflicting_listen_addresses_are_reported() {
    let both = |one: &str, other: &str| {
        let listener =
            |address| format!("{{ address: \"{address}\", protocol: tcp, cluster: db }}");
        let (one, other) = (listener(one), listener(other));
        parse("t", &format!("listeners: {{ a: {one}, b: {other} }}\n{CLUSTER}")).is_ok()
    };
    assert!(both("127.0.0.1:1", "127.0.0.1:2"));
    assert!(both("127.0.0.1:1", "127.0.0.2:1"));
    assert!(both(":0", ":0"));
    assert!(both("0.0.0.0:1", "[::1]:1"));
    assert!(!both("127.0.0.1:1", "127.0.0.1:1"));
    assert!(!both("127.0.0.1:1", ":1"));
    assert!(!both("[::]:1", "127.0.0.1:1"));
    assert!(!both("[::1]:1", "[::]:1"));
    assert!(listening_on("127.0.0.1:9901").is_err(), "the admin interface is there by default");
}

#[test]
fn names_are_at_most_64_characters() {
    let named = |length: usize| {
        let name = "n".repeat(length);
        let listener =
            format!("listeners: {{ {name}: {{ address: :0, protocol: tcp, cluster: db }} }}");
        parse("t", &format!("{listener}\n{CLUSTER}")).is_ok()
    };
    assert!(named(64));
    assert!(!named(65));
}

#[test]
fn a_missing_file_is_a_problem_without_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.yaml");
    let problems = load(&path).unwrap_err();
    let printed = problems.to_string();
    assert!(
        printed.starts_with(&format!("{}: can't read this file: No such file", path.display())),
        "{printed}"
    );
    assert_eq!(load(folder.path()).unwrap_err().0.len(), 1, "a folder is no file");
}

#[test]
fn a_file_that_is_too_big_is_rejected_unread() {
    let problems = parse("t", &"#".repeat(MAX_FILE + 1)).unwrap_err();
    assert!(problems.to_string().contains("too big"), "{problems}");
    let problems = parse("t", &"#".repeat(MAX_FILE)).unwrap_err();
    assert!(problems.to_string().contains("the file is empty"), "{problems}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let problems = parse("t", "\u{feff}colour: red\n").unwrap_err();
    let colour = &problems.0[0];
    assert_eq!((colour.line(), colour.column()), (1, 1));
    assert!(problems.to_string().contains("1 | colour: red\n  | ^^^^^^\n"), "{problems}");
}

#[test]
fn thousands_of_problems_are_cut_short() {
    let keys: String = (0..5000).map(|i| format!("nonsense{i}: 1\n")).collect();
    assert_eq!(parse("t", &keys).unwrap_err().0.len(), 100);
}

#[test]
fn a_long_line_is_shown_around_the_place() {
    let text = format!("{{ {}colour: red }}\n", " ".repeat(1000));
    let problem = &parse("t", &text).unwrap_err().0;
    let snippet = problem.iter().find(|it| it.message.contains("colour")).unwrap().snippet();
    assert!(snippet.lines().all(|line| line.len() < 200), "{snippet}");
    let lines: Vec<&str> = snippet.lines().collect();
    let caret = lines[2].find('^').unwrap();
    assert!(lines[1][caret..].starts_with("colour"), "{snippet}");
}

#[test]
fn no_mutilated_config_is_a_panic() {
    let good = include_str!("../../fixtures/config/good/every_key.yaml");
    for (at, _) in good.char_indices().step_by(211) {
        let _ = parse("t", &good[..at]);
        for junk in ["\0", "[", "}", "\t", ": ", "*", "\"", "é"] {
            let (before, after) = good.split_at(at);
            let _ = parse("t", &format!("{before}{junk}{after}")).map_err(|it| it.to_string());
        }
    }
}
