//! The admin interface inside TLS.

use super::support::{
    PATIENCE,
    certificates::Certificates,
    eventually,
    tollgate::{Tollgate, output_of, page, page_over},
};
use serde_json::Value;
use std::{io::Read, net::TcpStream};

fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.issue("server", &["localhost"]);
    certificates.issue("client", &["operator.example.net"]);
    certificates
}

/// A proxy whose admin interface has the certificate `server` and these keys of `tls`.
fn encrypted(certificates: &Certificates, keys: &str) -> Tollgate {
    Tollgate::start_with_encrypted_admin(&format!(
        "admin: {{ address: '127.0.0.1:0', tls: {{ certificates: {}, {keys} }} }}\n\
         listeners:\n  it: {{ address: '127.0.0.1:0', protocol: tcp, cluster: far }}\n\
         clusters:\n  far: {{ endpoints: ['127.0.0.1:9'] }}\n",
        certificates.pair("server")
    ))
}

/// GETs a page with this certificate, if there is one: the status and the body.
fn get(
    certificates: &Certificates,
    tollgate: &Tollgate,
    own: Option<&str>,
    path: &str,
) -> std::io::Result<(u16, String)> {
    let stream = certificates.connect(tollgate.admin(), "localhost", own);
    stream.sock.set_read_timeout(Some(PATIENCE))?;
    page_over(stream, "localhost", "GET", path, "")
}

fn top(certificates: &Certificates, tollgate: &Tollgate, files: &[&str]) -> (Option<i32>, String) {
    let admin = format!("https://localhost:{}", tollgate.admin().port());
    let mut arguments = vec!["top", &*admin, "--once", "--interval", "100ms"];
    let paths: Vec<_> =
        files.iter().map(|it| certificates.path(it).display().to_string()).collect();
    for (option, path) in ["--ca", "--certificate"].into_iter().zip(&paths) {
        arguments.extend([option, path]);
    }
    let output = output_of(&arguments);
    (output.code, output.err)
}

#[test]
fn the_admin_interface_speaks_only_tls() {
    let certificates = certificates();
    let tollgate = encrypted(&certificates, "");
    let ready = get(&certificates, &tollgate, None, "/ready").unwrap();
    assert_eq!(ready.0, 200, "{ready:?}");
    let plain = page(tollgate.admin(), "GET", "/ready", "").map(|(status, _)| status);
    assert!(!matches!(plain, Ok(1..)), "{plain:?}");
    let log = "a connection to the admin interface is closed before its request";
    eventually("a line", || tollgate.stderr().contains(log).then_some(()));
    assert_eq!(top(&certificates, &tollgate, &["ca.crt"]), (Some(0), String::new()));
    certificates.issue("stranger", &[]);
    let (code, error) = top(&certificates, &tollgate, &["stranger.crt"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("issuer"), "{error}");
}

#[test]
fn clients_of_the_admin_interface_may_need_certificates() {
    let certificates = certificates();
    let ca = certificates.path("ca.crt");
    let tollgate = encrypted(&certificates, &format!("client_ca: {}", ca.display()));
    assert!(get(&certificates, &tollgate, None, "/metrics").is_err());
    let (status, body) = get(&certificates, &tollgate, Some("client"), "/config").unwrap();
    let config: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &config["admin"]["tls"]["client_ca"]), (200, &ca.to_str().into()));
    let shown = top(&certificates, &tollgate, &["ca.crt", "client.pem"]);
    assert_eq!(shown, (Some(0), String::new()));
}

#[test]
fn a_renewed_certificate_of_the_admin_interface_is_shown() {
    let certificates = certificates();
    let tollgate = encrypted(&certificates, "");
    let fingerprint = || {
        let (_, body) = get(&certificates, &tollgate, None, "/tls").unwrap();
        let report: Value = serde_json::from_str(&body).unwrap();
        let certificate = &report["certificates"][0];
        assert!(certificate["used_by"]["admin"].is_string(), "{report}");
        certificate["fingerprint"].as_str().unwrap().to_owned()
    };
    let before = fingerprint();
    certificates.issue("server", &["localhost"]);
    eventually("the new certificate", || (fingerprint() != before).then_some(()));
}

#[test]
fn clients_that_stall_in_the_handshake_delay_no_others() {
    let certificates = certificates();
    let tollgate = encrypted(&certificates, "");
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect_timeout(&tollgate.admin(), PATIENCE).unwrap())
        .collect();
    let ready = get(&certificates, &tollgate, None, "/ready").unwrap();
    assert_eq!(ready.0, 200, "{ready:?}");
    let mut first = &silent[0];
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!matches!(first.read(&mut [0]), Ok(1)), "a client that is silent was answered");
}
