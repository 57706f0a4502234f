//! Sessions that clients resume.

use crate::{
    certificates, config, echo_server, server_tls,
    support::{certificates::connect, tollgate::Tollgate},
};
use rustls::{ClientConfig, HandshakeKind};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::Arc,
};

fn handshake(address: SocketAddr, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = connect(address, "localhost", client);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    stream.conn.handshake_kind().unwrap()
}

#[test]
fn sessions_are_resumed_by_all_workers() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&format!(
        "workers: 2\n{}",
        config(&server_tls(certificates), &echo.to_string(), "")
    ));
    let address = tollgate.listener("wire");
    let client = certificates.client_config(None);
    assert_eq!(handshake(address, &client), HandshakeKind::Full);
    for _ in 0..8 {
        assert_eq!(handshake(address, &client), HandshakeKind::Resumed);
    }
    let labels = [("listener", "wire"), ("result", "resumed")];
    tollgate.wait_for_metric("tollgate_tls_handshakes_total", &labels, 8.0);
}

#[test]
fn sessions_are_not_resumed_where_certificates_are_asked_for() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tls = format!(
        "tls: {{ certificates: {}, client_ca: {}, client_certificate: optional }}",
        certificates.pair("server"),
        certificates.path("ca.crt").display()
    );
    let tollgate = Tollgate::start(&config(&tls, &echo.to_string(), ""));
    for own in [None, Some("client")] {
        let client = certificates.client_config(own);
        for _ in 0..2 {
            let kind = handshake(tollgate.listener("wire"), &client);
            assert_eq!(kind, HandshakeKind::Full, "{own:?}");
        }
    }
}
