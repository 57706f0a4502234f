//! Hostile peers: floods, clients that never read, clients that leave early.

use crate::{
    listener::{self, ConnectionBudget, ListenSocket, Listener, ListenerState, WorkerListener},
    worker::{self, Dispatcher, Message, Worker},
};
use cluster::{Cluster, ClusterPlan, EndpointPlan, PreconnectPool};
use config::plan::ListenerPlan;
use operation::{Operation, RejectReason, Rejection};
use policy::gate::Gate;
use policy::series::{CardinalityLimit, SeriesKey};
use policy::{Decision, SeriesPolicy, Settled, WorkerPolicy};
use protocols::ListenerProtocol;
use session::Timeouts;
use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::LocalRuntime,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::{JoinHandle, spawn_local, yield_now},
};
use tollgate_metrics::Metrics;
use values::Target;

mod bandwidth;
mod frames;
mod held;
mod long;
mod terms;

/// How often other tasks are polled before nothing more is expected to happen.
const TURNS: usize = 5_000;

/// Counts operations, and rejects or delays them if asked to.
#[derive(Clone, Default)]
struct Watch {
    refuses: bool,
    delays: bool,
    seen: Rc<Cell<usize>>,
    settled: Rc<Cell<usize>>,
}

impl WorkerPolicy for Watch {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for Watch {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        self.seen.set(self.seen.get() + 1);
        if self.delays {
            return Decision::delay(Duration::from_secs(3600));
        }
        if !self.refuses {
            return Decision::Admit;
        }
        Decision::Reject(Rejection::new(RejectReason::Denied, "no ".repeat(300)))
    }

    fn settle(&self, _: &Settled<'_>, _: u64) {
        self.settled.set(self.settled.get() + 1);
    }
}

/// A proxy on this thread in front of `upstream`. Call it inside a runtime.
fn proxy(upstream: SocketAddr, protocol: Arc<dyn ListenerProtocol>, watch: &Watch) -> SocketAddr {
    let (address, _) = proxy_with(upstream, protocol, Box::new(watch.clone()));
    address
}

/// The same with any policy; returns the worker's inbox too.
fn proxy_with(
    upstream: SocketAddr,
    protocol: Arc<dyn ListenerProtocol>,
    policy: Box<dyn WorkerPolicy>,
) -> (SocketAddr, (UnboundedSender<Message>, JoinHandle<std::io::Result<()>>)) {
    let (listener, socket, worker_listener) = parts(upstream, protocol, policy, 1);
    let dispatcher = Dispatcher { inboxes: Rc::new([]), budget: ConnectionBudget::new(10, 10) };
    let (inbox, messages) = unbounded_channel();
    let address = listener.address;
    let _ = inbox.send(Message::Listen(socket));
    let same = Rc::clone(&worker_listener);
    let work = spawn_local(worker::work(
        Worker::new(0),
        vec![worker_listener],
        Box::new(move || vec![Rc::clone(&same)]),
        dispatcher,
        None,
        messages,
    ));
    (address, (inbox, work))
}

/// A listener in front of `upstream` for this many workers, and one worker's share of it.
fn parts(
    upstream: SocketAddr,
    protocol: Arc<dyn ListenerProtocol>,
    policy: Box<dyn WorkerPolicy>,
    workers: usize,
) -> (Arc<Listener>, ListenSocket, Rc<WorkerListener>) {
    parts_of(plan(protocol), upstream, policy, workers)
}

fn plan(protocol: Arc<dyn ListenerProtocol>) -> ListenerPlan {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let usual = ListenerPlan::new("test", loopback, protocol, "test");
    let timeouts = Timeouts { first_byte: None, ..usual.timeouts };
    ListenerPlan { timeouts, ..usual }
}

/// The same with a plan.
fn parts_of(
    plan: ListenerPlan,
    upstream: SocketAddr,
    policy: Box<dyn WorkerPolicy>,
    workers: usize,
) -> (Arc<Listener>, ListenSocket, Rc<WorkerListener>) {
    let cardinality = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let gate = Gate::new(vec![policy], cardinality, metrics::Gauge::noop());
    parts_behind(plan, upstream, gate, workers)
}

