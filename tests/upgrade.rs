//! One process upgrades another: it takes over the sockets, and the other one drains.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    PATIENCE,
    client::RawClient,
    ends::echo,
    eventually, free_address,
    scripted::{Scripted, reply_to},
    tollgate::{Tollgate, program, tcp_config},
    wire::op_msg,
};

/// `drain_spread`: within this time the old process begins to close each connection.
const SPREAD: Duration = Duration::from_millis(200);

/// A server that answers each request with `ok`.
fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                for line in BufReader::new(&connection).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        (&connection).write_all(answer).unwrap();
                    }
                }
            });
        }
    });
    address
}

/// A whole config: one TCP listener, and a socket for upgrades.
fn config(admin: SocketAddr, socket: &Path, listener: SocketAddr, upstream: SocketAddr) -> String {
    let wire = tcp_config(upstream, "").replace("127.0.0.1:0", &listener.to_string());
    let socket = socket.display();
    format!(
        "admin: \"{admin}\"\nupgrade_socket: {socket}\ndrain_timeout: 1m\ndrain_spread: {SPREAD:?}\n{wire}"
    )
}

fn session(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn answers(mut stream: &TcpStream) -> io::Result<()> {
    let mut answer = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// Runs `upgrade` while clients connect, say something, and go. Returns how many were served; each of them was.
fn under_load(address: SocketAddr, upgrade: impl FnOnce()) -> usize {
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let client = || {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        thread::spawn(move || {
            while !stop.load(SeqCst) {
                answers(&session(address)?)?;
                served.fetch_add(1, SeqCst);
            }
            io::Result::Ok(())
        })
    };
    let clients: Vec<_> = (0..3).map(|_| client()).collect();
    upgrade();
    stop.store(true, SeqCst);
    clients.into_iter().for_each(|it| it.join().unwrap().unwrap());
    served.load(SeqCst)
}

#[test]
fn upgrades_in_a_row_fail_no_client() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let (admin, listener) = (free_address(), free_address());
    let config = config(admin, &socket, listener, echo());
    let mut old = Tollgate::start_upgrade(&config);
    let file = eventually("the upgrade socket", || fs::metadata(&socket).ok());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let served = under_load(listener, || {
        for _ in 0..20 {
            let open = session(listener).unwrap();
            answers(&open).unwrap();
            let next = Tollgate::start_upgrade(&config);
            eventually("the old one to drain", || {
                old.stderr().contains("another process has upgraded this one").then_some(())
            });
            answers(&open).unwrap();
            drop(open);
            assert_eq!(old.end().code(), Some(0));
            old = next;
        }
    });
    assert!(served > 200, "{served}");
    assert!(old.stop().success());
    assert!(!socket.exists());
}

/// Sends requests on one connection, and connects again when an answer says that it is the last. Returns how many
/// answers said so.
fn request_until(stop: &AtomicBool, address: SocketAddr) -> io::Result<usize> {
    let mut last = 0;
    while !stop.load(SeqCst) {
        let mut stream = BufReader::new(session(address)?);
        let mut kept = true;
        while kept && !stop.load(SeqCst) {
            stream.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
            let (mut head, mut body) = (String::new(), [0; 2]);
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            stream.read_exact(&mut body)?;
            assert!(head.starts_with("HTTP/1.1 200") && &body == b"ok", "{head}");
            kept = !head.to_lowercase().contains("connection: close");
            last += usize::from(!kept);
        }
    }
    Ok(last)
}

#[test]
fn kept_connections_end_with_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let listener = free_address();
    let config = config(free_address(), &socket, listener, web());
    let config = config.replace("protocol: tcp", "protocol: http");
    let mut old = Tollgate::start_upgrade(&config);
    let stop = Arc::<AtomicBool>::default();
    let clients = [(); 4].map(|()| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || request_until(&stop, listener))
    });
    for _ in 0..5 {
        let next = Tollgate::start_upgrade(&config);
        assert_eq!(old.end().code(), Some(0));
        old = next;
    }
    stop.store(true, SeqCst);
    for client in clients {
        let last = client.join().unwrap().unwrap();
        assert!(last >= 5, "each old process has told it: {last}");
    }
}

