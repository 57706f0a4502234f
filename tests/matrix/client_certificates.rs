//! Policies and logs know a client by its certificate, whatever the protocol.

use super::{
    Stage, each,
    policies::{ClientView, refused},
};
use crate::support::{certificates::Certificates, tollgate::Tollgate};

/// Holds a promise against every protocol, with a client that has a certificate and one that has none.
fn each_with_certificate(promise: impl Fn(&Stage<'_>, &Stage<'_>, &Certificates)) {
    each(|stage| {
        if let Some(certificates) = stage.tls {
            let named = Stage { own: Some("client"), ..*stage };
            promise(&named, stage, certificates);
        }
    });
}

/// A proxy that asks clients for a certificate and serves those without, under these policies.
fn asking(stage: &Stage<'_>, certificates: &Certificates, policies: &str) -> Tollgate {
    let config = stage.config(&format!("endpoints: [\"{}\"]", stage.upstream));
    let ca = certificates.path("ca.crt").display().to_string();
    let asks = format!("tls: {{ client_ca: {ca}, client_certificate: optional, certificates: ");
    let config = config.replacen("tls: { certificates: ", &asks, 1);
    Tollgate::start(&format!("{config}{policies}"))
}

#[test]
fn a_certificate_s_name_is_matched_in_every_protocol() {
    each_with_certificate(|named, unnamed, certificates| {
        for this in [
            "tls.san: \"app.*\"",
            "tls.dns: app.example.net",
            "sni: localhost, tls.san: \"*\", tls.version: \"1.3\"",
        ] {
            let policy = format!("policies: [{{ name: stop, match: {{ {this} }}, deny: {{}} }}]");
            let tollgate = asking(named, certificates, &policy);
            assert_eq!(named.receive(&tollgate), named.no("denied"), "{this}");
            refused(&tollgate, "stop", "denied", 1.0);
            assert_eq!(unnamed.receive(&tollgate), ClientView::Answer, "{this}");
        }
    });
}

#[test]
fn each_certificate_has_a_rate_of_its_own() {
    let certificates = Certificates::shared();
    certificates.issue("other", &["other.example.net"]);
    each_with_certificate(|named, unnamed, certificates| {
        let policy =
            "policies: [{ name: few, rate_limit: { rate: 1/h, burst: 1, key: [tls.dns] } }]";
        let tollgate = asking(named, certificates, policy);
        let other = Stage { own: Some("other"), ..*named };
        for stage in [named, &other, unnamed] {
            assert_eq!(stage.receive(&tollgate), ClientView::Answer);
        }
        for stage in [named, &other] {
            assert_eq!(stage.receive(&tollgate), stage.no("rate_limited"));
        }
        refused(&tollgate, "few", "rate_limited", 2.0);
    });
}

#[test]
fn every_operation_is_logged_with_its_certificate() {
    each_with_certificate(|named, unnamed, certificates| {
        let tollgate = asking(named, certificates, "");
        named.operate(&tollgate, 1);
        unnamed.operate(&tollgate, 1);
        let lines = tollgate.logged(2, |line| line["sni"] == "localhost");
        let by_name = |line: &&serde_json::Value| line["client_certificate"] == "app.example.net";
        assert_eq!(lines.iter().filter(by_name).count(), 1, "{lines:?}");
        for line in &lines {
            assert_eq!(line["tls_version"], "1.3", "{line}");
            assert!(line["tls_cipher"].as_str().unwrap().starts_with("TLS13_"), "{line}");
        }
    });
}
