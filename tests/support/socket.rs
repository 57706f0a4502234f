//! One end of a connection, plain or inside TLS. One thread may read it while another writes.

use rustls::Connection;
use socket2::SockRef;
use std::{
    collections::VecDeque,
    io::{self, Error, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// One end of a connection. Clones are the same end; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Socket(Arc<Shared>);

struct Shared {
    tcp: TcpStream,
    tls: Option<Session>,
}

struct Session {
    state: Mutex<Connection>,
    /// Payload that was decrypted and not read. Held while records are read, so that they stay in
    /// order.
    payload: Mutex<VecDeque<u8>>,
    /// The same for records that are sent.
    sending: Mutex<()>,
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self(Arc::new(Shared { tcp, tls: None }))
    }
}

impl Socket {
    /// An end that encrypts. The handshake is made by the first read or write.
    pub fn encrypted(tcp: TcpStream, connection: impl Into<Connection>) -> Self {
        let state = Mutex::new(connection.into());
        let session = Session { state, payload: Mutex::default(), sending: Mutex::default() };
        Self(Arc::new(Shared { tcp, tls: Some(session) }))
    }

    /// The TCP socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.0.tcp
    }

    /// Completes the handshake, if there is one.
    pub fn handshake(&self) -> io::Result<()> {
        self.0.tls.as_ref().map_or(Ok(()), |tls| tls.handshake(&self.0.tcp))
    }

    /// How long a read may wait.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.tcp.set_read_timeout(timeout)
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) -> io::Result<()> {
        if let Some(tls) = &self.0.tls {
            tls.close(&self.0.tcp)?;
        }
        self.0.tcp.shutdown(Shutdown::Write)
    }

    /// Has the connection reset when it is dropped.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(&self.0.tcp).set_linger(Some(Duration::ZERO))
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Shared { tcp, tls } = &*self.0;
        match tls {
            None => (&*tcp).read(into),
            Some(tls) => tls.read(tcp, into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Shared { tcp, tls } = &*self.0;
        match tls {
            None => (&*tcp).write(bytes),
            Some(tls) => tls.write(tcp, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    fn handshake(&self, tcp: &TcpStream) -> io::Result<()> {
        if !lock(&self.state).is_handshaking() {
            return Ok(());
        }
        let mut payload = lock(&self.payload);
        while lock(&self.state).is_handshaking() {
            self.send(tcp)?;
            if self.receive(tcp, &mut payload)? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the end of the handshake"));
            }
        }
        self.send(tcp)
    }

    fn read(&self, tcp: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        self.handshake(tcp)?;
        let mut payload = lock(&self.payload);
        while payload.is_empty() {
            // It has an end, or nothing.
            let end = lock(&self.state).reader().read(into);
            match end {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.receive(tcp, &mut payload)?
                }
                end => return end,
            };
        }
        payload.read(into)
    }

    /// Reads some bytes of records, and answers what is no payload. Returns their number.
    fn receive(&self, tcp: &TcpStream, payload: &mut VecDeque<u8>) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let read = (&*tcp).read(&mut bytes)?;
        let mut rest = &bytes[..read];
        loop {
            let mut state = lock(&self.state);
            state.read_tls(&mut rest)?;
            let processed = state.process_new_packets();
            if let Ok(done) = &processed {
                let mut more = vec![0; done.plaintext_bytes_to_read()];
                state.reader().read_exact(&mut more)?;
                payload.extend(more);
            }
            let answers = state.wants_write();
            drop(state);
            if answers {
                self.send(tcp)?;
            }
            processed.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            if rest.is_empty() {
                return Ok(read);
            }
        }
    }

    fn write(&self, tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.handshake(tcp)?;
        let written = lock(&self.state).writer().write(bytes)?;
        self.send(tcp).map(|()| written)
    }

    /// Writes the records that wait.
    fn send(&self, tcp: &TcpStream) -> io::Result<()> {
        let _turn = lock(&self.sending);
        let mut records = Vec::new();
        let mut state = lock(&self.state);
        while state.wants_write() {
            state.write_tls(&mut records)?;
        }
        drop(state);
        (&*tcp).write_all(&records)
    }

    fn close(&self, tcp: &TcpStream) -> io::Result<()> {
        lock(&self.state).send_close_notify();
        self.send(tcp)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(tls) = &self.tls else { return };
        let resets = SockRef::from(&self.tcp).linger().ok().flatten() == Some(Duration::ZERO);
        if !resets && !lock(&tls.state).is_handshaking() {
            // As a client does that ends in good order; the peer may be gone, or read nothing.
            let _ = self.tcp.set_nonblocking(true);
            let _ = tls.close(&self.tcp);
        }
    }
}

/// A test that has failed elsewhere leaves the lock behind.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
