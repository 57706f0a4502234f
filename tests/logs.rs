//! Logs delay nothing, lose no line without counting it, and can be moved away; no signal that
//! means something to other servers ends the proxy.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{PipeReader, PipeWriter, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use support::{
    ends::{End, Upstream},
    eventually, free_address,
    tollgate::{Tollgate, page, program, tcp_config},
};

/// A pipe that holds nothing more, and whose reader reads nothing.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// A proxy whose logs have no reader. Killed when dropped.
struct Unread {
    child: Child,
    admin: SocketAddr,
    listener: SocketAddr,
    _readers: [PipeReader; 2],
    _directory: tempfile::TempDir,
}

impl Unread {
    fn start(upstream: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tollgate.yaml");
        let (admin, listener) = (free_address(), free_address());
        let config = tcp_config(upstream, "").replace("127.0.0.1:0", &listener.to_string());
        let head =
            format!("admin: {admin}\ndrain_timeout: 1s\naccess_log: {{}}\nevent_log: {{}}\n");
        fs::write(&file, head + &config).unwrap();
        let ((out, stdout), (err, stderr)) = (full_pipe(), full_pipe());
        let mut program = program();
        program.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = program.spawn().unwrap();
        let this = Self { child, admin, listener, _readers: [out, err], _directory: directory };
        eventually("the proxy to be ready", || {
            page(admin, "GET", "/ready", "").ok().filter(|(status, _)| *status == 200)
        });
        this
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        eventually("the proxy to end", || self.child.try_wait().unwrap()).code()
    }

