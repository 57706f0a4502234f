//! A client whose cluster can't be reached is told so in its protocol's words, if it has any.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use support::{
    client::RawClient,
    ends::{End, Upstream},
    tollgate::Tollgate,
    wire::op_query,
};

/// The one connection ended for this reason, and its operation too.
fn ended(tollgate: &Tollgate, operation: &str) {
    let lines = tollgate.logged(1, |line| line["operation"] == operation);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["reason"]),
        (&"lost".into(), &"connect_failed".into())
    );
    let labels = [("reason", "connect_failed")];
    tollgate.metric_becomes("tollgate_connection_close_total", &labels, 1.0);
    tollgate.metric_becomes("tollgate_connections_active", &[], 0.0);
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
    let answer = client.ask(&op_query(7, "admin.$cmd", &doc! { "ismaster": 1 }));
    assert_eq!((answer.opcode(), answer.answers()), (1, 7));
    assert_eq!(answer.document().get_i32("code").unwrap(), 6);
    ended(&tollgate, "isMaster");
}

#[test]
fn who_begins_to_ask_and_stops_is_closed_after_a_moment() {
    let tollgate = Tollgate::mongo(support::free_address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.send(&[16]);
    assert_eq!(client.read_until_close(), b"");
    tollgate.metric_becomes("tollgate_connections_active", &[], 0.0);
}

#[test]
fn a_protocol_without_words_closes_at_once() {
    let tollgate = Tollgate::tcp(support::free_address(), "");
    End::connect(tollgate.listener("wire")).ends();
    ended(&tollgate, "session");
}

#[test]
fn a_service_that_resets_in_the_middle_of_a_reply_is_a_reset_to_its_client() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::mongo(upstream.address());
    let mut client = End::connect(tollgate.listener("db"));
    let question = op_query(7, "shop.$cmd", &doc! { "ping": 1 });
    client.send(&question);
    let mut service = upstream.accept();
    service.expect(&question);
    // The head of an OP_REPLY of 100 bytes, and no more.
    let front = [100, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0];
    service.send(&front);
    client.expect(&front);
    service.reset();
    assert!(client.breaks().is_empty());
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
    assert!(service.breaks().is_empty());
}