#[test]
fn a_busy_driver_keeps_its_connection_until_it_rests() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let listener = free_address();
    let server = Scripted::answering(|asked| reply_to(asked, &doc! { "ok": 1.0 }));
    let config = config(free_address(), &socket, listener, server.address());
    let config = config.replace("protocol: tcp", "protocol: mongo");
    let mut old = Tollgate::start_upgrade(&config);
    let mut client = RawClient::connect(listener);
    let ping = op_msg(1, &doc! { "ping": 1, "$db": "admin" });
    let _next = thread::scope(|scope| {
        let next = scope.spawn(|| Tollgate::start_upgrade(&config));
        while !old.stderr().contains("\"draining\"") {
            client.round_trip(&ping);
        }
        next.join().unwrap()
    });
    // All connections have had their turn by then.
    let end = Instant::now() + 2 * SPREAD;
    while Instant::now() < end {
        client.round_trip(&ping);
    }
    client.drain();
    assert_eq!(old.end().code(), Some(0));
}

#[test]
fn a_next_process_with_a_wrong_config_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let listener = free_address();
    let good = config(free_address(), &socket, listener, echo());
    let mut old = Tollgate::start_upgrade(&good);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let elsewhere = good.replace(&listener.to_string(), &taken.to_string());
    let served = under_load(listener, || {
        for wrong in [good.replace("drain_timeout", "drain_timeot"), elsewhere] {
            let file = directory.path().join("wrong.yaml");
            fs::write(&file, wrong).unwrap();
            let mut next = program();
            next.args(["run", "--upgrade", "-c"]).arg(&file);
            let next = next.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert_eq!(next.code(), Some(1));
        }
    });
    assert!(served > 0);
    assert!(old.is_running() && !old.stderr().contains("draining"), "{}", old.stderr());
}

#[test]
fn a_next_process_that_hangs_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let listener = free_address();
    let config = config(free_address(), &socket, listener, echo());
    let mut old = Tollgate::start_upgrade(&config);
    // It asks, and never says that it has started; another one gets in nevertheless.
    let hanging = UnixStream::connect(&socket).unwrap();
    (0..10).for_each(|_| answers(&session(listener).unwrap()).unwrap());
    let mut next = Tollgate::start_upgrade(&config);
    assert_eq!(old.end().code(), Some(0));
    drop(hanging);
    answers(&session(listener).unwrap()).unwrap();
    assert!(next.stop().success());
}

#[test]
fn a_killed_process_leaves_the_next_one_serving() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let listener = free_address();
    let config = config(free_address(), &socket, listener, echo());
    let old = Tollgate::start_upgrade(&config);
    let open = session(listener).unwrap();
    answers(&open).unwrap();
    let mut next = Tollgate::start_upgrade(&config);
    old.signal(Signal::KILL);
    for _ in 0..10 {
        answers(&session(listener).unwrap()).unwrap();
    }
    assert!(next.stop().success());
}

#[test]
fn a_signal_starts_the_next_process_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let (admin, listener) = (free_address(), free_address());
    let mut old = Tollgate::start_upgrade(&config(admin, &socket, listener, echo()));
    let served = under_load(listener, || {
        old.signal(Signal::USR2);
        assert_eq!(old.end().code(), Some(0));
        for _ in 0..10 {
            answers(&session(listener).unwrap()).unwrap();
        }
    });
    assert!(served > 0);
    // The next process is no child of this test.
    let log = old.stderr();
    let line = log.lines().find(|line| line.contains("the next process starts")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let next = Pid::from_raw(i32::try_from(line["process"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(next, Signal::TERM).unwrap();
    eventually("the next process to end", || test_kill_process(next).is_err().then_some(()));
    assert!(TcpStream::connect(listener).is_err());
}

#[test]
fn a_signal_without_a_rendezvous_changes_nothing() {
    let tollgate = Tollgate::tcp(echo(), "");
    tollgate.signal(Signal::USR2);
    eventually("a word about it", || {
        tollgate.stderr().contains("set `upgrade_socket`").then_some(())
    });
    answers(&session(tollgate.listener("wire")).unwrap()).unwrap();
}
