//! PROXY headers of load balancers.

use super::{certificates, closed, config, echo_server, exchange, server_tls};
use crate::support::{PATIENCE, ends::Upstream, tollgate::Tollgate};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

const FROM_HERE: &str = "proxy_protocol: { from: 127.0.0.0/8 }";

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A header of version 2 for this client, with the id of a VPC endpoint.
pub(super) fn version_2(client: [u8; 4], vpce: &str) -> Vec<u8> {
    let addresses = [&client[..], &[192, 0, 2, 1], &4000u16.to_be_bytes(), &443u16.to_be_bytes()];
    let length = u8::try_from(1 + vpce.len()).unwrap();
    let field = [b"\xea\0", &[length, 1][..], vpce.as_bytes()].concat();
    let body = [addresses.concat(), field].concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &body].concat()
}

#[test]
fn the_client_of_a_header_is_the_peer() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let policies = "policies: [{ name: not-it, match: { peer: 198.51.100.0/24 }, deny: {} }]";
    let whole = format!("{}{policies}", config(FROM_HERE, &echo.to_string(), ""));
    let tollgate = Tollgate::start(&whole);
    let address = tollgate.listener("wire");
    let mut one = connect(address);
    one.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n").unwrap();
    exchange(one);
    let mut byte_by_byte = connect(address);
    version_2([203, 0, 113, 9], "vpce-1234")
        .iter()
        .for_each(|byte| byte_by_byte.write_all(&[*byte]).unwrap());
    exchange(byte_by_byte);
    for line in tollgate.logged(2, |_| true) {
        assert_eq!(line["peer"], "203.0.113.9:4000");
        assert!(line["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    let mut denied = connect(address);
    denied.write_all(&version_2([198, 51, 100, 7], "vpce-1234")).unwrap();
    assert!(closed(&denied.read(&mut [0; 16])));
    let labels = [("listener", "wire"), ("policy", "not-it")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn a_header_comes_before_tls() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let listener = format!("{FROM_HERE}, {}", server_tls(certificates));
    let tollgate = Tollgate::start(&config(&listener, &echo.to_string(), ""));
    let mut stream = certificates.connect(tollgate.listener("wire"), "localhost", None);
    stream.sock.write_all(&version_2([203, 0, 113, 9], "vpce-1234")).unwrap();
    exchange(stream);
    assert_eq!(tollgate.logged(1, |_| true)[0]["peer"], "203.0.113.9:4000");
}

#[test]
fn a_connection_without_the_header_is_closed() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&config(FROM_HERE, &echo.to_string(), ""));
    let mut plain = connect(tollgate.listener("wire"));
    plain.write_all(b"hello").unwrap();
    assert!(closed(&plain.read(&mut [0; 16])));
    let labels = [("listener", "wire"), ("reason", "proxy_header")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
}

#[test]
fn a_header_of_a_peer_that_may_not_send_one_is_passed_as_bytes() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let listener = "proxy_protocol: { from: 192.0.2.0/24 }";
    let tollgate = Tollgate::start(&config(listener, &echo.to_string(), ""));
    let mut client = connect(tollgate.listener("wire"));
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n";
    client.write_all(header).unwrap();
    let mut back = vec![0; header.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, header);
    drop(client);
    let line = tollgate.logged(1, |_| true).remove(0);
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

#[test]
fn endpoints_get_the_header_of_the_client() {
    let upstream = Upstream::start();
    for (version, begins) in
        [("v1", &b"PROXY TCP4 127.0.0.1 127.0.0.1 "[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11")]
    {
        let cluster = format!("proxy_protocol: {version}");
        let tollgate = Tollgate::start(&config("", &upstream.address().to_string(), &cluster));
        let mut client = connect(tollgate.listener("wire"));
        client.write_all(b"hello").unwrap();
        let mut server = upstream.accept();
        let got = server.more();
        assert!(got.starts_with(begins), "{version}: {got:?}");
        assert!(got.ends_with(b"hello") || server.more().ends_with(b"hello"), "{version}");
    }
}

#[test]
fn what_one_proxy_sends_another_one_reads() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let policies = "policies: [{ name: by-name, match: { proxy.authority: localhost }, deny: {} }]";
    let second = format!("{}{policies}", config(FROM_HERE, &echo.to_string(), ""));
    let second = Tollgate::start(&second);
    let endpoint = second.listener("wire").to_string();
    let first = config(&server_tls(certificates), &endpoint, "proxy_protocol: v2");
    let first = Tollgate::start(&first);
    let mut client = certificates.connect(first.listener("wire"), "localhost", None);
    let read = client.write_all(b"hello").and_then(|()| client.read(&mut [0; 16]));
    assert!(closed(&read));
    let labels = [("listener", "wire"), ("policy", "by-name")];
    second.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn a_header_that_no_http_listener_expects_is_named() {
    let tollgate = Tollgate::start(
        "listeners:\n  web: { address: '127.0.0.1:0', protocol: { http: { routes: [{ name: all, \
         reply: { status: 200 } }] } } }\nclusters: {}\n",
    );
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[127; 12]].concat();
    for (number, header) in
        [&b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n"[..], &v2].into_iter().enumerate()
    {
        let request = [header, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let mut socket = TcpStream::connect(tollgate.listener("web")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&request).unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 400");
        let labels = [("listener", "web"), ("kind", "looks_like_proxy_header")];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, (number + 1) as f64);
    }
    let log = tollgate.stderr();
    assert!(log.contains("\"violation\":\"looks_like_proxy_header\""), "{log}");
}
