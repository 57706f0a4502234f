//! The config is reloaded while the proxy serves clients.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};
use support::{
    PATIENCE, eventually, free_address,
    tollgate::{Tollgate, program},
    until_nothing_listens,
};

/// A server that answers each byte with its own name.
fn server(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(connection, name));
        }
    });
    address
}

fn answer(mut connection: TcpStream, name: u8) -> io::Result<()> {
    let mut byte = [0];
    while connection.read(&mut byte)? == 1 {
        connection.write_all(&[name])?;
    }
    Ok(())
}

fn session(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The name of the server that answers; `None` if the connection has ended.
fn asks(mut stream: &TcpStream) -> Option<u8> {
    let mut name = [0];
    stream.write_all(b"?").ok()?;
    (stream.read(&mut name).ok()? == 1).then_some(name[0])
}

/// Whether the other end has closed the connection.
fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// Listeners and clusters, each by its settings.
fn config(listeners: &[(&str, &str)], clusters: &[(&str, &str)], rest: &str) -> String {
    let block = |key: &str, objects: &[(&str, &str)]| {
        let lines: Vec<_> =
            objects.iter().map(|(name, keys)| format!("  {name}: {{ {keys} }}\n")).collect();
        format!("{key}:\n{}", lines.concat())
    };
    format!("workers: 2\n{}{}{rest}", block("listeners", listeners), block("clusters", clusters))
}

fn endpoints(all: &[SocketAddr]) -> String {
    let all: Vec<_> = all.iter().map(|address| format!("\"{address}\"")).collect();
    format!("endpoints: [{}]", all.join(", "))
}

/// A listener's settings, at an address that stays.
fn wire(address: SocketAddr, cluster: &str, more: &str) -> String {
    format!("address: \"{address}\", protocol: tcp, cluster: {cluster}, {more}")
}

fn lines(report: &Value) -> Vec<String> {
    report["text"].as_str().unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_reload_leaves_alone_what_has_not_changed() {
    let (a, b) = (server(b'a'), server(b'b'));
    let (one, two) = (free_address(), free_address());
    let clusters = [("orders", &*endpoints(&[a, b]))];
    let own = wire(one, "orders", "on_reload: rest");
    let before = config(&[("one", &own)], &clusters, "");
    let tollgate = Tollgate::start(&before);
    let client = session(one);
    assert!(asks(&client).is_some());
    let eject = format!("/clusters/orders/endpoints/{a}?state=ejected");
    assert_eq!(tollgate.post(&eject).0, 200);
    assert_eq!(tollgate.reload(&before)["result"], "unchanged");

    // A listener more: less is reserved for the first one, which is no change of it.
    let other = wire(two, "orders", "");
    let after = config(&[("one", &own), ("two", &other)], &clusters, "drain_timeout: 20s\n");
    let report = tollgate.reload(&after);
    assert_eq!(report["result"], "ok");
    let changes = lines(&report);
    assert!(changes.iter().any(|it| it.starts_with("+ listener two")), "{changes:?}");
    assert!(asks(&client).is_some(), "the listener has not changed, and does not let it rest");
    for _ in 0..4 {
        assert_eq!(asks(&session(two)), Some(b'b'), "the other one is still ejected");
    }
    assert_eq!(tollgate.listener_report("one")["connections"], 1);
    let total = tollgate.metric("tollgate_connections_total", &[("listener", "one")]);
    assert!((total - 1.0).abs() < f64::EPSILON, "the count goes on: {total}");
}

#[test]
fn open_connections_of_a_changed_listener_end_as_they_began() {
    let (a, b) = (server(b'a'), server(b'b'));
    let address = free_address();
    let clusters = [("a", &*endpoints(&[a])), ("b", &*endpoints(&[b]))];
    let to = |cluster| config(&[("wire", &wire(address, cluster, ""))], &clusters, "");
    let tollgate = Tollgate::start(&to("a"));
    let old = session(address);
    assert_eq!(asks(&old), Some(b'a'));
    let report = tollgate.reload(&to("b"));
    let expected = "~ listener wire: cluster a → b \
                    (1 open connection: next connections; open ones end as they began)";
    assert_eq!(lines(&report), [expected]);
    assert_eq!(asks(&session(address)), Some(b'b'));
    assert_eq!(asks(&old), Some(b'a'));
    assert_eq!(tollgate.json("/config")["listeners"]["wire"]["cluster"], "b");
}

#[test]
fn open_connections_close_when_they_rest_if_the_config_says_so() {
    let (a, b) = (server(b'a'), server(b'b'));
    let address = free_address();
    let clusters = [("a", &*endpoints(&[a])), ("b", &*endpoints(&[b]))];
    let to = |cluster| {
        let wire = wire(address, cluster, "on_reload: rest");
        config(&[("wire", &wire)], &clusters, "drain_timeout: 300ms\ndrain_spread: 100ms\n")
    };
    let tollgate = Tollgate::start(&to("a"));
    let old = session(address);
    assert_eq!(asks(&old), Some(b'a'));
    tollgate.reload(&to("b"));
    // A TCP connection is one operation, which may go on until the drain's time is over.
    assert!(is_closed(&old));
    assert_eq!(asks(&session(address)), Some(b'b'));
}

#[test]
fn a_listener_that_is_gone_accepts_no_more_and_drains() {
    let a = server(b'a');
    let (one, two) = (free_address(), free_address());
    let clusters = [("a", &*endpoints(&[a]))];
    let [first, second] = [one, two].map(|address| wire(address, "a", ""));
    let rest = "drain_timeout: 500ms\n";
    let tollgate = Tollgate::start(&config(&[("one", &first), ("two", &second)], &clusters, rest));
    let (old, other) = (session(two), session(one));
    assert_eq!((asks(&old), asks(&other)), (Some(b'a'), Some(b'a')));
    let report = tollgate.reload(&config(&[("one", &first)], &clusters, rest));
    assert!(lines(&report).iter().any(|it| it.starts_with("- listener two")), "{report}");
    until_nothing_listens(two);
    assert!(is_closed(&old), "drain_timeout is over");
    assert_eq!(asks(&other), Some(b'a'));
}

#[test]
fn a_listener_takes_over_the_socket_of_another_with_its_address() {
    let (a, b) = (server(b'a'), server(b'b'));
    let address = free_address();
    let clusters = [("a", &*endpoints(&[a])), ("b", &*endpoints(&[b]))];
    let named = |name, cluster| config(&[(name, &wire(address, cluster, ""))], &clusters, "");
    let tollgate = Tollgate::start(&named("old", "a"));
    assert_eq!(asks(&session(address)), Some(b'a'));
    tollgate.reload(&named("new", "b"));
    for _ in 0..10 {
        assert_eq!(asks(&session(address)), Some(b'b'));
    }
}

#[test]
fn a_socket_that_can_not_be_opened_changes_nothing() {
    let a = server(b'a');
    let (one, taken) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let clusters = [("a", &*endpoints(&[a]))];
    let first = wire(one, "a", "");
    let tollgate = Tollgate::start(&config(&[("one", &first)], &clusters, ""));
    let second = wire(taken.local_addr().unwrap(), "a", "");
    let first = wire(one, "a", "idle_timeout: 5s");
    tollgate.write_config(&config(&[("one", &first), ("two", &second)], &clusters, ""));
    let (status, report) = tollgate.post("/config");
    assert_eq!(status, 409, "{report}");
    assert!(report.contains("listener `two` can't listen on"), "{report}");
    assert_eq!(tollgate.json("/config")["listeners"]["one"]["idle_timeout"], "1h");
    assert_eq!(asks(&session(one)), Some(b'a'));
}

#[test]
fn a_changed_cluster_keeps_what_it_knows_of_endpoints_that_stay() {
    let (a, b, c) = (server(b'a'), server(b'b'), server(b'c'));
    let address = free_address();
    let listener = wire(address, "x", "");
    let of = |all: &[SocketAddr], more: &str| {
        let cluster = format!("{}, {more}", endpoints(all));
        config(&[("wire", &listener)], &[("x", &cluster)], "")
    };
    let tollgate = Tollgate::start(&of(&[a, b], "drain_timeout: 500ms"));
    tollgate.post(&format!("/clusters/x/endpoints/{a}?state=ejected"));
    let old = session(address);
    assert_eq!(asks(&old), Some(b'b'));
    // `b` leaves, `a` stays ejected, `c` is new.
    let report = tollgate.reload(&of(&[a, c], "drain_timeout: 500ms, connect_timeout: 700ms"));
    assert!(lines(&report)[0].contains("1 open connection: "), "{report}");
    for _ in 0..4 {
        assert_eq!(asks(&session(address)), Some(b'c'));
    }
    assert!(is_closed(&old), "its endpoint has left");
    let config = tollgate.json("/config");
    assert_eq!(config["clusters"]["x"]["connect_timeout"], "700ms");
}

#[test]
fn the_limits_of_a_circuit_breaker_follow_the_config() {
    let a = server(b'a');
    let address = free_address();
    let listener = wire(address, "x", "");
    let with = |breaker: &str| {
        let cluster = format!("{}, circuit_breaker: {{ {breaker} }}", endpoints(&[a]));
        config(&[("wire", &listener)], &[("x", &cluster)], "")
    };
    let tollgate = Tollgate::start(&with("max_connections: 1, pending_timeout: 10s"));
    let first = session(address);
    assert_eq!(asks(&first), Some(b'a'));
    let second = session(address);
    (&second).write_all(b"?").unwrap();
    eventually("a client to wait", || {
        (tollgate.json("/clusters")[0]["circuit_breaker"]["pending"] == 1).then_some(())
    });
    tollgate.reload(&with("max_connections: 2, pending_timeout: 10s"));
    let mut name = [0];
    (&second).read_exact(&mut name).unwrap();
    assert_eq!(name, *b"a", "the higher limit has room for the client that waits");
}

#[test]
fn a_limit_keeps_its_state_over_changes_of_other_things() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let with = |policies: &str, idle: &str| {
        let listener = format!("{listener} idle_timeout: {idle}");
        config(&[("wire", &listener)], &[("x", &cluster)], policies)
    };
    let limit =
        "policies:\n  - { name: few, rate_limit: { rate: 2/h, burst: 2, unit: connections } }\n";
    let tollgate = Tollgate::start(&with(limit, "1m"));
    assert_eq!(asks(&session(address)), Some(b'a'));
    assert_eq!(asks(&session(address)), Some(b'a'));
    assert_eq!(asks(&session(address)), None);
    // Another policy before it, another listener's setting, another match.
    let more = "policies:\n  - { name: other, match: { peer: 192.0.2.1 }, deny: {} }\n  \
                - { name: few, match: { listener: wire }, rate_limit: { rate: 2/h, burst: 2, unit: connections } }\n";
    let report = tollgate.reload(&with(more, "2m"));
    assert_eq!(report["result"], "ok", "{report}");
    assert_eq!(asks(&session(address)), None, "the bucket is as empty as before");
    // Other numbers are another limit.
    let other = more.replace("2/h", "3/h");
    tollgate.reload(&with(&other, "2m"));
    assert_eq!(asks(&session(address)), Some(b'a'));
}

#[test]
fn a_policy_changed_by_hand_is_as_the_config_says_again() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let with = |rest: &str| config(&[("wire", &listener)], &[("x", &cluster)], rest);
    let policies = "policies:\n  - { name: none, enabled: false, deny: {} }\n";
    let tollgate = Tollgate::start(&with(policies));
    let fault = r#"{ "match": {}, "fault": { "delay": "1ms" }, "for": "30m" }"#;
    assert_eq!(tollgate.send("POST", "/faults", fault).0, 201);
    let changed = tollgate.send("PUT", "/policies/none", r#"{ "enabled": true }"#);
    assert_eq!(changed.0, 200, "{}", changed.1);
    assert_eq!(asks(&session(address)), None);
    let report = tollgate.reload(&with(&format!("drain_timeout: 5s\n{policies}")));
    assert_eq!(report["lost_policy_changes"], json!(["none"]));
    assert_eq!(asks(&session(address)), Some(b'a'));
    assert_eq!(tollgate.json("/faults").as_array().map(Vec::len), Some(1), "faults stay");
}

#[test]
fn a_wrong_config_changes_nothing_and_stays_visible() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let good = config(&[("wire", &listener)], &[("x", &cluster)], "");
    let tollgate = Tollgate::start(&good);
    tollgate.write_config(&good.replace("workers: 2", "workrs: 2"));
    let reload = |arguments: &[&str]| {
        let admin = tollgate.admin().to_string();
        let mut command = program();
        let output =
            command.arg("reload").args(arguments).args(["--admin", &admin]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for arguments in [&[][..], &["--dry-run"]] {
        let (code, text) = reload(arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("tollgate.yaml:3:1: unknown key `workrs`"), "{text}");
    }
    assert_eq!(asks(&session(address)), Some(b'a'));
    let reports = tollgate.json("/reloads");
    assert_eq!(
        (&reports[0]["result"], &reports[0]["problems"][0]["line"]),
        (&json!("failed"), &json!(3))
    );
    assert_eq!(reports.as_array().map(Vec::len), Some(1), "a dry run is not kept");
    tollgate.wait_for_metric("tollgate_config_reloads_total", &[("result", "failed")], 1.0);

    tollgate.write_config(&good.replace("workers: 2", "workers: 3\ndrain_timeout: 7s"));
    let (code, text) = reload(&["--dry-run"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("! workers 2 → 3 (after a restart or an upgrade)"), "{text}");
    assert_eq!(tollgate.json("/config")["drain_timeout"], "30s");
    assert_eq!(reload(&[]).0, Some(0));
    assert_eq!(tollgate.json("/config")["drain_timeout"], "7s");
    assert_eq!(tollgate.json("/config")["workers"], 2);
}

#[test]
fn a_hang_up_reloads_and_a_watched_file_does_so_by_itself() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let with = |rest: &str| config(&[("wire", &listener)], &[("x", &cluster)], rest);
    let tollgate = Tollgate::start(&with(""));
    let becomes = |timeout: &str| {
        eventually("the config to be in use", || {
            (tollgate.json("/config")["drain_timeout"] == timeout).then_some(())
        });
    };
    tollgate.write_config(&with("drain_timeout: 7s\nwatch: true\n"));
    tollgate.signal(Signal::HUP);
    becomes("7s");
    tollgate.write_config(&with("drain_timeout: 8s\nwatch: true\n"));
    becomes("8s");
    let by: Vec<_> =
        tollgate.json("/reloads").as_array().unwrap().iter().map(|it| it["by"].clone()).collect();
    assert_eq!(by, ["watch", "signal"]);
}

#[test]
fn a_posted_config_is_used_and_said_not_to_be_saved() {
    let a = server(b'a');
    let (one, two) = (free_address(), free_address());
    let cluster = endpoints(&[a]);
    let at = |address| config(&[("wire", &wire(address, "x", ""))], &[("x", &cluster)], "");
    let tollgate = Tollgate::start(&at(one));
    let (status, report) = tollgate.send("POST", "/config?dry_run", &at(two));
    assert_eq!(status, 200, "{report}");
    assert!(TcpStream::connect(two).is_err());
    let (status, report) = tollgate.send("POST", "/config", &at(two));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((status, &report["saved"]), (200, &json!(false)), "{report}");
    assert_eq!(asks(&session(two)), Some(b'a'));
    // The environment is not the business of those who may send a config.
    let secret = at(two).replace("workers: 2", "zone: \"${HOME}\"\nworkers: 2");
    let (status, report) = tollgate.send("POST", "/config", &secret);
    assert_eq!(status, 400, "{report}");
}

#[test]
fn check_compares_a_file_with_a_running_proxy() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let good = config(&[("wire", &listener)], &[("x", &cluster)], "");
    let tollgate = Tollgate::start(&good);
    let compare = || {
        let mut command = program();
        command.args(["check", "-c"]).arg(tollgate.config_file());
        let output = command.args(["--diff", &tollgate.admin().to_string()]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // The port of the admin interface is a free one.
    let differs = |text: &str| text.lines().filter(|line| !line.starts_with("! admin")).count();
    tollgate.write_config(&good.replace("workers: 2", "workers: 2\ndrain_timeout: 7s"));
    let _client = session(address);
    let (code, text) = compare();
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(differs(&text), 2, "drain_timeout and drain_spread: {text}");
    tollgate.write_config("listeners: {}");
    assert_eq!(compare().0, Some(1));
}

#[test]
fn logs_move_with_the_config_and_are_reopened() {
    let a = server(b'a');
    let address = free_address();
    let (listener, cluster) = (wire(address, "x", ""), endpoints(&[a]));
    let whole = config(&[("wire", &listener)], &[("x", &cluster)], "");
    let tollgate = Tollgate::start(&whole);
    assert_eq!(asks(&session(address)), Some(b'a'));
    tollgate.logged(1, |_| true);
    // Rotated.
    let rotated = tollgate.log_path().with_extension("1");
    std::fs::rename(tollgate.log_path(), &rotated).unwrap();
    tollgate.signal(Signal::HUP);
    eventually("the log to be there again", || tollgate.log_path().exists().then_some(()));
    assert_eq!(asks(&session(address)), Some(b'a'));
    tollgate.logged(1, |_| true);
    // Moved.
    let moved = tollgate.log_path().with_extension("moved");
    let text = std::fs::read_to_string(tollgate.config_file()).unwrap();
    let text = text.replace("access.log", "access.moved");
    std::fs::write(tollgate.config_file(), text).unwrap();
    assert_eq!(tollgate.post("/config").0, 200);
    assert_eq!(asks(&session(address)), Some(b'a'));
    eventually("a line in the other log", || {
        let text = std::fs::read_to_string(&moved).unwrap_or_default();
        (text.lines().count() == 1).then_some(())
    });
    assert_eq!(tollgate.access_log().len(), 1);
    // Off, and on again.
    tollgate.reload(&whole.clone());
    let off = std::fs::read_to_string(tollgate.config_file()).unwrap();
    let off: Vec<_> = off.lines().filter(|line| !line.starts_with("access_log")).collect();
    std::fs::write(tollgate.config_file(), off.join("\n")).unwrap();
    assert_eq!(tollgate.post("/config").0, 200);
    assert_eq!(asks(&session(address)), Some(b'a'));
    tollgate.reload(&whole);
    assert_eq!(asks(&session(address)), Some(b'a'));
    tollgate.logged(2, |_| true);
    let _ = Command::new("true");
}