/// The same with a gate.
fn parts_behind(
    plan: ListenerPlan,
    upstream: SocketAddr,
    gate: Gate,
    workers: usize,
) -> (Arc<Listener>, ListenSocket, Rc<WorkerListener>) {
    let plan = Arc::new(plan);
    let endpoint = EndpointPlan::new(Target::Host(upstream.ip().to_string(), upstream.port()));
    let cluster = ClusterPlan::new("test", vec![endpoint]);
    let metrics = Metrics::new();
    let cluster = Cluster::new(Arc::new(cluster), &metrics);
    let socket = listener::bind(plan.address, plan.tcp_user_timeout).unwrap();
    let address = socket.local_addr().unwrap();
    let limit = || Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let state = ListenerState::new(&plan, workers, [limit(), limit()]);
    let id = state.id;
    let listener = Listener::new(plan, address, state, None);
    let worker_listener =
        WorkerListener::new(Arc::clone(&listener), gate, PreconnectPool::start(cluster), metrics);
    (listener, ListenSocket { number: 0, listener: id, socket }, worker_listener)
}

/// A drain without turns.
fn at_once(timeout: Duration) -> listener::DrainOptions {
    listener::DrainOptions { timeout, spread: None }
}

/// A policy with a bug.
struct Panics;

impl WorkerPolicy for Panics {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        panic!("on purpose")
    }
}

fn mongo() -> Arc<dyn ListenerProtocol> {
    protocols::plain("mongo").unwrap()
}

/// An `OP_MSG` with `{ping: 1}`.
fn ping(id: u32) -> Vec<u8> {
    op_msg(id, b"\x0f\0\0\0\x10ping\0\x01\0\0\0\0")
}

/// An `OP_MSG` with this document.
fn op_msg(id: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [16 + 5 + body.len() as u32, id, 0, 2013, 0] {
        message.extend(word.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    message
}

/// Reads one message.
async fn message(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    socket.read_exact(&mut bytes).await.unwrap();
    let len = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    bytes.resize(len, 0);
    socket.read_exact(&mut bytes[4..]).await.unwrap();
    bytes
}

/// Writes `bytes` until all are accepted or the peer stops reading. Returns how many were accepted.
async fn press(socket: &TcpStream, bytes: &[u8]) -> usize {
    let (mut taken, mut turns) = (0, 0);
    while taken < bytes.len() && turns < TURNS {
        match socket.try_write(&bytes[taken..bytes.len().min(taken + 4096)]) {
            Ok(n) => (taken, turns) = (taken + n, 0),
            Err(_) => turns += 1,
        }
        yield_now().await;
    }
    taken
}

#[test]
fn a_client_that_reads_no_rejections_is_not_read_until_it_does() {
    const REQUESTS: u32 = 200_000;
    LocalRuntime::new().unwrap().block_on(async {
        let watch = Watch { refuses: true, ..Watch::default() };
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy(upstream.local_addr().unwrap(), mongo(), &watch);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(address).await.unwrap();
        let requests: Vec<u8> = (0..REQUESTS).flat_map(ping).collect();
        let taken = press(&client, &requests).await;
        assert!(
            taken < requests.len(),
            "{} rejections are buffered without bound",
            watch.seen.get()
        );
        // About 700 bytes each; the kernel's buffers hold a few megabytes.
        assert!(watch.seen.get() < 20_000, "{} refusals are kept", watch.seen.get());

        let (mut reader, mut writer) = client.split();
        let rest = writer.write_all(&requests[taken..]);
        let read = async {
            let mut all = Vec::new();
            let mut head = [0; 16];
            for id in 0..REQUESTS {
                reader.read_exact(&mut head).await.unwrap();
                assert_eq!(head[8..12], id.to_le_bytes());
                let len = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
                all.resize(len - 16, 0);
                reader.read_exact(&mut all).await.unwrap();
            }
        };
        let patience = Duration::from_secs(60);
        let (rest, ()) = tokio::time::timeout(patience, async { tokio::join!(rest, read) })
            .await
            .expect("the request is processed");
        rest.unwrap();
    });
}

#[test]
fn unanswered_requests_are_bounded() {
    const REQUESTS: u32 = 5_000;
    LocalRuntime::new().unwrap().block_on(async {
        let watch = Watch::default();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy(upstream.local_addr().unwrap(), mongo(), &watch);
        let mut client = TcpStream::connect(address).await.unwrap();
        let requests: Vec<u8> = (0..REQUESTS).flat_map(ping).collect();
        let (mut server, _) = upstream.accept().await.unwrap();
        client.write_all(&requests).await.unwrap();
        for id in 0..REQUESTS {
            assert_eq!(message(&mut server).await, ping(id), "every request passes");
        }
        let open = watch.seen.get() - watch.settled.get();
        assert!(open <= 1000, "{open} operations are kept in mind");
    });
}

#[test]
fn an_early_reply_arrives_before_an_aborted_upload() {
    LocalRuntime::new().unwrap().block_on(async {
        for turn in 0..50 {
            let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let protocol = protocols::plain("tcp").unwrap();
            let address = proxy(upstream.local_addr().unwrap(), protocol, &Watch::default());
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut server, _) = upstream.accept().await.unwrap();
            press(&client, &vec![0; 64 << 20]).await;
            server.read_u8().await.unwrap();
            server.write_all(b"too long").await.unwrap();
            // Unread bytes turn this into a reset.
            drop(server);
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said).await;
            assert_eq!(said, b"too long", "turn {turn}");
        }
    });
}

