//! Both ends of a proxied connection in a test's hands, in plain text or inside TLS.

use super::{PATIENCE, certificates::Certificates, eventually, socket::Socket, tollgate::Tollgate};
use rustix::net::SendFlags;
use rustls::{ClientConnection, ServerConnection};
use socket2::{Domain, Socket as RawSocket, Type};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// A server that does nothing by itself: the test accepts, reads and writes.
pub struct Upstream {
    listener: TcpListener,
    tls: Option<&'static Certificates>,
}

/// A server that sends back what it reads.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

/// Runs a test twice: with servers and their proxies in plain text, and with both inside TLS.
pub fn plain_and_encrypted(test: impl Fn(fn() -> Upstream)) {
    test(Upstream::start);
    println!("inside TLS");
    test(Upstream::encrypted);
}

impl Upstream {
    /// Listens at a port that the kernel picks.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Self { listener, tls: None }
    }

    /// The same inside TLS. Its proxies are then inside TLS for their clients, too.
    pub fn encrypted() -> Self {
        Self { tls: Some(Certificates::shared()), ..Self::start() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next connection.
    pub fn accept(&self) -> End {
        let accepted = eventually("a connection to the server", || self.listener.accept().ok());
        accepted.0.set_nonblocking(false).expect("a socket");
        let Some(certificates) = self.tls else { return End::new(accepted.0) };
        let config = Arc::new(certificates.server_config("server", false, &[]));
        End::encrypted(accepted.0, ServerConnection::new(config).expect("a config"))
    }

    /// Whether a connection waits to be accepted.
    pub fn was_called(&self) -> bool {
        self.listener.accept().is_ok()
    }

    /// A config with a TCP listener `wire` before it; `settings` are the listener's further keys.
    pub fn config(&self, settings: &str) -> String {
        let (mut listener, mut cluster) = (settings.to_owned(), String::new());
        if let Some(certificates) = self.tls {
            let pair = certificates.pair("server");
            listener = format!("tls: {{ certificates: {pair} }}, {settings}");
            let ca = certificates.path("ca.crt");
            cluster = format!(", tls: {{ ca: {} }}", ca.display());
        }
        let address = self.address();
        format!(
            "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire, {listener} }}\n\
             clusters:\n  wire: {{ endpoints: [\"{address}\"]{cluster} }}\n"
        )
    }

    /// A proxy with this config.
    pub fn proxy(&self, settings: &str) -> Tollgate {
        Tollgate::start(&self.config(settings))
    }

    /// Connects through the proxy: the client's end and the server's.
    pub fn session(&self, tollgate: &Tollgate) -> (End, End) {
        let client = self.connect(tollgate);
        let server = self.accept();
        server.0.handshake().expect("a handshake with the server");
        (client, server)
    }

    /// A client's end of a connection to the proxy.
    pub fn connect(&self, tollgate: &Tollgate) -> End {
        let address = tollgate.listener("wire");
        let Some(certificates) = self.tls else { return End::connect(address) };
        let tcp = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(certificates.client_config(None), name);
        let client = End::encrypted(tcp, connection.expect("a config"));
        client.0.handshake().expect("a handshake with the proxy");
        client
    }
}

/// One end of a connection. Whatever waits, waits no longer than [`PATIENCE`].
pub struct End(Socket);

impl End {
    fn new(stream: TcpStream) -> Self {
        let end = Self(stream.into());
        end.prepare();
        end
    }

    fn encrypted(stream: TcpStream, connection: impl Into<rustls::Connection>) -> Self {
        let end = Self(Socket::encrypted(stream, connection));
        end.prepare();
        end
    }

    fn prepare(&self) {
        let tcp = self.0.tcp();
        // Each write is to be a segment of its own.
        tcp.set_nodelay(true).expect("a socket");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a socket");
    }

    /// A client's end.
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).expect("a connection"))
    }

    /// A client's end with another address of this machine.
    pub fn connect_from(own: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
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
        let tcp = self.0.tcp();
        tcp.set_nonblocking(true).expect("a socket");
        let peeked = tcp.peek(&mut [0]);
        tcp.set_nonblocking(false).expect("a socket");
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
        self.0.finish().expect("an open connection");
    }

    /// Closes without a good-bye.
    pub fn reset(self) {
        self.0.reset_on_drop().expect("a socket");
    }

    /// Sends these bytes in plain text, and in the same segment that nothing more will be sent.
    pub fn send_last(&mut self, bytes: &[u8]) {
        let sent =
            rustix::net::send(self.0.tcp(), bytes, SendFlags::MORE).expect("the bytes are taken");
        assert_eq!(sent, bytes.len());
        self.finish();
    }

    /// A second handle, to read while the first one writes.
    pub fn try_clone(&self) -> End {
        End(self.0.clone())
    }

    /// This end's address.
    pub fn address(&self) -> SocketAddr {
        self.0.tcp().local_addr().expect("an address")
    }
}
