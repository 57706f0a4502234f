//! A client with one operation under way.

use crate::{
    tls::SERVER_NAME,
    wire::{answered, whole},
};
use rustls::{HandshakeKind, pki_types::ServerName};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The error label that asks clients to back off.
const OVERLOADED: &[u8] = b"SystemOverloadedError";

/// What a client's bytes go through: a socket, or TLS over one.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

/// One connection and the bytes read ahead on it.
pub struct Client {
    /// The connection.
    pub socket: Box<dyn Transport>,
    /// Whether it has resumed the TLS session of an earlier one.
    pub resumed: bool,
    /// What was read ahead; can be thrown away between operations.
    pub read: Vec<u8>,
    id: i32,
    /// Whether the last reply said that there is too much to do.
    pub refused: bool,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the connection is not accepted.
    pub async fn connect(address: &str) -> io::Result<Self> {
        Ok(Self::over(Box::new(connect(address).await?), false))
    }

    /// Connects with TLS.
    ///
    /// # Errors
    /// When the connection is not accepted, or its handshake fails.
    pub async fn connect_tls(address: &str, tls: &TlsConnector) -> io::Result<Self> {
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let stream = tls.connect(name, connect(address).await?).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Self::over(Box::new(stream), resumed))
    }

    fn over(socket: Box<dyn Transport>, resumed: bool) -> Self {
        Self { socket, resumed, read: Vec::new(), id: 0, refused: false }
    }

    /// Sends `request` under a fresh id and waits for the whole of its reply.
    ///
    /// # Errors
    /// When the connection ends, or the reply is to another request.
    pub async fn ask(&mut self, request: &mut [u8]) -> io::Result<Duration> {
        self.id += 1;
        request[4..8].copy_from_slice(&self.id.to_le_bytes());
        let began = Instant::now();
        self.socket.write_all(request).await?;
        let len = loop {
            self.read.reserve(64 * 1024);
            if self.socket.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(len) = whole(&self.read) {
                break len;
            }
        };
        let took = began.elapsed();
        if answered(&self.read) != self.id || len != self.read.len() {
            return Err(io::Error::other("this is the reply to another request"));
        }
        self.refused = self.read.windows(OVERLOADED.len()).any(|part| part == OVERLOADED);
        self.read.clear();
        Ok(took)
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The value below which this share of the sorted `times` lies; zero if there are none.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
