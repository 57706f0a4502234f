//! Listening sockets that the service manager has opened (`LISTEN_FDS`, sd_listen_fds(3)).

use super::is_this_process;
use crate::handover::same_address;
use config::plan::{ControlAddress, Plan};
use listenfd::ListenFd;
use socket2::{SockAddr, Socket};
use std::{env, io, os::fd::OwnedFd};

/// Takes the sockets that the service manager has opened for this process at addresses of the plan, in
/// non-blocking mode. Logs and closes the others. Call this once, before threads start.
pub fn activated_sockets(plan: &Plan) -> Vec<Socket> {
    // `listenfd` also accepts sockets without `LISTEN_PID`: they may be another process's.
    if !is_this_process("LISTEN_PID") {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat("unknown"));
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let taken = (0..count).map(|index| take(&mut passed, index)).zip(names);
    taken.filter_map(|(socket, name)| accepted(name, socket, &addresses(plan))).collect()
}

/// The socket if the proxy listens at its address; closed and logged otherwise.
fn accepted(
    name: &str,
    socket: io::Result<(Socket, SockAddr)>,
    addresses: &[SockAddr],
) -> Option<Socket> {
    match socket {
        Ok((socket, address)) if addresses.iter().any(|it| same_address(it, &address)) => {
            let address = shown(&address);
            tracing::info!(name, address, "the service manager has opened this socket");
            return Some(socket);
        }
        Ok((_, address)) => tracing::warn!(
            name,
            address = shown(&address),
            "the service manager has opened a socket at an address at which the proxy does not listen: \
             it is closed. The unit and the config must have the same address (`0.0.0.0` and `[::]` differ)"
        ),
        Err(error) => tracing::warn!(
            name,
            %error,
            "the service manager has opened a descriptor that is no listening TCP or Unix socket: it \
             is not used"
        ),
    }
    None
}

/// Takes one of the passed descriptors.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<(Socket, SockAddr)> {
    let none = || io::Error::from(io::ErrorKind::NotFound);
    let socket: OwnedFd = match passed.take_tcp_listener(index) {
        Ok(socket) => socket.ok_or_else(none)?.into(),
        Err(_) => passed.take_unix_listener(index)?.ok_or_else(none)?.into(),
    };
    let socket = Socket::from(socket);
    if !socket.is_listener()? {
        return Err(io::Error::other("it does not listen"));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn shown(address: &SockAddr) -> String {
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => address.to_string(),
        (_, Some(path)) => format!("unix:{}", path.display()),
        _ => "unix".to_owned(),
    }
}

/// All addresses at which the proxy of this plan listens.
fn addresses(plan: &Plan) -> Vec<SockAddr> {
    let listeners = plan.listeners.iter().map(|listener| SockAddr::from(listener.address));
    let admin = plan.admin.iter().map(|admin| SockAddr::from(admin.address));
    let control = plan.admin.iter().filter_map(|admin| match admin.control.as_ref()? {
        ControlAddress::Tcp(address) => Some(SockAddr::from(*address)),
        ControlAddress::Unix(path) => SockAddr::unix(path).ok(),
    });
    listeners.chain(admin).chain(control).collect()
}
