//! Open connections of clients whose certificates are no longer accepted.

use super::{Certificates, certificates, closed, config, echo_server};
use crate::support::{
    certificates::{ClientStream, authority},
    tollgate::Tollgate,
};
use rcgen::SerialNumber;
use std::{
    fs,
    io::{Read, Write},
};

/// The serial numbers of the two clients.
const CLIENTS: [(&str, u64); 2] = [("first", 101), ("second", 102)];

/// An authority with two clients, and a list that revokes neither.
fn issued() -> &'static Certificates {
    let certificates = certificates();
    for (name, serial) in CLIENTS {
        let set = |params: &mut rcgen::CertificateParams| {
            params.serial_number = Some(SerialNumber::from(serial));
        };
        certificates.issue_with(name, &["app.example.net"], set);
    }
    certificates.revoke(1);
    certificates
}

/// A proxy that asks for certificates, with these further keys.
fn start(certificates: &'static Certificates, more: &str) -> Tollgate {
    let server = echo_server(certificates, false, false);
    let (ca, crl) = (certificates.path("ca.crt"), certificates.path("revoked.pem"));
    let listener = format!(
        "tls: {{ certificates: {}, client_ca: {}, crl: {{ file: {} }}, {more} }}",
        certificates.pair("server"),
        ca.display(),
        crl.display()
    );
    Tollgate::start(&config(&listener, &server.to_string(), ""))
}

fn open(certificates: &Certificates, tollgate: &Tollgate, own: &str) -> ClientStream {
    let mut stream = certificates.connect(tollgate.listener("wire"), "localhost", Some(own));
    echo_once(&mut stream);
    stream
}

fn echo_once(stream: &mut ClientStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

fn wait_for_reload(tollgate: &Tollgate) {
    tollgate.wait_for_metric("tollgate_tls_reloads_total", &[("result", "ok")], 1.0);
}

#[test]
fn a_revoked_client_loses_its_open_connections() {
    let certificates = issued();
    let tollgate = start(certificates, "on_revoked: close");
    let [mut first, mut second] = CLIENTS.map(|(name, _)| open(certificates, &tollgate, name));
    certificates.revoke(CLIENTS[0].1);
    assert!(closed(&first.read(&mut [0; 16])), "something was sent");
    let line = tollgate.logged(1, |_| true).remove(0);
    assert_eq!([&line["reason"], &line["outcome"]], ["certificate_revoked", "cancelled"]);
    echo_once(&mut second);
    let labels = [("listener", "wire"), ("reason", "certificate_revoked")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
}

#[test]
fn clients_of_an_authority_that_left_lose_their_connections() {
    let certificates = issued();
    let tollgate = start(certificates, "on_revoked: close");
    let mut streams = CLIENTS.map(|(name, _)| open(certificates, &tollgate, name));
    let other = rcgen::KeyPair::generate().unwrap();
    let pem = authority("another one").self_signed(&other).unwrap().pem();
    fs::write(certificates.path("ca.crt"), pem).unwrap();
    for stream in &mut streams {
        assert!(closed(&stream.read(&mut [0; 16])), "something was sent");
    }
}

#[test]
fn a_revoked_client_keeps_its_connections_by_default() {
    let certificates = issued();
    let tollgate = start(certificates, "");
    let mut first = open(certificates, &tollgate, CLIENTS[0].0);
    certificates.revoke(CLIENTS[0].1);
    wait_for_reload(&tollgate);
    echo_once(&mut first);
    let address = tollgate.listener("wire");
    let mut again = certificates.connect(address, "localhost", Some(CLIENTS[0].0));
    let read = again.write_all(b"x").and_then(|()| again.read(&mut [0]));
    assert!(closed(&read), "a revoked client was served");
}
