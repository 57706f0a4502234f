//! A client that asks in a protocol's words, and may not be served.

use super::Stage;
use crate::support::{PATIENCE, socket::Socket, tollgate::Tollgate};
use rustls::ClientConnection;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
};

/// A client that may not be served.
pub(super) struct Client(Socket);

impl Stage<'_> {
    /// A client that has sent nothing yet.
    pub(super) fn connect(&self, tollgate: &Tollgate) -> Client {
        let tcp = TcpStream::connect(tollgate.listener("it")).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let Some(certificates) = self.tls else { return Client(tcp.into()) };
        let config = Arc::new(certificates.client_config_with_alpn(self.own, self.speaker.alpn));
        let connection = ClientConnection::new(config, "localhost".try_into().unwrap());
        Client(Socket::encrypted(tcp, connection.unwrap()))
    }

    /// A client that has asked, and has not read the answer.
    pub(super) fn asks(&self, tollgate: &Tollgate) -> Client {
        let mut client = self.connect(tollgate);
        client.0.write_all(&(self.speaker.question)()).unwrap();
        client
    }

    /// What a client of its own is answered. [`ErrorKind::ConnectionRefused`] is a close before
    /// the handshake.
    pub(super) fn answer(&self, tollgate: &Tollgate) -> io::Result<Vec<u8>> {
        let mut client = self.connect(tollgate);
        client.0.handshake().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => ErrorKind::ConnectionRefused.into(),
            _ => error,
        })?;
        client.0.write_all(&(self.speaker.question)())?;
        client.receive(self)
    }
}

impl Client {
    /// Is gone from one moment to the next. Who ends its half only may still listen.
    pub(super) fn leaves(self) {
        self.0.reset_on_drop().unwrap();
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