    /// How many lines of this log it says were lost.
    fn lost(&self, metric: &str) -> u64 {
        let (_, text) = page(self.admin, "GET", "/metrics", "").unwrap();
        let line = text.lines().find(|line| line.starts_with(metric)).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn unread_logs_delay_neither_sessions_nor_the_end() {
    let upstream = Upstream::start();
    let mut proxy = Unread::start(upstream.address());
    let mut open: Vec<_> =
        (0..8).map(|_| (End::connect(proxy.listener), upstream.accept())).collect();
    // Each of these is a line of the proxy's own log, and one of the event log.
    let endpoint = format!("/clusters/wire/endpoints/{}", upstream.address());
    for _ in 0..600 {
        for state in ["drained", "in_use"] {
            let (status, body) =
                page(proxy.admin, "POST", &format!("{endpoint}?state={state}"), "").unwrap();
            assert_eq!(status, 200, "{body}");
        }
    }
    assert!(proxy.lost("tollgate_log_dropped_total ") > 0);
    assert!(proxy.lost("tollgate_event_log_dropped_total ") > 0);
    for (client, server) in &mut open {
        client.send(b"still here");
        server.expect(b"still here");
    }
    let asked = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.end(), Some(0));
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(1), "its sessions may go on for drain_timeout: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_second_signal_ends_a_proxy_with_unread_logs() {
    let upstream = Upstream::start();
    let mut proxy = Unread::start(upstream.address());
    let session = (End::connect(proxy.listener), upstream.accept());
    proxy.signal(Signal::TERM);
    eventually("the drain", || {
        page(proxy.admin, "GET", "/ready", "").ok().filter(|(status, _)| *status == 503)
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.end(), Some(0));
    drop(session);
}

/// The proxy where files cannot grow beyond this many blocks (of 512 or 1024 bytes), as on a full disk,
/// and where a signal says so as well.
fn with_files_of(blocks: usize) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(program().get_program());
    shell
}

/// Sessions that begin and end.
fn sessions(tollgate: &Tollgate, upstream: &Upstream, count: usize) {
    for _ in 0..count {
        let (mut client, mut server) = upstream.session(tollgate);
        client.finish();
        server.expect_end();
        server.finish();
        client.expect_end();
    }
}

#[test]
fn each_line_that_can_not_be_written_is_counted() {
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let events = format!("event_log: {{ path: {} }}\n", directory.path().join("events").display());
    let config = events + &tcp_config(upstream.address(), "");
    let mut tollgate = Tollgate::start_as(with_files_of(0), "", &config);
    sessions(&tollgate, &upstream, 20);
    tollgate.wait_for_metric("tollgate_access_log_dropped_total", &[], 20.0);
    let endpoint = format!("/clusters/wire/endpoints/{}", upstream.address());
    assert_eq!(tollgate.post(&format!("{endpoint}?state=drained")).0, 200);
    assert_eq!(tollgate.post(&format!("{endpoint}?state=in_use")).0, 200);
    tollgate.wait_for_metric("tollgate_event_log_dropped_total", &[], 2.0);
    let told = tollgate.stderr();
    let errors = told.lines().filter(|line| line.contains("lines are lost until it can"));
    assert_eq!(errors.count(), 2, "{told}");
    assert!(tollgate.stop().success());
}

#[test]
fn a_line_that_does_not_fit_is_removed_whole() {
    let upstream = Upstream::start();
    // As on a full disk: the file may not grow any more. (Units are 512 or 1024 bytes.)
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 5; exec \"$0\" \"$@\""])
        .arg(program().get_program());
    let mut tollgate = Tollgate::start_as(shell, "", &tcp_config(upstream.address(), ""));
    sessions(&tollgate, &upstream, 40);
    let lost = || tollgate.metric("tollgate_access_log_dropped_total", &[]);
    eventually("all lines to be written or lost", || {
        (tollgate.access_log().len() as f64 + lost() == 40.0).then_some(())
    });
    assert!(lost() > 0.0);
    let text = tollgate.access_log_text();
    assert!(text.ends_with("}\n"), "half a line is left: {text}");
    // There is room again.
    File::options().write(true).open(tollgate.log_path()).unwrap().set_len(0).unwrap();
    sessions(&tollgate, &upstream, 3);
    tollgate.logged(3, |_| true);
    assert!(tollgate.stderr().contains("is written again"), "{}", tollgate.stderr());
    assert!(tollgate.stop().success());
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sigusr1_reopens_moved_logs() {
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let [events, events_before] = ["events", "events.1"].map(|name| directory.path().join(name));
    let config = tcp_config(upstream.address(), "");
    let config = format!("event_log: {{ path: {} }}\n{config}", events.display());
    let mut tollgate = Tollgate::start(&config);
    let log = tollgate.log_path();
    let before = log.with_extension("1");
    let endpoint = format!("/clusters/wire/endpoints/{}", upstream.address());
    let steer = |state: &str| {
        assert_eq!(tollgate.post(&format!("{endpoint}?state={state}")).0, 200);
    };
    let written = |path: &Path, count: usize| {
        eventually(&format!("{count} lines in {}", path.display()), || {
            (lines(path).len() == count).then_some(())
        });
    };
    sessions(&tollgate, &upstream, 2);
    steer("drained");
    written(&log, 2);
    written(&events, 1);
    fs::rename(&log, &before).unwrap();
    fs::rename(&events, &events_before).unwrap();
    // Until the signal, lines go to the files that were moved.
    steer("in_use");
    sessions(&tollgate, &upstream, 1);
    written(&before, 3);
    written(&events_before, 2);
    tollgate.signal(Signal::USR1);
    written(&log, 0);
    eventually("both to be there", || (log.exists() && events.exists()).then_some(()));
    sessions(&tollgate, &upstream, 1);
    steer("drained");
    written(&log, 1);
    written(&events, 1);
    assert_eq!((lines(&before).len(), lines(&events_before).len()), (3, 2));
    assert_eq!(tollgate.metric("tollgate_access_log_dropped_total", &[]), 0.0);

    // What can't be opened changes nothing.
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    tollgate.signal(Signal::USR1);
    eventually("the error", || {
        tollgate.stderr().contains("the access log can't be opened anew").then_some(())
    });
    assert!(tollgate.stop().success());
}

#[test]
fn no_signal_of_other_servers_ends_a_session() {
    let upstream = Upstream::start();
    let mut tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    for (signal, name) in [(Signal::HUP, "SIGHUP"), (Signal::USR2, "SIGUSR2")] {
        tollgate.signal(signal);
        eventually("a word about it", || tollgate.stderr().contains(name).then_some(()));
        assert_eq!(tollgate.get("/ready").0, 200);
        client.send(b"still here");
        server.expect(b"still here");
    }
    drop((client, server));
    assert!(tollgate.stop().success());
}
