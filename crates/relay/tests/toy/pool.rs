//! Clients that share connections: each line takes a connection of a pool, and gives it back with its
//! answer.

use super::*;
use cluster::{ConnectionPool, FailoverPlan, PoolPlan, PoolReport, TakeOptions};
use operation::{
    Handshake, HandshakeConfig, HandshakeStep, Identity, LocalAnswer, RejectReason, Rejection,
    ServiceQuery, UpstreamUse,
};
use relay::RelayUpstream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// As [`Lines`], but `hold` keeps the connection until `release`, and `own` for good. The codec itself
/// answers `who` at once, `later` after a while, twice, and `greeted` when a handshake has been made. It asks
/// the service before it answers `wonder`, answers `fail` with an error, and refuses `secret`.
struct PooledLines {
    lines: Lines,
    upstream_use: UpstreamUse,
    answers: Vec<LocalAnswer>,
    refuses: bool,
    greeted: Arc<AtomicBool>,
}

/// Greets the service on each new connection.
#[derive(Debug)]
struct Greeting(Arc<AtomicBool>);

impl HandshakeConfig for Greeting {
    fn begin(&self, _: &Identity) -> Option<Box<dyn Handshake>> {
        Some(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Handshake for Greeting {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"greetings\n");
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        if line(reply).is_none() {
            return HandshakeStep::NeedMore;
        }
        self.0.store(true, Relaxed);
        HandshakeStep::Done
    }
}

impl Codec for PooledLines {
    const PROTOCOL: Protocol = Protocol::plain("lines");

    type Shared = AtomicBool;

    fn new(greeted: &Arc<AtomicBool>, link: ConnectionInfo) -> Self {
        let lines = Lines::new(&Arc::new(()), link);
        let (upstream_use, answers) = (UpstreamUse::Free, Vec::new());
        Self { lines, upstream_use, answers, refuses: false, greeted: Arc::clone(greeted) }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        let first = line(bytes).map_or(bytes, |len| &bytes[..len as usize]);
        match first {
            b"hold\n" => self.upstream_use = UpstreamUse::Held,
            b"own\n" => self.upstream_use = UpstreamUse::Own,
            b"release\n" => self.upstream_use = UpstreamUse::Free,
            _ => {}
        }
        self.refuses = first == b"secret\n";
        let soon = LocalAnswer::Later(Duration::from_millis(20));
        self.answers = match first {
            b"who\n" => vec![LocalAnswer::Done],
            b"later\n" => vec![LocalAnswer::Done, soon, soon],
            b"greeted\n" => vec![LocalAnswer::Done, LocalAnswer::NeedsUpstream],
            b"wonder\n" => vec![LocalAnswer::Done, LocalAnswer::NeedsQuery],
            b"fail\n" => vec![LocalAnswer::Failed("wrong")],
            _ => Vec::new(),
        };
        let mut next = self.lines.request(bytes)?;
        if let Next::Pass { len, mark: Some(mut mark), .. } = next
            && !self.answers.is_empty()
        {
            self.lines.answered += 1;
            mark.long_poll = self.answers.len() == 3;
            return Ok(Next::Answer { len: len as usize, mark });
        }
        if let Next::Pass { mark: Some(request), .. } = &mut next {
            request.long_poll = bytes.starts_with(b"news");
            if bytes.starts_with(b"silent") {
                request.tag = None;
                self.lines.asked -= 1;
            }
        }
        Ok(next)
    }

    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b> {
        self.lines.names(front)
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        self.lines.reply(bytes)
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        self.lines.reject(tag, why, out)
    }

    fn answer(&mut self, _: Tag, out: &mut BytesMut) -> LocalAnswer {
        let step = self.answers.pop().unwrap_or(LocalAnswer::Done);
        let text = match (step, self.answers.len()) {
            (LocalAnswer::NeedsUpstream | LocalAnswer::NeedsQuery, _)
            | (LocalAnswer::Later(_), 2) => "",
            (LocalAnswer::Failed(code), _) => code,
            (LocalAnswer::Later(_), _) => "soon\n",
            (LocalAnswer::Done, _) if self.greeted.load(Relaxed) => "the proxy, greeted\n",
            (LocalAnswer::Done, _) => "the proxy\n",
        };
        out.extend_from_slice(text.as_bytes());
        step
    }

