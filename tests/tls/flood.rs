//! Many handshakes at once, beside clients that are to be served.

#![allow(clippy::print_stdout, reason = "figures of a run by hand")]

use super::{Certificates, certificates, config, echo_server, exchange, server_tls};
use crate::support::{PATIENCE, tollgate::Tollgate};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// A proxy with one worker and TLS before an echo server.
fn start() -> (&'static Certificates, Tollgate) {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let config = config(&server_tls(certificates), &echo.to_string(), "");
    (certificates, Tollgate::start(&format!("workers: 1\nmax_connections: 20000\n{config}")))
}

/// A client's first bytes. A hostile client sends them again and again, at no cost.
fn hello(certificates: &Certificates) -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(certificates.client_config(None), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn begin(address: SocketAddr, hello: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.write_all(hello).unwrap();
    socket
}

#[test]
fn clients_that_stall_in_handshakes_delay_no_others() {
    let (certificates, tollgate) = start();
    let (address, hello) = (tollgate.listener("wire"), hello(certificates));
    // They have got the server's part, and keep their own.
    let stalled: Vec<_> = (0..200).map(|_| begin(address, &hello)).collect();
    for mut socket in &stalled {
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    exchange(certificates.connect(address, "localhost", None));
    let timeouts = tollgate.metric("tollgate_tls_handshakes_total", &[("result", "timeout")]);
    assert_eq!(timeouts, 0.0, "it had to wait until others were given up");
}

#[test]
fn a_flood_of_handshakes_leaves_others_served() {
    flood_with(400);
}

#[test]
#[ignore = "needs 20,000 descriptors in both processes, and takes 15 s"]
fn ten_thousand_handshakes_leave_others_served() {
    flood_with(10_000);
}

/// Begins this many handshakes at once, beside a client with an open connection and one that makes
/// new connections.
fn flood_with(flood: usize) {
    let (certificates, tollgate) = start();
    let (address, hello) = (tollgate.listener("wire"), hello(certificates));
    let before = tollgate.resident_memory();
    let over = AtomicBool::new(false);
    let mut open = certificates.connect(address, "localhost", None);
    let (quiet, flooded, new) = thread::scope(|scope| {
        let quiet = round_trips(&mut open, |count| count >= 200);
        let flooded = scope.spawn(|| round_trips(&mut open, |_| over.load(Relaxed)));
        let new = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Relaxed) {
                let begun = Instant::now();
                let mut stream = certificates.connect(address, "localhost", None);
                round_trips(&mut stream, |count| count >= 1);
                times.push(begun.elapsed());
            }
            times
        });
        let sockets: Vec<_> = (0..flood).map(|_| begin(address, &hello)).collect();
        for mut socket in &sockets {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // A client that was given up gets an end.
            let _ = socket.read(&mut [0; 5]);
        }
        over.store(true, Relaxed);
        (quiet, flooded.join().unwrap(), new.join().unwrap())
    });
    let grown = tollgate.peak_memory().saturating_sub(before) / flood as u64;
    println!("{flood} handshakes, {grown} bytes of memory for each");
    let [_, served, longest] =
        [("before", quiet), ("meanwhile", flooded), ("new connections", new)].map(report);
    assert!(longest < Duration::from_secs(10), "no new connection was given up");
    assert!(served < Duration::from_secs(1), "an open connection waits for {served:?}");
}

/// The times of round trips of one byte, until `over`.
fn round_trips(stream: &mut (impl Read + Write), over: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over(times.len()) {
        let begun = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        times.push(begun.elapsed());
        thread::park_timeout(Duration::from_millis(1));
    }
    times
}

/// Prints the times. Returns the longest.
fn report((what, mut times): (&str, Vec<Duration>)) -> Duration {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} times, median {:?}, p99 {:?}, longest {:?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    at(1.0)
}
