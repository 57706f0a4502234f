//! Endpoints that expect TLS, behind clusters without it.

use super::support::{
    PATIENCE,
    certificates::Certificates,
    eventually,
    tollgate::Tollgate,
    wire::{self, Message},
};
use bson::doc;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

const HINT: &str = "it may expect TLS (`clusters.far.tls`)";

/// A server that treats each connection so.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(|socket| serve(socket.unwrap())));
    address
}

/// A proxy with the listener `it` before this server, without TLS.
fn before(server: SocketAddr, protocol: &str) -> Tollgate {
    Tollgate::start(&format!(
        "listeners:\n  it: {{ address: '127.0.0.1:0', protocol: {protocol}, cluster: far }}\n\
         clusters:\n  far: {{ endpoints: ['{server}'] }}\n"
    ))
}

/// Sends a request on a connection of its own, and reads until that is closed or answered.
fn request(tollgate: &Tollgate, bytes: &[u8]) {
    let mut client = TcpStream::connect_timeout(&tollgate.listener("it"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The proxy may close before it has read all.
    let _ = client.write_all(bytes).and_then(|()| client.read(&mut [0; 64]));
}

fn hello() -> Vec<u8> {
    wire::op_msg(1, &doc! { "hello": 1, "$db": "admin" })
}

#[test]
fn an_endpoint_that_expects_tls_is_hinted_at_once() {
    let certificates = Certificates::shared();
    // The TLS library sends an alert.
    let alerting = |socket| drop(certificates.accept(socket, "server", false).read(&mut [0; 1]));
    let closing = |mut socket: TcpStream| drop(socket.read(&mut [0; 4096]));
    let http = b"GET / HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n".to_vec();
    for (protocol, bytes) in [("mongo", hello()), ("http", http), ("tcp", b"hello".to_vec())] {
        for alerts in [true, false] {
            if alerts && protocol == "tcp" {
                // The alert passes, and the client has its own opinion about it.
                continue;
            }
            let server = if alerts { server(alerting) } else { server(closing) };
            let tollgate = before(server, protocol);
            request(&tollgate, &bytes);
            eventually("the hint", || tollgate.stderr().contains(HINT).then_some(()));
            request(&tollgate, &bytes);
            tollgate.logged(2, |_| true);
            assert_eq!(tollgate.stderr().matches(HINT).count(), 1, "{protocol}, {alerts}");
        }
    }
}

#[test]
fn an_endpoint_that_has_answered_gives_no_hint() {
    let server = server(|mut socket| {
        let message = Message::read(&mut socket).unwrap().unwrap();
        let reply = super::support::scripted::reply_to(&message, &doc! { "ok": 1 });
        socket.write_all(&reply).unwrap();
        Message::read(&mut socket).unwrap();
    });
    let tollgate = before(server, "mongo");
    let mut client = TcpStream::connect_timeout(&tollgate.listener("it"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&hello()).unwrap();
    Message::read(&mut client).unwrap().unwrap();
    client.write_all(&hello()).unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    tollgate.logged(2, |_| true);
    assert!(!tollgate.stderr().contains("expect TLS"), "{}", tollgate.stderr());
}