    fn query(&mut self) -> Option<ServiceQuery> {
        let exchange = Box::new(Greeting(Arc::clone(&self.greeted)));
        Some(ServiceQuery { subject: "".into(), identity: Identity::default(), exchange })
    }

    fn refusal(&mut self) -> Option<Rejection> {
        self.refuses.then(|| Rejection::new(RejectReason::Denied, "log in first"))
    }

    fn upstream_use(&self) -> UpstreamUse {
        self.upstream_use
    }
}

/// A service that answers each line with `N: LINE`, where N is the number of the connection. `slow`
/// is not answered, `bye` is answered by a close, and `silent` is not answered either. `soon` is answered by
/// a part of a line that answers no request.
struct Numbered {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    open: Rc<Cell<usize>>,
}

impl Numbered {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, open) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (all, now) = (Rc::clone(&connections), Rc::clone(&open));
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                all.set(all.get() + 1);
                now.set(now.get() + 1);
                let (number, now) = (all.get(), Rc::clone(&now));
                spawn_local(async move {
                    Self::answer(BufReader::new(socket), number).await;
                    now.set(now.get() - 1);
                });
            }
        });
        Self { address, connections, open }
    }

    /// It as a cluster.
    fn cluster(&self) -> Arc<Cluster> {
        let at = Target::Host(self.address.ip().to_string(), self.address.port());
        let hold = Some(Duration::from_millis(50));
        let failover = Some(FailoverPlan { hold, ..FailoverPlan::default() });
        let endpoints = vec![EndpointPlan::new(at)];
        let plan = ClusterPlan { failover, ..ClusterPlan::new("lines", endpoints) };
        Cluster::new(Arc::new(plan), &Metrics::new())
    }

    async fn answer(mut socket: BufReader<TcpStream>, number: usize) {
        let mut line = String::new();
        while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            match line.trim_end() {
                "bye" => return,
                "slow" | "news" | "silent" => {}
                "soon" => socket.write_all(b"push: half of the ne").await.unwrap(),
                "twice" => socket.write_all(b"one\ntwo\n").await.unwrap(),
                _ => socket.write_all(format!("{number}: {line}").as_bytes()).await.unwrap(),
            }
            line.clear();
        }
    }
}

/// A proxy whose clients share a pool.
async fn pooled(service: &Numbered, plan: PoolPlan) -> (SocketAddr, Rc<ConnectionPool>) {
    let cluster = service.cluster();
    let gate = line_gate(&cluster);
    pooled_with(cluster, gate, plan).await
}

/// The same with this gate.
async fn pooled_with(
    cluster: Arc<Cluster>,
    gate: Rc<dyn Gate>,
    plan: PoolPlan,
) -> (SocketAddr, Rc<ConnectionPool>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let buffers = Rc::default();
    let greeted = Arc::<AtomicBool>::default();
    let handshake = Arc::new(Greeting(Arc::clone(&greeted)));
    let pool = ConnectionPool::start(cluster, plan);
    std::mem::forget(pool.join(handshake));
    let shared = Rc::clone(&pool);
    spawn_local(async move {
        while let Ok((client, peer)) = socket.accept().await {
            let gate = Rc::clone(&gate);
            let session = Rc::new(TestSession::new(gate, ConnectionInfo { peer, local: address }));
            let upstream = RelayUpstream::Pool {
                pool: Rc::clone(&shared),
                options: TakeOptions::default(),
                mirror: None,
            };
            let client = client.into();
            spawn_local(relay::<PooledLines>(&greeted, session, &buffers, client, upstream));
        }
    });
    (address, pool)
}

fn one_idle() -> PoolReport {
    PoolReport { idle: 1, ..PoolReport::default() }
}

