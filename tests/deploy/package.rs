//! The Debian package is built, checked by lintian, installed, run, upgraded and purged.

use crate::{path, read, support::tollgate::program};
use std::process::Command;

/// The config that the package installs.
const CONFIG: &str = "deploy/debian/tollgate.yaml";

#[test]
fn the_package_lives_from_installation_to_purge() {
    for needed in ["cargo-deb", "lintian"] {
        if Command::new(needed).arg("--version").output().is_err() {
            println!("SKIPPED: no {needed}");
            return;
        }
    }
    let program = program();
    let mut script = Command::new(path("scripts/package/deb"));
    let run = script.arg(program.get_program()).arg("--fast").output().unwrap();
    let said = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
    assert!(run.status.success(), "{said}");
    println!("{said}");
}

#[test]
fn the_config_of_the_package_is_right_and_private() {
    let plan = config::load(path(CONFIG)).unwrap();
    let admin = plan.admin.as_ref().unwrap().address;
    let listeners = plan.listeners.iter().map(|listener| listener.address);
    for address in listeners.chain([admin]) {
        assert!(
            address.ip().is_loopback(),
            "{address}: the service starts before anybody has read it"
        );
    }
    let log = plan.access_log.unwrap().path;
    assert!(log.starts_with("/var/log/tollgate"), "{}", log.display());
    // The rotated files are those of the log, and the signal reopens them.
    let rotation = read("deploy/debian/tollgate.logrotate");
    assert!(rotation.starts_with("/var/log/tollgate/*.jsonl {"), "{rotation}");
    assert_eq!(log.extension().unwrap(), "jsonl");
    assert!(rotation.contains("--signal=USR1 --kill-whom=main tollgate.service"), "{rotation}");
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let made = program().arg("man").arg(folder.path()).status().unwrap();
    assert!(made.success());
    let help = String::from_utf8(program().arg("help").output().unwrap().stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut count = 0;
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        if command != "help" {
            let page = folder.path().join(format!("tollgate-{command}.1"));
            let page =
                std::fs::read_to_string(&page).unwrap_or_else(|it| panic!("{command}: {it}"));
            assert!(page.contains(".SH DESCRIPTION"), "{page}");
            count += 1;
        }
    }
    assert!(count >= 10, "{help}");
}

#[test]
fn the_shells_accept_their_completions() {
    for (shell, check) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let made = program().args(["completions", shell]).output().unwrap();
        assert!(made.status.success());
        let script = String::from_utf8(made.stdout).unwrap();
        assert!(script.contains("switch") && script.contains("callsites"), "{script}");
        // Only reads the script.
        let run = Command::new(check).args(["-n", "-c", &script]).output();
        match run {
            Ok(run) => assert!(run.status.success(), "{shell}: {run:?}"),
            Err(_) => println!("SKIPPED: no {shell}"),
        }
    }
}
