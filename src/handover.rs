//! Hands the listening sockets to the process that replaces this one on the same machine, so that no
//! connection is refused during a restart.
//!
//! Both processes accept on the same sockets until the first one drains, so no queued connection is
//! lost. They connect through a Unix socket, the rendezvous: at the path of `upgrade_socket`, or else an abstract
//! one that is named after the address of the admin interface. Both check that the other process has the same user.
//!
//! The next process asks, gets the sockets, starts, and says so. If it upgrades the first one, that drains then;
//! otherwise it goes on until it gets SIGTERM. If the next process ends or hangs before, nothing has changed.

mod rendezvous;

use config::plan::Plan;
use rendezvous::{bind_rendezvous, rendezvous_of};
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fmt, fs,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Sent first: the version of this protocol. Another one is not understood.
const VERSION: u8 = b'1';
/// Sent with each socket.
const SOCKET: u8 = b'+';
/// Sent after the last socket by a proxy that does not drain…
const ALL: u8 = b'.';
/// …and by one that drains, which has only the sockets of its admin interface left.
const ALL_DRAINING: u8 = b'-';
/// The reply of the next process: it uses the sockets…
const TAKEN_OVER: u8 = b'!';
/// …and the previous one is to drain.
const UPGRADED: u8 = b'^';

/// The time limit for receiving each socket.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for the next process's startup, which includes look-ups of names.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The sockets of a starting proxy: those that it takes over from the previous process or from the
/// service manager, and those that it will offer.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The name of the rendezvous; `None` without `upgrade_socket` and without an admin interface, or if the port of
    /// that is 0.
    name: Option<SockAddr>,
    /// Whether the previous process is to drain once the sockets are in use.
    upgrades: bool,
    /// The previous process, to be notified once the sockets are in use.
    previous: Option<UnixStream>,
    inherited: Vec<Socket>,
    /// Those that the service manager has opened.
    activated: Vec<Socket>,
    offered: Vec<OfferedSocket>,
    offer: Arc<Offer>,
}

/// A socket that the next process gets.
#[derive(Debug)]
struct OfferedSocket {
    socket: OwnedFd,
    /// Whether it stays open during a drain.
    stays_open: bool,
}

impl Sockets {
    /// Requests the sockets of a running proxy with the same `upgrade_socket` or admin interface, and at least one
    /// listener in common with `plan`. `upgrades`: that proxy drains once this one has started.
    pub fn inherit(plan: &Plan, upgrades: bool) -> Self {
        let Some(name) = rendezvous_of(plan) else { return Self::default() };
        let mut this = Self { name: Some(name), upgrades, ..Self::default() };
        let Some(Inherited { from, sockets, draining }) =
            this.name.as_ref().and_then(|name| request_sockets(name).ok())
        else {
            return this;
        };
        let listens = |socket: &Socket| {
            let address = socket.local_addr().ok().and_then(|address| address.as_socket());
            plan.listeners.iter().any(|listener| Some(listener.address) == address)
        };
        // A proxy that has only the admin interface's address in common is unrelated.
        if upgrades || draining || sockets.iter().any(listens) {
            let process = same_user_pid(&from).unwrap_or_default();
            match upgrades {
                true => tracing::info!(
                    process,
                    "upgrading another process, which hands over its sockets"
                ),
                false => tracing::warn!(
                    process,
                    "another process serves these addresses and hands over its sockets: both accept until \
                     that one gets SIGTERM and drains"
                ),
            }
            (this.previous, this.inherited) = (Some(from), sockets);
        }
        this
    }

    /// The same, and sockets that the service manager has opened.
    pub fn with_activated(self, activated: Vec<Socket>) -> Self {
        Self { activated, ..self }
    }

    /// The sockets for the next process.
    pub fn offer(&self) -> Arc<Offer> {
        Arc::clone(&self.offer)
    }

    /// A listener's socket: the previous process's, or else the result of `bind`.
    ///
    /// # Errors
    /// `bind` fails, or there are too few descriptors.
    pub fn listener(
        &mut self,
        address: SocketAddr,
        bind: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    ) -> io::Result<TcpListener> {
        let taken = self.take(&address.into()).map(TcpListener::from);
        let socket = taken.map_or_else(|| bind(address), Ok)?;
        self.offer_socket(&socket, false)?;
        Ok(socket)
    }

    /// A socket for an address of the admin interface: the previous process's, or a new one.
    ///
    /// # Errors
    /// The address can't be bound, or there are too few descriptors.
    pub fn admin(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let taken = self.take(&address.into()).map(TcpListener::from);
        let socket = taken.map_or_else(|| TcpListener::bind(address), Ok)?;
        self.offer_socket(&socket, true)?;
        Ok(socket)
    }

