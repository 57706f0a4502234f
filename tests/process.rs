//! The process held against what is on its machine: files that are none, and too few descriptors.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{
    ends::Upstream,
    eventually,
    tollgate::{CommandOutput, Tollgate, mongo_config, output_of, program, tcp_config},
};

/// The proxy with this limit of descriptors.
fn limited(count: usize) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(program().get_program());
    shell
}

/// How a proxy with this limit of descriptors began: it ended with this code and output,
/// or serves.
fn with_descriptors(count: usize, upstream: SocketAddr) -> Result<Tollgate, (Option<i32>, String)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    let config = format!("workers: 2\n{}", tcp_config(upstream, ""));
    fs::write(&file, format!("admin: 127.0.0.1:0\n{config}")).unwrap();
    let mut tried = limited(count)
        .args(["run", "-c", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    for line in BufReader::new(tried.stderr.take().unwrap()).lines().map_while(Result::ok) {
        if line.contains("admin listening") {
            tried.kill().unwrap();
            tried.wait().unwrap();
            return Ok(Tollgate::start_as(limited(count), "", &config));
        }
        told += &line;
    }
    Err((tried.wait().unwrap().code(), told))
}

#[test]
fn too_few_descriptors_are_an_error() {
    let upstream = Upstream::start();
    let mut refused = 0;
    for count in [16, 22, 24, 26, 28, 30, 32, 34, 36, 44, 60] {
        match with_descriptors(count, upstream.address()) {
            Err((code, told)) => {
                assert_eq!(code, Some(1), "{count}: {told}");
                assert!(told.contains("descriptors") || told.contains("open files"), "{told}");
                refused += 1;
            }
            Ok(tollgate) => {
                let (mut client, mut server) = upstream.session(&tollgate);
                client.send(b"ping");
                server.expect(b"ping");
                assert_eq!(tollgate.get("/ready").0, 200);
            }
        }
    }
    assert!((5..11).contains(&refused), "{refused}");
}

#[test]
fn a_low_descriptor_limit_is_logged() {
    let upstream = Upstream::start();
    let warned = |tollgate: &Tollgate| {
        let told = tollgate.stderr();
        let line = told.lines().find(|line| line.contains("than max_connections"))?;
        serde_json::from_str::<serde_json::Value>(line).ok()
    };
    let tollgate = with_descriptors(256, upstream.address()).unwrap();
    let line = warned(&tollgate).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!((&line["max_connections"], &line["descriptors"]), (&10_000.into(), &256.into()));
    let fit = line["fit"].as_u64().unwrap();
    assert!((64..128).contains(&fit), "{line}");

    let config = format!("workers: 2\n{}", tcp_config(upstream.address(), "max_connections: 32"));
    let tollgate = Tollgate::start_as(limited(256), "", &config);
    assert!(warned(&tollgate).is_none(), "{}", tollgate.stderr());
}

#[test]
fn the_version_is_a_metric() {
    let tollgate = Tollgate::tcp(nowhere(), "");
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(tollgate.metric("tollgate_build_info", &labels), 1.0);
}

#[test]
fn the_connections_of_each_worker_are_reported() {
    let upstream = Upstream::start();
    let config = format!("workers: 2\n{}", tcp_config(upstream.address(), ""));
    let tollgate = Tollgate::start(&config);
    let active = "tollgate_worker_connections_active";
    let sessions: Vec<_> = (0..4).map(|_| upstream.session(&tollgate)).collect();
    for worker in ["0", "1"] {
        tollgate.wait_for_metric(active, &[("worker", worker)], 2.0);
    }
    drop(sessions);
    for worker in ["0", "1"] {
        tollgate.wait_for_metric(active, &[("worker", worker)], 0.0);
        assert!(tollgate.metrics().iter().any(|sample| sample.is(active, &[("worker", worker)])));
    }
}

/// Nothing listens here.
fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9))
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// What `check` and `run` say about this config; neither may wait for a file.
fn tried(directory: &Path, config: &str) -> [CommandOutput; 2] {
    let file = directory.join("tollgate.yaml");
    fs::write(&file, format!("admin: off\n{config}")).unwrap();
    ["check", "run"].map(|command| output_of(&[command, "-c", file.to_str().unwrap()]))
}

