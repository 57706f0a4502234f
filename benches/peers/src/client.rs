//! A client with one operation under way.

use crate::wire::{answered, whole};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The error label that asks clients to back off.
const OVERLOADED: &[u8] = b"SystemOverloadedError";

/// One connection and the bytes read ahead on it.
pub struct Client {
    /// The connection.
    pub socket: TcpStream,
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
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, read: Vec::new(), id: 0, refused: false })
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

/// The value below which this share of the sorted `times` lies; zero if there are none.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