    /// The previous process's Unix socket with this path, if it has one.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        take_from(&mut self.inherited, &SockAddr::unix(path).ok()?).map(unix)
    }

    /// The service manager's Unix socket with this path, if there is one. Its file stays.
    pub fn take_activated_unix(&mut self, path: &Path) -> Option<UnixListener> {
        take_from(&mut self.activated, &SockAddr::unix(path).ok()?).map(unix)
    }

    /// Offers a Unix socket of the admin interface to the next process.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub fn offer_unix(&mut self, socket: &UnixListener) -> io::Result<()> {
        self.offer_socket(socket, true)
    }

    /// Call this once all sockets are in use: notifies the previous process, and offers the sockets to
    /// the next one. Returns the rendezvous, to which the next process connects.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub fn confirm(mut self) -> io::Result<Option<UnixListener>> {
        let Some(name) = self.name.take() else { return Ok(None) };
        let taken = self.take(&name).map(unix);
        let rendezvous: io::Result<UnixListener> = taken.map_or_else(|| bind_rendezvous(&name), Ok);
        if let Some(mut previous) = self.previous.take() {
            let reply = if self.upgrades { UPGRADED } else { TAKEN_OVER };
            // This fails if the previous process has ended, which is harmless.
            let _ = previous.write_all(&[reply]);
        }
        let rendezvous = match rendezvous {
            Ok(rendezvous) => rendezvous,
            Err(error) => {
                tracing::warn!(%error, "no process can take over this one's sockets");
                return Ok(None);
            }
        };
        self.offered.push(OfferedSocket {
            socket: rendezvous.as_fd().try_clone_to_owned()?,
            stays_open: true,
        });
        *self.offer.sockets() = self.offered;
        *self.offer.path() = name.as_pathname().map(Path::to_owned);
        Ok(Some(rendezvous))
    }

    fn take(&mut self, address: &SockAddr) -> Option<Socket> {
        let activated = take_from(&mut self.activated, address);
        activated.or_else(|| take_from(&mut self.inherited, address))
    }

    fn offer_socket(&mut self, socket: impl AsFd, stays_open: bool) -> io::Result<()> {
        if self.name.is_some() {
            let socket = socket.as_fd().try_clone_to_owned()?;
            self.offered.push(OfferedSocket { socket, stays_open });
        }
        Ok(())
    }
}

/// The sockets of a running proxy, for the process that replaces it.
#[derive(Debug, Default)]
pub struct Offer {
    sockets: Mutex<Vec<OfferedSocket>>,
    taken: AtomicBool,
    unready: AtomicBool,
    draining: AtomicBool,
    replaced: CancellationToken,
    on_upgrade: UpgradeHook,
    /// The file of the rendezvous.
    path: Mutex<Option<PathBuf>>,
}

/// See [`Offer::on_upgrade`].
#[derive(Default)]
struct UpgradeHook(OnceLock<Box<dyn Fn(i32) + Send + Sync>>);

impl fmt::Debug for UpgradeHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpgradeHook")
    }
}

impl Offer {
    /// Sets what is called with the id of the process that has upgraded this one, which is to drain. Only the first
    /// call has an effect.
    pub fn on_upgrade(&self, drain: impl Fn(i32) + Send + Sync + 'static) {
        let _ = self.on_upgrade.0.set(Box::new(drain));
    }

    /// Whether another process can take over the sockets.
    pub fn is_open(&self) -> bool {
        !self.sockets().is_empty()
    }

    /// Removes the file of the rendezvous, unless another process uses it.
    pub fn remove_file(&self) {
        let path = self.path().take().filter(|_| !self.is_taken());
        // The directory may be gone.
        path.into_iter().for_each(|path| _ = fs::remove_file(path));
    }

