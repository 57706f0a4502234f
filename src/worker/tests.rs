//! A worker whose connections panic, and one that loses a listener.

use super::*;
use crate::listener::{
    self, ConnectionBudget, DrainOptions, ListenSocket, Listener, ListenerState,
};
use cluster::{Cluster, ClusterPlan, EndpointPlan, PreconnectPool};
use config::plan::ListenerPlan;
use operation::Operation;
use policy::gate::Gate;
use policy::series::{CardinalityLimit, SeriesKey};
use policy::{Decision, SeriesPolicy, Settled, WorkerPolicy};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
    sync::mpsc::unbounded_channel,
};
use tollgate_metrics::Metrics;
use values::Target;

/// When a policy panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Never,
    /// While the bytes of an operation are in hand.
    Admit,
    /// When an operation settles.
    Settle,
}

/// A policy with a bug that can be switched on.
#[derive(Clone)]
struct Buggy(Rc<Cell<When>>);

impl WorkerPolicy for Buggy {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for Buggy {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        assert_ne!(self.0.get(), When::Admit, "on purpose");
        Decision::Admit
    }

    fn settle(&self, _: &Settled<'_>, _: u64) {
        assert_ne!(self.0.get(), When::Settle, "on purpose");
    }
}

/// A TCP service that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            spawn_local(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// A worker at work, with room for three connections.
struct Stage {
    address: SocketAddr,
    metrics: Metrics,
    bug: Rc<Cell<When>>,
    inbox: tokio::sync::mpsc::UnboundedSender<Message>,
    work: tokio::task::JoinHandle<io::Result<()>>,
}

async fn stage() -> Stage {
    let upstream = echo().await;
    let (metrics, bug) = (Metrics::new(), Rc::new(Cell::new(When::Never)));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let plan = ListenerPlan {
        ..ListenerPlan::new("wire", loopback, protocols::plain("tcp").unwrap(), "echo")
    };
    let at = EndpointPlan::new(Target::Host(upstream.ip().to_string(), upstream.port()));
    let cluster = Cluster::new(Arc::new(ClusterPlan::new("echo", vec![at])), &metrics);
    let census = || Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let gate = Gate::new(vec![Box::new(Buggy(Rc::clone(&bug)))], census(), metrics::Gauge::noop());
    let socket = listener::bind(plan.address, plan.tcp_user_timeout).unwrap();
    let address = socket.local_addr().unwrap();
    let state = ListenerState::new(&plan, 1, [census(), census()]);
    state.max_connections.store(3, Relaxed);
    let id = state.id;
    let listener = Listener::new(Arc::new(plan), address, state, None);
    let listener =
        WorkerListener::new(listener, gate, PreconnectPool::start(cluster), metrics.clone());
    let (inbox, messages) = unbounded_channel();
    let dispatcher = Dispatcher { inboxes: Rc::new([]), budget: ConnectionBudget::new(3, 3) };
    let _ = inbox.send(Message::Listen(ListenSocket { number: 0, listener: id, socket }));
    let same = listener.clone();
    let make = Box::new(move || vec![same.clone()]);
    let work = spawn_local(work(Worker::new(0), vec![listener], make, dispatcher, None, messages));
    Stage { address, metrics, bug, inbox, work }
}

impl Stage {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn counts(&self, line: &str) -> bool {
        let mut text = String::new();
        self.metrics.render(&mut text);
        text.lines().any(|it| it == line)
    }
}

/// Whether what is sent comes back.
async fn works(client: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    client.write_all(b"ping").await.is_ok()
        && client.read_exact(&mut back).await.is_ok()
        && back == *b"ping"
}

#[test]
fn a_panic_ends_its_own_connection_and_nothing_else() {
    LocalRuntime::new().unwrap().block_on(async {
        let stage = stage().await;
        let mut bystander = stage.connect().await;
        assert!(works(&mut bystander).await);
        for when in [When::Admit, When::Settle] {
            // More than there is room for: each gives its place back.
            for _ in 0..5 {
                let mut victim = stage.connect().await;
                match when {
                    When::Settle => {
                        assert!(works(&mut victim).await);
                        stage.bug.set(when);
                        victim.shutdown().await.unwrap();
                    }
                    _ => {
                        stage.bug.set(when);
                        victim.write_all(b"ping").await.unwrap();
                    }
                }
                let _ = victim.read_to_end(&mut Vec::new()).await;
                stage.bug.set(When::Never);
            }
            assert!(works(&mut bystander).await, "{when:?}");
            assert!(works(&mut stage.connect().await).await, "{when:?}");
        }
        let counted = async {
            let closed = "tollgate_connection_close_total{listener=\"wire\",reason=\"panic\"} 10";
            let active = "tollgate_connections_active{listener=\"wire\"} 1";
            while !(stage.counts(closed) && stage.counts(active)) {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, counted).await.expect("each is counted");
        // A drain does not wait for those that panicked.
        drop(bystander);
        stage
            .inbox
            .send(Message::Drain(DrainOptions { timeout: Duration::from_secs(3600), spread: None }))
            .unwrap();
        stage.work.await.unwrap().unwrap();
    });
}

#[test]
fn a_worker_that_loses_a_listener_ends_and_says_so() {
    LocalRuntime::new().unwrap().block_on(async {
        let mut accepting = Accepting::default();
        accepting.spawn(async { panic!("on purpose") });
        let panic = process::panics::caught(Box::pin(accepting.failed())).await.unwrap_err();
        assert_eq!(panic.message, "on purpose");
        accepting.spawn(async { Err(io::Error::other("no listener")) });
        assert_eq!(accepting.failed().await.to_string(), "no listener");
    });
}
