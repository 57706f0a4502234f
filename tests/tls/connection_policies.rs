//! Policies about connections that know what TLS and PROXY headers show.

use super::{certificates, config, echo_server, exchange, server_tls, sni};
use crate::support::{
    PATIENCE,
    certificates::{Certificates, ClientStream},
    eventually,
    tollgate::Tollgate,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

/// An authority with two services' certificates, beside those of [`certificates`].
fn services() -> &'static Certificates {
    let certificates = certificates();
    for name in ["orders", "reports"] {
        certificates.issue_for_uris(name, &[&format!("spiffe://example.net/{name}")]);
    }
    certificates
}

/// A listener that asks clients for certificates, with these policies.
fn start(certificates: &'static Certificates, policies: &str) -> Tollgate {
    let echo = echo_server(certificates, false, false);
    let (pair, ca) = (certificates.pair("server"), certificates.path("ca.crt"));
    let tls = format!(
        "tls: {{ certificates: {pair}, client_ca: {}, client_certificate: optional }}",
        ca.display()
    );
    Tollgate::start(&format!("{}policies: [{policies}]", config(&tls, &echo.to_string(), "")))
}

/// Whether the proxy serves this connection: a byte comes back.
fn is_served(stream: &mut (impl Read + Write)) -> bool {
    let sent = stream.write_all(b"x").and_then(|()| stream.flush());
    match sent.and_then(|()| stream.read(&mut [0; 1])) {
        Ok(read) => read == 1,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it neither answers nor closes");
            false
        }
    }
}

#[test]
fn each_client_certificate_has_its_own_connections() {
    let certificates = services();
    let policy = "{ name: each-service, connection_limit: { max: 2, key: [tls.uri] } }";
    let tollgate = start(certificates, policy);
    let address = tollgate.listener("wire");
    let connect = |own| -> Option<ClientStream> {
        let mut stream = certificates.connect(address, "localhost", own);
        is_served(&mut stream).then_some(stream)
    };
    let open = [connect(Some("orders")), connect(Some("orders")), connect(Some("reports"))];
    assert!(open.iter().all(Option::is_some));
    assert!(connect(Some("orders")).is_none(), "a third one");
    let labels = [("policy", "each-service"), ("reason", "overloaded")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
    drop(open);
    eventually("a place", || connect(Some("orders")).map(drop));
}

#[test]
fn a_refusal_after_the_handshake_is_an_error_reply() {
    let certificates = services();
    let (pair, ca) = (certificates.pair("server"), certificates.path("ca.crt"));
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:0'\n    \
         protocol: {{ http: {{ routes: [{{ name: all, reply: {{ status: 200, body: hello }} }}] }} }}\n    \
         tls: {{ certificates: {pair}, client_ca: {} }}\nclusters: {{}}\n\
         policies: [{{ name: no-reports, match: {{ tls.san: '*/reports' }}, deny: {{}} }}]\n",
        ca.display()
    ));
    for (own, status) in [("orders", "200"), ("reports", "403")] {
        let mut stream = certificates.connect(tollgate.listener("web"), "localhost", Some(own));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head, *format!("HTTP/1.1 {status}").as_bytes());
    }
    let labels = [("listener", "web"), ("policy", "no-reports")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn connections_of_a_name_are_limited_where_tls_passes_through() {
    let (certificates, one, two) = sni::servers();
    let policies = "policies: [{ name: each-name, connection_limit: { max: 1, key: [sni] } }]\n";
    let tollgate = Tollgate::start(&format!("{}{policies}", sni::whole_config(one, two, "")));
    let address = tollgate.listener("wire");
    let mut first = certificates.connect(address, "localhost", None);
    assert!(is_served(&mut first));
    let mut other = certificates.connect(address, "db.example.net", None);
    assert!(is_served(&mut other));
    assert!(!is_served(&mut certificates.connect(address, "localhost", None)));
    let labels = [("policy", "each-name"), ("reason", "overloaded")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn connections_of_a_vpc_endpoint_are_limited() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let policies =
        "policies: [{ name: each-vpc, connection_limit: { max: 1, key: [proxy.vpce] } }]";
    let listener = "proxy_protocol: { from: 127.0.0.0/8 }";
    let whole = format!("{}{policies}", config(listener, &echo.to_string(), ""));
    let tollgate = Tollgate::start(&whole);
    let connect = |vpce| {
        let address = tollgate.listener("wire");
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&super::proxy_protocol::version_2([10, 0, 0, 1], vpce)).unwrap();
        socket
    };
    let mut first = connect("vpce-1");
    assert!(is_served(&mut first));
    assert!(is_served(&mut connect("vpce-2")), "the same address in another VPC");
    assert!(!is_served(&mut connect("vpce-1")));
    let labels = [("policy", "each-vpc"), ("reason", "overloaded")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[test]
fn a_plain_connection_has_no_attributes_of_tls() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let policies = "policies: [{ name: named, match: { tls.san: '*' }, deny: {} },
        { name: unnamed, dry_run: true, match: { not: { tls.san: '*' } }, deny: {} }]";
    let whole = format!("{}{policies}", config("", &echo.to_string(), ""));
    let tollgate = Tollgate::start(&whole);
    exchange(TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap());
    let labels = [("policy", "unnamed"), ("reason", "denied")];
    tollgate.wait_for_metric("tollgate_dry_run_refusals_total", &labels, 1.0);
}

#[test]
fn a_policy_added_later_decides_about_new_connections() {
    let certificates = services();
    let tollgate = start(certificates, "");
    let address = tollgate.listener("wire");
    let mut open = certificates.connect(address, "localhost", Some("reports"));
    assert!(is_served(&mut open));
    let policy = r#"{ "match": { "tls.uri": "spiffe://*/reports" }, "deny": {} }"#;
    assert_eq!(tollgate.send("PUT", "/policies/no-reports", policy).0, 201);
    for (own, served) in [("reports", false), ("orders", true)] {
        let mut stream = certificates.connect(address, "localhost", Some(own));
        assert_eq!(is_served(&mut stream), served, "{own}");
    }
    assert!(is_served(&mut open));
}

#[test]
fn check_says_what_a_listener_needs_for_an_attribute() {
    let certificates = certificates();
    let policies = "policies: [{ name: it, match: { not: { sni: x } }, \
                    connection_limit: { max: 1, key: [tls.uri, proxy.vpce] } }]";
    let hints = |listener: &str| {
        super::check::hints(&format!("{}{policies}", config(listener, "127.0.0.1:1", "")))
    };
    let plain = hints("");
    for hint in [
        "no client has `sni` here: a listener needs `tls` or `sni`",
        "no client has `tls.uri` here: a listener needs `tls` with a `client_ca`",
        "no client has `proxy.vpce` here: a listener needs `proxy_protocol`",
    ] {
        assert!(plain.contains(hint), "{plain}");
    }
    let encrypted = hints(&server_tls(certificates));
    assert!(!encrypted.contains("`sni`") && encrypted.contains("`tls.uri`"), "{encrypted}");
}
