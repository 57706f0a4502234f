//! Everything that opens connections to endpoints opens them inside TLS, and says why it can't.

use super::{
    Certificates, certificates, config, echo_server, exchange,
    https_service::HttpsService,
    support::{
        PATIENCE, eventually,
        http::{Client, Version, get},
        tollgate::Tollgate,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

const CONNECTS: &str = "tollgate_upstream_connect_total";

/// A proxy with the listener `web`, this route and these clusters.
fn routed(certificates: &Certificates, route: &str, clusters: &[(&str, &[String])]) -> Tollgate {
    let ca = certificates.path("ca.crt");
    let cluster = |(name, endpoints): &(&str, &[String])| {
        let endpoints = endpoints.join("', '");
        let ca = ca.display();
        format!("  {name}: {{ endpoints: ['{endpoints}'], tls: {{ ca: {ca} }} }}\n")
    };
    let clusters: String = clusters.iter().map(cluster).collect();
    Tollgate::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:0'\n    \
         protocol: {{ http: {{ routes: [{{ name: all, cluster: shop, {route} }}] }} }}\n\
         clusters:\n{clusters}"
    ))
}

fn ask(tollgate: &Tollgate) -> String {
    let client = Client::connect(tollgate.listener("web"), Version::One);
    client.round_trip(get("/")).text().to_owned()
}

/// A server that completes handshakes and answers nothing.
fn silent_server(certificates: &'static Certificates) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut stream = certificates.accept(socket.unwrap(), "server", false);
            thread::spawn(move || while let Ok(1..) = stream.read(&mut [0; 4096]) {});
        }
    });
    format!("localhost:{port}")
}

#[test]
fn mirrored_requests_are_encrypted() {
    let certificates = certificates();
    let [shop, next] = [(); 2].map(|()| HttpsService::start(certificates, |_| &["http/1.1"]));
    let tollgate = routed(
        certificates,
        "mirror: { cluster: next }",
        &[("shop", &[shop.endpoint()]), ("next", &[next.endpoint()])],
    );
    assert_eq!(ask(&tollgate), "HTTP/1.1 -");
    tollgate.wait_for_metric(CONNECTS, &[("cluster", "next"), ("result", "ok")], 1.0);
}

#[test]
fn hedged_requests_are_encrypted() {
    let certificates = certificates();
    let service = HttpsService::start(certificates, |_| &["http/1.1"]);
    let endpoints = [silent_server(certificates), service.endpoint()];
    let tollgate = routed(certificates, "hedge: { after: 50ms }", &[("shop", &endpoints)]);
    for _ in 0..4 {
        assert_eq!(ask(&tollgate), "HTTP/1.1 -");
    }
    let lines = tollgate.logged(4, |_| true);
    assert!(lines.iter().any(|line| line.to_string().contains("hedged")), "{lines:?}");
}

fn connect(tollgate: &Tollgate) -> TcpStream {
    let client = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// A proxy before this server whose cluster has these keys of `tls`.
fn before(server: SocketAddr, keys: &str) -> Tollgate {
    let cluster = format!("tls: {{ {keys} }}");
    Tollgate::start(&config("", &format!("localhost:{}", server.port()), &cluster))
}

#[test]
fn an_endpoint_without_a_pinned_key_is_refused() {
    let certificates = certificates();
    let server = echo_server(certificates, true, false);
    let ca = certificates.path("ca.crt");
    let pin = |name: &str| {
        let file = certificates.path(&format!("{name}.crt"));
        STANDARD.encode(tls::key_digest(&CertificateDer::from_pem_file(file).unwrap()).unwrap())
    };
    let pinned = |pins: &str| before(server, &format!("ca: {}, pins: [{pins}]", ca.display()));
    exchange(connect(&pinned(&format!("{}, {}", pin("client"), pin("server")))));
    let tollgate = pinned(&pin("client"));
    let mut client = connect(&tollgate);
    let _ = client.write_all(b"hello").and_then(|()| client.read(&mut [0]));
    eventually("the reason", || {
        (tollgate.metric(CONNECTS, &[("result", "tls_pin")]) > 0.0).then_some(())
    });
}

#[test]
fn a_cluster_without_verification_is_warned_of() {
    let certificates = Certificates::new();
    certificates.issue("server", &["another.example.net"]);
    let server = echo_server(Box::leak(Box::new(certificates)), true, false);
    let tollgate = before(server, "verify: false");
    exchange(connect(&tollgate));
    eventually("the warning", || tollgate.stderr().contains("not verified").then_some(()));
}

#[test]
fn an_endpoint_shows_when_its_certificate_ends() {
    let certificates = certificates();
    let server = echo_server(certificates, true, false);
    let ca = certificates.path("ca.crt");
    let tollgate = before(server, &format!("ca: {}", ca.display()));
    let shown =
        || tollgate.json("/clusters")[0]["endpoints"][0]["certificate_expires_in_seconds"].clone();
    assert!(shown().is_null(), "nothing is known before the first connection: {}", shown());
    exchange(connect(&tollgate));
    let pem = CertificateDer::from_pem_file(certificates.path("server.crt")).unwrap();
    let end = tls::CertificateInfo::read(&pem).unwrap().expires();
    let left = end.duration_since(std::time::SystemTime::now()).unwrap_or_default().as_secs();
    let told = shown().as_u64().unwrap();
    // Time passes between the two.
    assert!((left..=left + 120).contains(&told), "{told}, not {left}");
}
