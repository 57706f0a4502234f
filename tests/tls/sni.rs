//! Clusters that are chosen by the name that a client asks for.

use super::{Certificates, certificates, closed, echo_server, exchange, server_tls};
use crate::support::{PATIENCE, eventually, tollgate::Tollgate};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// A listener that passes TLS on to one server for `localhost`, and to another one for names of
/// `example.net`; `more` are further keys.
fn start(one: SocketAddr, two: SocketAddr, more: &str) -> Tollgate {
    Tollgate::start(&whole_config(one, two, more))
}

pub(super) fn whole_config(one: SocketAddr, two: SocketAddr, more: &str) -> String {
    format!(
        "listeners:\n  wire: {{ address: '127.0.0.1:0', protocol: tcp, \
         sni: {{ localhost: one, '*.example.net': two }}, {more} }}\n\
         clusters:\n  one: {{ endpoints: ['{one}'] }}\n  two: {{ endpoints: ['{two}'] }}\n"
    )
}

pub(super) fn servers() -> (&'static Certificates, SocketAddr, SocketAddr) {
    let certificates = certificates();
    certificates.issue("server", &["localhost", "db.example.net"]);
    let (one, two) =
        (echo_server(certificates, true, false), echo_server(certificates, true, false));
    (certificates, one, two)
}

#[test]
fn tls_passes_through_to_the_cluster_of_its_name() {
    let (certificates, one, two) = servers();
    let tollgate = start(one, two, "");
    let address = tollgate.listener("wire");
    for (host, cluster) in [("localhost", "one"), ("db.example.net", "two")] {
        exchange(certificates.connect(address, host, None));
        let labels = [("cluster", cluster), ("result", "ok")];
        tollgate.wait_for_metric("tollgate_upstream_connect_total", &labels, 1.0);
    }
    let lines = tollgate.logged(2, |_| true);
    let mut logged: Vec<_> =
        lines.iter().map(|line| (line["sni"].as_str(), line["cluster"].as_str())).collect();
    logged.sort();
    assert_eq!(logged, [(Some("db.example.net"), Some("two")), (Some("localhost"), Some("one"))]);
}

#[test]
fn an_unknown_name_is_refused_or_goes_to_the_cluster_of_others() {
    let (certificates, one, two) = servers();
    let tollgate = start(one, two, "");
    let mut refused = certificates.connect(tollgate.listener("wire"), "other.test", None);
    let error = refused.write_all(b"hello").unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let log = eventually("the failure", || {
        tollgate.stderr().lines().find(|line| line.contains("unknown_name")).map(str::to_owned)
    });
    assert!(log.contains("\"sni\":\"other.test\""), "{log}");
    let mut plain = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
    plain.write_all(b"hello, this is no TLS at all\n").unwrap();
    assert!(closed(&plain.read(&mut [0; 16])));
    let labels = [("listener", "wire"), ("reason", "tls_handshake")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 2.0);

    let echo = echo_server(certificates, false, false);
    let tollgate = start(echo, two, "cluster: one");
    exchange(TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap());
}

#[test]
fn a_name_chooses_the_cluster_where_tls_ends_here_too() {
    let (certificates, ..) = servers();
    let (one, two) =
        (echo_server(certificates, false, false), echo_server(certificates, false, false));
    let tollgate = start(one, two, &server_tls(certificates));
    exchange(certificates.connect(tollgate.listener("wire"), "db.example.net", None));
    let labels = [("cluster", "two"), ("result", "ok")];
    tollgate.wait_for_metric("tollgate_upstream_connect_total", &labels, 1.0);
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_waited_for() {
    let (certificates, one, two) = servers();
    let tollgate = start(one, two, "");
    let mut client = certificates.connect(tollgate.listener("wire"), "localhost", None);
    let mut hello = Vec::new();
    client.conn.write_tls(&mut hello).unwrap();
    hello.iter().for_each(|byte| client.sock.write_all(&[*byte]).unwrap());
    exchange(client);
}
