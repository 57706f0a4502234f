//! Both ends of a proxied connection in a test's hands.

use super::{PATIENCE, eventually, tollgate::Tollgate};
use rustix::net::SendFlags;
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// A server that does nothing by itself: the test accepts, reads and writes.
pub struct Upstream(TcpListener);

impl Upstream {
    /// Listens at a port that the kernel picks.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    /// The next connection.
    pub fn accept(&self) -> End {
        let accepted = eventually("a connection to the server", || self.0.accept().ok());
        accepted.0.set_nonblocking(false).expect("a socket");
        End::new(accepted.0)
    }

    /// Whether a connection waits to be accepted.
    pub fn was_called(&self) -> bool {
        self.0.accept().is_ok()
    }

    /// Connects through the proxy: the client's end and the server's.
    pub fn session(&self, tollgate: &Tollgate) -> (End, End) {
        let client = End::connect(tollgate.listener("wire"));
        (client, self.accept())
    }
}

/// One end of a connection. Whatever waits, waits no longer than [`PATIENCE`].
pub struct End(TcpStream);

impl End {
    fn new(stream: TcpStream) -> Self {
        // Each write is to be a segment of its own.
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self(stream)
    }

    /// A client's end.
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).expect("a connection"))
    }

    /// A client's end with another address of this machine.
    pub fn connect_from(own: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((own, 0)).into()).expect("an address of this machine");
        socket.connect_timeout(&address.into(), PATIENCE).expect("a connection");
        Self::new(socket.into())
    }

    /// Sends these bytes in one write.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the bytes are taken");
    }

    /// Sends these bytes; an error if the other side closes before it has taken all of them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads these bytes and no others.
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.0.read_exact(&mut read).expect("the bytes come");
        // No `assert_eq`: it would print megabytes.
        assert!(read == bytes, "other bytes came");
    }

    /// Fills `bytes`; an error if the other side ends before.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(bytes)
    }

    /// Reads a head of HTTP/1 with the empty line at its end.
    pub fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("the rest of a head");
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).expect("text")
    }

    /// What comes next; nothing at the other side's end.
    pub fn more(&mut self) -> Vec<u8> {
        let mut bytes = [0; 4096];
        let n = self.0.read(&mut bytes).expect("more");
        bytes[..n].to_vec()
    }

    /// Everything until the other side ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("an end in good order");
        bytes
    }

    /// Everything until the other side resets the connection: no end in good order came first.
    pub fn read_until_reset(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let error = self.0.read_to_end(&mut bytes).expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        bytes
    }

    /// Waits for the end, be it in good order or not.
    pub fn expect_end(&mut self) {
        match io::copy(&mut self.0, &mut io::sink()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no end came"),
            _ => {}
        }
    }

    /// Whether bytes are there to be read.
    pub fn has_input(&self) -> bool {
        self.0.set_nonblocking(true).expect("a socket");
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).expect("a socket");
        matches!(peeked, Ok(1..))
    }

    /// Asserts that nothing comes for so long.
    pub fn expect_silence(&mut self, duration: Duration) {
        self.0.set_read_timeout(Some(duration)).expect("a socket");
        let read = self.0.read(&mut [0]);
        let error = read.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        self.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Closes without a good-bye.
    pub fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Sends these bytes, and in the same segment that nothing more will be sent.
    pub fn send_last(&mut self, bytes: &[u8]) {
        let sent = rustix::net::send(&self.0, bytes, SendFlags::MORE).expect("the bytes are taken");
        assert_eq!(sent, bytes.len());
        self.finish();
    }

    /// A second handle, to read while the first one writes.
    pub fn try_clone(&self) -> End {
        End(self.0.try_clone().expect("a descriptor"))
    }

    /// This end's address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }
}