#[test]
fn the_rest_of_a_rejected_request_never_reaches_the_server() {
    LocalRuntime::new().unwrap().block_on(async {
        let watch = Watch { refuses: true, ..Watch::default() };
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy(upstream.local_addr().unwrap(), mongo(), &watch);
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut long = ping(1);
        long.resize(200_000, 0);
        long[..4].copy_from_slice(&200_000_u32.to_le_bytes());
        client.write_all(&long[..100_000]).await.unwrap();
        message(&mut client).await;
        // No message has this length, so nothing after it can be parsed.
        server.write_all(&[0xff; 16]).await.unwrap();
        // Either the end, or the first byte that is forwarded unread.
        let _ = client.read_u8().await;
        let _ = client.write_all(&long[100_000..]).await;
        let _ = client.shutdown().await;
        let mut got = Vec::new();
        let _ = server.read_to_end(&mut got).await;
        assert!(got.is_empty(), "{} bytes of a refused request", got.len());
    });
}

#[test]
fn a_connection_that_panics_does_not_delay_a_drain() {
    LocalRuntime::new().unwrap().block_on(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        let (address, (inbox, work)) = proxy_with(address, mongo(), Box::new(Panics));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&ping(1)).await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        inbox.send(Message::Drain(at_once(Duration::from_millis(1)))).unwrap();
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, work).await.expect("the drain ends").unwrap().unwrap();
    });
}

#[test]
fn a_connection_handed_to_a_draining_worker_is_closed() {
    LocalRuntime::new().unwrap().block_on(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = upstream.local_addr().unwrap();
        let watch = Watch::default();
        let (listener, socket, worker_listener) =
            parts(server, mongo(), Box::new(watch.clone()), 2);
        let (inboxes, messages): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded_channel()).unzip();
        let dispatcher =
            Dispatcher { inboxes: inboxes.clone().into(), budget: ConnectionBudget::new(10, 10) };
        for (index, messages) in messages.into_iter().enumerate() {
            let (worker_listener, dispatcher) = (Rc::clone(&worker_listener), dispatcher.clone());
            let same = Rc::clone(&worker_listener);
            spawn_local(worker::work(
                Worker::new(index),
                vec![worker_listener],
                Box::new(move || vec![Rc::clone(&same)]),
                dispatcher,
                None,
                messages,
            ));
        }
        inboxes[0].send(Message::Listen(socket)).unwrap();
        let connect = || async {
            let client = TcpStream::connect(listener.address).await.unwrap();
            (client, upstream.accept().await.unwrap())
        };
        let _first = connect().await;
        let (mut busy, _server) = connect().await;
        busy.write_all(&ping(1)).await.unwrap();
        while watch.seen.get() == 0 {
            yield_now().await;
        }
        inboxes[1].send(Message::Drain(at_once(Duration::from_secs(3600)))).unwrap();
        // Of two more, one goes to each worker.
        let _third = connect().await;
        let mut late = TcpStream::connect(listener.address).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(10), late.read(&mut [0])).await;
        assert_eq!(end.expect("an end").unwrap(), 0);
    });
}

#[test]
fn a_rewritten_hello_has_the_usual_time_limits() {
    LocalRuntime::new().unwrap().block_on(async {
        let watch = Watch { delays: true, ..Watch::default() };
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy(upstream.local_addr().unwrap(), mongo(), &watch);
        let mut client = TcpStream::connect(address).await.unwrap();
        let (server, _) = upstream.accept().await.unwrap();
        let offer = bson::doc! { "hello": 1, "compression": ["of-the-future"], "$db": "admin" };
        client.write_all(&op_msg(1, &offer.to_vec().unwrap())).await.unwrap();
        for _ in 0..TURNS {
            yield_now().await;
        }
        assert_eq!(watch.seen.get(), 1);
        assert!(server.try_read(&mut [0]).is_err(), "the request went on at once");
    });
}
