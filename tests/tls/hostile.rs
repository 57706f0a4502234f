//! Clients and endpoints that break TLS, or the patience of others.

use super::{
    Certificates, certificates, closed, cluster_tls, config, echo_server, exchange, server_tls,
};
use crate::{
    records::{ALERT, HANDSHAKE, PAYLOAD, Records},
    support::{PATIENCE, ends::Upstream, eventually, tollgate::Tollgate},
};
use rustls::version::{TLS12, TLS13};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

const HANDSHAKES: &str = "tollgate_tls_handshakes_total";

/// A proxy with TLS before an echo server, and the address of its listener.
fn start(listener: &str) -> (&'static Certificates, Tollgate, SocketAddr) {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let listener = format!("{}, {listener}", server_tls(certificates));
    let tollgate = Tollgate::start(&config(&listener, &echo.to_string(), ""));
    let address = tollgate.listener("wire");
    (certificates, tollgate, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A client's first record.
fn hello(certificates: &Certificates, alpn: &[Vec<u8>]) -> (rustls::ClientConnection, Vec<u8>) {
    let mut config = (*certificates.client_config(None)).clone();
    config.alpn_protocols = alpn.to_vec();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    (client, bytes)
}

#[test]
fn half_a_hello_and_silence_end_with_a_timeout() {
    let (certificates, tollgate, address) = start("handshake_timeout: 1s");
    let (_, hello) = hello(certificates, &[]);
    let mut stalled: Vec<_> = [0, 1, 5, hello.len() / 2, hello.len() - 1, hello.len()]
        .iter()
        .map(|&length| {
            let mut socket = connect(address);
            socket.write_all(&hello[..length]).unwrap();
            socket
        })
        .collect();
    exchange(certificates.connect(address, "localhost", None));
    for socket in &mut stalled {
        let mut rest = Vec::new();
        // The server's own part of the handshake comes first, if it has seen a whole hello.
        let _ = socket.read_to_end(&mut rest);
    }
    tollgate.wait_for_metric(HANDSHAKES, &[("result", "timeout")], 6.0);
    let labels = [("reason", "tls_handshake")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 6.0);
}

#[test]
fn a_hello_in_pieces_is_understood() {
    let (certificates, _tollgate, address) = start("");
    for records in [1, 3] {
        let (client, hello) = hello(certificates, &[]);
        let payload = &hello[5..];
        let parts = payload.chunks(payload.len().div_ceil(records));
        let cut = parts.flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1][..], &length, part].concat()
        });
        let mut socket = connect(address);
        cut.for_each(|byte| socket.write_all(&[byte]).unwrap());
        exchange(rustls::StreamOwned::new(client, socket));
    }
}

#[test]
fn a_hello_may_have_16_kib_and_no_more() {
    let (certificates, tollgate, address) = start("");
    let protocols = |count| vec![vec![b'p'; 250]; count];
    let (client, bytes) = hello(certificates, &protocols(60));
    let mut socket = connect(address);
    socket.write_all(&bytes).unwrap();
    exchange(rustls::StreamOwned::new(client, socket));
    let (_, bytes) = hello(certificates, &protocols(80));
    let mut socket = connect(address);
    // The proxy may close before it has all of it.
    let _ = socket.write_all(&bytes);
    assert!(closed(&socket.read(&mut [0; 16])));
    tollgate.wait_for_metric(HANDSHAKES, &[("result", "protocol")], 1.0);
}

#[test]
fn garbage_after_the_handshake_ends_the_connection() {
    let (certificates, tollgate, address) = start("");
    for version in [&TLS12, &TLS13] {
        let mut client = Records::connect(certificates, address, version);
        client.socket.write_all(&[0x5A; 500]).unwrap();
        while client.next().is_some() {}
    }
    for line in tollgate.logged(2, |_| true) {
        assert_eq!((&line["request_bytes"], &line["outcome"]), (&1.into(), &"cancelled".into()));
    }
    exchange(certificates.connect(address, "localhost", None));
}

#[test]
fn a_changed_record_ends_the_connection() {
    let (certificates, tollgate, address) = start("");
    for version in [&TLS12, &TLS13] {
        let mut client = Records::connect(certificates, address, version);
        let mut record = client.record(PAYLOAD, b"a thousand to Alice");
        let last = record.len() - 1;
        record[last] ^= 1;
        client.socket.write_all(&record).unwrap();
        while client.next().is_some() {}
    }
    for line in tollgate.logged(2, |_| true) {
        assert_eq!(line["request_bytes"], 1, "changed bytes reached the endpoint: {line}");
    }
}

