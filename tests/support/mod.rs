//! What the integration tests stand on: the proxy as a process, real servers and drivers, and
//! scripted peers that send whatever bytes a test asks for.
//!
//! (A `tests/support.rs` would be built as a test of its own, hence this file's name.)

#![allow(
    unused_imports,
    dead_code,
    unreachable_pub,
    reason = "a library in source: no one test uses all of it"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "services and clients of tests have runtimes of their own, with several threads"
)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

pub mod browser;
pub mod certificates;
pub mod client;
pub mod ends;
pub mod flaky;
pub mod http;
pub mod metrics;
pub mod nginx;
pub mod observed;
pub mod pooled;
pub mod postgres;
pub mod python;
pub mod replica_set;
pub mod scripted;
pub mod secantus;
pub mod socket;
pub mod tollgate;
pub mod tools;
pub mod wire;

use std::{
    iter,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How long a test waits for what should happen at once. Long, since machines can be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `look` until it has an answer.
///
/// For what goes on in another process and can only be looked at: its log, its metrics.
///
/// # Panics
/// If there is none within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// An address where nothing listens, for programs that can't pick a port themselves.
///
/// The kernel assigns no port of this range by itself (`ip_local_port_range`), and each call returns another one. So
/// no other test has the port when the program opens it.
pub fn free_address() -> SocketAddr {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    const PORTS: Range<u16> = 12_000..32_000;
    // Processes begin at different places.
    let start = std::process::id().wrapping_mul(97) % u32::from(PORTS.end - PORTS.start);
    let next = || start + u32::from(CALLS.fetch_add(1, Relaxed));
    let port = || PORTS.start + (next() % u32::from(PORTS.end - PORTS.start)) as u16;
    let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
    iter::repeat_with(address).find(|it| TcpListener::bind(it).is_ok()).expect("a free port")
}

/// Waits until nothing listens at this address. It binds the address; a connection could still be accepted, and the
/// test would have one connection more than it expects.
pub fn until_nothing_listens(address: SocketAddr) {
    eventually("the socket to be closed", || TcpListener::bind(address).ok());
}
