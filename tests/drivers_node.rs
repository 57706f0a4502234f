//! Node's driver through the proxy to a real server: `tests/drivers/node_scenarios.js`.
//!
//! As `drivers_pymongo.rs`. This driver still opens its connections with an OP_QUERY. The shell, mongosh,
//! uses it too.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{
    observed::{Driver::Node, Observed},
    secantus::Secantus,
    tools,
};

#[test]
fn every_write_and_read_is_named_counted_and_attributed() {
    for seen in Observed::run(Node, "crud") {
        seen.check_crud();
    }
}

#[test]
fn a_cursor_s_batches_belong_to_the_call_site_that_began_it() {
    for seen in Observed::run(Node, "cursors") {
        seen.check_cursors();
    }
}

#[test]
fn transactions_commit_and_abort() {
    for seen in Observed::run(Node, "transactions") {
        for run in &seen.runs {
            assert_eq!(seen.lines(run, "commitTransaction").len(), 1);
            assert_eq!(seen.lines(run, "abortTransaction").len(), 1);
        }
    }
}

#[test]
fn a_change_stream_sees_what_others_write() {
    for seen in Observed::run(Node, "changes") {
        for run in &seen.runs {
            assert!(!seen.lines(run, "getMore").is_empty());
        }
    }
}

#[test]
fn a_write_whose_connection_is_cut_is_lost_once_and_then_made() {
    for seen in Observed::run(Node, "retries") {
        seen.check_retries();
    }
}

#[test]
fn an_unacknowledged_write_takes_no_other_operation_s_reply() {
    for seen in Observed::run(Node, "unacknowledged") {
        seen.check_unacknowledged();
    }
}

#[test]
fn a_login_logs_the_user_and_no_credentials() {
    for seen in Observed::run_with_login(Node, "login") {
        seen.check_login();
    }
}

#[test]
fn mongosh_writes_and_reads() {
    let script = "db.shell.deleteMany({}); db.shell.insertMany([{ _id: 1 }, { _id: 2 }]);\
                  print(EJSON.stringify(db.shell.find().sort({ _id: -1 }).toArray()))";
    for server in Secantus::shared_plain_and_encrypted() {
        let Some(mut mongosh) = tools::mongosh() else { return };
        let tollgate = server.proxy();
        let uri = format!("mongodb://{}/shop?{}", tollgate.listener("db"), server.uri_options());
        // It keeps a history and a log there.
        let home = tempfile::tempdir().unwrap();
        mongosh.env("HOME", home.path()).args([&uri, "--quiet", "--norc", "--eval", script]);
        let output = mongosh.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{error}");
        assert_eq!(said.trim(), r#"[{"_id":2},{"_id":1}]"#, "{error}");
        for operation in ["delete", "insert", "find"] {
            let of_shell = |line: &serde_json::Value| {
                line["operation"] == operation && line["resource"] == "shop.shell"
            };
            let line = tollgate.logged(1, of_shell).remove(0);
            assert!(line["app"].as_str().unwrap().starts_with("mongosh"), "{line}");
            let certificate = server.is_encrypted().then_some("app.example.net");
            assert_eq!(line["client_certificate"].as_str(), certificate, "{line}");
        }
    }
}
