//! A relay between a client and a server that the test plays, and a protocol with numbered
//! messages: `number, length` as little-endian words, then `length` bytes.

use super::{parts_of, plan};
use crate::{
    connection::{ClientSession, Connections},
    listener::WorkerListener,
};
use bytes::BytesMut;
use config::plan::ListenerPlan;
use operation::{
    Close, Codec, ConnectionInfo, Next, Operation, OperationNames, Outcome, RejectionRef, Reply,
    Request, Tag, Violation,
};
use policy::attributes::ConnectPhase;
use policy::series::SeriesKey;
use policy::{Decision, SeriesPolicy, Settled, WorkerPolicy};
use relay::relay;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
    task::spawn_local,
};

/// Numbered messages. Number 0 expects no reply, and numbers from 1000 on are long polls.
/// `TELLS`: whether replies can be matched by number.
#[derive(Default)]
pub(super) struct Frames<const TELLS: bool> {
    given_up: Vec<u32>,
}

fn front(bytes: &[u8]) -> Option<(u32, u64)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, 8 + u64::from(word(4)?)))
}

impl<const TELLS: bool> Codec for Frames<TELLS> {
    const PROTOCOL: operation::Protocol = operation::Protocol::plain("frames");

    type Shared = ();

    fn new(_: &Arc<()>, _: ConnectionInfo) -> Self {
        Self::default()
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        let Some((number, len)) = front(bytes) else { return Ok(Next::Hold(8)) };
        let tag = (number != 0).then_some(Tag(number.into()));
        let awaits = number >= 1000;
        let request = Request { tag, long_poll: awaits, ..Request::default() };
        Ok(Next::whole(len, request))
    }

    fn names<'b>(&'b self, _: &'b [u8]) -> OperationNames<'b> {
        OperationNames { name: "frame", resource: "" }
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        let Some((number, len)) = front(bytes) else { return Ok(Next::Hold(8)) };
        if let Some(at) = self.given_up.iter().position(|it| *it == number) {
            self.given_up.remove(at);
            return Ok(Next::Drop { len, ends: true });
        }
        let reply = Reply::new(Tag(number.into()), Outcome::Ok);
        Ok(Next::whole(len, reply))
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        out.extend_from_slice(&frame(tag.0 as u32, why.reason.as_str().as_bytes()));
        true
    }

    fn give_up(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        if TELLS {
            self.given_up.push(tag.0 as u32);
            self.reject(tag, why, out);
        }
        TELLS
    }
}

/// One message.
pub(super) fn frame(number: u32, payload: &[u8]) -> Vec<u8> {
    let words = [number, payload.len() as u32];
    let head = words.iter().flat_map(|word| word.to_le_bytes());
    head.chain(payload.iter().copied()).collect()
}

/// Decides about each operation by its number, from 1, and records how it ended.
struct Script<F> {
    decide: Rc<F>,
    seen: Rc<Cell<usize>>,
    settled: Settlements,
}

/// How operations ended, in the order in which they did.
pub(super) type Settlements = Rc<RefCell<Vec<(Outcome, Option<&'static str>)>>>;

impl<F> Clone for Script<F> {
    fn clone(&self) -> Self {
        let Self { decide, seen, settled } = self;
        Self { decide: decide.clone(), seen: seen.clone(), settled: settled.clone() }
    }
}

impl<F: Fn(usize) -> Decision + 'static> WorkerPolicy for Script<F> {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl<F: Fn(usize) -> Decision> SeriesPolicy for Script<F> {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        self.seen.set(self.seen.get() + 1);
        (self.decide)(self.seen.get())
    }

    fn settle(&self, done: &Settled<'_>, _: u64) {
        self.settled
            .borrow_mut()
            .push((done.how.outcome, done.how.reason.map(operation::EndReason::as_str)));
    }
}

/// A relayed connection whose two ends the test holds.
pub(super) struct Ends {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// Why it ended, once it has.
    pub(super) close: Rc<Cell<Option<Close>>>,
    pub(super) settled: Settlements,
}

