//! What systemd, or another service manager with its protocol, gets from the proxy: readiness, reloads,
//! a status line and a watchdog (sd_notify(3)); and the sockets that it has opened for the proxy.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent.

mod activation;
mod reporter;

pub use activation::activated_sockets;
pub use reporter::{Vitals, start_reporter};
use rustix::time::{ClockId, clock_gettime};
use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// How long a message waits for a service manager that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The proxy accepts connections: after its start, and after each reload, also one that failed.
pub fn ready() {
    notify("READY=1");
}

/// A reload begins. [`ready`] must follow in every case: the service manager waits for it.
pub fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

/// Another process is the service from now on: this one has been upgraded.
pub fn main_process(id: i32) {
    notify(&format!("MAINPID={id}"));
}

/// Sends a message to the service manager, if there is one.
fn notify(message: &str) {
    let Some(address) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, message) {
        tracing::warn!(%error, socket = ?address, "the service manager can't be notified");
    }
}

fn send(address: &OsStr, message: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

/// How often the service manager expects a sign of life; `None` if it expects none of this process.
fn watchdog_period() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let ours = env::var_os("WATCHDOG_PID").is_none() || is_this_process("WATCHDOG_PID");
    number("WATCHDOG_USEC").filter(|period| ours && *period > 0).map(Duration::from_micros)
}

/// Whether this variable has the id of this process: a child process inherits it, too.
fn is_this_process(variable: &str) -> bool {
    env::var(variable).is_ok_and(|id| id.parse() == Ok(std::process::id()))
}
