//! Access rules: host names, pages of other sites, forms, tokens and read-only addresses.

use super::*;
use config::plan::ControlAddress;
use std::os::unix::net::UnixStream;

const TOKEN: &str = "0123456789abcdef-token";
const EMPTY: &str = "Content-Length: 0\r\n";

fn admin_at(address: &str) -> AdminPlan {
    AdminPlan::new(address.parse().unwrap())
}

impl Fixture {
    fn drain(&self, headers: &str) -> Reply {
        self.ask("POST", "/drain", &format!("{headers}{EMPTY}"))
    }
}

fn error_of(reply: &Reply) -> String {
    reply.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn only_a_page_from_here_may_change_anything() {
    let admin = fixture();
    let here = admin.server.local_addr();
    let port = here.port();
    let post = |headers: String| admin.drain(&headers).status;
    for host in [here.to_string(), format!("localhost:{port}"), format!("[::1]:{port}")] {
        let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
        assert_eq!(post(headers), 202, "{host}");
    }
    assert_eq!(post("Sec-Fetch-Site: same-origin\r\n".into()), 202);
    assert_eq!(admin.drains.load(SeqCst), 4);

    assert_eq!(post("Origin: http://evil.example\r\n".into()), 403);
    assert_eq!(post("Origin: null\r\n".into()), 403);
    assert_eq!(post(format!("Origin: http://127.0.0.1:{}\r\n", port ^ 1)), 403);
    assert_eq!(post("Sec-Fetch-Site: cross-site\r\n".into()), 403);
    assert_eq!(post("Sec-Fetch-Site: same-site\r\n".into()), 403);
    assert_eq!(admin.drains.load(SeqCst), 4);
    // To read, a page's own origin rules are enough.
    assert_eq!(admin.ask("GET", "/metrics", "Origin: http://evil.example\r\n").status, 200);
    assert!(admin.get("/config").head.contains("\r\ncross-origin-resource-policy: same-origin"));
}

#[test]
fn a_form_of_a_browser_changes_nothing() {
    let admin = fixture();
    let browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n";
    for content in
        ["text/plain", "multipart/form-data; boundary=a", "Application/X-WWW-Form-Urlencoded"]
    {
        let content = format!("Content-Type: {content}\r\n");
        assert_eq!(admin.drain(&format!("{browser}{content}")).status, 415, "{content}");
        // What curl sends of its own accord.
        assert_eq!(admin.drain(&format!("User-Agent: curl/8\r\n{content}")).status, 202);
    }
    assert_eq!(admin.drain(&format!("{browser}Content-Type: application/json\r\n")).status, 202);
}

#[test]
fn a_name_that_was_pointed_here_reads_and_changes_nothing() {
    let names = ["proxy.example.net".into(), "*.internal".into()].into();
    let plan = AdminPlan { allowed_hosts: names, ..admin_at("127.0.0.1:0") };
    let admin = opened(&plan, Limits::default());
    let get = |path: &str, host: &str| admin.ask("GET", path, &format!("Host: {host}\r\n"));
    for host in [
        "127.0.0.1",
        "10.0.0.7:9901",
        "[::1]:9901",
        "localhost:9901",
        "tollgate:9901",
        "tollgate",
        "PROXY.example.net:9901",
        "proxy.example.net.",
        "a.b.internal",
    ] {
        assert_eq!(get("/metrics", host).status, 200, "{host}");
    }
    for host in
        ["evil.example:9901", "xproxy.example.net", "internal.evil", "a.internal.evil", "1.2.3"]
    {
        let reply = get("/metrics", host);
        assert_eq!(reply.status, 403, "{host}");
        assert!(error_of(&reply).contains("admin.allowed_hosts"), "{}", reply.body);
        assert_eq!(get("/", host).status, 403, "{host}");
        let rebound = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
        assert_eq!(admin.drain(&rebound).status, 403);
        // Whatever checks that the process is well has any name for it.
        assert_eq!((get("/live", host).status, get("/ready", host).status), (200, 200));
    }
    let whole = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = admin.connect();
    stream.write_all(whole.as_bytes()).unwrap();
    assert_eq!(read_reply(stream).status, 403);
    assert_eq!(admin.drains.load(SeqCst), 0);
}

#[test]
fn every_name_may_be_allowed() {
    let plan = AdminPlan { allowed_hosts: ["*".into()].into(), ..admin_at("127.0.0.1:0") };
    let admin = opened(&plan, Limits::default());
    assert_eq!(admin.ask("GET", "/metrics", "Host: any.example:1\r\n").status, 200);
}

/// A token's file, which goes with the first value.
fn with_token(plan: AdminPlan) -> (tempfile::NamedTempFile, AdminPlan) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let plan = AdminPlan { token_file: Some(file.path().into()), ..plan };
    (file, plan)
}

