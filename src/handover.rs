//! A proxy hands its listening sockets to the process that takes its place on the same machine, so
//! that no connection is refused while one follows the other.
//!
//! Both accept on the same sockets until the first one drains, so nothing that waits there is lost.
//! They meet at a Unix socket without a file, whose name is the address of the admin interface; only
//! processes of the same user get, or believe, anything there.

use config::plan::Plan;
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
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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

/// Comes with a socket.
const SOCKET: u8 = b'+';
/// Comes after all sockets of a proxy at work…
const ALL: u8 = b'.';
/// …and of one that drains, which has none left but those of its admin interface.
const LEAVING: u8 = b'-';
/// Answers that the sockets are in use.
const TAKEN: u8 = b'!';

/// How many processes may wait to ask.
const BACKLOG: i32 = 4;

/// How long the other process may take for each socket.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to begin, with its look-ups of names.
const BEGINNING: Duration = Duration::from_secs(60);

/// The sockets of a proxy that begins: those that it takes over, and those that it will hand over.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where proxies of this admin interface meet; `None` where there is none, or its port is any.
    name: Option<SockAddr>,
    /// The previous process, to be notified once the sockets are in use.
    from: Option<UnixStream>,
    given: Vec<Socket>,
    own: Vec<Own>,
    offer: Arc<Offer>,
}

/// A socket that is handed over, as long as it is open here.
#[derive(Debug)]
struct Own {
    socket: OwnedFd,
    /// It stays open during a drain.
    stays: bool,
}

impl Sockets {
    /// Asks a proxy with the same admin interface for its sockets, if there is one with a listener
    /// that `plan` has too.
    pub fn begin(plan: &Plan) -> Self {
        let admin = plan.admin.as_ref().map(|admin| admin.address);
        let Some(admin) = admin.filter(|address| address.port() != 0) else {
            return Self::default();
        };
        let name = format!("\0tollgate {} {admin}", geteuid().as_raw());
        let Ok(name) = SockAddr::unix(name) else { return Self::default() };
        let mut this = Self { name: Some(name), ..Self::default() };
        let Some(Given { from, sockets, leaving }) = this.name.as_ref().and_then(|it| ask(it).ok())
        else {
            return this;
        };
        let listens = |socket: &Socket| {
            let address = socket.local_addr().ok().and_then(|address| address.as_socket());
            plan.listeners.iter().any(|listener| Some(listener.address) == address)
        };
        // One that has nothing in common but the admin interface's address is another proxy.
        if leaving || sockets.iter().any(listens) {
            tracing::warn!(
                process = own_user(&from).unwrap_or_default(),
                "another process serves these addresses, and hands its sockets over: both accept \
                 until that one gets SIGTERM and drains"
            );
            (this.from, this.given) = (Some(from), sockets);
        }
        this
    }

    /// Where the next process will find them.
    pub fn offer(&self) -> Arc<Offer> {
        Arc::clone(&self.offer)
    }

    /// The socket of a listener: that of the other process, or what `bind` makes.
    ///
    /// # Errors
    /// What `bind` says, and when there are too few descriptors.
    pub fn listener(
        &mut self,
        address: SocketAddr,
        bind: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    ) -> io::Result<TcpListener> {
        let taken = self.take(&address.into()).map(TcpListener::from);
        let socket = taken.map_or_else(|| bind(address), Ok)?;
        self.keep(&socket, false)?;
        Ok(socket)
    }

    /// The same for an address of the admin interface.
    ///
    /// # Errors
    /// When nothing can listen there, and when there are too few descriptors.
    pub fn admin(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let taken = self.take(&address.into()).map(TcpListener::from);
        let socket = taken.map_or_else(|| TcpListener::bind(address), Ok)?;
        self.keep(&socket, true)?;
        Ok(socket)
    }

    /// The admin interface's socket of this path, if the other process has it.
    pub fn take_path(&mut self, path: &Path) -> Option<UnixListener> {
        let socket = self.take(&SockAddr::unix(path).ok()?)?;
        Some(OwnedFd::from(socket).into())
    }

    /// Has one more socket of the admin interface handed over.
    ///
    /// # Errors
    /// When there are too few descriptors.
    pub fn keep_path(&mut self, socket: &UnixListener) -> io::Result<()> {
        self.keep(socket, true)
    }

    /// All sockets are in use: notifies the previous process, and offers them to the next one. Returns the
    /// socket where the next process connects.
    ///
    /// # Errors
    /// When there are too few descriptors.
    pub fn in_use(mut self) -> io::Result<Option<UnixListener>> {
        let Some(name) = self.name.take() else { return Ok(None) };
        let taken = self.take(&name).map(|socket| OwnedFd::from(socket).into());
        let meeting: io::Result<UnixListener> = taken.map_or_else(|| meet(&name), Ok);
        if let Some(mut from) = self.from.take() {
            // Should it have ended by now, nothing is lost.
            let _ = from.write_all(&[TAKEN]);
        }
        let meeting = match meeting {
            Ok(meeting) => meeting,
            Err(error) => {
                tracing::warn!(%error, "no process can take this one's place without a pause");
                return Ok(None);
            }
        };
        self.own.push(Own { socket: meeting.as_fd().try_clone_to_owned()?, stays: true });
        *self.offer.sockets() = self.own;
        Ok(Some(meeting))
    }

