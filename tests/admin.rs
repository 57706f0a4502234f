//! The admin interface of a whole proxy: control apart from reading, a token, and silent clients.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};
use support::{
    eventually,
    tollgate::{Tollgate, mongo_config, output_of},
};

const TOKEN: &str = "s3cret-0123456789abcdef";
const RULE: &str = "policies: [{ name: no-drops, match: { operation: drop }, deny: {} }]\n";

/// A config with this admin interface, and one policy.
fn config(admin: &str) -> String {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    // As many as any machine has descriptors for: with fewer there is a warning.
    format!("admin: {admin}\nmax_connections: 100\n{}{RULE}", mongo_config(nowhere, ""))
}

/// Asks over a Unix socket: the status and the body.
fn ask(socket: &Path, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, reply.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_scraper_can_not_change_anything_if_control_is_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let admin = format!("{{ address: \"127.0.0.1:0\", control: \"unix:{}\" }}", socket.display());
    let mut tollgate = Tollgate::start(&config(&admin));
    let off = "{\"enabled\": false}";
    let (status, body) = tollgate.send("PUT", "/policies/no-drops", off);
    assert_eq!(status, 403);
    assert!(body.contains(&format!("unix:{}", socket.display())), "{body}");
    assert_eq!(tollgate.post("/drain").0, 403);
    assert!(tollgate.get("/policies").1.contains("\"enabled\":true"));

    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, body) = ask(&socket, "PUT", "/policies/no-drops", "", off);
    assert_eq!(status, 200, "{body}");
    assert!(tollgate.get("/policies").1.contains("\"enabled\":false"));
    let top = format!("unix:{}", socket.display());
    let top = output_of(&["top", &top, "--once", "--interval", "100ms"]);
    assert_eq!(top.code, Some(0), "{top:?}");

    assert!(tollgate.stop().success());
    assert!(!socket.exists());
}

#[test]
fn only_the_socket_of_a_dead_proxy_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let admin = format!("{{ address: \"127.0.0.1:0\", control: \"unix:{}\" }}", socket.display());
    let first = Tollgate::start(&config(&admin));
    let file = directory.path().join("second.yaml");
    fs::write(&file, config(&admin)).unwrap();
    let second = output_of(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("another process listens there"), "{second:?}");
    // It is killed.
    drop(first);
    assert!(socket.exists());
    let mut third = Tollgate::start(&config(&admin));
    assert_eq!(ask(&socket, "POST", "/drain", "", "").0, 202);
    assert!(third.end().success());
}

#[test]
fn a_change_needs_the_token_and_the_token_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    let socket = directory.path().join("control.sock");
    let tollgate = Tollgate::start(&config(&format!(
        "{{ address: \"127.0.0.1:0\", control: \"unix:{}\", token_file: {} }}",
        socket.display(),
        file.display()
    )));
    assert_eq!(ask(&socket, "POST", "/drain", "", "").0, 401);
    assert_eq!(ask(&socket, "GET", "/policies", "", "").0, 200);
    for (name, text) in tollgate.outputs() {
        assert!(!text.contains(TOKEN), "{name}: {text}");
    }
    assert!(tollgate.stderr().contains("every user of this machine may read"));
    assert!(tollgate.get("/config").1.contains("token_file"));
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(&socket, "POST", "/drain", &bearer, "").0, 202);
}

#[test]
fn a_token_that_is_none_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    let missing = directory.path().join("token");
    let admin = format!("{{ address: \"127.0.0.1:0\", token_file: {} }}", missing.display());
    fs::write(&file, config(&admin)).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(output_of(&["check", "-c", file]).code, Some(0), "the secret may come later");
    let run = output_of(&["run", "-c", file]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("can't read the token_file"), "{run:?}");
}

#[test]
fn an_address_that_others_reach_is_read_only_and_says_so() {
    let tollgate = Tollgate::start(&config("0.0.0.0:0"));
    eventually("the line", || tollgate.stderr().contains("read-only here").then_some(()));
    let (status, body) = tollgate.post("/drain");
    assert_eq!(status, 403);
    assert!(body.contains("admin.control"), "{body}");
    assert_eq!(tollgate.get("/metrics").0, 200);
}

#[test]
fn control_that_others_reach_without_a_token_is_warned_of() {
    let open = Tollgate::start(&config("{ address: \"127.0.0.1:0\", control: \"0.0.0.0:0\" }"));
    assert!(open.stderr().contains("every client that can reach this address may change policies"));
    assert_eq!(open.post("/drain").0, 403);
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let admin = "{ address: \"127.0.0.1:0\", control: \"0.0.0.0:0\", token_file: TOKEN }";
    let held = Tollgate::start(&config(&admin.replace("TOKEN", token.to_str().unwrap())));
    // Of descriptors it may warn: that depends on the machine.
    let warns = |line: &&str| line.contains("WARN") && !line.contains("file descriptors");
    assert_eq!(held.stderr().lines().find(warns), None);
}

#[test]
fn two_hundred_silent_clients_do_not_close_the_admin_interface() {
    let tollgate = Tollgate::start(&config("127.0.0.1:0"));
    let mut silent = Vec::new();
    for path in ["/live", "/ready", "/metrics"] {
        let connect = || TcpStream::connect(tollgate.admin()).unwrap();
        silent.extend((0..200).map(|_| connect()));
        let began = Instant::now();
        assert_eq!(tollgate.get(path).0, 200);
        // Their time is 5 s, so none of them has left by itself.
        assert!(began.elapsed() < Duration::from_secs(4), "{path}: {:?}", began.elapsed());
    }
    // The last of them still have their places, and lose them for want of a request.
    eventually("the silent ones to be closed", || {
        let last = silent.last_mut().unwrap();
        last.set_nonblocking(true).unwrap();
        last.read(&mut [0; 1]).is_ok_and(|read| read == 0).then_some(())
    });
}

#[test]
fn a_changed_limit_keeps_its_match_and_is_logged() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let config = mongo_config(nowhere, "");
    let mut tollgate = Tollgate::start(&format!(
        "admin: 127.0.0.1:0\n{config}policies:\n  - name: slow-down\n    match: {{ app: importer }}\n    \
         rate_limit: {{ rate: 50/s, burst: 20 }}\n"
    ));
    let (status, body) =
        tollgate.send("PUT", "/policies/slow-down", "{\"rate_limit\": {\"rate\": \"100/s\"}}");
    assert_eq!(status, 200, "{body}");
    let told = &tollgate.get("/policies").1;
    assert!(told.contains("\"match\":{\"app\":\"importer\"}"), "{told}");
    assert!(told.contains("\"rate\":\"100/s\"") && told.contains("\"burst\":20"), "{told}");
    assert!(tollgate.get("/config").1.contains("\"rate\":\"100/s\""));
    assert!(tollgate.stop().success());
    let log = tollgate.stderr();
    let line = log.lines().find(|line| line.contains("a policy was changed by hand")).unwrap();
    assert!(line.contains("50/s") && line.contains("100/s"), "{line}");
}
