//! A toy protocol for tests: what keeps traffic on working endpoints must hold for any codec and
//! probe.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

mod failover;
mod order;
mod pins;
mod pool;

use bytes::BytesMut;
use cluster::{
    BreakerPlan, Cluster, ClusterPlan, ConnectionPool, EndpointPlan, HealthCheckPlan, LbPolicy,
    OperationPermit, OutlierPlan, PoolPlan, PreconnectPool, ProbeConfig, TakeOptions,
};
use operation::{
    Codec, ConnectionInfo, Decision, Gate, Next, Operation, OperationNames, Outcome, Probe,
    ProbeResult, Protocol, RejectMode, RejectReason, Rejection, RejectionRef, Reply, Request,
    SettleSink, Settlement, Tag, Ticket, Verdict, Violation,
};
use relay::{Buffers, RelayUpstream, reject, relay};
use session::testing::TestSession;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
    task::spawn_local,
};
use tollgate_metrics::Metrics;
use values::Target;

/// Each line is a request, and is answered by a line, in order. A line that begins with `push` answers no
/// request, and passes before it has ended.
struct Lines {
    asked: u64,
    answered: u64,
    refused: BTreeSet<u64>,
    /// A part of a line that answers no request has passed.
    pushing: bool,
}

impl Codec for Lines {
    const PROTOCOL: Protocol = Protocol::plain("lines");

    type Shared = ();

    fn new(_: &Arc<()>, _: ConnectionInfo) -> Self {
        Self { asked: 0, answered: 0, refused: BTreeSet::new(), pushing: false }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        let Some(len) = line(bytes) else { return Ok(Next::Hold(bytes.len() + 1)) };
        self.asked += 1;
        let tag = Some(Tag(self.asked));
        let request = Request { tag, ..Request::default() };
        Ok(Next::whole(len, request))
    }

    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b> {
        let end = line(front).map_or(front.len(), |len| len as usize - 1);
        OperationNames { name: str::from_utf8(&front[..end]).unwrap_or("?"), resource: "" }
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        if self.pushing || bytes.starts_with(b"push") {
            self.pushing = line(bytes).is_none();
            let len = line(bytes).unwrap_or(bytes.len() as u64);
            return Ok(Next::PassUnsolicited { len, ends: !self.pushing });
        }
        let Some(len) = line(bytes) else { return Ok(Next::Hold(bytes.len() + 1)) };
        self.answered += 1;
        while self.refused.remove(&self.answered) {
            self.answered += 1;
        }
        let broken = bytes.starts_with(b"broken");
        let outcome = if broken { Outcome::Failed } else { Outcome::Ok };
        Ok(Next::whole(len, Reply::new(Tag(self.answered), outcome)))
    }

    fn reject(&mut self, Tag(line): Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        self.refused.insert(line);
        out.extend_from_slice(format!("no: {}\n", why.reason).as_bytes());
        true
    }
}

fn line(bytes: &[u8]) -> Option<u64> {
    bytes.iter().position(|byte| *byte == b'\n').map(|end| end as u64 + 1)
}

/// Asks the endpoint whether it is well.
#[derive(Debug)]
struct Well;

impl ProbeConfig for Well {
    fn begin(&self) -> Box<dyn Probe> {
        Box::new(Well)
    }

    fn name(&self) -> &'static str {
        "well"
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

impl Probe for Well {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"are you well?\n");
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match answer {
            b"fine\n" => ProbeResult::Healthy("fine".to_owned()),
            answer if line(answer).is_some() => ProbeResult::Unhealthy("not fine".to_owned()),
            _ => ProbeResult::NeedMore,
        }
    }
}

/// The server's answer to each line; `None` while it hangs.
type Answer = Rc<Cell<Option<&'static str>>>;