#[test]
fn a_client_that_renegotiates_is_not_followed() {
    let (certificates, _tollgate, address) = start("");
    let (_, hello) = hello(certificates, &[]);
    let mut client = Records::connect(certificates, address, &TLS12);
    client.send(HANDSHAKE, &hello[5..]).unwrap();
    assert_eq!(client.next(), Some(ALERT), "no_renegotiation (RFC 5246, 7.2.2)");
    client.send(PAYLOAD, b"and on").unwrap();
    assert_eq!(client.next(), Some(PAYLOAD), "the connection goes on");
    for _ in 0..100 {
        let _ = client.send(HANDSHAKE, &hello[5..]);
    }
    let answers = std::iter::from_fn(|| client.next()).count();
    assert!(answers <= 2, "{answers} answers");
}

#[test]
fn an_endpoint_that_renegotiates_is_not_followed() {
    let certificates = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
    let tollgate = Tollgate::start(&config("", &endpoint, &cluster_tls(certificates)));
    let mut client = connect(tollgate.listener("wire"));
    client.write_all(b"x").unwrap();
    let mut server = Records::accept(certificates, listener.accept().unwrap().0, &TLS12);
    client.read_exact(&mut [0; 1]).unwrap();
    let hello_request = [0; 4];
    server.send(HANDSHAKE, &hello_request).unwrap();
    server.send(PAYLOAD, b"y").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    for _ in 0..100 {
        let _ = server.send(HANDSHAKE, &hello_request);
    }
    assert!(closed(&client.read(&mut [0; 1])), "a flood of requests is borne");
}

#[test]
fn alerts_end_the_connection_as_they_say() {
    let (certificates, tollgate, address) = start("");
    // internal_error, fatal; close_notify.
    for (alert, outcome) in [([2, 80], "cancelled"), ([1, 0], "ok")] {
        for version in [&TLS12, &TLS13] {
            let mut client = Records::connect(certificates, address, version);
            client.send(ALERT, &alert).unwrap();
            while client.next().is_some() {}
            let line = eventually("the line", || {
                let mut lines = tollgate.access_log();
                let line = lines.pop()?;
                (line["outcome"] == outcome).then_some(line)
            });
            assert_eq!(line["request_bytes"], 1);
        }
    }
    // user_canceled: a warning that means nothing, many times.
    let mut client = Records::connect(certificates, address, &TLS12);
    for _ in 0..100 {
        let _ = client.send(ALERT, &[1, 90]);
    }
    while client.next().is_some() {}
}

#[test]
fn a_storm_of_key_updates_ends_the_connection() {
    let (certificates, tollgate, address) = start("");
    let mut client = certificates.connect(address, "localhost", None);
    for _ in 0..50 {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        client.conn.refresh_traffic_keys().unwrap();
    }
    let mut storm = Vec::new();
    for _ in 0..10_000 {
        client.conn.refresh_traffic_keys().unwrap();
        client.conn.write_tls(&mut storm).unwrap();
    }
    // The proxy may close before it has all of it.
    let _ = client.sock.write_all(&storm);
    while matches!(client.sock.read(&mut [0; 4096]), Ok(1..)) {}
    let line = tollgate.logged(1, |_| true).remove(0);
    assert_eq!((&line["request_bytes"], &line["outcome"]), (&50.into(), &"cancelled".into()));
}

#[test]
fn a_flood_of_empty_records_delays_no_other_client() {
    let (certificates, tollgate, address) = start("");
    let before = tollgate.resident_memory();
    let mut flood: Vec<_> =
        (0..4).map(|_| Records::connect(certificates, address, &TLS13)).collect();
    thread::scope(|scope| {
        for client in &mut flood {
            scope.spawn(|| {
                let records: Vec<u8> =
                    (0..100_000).flat_map(|_| client.record(PAYLOAD, &[])).collect();
                let _ = client.socket.write_all(&records);
                if client.send(PAYLOAD, b"y").is_ok() {
                    client.next();
                }
            });
        }
        for _ in 0..20 {
            let mut other = certificates.connect(address, "localhost", None);
            other.write_all(b"x").unwrap();
            other.read_exact(&mut [0; 1]).unwrap();
        }
    });
    let grown = tollgate.resident_memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes");
}

