//! Resets, refused connects, and services that close without a reply.

use crate::{
    ended, logged,
    support::{
        self,
        ends::{End, Upstream, plain_and_encrypted},
        tollgate::Tollgate,
    },
};
use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    thread,
};

#[test]
fn a_client_s_reset_is_a_reset_at_the_server() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"half a quest");
        server.expect(b"half a quest");
        client.reset();
        server.read_until_reset();
        ended(&tollgate, "client_reset", "cancelled");
    });
}

#[test]
fn a_server_s_reset_is_a_reset_at_the_client() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        server.send(b"half an answ");
        server.reset();
        assert_eq!(client.read_until_reset(), b"half an answ");
        ended(&tollgate, "upstream_reset", "lost");
    });
}

#[test]
fn a_reset_after_the_client_s_end_is_the_server_s_all_the_same() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        client.finish();
        assert!(server.rest().is_empty());
        server.reset();
        client.read_until_reset();
        ended(&tollgate, "upstream_reset", "lost");
    });
}

#[test]
fn the_last_bytes_of_a_server_arrive_before_its_reset() {
    let upstream = Upstream::start();
    let tollgate = upstream.proxy("");
    let (mut client, mut server) = upstream.session(&tollgate);
    // What it leaves unread makes its end a reset.
    client.send(b"two words");
    server.expect(b"two");
    server.send(b"enough");
    drop(server);
    let heard = client.read_until_reset();
    assert_eq!(heard, b"enough");
    ended(&tollgate, "upstream_reset", "lost");
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let upstream = Upstream::start();
    let (dead, alive) = (support::free_address(), upstream.address());
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
         clusters:\n  wire: {{ endpoints: [\"{dead}\", \"{alive}\"], lb_policy: round_robin }}\n"
    ));
    for _ in 0..4 {
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"anybody there?");
        server.expect(b"anybody there?");
        server.send(b"yes");
        client.expect(b"yes");
    }
    let lines = tollgate.logged(4, |line| line["outcome"] == "ok");
    assert!(lines.iter().all(|line| line["endpoint"] == alive.to_string()), "{lines:?}");
    let refused = [("cluster", "wire"), ("result", "refused")];
    assert!(tollgate.metric("tollgate_upstream_connect_total", &refused) >= 1.0);
}

#[test]
fn a_session_without_an_endpoint_is_logged_as_lost() {
    let tollgate = Tollgate::tcp(support::free_address(), "");
    End::connect(tollgate.listener("wire")).expect_end();
    let line = ended(&tollgate, "connect_failed", "lost");
    assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&0.into(), &0.into()));
}

#[test]
fn a_service_that_closes_without_a_reply_is_a_lost_session() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"anybody there?");
        server.expect(b"anybody there?");
        drop(server);
        client.expect_end();
        drop(client);
        let line = logged(&tollgate);
        assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"no_reply".into()));
        let labels = [("listener", "wire"), ("reason", "upstream")];
        tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
    });
}

/// A service that reads what a client says, and hangs up.
fn hangs_up() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.read(&mut [0; 64]);
        }
    });
    address
}

#[test]
fn a_request_that_a_service_closes_on_ejects_no_endpoint() {
    // A PostgreSQL CancelRequest, which is never answered, and what is no PostgreSQL.
    let cancel = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09";
    let counts_silence = "session_failures: no_reply, consecutive_local_failures: 3";
    for (settings, ejects) in [("", false), (counts_silence, true)] {
        let (a, b) = (hangs_up(), hangs_up());
        let tollgate = Tollgate::start(&format!(
            "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
             clusters:\n  wire: {{ endpoints: [\"{a}\", \"{b}\"], lb_policy: round_robin, \
             outlier_detection: {{ {settings} }} }}\n"
        ));
        for said in [&cancel[..], b"who goes?"].repeat(6) {
            let mut client = End::connect(tollgate.listener("wire"));
            client.send(said);
            client.expect_end();
        }
        let lines = tollgate.logged(12, |line| line["reason"] == "no_reply");
        assert!(lines.iter().all(|line| line["outcome"] == "lost"), "{lines:?}");
        let lost = [("outcome", "lost")];
        assert_eq!(tollgate.metric("tollgate_endpoint_operations_total", &lost), 12.0);
        let out = tollgate.metric("tollgate_endpoint_ejected", &[]);
        assert_eq!(out > 0.0, ejects, "{settings}");
    }
}
