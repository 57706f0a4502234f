//! Encrypted connections through the proxy, of clients and to endpoints, and PROXY headers.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod alpn;
mod bad_certificates;
mod check;
mod client_certificate_header;
mod connection_policies;
mod expiry;
mod flood;
mod hostile;
mod https_service;
mod key_exchange;
mod load_balancers;
mod openssl;
mod plaintext_cluster;
mod proxy_protocol;
mod records;
mod renewal;
mod resumption;
mod revocation;
mod scanners;
mod server_names;
mod sni;
mod starttls;
mod upstream;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};
use support::{PATIENCE, certificates::Certificates, eventually, tollgate::Tollgate};

/// Sends back what it receives, and ends its stream when the client does. `asks` for certificates.
fn echo_server(certificates: &'static Certificates, encrypted: bool, asks: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            thread::spawn(move || {
                if encrypted {
                    let mut stream = certificates.accept(socket, "server", asks);
                    echo(&mut stream);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                } else {
                    let mut socket = socket;
                    echo(&mut socket);
                }
            });
        }
    });
    address
}

fn echo(stream: &mut (impl Read + Write)) {
    let mut bytes = vec![0; 50_000];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// An authority with a server's and a client's certificate, which live as long as the test.
fn certificates() -> &'static Certificates {
    let certificates = Certificates::new();
    certificates.issue("server", &["localhost"]);
    certificates.issue("client", &["app.example.net"]);
    Box::leak(Box::new(certificates))
}

fn config(listener: &str, endpoint: &str, cluster: &str) -> String {
    format!(
        "listeners:\n  wire: {{ address: '127.0.0.1:0', protocol: tcp, cluster: echo, \
         upstream_connect_mode: on_client_data, {listener} }}\n\
         clusters:\n  echo: {{ endpoints: ['{endpoint}'], {cluster} }}\n"
    )
}

fn server_tls(certificates: &Certificates) -> String {
    format!("tls: {{ certificates: {} }}", certificates.pair("server"))
}

fn cluster_tls(certificates: &Certificates) -> String {
    format!("tls: {{ ca: {} }}", certificates.path("ca.crt").display())
}

/// Writes bytes of all kinds while it reads them back, and compares.
fn exchange(mut stream: impl Read + Write) {
    let sent: Vec<u8> =
        (0..400_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut got = vec![0; 20_000];
    for part in sent.chunks(20_000) {
        stream.write_all(part).unwrap();
        stream.flush().unwrap();
        stream.read_exact(&mut got[..part.len()]).unwrap();
        assert!(got[..part.len()] == *part, "bytes were changed");
    }
}

#[test]
fn bytes_pass_unchanged_with_tls_on_either_side() {
    let certificates = certificates();
    for (near, far) in [(true, false), (false, true), (true, true)] {
        let echo = echo_server(certificates, far, false);
        let listener = if near { server_tls(certificates) } else { String::new() };
        let cluster = if far { cluster_tls(certificates) } else { String::new() };
        let endpoint = format!("localhost:{}", echo.port());
        let tollgate = Tollgate::start(&config(&listener, &endpoint, &cluster));
        let address = tollgate.listener("wire");
        if near {
            exchange(certificates.connect(address, "localhost", None));
        } else {
            exchange(TcpStream::connect_timeout(&address, PATIENCE).unwrap());
        }
        let line = tollgate.logged(1, |_| true).remove(0);
        assert_eq!([&line["request_bytes"], &line["reply_bytes"]], [1_600_000, 1_600_000]);
    }
}

#[test]
fn an_end_without_close_notify_is_a_reset() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&config(&server_tls(certificates), &echo.to_string(), ""));
    for orderly in [true, false] {
        let mut stream = certificates.connect(tollgate.listener("wire"), "localhost", None);
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        if orderly {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        drop(stream);
        let (reason, outcome) =
            if orderly { ("client", "ok") } else { ("client_reset", "cancelled") };
        let lines = tollgate.logged(if orderly { 1 } else { 2 }, |_| true);
        let line = lines.last().unwrap();
        assert_eq!((&line["reason"], &line["outcome"]), (&reason.into(), &outcome.into()));
    }
}

#[test]
fn endpoints_are_verified_by_the_host_as_written() {
    let certificates = certificates();
    let echo = echo_server(certificates, true, false);
    let port = echo.port();
    for (endpoint, cluster, reason) in [
        (format!("127.0.0.1:{port}"), cluster_tls(certificates), "tls_wrong_name"),
        (format!("localhost:{port}"), "tls: {}".to_owned(), "tls_unknown_issuer"),
    ] {
        let tollgate = Tollgate::start(&config("", &endpoint, &cluster));
        let mut client = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
        client.write_all(b"hello").unwrap();
        let read = client.read(&mut [0; 16]);
        assert!(closed(&read), "something was answered");
        let labels = [("result", reason)];
        eventually("the reason", || {
            (tollgate.metric("tollgate_upstream_connect_total", &labels) > 0.0).then_some(())
        });
    }
}