#[test]
fn a_client_that_never_reads_costs_little_memory() {
    const CLIENTS: usize = 80;
    let certificates = certificates();
    let source = Upstream::start();
    let listener = format!("{}, write_timeout: 2s", server_tls(certificates));
    let tollgate = Tollgate::start(&config(&listener, &source.address().to_string(), ""));
    let before = tollgate.resident_memory();
    let address = tollgate.listener("wire");
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| certificates.connect(address, "localhost", None)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"all of it").unwrap());
    let endless: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut end = source.accept();
            thread::spawn(move || while end.try_send(&[7; 65_536]).is_ok() {})
        })
        .collect();
    let labels = [("listener", "wire"), ("reason", "write_timeout")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, CLIENTS as f64);
    let each = tollgate.peak_memory().saturating_sub(before) / CLIENTS as u64;
    assert!(each < 400 << 10, "{each} bytes for each");
    endless.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn all_bytes_reach_a_client_that_is_slow() {
    const LENGTH: usize = 8 << 20;
    let certificates = certificates();
    let source = Upstream::start();
    let tollgate =
        Tollgate::start(&config(&server_tls(certificates), &source.address().to_string(), ""));
    let mut client = certificates.connect(tollgate.listener("wire"), "localhost", None);
    client.write_all(b"all of it").unwrap();
    let mut end = source.accept();
    let server = thread::spawn(move || {
        end.send(&vec![7; LENGTH]);
        end.finish();
        end
    });
    let mut bytes = Vec::new();
    // An end without close_notify would be an error.
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), LENGTH);
    server.join().unwrap();
}

#[test]
fn a_body_that_is_cut_off_is_not_passed_as_complete() {
    let certificates = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: '127.0.0.1:0', protocol: {{ http: {{ routes: [{{ name: all, \
         cluster: web }}] }} }} }}\n\
         clusters:\n  web: {{ endpoints: ['{endpoint}'], {} }}\n",
        cluster_tls(certificates)
    ));
    for complete in [true, false] {
        let mut client = connect(tollgate.listener("web"));
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
        let mut server = certificates.accept(listener.accept().unwrap().0, "server", false);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            server.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        // The body has no length: it ends with the stream.
        server.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonly a part").unwrap();
        if complete {
            server.conn.send_close_notify();
        }
        server.flush().unwrap();
        drop(server);
        let mut reply = Vec::new();
        let mut part = [0; 4096];
        while !reply.ends_with(b"0\r\n\r\n") {
            match client.read(&mut part) {
                Ok(read @ 1..) => reply.extend_from_slice(&part[..read]),
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&reply);
        assert_eq!(text.ends_with("0\r\n\r\n"), complete, "{text}");
    }
}

#[test]
fn a_scanner_does_not_fill_the_log() {
    let (certificates, tollgate, address) = start("");
    let before = tollgate.stderr().lines().count();
    let (_, hello) = hello(certificates, &[]);
    let mut broken = hello.clone();
    broken[9] ^= 0xFF;
    for _ in 0..200 {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &broken, b"SSH-2.0-scan\r\n", &hello] {
            let mut socket = connect(address);
            socket.write_all(bytes).unwrap();
            if bytes != hello {
                let _ = socket.read(&mut [0; 16]);
            }
        }
    }
    for result in ["looks_like_http", "looks_like_ssh"] {
        tollgate.wait_for_metric(HANDSHAKES, &[("result", result)], 200.0);
    }
    let lines = tollgate.stderr().lines().count() - before;
    assert!(lines <= 20, "{lines} lines");
}

#[test]
fn handshakes_that_fail_leave_no_descriptors() {
    let (certificates, tollgate, address) = start("handshake_timeout: 1s");
    let (_, hello) = hello(certificates, &[]);
    let before = tollgate.descriptors();
    let stalled: Vec<_> = (0..100)
        .map(|number| {
            let mut socket = connect(address);
            socket.write_all(&hello[..hello.len() - number % 2]).unwrap();
            socket
        })
        .collect();
    eventually("their descriptors to be closed", || {
        let failed = tollgate.metric(HANDSHAKES, &[("result", "timeout")]);
        (failed == 100.0 && tollgate.descriptors() <= before + 2).then_some(())
    });
    drop(stalled);
}