fn sized(max_pool_size: usize) -> PoolPlan {
    PoolPlan { max_pool_size, ..PoolPlan::default() }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn send(&mut self, lines: &str) {
        self.0.write_all(lines.as_bytes()).await.unwrap();
    }

    /// The next line; empty at the end of the stream.
    async fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\n")).await;
        self.read().await
    }
}

#[test]
fn many_clients_share_one_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::connect(address).await);
        }
        for round in 0..5 {
            for client in &mut clients {
                assert_eq!(client.ask(&format!("r{round}")).await, format!("1: r{round}"));
            }
        }
        assert_eq!(service.connections.get(), 1);
    });
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(2)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        one.send("a\nb\nc\n").await;
        two.send("d\ne\n").await;
        for expected in ["a", "b", "c"] {
            assert!(one.read().await.ends_with(expected));
        }
        for expected in ["d", "e"] {
            assert!(two.read().await.ends_with(expected));
        }
        assert!(service.connections.get() <= 2);
    });
}

#[test]
fn a_client_without_operations_has_no_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(4)).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(Client::connect(address).await);
        }
        assert_eq!(clients[0].ask("a").await, "1: a");
        assert_eq!(service.connections.get(), 1);
    });
}

#[test]
fn an_operation_waits_while_all_connections_are_in_use() {
    run(async {
        let service = Numbered::start().await;
        let plan = PoolPlan { wait_queue_timeout: Duration::from_millis(30), ..sized(1) };
        let (address, _) = pooled(&service, plan).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        one.send("slow\n").await;
        until("the first is in use", || service.open.get() == 1).await;
        assert_eq!(two.ask("a").await, "no: overloaded");
    });
}

#[test]
fn a_client_that_leaves_frees_its_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        one.send("slow\n").await;
        until("the first is in use", || service.open.get() == 1).await;
        drop(one);
        assert_eq!(two.ask("a").await, "2: a");
        until("the connection of the client that left is closed", || service.open.get() == 1).await;
    });
}

#[test]
fn long_polls_do_not_starve_operations() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut polls = Vec::new();
        for _ in 0..3 {
            let mut client = Client::connect(address).await;
            client.send("news\n").await;
            polls.push(client);
        }
        until("all wait for news", || service.open.get() == 3).await;
        let mut other = Client::connect(address).await;
        assert_eq!(other.ask("a").await, "4: a");
        drop(polls);
        until("their connections are closed", || service.open.get() == 1).await;
    });
}

#[test]
fn a_request_without_a_reply_frees_its_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        one.send("silent\n").await;
        assert_eq!(two.ask("a").await, "1: a");
        one.send("silent\n").await;
        assert_eq!(one.ask("b").await, "1: b");
    });
}

#[test]
fn a_client_keeps_its_connection_while_the_codec_holds_it() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(2)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        assert_eq!(one.ask("hold").await, "1: hold");
        assert_eq!(two.ask("a").await, "2: a");
        assert_eq!(one.ask("b").await, "1: b");
        assert_eq!(one.ask("release").await, "1: release");
        assert_eq!(two.ask("c").await, "1: c", "the last one that was given back is used first");
    });
}

#[test]
fn a_connection_of_ones_own_is_no_part_of_the_pool() {
    run(async {
        let service = Numbered::start().await;
        let (address, pool) = pooled(&service, sized(1)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        assert_eq!(one.ask("own").await, "1: own");
        assert_eq!(two.ask("a").await, "2: a", "there is room for another");
        assert_eq!(one.ask("b").await, "1: b");
        drop(one);
        until("it is closed", || service.open.get() == 1).await;
        assert_eq!(pool.report()[0].1, one_idle());
    });
}

#[test]
fn a_lost_connection_ends_the_client_that_used_it() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        assert_eq!(two.ask("a").await, "1: a");
        assert_eq!(one.ask("bye").await, "");
        assert_eq!(two.ask("b").await, "2: b");
    });
}

#[test]
fn bytes_that_answer_nothing_spoil_their_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
        assert_eq!(one.ask("twice").await, "one");
        assert_eq!(two.ask("a").await, "2: a");
        assert_eq!(one.ask("b").await, "2: b");
        until("the first is closed", || service.open.get() == 1).await;
    });
}

