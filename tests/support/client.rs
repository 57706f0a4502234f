//! A client that sends given bytes unchanged.

use super::{PATIENCE, wire::Message};
use bson::{Document, doc};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// One connection.
pub struct RawClient(TcpStream);

impl RawClient {
    /// Connects. Reads fail the test after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        // Each write is to be a segment of its own.
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(stream)
    }

    /// Connects, and offers to compress as a driver does. Returns the bytes of that `hello` too.
    pub fn offering(address: SocketAddr) -> (Self, Vec<u8>) {
        let offered = vec!["snappy", "zlib", "zstd"];
        let hello = doc! { "hello": 1, "compression": offered, "$db": "admin" };
        let hello = super::wire::op_msg(1_000, &hello);
        let mut client = Self::connect(address);
        assert_eq!(client.round_trip(&hello).answers(), 1_000);
        (client, hello)
    }

    /// Sends these bytes in one write.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the bytes are taken");
    }

    /// Sends these bytes, for a peer that may close before it has taken all of them.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends these bytes one by one, each in a segment of its own as far as that can be had.
    pub fn trickle(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.send(&[*byte]));
    }

    /// The next whole message.
    pub fn read(&mut self) -> Message {
        self.try_read().expect("a message before the end")
    }

    /// The next whole message; `None` if the peer closes first. A reset counts as a close.
    ///
    /// # Panics
    /// If the peer does neither in time.
    pub fn try_read(&mut self) -> Option<Message> {
        match Message::read(&mut self.0) {
            Ok(message) => message,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the peer neither sent a message nor closed: {error}"),
        }
    }

    /// Sends a message and reads its reply.
    pub fn round_trip(&mut self, message: &[u8]) -> Message {
        self.send(message);
        self.read()
    }

    /// Asks with a command, and returns the reply's document.
    pub fn command(&mut self, id: i32, command: &Document) -> Document {
        let reply = self.round_trip(&super::wire::op_msg(id, command));
        assert_eq!(reply.answers(), id);
        reply.document()
    }

    /// Everything until the peer closes. A reset counts as a close.
    pub fn read_until_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the peer didn't close: {error}"),
        }
    }

    /// Whether the peer closes within this time, and says nothing before.
    pub fn has_ended(&mut self, within: Duration) -> bool {
        self.patience(within);
        let ended = match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        self.patience(PATIENCE);
        ended
    }

    /// Reads and forgets everything until the peer closes, so that the peer is not blocked.
    pub fn drain(&mut self) {
        let _ = std::io::copy(&mut self.0, &mut std::io::sink());
    }

    /// How long a read may wait from now on.
    pub fn patience(&mut self, patience: Duration) {
        self.0.set_read_timeout(Some(patience)).expect("a socket");
    }

    /// A second handle, to read while the first one writes.
    pub fn try_clone(&self) -> RawClient {
        RawClient(self.0.try_clone().expect("a descriptor"))
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).expect("an open connection");
    }
}