#[test]
fn the_dashboard_shows_if_a_client_may_change_things() {
    let board = |admin: &Fixture, headers: &str| {
        let reply = admin.ask("GET", "/dashboard", headers);
        let board = reply.json();
        (board["changes"]["allowed"].clone(), board["changes"]["needs_token"].clone())
    };
    assert_eq!(board(&fixture(), ""), (json!(true), json!(false)));
    let (_file, plan) = with_token(admin_at("127.0.0.1:0"));
    let admin = opened(&plan, Limits::default());
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(board(&admin, &right), (json!(true), json!(true)));
    for wrong in ["", "Authorization: Bearer wrong\r\n"] {
        assert_eq!(board(&admin, wrong), (json!(false), json!(true)));
    }
    let admin = opened(&admin_at("0.0.0.0:0"), Limits::default());
    let here = format!("Host: 127.0.0.1:{}\r\n", admin.server.local_addr().port());
    let changes = admin.ask("GET", "/dashboard", &here).json()["changes"].clone();
    assert_eq!((&changes["allowed"], &changes["needs_token"]), (&json!(false), &json!(false)));
    assert!(changes["why"].as_str().unwrap().contains("read-only"), "{changes}");
}

#[test]
fn only_changes_need_the_token() {
    let (_file, plan) = with_token(admin_at("127.0.0.1:0"));
    let admin = opened(&plan, Limits::default());
    for wrong in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic Zm9vOmJhcg==\r\n"] {
        let reply = admin.drain(wrong);
        assert_eq!(reply.status, 401, "{wrong}");
        assert!(reply.head.contains("\r\nwww-authenticate: bearer"), "{}", reply.head);
        assert!(error_of(&reply).contains("admin.token_file"));
    }
    assert_eq!(admin.drains.load(SeqCst), 0);
    assert_eq!(admin.get("/policies").status, 200);
    assert_eq!(admin.drain(&format!("Authorization: Bearer {TOKEN}\r\n")).status, 202);
    for path in ["/", "/config", "/metrics"] {
        assert!(!admin.get(path).body.contains(TOKEN), "{path}");
    }
}

#[test]
fn a_reachable_address_without_token_is_read_only() {
    let admin = opened(&admin_at("0.0.0.0:0"), Limits::default());
    let changes = [
        ("POST", "/drain"),
        ("POST", "/faults"),
        ("DELETE", "/faults/1"),
        ("PUT", "/policies/no-drops"),
        ("POST", "/clusters/orders/endpoints/10.0.0.1:27017?state=drained"),
    ];
    for (method, path) in changes {
        let reply = admin.ask(method, path, EMPTY);
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(error_of(&reply).contains("set admin.control"), "{}", reply.body);
    }
    assert_eq!(admin.drains.load(SeqCst), 0);
    assert_eq!((admin.get("/metrics").status, admin.get("/faults").status), (200, 200));
    assert!(admin.get("/").body.contains("<p>the admin interface is read-only: set admin.control"));

    let (_file, plan) = with_token(admin_at("0.0.0.0:0"));
    let admin = opened(&plan, Limits::default());
    assert_eq!(admin.drain("").status, 401);
    assert_eq!(admin.drain(&format!("Authorization: Bearer {TOKEN}\r\n")).status, 202);
}

#[test]
fn control_has_a_socket_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let control = Some(ControlAddress::Unix(path.clone()));
    let admin = opened(&AdminPlan { control, ..admin_at("127.0.0.1:0") }, Limits::default());
    let reply = admin.drain("");
    assert_eq!(reply.status, 403);
    let told = format!("changes are made at unix:{}", path.display());
    assert!(error_of(&reply).contains(&told), "{}", reply.body);
    assert!(admin.get("/").body.contains(&told));

    let mut stream = UnixStream::connect(&path).unwrap();
    write!(stream, "POST /drain HTTP/1.1\r\nHost: any.example\r\n{EMPTY}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 202 "), "{text}");
    assert_eq!(admin.drains.load(SeqCst), 1);
    drop(admin);
    assert!(!path.exists());
}

#[test]
fn silent_clients_do_not_block_the_control_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let plan =
        AdminPlan { control: Some(ControlAddress::Unix(path.clone())), ..admin_at("127.0.0.1:0") };
    let admin = opened(&plan, Limits { connections: 1, ..Limits::default() });
    let _silent = admin.connect();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}
