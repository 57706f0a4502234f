//! A server that can be broken: bytes go on to one that works, or do not.

use super::socket::Socket;
use rustls::{ServerConfig, ServerConnection};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How often one that hangs looks whether it works again.
const LOOK: Duration = Duration::from_millis(10);

/// What a flaky server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It serves.
    Works,
    /// It takes no connections.
    Refuses,
    /// It resets connections as soon as something is asked.
    Resets,
    /// It takes connections and questions, and answers nothing for as long as it hangs.
    Hangs,
}

/// Stands before a server that works, and knows no protocol.
pub struct Flaky {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

struct Shared {
    behind: SocketAddr,
    /// Its clients' connections are inside TLS; those to the server behind it are not.
    tls: Option<Arc<ServerConfig>>,
    mode: Mutex<Mode>,
}

/// The thread that takes connections, until it finds out that it should not.
struct Listening {
    listener: TcpListener,
    thread: thread::JoinHandle<()>,
}

impl Flaky {
    /// A server that works like the one at `behind`.
    pub fn before(behind: SocketAddr) -> Self {
        Self::start(behind, None)
    }

    /// The same inside TLS. What it breaks, it breaks after the handshake.
    pub fn encrypted(behind: SocketAddr, tls: ServerConfig) -> Self {
        Self::start(behind, Some(Arc::new(tls)))
    }

    fn start(behind: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let shared = Arc::new(Shared { behind, tls, mode: Mutex::new(Mode::Works) });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let flaky = Self { address, shared, listening: Mutex::new(None) };
        flaky.listen(listener);
        flaky
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does from here on; connections that are served go on.
    pub fn set_mode(&self, mode: Mode) {
        let before = std::mem::replace(&mut *self.shared.mode.lock().unwrap(), mode);
        if mode == Mode::Refuses && before != Mode::Refuses {
            let Listening { listener, thread } = self.listening.lock().unwrap().take().unwrap();
            // The thread ends with the next connection that it takes.
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
            drop(listener);
        } else if mode != Mode::Refuses && before == Mode::Refuses {
            self.listen(TcpListener::bind(self.address).unwrap());
        }
    }

    fn listen(&self, listener: TcpListener) {
        let (accepting, shared) = (listener.try_clone().unwrap(), Arc::clone(&self.shared));
        let thread = thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                let shared = Arc::clone(&shared);
                if *shared.mode.lock().unwrap() == Mode::Refuses {
                    return;
                }
                // Connections break in tests of broken connections.
                thread::spawn(move || shared.serve(client));
            }
        });
        *self.listening.lock().unwrap() = Some(Listening { listener, thread });
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        // Each write is to be a segment of its own.
        client.set_nodelay(true)?;
        let mut client = match &self.tls {
            None => Socket::from(client),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls));
                Socket::encrypted(client, connection.map_err(io::Error::other)?)
            }
        };
        let mut server: Option<TcpStream> = None;
        let (mut bytes, mut held) = ([0; 4096], Vec::new());
        loop {
            // What is held goes on once it works again, also if nothing more comes.
            client.set_read_timeout((!held.is_empty()).then_some(LOOK))?;
            let n = match client.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                read => Some(read?),
            };
            let mode = *self.mode.lock().unwrap();
            match mode {
                _ if n == Some(0) => {
                    return server.map_or(Ok(()), |it| it.shutdown(Shutdown::Write));
                }
                Mode::Hangs => held.extend_from_slice(&bytes[..n.unwrap_or(0)]),
                Mode::Works | Mode::Refuses => {
                    if server.is_none() {
                        server = Some(self.connect(&client)?);
                    }
                    held.extend_from_slice(&bytes[..n.unwrap_or(0)]);
                    server.as_mut().unwrap().write_all(&std::mem::take(&mut held))?;
                }
                Mode::Resets => {
                    client.reset_on_drop()?;
                    // The other half must not hold the socket open.
                    return server.map_or(Ok(()), |it| it.shutdown(Shutdown::Both));
                }
            }
        }
    }

    /// Connects to the server that works, and has its answers passed on.
    fn connect(&self, client: &Socket) -> io::Result<TcpStream> {
        let server = TcpStream::connect(self.behind)?;
        let (mut back, mut front) = (server.try_clone()?, client.clone());
        thread::spawn(move || {
            let _ = io::copy(&mut back, &mut front);
            let _ = front.finish();
        });
        Ok(server)
    }
}
