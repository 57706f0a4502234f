//! A MongoDB server that does what a test's script says, and remembers every byte it was sent.

use super::{
    PATIENCE,
    wire::{self, Message},
};
use bson::{Document, doc};
use socket2::SockRef;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// What a connection brought so far.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Every byte, in order.
    pub bytes: Vec<u8>,
    /// Whether the other end has closed.
    pub closed: bool,
}

impl Received {
    /// The whole messages among the bytes.
    pub fn messages(&self) -> Vec<Message> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(|| Message::read(&mut rest).expect("a slice")).collect()
    }
}

#[derive(Default)]
struct Record {
    connections: Mutex<Vec<Received>>,
    streams: Mutex<Vec<TcpStream>>,
    changed: Condvar,
}

impl Record {
    fn change<T>(&self, how: impl FnOnce(&mut Vec<Received>) -> T) -> T {
        let result = how(&mut self.connections.lock().unwrap());
        self.changed.notify_all();
        result
    }
}

/// The server. Each connection runs the script on a thread of its own.
pub struct Scripted {
    address: SocketAddr,
    record: Arc<Record>,
    listener: TcpListener,
}

impl Scripted {
    /// Runs `script` on each connection; returning from it closes the connection.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// The same at this address, where one was before.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let record = Arc::new(Record::default());
        let kept_listener = listener.try_clone().expect("a socket");
        let (script, kept) = (Arc::new(script), record.clone());
        // Both kinds of thread end with the test's process, if not before.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, record) = (script.clone(), kept.clone());
                // Each reply is to be a segment of its own, and none to wait for the next.
                let _ = stream.set_nodelay(true);
                kept.streams.lock().unwrap().extend(stream.try_clone());
                let index = record.change(|connections| {
                    connections.push(Received::default());
                    connections.len() - 1
                });
                std::thread::spawn(move || {
                    let mut peer = Peer { stream, record, index };
                    script(&mut peer);
                    let _ = peer.stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, record, listener: kept_listener }
    }

    /// Takes no connection from now on, as if nothing listened. Those that it has go on.
    pub fn stop_listening(&self) {
        SockRef::from(&self.listener).shutdown(Shutdown::Both).expect("a socket that listens");
    }

    /// Is gone from now on, with all its connections.
    pub fn go(&self) {
        self.stop_listening();
        for stream in self.record.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Answers each message with the bytes that `answer` makes of it (none: no answer).
    pub fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::answering_at((Ipv4Addr::LOCALHOST, 0).into(), answer)
    }

    /// The same at this address, where one was before.
    pub fn answering_at(
        address: SocketAddr,
        answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(address, move |peer| {
            while let Some(message) = peer.message() {
                peer.send(&answer(&message));
            }
        })
    }

    /// Answers each message with `{ok: 1}` in its own family, where it expects an answer.
    pub fn agreeing() -> Self {
        Self::answering(|message| reply_to(message, &doc! { "ok": 1.0 }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its connections brought so far, in the order they came.
    pub fn received(&self) -> Vec<Received> {
        self.record.connections.lock().unwrap().clone()
    }

    /// Waits until what was received satisfies `enough`, and returns how long that took.
    ///
    /// # Panics
    /// If it doesn't within [`PATIENCE`].
    pub fn wait(&self, what: &str, enough: impl Fn(&[Received]) -> bool) -> Duration {
        let start = Instant::now();
        let connections = self.record.connections.lock().unwrap();
        let waited = self
            .record
            .changed
            .wait_timeout_while(connections, PATIENCE, |connections| !enough(connections))
            .unwrap();
        assert!(!waited.1.timed_out(), "waited {PATIENCE:?} for {what}");
        start.elapsed()
    }

    /// The bytes of the one connection there was, once there are `length` of them.
    pub fn bytes(&self, length: usize) -> Vec<u8> {
        self.wait("the bytes", |all| all.first().is_some_and(|one| one.bytes.len() >= length));
        let mut received = self.received();
        assert_eq!(received.len(), 1, "one connection");
        received.remove(0).bytes
    }
}

/// The server's end of a connection, in the hands of a script.
pub struct Peer {
    stream: TcpStream,
    record: Arc<Record>,
    index: usize,
}

impl Peer {
    /// The next message; `None` once the other end has closed.
    pub fn message(&mut self) -> Option<Message> {
        Message::read(self).ok().flatten()
    }

    /// Sends these bytes. `false` once the other end has closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = self.stream.write_all(bytes).is_ok();
        if !sent {
            self.change(|received| received.closed = true);
        }
        sent
    }

    /// Sends these bytes one by one.
    pub fn trickle(&mut self, bytes: &[u8]) {
        bytes.iter().all(|byte| self.send(&[*byte]));
    }

    /// Says nothing until the other end closes.
    pub fn silence(&mut self) {
        let _ = io::copy(self, &mut io::sink());
    }

    fn change(&self, how: impl FnOnce(&mut Received)) {
        self.record.change(|connections| connections.get_mut(self.index).map(how));
    }
}

/// Reads, and records what was read.
impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        self.change(|received| match read {
            Ok(0) | Err(_) => received.closed = !buffer.is_empty(),
            Ok(n) => received.bytes.extend(&buffer[..n]),
        });
        read
    }
}

/// A reply to this message in its own family; no bytes if it wants none.
pub fn reply_to(message: &Message, document: &Document) -> Vec<u8> {
    let id = message.id().wrapping_add(1_000_000);
    match message.opcode() {
        wire::OP_QUERY => wire::op_reply(id, message.id(), document),
        wire::OP_MSG if message.flags() & wire::MORE_TO_COME != 0 => Vec::new(),
        wire::OP_MSG | wire::OP_COMPRESSED => wire::op_msg_reply(id, message.id(), document),
        _ => Vec::new(),
    }
}

/// What the one member of a replica set at `address` says of itself.
pub fn hello(address: &str) -> Document {
    doc! {
        "helloOk": true, "isWritablePrimary": true, "ismaster": true, "setName": "rs",
        "setVersion": 1, "hosts": [address], "me": address, "primary": address,
        "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0, "maxWireVersion": 27, "ok": 1.0,
    }
}

/// A reply to `find` or `getMore` with these documents in it.
pub fn batch(first: bool, cursor: i64, namespace: &str, documents: &[Document]) -> Document {
    let key = if first { "firstBatch" } else { "nextBatch" };
    let documents = documents.to_vec();
    doc! { "cursor": { key: documents, "id": cursor, "ns": namespace }, "ok": 1.0 }
}
