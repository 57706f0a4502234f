//! deploy/alerts.yml: each alert asks for metrics that there are, has what people need, and is tested.

use crate::{
    metrics::{names, used},
    path, read,
};
use serde_json::Value;
use std::{collections::BTreeSet, process::Command};

const ALERTS: &str = "deploy/alerts.yml";
const TESTS: &str = "deploy/alerts.test.yml";

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
fn promtool_accepts_the_alerts_and_their_tests_pass() {
    for (command, file) in [
        (&["check", "rules"][..], ALERTS),
        (&["test", "rules"][..], TESTS),
        (&["check", "config", "--syntax-only"][..], "deploy/prometheus.yml"),
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
