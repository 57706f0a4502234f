//! Long messages go through pipes, without a visible difference to peers that read slowly or leave
//! early.

use super::*;
use operation::Outcome;
use std::cell::RefCell;

/// Long enough to fill the kernel's buffers.
const LONG: usize = 24 << 20;

/// How an operation was settled: outcome, reason, bytes and items in both directions.
type Sum = (Outcome, Option<&'static str>, u64, u64, u64, u64);

/// Records settlements.
#[derive(Clone, Default)]
struct Ledger(Rc<RefCell<Vec<Sum>>>);

impl WorkerPolicy for Ledger {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for Ledger {
    fn admit(&self, _: &Operation<'_>, _: std::time::Instant, _: &mut u64) -> Decision {
        Decision::Admit
    }

    fn settle(&self, settled: &Settled<'_>, _: u64) {
        let how = settled.how;
        assert_eq!(how.first_byte.is_some(), how.reply_bytes > 0);
        let bytes = (how.request_bytes, how.reply_bytes);
        let items = (how.request_items, how.reply_items);
        self.0.borrow_mut().push((
            how.outcome,
            how.reason.map(operation::EndReason::as_str),
            bytes.0,
            bytes.1,
            items.0,
            items.1,
        ));
    }
}

/// A client and a server with the proxy between them, its worker, and the settlements.
struct Between {
    client: TcpStream,
    server: TcpStream,
    worker: Rc<Worker>,
    ledger: Ledger,
}

impl Between {
    async fn new(protocol: Arc<dyn ListenerProtocol>) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ledger = Ledger::default();
        let address = upstream.local_addr().unwrap();
        let (listener, socket, worker_listener) =
            parts(address, protocol, Box::new(ledger.clone()), 1);
        let dispatcher = Dispatcher { inboxes: Rc::new([]), budget: ConnectionBudget::new(10, 10) };
        let (inbox, messages) = unbounded_channel();
        inbox.send(Message::Listen(socket)).unwrap();
        let worker = Worker::new(0);
        let same = Rc::clone(&worker_listener);
        spawn_local(worker::work(
            Rc::clone(&worker),
            vec![worker_listener],
            Box::new(move || vec![Rc::clone(&same)]),
            dispatcher,
            None,
            messages,
        ));
        let client = TcpStream::connect(listener.address).await.unwrap();
        let (server, _) = upstream.accept().await.unwrap();
        // Dropping the sender would end the worker.
        std::mem::forget(inbox);
        Self { client, server, worker, ledger }
    }

    /// Takes the worker's pipes away, so that it has to copy.
    fn without_pipes(&self) -> impl Sized + use<> {
        self.worker.connections.buffers.withhold_pipes()
    }

    /// Waits until this many operations were settled, and returns them.
    async fn settled(&self, count: usize) -> Vec<Sum> {
        let enough = async {
            while self.ledger.0.borrow().len() < count {
                yield_now().await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, enough).await.expect("operations are settled");
        self.ledger.0.borrow().clone()
    }

    /// Waits until no connection holds a pipe, and returns how many pipes exist.
    async fn pipes(&self) -> usize {
        let pipes = || self.worker.connections.buffers.count_pipes();
        let back = async {
            while pipes().0 > pipes().1 {
                yield_now().await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, back).await.expect("pipes come back, or are closed");
        pipes().0
    }
}

fn tcp() -> Arc<dyn ListenerProtocol> {
    protocols::plain("tcp").unwrap()
}

/// Bytes of which no two stretches are alike.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let next = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as u32
    });
    next.take(len.div_ceil(4)).flat_map(u32::to_le_bytes).take(len).collect()
}

/// Writes until the peer stops reading. Returns how many bytes were accepted.
async fn flood(socket: &TcpStream, bytes: &[u8]) -> usize {
    let (mut taken, mut turns) = (0, 0);
    while turns < TURNS {
        match socket.try_write(&bytes[taken..]) {
            Ok(n) => (taken, turns) = (taken + n, 0),
            Err(_) => turns += 1,
        }
        yield_now().await;
    }
    assert!(taken < bytes.len(), "all of it was accepted at once");
    taken
}

/// Sends `bytes` while the other end first reads nothing, and then little at a time.
async fn slowly(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let taken = flood(from, bytes).await;
    let read = async {
        let (mut at, mut some) = (0, vec![0; 300_000]);
        while at < bytes.len() {
            // Sometimes less than a packet, sometimes more than a pipe holds.
            let most = (1 + at * 31 % some.len()).min(bytes.len() - at);
            let n = to.read(&mut some[..most]).await.unwrap();
            assert!(n > 0 && some[..n] == bytes[at..at + n], "of {n} bytes after {at}");
            at += n;
        }
    };
    let (written, ()) = tokio::join!(from.write_all(&bytes[taken..]), read);
    written.unwrap();
}

