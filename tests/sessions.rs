//! Connections while they last: what is counted, which are open, and how an operator ends one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use serde_json::Value;
use support::{
    ends::{End, Upstream},
    tollgate::Tollgate,
    wire::op_query,
};

/// The answer of `/sessions` with this query.
fn sessions(tollgate: &Tollgate, query: &str) -> Vec<Value> {
    let (status, body) = tollgate.get(&format!("/sessions{query}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until the one session is reported as `wanted`.
fn told(tollgate: &Tollgate, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    support::eventually(what, || sessions(tollgate, "").into_iter().find(&wanted))
}

/// Ends this one.
fn kill(tollgate: &Tollgate, session: &Value) {
    let (status, body) = tollgate.send("DELETE", &format!("/sessions/{}", session["id"]), "");
    assert_eq!(status, 204, "{body}");
}

#[test]
fn bytes_of_a_session_are_counted_while_it_lasts_and_once() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    let count = |direction: &str, bytes: usize| {
        let labels = [("operation", "session"), ("direction", direction)];
        tollgate.wait_for_metric("tollgate_operation_bytes_total", &labels, bytes as f64);
    };
    client.send(&[7; 1000]);
    server.expect(&[7; 1000]);
    count("request", 1000);
    server.send(&vec![8; 2_000_000]);
    client.expect(&vec![8; 2_000_000]);
    count("reply", 2_000_000);
    client.send(&[9; 10]);
    server.expect(&[9; 10]);
    drop(client);
    server.expect_end();
    drop(server);
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&1010.into(), &2_000_000.into()));
    count("request", 1010);
    count("reply", 2_000_000);
}

#[test]
fn open_sessions_are_listed_with_client_endpoint_and_bytes() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    assert!(sessions(&tollgate, "").is_empty());
    let (mut client, mut server) = upstream.session(&tollgate);
    let (_quiet, _other) = upstream.session(&tollgate);
    client.send(b"question");
    server.expect(b"question");
    server.send(b"an answer");
    client.expect(b"an answer");
    let session = told(&tollgate, "a session that was answered", |it| it["reply_bytes"] == 9);
    assert_eq!(session["request_bytes"], 8);
    assert_eq!((&session["listener"], &session["protocol"]), (&"wire".into(), &"tcp".into()));
    assert_eq!(session["peer"], client.address().to_string());
    assert_eq!(session["endpoint"], upstream.address().to_string());
    assert_eq!(session["operation"], "session");
    assert!(session["age_ms"].as_u64() >= session["idle_ms"].as_u64(), "{session}");
    let all = sessions(&tollgate, "");
    assert_eq!(all.len(), 2);
    assert!(all[0]["id"].as_u64() < all[1]["id"].as_u64(), "the oldest comes first");
    assert_eq!(sessions(&tollgate, "?sort=bytes&limit=1")[0]["id"], session["id"]);
    assert!(sessions(&tollgate, "?listener=other").is_empty());
    assert_eq!(tollgate.get("/sessions?sort=size").0, 400);
    drop((client, server));
    support::eventually("an end", || (sessions(&tollgate, "").len() == 1).then_some(()));
}

#[test]
fn a_session_closed_by_an_operator_has_its_own_reason() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    let (mut stays, mut behind) = upstream.session(&tollgate);
    client.send(b"question");
    server.expect(b"question");
    let session = told(&tollgate, "the session", |it| it["request_bytes"] == 8);
    kill(&tollgate, &session);
    client.read_until_reset();
    server.read_until_reset();
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["reason"], &line["outcome"]), (&"killed".into(), &"cancelled".into()));
    tollgate.wait_for_metric("tollgate_connection_close_total", &[("reason", "killed")], 1.0);
    stays.send(b"still here");
    behind.expect(b"still here");
    let gone = format!("/sessions/{}", session["id"]);
    assert_eq!(tollgate.send("DELETE", &gone, "").0, 404);
    assert_eq!(tollgate.send("DELETE", "/sessions/all", "").0, 404);
}

#[test]
fn a_session_lists_its_operation_in_flight() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::mongo(upstream.address());
    let mut client = End::connect(tollgate.listener("db"));
    let question = op_query(7, "shop.$cmd", &doc! { "count": "orders" });
    client.send(&question);
    let mut service = upstream.accept();
    service.expect(&question);
    let session = told(&tollgate, "a count", |it| it["operation"] == "count");
    assert_eq!(session["protocol"], "mongo");
    kill(&tollgate, &session);
    client.expect_end();
    service.expect_end();
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["operation"], &line["reason"]), (&"count".into(), &"killed".into()));
}

#[test]
fn a_connection_of_http_is_listed_and_ended_like_any_other() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{}\"] }}\n",
        upstream.address()
    ));
    let mut client = End::connect(tollgate.listener("web"));
    client.send(b"GET /cart HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    let session = told(&tollgate, "the connection", |it| it["request_bytes"] == 31);
    assert_eq!((&session["listener"], &session["protocol"]), (&"web".into(), &"http".into()));
    kill(&tollgate, &session);
    client.expect_end();
    tollgate.wait_for_metric("tollgate_connection_close_total", &[("reason", "killed")], 1.0);
}

#[test]
fn a_client_that_has_said_nothing_is_listed_and_ended_too() {
    let tollgate = Tollgate::mongo(support::free_address());
    let mut client = End::connect(tollgate.listener("db"));
    let session = told(&tollgate, "the connection", |it| it["listener"] == "db");
    assert_eq!(session.get("endpoint"), None);
    kill(&tollgate, &session);
    client.expect_end();
    tollgate.wait_for_metric("tollgate_connection_close_total", &[("reason", "killed")], 1.0);
}
