//! What systemd gets from the proxy and gives to it: states, signs of life, and listening sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};
use support::{
    PATIENCE,
    ends::Upstream,
    eventually, free_address,
    python::drivers,
    tollgate::{Tollgate, page_over, program, tcp_config},
    tools,
};

/// The service manager's end of `NOTIFY_SOCKET`.
struct Notified(UnixDatagram);

impl Notified {
    fn at(path: &Path) -> Self {
        Self::with(UnixDatagram::bind(path).unwrap())
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut message = [0; 512];
        let size = self.0.recv(&mut message).unwrap();
        String::from_utf8(message[..size].to_vec()).unwrap()
    }

    /// Skips messages up to this one. Returns those before it.
    fn expect(&self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message.starts_with(wanted) {
                return before;
            }
            before.push(message);
        }
    }
}

fn notifying(socket: &str) -> Command {
    let mut program = program();
    program.env("NOTIFY_SOCKET", socket);
    program
}

#[test]
fn each_state_of_the_proxy_is_notified() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Notified::at(&path);
    let upstream = Upstream::start();
    let config = "drain_timeout: 1m\n".to_owned() + &tcp_config(upstream.address(), "");
    let mut tollgate = Tollgate::start_as(notifying(path.to_str().unwrap()), "", &config);
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(manager.next(), "STATUS=0 connections");
    let session = upstream.session(&tollgate);
    manager.expect("STATUS=1 connection");
    let endpoint = format!("/clusters/wire/endpoints/{}", upstream.address());
    assert_eq!(tollgate.post(&format!("{endpoint}?state=drained")).0, 200);
    manager.expect("STATUS=1 connection, 1 endpoint down");
    assert_eq!(tollgate.post(&format!("{endpoint}?state=in_use")).0, 200);

    tollgate.signal(Signal::HUP);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let reloading = loop {
        let message = manager.next();
        if !message.starts_with("STATUS=") {
            break message;
        }
    };
    let (state, time) = reloading.split_once('\n').unwrap();
    assert_eq!(state, "RELOADING=1");
    let microseconds: i64 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    let since = microseconds / 1_000_000 - now.tv_sec;
    assert!((0..60).contains(&since), "{since} s after the signal");
    manager.expect("READY=1");

    tollgate.signal(Signal::TERM);
    manager.expect("STOPPING=1");
    manager.expect("STATUS=draining: 1 connection");
    drop(session);
    assert_eq!(tollgate.end().code(), Some(0));
}

#[test]
fn an_abstract_address_of_the_manager_is_notified() {
    let name = format!("tollgate-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    let manager = Notified::with(UnixDatagram::bind_addr(&address).unwrap());
    let upstream = Upstream::start();
    let config = tcp_config(upstream.address(), "");
    let tollgate = Tollgate::start_as(notifying(&format!("@{name}")), "", &config);
    assert_eq!(manager.next(), "READY=1");
    // Without WATCHDOG_USEC no sign of life is sent.
    assert_eq!(manager.next(), "STATUS=0 connections");
    let _session = upstream.session(&tollgate);
    assert_eq!(manager.next(), "STATUS=1 connection");
}

#[test]
fn an_upgrade_in_place_names_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let (path, socket) = (directory.path().join("notify"), directory.path().join("upgrade"));
    let manager = Notified::at(&path);
    let upstream = Upstream::start();
    let address = free_address().to_string();
    let wire = tcp_config(upstream.address(), "").replace("127.0.0.1:0", &address);
    let config = format!("upgrade_socket: {}\n{wire}", socket.display());
    let mut tollgate = Tollgate::start_as(notifying(path.to_str().unwrap()), "", &config);
    assert_eq!(manager.next(), "READY=1");
    tollgate.signal(Signal::USR2);
    let main = loop {
        let message = manager.next();
        assert_ne!(message, "STOPPING=1", "it would stop the unit");
        if let Some(id) = message.strip_prefix("MAINPID=") {
            break Pid::from_raw(id.parse().unwrap()).unwrap();
        }
    };
    assert_eq!(tollgate.end().code(), Some(0));
    kill_process(main, Signal::TERM).unwrap();
    // The old process may have said so, too.
    manager.expect("STOPPING=1");
    eventually("the next process to end", || test_kill_process(main).is_err().then_some(()));
}

#[test]
fn a_wrong_address_of_the_manager_is_logged() {
    let upstream = Upstream::start();
    let mut tollgate =
        Tollgate::start_as(notifying("/nowhere/notify"), "", &tcp_config(upstream.address(), ""));
    eventually("the warning", || {
        tollgate.stderr().contains("the service manager can't be notified").then_some(())
    });
    assert!(tollgate.stop().success());
}

