//! docs/operating.md: its samples are those that are shipped, and agree with each other.

use crate::{blocks, read};
use config::{self, plan::Plan};
use serde_json::Value;
use std::{process::Command, time::Duration};

const PAGE: &str = "docs/operating.md";
const UNIT: &str = "deploy/tollgate.service";
const SOCKET: &str = "deploy/socket-activation/tollgate.socket";

fn seconds(plan: &Plan) -> u64 {
    (plan.drain_wait.unwrap_or_default() + plan.drain_timeout).as_secs()
}

#[test]
fn the_unit_on_the_page_is_the_shipped_one() {
    let unit = read(UNIT);
    let shown = blocks(&read(PAGE), "ini");
    assert_eq!(shown, [unit.trim_end(), read(SOCKET).trim_end()]);
    let value = |key: &str| {
        let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("no {key}"))
    };
    let plan = config::parse(PAGE, &blocks(&read(PAGE), "yaml")[0]).unwrap();
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > seconds(&plan) + 1);
    // Its commands are commands.
    for (key, command) in [("ExecStartPre", "check"), ("ExecStart", "run"), ("ExecReload", "check")]
    {
        let words: Vec<_> = value(key).split(' ').collect();
        assert_eq!(words[1..], [command, "-c", "/etc/tollgate/tollgate.yaml"], "{key}");
    }
    assert!(!unit.contains("KillSignal"), "SIGTERM is the default, and drains");
}

#[test]
fn systemd_accepts_the_units_and_their_hardening() {
    let folder = tempfile::tempdir().unwrap();
    // systemd looks the program up in its own folders, where this one is not.
    let command = format!("={} ", env!("CARGO_BIN_EXE_tollgate"));
    let unit = folder.path().join("tollgate.service");
    std::fs::write(&unit, read(UNIT).replace("=tollgate ", &command)).unwrap();
    let socket = folder.path().join("tollgate.socket");
    std::fs::write(&socket, read(SOCKET)).unwrap();
    for arguments in [
        &["verify", "--man=no", unit.to_str().unwrap(), socket.to_str().unwrap()][..],
        // The exposure level is at most 2.0 of 10.
        &["security", "--offline=true", "--threshold=20", unit.to_str().unwrap()],
    ] {
        let Ok(run) = Command::new("systemd-analyze").args(arguments).output() else {
            println!("SKIPPED: no systemd-analyze");
            return;
        };
        let said = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
        assert!(run.status.success(), "{said}");
        assert!(arguments[0] == "security" || said.trim().is_empty(), "{said}");
    }
}

#[test]
fn the_pod_on_the_page_waits_for_a_drain() {
    let page = read(PAGE);
    let plan = config::parse(PAGE, &blocks(&page, "yaml")[0]).unwrap();
    let pod: Value = serde_saphyr::from_str(&blocks(&page, "yml")[0]).unwrap();
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > seconds(&plan) + 1, "{grace}");
    let container = &pod["spec"]["containers"][0];
    let admin = plan.admin.unwrap().address;
    assert!(!admin.ip().is_loopback(), "the kubelet asks from outside");
    for (probe, path) in [("readinessProbe", "/ready"), ("livenessProbe", "/live")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&path.into(), &admin.port().into()));
    }
    let period =
        Duration::from_secs(container["readinessProbe"]["periodSeconds"].as_u64().unwrap());
    assert!(plan.drain_wait.unwrap() > 2 * period);
}

#[test]
fn the_lines_on_the_page_are_of_the_log() {
    let files = ["src/proxy.rs", "src/proxy/control.rs", "src/proxy/listeners.rs"];
    let source = files.map(read).concat();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let source = plain(&source.replace("\\\n", " "));
    for line in blocks(&read(PAGE), "json") {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(source.contains(&plain(line["message"].as_str().unwrap())), "{line}");
    }
}
