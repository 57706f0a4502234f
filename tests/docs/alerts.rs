//! deploy/prometheus: each rule asks for metrics that there are, has what people need, and is tested; the copies for
//! Kubernetes are the same.

use crate::{
    metrics::{names, used},
    path, read,
};
use serde_json::Value;
use std::{collections::BTreeSet, process::Command};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const TESTS: &str = "deploy/prometheus/alerts.test.yml";
const RECORDING: &str = "deploy/prometheus/recording.yml";
const RECORDING_TESTS: &str = "deploy/prometheus/recording.test.yml";

/// The copies of both files for Kubernetes: the file, what stands before the groups, and how far they are indented.
const COPIES: [(&str, &str, &str); 2] = [
    ("deploy/helm/tollgate/files/rules.yml", "groups:\n", ""),
    (
        "deploy/kubernetes/optional/prometheusrule.yaml",
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tollgate\nspec:\n  groups:\n",
        "  ",
    ),
];

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn list<'v>(of: &'v Value, key: &str) -> Vec<&'v Value> {
    of[key].as_array().into_iter().flatten().collect()
}

fn alerts(file: &Value) -> Vec<&Value> {
    list(file, "groups").into_iter().flat_map(|group| list(group, "rules")).collect()
}

#[test]
fn every_alert_has_existing_metrics_and_a_summary() {
    let (file, known) = (yaml(ALERTS), names());
    for alert in alerts(&file) {
        let name = alert["alert"].as_str().unwrap();
        assert!(name.starts_with("Tollgate"), "{name}");
        let expr = alert["expr"].as_str().unwrap();
        for metric in used(expr) {
            assert!(known.contains(metric), "{name}: there is no {metric}");
        }
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()));
        for annotation in ["summary", "description"] {
            assert!(alert["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
        // What counts an event once is over by itself; all else has to last.
        assert!(alert["for"].is_string() || expr.contains("increase("), "{name} has no `for`");
    }
}

#[test]
fn every_alert_is_tested_and_on_the_page() {
    let (file, tests, page) = (yaml(ALERTS), yaml(TESTS), read("docs/metrics.md"));
    let cases = list(&tests, "tests").into_iter().flat_map(|test| list(test, "alert_rule_test"));
    let fires = cases.filter(|case| !list(case, "exp_alerts").is_empty());
    let tested: BTreeSet<&str> = fires.map(|case| case["alertname"].as_str().unwrap()).collect();
    for alert in alerts(&file) {
        let name = alert["alert"].as_str().unwrap();
        assert!(tested.contains(name), "{TESTS} never has {name} fire");
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
    }
}

#[test]
fn every_recording_rule_is_tested_and_on_the_page() {
    let (file, known) = (yaml(RECORDING), names());
    let (tests, page) = (read(RECORDING_TESTS), read("docs/metrics.md"));
    for rule in alerts(&file) {
        let name = rule["record"].as_str().unwrap();
        let [level, metric, operations] = name.split(':').collect::<Vec<_>>()[..] else {
            panic!("{name} is not LEVEL:METRIC:OPERATIONS");
        };
        assert!(tests.contains(name), "{RECORDING_TESTS} lacks {name}");
        let shown = page.contains(&format!("`{name}`"))
            || page.contains(&format!("`{level}:{metric}:"))
                && page.contains(&format!("`…:{operations}`"));
        assert!(shown, "docs/metrics.md lacks {name}");
        for metric in used(rule["expr"].as_str().unwrap()) {
            assert!(known.contains(metric), "{name}: there is no {metric}");
        }
    }
}

#[test]
fn the_rules_for_kubernetes_are_the_same() {
    for (name, head, indent) in COPIES {
        let mut text = format!(
            "# Made of deploy/prometheus by `UPDATE_DOCS=1 cargo test --test docs`.\n{head}"
        );
        for file in [RECORDING, ALERTS].map(read) {
            let (_, groups) = file.split_once("groups:\n").unwrap();
            for line in groups.lines() {
                let indent = if line.is_empty() { "" } else { indent };
                text.push_str(&format!("{indent}{line}\n"));
            }
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path(name), &text).unwrap();
        }
        assert!(read(name) == text, "{name} is old: UPDATE_DOCS=1 cargo test --test docs");
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests_pass() {
    for (command, file) in [
        (&["check", "rules"][..], ALERTS),
        (&["check", "rules"][..], RECORDING),
        (&["check", "rules"][..], COPIES[0].0),
        (&["test", "rules"][..], TESTS),
        (&["test", "rules"][..], RECORDING_TESTS),
        (&["check", "config", "--syntax-only"][..], "deploy/prometheus/prometheus.yml"),
    ] {
        match Command::new("promtool").args(command).arg(path(file)).output() {
            Ok(run) => {
                let said = [run.stdout, run.stderr].concat();
                assert!(run.status.success(), "{file}: {}", String::from_utf8_lossy(&said));
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no promtool: {error}");
                println!("SKIPPED: no promtool");
                return;
            }
        }
    }
}
