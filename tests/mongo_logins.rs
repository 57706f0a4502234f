//! Clients that log in at the proxy: real drivers before a server that demands log-ins
//! (`tests/drivers/login_scenarios.py`, `login_scenarios.js`).

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rcgen::{DistinguishedName, DnType};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{
    certificates::Certificates,
    eventually,
    python::drivers,
    secantus::{PASSWORD, Secantus, USER},
    tollgate::{Tollgate, mongo_config, output_of},
    tools,
};
use tempfile::TempDir;

/// The most connections to the server that a user's clients share.
const SIZE: usize = 4;

/// What no output may contain: passwords, and messages of log-ins plain and in base64.
const SECRETS: [&str; 5] = ["hunter-two", "hunter-three", "n,,n=", "biws", "\"payload\""];

/// A server that demands log-ins, and a proxy that clients log in at.
struct LoginProxy {
    server: Secantus,
    tollgate: Tollgate,
    /// Files with passwords.
    _passwords: TempDir,
}

impl LoginProxy {
    /// One with these settings; `DIRECTORY` in them is that of the files with passwords.
    fn start(auth: &str) -> Option<Self> {
        let server = Secantus::start(true, false)?;
        let (config, passwords) = Self::config(&server, auth);
        Some(Self { tollgate: Tollgate::start(&config), server, _passwords: passwords })
    }

    fn config(server: &Secantus, auth: &str) -> (String, TempDir) {
        let passwords = tempfile::tempdir().unwrap();
        fs::write(passwords.path().join("alice"), format!("{PASSWORD}\n")).unwrap();
        fs::write(passwords.path().join("app"), "hunter-two-app").unwrap();
        let auth = auth.replace("DIRECTORY", passwords.path().to_str().unwrap());
        let config = mongo_config(server.address(), "")
            .replace("] }", &format!("], pool: {{ max_pool_size: {SIZE} }} }}"))
            .replace("protocol: mongo", &format!("protocol: {{ mongo: {{ auth: {auth} }} }}"));
        (format!("workers: 1\n{config}"), passwords)
    }

    /// One that looks users up.
    fn looking_up() -> Option<Self> {
        Self::start(&format!("{{ lookup: {{ user: {USER}, password_file: DIRECTORY/alice }} }}"))
    }

    /// Runs a scenario of pymongo, and returns what it prints.
    fn run(&self, scenario: &str) -> String {
        pymongo(&self.server, &tools::python().unwrap(), self.address(), scenario)
    }

    fn address(&self) -> String {
        self.tollgate.listener("db").to_string()
    }

