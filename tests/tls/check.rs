//! What `check` says of certificates.

use super::{certificates, config, server_tls};
use crate::support::tollgate::output_of;

pub(super) fn hints(config: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    std::fs::write(&file, format!("admin: off\n{config}")).unwrap();
    let check = output_of(&["check", "-c", &file.display().to_string()]);
    assert_eq!((check.code, check.err.as_str()), (Some(0), ""), "{check:?}");
    check.out
}

#[test]
fn a_name_that_clients_verify_must_be_in_a_certificate() {
    let certificates = certificates();
    let listener = |advertise: &str| {
        format!(
            "listeners:\n  db:\n    address: '127.0.0.1:0'\n    protocol: {{ mongo: {{ advertise: {advertise} }} }}\n    \
             cluster: db\n    {}\nclusters:\n  db: {{ endpoints: ['127.0.0.1:1'] }}\n",
            server_tls(certificates)
        )
    };
    assert_eq!(hints(&listener("localhost:27017")), "ok\n");
    let hints = hints(&listener("db.example.net:27017"));
    assert!(hints.contains("the address `db.example.net`"), "{hints}");
}

#[test]
fn an_unverified_endpoint_is_a_hint() {
    let hints = hints(&config("", "127.0.0.1:1", "tls: { verify: false }"));
    assert!(hints.contains("`verify: false`"), "{hints}");
}

#[test]
fn a_certificate_without_names_is_a_hint() {
    let certificates = certificates();
    certificates.issue("server", &[]);
    let hints = hints(&config(&server_tls(certificates), "127.0.0.1:1", ""));
    assert!(hints.contains("has no subjectAltName"), "{hints}");
}

#[test]
fn a_listener_that_does_not_read_mongodb_is_a_hint() {
    let rest = "  db: { address: '127.0.0.1:0', protocol: mongo, cluster: echo }\nclusters:";
    let both = config("", "127.0.0.1:1", "").replacen("clusters:", rest, 1);
    assert!(hints(&both).contains("leave the proxy"), "{}", hints(&both));
}
