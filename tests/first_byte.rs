//! A client that has not said anything yet costs the service behind a listener nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use support::{
    client::RawClient,
    ends::{End, Upstream},
    scripted::Scripted,
    tollgate::{Tollgate, mongo_config},
    wire::op_msg,
};

const ON_CLIENT_DATA: &str = "upstream_connect_mode: on_client_data";

/// Clients that have connected and say nothing, once the proxy serves them.
fn silent(tollgate: &Tollgate, listener: &str, count: usize) -> Vec<End> {
    let address = tollgate.listener(listener);
    let clients = (0..count).map(|_| End::connect(address)).collect();
    tollgate.wait_for_metric("tollgate_connections_active", &[], count as f64);
    clients
}

/// A client that has sent a command and read its reply. Connections opened before it have reached the service by then.
fn connect_and_ping(tollgate: &Tollgate) -> RawClient {
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(client.command(1, &doc! { "ping": 1, "$db": "shop" })["ok"], 1.0.into());
    client
}

fn closed(tollgate: &Tollgate, reason: &str, count: usize) {
    let labels = [("reason", reason)];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, count as f64);
}

#[test]
fn a_mongo_service_is_connected_at_the_first_byte() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut clients = silent(&tollgate, "db", 5);
    let _client = connect_and_ping(&tollgate);
    assert_eq!(server.received().len(), 1, "nobody but who asked");
    assert_eq!(tollgate.metric("tollgate_upstream_connect_total", &[]), 1.0);

    // One byte is enough, and none is lost.
    let ping = op_msg(7, &doc! { "ping": 1, "$db": "shop" });
    clients[0].send(&ping[..1]);
    server.wait("a second connection", |all| all.len() == 2);
    clients[0].send(&ping[1..]);
    server.wait("the whole message", |all| all[1].bytes == ping);
    assert!(!clients[0].more().is_empty());
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_client_without_bytes_opens_no_connection() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    for client in silent(&tollgate, "db", 3) {
        drop(client);
    }
    closed(&tollgate, "client", 3);
    for client in silent(&tollgate, "db", 3) {
        client.reset();
    }
    closed(&tollgate, "client_reset", 3);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    let _client = connect_and_ping(&tollgate);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_silent_client_is_closed_after_first_byte_timeout() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo_with(server.address(), "first_byte_timeout: 200ms");
    let began = Instant::now();
    let mut client = End::connect(tollgate.listener("db"));
    client.expect_end();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    closed(&tollgate, "first_byte_timeout", 1);
    assert!(server.received().is_empty());
}

#[test]
fn a_silent_client_takes_no_place_in_the_circuit_breaker() {
    let server = Scripted::agreeing();
    let config = mongo_config(server.address(), "").replace(
        "endpoints:",
        "circuit_breaker: { max_connections: 1, max_pending: 0 }, endpoints:",
    );
    let tollgate = Tollgate::start(&config);
    let _silent = silent(&tollgate, "db", 3);
    let _client = connect_and_ping(&tollgate);
}

#[test]
fn a_silent_client_counts_in_a_limit_of_connections() {
    let server = Scripted::agreeing();
    let config = mongo_config(server.address(), "");
    let policy = "policies: [{ name: few, connection_limit: { max: 2, over: close } }]\n";
    let tollgate = Tollgate::start(&format!("{config}{policy}"));
    let _silent = silent(&tollgate, "db", 2);
    End::connect(tollgate.listener("db")).expect_end();
    assert!(server.received().is_empty());
}

#[test]
fn a_drain_closes_silent_clients_at_once() {
    let server = Scripted::agreeing();
    let mut tollgate = Tollgate::mongo(server.address());
    let mut clients = silent(&tollgate, "db", 3);
    let began = Instant::now();
    tollgate.signal(Signal::TERM);
    clients.iter_mut().for_each(End::expect_end);
    assert!(tollgate.end().success());
    assert!(began.elapsed() < Duration::from_secs(10), "not by drain_timeout, which is 30s");
    assert!(server.received().is_empty());
}

#[test]
fn a_tcp_listener_can_wait_for_the_client_too() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), ON_CLIENT_DATA);
    let mut client = silent(&tollgate, "wire", 1).remove(0);
    assert_eq!(tollgate.metric("tollgate_upstream_connections_active", &[]), 0.0);
    assert!(!upstream.was_called());
    client.send(b"question");
    let mut server = upstream.accept();
    server.expect(b"question");
    server.send(b"answer");
    client.expect(b"answer");
}

#[test]
fn bytes_sent_with_a_fin_reach_the_service() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), ON_CLIENT_DATA);
    let mut client = silent(&tollgate, "wire", 1).remove(0);
    client.send_last(b"question");
    let mut server = upstream.accept();
    assert_eq!(server.rest(), b"question");
    server.send(b"answer");
    server.finish();
    assert_eq!(client.rest(), b"answer");
}

#[test]
fn a_client_that_ends_its_half_unheard_is_closed() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), ON_CLIENT_DATA);
    let mut client = silent(&tollgate, "wire", 1).remove(0);
    client.finish();
    client.expect_end();
    closed(&tollgate, "client", 1);
    assert!(!upstream.was_called());
}

#[test]
fn a_tcp_service_that_greets_first_is_dialled_at_once() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    server.send(b"220 ready");
    client.expect(b"220 ready");
}