#[test]
fn an_incomplete_request_is_never_sent() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut one = Client::connect(address).await;
        one.send("half").await;
        one.0.shutdown().await.unwrap();
        assert_eq!(one.read().await, "");
        let mut two = Client::connect(address).await;
        assert_eq!(two.ask("a").await, "1: a");
    });
}

#[test]
fn an_unreachable_service_is_an_error_of_each_operation() {
    run(async {
        let service = Numbered::start().await;
        let unbound = tokio::net::TcpSocket::new_v4().unwrap();
        unbound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let gone = Numbered { address: unbound.local_addr().unwrap(), ..service };
        let (address, _) = pooled(&gone, sized(1)).await;
        let mut client = Client::connect(address).await;
        assert_eq!(client.ask("a").await, "no: no_endpoint");
        assert_eq!(client.ask("b").await, "no: no_endpoint");
    });
}

#[test]
fn the_codec_answers_without_a_connection() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        client.send("who\nwho\na\nwho\n").await;
        assert_eq!([client.read().await, client.read().await], ["the proxy", "the proxy"]);
        assert_eq!([client.read().await, client.read().await], ["1: a", "the proxy, greeted"]);
    });
}

#[test]
fn an_answer_may_need_what_a_handshake_shows() {
    run(async {
        let service = Numbered::start().await;
        let (address, pool) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        assert_eq!(client.ask("greeted").await, "the proxy, greeted");
        assert_eq!(pool.report()[0].1, one_idle(), "the connection was given back");
        assert_eq!(client.ask("greeted").await, "the proxy, greeted");
        assert_eq!(service.connections.get(), 1);
    });
}

#[test]
fn an_answer_that_needs_a_connection_may_fail() {
    run(async {
        let service = Numbered::start().await;
        let unbound = tokio::net::TcpSocket::new_v4().unwrap();
        unbound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let gone = Numbered { address: unbound.local_addr().unwrap(), ..service };
        let (address, _) = pooled(&gone, sized(1)).await;
        let mut client = Client::connect(address).await;
        client.send("greeted\nwho\n").await;
        assert_eq!([client.read().await, client.read().await], ["no: no_endpoint", "the proxy"]);
    });
}

#[test]
fn an_answer_may_come_later_in_parts() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        let began = Instant::now();
        client.send("later\na\n").await;
        assert_eq!(client.read().await, "soon");
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!([client.read().await, client.read().await], ["the proxy", "1: a"]);
    });
}

#[test]
fn a_client_may_leave_before_its_answer_is_due() {
    run(async {
        let service = Numbered::start().await;
        let (address, _) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        client.send("later\n").await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.read().await, "");
    });
}

#[test]
fn a_time_limit_within_a_push_on_a_pool_resets_the_client() {
    run(async {
        let service = Numbered::start().await;
        let gate = Rc::new(order::WordGate::default());
        let (address, _) = pooled_with(service.cluster(), gate, sized(1)).await;
        let mut client = Client::connect(address).await;
        client.send("soon\n").await;
        order::read_to_reset(&mut client.0).await;
        until("the connection is closed", || service.open.get() == 0).await;
    });
}

#[test]
fn an_answer_may_depend_on_a_question_to_the_service() {
    run(async {
        let service = Numbered::start().await;
        let (address, pool) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        assert_eq!(client.ask("wonder").await, "the proxy, greeted");
        // The question was asked on the pool's connection, which serves operations again.
        assert_eq!(client.ask("a").await, "1: a");
        assert_eq!(pool.report()[0].1, one_idle());
    });
}

#[test]
fn the_codec_refuses_an_admitted_request() {
    run(async {
        let service = Numbered::start().await;
        let (address, _pool) = pooled(&service, sized(1)).await;
        let mut client = Client::connect(address).await;
        client.send("secret\na\n").await;
        assert_eq!(client.read().await, "no: denied");
        assert_eq!(client.read().await, "1: a");
    });
}
