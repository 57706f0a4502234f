//! A client that asks in a protocol's words, and may not be served.

use super::Stage;
use crate::support::PATIENCE;
use socket2::SockRef;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A client that may not be served.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// A client that has asked, and has not read the answer.
    pub(super) fn waits(stage: &Stage<'_>, address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.0.write_all(&(stage.speaker.question)()).unwrap();
        client
    }

    pub(super) fn asks(&mut self, stage: &Stage<'_>) -> io::Result<Vec<u8>> {
        self.0.write_all(&(stage.speaker.question)())?;
        self.receive(stage)
    }

    /// Is gone from one moment to the next. Who ends its half only may still listen.
    pub(super) fn leaves(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// What is answered: to its end, or to the connection's.
    pub(super) fn receive(&mut self, stage: &Stage<'_>) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        let mut bytes = [0; 1024];
        loop {
            match self.0.read(&mut bytes)? {
                0 => return Ok(answer),
                n => answer.extend_from_slice(&bytes[..n]),
            }
            if (stage.speaker.answered)(&answer)
                || (stage.speaker.cut)(&answer)
                || (stage.speaker.no)(&answer).is_some_and(|_| !answer.is_empty())
            {
                return Ok(answer);
            }
        }
    }
}
