//! A client whose cluster cannot be reached gets an error of its protocol, if there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use support::{
    client::RawClient,
    ends::{End, Upstream},
    scripted::Scripted,
    tollgate::Tollgate,
    wire::{op_msg, op_query},
};

/// The one connection ended for this reason, and its operation too.
fn ended(tollgate: &Tollgate, operation: &str) {
    let lines = tollgate.logged(1, |line| line["operation"] == operation);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["reason"]),
        (&"lost".into(), &"connect_failed".into())
    );
    let labels = [("reason", "connect_failed")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
}

#[test]
fn a_driver_s_first_request_is_answered_with_what_is_wrong() {
    let tollgate = Tollgate::mongo(support::free_address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let answer = client.command(7, &doc! { "hello": 1, "$db": "admin" });
    assert_eq!(answer.get_f64("ok").unwrap(), 0.0);
    assert_eq!(answer.get_i32("code").unwrap(), 6);
    let words = answer.get_str("errmsg").unwrap();
    assert_eq!(words, "no endpoint of `db` accepted a connection");
    assert_eq!(client.read_until_close(), b"");
    ended(&tollgate, "hello");
}

#[test]
fn an_old_driver_is_answered_in_its_own_family() {
    let tollgate = Tollgate::mongo(support::free_address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let answer = client.round_trip(&op_query(7, "admin.$cmd", &doc! { "ismaster": 1 }));
    assert_eq!((answer.opcode(), answer.answers()), (1, 7));
    assert_eq!(answer.document().get_i32("code").unwrap(), 6);
    ended(&tollgate, "isMaster");
}

#[test]
fn a_client_with_an_unfinished_request_is_closed() {
    let tollgate = Tollgate::mongo(support::free_address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&[16]);
    assert_eq!(client.read_until_close(), b"");
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
}

#[test]
fn a_protocol_without_words_closes_at_once() {
    let tollgate = Tollgate::tcp(support::free_address(), "");
    End::connect(tollgate.listener("wire")).expect_end();
    ended(&tollgate, "session");
}

#[test]
fn a_reset_in_a_reply_is_a_reset_to_the_client() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::mongo(upstream.address());
    let mut client = End::connect(tollgate.listener("db"));
    let question = op_query(7, "shop.$cmd", &doc! { "ping": 1 });
    client.send(&question);
    let mut service = upstream.accept();
    service.expect(&question);
    // Only the head of an OP_REPLY of 100 bytes.
    let front = [100, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0];
    service.send(&front);
    client.expect(&front);
    service.reset();
    assert!(client.read_until_reset().is_empty());
    let line = &tollgate.logged(1, |line| line["operation"] == "ping")[0];
    assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"upstream_reset".into()));
}

#[test]
fn a_client_that_resets_is_a_reset_to_its_service() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::mongo(upstream.address());
    let mut client = End::connect(tollgate.listener("db"));
    let question = op_query(7, "shop.$cmd", &doc! { "ping": 1 });
    client.send(&question);
    let mut service = upstream.accept();
    service.expect(&question);
    client.reset();
    assert!(service.read_until_reset().is_empty());
}

/// What a driver of today says first.
fn greeting() -> Vec<u8> {
    op_msg(7, &doc! { "hello": 1, "backpressure": "2", "$db": "admin" })
}

/// How a driver of today is turned away: with words, or else its connection closes.
fn is_told(tollgate: &Tollgate) -> bool {
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&greeting());
    client.try_read().is_some()
}

#[test]
fn a_driver_that_backs_off_is_closed_at_its_hello() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut first = RawClient::connect(tollgate.listener("db"));
    assert_eq!(first.round_trip(&greeting()).answers(), 7);
    server.stop_listening();
    assert!(!is_told(&tollgate), "it would drop the connection that works as well");
    let lines = tollgate.logged(1, |line| line["reason"] == "connect_failed");
    assert_eq!(lines[0]["operation"], "hello", "the log tells what the client is not told");

    let mut old = RawClient::connect(tollgate.listener("db"));
    let answer = old.command(8, &doc! { "hello": 1, "$db": "admin" });
    assert_eq!(answer.get_i32("code").unwrap(), 6, "one that knows no better is told");

    assert_eq!(first.command(9, &doc! { "ping": 1, "$db": "admin" }).get_f64("ok").unwrap(), 1.0);
    drop(first);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    assert!(is_told(&tollgate), "there is nothing to lose, and words help");
}

#[test]
fn limits_close_a_driver_that_backs_off_and_denials_reply() {
    let limits = [
        ("connection_limit: { max: 1, key: [peer] }", false),
        ("rate_limit: { rate: 1/h, burst: 1, unit: connections }", false),
        ("match: { operation: hello }, rate_limit: { rate: 1/h, burst: 1 }", false),
        ("match: { operation: hello }, deny: {}", true),
    ];
    for (limit, told) in limits {
        let server = Scripted::agreeing();
        let policies = format!("  - {{ name: limit, {limit} }}\n");
        let tollgate = Tollgate::mongo_guarded(server.address(), "", &policies);
        let mut first = RawClient::connect(tollgate.listener("db"));
        first.command(6, &doc! { "hello": 1, "$db": "admin" });
        assert_eq!(is_told(&tollgate), told, "{limit}");
        let mut old = RawClient::connect(tollgate.listener("db"));
        let answer = old.command(8, &doc! { "hello": 1, "$db": "admin" });
        assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{limit}");
    }
}

#[test]
fn a_driver_that_backs_off_is_closed_where_the_cluster_is_full() {
    let server = Scripted::agreeing();
    let full = "circuit_breaker: { max_connections: 1, max_pending: 0 }, endpoints:";
    let config = support::tollgate::mongo_config(server.address(), "");
    let tollgate = Tollgate::start(&config.replace("endpoints:", full));
    let mut first = RawClient::connect(tollgate.listener("db"));
    first.command(6, &doc! { "hello": 1, "$db": "admin" });
    assert!(!is_told(&tollgate));
}