async fn server() -> (SocketAddr, Answer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Answer = Rc::new(Cell::new(Some("fine\n")));
    let answers = Rc::clone(&answer);
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = Rc::clone(&answers);
            spawn_local(async move {
                let mut socket = BufReader::new(socket);
                let mut line = String::new();
                while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                    until("the server answers", || answer.get().is_some()).await;
                    let words = answer.get().unwrap_or_default();
                    if socket.write_all(words.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, answer)
}

/// Admits what the cluster's circuit breaker does.
struct LineGate(Rc<Breaker>);

/// The operations in flight that the circuit breaker counts.
struct Breaker {
    cluster: Arc<Cluster>,
    permits: RefCell<Vec<OperationPermit>>,
}

impl SettleSink for Breaker {
    fn settle(&self, _: u32, _: &Settlement<'_>) {
        self.permits.borrow_mut().pop();
    }

    fn abandon(&self, _: u32) {
        self.permits.borrow_mut().pop();
    }
}

impl Gate for LineGate {
    fn admit(&self, _: &Operation<'_>, _: Instant) -> Verdict {
        let LineGate(breaker) = self;
        let Some(permit) = breaker.cluster.admit_operation() else {
            let message = breaker.cluster.overloaded();
            return Verdict::Reject(Rejection::new(RejectReason::Overloaded, message));
        };
        breaker.permits.borrow_mut().push(permit);
        Verdict::Admit(Ticket::new(Rc::clone(breaker) as Rc<dyn SettleSink>, 0, None))
    }

    fn resume(&self, _: Ticket, _: Decision, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("no verdict is pending")
    }

    fn record_rejected(&self, _: &Operation<'_>, _: Instant, _: &Settlement<'_>) {}
}

/// A proxy for the toy protocol, and its cluster.
async fn proxy(
    endpoints: &[SocketAddr],
    change: impl FnOnce(&mut ClusterPlan),
) -> (SocketAddr, Arc<Cluster>) {
    let mut plan = plan_of(endpoints);
    change(&mut plan);
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    (listen::<Lines>(&cluster, line_gate(&cluster)).await, cluster)
}

/// A cluster of these endpoints, which are used in turn.
fn plan_of(endpoints: &[SocketAddr]) -> ClusterPlan {
    let at = |at: &SocketAddr| EndpointPlan::new(Target::Host(at.ip().to_string(), at.port()));
    let plan = ClusterPlan::new("lines", endpoints.iter().map(at).collect());
    ClusterPlan { lb_policy: LbPolicy::RoundRobin, ..plan }
}

fn line_gate(cluster: &Arc<Cluster>) -> Rc<dyn Gate> {
    let breaker = Breaker { cluster: Arc::clone(cluster), permits: RefCell::default() };
    Rc::new(LineGate(Rc::new(breaker)))
}

/// Connects a client to a relay whose operations take their connections of a pool.
async fn connect_pooled<C: Codec<Shared = ()>>(plan: ClusterPlan) -> BufReader<TcpStream> {
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let gate = line_gate(&cluster);
    let pool = ConnectionPool::start(cluster, PoolPlan::default());
    spawn_local(async move {
        let (client, peer) = socket.accept().await.unwrap();
        let session = Rc::new(TestSession::new(gate, ConnectionInfo { peer, local }));
        let upstream = RelayUpstream::Pool { pool, options: TakeOptions::default(), mirror: None };
        relay::<C>(&Arc::new(()), session, &Rc::default(), client.into(), upstream).await
    });
    BufReader::new(TcpStream::connect(local).await.unwrap())
}

/// Sends a line on an open connection. Returns the answer; empty if the connection closes.
async fn ask_on(client: &mut BufReader<TcpStream>, line: &str) -> String {
    client.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_line(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
}

/// The address at which clients reach a cluster.
async fn listen<C: Codec<Shared = ()>>(cluster: &Arc<Cluster>, gate: Rc<dyn Gate>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (preconnects, buffers) = (PreconnectPool::start(Arc::clone(cluster)), Rc::default());
    spawn_local(async move {
        while let Ok((client, peer)) = socket.accept().await {
            let gate = Rc::clone(&gate);
            let session = TestSession::new(gate, ConnectionInfo { peer, local: address });
            spawn_local(serve::<C>(session, Rc::clone(&buffers), Rc::clone(&preconnects), client));
        }
    });
    address
}

async fn serve<C: Codec<Shared = ()>>(
    session: TestSession,
    buffers: Rc<Buffers>,
    preconnects: Rc<PreconnectPool>,
    client: TcpStream,
) {
    let mut client = client.into();
    let shared = Arc::new(());
    match preconnects.connect(None).await {
        Ok(upstream) => {
            relay::<C>(&shared, Rc::new(session), &buffers, client, upstream).await;
        }
        Err(error) => {
            let (reason, message) = error.client_error();
            let why = RejectionRef::new(reason, &message);
            let end = (error.close_reason(), RejectMode::Reply);
            reject::<C>(&shared, &session, &mut client, end, &why).await;
        }
    }
}

/// Sends one request on a new connection, and returns the answer.
async fn ask(address: SocketAddr) -> String {
    let mut socket = BufReader::new(TcpStream::connect(address).await.unwrap());
    socket.write_all(b"how are you?\n").await.unwrap();
    let mut answer = String::new();
    socket.read_line(&mut answer).await.unwrap();
    answer
}

/// Waits until the condition holds.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("timed out waiting until: {what}"));
}

fn run(test: impl Future<Output = ()>) {
    LocalRuntime::new().unwrap().block_on(test);
}

#[test]
fn an_endpoint_whose_operations_fail_is_ejected() {
    run(async {
        let ((one, answer), (two, _)) = (server().await, server().await);
        let (address, _) = proxy(&[one, two], |plan| {
            let outlier = OutlierPlan { consecutive_failures: 3, ..OutlierPlan::default() };
            plan.outlier_detection = Some(outlier);
        })
        .await;
        answer.set(Some("broken\n"));
        let answers = RefCell::new(Vec::new());
        for _ in 0..20 {
            let answer = ask(address).await;
            answers.borrow_mut().push(answer);
        }
        let broken = answers.borrow().iter().filter(|answer| *answer == "broken\n").count();
        assert_eq!(broken, 3, "{answers:?}");
    });
}

#[test]
fn an_endpoint_with_a_failed_probe_is_not_picked() {
    run(async {
        let ((one, answer), (two, _)) = (server().await, server().await);
        let plan = HealthCheckPlan {
            interval: Duration::from_millis(20),
            timeout: Duration::from_millis(20),
            jitter: 0,
            edge_interval: Duration::from_millis(5),
            unhealthy_threshold: 2,
            ..HealthCheckPlan::new(Arc::new(Well))
        };
        let check = |cluster: &mut ClusterPlan| cluster.health_check = Some(plan);
        let (address, cluster) = proxy(&[one, two], check).await;
        let checks = Arc::clone(&cluster).check_health();
        let checks = spawn_local(checks);
        let usable = || cluster.endpoints()[0].usable();
        answer.set(None);
        until("the endpoint is left", || !usable()).await;
        for _ in 0..10 {
            assert_eq!(ask(address).await, "fine\n");
        }
        answer.set(Some("fine\n"));
        until("the endpoint is found again", usable).await;
        answer.set(Some("ill\n"));
        until("it says that it is ill", || !usable()).await;
        checks.abort();
    });
}

#[test]
fn a_rejection_has_the_format_of_the_codec() {
    run(async {
        let (one, answer) = server().await;
        let (address, cluster) = proxy(&[one], |plan| {
            plan.circuit_breaker = BreakerPlan { max_operations: Some(1), ..Default::default() };
        })
        .await;
        answer.set(None);
        let first = spawn_local(ask(address));
        let busy = || cluster.endpoints()[0].active_operations() == 1;
        until("the first is under way", busy).await;
        assert_eq!(ask(address).await, "no: overloaded\n");
        answer.set(Some("fine\n"));
        assert_eq!(first.await.unwrap(), "fine\n");
        assert_eq!(ask(address).await, "fine\n");
    });
}

#[test]
fn a_refusal_waits_for_the_replies_to_older_requests() {
    run(async {
        let (one, answer) = server().await;
        let (address, cluster) = proxy(&[one], |plan| {
            plan.circuit_breaker = BreakerPlan { max_operations: Some(1), ..Default::default() };
        })
        .await;
        answer.set(None);
        let mut socket = BufReader::new(TcpStream::connect(address).await.unwrap());
        socket.write_all(b"one\ntwo\nthree\n").await.unwrap();
        let busy = || cluster.endpoints()[0].active_operations() == 1;
        until("the first is under way", busy).await;
        let mut early = [0; 1];
        let hears = tokio::time::timeout(Duration::from_millis(50), socket.read(&mut early));
        assert!(hears.await.is_err(), "nothing is due before the first reply");
        answer.set(Some("fine\n"));
        let mut lines = socket.lines();
        for expected in ["fine", "no: overloaded", "no: overloaded"] {
            assert_eq!(lines.next_line().await.unwrap().unwrap(), expected);
        }
    });
}

#[test]
fn a_client_without_an_upstream_is_answered() {
    run(async {
        let unbound = tokio::net::TcpSocket::new_v4().unwrap();
        unbound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refuses = unbound.local_addr().unwrap();
        let (address, _) = proxy(&[refuses], |plan| plan.connect_attempts = 1).await;
        assert_eq!(ask(address).await, "no: no_endpoint\n");
    });
}
