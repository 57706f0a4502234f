//! What scanners of TLS servers report about a listener.

#![allow(clippy::print_stdout, reason = "the report of a run by hand")]

use super::{
    Certificates, server_tls,
    support::{tollgate::Tollgate, tools},
};
use rcgen::{ExtendedKeyUsagePurpose, IsCa};
use std::{process::Command, time::SystemTime};

/// An HTTP listener with a certificate as authorities issue them: for 90 days, for servers only.
fn start() -> (Certificates, Tollgate) {
    let certificates = Certificates::new();
    let now = SystemTime::now();
    certificates.issue_with("server", &["localhost"], |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        params.not_before = (now - day).into();
        params.not_after = (now + 89 * day).into();
    });
    let tls = server_tls(&certificates);
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:0'\n    protocol: {{ http: {{ routes: [{{ name: all, \
         reply: {{ status: 200, body: hello }} }}] }} }}\n    {tls}\nclusters: {{}}\n"
    ));
    (certificates, tollgate)
}

/// Runs a scanner before the listener, and returns its exit code and its report.
fn scan(scanner: &mut Command, tollgate: &Tollgate) -> (Option<i32>, String) {
    scanner.arg(format!("localhost:{}", tollgate.listener("web").port()));
    let output = scanner.output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");
    (output.status.code(), report)
}

#[test]
fn sslyze_finds_nothing_that_mozilla_forbids() {
    let Some(programs) = tools::python_with_sslyze() else { return };
    let (certificates, tollgate) = start();
    let mut sslyze = Command::new(programs.join("sslyze"));
    sslyze.arg("--certinfo_ca_file").arg(certificates.path("ca.crt"));
    let (code, report) = scan(&mut sslyze, &tollgate);
    // The configuration "intermediate": https://wiki.mozilla.org/Security/Server_Side_TLS
    assert!(code == Some(0) && report.contains("OK - Compliant"), "{report}");
    assert!(!report.contains("VULNERABLE"), "{report}");
}

#[test]
#[ignore = "needs testssl.sh, and takes two minutes"]
fn testssl_finds_nothing_worse_than_the_cipher_order() {
    let (certificates, tollgate) = start();
    let mut testssl = tools::program("testssl").expect("Debian's testssl.sh is installed");
    testssl.args(["--warnings", "batch", "--color", "0", "--ip", "one", "--add-ca"]);
    let (_, report) = scan(testssl.arg(certificates.path("ca.crt")), &tollgate);
    assert!(report.contains("TLS 1.3    offered (OK)"), "nothing was scanned");
    let findings = report.lines().filter(|line| line.to_lowercase().contains("not ok"));
    // All cipher suites are strong, and clients know which one their hardware makes fast. The
    // certificate of this test says nothing about revocation.
    let accepted = ["Has server cipher order?", "neither CRL nor OCSP URI provided"];
    let worse: Vec<_> =
        findings.filter(|line| !accepted.iter().any(|it| line.contains(it))).collect();
    assert!(worse.is_empty(), "{worse:#?}");
}