    fn path(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxy drains, now or after `drain.wait`: leaves new requests to the next process, if any.
    pub fn set_unready(&self) {
        self.unready.store(true, SeqCst);
        self.cancel_if_replaced();
    }

    /// The proxy drains: closes the copies of its listeners' sockets.
    pub fn begin_drain(&self) {
        self.set_unready();
        self.draining.store(true, SeqCst);
        self.sockets().retain(|offered| offered.stays_open);
    }

    /// Replaces the sockets of listeners, after a reload of the config. What can't be offered for want of
    /// descriptors is bound by the next process.
    pub fn set_listeners(&self, listeners: impl Iterator<Item = io::Result<TcpListener>>) {
        let mut sockets = self.sockets();
        if sockets.is_empty() {
            // There is no rendezvous, or no admin interface yet.
            return;
        }
        sockets.retain(|offered| offered.stays_open);
        let offered =
            listeners.flatten().map(|it| OfferedSocket { socket: it.into(), stays_open: false });
        let offered: Vec<_> = offered.collect();
        sockets.splice(0..0, offered);
    }

    /// Whether another process uses the sockets too.
    pub fn is_taken(&self) -> bool {
        self.taken.load(SeqCst)
    }

    /// Cancelled once another process uses the sockets and this one drains or is about to.
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// Sends the sockets to each process that connects, until one has replaced this one.
    pub async fn serve(self: Arc<Self>, rendezvous: tokio::net::UnixListener) {
        let mut hand_overs = JoinSet::new();
        loop {
            tokio::select! {
                () = self.replaced.cancelled() => return,
                Some(_) = hand_overs.join_next() => {}
                accepted = rendezvous.accept() => {
                    let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                    let offer = Arc::clone(&self);
                    // A process that can't take over sees the connection close.
                    hand_overs.spawn(async move {
                        if let Err(error) = offer.hand_over(stream).await {
                            tracing::warn!(
                                %error,
                                "a process has asked for the sockets and did not start: this one goes on"
                            );
                        }
                    });
                }
            }
        }
    }

    fn cancel_if_replaced(&self) {
        if self.is_taken() && self.unready.load(SeqCst) {
            self.replaced.cancel();
        }
    }

    async fn hand_over(&self, mut stream: tokio::net::UnixStream) -> io::Result<()> {
        let peer = same_user_pid(&stream)?;
        let version = || send(stream.as_fd(), VERSION, None);
        stream.async_io(Interest::WRITABLE, version).await?;
        let mut at = 0;
        loop {
            let more = stream.async_io(Interest::WRITABLE, || {
                let sockets = self.sockets();
                let socket = sockets.get(at);
                let byte = match socket {
                    Some(_) => SOCKET,
                    None if self.draining.load(SeqCst) => ALL_DRAINING,
                    None => ALL,
                };
                send(stream.as_fd(), byte, socket.map(|offered| offered.socket.as_fd()))?;
                Ok(socket.is_some())
            });
            if !more.await? {
                break;
            }
            at += 1;
        }
        let mut reply = [0];
        timeout(STARTUP_TIMEOUT, stream.read_exact(&mut reply)).await??;
        let drains = reply == [UPGRADED];
        if !drains && reply != [TAKEN_OVER] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.taken.store(true, SeqCst);
        if drains {
            tracing::info!(process = peer, "another process has upgraded this one, which drains");
            self.on_upgrade.0.get().into_iter().for_each(|drain| drain(peer));
        } else {
            tracing::warn!(
                process = peer,
                "another process replaces this one: both accept until this one gets \
                 SIGTERM and drains"
            );
        }
        self.cancel_if_replaced();
        Ok(())
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<OfferedSocket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sockets received from a running proxy.
struct Inherited {
    from: UnixStream,
    sockets: Vec<Socket>,
    draining: bool,
}

/// Receives the sockets of the proxy whose rendezvous has this name.
fn request_sockets(name: &SockAddr) -> io::Result<Inherited> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Fails, and does not wait, if the accept queue is full.
    socket.set_nonblocking(true)?;
    socket.connect(name)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    same_user_pid(&socket)?;
    let (version, _) = receive(socket.as_fd())?;
    if version != VERSION {
        tracing::warn!(
            "another process serves, whose version hands over its sockets in another way"
        );
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut sockets = Vec::new();
    loop {
        match receive(socket.as_fd())? {
            (SOCKET, Some(listener)) => sockets.push(Socket::from(listener)),
            (end @ (ALL | ALL_DRAINING), None) => {
                let from = OwnedFd::from(socket).into();
                return Ok(Inherited { from, sockets, draining: end == ALL_DRAINING });
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Serves the next process on a thread of its own, until one has replaced this one.
///
/// # Errors
/// The thread or its runtime can't start.
pub fn serve(rendezvous: UnixListener, offer: Arc<Offer>) -> io::Result<()> {
    rendezvous.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rendezvous = {
        let _entered = runtime.enter();
        tokio::net::UnixListener::from_std(rendezvous)?
    };
    let run = move || runtime.block_on(offer.serve(rendezvous));
    std::thread::Builder::new().name("handover".into()).spawn(run).map(|_| ())
}

/// The id of the process at the other end.
///
/// # Errors
/// It belongs to another user.
fn same_user_pid(stream: impl AsFd) -> io::Result<i32> {
    let peer = socket_peercred(stream)?;
    match peer.uid == geteuid() {
        true => Ok(peer.pid.as_raw_nonzero().get()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn send(to: BorrowedFd<'_>, byte: u8, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if socket.is_some() {
        control.push(SendAncillaryMessage::ScmRights(socket.as_slice()));
    }
    sendmsg(to, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let socket = sockets.flatten().next();
    let [byte] = byte;
    Ok((byte, socket))
}

fn take_from(sockets: &mut Vec<Socket>, address: &SockAddr) -> Option<Socket> {
    let found =
        |socket: &Socket| socket.local_addr().is_ok_and(|bound| same_address(&bound, address));
    let at = sockets.iter().position(found)?;
    Some(sockets.swap_remove(at))
}

fn unix(socket: Socket) -> UnixListener {
    OwnedFd::from(socket).into()
}

/// Whether two addresses are of the same kind and equal.
pub fn same_address(one: &SockAddr, other: &SockAddr) -> bool {
    let (tcp, path) = (one.as_socket(), one.as_pathname());
    let name = one.as_abstract_namespace();
    tcp.is_some() && tcp == other.as_socket()
        || path.is_some() && path == other.as_pathname()
        || name.is_some() && name == other.as_abstract_namespace()
}
