//! The rendezvous: the Unix socket where the next process asks for the sockets.

use config::plan::Plan;
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::Path,
};

/// Permissions of the rendezvous: only the user that the proxy runs as.
const MODE: u32 = 0o600;

/// Length of the rendezvous's accept queue.
const BACKLOG: i32 = 4;

/// The rendezvous of a plan's proxy.
pub(super) fn rendezvous_of(plan: &Plan) -> Option<SockAddr> {
    if let Some(path) = &plan.upgrade_socket {
        return SockAddr::unix(path).ok();
    }
    let admin = plan.admin.as_ref().map(|admin| admin.address);
    let admin = admin.filter(|address| address.port() != 0)?;
    SockAddr::unix(format!("\0tollgate {} {admin}", geteuid().as_raw())).ok()
}

/// Binds the rendezvous, after a connect has shown that no process listens there.
pub(super) fn bind_rendezvous(name: &SockAddr) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(path) = name.as_pathname() {
        remove_stale(path)?;
        socket.bind(name)?;
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        return Ok(OwnedFd::from(socket).into());
    }
    socket.bind(name)?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// Removes the socket that a process without a drain has left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file there is no socket")),
        Err(_) => Ok(()),
    }
}
