//! wrk and h2load: many requests at once, and none of them fails.

use crate::support::{
    http::{Version, endpoints, origin, proxy, proxy_to},
    nginx::Nginx,
    tollgate::Tollgate,
    tools,
};

/// Runs a program to its end, and returns what it said.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = tools::program(program)?.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}");
    Some(said)
}

fn all_went_well(tollgate: &Tollgate) {
    for outcome in ["failed", "rejected", "lost"] {
        let labels = [("outcome", outcome)];
        assert_eq!(tollgate.metric("tollgate_operations_total", &labels), 0.0, "{outcome}");
    }
}

#[test]
fn wrk_sees_no_error() {
    let Some(nginx) = Nginx::start() else { return };
    let tollgate = proxy_to(&endpoints(&[nginx.address()]), "", "");
    let url = format!("http://{}/small", tollgate.listener("web"));
    let Some(said) = run("wrk", &["-t1", "-c32", "-d1s", &url]) else { return };
    assert!(said.contains("requests in"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    all_went_well(&tollgate);
}

#[test]
fn h2load_sees_no_error_whatever_the_service_speaks() {
    for answers in [Version::One, Version::Two] {
        let service = origin(answers);
        let tollgate = proxy(&service, "");
        let url = format!("http://{}/bytes/1000", tollgate.listener("web"));
        for arguments in [
            &["-n1000", "-c4", "-m50", url.as_str()][..],
            &["-n500", "-c8", "--h1", url.as_str()][..],
        ] {
            let Some(said) = run("h2load", arguments) else { return };
            let all = said.lines().find(|line| line.starts_with("requests:")).unwrap();
            assert!(all.contains(" 0 failed, 0 errored, 0 timeout"), "{said}");
            assert!(!said.contains("2xx, 1 3xx"), "{said}");
        }
        all_went_well(&tollgate);
    }
}
