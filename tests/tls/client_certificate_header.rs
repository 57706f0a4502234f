//! Services get the certificate of a client in a header, in both versions of HTTP and in gRPC.

use super::{certificates, check::hints};
use crate::support::{
    certificates::Certificates,
    http::{Service, Version},
    tollgate::Tollgate,
};
use std::{net::SocketAddr, process::Command};

/// A listener that asks for certificates, in front of a service.
fn whole_config(certificates: &Certificates, protocol: &str, service: &Service) -> String {
    let (pair, ca) = (certificates.pair("server"), certificates.path("ca.crt"));
    format!(
        "listeners:\n  web: {{ address: '127.0.0.1:0', protocol: {protocol}, cluster: shop, \
         tls: {{ certificates: {pair}, client_ca: {}, client_certificate: optional }} }}\n\
         clusters:\n  shop: {{ {} }}\n",
        ca.display(),
        service.endpoints()
    )
}

/// Makes a request by curl, with the certificate `own` if there is one.
fn curl(certificates: &Certificates, at: SocketAddr, own: Option<&str>, options: &[&str]) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--output", "/dev/null", "--cacert"]);
    command.arg(certificates.path("ca.crt")).args(options);
    if let Some(own) = own {
        let path = |kind: &str| certificates.path(&format!("{own}.{kind}"));
        command.arg("--cert").arg(path("crt")).arg("--key").arg(path("key"));
    }
    let url = format!("https://localhost:{}/shop.Cart/Add", at.port());
    let output = command.arg(url).output().expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The names and values with a certificate that a service got last.
fn certificate_headers(service: &Service) -> Vec<(String, String)> {
    let received = service.received();
    let headers = received.last().unwrap().headers.iter();
    let lines = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    lines.filter(|(name, _)| name.contains("cert")).collect()
}

/// A certificate as a byte sequence (RFC 8941, 3.3.5): its DER in base64 between colons.
fn base64(certificates: &Certificates, name: &str) -> String {
    let pem = std::fs::read_to_string(certificates.path(&format!("{name}.crt"))).unwrap();
    let lines: String = pem.lines().filter(|line| !line.contains("--")).collect();
    format!(":{lines}:")
}

fn issued() -> &'static Certificates {
    let certificates = certificates();
    certificates.issue_for_uris("orders", &["spiffe://example.net/orders"]);
    certificates
}

/// Lines that a client has no right to send.
const CLAIMS: [&str; 6] = [
    "-H",
    "x-forwarded-client-cert: Hash=1;URI=spiffe://example.net/admin",
    "-H",
    "Client-Cert: :AA==:",
    "-H",
    "X_Forwarded_Client_Cert: Hash=2",
];

#[test]
fn services_get_the_certificate_of_the_client() {
    let certificates = issued();
    let service = Service::replying(Version::One, "ok");
    for style in ["xfcc", "rfc9440"] {
        let protocol = format!("{{ http: {{ client_certificate_header: {style} }} }}");
        let tollgate = Tollgate::start(&whole_config(certificates, &protocol, &service));
        let address = tollgate.listener("web");
        for version in ["--http1.1", "--http2"] {
            let options = [&[version][..], &CLAIMS].concat();
            curl(certificates, address, Some("orders"), &options);
            let headers = certificate_headers(&service);
            if style == "xfcc" {
                let [(name, value)] = &headers[..] else { panic!("{version}: {headers:?}") };
                assert_eq!(name, "x-forwarded-client-cert");
                assert!(value.starts_with("Hash=") && value.contains(";Subject=\""), "{value}");
                assert!(value.ends_with(";URI=spiffe://example.net/orders"), "{value}");
            } else {
                // OpenSSL also sends the issuer, since it knows it from `--cacert`.
                let (own, issuer) = (base64(certificates, "orders"), base64(certificates, "ca"));
                let expected = [("client-cert", own), ("client-cert-chain", issuer)];
                let expected = expected.map(|(name, value)| (name.to_owned(), value));
                assert_eq!(headers, expected, "{version}");
            }
            curl(certificates, address, None, &options);
            assert!(certificate_headers(&service).is_empty(), "of a client without a certificate");
        }
    }
}

#[test]
fn services_of_grpc_get_it_through_every_bridge() {
    let certificates = issued();
    let message = certificates.path("message");
    std::fs::write(&message, [0; 5]).unwrap();
    let body = format!("@{}", message.display());
    for (settings, answers, version, kind) in [
        ("", Version::Two, "--http2", "application/grpc"),
        ("reverse_bridge: true,", Version::One, "--http2", "application/grpc"),
        ("bridge: true,", Version::Two, "--http1.1", "application/grpc"),
        ("web: true,", Version::Two, "--http1.1", "application/grpc-web+proto"),
    ] {
        let service = Service::replying(answers, "");
        let protocol = format!("{{ grpc: {{ {settings} client_certificate_header: xfcc }} }}");
        let tollgate = Tollgate::start(&whole_config(certificates, &protocol, &service));
        let kind = format!("content-type: {kind}");
        let call = [version, "-H", &kind, "-H", "te: trailers", "--data-binary", &body];
        curl(
            certificates,
            tollgate.listener("web"),
            Some("orders"),
            &[&call[..], &CLAIMS].concat(),
        );
        let headers = certificate_headers(&service);
        assert!(headers.len() == 1 && headers[0].1.ends_with("/orders"), "{settings} {headers:?}");
    }
}

#[test]
fn a_header_of_certificates_that_no_client_has_is_a_hint() {
    let config = "listeners:\n  web:\n    address: '127.0.0.1:0'\n    protocol: { http: { \
                  client_certificate_header: xfcc, routes: [{ name: all, reply: { status: 200 } }] } }\n\
                  clusters: {}\n";
    let hints = hints(config);
    assert!(hints.contains("`client_certificate_header` has no effect"), "{hints}");
}
