//! PostgreSQL's clients and servers, which ask for TLS in their own protocol.

use super::{
    Certificates, certificates, closed, cluster_tls, config, echo, echo_server, exchange,
    server_tls, sni,
};
use crate::support::{
    PATIENCE,
    certificates::ClientStream,
    eventually,
    postgres::{Postgres, psql, psql_command},
    tollgate::Tollgate,
};
use rustls::{ClientConnection, StreamOwned};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
const CANCEL_REQUEST: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2eprocess?";

/// Keys of a listener that ends TLS.
fn postgres_tls(certificates: &Certificates) -> String {
    format!("starttls: postgres, {}", server_tls(certificates))
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a request, and reads its answer of one byte.
fn ask(socket: &mut TcpStream, request: &[u8]) -> u8 {
    socket.write_all(request).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    answer[0]
}

/// Begins TLS on a socket, with PostgreSQL's application protocol.
fn encrypt(certificates: &Certificates, socket: TcpStream) -> ClientStream {
    let config = Arc::new(certificates.client_config_with_alpn(None, &["postgresql"]));
    let client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(client, socket)
}

/// A server that is asked for TLS and gives this answer. If that is yes, it encrypts and echoes. Each
/// connection's first bytes are sent to the receiver.
fn asked_server(
    certificates: &'static Certificates,
    answer: u8,
) -> (SocketAddr, mpsc::Receiver<[u8; 8]>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, sender) = (socket.unwrap(), sender.clone());
            thread::spawn(move || {
                let mut first = [0; 8];
                socket.peek(&mut [0]).unwrap();
                if socket.peek(&mut first).unwrap() == 8 && first == SSL_REQUEST {
                    socket.read_exact(&mut first).unwrap();
                    socket.write_all(&[answer]).unwrap();
                }
                // The test may be over.
                let _ = sender.send(first);
                let mut stream = certificates.accept(socket, "server", false);
                echo(&mut stream);
            });
        }
    });
    (address, receiver)
}

#[test]
fn a_request_for_tls_is_answered_before_the_handshake() {
    let certificates = certificates();
    let server = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&config(&postgres_tls(certificates), &server.to_string(), ""));
    let address = tollgate.listener("wire");
    for requests in [&[][..], &[SSL_REQUEST], &[GSSENC_REQUEST, SSL_REQUEST], &[GSSENC_REQUEST]] {
        let mut socket = connect(address);
        for request in requests {
            let expected = if *request == SSL_REQUEST { b'S' } else { b'N' };
            assert_eq!(ask(&mut socket, request), expected);
        }
        let mut stream = encrypt(certificates, socket);
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"postgresql"[..]));
        exchange(stream);
    }
    let mut split = connect(address);
    split.set_nodelay(true).unwrap();
    SSL_REQUEST[..7].iter().for_each(|byte| split.write_all(&[*byte]).unwrap());
    assert_eq!(ask(&mut split, &SSL_REQUEST[7..]), b'S');
    exchange(encrypt(certificates, split));
}

#[test]
fn bytes_behind_an_unanswered_request_close_the_connection() {
    let certificates = certificates();
    let server = echo_server(certificates, false, false);
    let keys = format!("plaintext: allow, certificates: {}", certificates.pair("server"));
    let listener = format!("starttls: postgres, tls: {{ {keys} }}");
    let tollgate = Tollgate::start(&config(&listener, &server.to_string(), ""));
    let startup = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";
    let early = [SSL_REQUEST, startup].concat();
    let twice = [GSSENC_REQUEST, GSSENC_REQUEST].concat();
    for (number, bytes) in [&early, &twice].into_iter().enumerate() {
        let mut socket = connect(tollgate.listener("wire"));
        socket.write_all(bytes).unwrap();
        assert!(closed(&socket.read(&mut [0; 16])), "something was answered");
        let labels = [("listener", "wire"), ("result", "protocol")];
        tollgate.wait_for_metric("tollgate_tls_handshakes_total", &labels, (number + 1) as f64);
    }
    // A client that has asked for TLS must use it, also where plaintext is allowed.
    let mut socket = connect(tollgate.listener("wire"));
    assert_eq!(ask(&mut socket, SSL_REQUEST), b'S');
    socket.write_all(startup).unwrap();
    let labels = [("listener", "wire"), ("result", "looks_like_postgres")];
    tollgate.wait_for_metric("tollgate_tls_handshakes_total", &labels, 1.0);
    let mut plain = connect(tollgate.listener("wire"));
    plain.write_all(startup).unwrap();
    plain.read_exact(&mut [0; 17]).unwrap();
}

#[test]
fn a_client_without_tls_gets_an_error_of_its_protocol() {
    let certificates = certificates();
    let listener = postgres_tls(certificates);
    let tollgate = Tollgate::start(&config(&listener, "127.0.0.1:1", ""));
    let mut socket = connect(tollgate.listener("wire"));
    socket.write_all(b"\0\0\0\x11\0\x03\0\0user\0me\0\0").unwrap();
    let mut start = [0; 5];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(start[0], b'E');
    let length = u32::from_be_bytes(start[1..].try_into().unwrap());
    let mut fields = vec![0; length as usize - 4];
    socket.read_exact(&mut fields).unwrap();
    let fields = String::from_utf8(fields).unwrap();
    assert!(fields.starts_with("SFATAL\0VFATAL\0C28000\0MTLS is required"), "{fields}");
}

