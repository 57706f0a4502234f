//! Certificates that must not be accepted, and the reason that each of them gives: as an endpoint's,
//! as a client's, and as a listener's own.

mod made;

use super::{Certificates, closed, echo_server};
use crate::support::{
    PATIENCE, eventually,
    tollgate::{Tollgate, output_of},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

/// A certificate, and how its handshake ends.
struct Case {
    name: &'static str,
    /// The reason and words of its error as an endpoint's certificate. `None`: it is accepted.
    endpoint: Option<(&'static str, &'static str)>,
    /// The same as a client's certificate.
    client: Option<(&'static str, &'static str)>,
    /// What `check` says if a listener has it: the exit code, and words.
    check: (i32, &'static str),
}

const fn case(
    name: &'static str,
    endpoint: Option<(&'static str, &'static str)>,
    client: Option<(&'static str, &'static str)>,
    check: (i32, &'static str),
) -> Case {
    Case { name, endpoint, client, check }
}

const fn because(
    reason: &'static str,
    words: &'static str,
) -> Option<(&'static str, &'static str)> {
    Some((reason, words))
}

const OK: (i32, &str) = (0, "ok");

/// The certificates that [`made::write`] writes.
const CASES: [Case; 16] = [
    case("good", None, None, OK),
    case(
        "expired",
        because("expired", "has expired"),
        because("expired", "has expired"),
        (0, "has expired: clients refuse it"),
    ),
    case(
        "not-yet-valid",
        because("not_yet_valid", "is not valid yet"),
        because("not_yet_valid", "is not valid yet"),
        (0, "is not valid yet: clients refuse it"),
    ),
    case("wrong-name", because("wrong_name", "is for other.example.net"), None, OK),
    case(
        "no-name",
        because("wrong_name", "it has no subjectAltName"),
        None,
        (0, "has no subjectAltName: clients refuse it"),
    ),
    case(
        "version-1",
        because("bad_certificate", "X.509 version 1"),
        because("bad_certificate", "X.509 version 1"),
        (1, "is a certificate of X.509 version 1"),
    ),
    case(
        "wrong-purpose",
        because("wrong_purpose", "extendedKeyUsage"),
        because("wrong_purpose", "extendedKeyUsage"),
        OK,
    ),
    case(
        "self-signed",
        because("unknown_issuer", "issuer is not trusted"),
        because("unknown_issuer", "issuer is not trusted"),
        OK,
    ),
    case(
        "unknown-issuer",
        because("unknown_issuer", "issuer is not trusted"),
        because("unknown_issuer", "issuer is not trusted"),
        OK,
    ),
    case(
        "other-key",
        because("bad_certificate", "is not the peer's"),
        because("bad_certificate", "is not the peer's"),
        (1, "is not the key of"),
    ),
    case("revoked", None, because("revoked", "is revoked"), OK),
    case(
        "rsa-1024",
        because("bad_certificate", "signature algorithm is not supported"),
        because("bad_certificate", "signature algorithm is not supported"),
        (1, "is not the key of"),
    ),
    case("shuffled", None, None, OK),
    case(
        "issuer-first",
        because("bad_certificate", "an authority's"),
        because("bad_certificate", "an authority's"),
        (1, "must be the first of the file"),
    ),
    case(
        "no-intermediate",
        because("unknown_issuer", "issuer is not trusted"),
        because("unknown_issuer", "issuer is not trusted"),
        OK,
    ),
    case(
        "ten-deep",
        because("bad_certificate", "too many"),
        because("bad_certificate", "too many"),
        OK,
    ),
];

fn certificates() -> &'static Certificates {
    let certificates = Certificates::new();
    certificates.issue("server", &["localhost"]);
    made::write(&certificates);
    Box::leak(Box::new(certificates))
}

/// A listener and a cluster for each case, called like it. `keys` returns the keys of a listener, the
/// endpoint, and the keys of a cluster.
fn config(keys: impl Fn(&Case) -> (String, String, String)) -> String {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for case in &CASES {
        let ((listener, endpoint, cluster), name) = (keys(case), case.name);
        listeners += &format!(
            "  {name}: {{ address: '127.0.0.1:0', protocol: tcp, cluster: {name}, \
             upstream_connect_mode: on_client_data, {listener} }}\n"
        );
        clusters += &format!("  {name}: {{ endpoints: ['{endpoint}'], {cluster} }}\n");
    }
    format!("listeners:\n{listeners}clusters:\n{clusters}")
}

/// Whether a byte comes back.
fn is_served(stream: &mut (impl Read + Write)) -> bool {
    let read = stream
        .write_all(b"x")
        .and_then(|()| stream.flush())
        .and_then(|()| stream.read(&mut [0; 16]));
    !closed(&read)
}

/// A server with this certificate.
fn endpoint(certificates: &'static Certificates, name: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut stream = certificates.accept(socket.unwrap(), name, false);
            let mut byte = [0; 1];
            if stream.read_exact(&mut byte).is_ok() {
                let _ = stream.write_all(&byte);
            }
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

#[test]
fn a_bad_certificate_of_an_endpoint_has_its_reason() {
    let certificates = certificates();
    let tls = format!("tls: {{ ca: {} }}", certificates.path("ca.crt").display());
    let tollgate = Tollgate::start(&config(|case| {
        let port = endpoint(certificates, case.name).port();
        (String::new(), format!("localhost:{port}"), tls.clone())
    }));
    let mut wrong = Vec::new();
    for Case { name, endpoint, .. } in &CASES {
        let address = tollgate.listener(name);
        let served = is_served(&mut TcpStream::connect_timeout(&address, PATIENCE).unwrap());
        let (reason, words) = endpoint.unwrap_or(("ok", ""));
        if served != endpoint.is_none() {
            wrong.push(format!("{name}: served: {served}"));
        }
        let result = if served { "ok".to_owned() } else { format!("tls_{reason}") };
        let labels = [("cluster", *name), ("result", &*result)];
        let count = tollgate.metric("tollgate_upstream_connect_total", &labels);
        let clusters = tollgate.json("/clusters");
        let cluster = clusters.as_array().unwrap().iter().find(|it| it["name"] == *name).unwrap();
        if count == 0.0 || !cluster.to_string().contains(words) {
            wrong.push(format!("{name}: not `{result}` with `{words}`: {cluster}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_certificate_of_a_client_has_its_reason() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tls = format!(
        "tls: {{ certificates: {}, client_ca: {}, crl: {{ file: {} }} }}",
        certificates.pair("server"),
        certificates.path("ca.crt").display(),
        certificates.path("revoked.pem").display(),
    );
    let keys = |_: &Case| (tls.clone(), echo.to_string(), String::new());
    let tollgate = Tollgate::start(&config(keys));
    let mut wrong = Vec::new();
    for Case { name, client, .. } in &CASES {
        let mut stream = certificates.connect(tollgate.listener(name), "localhost", Some(name));
        let served = is_served(&mut stream);
        if served != client.is_none() {
            wrong.push(format!("{name}: served: {served}"));
        }
        if served {
            continue;
        }
        let (reason, words) = client.unwrap_or(("ok", ""));
        let line = eventually("a line of the log", || {
            let all = tollgate.stderr();
            let mut lines = all.lines().filter(|line| line.contains("before its protocol begins"));
            lines.find(|line| line.contains(&format!("\"{name}\""))).map(str::to_owned)
        });
        let labels = [("listener", *name), ("result", reason)];
        let count = tollgate.metric("tollgate_tls_handshakes_total", &labels);
        if count == 0.0 || !line.contains(words) {
            wrong.push(format!("{name}: not `{reason}` with `{words}`: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn check_says_what_is_wrong_with_a_certificate() {
    let certificates = certificates();
    let mut wrong = Vec::new();
    for Case { name, check: (code, words), .. } in &CASES {
        let file = certificates.path("tollgate.yaml");
        let pair = certificates.pair(name);
        let config = format!(
            "admin: off\nlisteners:\n  web: {{ address: '127.0.0.1:0', protocol: tcp, cluster: web, \
             tls: {{ certificates: {pair} }} }}\nclusters:\n  web: {{ endpoints: ['127.0.0.1:1'] }}\n"
        );
        std::fs::write(&file, config).unwrap();
        let check = output_of(&["check", "-c", &file.display().to_string()]);
        let all = format!("{}{}", check.out, check.err);
        if check.code != Some(*code) || !all.contains(words) {
            wrong.push(format!("{name}: not {code} with `{words}`: {all}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
