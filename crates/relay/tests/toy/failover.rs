//! Endpoints that fail under operations of a pool, and clients that leave.

use super::*;
use cluster::FailoverPlan;
use operation::{Recovery, TakenUpstream};

/// As [`Lines`]. A `read` may be done twice, a `write` is not, an `order` neither, but its loss is an
/// error. `write` and `order` may end without their client.
struct RecoveringLines {
    lines: Lines,
    last: String,
}

impl Codec for RecoveringLines {
    const PROTOCOL: Protocol = Protocol::plain("lines");

    type Shared = ();

    fn new(shared: &Arc<()>, link: ConnectionInfo) -> Self {
        Self { lines: Lines::new(shared, link), last: String::new() }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if let Some(len) = line(bytes) {
            self.last = String::from_utf8_lossy(&bytes[..len as usize]).trim_end().to_owned();
        }
        self.lines.request(bytes)
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

    fn keeps_request(&self) -> bool {
        true
    }

    fn upstream_taken(&mut self, _: TakenUpstream) {}

    fn recovery(&self) -> Recovery {
        let reads = self.last.starts_with("read");
        Recovery {
            resends_when_lost: reads,
            reports_loss: self.last.starts_with("order"),
            outlives_client: !reads,
            ..Recovery::default()
        }
    }
}

/// A service that closes a connection when a line comes while it `fails`, and otherwise answers `done`. It
/// answers nothing while it `hangs`.
#[derive(Clone)]
struct Flaky {
    address: SocketAddr,
    lines: Rc<RefCell<Vec<String>>>,
    fails: Rc<Cell<usize>>,
    hangs: Rc<Cell<bool>>,
    open: Rc<Cell<usize>>,
}

impl Flaky {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lines, fails) = (Rc::default(), Rc::default());
        let this = Self { address, lines, fails, hangs: Rc::default(), open: Rc::default() };
        let service = this.clone();
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                service.open.set(service.open.get() + 1);
                let service = service.clone();
                spawn_local(async move {
                    service.serve(socket).await;
                    service.open.set(service.open.get() - 1);
                });
            }
        });
        this
    }

    async fn serve(&self, socket: TcpStream) {
        let (mut socket, mut line) = (BufReader::new(socket), String::new());
        while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            self.lines.borrow_mut().push(line.trim_end().to_owned());
            if self.fails.get() > 0 {
                self.fails.set(self.fails.get() - 1);
                return;
            }
            if !self.hangs.get() {
                socket.write_all(b"done\n").await.unwrap();
            }
            line.clear();
        }
    }

    /// Connects a client to a relay before it.
    async fn client(&self, failover: FailoverPlan) -> BufReader<TcpStream> {
        let plan = plan_of(&[self.address]);
        connect_pooled::<RecoveringLines>(ClusterPlan { failover: Some(failover), ..plan }).await
    }
}

/// Waits until this holds.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_may_be_done_twice_is_sent_again_after_a_loss() {
    run(async {
        let service = Flaky::start().await;
        let mut client = service.client(FailoverPlan::default()).await;
        service.fails.set(2);
        assert_eq!(ask_on(&mut client, "read 1").await, "done");
        assert_eq!(*service.lines.borrow(), ["read 1"; 3]);
        // At most three times, and then the client's connection closes.
        service.fails.set(usize::MAX);
        assert_eq!(ask_on(&mut client, "read 2").await, "");
        assert_eq!(service.lines.borrow().len(), 6);
    });
}

#[test]
fn a_loss_closes_the_client_or_is_an_error() {
    run(async {
        let service = Flaky::start().await;
        let mut client = service.client(FailoverPlan::default()).await;
        service.fails.set(1);
        assert_eq!(ask_on(&mut client, "order 1").await, "no: lost");
        assert_eq!(ask_on(&mut client, "order 2").await, "done");
        service.fails.set(1);
        assert_eq!(ask_on(&mut client, "write 1").await, "");
        assert_eq!(*service.lines.borrow(), ["order 1", "order 2", "write 1"]);
    });
}

#[test]
fn an_idle_connection_that_is_lost_is_not_noticed() {
    run(async {
        let service = Flaky::start().await;
        let mut client = service.client(FailoverPlan::default()).await;
        for number in 0..3 {
            assert_eq!(ask_on(&mut client, &format!("write {number}")).await, "done");
            // The next operation finds it closed before it is used.
            service.fails.set(1);
            assert_eq!(ask_on(&mut client, "read").await, "done");
        }
    });
}

#[test]
fn a_read_ends_with_its_client_and_a_write_within_the_grace() {
    run(async {
        let service = Flaky::start().await;
        service.hangs.set(true);
        let grace = Some(Duration::from_millis(300));
        for (line, outlives) in [("read", false), ("write", true)] {
            let plan = FailoverPlan { cancel_grace: grace, ..FailoverPlan::default() };
            let mut client = service.client(plan).await;
            let before = service.lines.borrow().len();
            client.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            until(|| service.lines.borrow().len() > before).await;
            let began = Instant::now();
            drop(client);
            until(|| service.open.get() == 0).await;
            assert_eq!(began.elapsed() >= Duration::from_millis(300), outlives, "{line}");
        }
    });
}
