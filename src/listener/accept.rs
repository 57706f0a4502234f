//! Listening sockets, and the accept loop that dispatches connections.

use super::{Dispatcher, WorkerListener, is_due};
use crate::{
    connection::Accepted,
    worker::{Message, Worker},
};
use operation::Close;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

/// Length of the accept queue.
const BACKLOG: i32 = 4096;

/// First and longest pause when the process is out of descriptors.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A bound socket on its way to the worker that accepts on it.
pub struct ListenSocket {
    /// The listener's number.
    pub listener: usize,
    /// The socket, in non-blocking mode.
    pub socket: std::net::TcpListener,
}

/// Binds a listener's socket. Connections inherit its options, which saves setting them again
/// for each. `user_timeout` is how long bytes sent to a client may stay unacknowledged: keepalive
/// finds a client that is gone only while none are.
///
/// # Errors
/// When the address is taken, or not one of this machine's.
pub fn bind(
    address: SocketAddr,
    user_timeout: Option<Duration>,
) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    prepare(SockRef::from(&socket), user_timeout)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sets the options that connections inherit; also on a socket that another process opened.
///
/// # Errors
/// The socket is not a TCP socket.
pub fn prepare(socket: SockRef<'_>, user_timeout: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(user_timeout)
}

/// Keepalive that detects a dead peer within two minutes.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6)
}

/// Accepts and dispatches connections for ever. Returns the error if it can't begin.
pub async fn accept(
    worker: Rc<Worker>,
    listener: Rc<WorkerListener>,
    socket: ListenSocket,
    dispatcher: Dispatcher,
) -> io::Error {
    let name = &*listener.plan().name;
    let socket = match TcpListener::from_std(socket.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = name, %error, "can't accept");
            return error;
        }
    };
    let mut pause = PAUSES.0;
    let said = Cell::default();
    loop {
        let shared = &listener.listener;
        let accepted = match dispatcher.budget.fits_another(shared.index, &shared.total_open) {
            true => socket.accept().await,
            false => Err(Errno::MFILE.into()),
        };
        let error = match accepted {
            Ok((connection, peer)) => {
                pause = PAUSES.0;
                dispatch(&worker, &listener, &dispatcher, connection, peer);
                continue;
            }
            Err(error) => error,
        };
        if !matches!(
            Errno::from_io_error(&error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
        ) {
            // Nearly always a client that left before it was accepted. A permanent error must not
            // keep the worker busy.
            tokio::task::yield_now().await;
            continue;
        }
        listener.paused.increment(1);
        if is_due(&said) {
            tracing::error!(
                listener = name,
                %error,
                "out of file descriptors: new connections wait until one is free; \
                 raise the limit (ulimit -n, LimitNOFILE=) or lower max_connections"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn dispatch(
    worker: &Rc<Worker>,
    listener: &Rc<WorkerListener>,
    dispatcher: &Dispatcher,
    socket: TcpStream,
    peer: SocketAddr,
) {
    let Some((to, slot)) = listener.listener.take_slot(&dispatcher.budget, worker.index) else {
        listener.opened.increment(1);
        listener.count_close(Close::ConnectionLimit);
        tracing::debug!(listener = &*listener.plan().name, %peer, "refused: at max_connections");
        return;
    };
    let accepted = Accepted { socket, peer, at: Instant::now(), slot };
    if to == worker.index {
        worker.serve(listener, accepted);
    } else if let (Some(inbox), Ok(hand_off)) = (dispatcher.inboxes.get(to), accepted.detach()) {
        // A worker that has ended drops the message, which closes the connection.
        let _ = inbox.send(Message::Serve(listener.listener.index, hand_off));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_connection_has_its_listener_s_options() {
        let patience = Some(Duration::from_secs(120));
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), patience).unwrap();
        socket.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 6);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), patience);
    }
}
