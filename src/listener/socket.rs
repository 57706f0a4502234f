//! Listening sockets.

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use std::{io, net::SocketAddr, time::Duration};

/// Length of the accept queue.
const BACKLOG: i32 = 4096;

/// A bound socket on its way to the worker that accepts on it.
pub struct ListenSocket {
    /// Identifies the socket among all that this process has had.
    pub number: u64,
    /// The listener's id.
    pub listener: u64,
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