    /// The lines of the access log that match.
    fn lines(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> Vec<serde_json::Value> {
        self.tollgate.access_log().into_iter().filter(wanted).collect()
    }

    /// No output shows a secret.
    fn check_outputs(&self) {
        let config = ("the config", self.tollgate.get("/config").1);
        let pools = ("the pools", self.tollgate.get("/pools").1);
        let log = ("the access log", self.tollgate.access_log_text());
        for (name, text) in self.tollgate.outputs().into_iter().chain([config, pools, log]) {
            assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{name}: {text}");
        }
    }
}

fn pymongo(server: &Secantus, programs: &Path, proxy: String, scenario: &str) -> String {
    pymongo_with(server, programs, proxy, scenario, &[])
}

fn pymongo_with(
    server: &Secantus,
    programs: &Path,
    proxy: String,
    scenario: &str,
    variables: &[(&str, &str)],
) -> String {
    let script: PathBuf = drivers().join("login_scenarios.py");
    let output = Command::new(programs.join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(variables.iter().copied())
        .arg(script)
        .args([&proxy, &server.address().to_string(), scenario])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn users_log_in_at_the_proxy_as_at_a_server() {
    let Some(proxy) = LoginProxy::looking_up() else { return };
    proxy.run("everybody");
    let finds = proxy.lines(|line| line["operation"] == "find" && line["outcome"] == "ok");
    assert!(finds.iter().all(|line| line["user"] == "alice@admin"), "{finds:?}");
    assert!(!finds.is_empty());
    let failed = proxy.lines(|line| line["code"] == "AuthenticationFailed");
    assert!(failed.len() >= 2, "a wrong password, and a user that does not exist");
    let refused = proxy.lines(|line| line["reason"] == "denied" && line["user"].is_null());
    assert!(refused.len() >= 5, "{refused:?}");
    proxy.check_outputs();
}

#[test]
fn forty_clients_of_a_user_share_few_connections() {
    let Some(proxy) = LoginProxy::looking_up() else { return };
    proxy.run("many");
    let opened = proxy.tollgate.metric("tollgate_upstream_connect_total", &[]);
    // Those of the user, one that looks users up, and some for the first clients that say hello.
    assert!(opened <= (2 * SIZE + 1) as f64, "{opened} connections");
    assert_eq!(proxy.lines(|line| line["operation"] == "find").len(), 400);
    let endpoint = &proxy.tollgate.json("/pools")[0]["endpoints"][0];
    let users = endpoint["users"].as_array().unwrap();
    assert!(users.iter().all(|row| row["user"] == "alice@admin"), "{users:?}");
    assert_eq!(users[0]["active"], 0);
    let labels = [("user", "alice@admin"), ("state", "idle")];
    let idle = proxy.tollgate.metric("tollgate_pool_connections", &labels);
    assert_eq!(users[0]["idle"].as_f64(), Some(idle), "{users:?}");
}

#[test]
fn old_drivers_log_in() {
    let (Some(proxy), Some(old)) = (LoginProxy::looking_up(), tools::old_python()) else { return };
    pymongo(&proxy.server, &old, proxy.address(), "everybody");
    proxy.check_outputs();
}

#[test]
fn the_driver_of_node_logs_in() {
    let (Some(proxy), Some(modules)) = (LoginProxy::looking_up(), tools::node_modules()) else {
        return;
    };
    let output = Command::new("node")
        .env("NODE_PATH", modules)
        .arg(drivers().join("login_scenarios.js"))
        .arg(proxy.address())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    proxy.check_outputs();
}

#[test]
fn a_changed_password_ends_the_old_log_ins() {
    let Some(proxy) = LoginProxy::looking_up() else { return };
    proxy.run("changed");
    eventually("the reason in the log", || {
        let log = proxy.tollgate.stderr();
        log.contains("the log-in of `carol@admin` is not valid any more").then_some(())
    });
    proxy.check_outputs();
}

#[test]
fn a_dropped_user_is_closed() {
    let Some(proxy) = LoginProxy::looking_up() else { return };
    proxy.run("dropped");
    eventually("the reason in the log", || {
        let log = proxy.tollgate.stderr();
        log.contains("the log-in of `dave@admin` is not valid any more").then_some(())
    });
}

#[test]
fn clients_may_share_one_user_of_the_server() {
    let auth = "{ users: [{ name: app, password_file: DIRECTORY/app }, \
                { name: alice, password_file: DIRECTORY/alice }], as: alice }";
    let Some(proxy) = LoginProxy::start(auth) else { return };
    proxy.run("as_another");
    proxy.run("by_sha_1");
    let finds = proxy.lines(|line| line["operation"] == "insert");
    assert_eq!(finds[0]["user"], "app@admin");
    proxy.check_outputs();
}

#[test]
fn a_verifier_in_a_file_is_enough() {
    let Some(server) = Secantus::start(true, false) else { return };
    let python = tools::python().unwrap();
    let verifier = pymongo(&server, &python, String::new(), "verifier");
    let auth = "{ users: [{ name: alice, verifier_file: DIRECTORY/verifier }] }";
    let (config, passwords) = LoginProxy::config(&server, auth);
    fs::write(passwords.path().join("verifier"), &verifier).unwrap();
    let tollgate = Tollgate::start(&config);
    let proxy = LoginProxy { server, tollgate, _passwords: passwords };
    proxy.run("many");
    proxy.check_outputs();
    let key = verifier.rsplit('$').next().unwrap().trim();
    assert!(!proxy.tollgate.get("/config").1.contains(key));
}

#[test]
fn a_client_certificate_is_a_log_in() {
    let Some(server) = Secantus::start(true, false) else { return };
    let certificates = Certificates::new();
    certificates.issue("server", &["127.0.0.1"]);
    certificates.issue_with("web", &["web"], |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "web");
    });
    let auth =
        "{ users: [{ name: alice, password_file: DIRECTORY/alice, x509: 'CN=web,O=Example' }] }";
    let (config, passwords) = LoginProxy::config(&server, auth);
    let (pair, ca) = (certificates.pair("server"), certificates.path("ca.crt"));
    let tls = format!("tls: {{ certificates: {pair}, client_ca: {} }}", ca.display());
    let config = config.replace("cluster: db,", &format!("cluster: db, {tls},"));
    let tollgate = Tollgate::start(&config);
    let proxy = LoginProxy { server, tollgate, _passwords: passwords };
    let variables = [("CERTIFICATES", certificates.directory().to_str().unwrap())];
    let python = tools::python().unwrap();
    pymongo_with(&proxy.server, &python, proxy.address(), "by_certificate", &variables);
    let finds = proxy.lines(|line| line["operation"] == "find" && line["outcome"] == "ok");
    assert!(finds.iter().all(|line| line["user"] == "alice@admin"), "{finds:?}");
    assert_eq!(finds.len(), 2);
}

#[test]
fn other_mechanisms_get_connections_of_their_own() {
    let Some(proxy) = LoginProxy::looking_up() else { return };
    proxy.run("at_server");
    eventually("the reason in the log", || {
        let log = proxy.tollgate.stderr();
        log.contains("a client logs in by PLAIN, which only the server can check").then_some(())
    });
}

#[test]
fn a_config_with_a_missing_password_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    let config = "listeners: { db: { address: ':0', cluster: db, protocol: { mongo: { auth: { lookup: \
                  { user: viewer, password_file: /nowhere/password } } } } } }\n\
                  clusters: { db: { endpoints: ['127.0.0.1:1'], pool: {} } }\n";
    fs::write(&file, config).unwrap();
    let output = output_of(&["check", "-c", file.to_str().unwrap()]);
    let words = output.out + &output.err;
    assert!(words.contains("can't read the password in /nowhere/password"), "{words}");
}
