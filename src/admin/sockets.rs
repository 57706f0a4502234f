//! The sockets of the admin interface: its address, and a second socket for control if configured.

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
use tls::ServerTls;

/// Permissions of a control socket: only the user that the proxy runs as.
const MODE: u32 = 0o600;
/// Length of the accept queue.
const BACKLOG: i32 = 128;

/// A listening socket, and its access rules.
pub(super) struct AdminSocket {
    pub(super) listener: AnyListener,
    pub(super) rules: Rules,
}

/// A listening socket of either kind.
pub(super) enum AnyListener {
    /// An address, and how its clients are encrypted, if they are.
    Tcp(TcpListener, Option<Arc<ServerTls>>),
    Unix(UnixListener),
}

/// The open sockets.
pub(super) struct OpenedSockets {
    /// The address of the first one.
    pub(super) address: SocketAddr,
    /// At least one.
    pub(super) sockets: Vec<AdminSocket>,
    /// The file of the Unix socket, if there is one.
    pub(super) path: Option<SocketPath>,
}

/// Opens the configured sockets.
///
/// # Errors
/// A socket can't be opened, or the token can't be read.
pub(super) fn open(plan: &AdminPlan, handover: &mut Sockets) -> anyhow::Result<OpenedSockets> {
    let token = plan.token_file.as_deref().map(Token::read).transpose()?.map(Arc::new);
    let listener = handover
        .admin(plan.address)
        .with_context(|| format!("the admin interface can't listen on {}", plan.address))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "admin listening");
    let hosts = || Some(plan.allowed_hosts.clone());
    let (mut others, mut path) = (Vec::new(), None);
    let control = match &plan.control {
        None if is_loopback(&address) || token.is_some() => Control::Allowed(token),
        None => {
            tracing::info!(
                %address,
                "the admin interface is read-only here, since others can reach it: to change things, \
                 set admin.control or admin.token_file"
            );
            Control::ReadOnly(
                "the admin interface is read-only: set admin.control to another address or a Unix \
                 socket, or admin.token_file"
                    .to_owned(),
            )
        }
        Some(ControlAddress::Tcp(wanted)) => {
            let listener = handover.admin(*wanted).with_context(|| {
                format!("the admin interface's control can't listen on {wanted}")
            })?;
            let control = listener.local_addr()?;
            tracing::info!(%control, "admin control listening");
            if !is_loopback(&control) && token.is_none() {
                tracing::warn!(
                    %control,
                    "every client that can reach this address may change policies, inject faults and \
                     drain the proxy: set admin.token_file"
                );
            }
            let rules = Rules { hosts: hosts(), control: Control::Allowed(token) };
            others.push(AdminSocket {
                listener: AnyListener::Tcp(listener, plan.tls.clone()),
                rules,
            });
            changed_elsewhere(&ControlAddress::Tcp(control))
        }
        Some(at @ ControlAddress::Unix(file)) => {
            let (listener, removed) = open_unix(file, handover)
                .with_context(|| format!("the admin interface's control can't listen on {at}"))?;
            tracing::info!(control = %at, "admin control listening");
            // A browser can't connect to a Unix socket, so any host name is accepted.
            let rules = Rules { hosts: None, control: Control::Allowed(token) };
            others.push(AdminSocket { listener: AnyListener::Unix(listener), rules });
            path = removed;
            changed_elsewhere(at)
        }
    };
    let rules = Rules { hosts: hosts(), control };
    let first = AdminSocket { listener: AnyListener::Tcp(listener, plan.tls.clone()), rules };
    Ok(OpenedSockets { address, sockets: std::iter::once(first).chain(others).collect(), path })
}

fn changed_elsewhere(control: &ControlAddress) -> Control {
    Control::ReadOnly(format!("this address is read-only: changes are made at {control}"))
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The path of a Unix socket; its file is removed on drop, unless it was replaced by another file.
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

/// Identifies a file among those that have had the same name: device, inode, and the time of
/// creation if the file system records it, since inodes are reused.
type FileId = (u64, u64, Option<SystemTime>);

fn file_at(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino(), found.created().ok()))
}

impl SocketPath {
    /// The path of a socket that this process created or took over.
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: file_at(path)? })
    }

    /// Does not remove the file: the next process listens on it.
    pub(super) fn keep_file(self) {
        std::mem::forget(self);
    }
}

/// Opens the Unix socket of a path, or takes over the service manager's or the previous process's.
/// Returns its file as well, unless the service manager keeps it.
fn open_unix(
    path: &Path,
    handover: &mut Sockets,
) -> anyhow::Result<(UnixListener, Option<SocketPath>)> {
    let (listener, removed) = if let Some(listener) = handover.take_activated_unix(path) {
        (listener, None)
    } else if let Some(listener) = handover.take_unix(path) {
        (listener, Some(SocketPath::of(path)?))
    } else {
        let (listener, removed) = bind_unix(path)?;
        (listener, Some(removed))
    };
    handover.offer_unix(&listener)?;
    Ok((listener, removed))
}

/// Listens on a path, replacing the socket file of a process that has ended.
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
    // On Linux the file gets the mode of the socket, so it never has another mode.
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
    // Fails, and does not wait, if the accept queue is full.
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
        // Its inode is not reused while it has another name.
        fs::hard_link(&path, directory.path().join("old.sock")).unwrap();
        let (listener, again) = bind_unix(&path).unwrap();
        // Dropping the first one does not remove the second one's socket.
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