#[test]
fn endpoints_may_ask_for_a_certificate() {
    let certificates = certificates();
    let echo = echo_server(certificates, true, true);
    let own = certificates.pair("client");
    let ca = certificates.path("ca.crt");
    let cluster = format!("tls: {{ ca: {}, certificate: {own} }}", ca.display());
    let endpoint = format!("localhost:{}", echo.port());
    let tollgate = Tollgate::start(&config("", &endpoint, &cluster));
    exchange(TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap());
}

#[test]
fn clients_without_a_certificate_are_refused_and_counted() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let ca = certificates.path("ca.crt");
    let tls = format!(
        "tls: {{ certificates: {}, client_ca: {} }}",
        certificates.pair("server"),
        ca.display()
    );
    let tollgate = Tollgate::start(&config(&tls, &echo.to_string(), ""));
    let address = tollgate.listener("wire");
    exchange(certificates.connect(address, "localhost", Some("client")));
    let mut refused = certificates.connect(address, "localhost", None);
    let read = refused.write_all(b"hello").and_then(|()| refused.read(&mut [0; 16]));
    let alert = read.unwrap_err().to_string();
    assert!(alert.contains("CertificateRequired"), "{alert}");
    let mut plain = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(closed(&plain.read(&mut [0; 16])));
    let metric = "tollgate_tls_handshakes_total";
    for result in ["ok", "no_certificate", "looks_like_http"] {
        tollgate.wait_for_metric(metric, &[("listener", "wire"), ("result", result)], 1.0);
    }
    let labels = [("listener", "wire"), ("reason", "tls_handshake")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 2.0);
    let line = tollgate.logged(1, |_| true).remove(0);
    let logged = ["sni", "tls_version", "client_certificate"].map(|field| &line[field]);
    assert_eq!(logged, ["localhost", "1.3", "app.example.net"], "{line}");
    assert!(line["tls_cipher"].as_str().unwrap().starts_with("TLS13_"), "{line}");
}

#[test]
fn policies_know_the_names_of_a_client() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let ca = certificates.path("ca.crt");
    let tls = format!(
        "tls: {{ certificates: {}, client_ca: {}, client_certificate: optional }}",
        certificates.pair("server"),
        ca.display()
    );
    let policies = "policies: [{ name: no-app, match: { tls.san: 'app.*' }, deny: {} }]";
    let whole = format!("{}{policies}", config(&tls, &echo.to_string(), ""));
    let tollgate = Tollgate::start(&whole);
    let address = tollgate.listener("wire");
    exchange(certificates.connect(address, "localhost", None));
    let mut denied = certificates.connect(address, "localhost", Some("client"));
    let read = denied.write_all(b"hello").and_then(|()| denied.read(&mut [0; 16]));
    assert!(closed(&read), "a denied client was served");
    let labels = [("listener", "wire"), ("policy", "no-app")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn a_renewed_certificate_is_for_new_connections() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&config(&server_tls(certificates), &echo.to_string(), ""));
    let address = tollgate.listener("wire");
    let shown = || {
        let mut stream = certificates.connect(address, "localhost", None);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        (stream.conn.peer_certificates().unwrap()[0].to_vec(), stream)
    };
    let (old, mut open) = shown();
    certificates.issue("server", &["localhost"]);
    eventually("the new certificate", || (shown().0 != old).then_some(()));
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0; 1]).unwrap();
    std::fs::write(certificates.path("server.key"), "no key").unwrap();
    eventually("the error", || {
        (tollgate.metric("tollgate_tls_reloads_total", &[("result", "failed")]) > 0.0).then_some(())
    });
    exchange(certificates.connect(address, "localhost", None));
    let listed = tollgate.json("/tls");
    assert_eq!(listed["certificates"][0]["names"], serde_json::json!(["localhost"]));
}

#[test]
fn listed_certificates_have_no_keys() {
    let certificates = certificates();
    let listener = server_tls(certificates);
    let tollgate = Tollgate::start(&config(&listener, "127.0.0.1:9", ""));
    let pem = std::fs::read_to_string(certificates.path("server.key")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    for path in ["/tls", "/config"] {
        let (status, body) = tollgate.get(path);
        assert_eq!(status, 200);
        assert!(body.contains("server.crt") && !body.contains(secret), "{body}");
    }
}

#[test]
fn curl_speaks_both_versions_of_http_over_tls() {
    let certificates = certificates();
    let tls = server_tls(certificates);
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:0'\n    protocol: {{ http: {{ routes: [{{ name: all, \
         reply: {{ status: 200, body: hello }} }}] }} }}\n    {tls}\nclusters: {{}}\n"
    ));
    let port = tollgate.listener("web").port();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = Command::new("curl")
            .args(["-sS", option, "-w", " %{http_version}", "--cacert"])
            .arg(certificates.path("ca.crt"))
            .arg(format!("https://localhost:{port}/"))
            .output();
        let Ok(output) = output else {
            println!("there is no curl here: nothing is tested");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, format!("hello {version}"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An error of a client's connection, however the proxy has closed it.
fn closed(result: &io::Result<usize>) -> bool {
    !matches!(result, Ok(1..))
}
