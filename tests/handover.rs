//! One process takes another's place on the same machine, and no connection is refused meanwhile.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};
use support::{
    PATIENCE,
    ends::echo,
    eventually, free_address,
    tollgate::{Tollgate, output_of, page, tcp_config},
    until_nothing_listens,
};

/// A proxy of one TCP listener, and an admin interface with these keys beside its address.
fn config(admin: SocketAddr, keys: &str, listener: SocketAddr, upstream: SocketAddr) -> String {
    let wire = tcp_config(upstream, "").replace("127.0.0.1:0", &listener.to_string());
    format!("admin: {{ address: \"{admin}\", {keys} }}\ndrain_timeout: 1m\n{wire}")
}

fn session(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn answers(mut stream: &TcpStream) -> io::Result<()> {
    let mut answer = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// Clients that connect, say something, and go, again and again.
struct Clients {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = || {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    let stream = TcpStream::connect(address)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    answers(&stream)?;
                    served.fetch_add(1, SeqCst);
                }
                Ok(())
            })
        };
        let threads = (0..3).map(|_| client()).collect();
        Self { stop, served, threads }
    }

    /// Waits until this many further ones were served.
    fn go_on(&self, count: usize) {
        let before = self.served.load(SeqCst);
        eventually("clients to be served", || {
            (self.served.load(SeqCst) >= before + count || self.stop.load(SeqCst)).then_some(())
        });
    }

    /// Ends them: each was always served.
    fn end(self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Waits until it says so in its log.
fn says(tollgate: &Tollgate, what: &str) {
    eventually(what, || tollgate.stderr().contains(what).then_some(()));
}

#[test]
fn the_next_process_takes_over_without_failed_clients() {
    let (admin, listener) = (free_address(), free_address());
    let config = config(admin, "", listener, echo());
    let mut old = Tollgate::start(&config);
    let clients = Clients::start(listener);
    // Twice: the second one hands over what it was given.
    for _ in 0..2 {
        let open = session(listener);
        answers(&open).unwrap();
        let next = Tollgate::start(&config);
        says(&old, "another process replaces this one");
        says(&next, "another process serves these addresses");
        clients.go_on(50);
        old.signal(Signal::TERM);
        says(&old, "draining");
        // From now on the one that accepts is the one that answers at the admin interface.
        eventually("the old one to be asked no more", || {
            (0..8).all(|_| next.get("/ready").0 == 200).then_some(())
        });
        clients.go_on(50);
        answers(&open).unwrap();
        assert!(old.is_running());
        drop(open);
        assert_eq!(old.end().code(), Some(0));
        clients.go_on(50);
        old = next;
    }
    clients.end();
    assert!(old.metric("tollgate_connections_total", &[]) > 50.0);
    assert!(old.stop().success());
    assert!(TcpStream::connect(listener).is_err(), "nobody keeps the socket open");
}

#[test]
fn a_new_process_gets_the_admin_interface_of_a_draining_one() {
    let (admin, listener) = (free_address(), free_address());
    let config = config(admin, "", listener, echo());
    let mut old = Tollgate::start(&config);
    let open = session(listener);
    answers(&open).unwrap();
    old.signal(Signal::TERM);
    until_nothing_listens(listener);
    assert_eq!(old.get("/ready").0, 503);
    let mut next = Tollgate::start(&config);
    assert_eq!(next.get("/ready").0, 200);
    answers(&session(listener)).unwrap();
    answers(&open).unwrap();
    drop(open);
    assert_eq!(old.end().code(), Some(0));
    assert_eq!(next.get("/ready").0, 200);
    assert!(next.stop().success());
}

/// GETs a page by way of a socket with a path: the first line of the answer.
fn by_path(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_control_socket_goes_to_the_next_process_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let (admin, listener) = (free_address(), free_address());
    let control = format!("control: \"unix:{}\"", path.display());
    let config = config(admin, &control, listener, echo());
    let mut old = Tollgate::start(&config);
    let mut next = Tollgate::start(&config);
    says(&old, "another process replaces this one");
    assert!(old.stop().success());
    assert_eq!(by_path(&path), "HTTP/1.1 200 OK");
    assert!(next.stop().success());
    assert!(!path.exists());
}

#[test]
fn a_waiting_drain_releases_the_admin_interface_at_once() {
    let (admin, listener) = (free_address(), free_address());
    let config = config(admin, "", listener, echo()) + "drain: { wait: 1m }\n";
    let mut old = Tollgate::start(&config);
    let next = Tollgate::start(&config);
    says(&old, "another process replaces this one");
    old.signal(Signal::TERM);
    says(&old, "still accepts connections");
    eventually("the old one to be asked no more", || {
        (0..8).all(|_| next.get("/ready").0 == 200).then_some(())
    });
    assert!(old.is_running());
    old.signal(Signal::TERM);
    assert_eq!(old.end().code(), Some(0));
    answers(&session(listener)).unwrap();
}

#[test]
fn a_process_that_could_not_begin_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (admin, listener, taken) =
        (free_address(), free_address(), TcpListener::bind("127.0.0.1:0"));
    let taken = taken.unwrap();
    let upstream = echo();
    let mut old = Tollgate::start(&config(admin, "", listener, upstream));
    let clients = Clients::start(listener);
    clients.go_on(20);
    let second = format!(
        "  second: {{ address: \"{}\", protocol: tcp, cluster: wire }}\nclusters:",
        taken.local_addr().unwrap()
    );
    let wrong = config(admin, "", listener, upstream).replace("clusters:", &second);
    let file = directory.path().join("tollgate.yaml");
    fs::write(&file, wrong).unwrap();
    let said = output_of(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("listener `second` can't listen on"), "{said:?}");
    clients.go_on(20);
    clients.end();
    assert!(!old.stderr().contains("another process"), "{}", old.stderr());
    assert!(old.stop().success());
}

#[test]
fn proxies_that_share_only_the_admin_address_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let admin = free_address();
    let mut one = Tollgate::start(&config(admin, "", free_address(), echo()));
    let file = directory.path().join("tollgate.yaml");
    fs::write(&file, config(admin, "", free_address(), echo())).unwrap();
    let said = output_of(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let told = format!("the admin interface can't listen on {admin}");
    assert!(said.err.contains(&told), "{said:?}");
    assert_eq!(page(admin, "GET", "/ready", "").unwrap().0, 200);
    assert!(one.stop().success());
}
