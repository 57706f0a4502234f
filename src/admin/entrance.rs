//! The sockets of the admin interface: an address, and perhaps another place for control.

use super::{
    guard::{Control, Rules},
    token::Token,
};
use crate::handover::Sockets;
use anyhow::{Context as _, bail};
use config::plan::{AdminPlan, ControlAddress};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, File, Permissions},
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Permissions of a control socket: only the user that the proxy runs as.
const MODE: u32 = 0o600;
/// Length of the accept queue.
const BACKLOG: i32 = 128;

/// A socket, and what is taken there.
pub(super) struct Entrance {
    pub(super) socket: Listening,
    pub(super) rules: Rules,
}

/// A socket that listens.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets, and the file of one of them.
pub(super) struct Opened {
    /// Where the first one listens.
    pub(super) address: SocketAddr,
    /// The first is that of `address`.
    pub(super) entrances: Vec<Entrance>,
    pub(super) path: Option<SocketPath>,
}

/// Opens what the plan says.
///
/// # Errors
/// When something can't listen, or the token can't be read.
pub(super) fn open(plan: &AdminPlan, handed: &mut Sockets) -> anyhow::Result<Opened> {
    let token = plan.token_file.as_deref().map(Token::read).transpose()?.map(Arc::new);
    let listener = handed
        .admin(plan.address)
        .with_context(|| format!("the admin interface can't listen on {}", plan.address))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "admin listening");
    let hosts = || Some(plan.allowed_hosts.clone());
    let (mut others, mut path) = (Vec::new(), None);
    let control = match &plan.control {
        None if is_loopback(&address) || token.is_some() => Control::Here(token),
        None => {
            tracing::info!(
                %address,
                "the admin interface is read-only here, since others can reach it: to change things, \
                 set admin.control or admin.token_file"
            );
            Control::Elsewhere(
                "the admin interface is read-only: set admin.control to another address or a Unix \
                 socket, or admin.token_file"
                    .to_owned(),
            )
        }
        Some(ControlAddress::Tcp(wanted)) => {
            let listener = handed.admin(*wanted).with_context(|| {
                format!("the admin interface's control can't listen on {wanted}")
            })?;
            let control = listener.local_addr()?;
            tracing::info!(%control, "admin control listening");
            if !is_loopback(&control) && token.is_none() {
                tracing::warn!(
                    %control,
                    "whatever can reach this address may change policies, inject faults and drain \
                     the proxy: set admin.token_file"
                );
            }
            let rules = Rules { hosts: hosts(), control: Control::Here(token) };
            others.push(Entrance { socket: Listening::Tcp(listener), rules });
            elsewhere(&ControlAddress::Tcp(control))
        }
        Some(at @ ControlAddress::Unix(file)) => {
            let (listener, removed) = open_unix(file, handed)
                .with_context(|| format!("the admin interface's control can't listen on {at}"))?;
            tracing::info!(control = %at, "admin control listening");
            // No browser can connect there, whatever the name that it asks for.
            let rules = Rules { hosts: None, control: Control::Here(token) };
            others.push(Entrance { socket: Listening::Unix(listener), rules });
            path = Some(removed);
            elsewhere(at)
        }
    };
    let rules = Rules { hosts: hosts(), control };
    let first = Entrance { socket: Listening::Tcp(listener), rules };
    Ok(Opened { address, entrances: std::iter::once(first).chain(others).collect(), path })
}

fn elsewhere(control: &ControlAddress) -> Control {
    Control::Elsewhere(format!("this address is read-only: changes are made at {control}"))
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The path of a socket, which is removed when this is dropped, unless another file is there by then.
#[derive(Debug)]
pub(super) struct SocketPath {
    path: PathBuf,
    file: FileId,
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if file_at(&self.path).ok() == Some(self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What identifies a file among those that had the same name: device, inode, and its time of
/// birth, where the file system has that, since inodes are used again.
type FileId = (u64, u64, Option<SystemTime>);

fn file_at(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino(), found.created().ok()))
}

impl SocketPath {
    /// That of a socket which this process made, or got from the one before.
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: file_at(path)? })
    }

    /// Leaves the file to the process that listens there now.
    pub(super) fn leave(self) {
        std::mem::forget(self);
    }
}

/// The socket of a path, which may be that of the process before.
fn open_unix(path: &Path, handed: &mut Sockets) -> anyhow::Result<(UnixListener, SocketPath)> {
    let (listener, removed) = match handed.take_path(path) {
        Some(listener) => (listener, SocketPath::of(path)?),
        None => bind_unix(path)?,
    };
    handed.keep_path(&listener)?;
    Ok((listener, removed))
}

/// Listens on a path, replacing a socket that a dead process left there.
fn bind_unix(path: &Path) -> anyhow::Result<(UnixListener, SocketPath)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            bail!("there is a file that is no socket: remove it, or choose another path");
        }
        Ok(_) if is_live(path)? => {
            bail!("another process listens there: end it, or choose another path");
        }
        Ok(_) => {
            fs::remove_file(path).context("a socket that nothing listens on can't be removed")?
        }
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file gets the mode of the socket: it is never there with another one.
    let socket = File::from(OwnedFd::from(socket));
    let _ = socket.set_permissions(Permissions::from_mode(MODE));
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    let removed = SocketPath::of(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), removed))
}

/// Whether something listens on the socket of this path.
fn is_live(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Where many wait to be accepted, this does not.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) => Ok(error.kind() != io::ErrorKind::ConnectionRefused),
        Ok(()) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_control_socket_is_private_and_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (listener, removed) = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        drop(listener);
        assert!(path.exists(), "a process that was killed leaves its socket");
        // Its inode is not used again for as long as it has another name.
        fs::hard_link(&path, directory.path().join("old.sock")).unwrap();
        let (listener, again) = bind_unix(&path).unwrap();
        // The first one's end does not take the second one's socket.
        drop(removed);
        UnixStream::connect(&path).unwrap();
        drop((listener, again));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(bind_unix(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
