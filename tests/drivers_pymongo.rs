//! pymongo through the proxy to a real server: `tests/drivers/pymongo_scenarios.py`.
//!
//! Each scenario runs with a bare connection string, with `replicaSet=` and with
//! `directConnection=true`, in plain text and with TLS and certificates on both sides; what pymongo
//! reports is held against what the proxy logged.

mod support;

use support::observed::{Driver::Pymongo, Observed};

#[test]
fn every_write_and_read_is_named_counted_and_attributed() {
    for seen in Observed::run(Pymongo, "crud") {
        seen.check_crud();
    }
}

#[test]
fn a_cursor_s_batches_belong_to_the_call_site_that_began_it() {
    for seen in Observed::run(Pymongo, "cursors") {
        seen.check_cursors();
    }
}

#[test]
fn transactions_commit_and_abort() {
    for seen in Observed::run(Pymongo, "transactions") {
        for run in &seen.runs {
            assert_eq!(seen.lines(run, "commitTransaction").len(), 1);
            assert_eq!(seen.lines(run, "abortTransaction").len(), 1);
        }
    }
}

#[test]
fn a_change_stream_sees_what_others_write() {
    for seen in Observed::run(Pymongo, "changes") {
        for run in &seen.runs {
            assert!(!seen.lines(run, "getMore").is_empty());
        }
    }
}

#[test]
fn a_write_whose_connection_is_cut_is_lost_once_and_then_made() {
    for seen in Observed::run(Pymongo, "retries") {
        seen.check_retries();
    }
}

#[test]
fn an_unacknowledged_write_takes_no_other_operation_s_reply() {
    for seen in Observed::run(Pymongo, "unacknowledged") {
        seen.check_unacknowledged();
    }
}

#[test]
fn an_exhaust_cursor_is_one_operation_of_many_replies() {
    for seen in Observed::run(Pymongo, "exhaust") {
        for run in &seen.runs {
            let streams = seen.tollgate.logged(2, |line| {
                line["app"] == run.app.as_str() && line["operation"] == "getMore"
            });
            assert_eq!(streams.len(), 2, "one to its end, and one left halfway");
            assert!(streams.iter().any(|line| line["documents"] == 980), "{streams:?}");
        }
    }
}

#[test]
fn a_login_logs_the_user_and_no_credentials() {
    for seen in Observed::run_with_login(Pymongo, "login") {
        seen.check_login();
    }
}