#[test]
fn a_fifo_is_refused_wherever_a_config_names_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let path = path.to_str().unwrap();
    let listener = "listeners: { a: { address: \"127.0.0.1:0\", protocol: tcp, cluster: a } }";
    let clusters = "clusters: { a: { endpoints: [\"127.0.0.1:9\"] } }";
    let transcode = "listeners: { a: { address: \"127.0.0.1:0\", cluster: a, protocol: { grpc: { transcode: { descriptors: PATH } } } } }";
    let shared = "policies: [{ name: r, rate_limit: { rate: 1/s, shared: { redis: { address: \"127.0.0.1:9\", password_file: PATH } } } }]";
    let hashed = "policies: [{ name: r, rate_limit: { rate: 1/s, shared: { hash_key_file: PATH, redis: { address: \"127.0.0.1:9\" } } } }]";
    for config in [
        format!("{listener}\nclusters: {{ a: {{ endpoints_file: PATH }} }}\n"),
        format!("{listener}\n{clusters}\naccess_log: {{ path: PATH }}\n"),
        format!("{listener}\n{clusters}\nevent_log: {{ path: PATH }}\n"),
        format!("{transcode}\n{clusters}\n"),
        format!("{listener}\n{clusters}\n{shared}\n"),
        format!("{listener}\n{clusters}\n{hashed}\n"),
    ] {
        let config = config.replace("PATH", path);
        for said in tried(directory.path(), &config) {
            let told = format!("{}{}", said.out, said.err);
            assert_eq!(said.code, Some(1), "{config}: {told}");
            assert!(told.contains("is a FIFO, not a regular file"), "{config}: {told}");
        }
    }
    // The config itself.
    for command in ["check", "run"] {
        let said = output_of(&[command, "-c", path]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(format!("{}{}", said.out, said.err).contains("it is a FIFO"), "{said:?}");
    }
}

#[test]
fn a_log_that_becomes_a_fifo_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints.yaml");
    fs::write(&path, "[\"127.0.0.1:9\"]").unwrap();
    let cluster = format!("endpoints_file: {}", path.display());
    let config = tcp_config(nowhere(), "").replace("endpoints: [\"127.0.0.1:9\"]", &cluster);
    assert!(config.contains(&cluster));
    let mut tollgate = Tollgate::start(&config);
    fs::remove_file(&path).unwrap();
    fifo(&path);
    eventually("the proxy to notice", || {
        tollgate.stderr().contains("it is a FIFO, not a regular file").then_some(())
    });
    assert_eq!(tollgate.get("/ready").0, 200);
    assert!(tollgate.stop().success());
}

#[test]
fn a_log_is_not_for_other_users_and_not_written_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("logs")).unwrap();
    symlink(at("logs"), at("current")).unwrap();
    let with = |path: PathBuf| {
        format!("event_log: {{ path: {} }}\n{}", path.display(), mongo_config(nowhere(), ""))
    };
    let mut tollgate = Tollgate::start(&with(at("current").join("events.log")));
    let log = at("logs").join("events.log");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o137, 0);
    assert!(tollgate.stop().success());

    symlink(at("victim"), at("link")).unwrap();
    for said in tried(directory.path(), &with(at("link"))) {
        assert_eq!(said.code, Some(1), "{said:?}");
        let told = format!("{}{}", said.out, said.err);
        assert!(told.contains("is a symbolic link, not a regular file"), "{told}");
    }
    assert!(!at("victim").exists());
}

#[test]
fn standard_streams_are_logs_whatever_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    let config = mongo_config(nowhere(), "");
    for path in ["/dev/stdout", "/dev/stderr", "/dev/null"] {
        fs::write(&file, format!("access_log: {{ path: {path} }}\n{config}")).unwrap();
        // Its own output goes to a pipe.
        let said = output_of(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!((said.code, said.out.as_str()), (Some(0), "ok\n"), "{said:?}");
    }
}

#[test]
fn a_closed_stdout_ends_a_command_without_a_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program().arg("schema").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn explain_prints_no_control_codes_of_its_own_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.yaml");
    let policy = "policies: [{ name: p, match: { app: a }, deny: {} }]\n";
    fs::write(&file, format!("{}{policy}", mongo_config(nowhere(), ""))).unwrap();
    let file = file.to_str().unwrap();
    for question in [
        "mongo find \u{1b}[31mred app=\u{1b}]0;title\u{7}",
        "mongo\u{1b}[31m find",
        "mongo find a b\u{9b}31m",
        "mongo find listener=\u{1b}[2J",
    ] {
        let said = output_of(&["check", "-c", file, "--explain", question]);
        let told = format!("{}{}", said.out, said.err);
        assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
        assert!(!told.is_empty());
    }
}