/// Stops one thread of the proxy until dropped. `None` where that is not permitted.
struct StoppedThread(Child);

impl StoppedThread {
    fn of(tollgate: &Tollgate, name: &str) -> Option<Self> {
        let mut python = tools::program("python3")?;
        python.arg(drivers().join("stop_thread.py")).args([&tollgate.id().to_string(), name]);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        let stopped = said == "stopped\n";
        if !stopped {
            child.wait().unwrap();
            tools::missing("ptrace", "a thread can't be stopped here");
        }
        stopped.then_some(Self(child))
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_worker_that_hangs_stops_the_watchdog_s_signs_of_life() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Notified::at(&path);
    let upstream = Upstream::start();
    let mut program = notifying(path.to_str().unwrap());
    program.env("WATCHDOG_USEC", "1500000");
    let config = "workers: 2\n".to_owned() + &tcp_config(upstream.address(), "");
    let mut tollgate = Tollgate::start_as(program, "", &config);
    manager.expect("WATCHDOG=1");
    manager.expect("WATCHDOG=1");
    let Some(stopped) = StoppedThread::of(&tollgate, "worker-1") else { return };
    manager.expect("STATUS=a worker does not answer");
    // The other worker serves, and the process lives; a second question gets no answer either.
    let unanswered = |tollgate: &Tollgate| {
        tollgate.stderr().matches("the watchdog gets no sign of life").count()
    };
    eventually("a second silence", || (unanswered(&tollgate) >= 2).then_some(()));
    drop(stopped);
    let silent = manager.expect("WATCHDOG=1");
    assert!(silent.is_empty(), "{silent:?}");
    assert!(tollgate.stop().success());
}

#[test]
fn a_watchdog_of_another_process_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Notified::at(&path);
    let upstream = Upstream::start();
    let mut program = notifying(path.to_str().unwrap());
    program.envs([("WATCHDOG_USEC", "1500000"), ("WATCHDOG_PID", "1")]);
    let mut tollgate = Tollgate::start_as(program, "", &tcp_config(upstream.address(), ""));
    let session = upstream.session(&tollgate);
    let before = manager.expect("STATUS=1 connection");
    assert!(!before.contains(&"WATCHDOG=1".to_owned()), "{before:?}");
    drop(session);
    assert!(tollgate.stop().success());
}

/// The proxy with sockets that a service manager has opened: `NAME=ADDRESS`.
fn activated(sockets: &[String]) -> Option<Command> {
    let mut python = tools::program("python3")?;
    python.arg(drivers().join("activate.py")).arg(sockets.join(","));
    python.arg(program().get_program());
    Some(python)
}

#[test]
fn sockets_of_the_service_manager_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control.sock");
    let [listener, admin, unwanted] = [(); 3].map(|()| free_address());
    let sockets = [
        format!("wire={listener}"),
        format!("unwanted={unwanted}"),
        format!("admin={admin}"),
        format!("control={}", control.display()),
    ];
    let Some(program) = activated(&sockets) else { return };
    let upstream = Upstream::start();
    let wire = tcp_config(upstream.address(), "").replace("127.0.0.1:0", &listener.to_string());
    let config = format!(
        "admin: {{ address: \"{admin}\", control: \"unix:{}\" }}\n{wire}",
        control.display()
    );
    let mut tollgate = Tollgate::start_as(program, "", &config);
    // Its own sockets at these addresses could not be bound: they are taken.
    assert_eq!(tollgate.listener("wire"), listener);
    drop(upstream.session(&tollgate));
    let stream = UnixStream::connect(&control).unwrap();
    assert_eq!(page_over(stream, "localhost", "GET", "/live", "").unwrap().0, 200);
    let said = tollgate.stderr();
    for name in ["wire", "admin", "control"] {
        let line = format!("\"name\":\"{name}\"");
        let line = said.lines().find(|it| it.contains(&line)).unwrap();
        assert!(line.contains("the service manager has opened this socket"), "{line}");
    }
    let warning = said.lines().find(|it| it.contains("\"name\":\"unwanted\"")).unwrap();
    assert!(warning.contains("WARN") && warning.contains(&unwanted.to_string()), "{warning}");
    assert!(TcpStream::connect(unwanted).is_err(), "it is closed");
    assert!(tollgate.stop().success());
    assert!(control.exists(), "the file is the service manager's");
}

#[test]
fn sockets_of_another_process_are_not_touched() {
    let upstream = Upstream::start();
    let mut program = program();
    program.envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]);
    let mut tollgate = Tollgate::start_as(program, "", &tcp_config(upstream.address(), ""));
    drop(upstream.session(&tollgate));
    assert!(!tollgate.stderr().contains("service manager"), "{}", tollgate.stderr());
    assert!(tollgate.stop().success());
}
