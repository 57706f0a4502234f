//! Objects of a config are compared as they are written, with the files that they read.

use config::{parse, plan::Plan};
use std::{fs, path::Path};

/// Two listeners, two clusters and two policies; the second ones read files of this directory.
fn config(directory: &Path) -> String {
    let at = directory.display();
    format!(
        "admin: off\n\
         listeners:\n  plain: {{ address: \":0\", protocol: tcp, cluster: one }}\n  \
         logins:\n    address: \":0\"\n    cluster: two\n    \
         protocol: {{ mongo: {{ auth: {{ users: [{{ name: web, password_file: {at}/password }}] }} }} }}\n\
         clusters:\n  one: {{ endpoints: [a:1] }}\n  two: {{ endpoints: [b:1], pool: {{}} }}\n\
         policies:\n  - {{ name: own, rate_limit: {{ rate: 5/s }} }}\n  - name: shared\n    \
         rate_limit: {{ rate: 5/s, shared: {{ redis: {{ address: \"r:1\" }}, hash_key_file: {at}/key }} }}\n"
    )
}

/// Which objects differ.
fn changed(before: &Plan, after: &Plan) -> Vec<String> {
    let listeners = before.listeners.iter().zip(&after.listeners);
    let clusters = before.clusters.iter().zip(&after.clusters);
    let policies = before.policies.iter().zip(&after.policies);
    let pairs = listeners.map(|(a, b)| (a.source == b.source, &a.name));
    let pairs = pairs.chain(clusters.map(|(a, b)| (a.source == b.source, &a.name)));
    let pairs = pairs.chain(policies.map(|(a, b)| (a.source == b.source, &a.name)));
    pairs.filter(|(same, _)| !same).map(|(_, name)| name.to_string()).collect()
}

#[test]
fn only_what_is_written_otherwise_has_another_source() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), "pencil\n").unwrap();
    fs::write(directory.path().join("key"), "0123456789abcdef\n").unwrap();
    let text = config(directory.path());
    let plan = parse("t", &text).unwrap();
    assert_eq!(changed(&plan, &parse("t", &format!("# elsewhere\n\n{text}")).unwrap()), [""; 0]);
    for (written, other, name) in [
        ("protocol: tcp, cluster", "protocol: tcp, idle_timeout: 1m, cluster", "plain"),
        ("endpoints: [a:1]", "endpoints: [a:2]", "one"),
        ("own, rate_limit: { rate: 5/s }", "own, rate_limit: { rate: 6/s }", "own"),
    ] {
        assert!(text.contains(written), "{written}");
        let after = parse("t", &text.replace(written, other)).unwrap();
        assert_eq!(changed(&plan, &after), [name]);
    }
}

#[test]
fn a_source_differs_if_a_file_has_another_content() {
    let directory = tempfile::tempdir().unwrap();
    let (password, key) = (directory.path().join("password"), directory.path().join("key"));
    fs::write(&password, "pencil\n").unwrap();
    fs::write(&key, "0123456789abcdef\n").unwrap();
    let text = config(directory.path());
    let plan = parse("t", &text).unwrap();
    assert_eq!(changed(&plan, &parse("t", &text).unwrap()), [""; 0]);
    fs::write(&password, "pen\n").unwrap();
    assert_eq!(changed(&plan, &parse("t", &text).unwrap()), ["logins"]);
    fs::write(&password, "pencil\n").unwrap();
    fs::write(&key, "fedcba9876543210\n").unwrap();
    assert_eq!(changed(&plan, &parse("t", &text).unwrap()), ["shared"]);
    let shown = format!("{plan:?} {}", plan.to_json());
    assert!(!shown.contains("pencil") && !shown.contains("0123456789"), "{shown}");
}