/// A policy with these decisions, and the record of settlements.
pub(super) fn script(
    decide: impl Fn(usize) -> Decision + 'static,
) -> (Box<dyn WorkerPolicy>, Settlements) {
    let settled = Settlements::default();
    let script = Script { decide: Rc::new(decide), seen: Rc::default(), settled: settled.clone() };
    (Box::new(script), settled)
}

/// Relays a connection with these decisions.
pub(super) async fn relayed<C: Codec<Shared = ()>>(
    decide: impl Fn(usize) -> Decision + 'static,
) -> Ends {
    let (script, settled) = script(decide);
    let plan = plan(protocols::plain("tcp").unwrap());
    Ends { settled, ..relayed_by::<C>(plan, script).await }
}

/// Relays a connection with this plan and policy.
pub(super) async fn relayed_by<C: Codec<Shared = ()>>(
    plan: ListenerPlan,
    policy: Box<dyn WorkerPolicy>,
) -> Ends {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, _, worker_listener) = parts_of(plan, upstream.local_addr().unwrap(), policy, 1);
    relayed_at::<C>(&upstream, worker_listener).await
}

/// Relays a connection on a listener that leads to `upstream`.
pub(super) async fn relayed_at<C: Codec<Shared = ()>>(
    upstream: &TcpListener,
    worker_listener: Rc<WorkerListener>,
) -> Ends {
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
    let (accepted, peer) = front.accept().await.unwrap();
    let accepted = accepted.into();
    let connected = worker_listener.upstreams().preconnects().connect(None).await.unwrap();
    let (server, _) = upstream.accept().await.unwrap();
    let link = ConnectionInfo { peer, local: front.local_addr().unwrap() };
    let connections = Rc::<Connections>::default();
    let session = ClientSession::new(&connections, &worker_listener, link, Instant::now());
    session.ask_policies(ConnectPhase::BeforeHandshake).unwrap();
    session.set_endpoint(connected.lease.endpoint());
    let close = Rc::new(Cell::new(None));
    let told = Rc::clone(&close);
    spawn_local(async move {
        let how =
            relay::<C>(&Arc::new(()), Rc::new(session), &connections.buffers, accepted, connected)
                .await;
        told.set(Some(how));
    });
    Ends { client, server, close, settled: Settlements::default() }
}

/// How a connection ended, as a peer sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    Reset,
}

/// Reads to the end.
pub(super) async fn to_end(socket: &mut TcpStream) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    loop {
        match socket.read_buf(&mut all).await {
            Ok(0) => return (all, End::Orderly),
            Ok(_) => {}
            Err(_) => return (all, End::Reset),
        }
    }
}

/// Reads one message.
pub(super) async fn read_frame(socket: &mut TcpStream) -> (u32, Vec<u8>) {
    let number = socket.read_u32_le().await.unwrap();
    let mut payload = vec![0; socket.read_u32_le().await.unwrap() as usize];
    socket.read_exact(&mut payload).await.unwrap();
    (number, payload)
}

impl Ends {
    /// The client sends this.
    pub(super) async fn client_sends(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// The server sends this.
    pub(super) async fn server_sends(&mut self, bytes: &[u8]) {
        self.server.write_all(bytes).await.unwrap();
    }

    /// The server receives this next.
    pub(super) async fn server_receives(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.server.read_exact(&mut got).await.unwrap();
        assert!(got == bytes, "the server hears something else");
    }

    /// The client receives this message next.
    pub(super) async fn client_receives(&mut self, number: u32, payload: &[u8]) {
        let (got, said) = read_frame(&mut self.client).await;
        assert!((got, &*said) == (number, payload), "the client is told {got}: {said:?}");
    }

    /// How the connection ended.
    pub(super) async fn ended(&self) -> Close {
        loop {
            if let Some(close) = self.close.get() {
                return close;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Runs a test with paused time.
pub(super) fn run(test: impl Future<Output = ()>) {
    LocalRuntime::new().unwrap().block_on(async {
        tokio::time::pause();
        test.await;
    });
}