#[test]
fn a_cancel_needs_no_tls_unless_certificates_are_required() {
    let certificates = certificates();
    let server = echo_server(certificates, false, false);
    for (mode, is_served) in [("required", false), ("optional", true)] {
        let ca = certificates.path("ca.crt");
        let listener = format!(
            "starttls: postgres, tls: {{ certificates: {}, client_ca: {}, client_certificate: {mode} }}",
            certificates.pair("server"),
            ca.display()
        );
        let tollgate = Tollgate::start(&config(&listener, &server.to_string(), ""));
        let mut socket = connect(tollgate.listener("wire"));
        socket.write_all(CANCEL_REQUEST).unwrap();
        let mut answer = [0; 16];
        let read = socket.read_exact(&mut answer);
        assert_eq!(read.is_ok() && answer == CANCEL_REQUEST, is_served, "{mode}");
    }
}

#[test]
fn an_endpoint_is_asked_for_tls() {
    let certificates = certificates();
    let (server, asked) = asked_server(certificates, b'S');
    let keys = format!(
        "starttls: postgres, {}, health_check: {{ interval: 250ms, initial: unhealthy }}",
        cluster_tls(certificates)
    );
    let endpoint = format!("localhost:{}", server.port());
    let tollgate = Tollgate::start(&config("", &endpoint, &keys));
    // The health check asks too.
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), SSL_REQUEST);
    exchange(connect(tollgate.listener("wire")));
    tollgate.wait_for_metric("tollgate_endpoint_up", &[("cluster", "echo")], 1.0);
}

#[test]
fn an_endpoint_that_refuses_tls_is_a_failure() {
    let certificates = certificates();
    for answer in [b'N', b'E'] {
        let (server, _asked) = asked_server(certificates, answer);
        let keys = format!("starttls: postgres, {}", cluster_tls(certificates));
        let endpoint = format!("localhost:{}", server.port());
        let tollgate = Tollgate::start(&config("", &endpoint, &keys));
        let mut client = connect(tollgate.listener("wire"));
        client.write_all(b"hello").unwrap();
        assert!(closed(&client.read(&mut [0; 16])), "something was answered");
        let labels = [("cluster", "echo"), ("result", "tls_refused")];
        eventually("the reason", || {
            (tollgate.metric("tollgate_upstream_connect_total", &labels) > 0.0).then_some(())
        });
        let clusters = tollgate.json("/clusters").to_string();
        assert!(clusters.contains("the endpoint does not offer TLS"), "{clusters}");
    }
}

#[test]
fn a_request_passes_through_together_with_tls() {
    let certificates = certificates();
    let (one, asked) = asked_server(certificates, b'S');
    let whole = sni::whole_config(one, one, "starttls: postgres");
    // Spare connections have begun without the request.
    let tollgate = Tollgate::start(&whole.replace("] }", "], spare_connections: 1 }"));
    let address = tollgate.listener("wire");
    let mut socket = connect(address);
    assert_eq!(ask(&mut socket, SSL_REQUEST), b'S');
    exchange(encrypt(certificates, socket));
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), SSL_REQUEST);
    // With TLS at once there is no request for the endpoint either.
    exchange(encrypt(certificates, connect(address)));
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap()[0], 0x16);
}

#[test]
fn psql_works_with_tls_on_either_side_and_through() {
    const IS_ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let certificates = certificates();
    let Some(server) = Postgres::start(certificates) else { return };
    let verified =
        format!("sslmode=verify-full sslrootcert={}", certificates.path("ca.crt").display());
    let near = postgres_tls(certificates);
    let far = format!("starttls: postgres, {}", cluster_tls(certificates));
    let through = "starttls: postgres, sni: { localhost: echo }";
    for (listener, cluster, options, is_encrypted) in [
        (&*near, "", &*verified, "f"),
        ("", &*far, "sslmode=disable", "t"),
        (&*near, &*far, &*verified, "t"),
        (through, "", &*verified, "t"),
    ] {
        let endpoint = format!("localhost:{}", server.address().port());
        let tollgate = Tollgate::start(&config(listener, &endpoint, cluster));
        let address = tollgate.listener("wire");
        let found = psql(address, options, IS_ENCRYPTED);
        assert_eq!(found.as_deref(), Ok(is_encrypted), "{listener} {cluster}");
        let long = psql(address, options, "select repeat('x', 1000000)").unwrap();
        assert_eq!(long.len(), 1_000_000);
        cancel(address, options);
    }
    let tollgate = Tollgate::start(&config(&near, &server.address().to_string(), ""));
    let refused = psql(tollgate.listener("wire"), "sslmode=disable", "select 1").unwrap_err();
    assert!(refused.contains("TLS is required here (sslmode=require)"), "{refused}");
}

/// Interrupts psql, which then cancels its query on a second connection.
fn cancel(address: SocketAddr, options: &str) {
    let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
    let mut command = psql_command(address, options, "select pg_sleep(600)");
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the query", || (psql(address, options, sleeping).unwrap() == "1").then_some(()));
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("canceling statement due to user request"), "{error}");
    eventually("the end", || (psql(address, options, sleeping).unwrap() == "0").then_some(()));
}