/// A reply to the request `to`, with a document of this length.
fn found(to: u32, len: usize) -> Vec<u8> {
    let bytes = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: noise(len, 7) };
    let cursor = bson::doc! { "firstBatch": [{ "filling": bytes }], "id": 0_i64, "ns": "a.b" };
    let reply = bson::doc! { "cursor": cursor, "ok": 1.0 };
    let mut reply = op_msg(1, &reply.to_vec().unwrap());
    reply[8..12].copy_from_slice(&to.to_le_bytes());
    reply
}

/// A request that inserts documents of these lengths, as a sequence.
fn insert(id: u32, lens: &[usize]) -> Vec<u8> {
    let command = bson::doc! { "insert": "b", "$db": "a" };
    let mut message = op_msg(id, &command.to_vec().unwrap());
    let documents = lens.iter().flat_map(|len| {
        let subtype = bson::spec::BinarySubtype::Generic;
        let bytes = bson::Binary { subtype, bytes: noise(*len, 3) };
        bson::doc! { "filling": bytes }.to_vec().unwrap()
    });
    let mut sequence = b"\0\0\0\0documents\0".to_vec();
    sequence.extend(documents);
    let size = sequence.len() as u32;
    sequence[..4].copy_from_slice(&size.to_le_bytes());
    message.push(1);
    message.extend(sequence);
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_le_bytes());
    message
}

#[test]
fn a_long_session_arrives_unchanged_both_ways() {
    LocalRuntime::new().unwrap().block_on(async {
        for pipes in [true, false] {
            let mut between = Between::new(tcp()).await;
            let _hoard = (!pipes).then(|| between.without_pipes());
            let (there, back) = (noise(LONG, 1), noise(LONG + 4711, 2));
            let Between { client, server, .. } = &mut between;
            slowly(client, server, &there).await;
            client.shutdown().await.unwrap();
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the end, and nothing before it");
            slowly(server, client, &back).await;
            server.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the end, and nothing before it");
            let (sent, got) = (there.len() as u64, back.len() as u64);
            let settled = between.settled(1).await;
            assert_eq!(settled, [(Outcome::Ok, Some("client"), sent, got, 0, 0)]);
            if pipes {
                assert!(between.pipes().await > 0, "nothing went through a pipe");
            }
        }
    });
}

#[test]
fn messages_that_end_inside_a_pipe_are_counted_one_by_one() {
    LocalRuntime::new().unwrap().block_on(async {
        for pipes in [true, false] {
            let mut between = Between::new(mongo()).await;
            let _hoard = (!pipes).then(|| between.without_pipes());
            let Between { client, server, .. } = &mut between;
            let long = insert(1, &[300, 9 << 20, 5 << 20, 70_000, 9 << 20]);
            let asked = [long.clone(), ping(2), insert(3, &[9, 9])].concat();
            slowly(client, server, &asked).await;
            let replies = [found(1, LONG), found(2, 100), found(3, 400_000), found(4, 1)];
            client.write_all(&ping(4)).await.unwrap();
            assert_eq!(message(server).await, ping(4));
            slowly(server, client, &replies.concat()).await;
            let requests = [long, ping(2), insert(3, &[9, 9]), ping(4)];
            let expected: Vec<Sum> = std::iter::zip(&requests, &replies)
                .zip([5, 0, 2, 0])
                .map(|((asked, reply), items)| {
                    // A count of inserted documents is not part of this reply.
                    let found = u64::from(items == 0);
                    let bytes = (asked.len() as u64, reply.len() as u64);
                    (Outcome::Ok, None, bytes.0, bytes.1, items, found)
                })
                .collect();
            assert_eq!(between.settled(4).await, expected);
            if pipes {
                assert!(between.pipes().await > 0, "nothing went through a pipe");
            }
        }
    });
}

#[test]
fn an_aborted_long_message_leaves_no_pipe_with_bytes() {
    LocalRuntime::new().unwrap().block_on(async {
        for client_breaks in [true, false] {
            let between = Between::new(tcp()).await;
            let bytes = noise(LONG, 5);
            flood(&between.server, &bytes).await;
            assert_eq!(
                between.worker.connections.buffers.count_pipes(),
                (1, 0),
                "bytes are in a pipe"
            );
            let Between { mut client, server, worker, ledger } = between;
            let end = if client_breaks {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                "client_reset"
            } else {
                socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
                drop(server);
                // Buffered bytes are delivered; then the end is seen.
                let mut got = Vec::new();
                let _ = client.read_to_end(&mut got).await;
                assert!(!got.is_empty() && bytes.starts_with(&got));
                "upstream_reset"
            };
            let Ledger(sums) = &ledger;
            for turn in 0.. {
                if !sums.borrow().is_empty() {
                    break;
                }
                assert!(turn < 100 * TURNS, "{end} is never noticed");
                yield_now().await;
            }
            // The settled operation is released later.
            yield_now().await;
            assert_eq!(sums.borrow()[0].1, Some(end));
            let (pipes, spare) = worker.connections.buffers.count_pipes();
            assert_eq!(pipes, spare, "an ended connection holds a pipe");
            assert!(spare == 0 || !client_breaks, "a pipe with bytes in it was kept");
        }
    });
}