    fn take(&mut self, address: &SockAddr) -> Option<Socket> {
        let found = |socket: &Socket| socket.local_addr().is_ok_and(|own| same(&own, address));
        let at = self.given.iter().position(found)?;
        Some(self.given.swap_remove(at))
    }

    fn keep(&mut self, socket: impl AsFd, stays: bool) -> io::Result<()> {
        if self.name.is_some() {
            let socket = socket.as_fd().try_clone_to_owned()?;
            self.own.push(Own { socket, stays });
        }
        Ok(())
    }
}

/// The sockets of a proxy that runs, for the process that takes its place.
#[derive(Debug, Default)]
pub struct Offer {
    sockets: Mutex<Vec<Own>>,
    taken: AtomicBool,
    unready: AtomicBool,
    leaving: AtomicBool,
    replaced: CancellationToken,
}

impl Offer {
    /// The proxy is to drain, at once or soon: where there is another one, that is to be asked.
    pub fn give_way(&self) {
        self.unready.store(true, SeqCst);
        self.is_replaced();
    }

    /// The proxy drains: no copies of its listeners' sockets may stay open.
    pub fn leave(&self) {
        self.give_way();
        self.leaving.store(true, SeqCst);
        self.sockets().retain(|own| own.stays);
    }

    /// Whether another process has the sockets as well.
    pub fn is_taken(&self) -> bool {
        self.taken.load(SeqCst)
    }

    /// Cancelled once another process has replaced this one, which drains or will.
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// Hands the sockets to each process that asks, until one has taken this one's place.
    pub async fn serve(self: Arc<Self>, meeting: tokio::net::UnixListener) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                () = self.replaced.cancelled() => return,
                Some(_) = under_way.join_next() => {}
                accepted = meeting.accept() => {
                    let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                    let offer = Arc::clone(&self);
                    // A process that can't take over sees the connection close.
                    under_way.spawn(async move { offer.hand_over(stream).await });
                }
            }
        }
    }

    fn is_replaced(&self) {
        if self.is_taken() && self.unready.load(SeqCst) {
            self.replaced.cancel();
        }
    }

    async fn hand_over(&self, mut stream: tokio::net::UnixStream) -> io::Result<()> {
        let peer = own_user(&stream)?;
        let mut at = 0;
        loop {
            let more = stream.async_io(Interest::WRITABLE, || {
                let sockets = self.sockets();
                let socket = sockets.get(at);
                let byte = match socket {
                    Some(_) => SOCKET,
                    None if self.leaving.load(SeqCst) => LEAVING,
                    None => ALL,
                };
                send(stream.as_fd(), byte, socket.map(|own| own.socket.as_fd()))?;
                Ok(socket.is_some())
            });
            if !more.await? {
                break;
            }
            at += 1;
        }
        let mut answer = [0];
        timeout(BEGINNING, stream.read_exact(&mut answer)).await??;
        if answer == [TAKEN] {
            self.taken.store(true, SeqCst);
            tracing::warn!(
                process = peer,
                "another process takes this one's place: both accept until this one gets \
                 SIGTERM and drains"
            );
            self.is_replaced();
        }
        Ok(())
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Own>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a proxy hands over.
struct Given {
    from: UnixStream,
    sockets: Vec<Socket>,
    leaving: bool,
}

/// Asks the proxy that listens at this name for its sockets.
fn ask(name: &SockAddr) -> io::Result<Given> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Where many wait to be accepted, this does not.
    socket.set_nonblocking(true)?;
    socket.connect(name)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    own_user(&socket)?;
    let mut sockets = Vec::new();
    loop {
        match receive(socket.as_fd())? {
            (SOCKET, Some(listener)) => sockets.push(Socket::from(listener)),
            (end @ (ALL | LEAVING), None) => {
                let from = OwnedFd::from(socket).into();
                return Ok(Given { from, sockets, leaving: end == LEAVING });
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Opens the socket at which proxies of this name meet.
fn meet(name: &SockAddr) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(name)?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// The process at the other end, which must be of the same user.
fn own_user(stream: impl AsFd) -> io::Result<i32> {
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

/// Whether two addresses are of the same kind, and equal.
fn same(one: &SockAddr, other: &SockAddr) -> bool {
    let (tcp, path) = (one.as_socket(), one.as_pathname());
    let name = one.as_abstract_namespace();
    tcp.is_some() && tcp == other.as_socket()
        || path.is_some() && path == other.as_pathname()
        || name.is_some() && name == other.as_abstract_namespace()
}
