use super::*;
use crate::{Cluster, ConnectError, FailoverPlan, tests::plan_at};
use bytes::BytesMut;
use futures_util::FutureExt;
use operation::{Handshake, HandshakeStep, PoolUser, ServiceQuery};
use std::{
    io::{Read, Write},
    net::TcpListener,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};
use tokio::{runtime::LocalRuntime, time};
use tollgate_metrics::Metrics;

/// A service that answers each line with the number of the connection.
struct Service {
    address: SocketAddr,
    accepted: std::sync::mpsc::Receiver<std::net::TcpStream>,
}

impl Service {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for socket in listener.incoming() {
                if sender.send(socket.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    fn accept(&self) -> std::net::TcpStream {
        self.accepted.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn has_accepted_more(&self) -> bool {
        self.accepted.try_recv().is_ok()
    }
}

fn pool_of(service: &Service, plan: PoolPlan) -> Rc<ConnectionPool> {
    let cluster = Cluster::new(Arc::new(plan_at(&[service.address])), &Metrics::new());
    ConnectionPool::start(cluster, plan)
}

fn sized(max_pool_size: usize) -> PoolPlan {
    PoolPlan { max_pool_size, ..PoolPlan::default() }
}

async fn take(pool: &Rc<ConnectionPool>) -> PooledConnection {
    Rc::clone(pool).take(TakeOptions::default(), None).await.unwrap()
}

fn name(connection: &PooledConnection) -> SocketAddr {
    connection.socket.stream.local_addr().unwrap()
}

fn run(test: impl Future<Output = ()>) {
    LocalRuntime::new().unwrap().block_on(test);
}

/// Lets all tasks do what they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_connection_that_was_given_back_is_used_again() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(4));
        let first = take(&pool).await;
        let used = name(&first);
        first.give_back();
        let again = take(&pool).await;
        assert_eq!(name(&again), used);
        assert_ne!(name(&take(&pool).await), used, "it is in use");
        let _connected = [service.accept(), service.accept()];
        assert!(!service.has_accepted_more());
    });
}

#[test]
fn operations_wait_in_order_while_all_are_in_use() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters = (1..=3).map(|number| {
            let (pool, order) = (Rc::clone(&pool), Rc::clone(&order));
            spawn_local(async move {
                let taken = take(&pool).await;
                order.borrow_mut().push(number);
                taken.give_back();
            })
        });
        let waiters: Vec<_> = waiters.collect();
        settle().await;
        assert_eq!(pool.report()[0].1.waiting, 3);
        first.give_back();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.borrow(), [1, 2, 3]);
        service.accept();
        assert!(!service.has_accepted_more());
    });
}

#[test]
fn a_key_with_many_operations_leaves_turns_to_others() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut waiters = Vec::new();
        for (fair_key, name) in [(1, "a"), (1, "a"), (1, "a"), (2, "b")] {
            let (pool, order) = (Rc::clone(&pool), Rc::clone(&order));
            waiters.push(spawn_local(async move {
                let options = TakeOptions { fair_key, ..TakeOptions::default() };
                let taken = pool.take(options, None).await.unwrap();
                order.borrow_mut().push(name);
                taken.give_back();
            }));
            settle().await;
        }
        first.give_back();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.borrow(), ["a", "b", "a", "a"]);
    });
}

#[test]
fn a_full_queue_and_a_long_wait_are_errors() {
    run(async {
        let service = Service::new();
        let plan = PoolPlan {
            wait_queue_size: 1,
            wait_queue_timeout: Duration::from_millis(20),
            ..sized(1)
        };
        let pool = pool_of(&service, plan);
        let _first = take(&pool).await;
        let waits = spawn_local(Rc::clone(&pool).take(TakeOptions::default(), None));
        settle().await;
        let full = Rc::clone(&pool).take(TakeOptions::default(), None).await.unwrap_err();
        assert!(matches!(full, TakeError::QueueFull { waiting: 1, .. }), "{full}");
        let late = waits.await.unwrap().unwrap_err();
        assert!(matches!(late, TakeError::TimedOut { .. }), "{late}");
        assert_eq!(late.client_error().0, operation::RejectReason::Overloaded);
        assert!(late.to_string().contains("pool.max_pool_size"), "{late}");
    });
}

#[test]
fn long_polls_leave_connections_for_operations() {
    run(async {
        let service = Service::new();
        let plan =
            PoolPlan { max_awaiting: 2, wait_queue_timeout: Duration::from_millis(20), ..sized(1) };
        let pool = pool_of(&service, plan);
        let poll = TakeOptions { long_poll: true, ..TakeOptions::default() };
        let first = Rc::clone(&pool).take(poll.clone(), None).await.unwrap();
        let _second = Rc::clone(&pool).take(poll.clone(), None).await.unwrap();
        take(&pool).await.give_back();
        let third = Rc::clone(&pool).take(poll.clone(), None).await;
        assert!(matches!(third, Err(TakeError::TimedOut { .. })), "the third waits");
        first.give_back();
        Rc::clone(&pool).take(poll.clone(), None).await.unwrap();
    });
}

#[test]
fn a_long_poll_that_ends_takes_no_room_of_operations() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let poll = TakeOptions { long_poll: true, ..TakeOptions::default() };
        let poll = Rc::clone(&pool).take(poll, None).await.unwrap();
        let mut waits = pin!(Rc::clone(&pool).take(TakeOptions::default(), None));
        assert!(waits.as_mut().now_or_never().is_none(), "its connection is being opened");
        poll.give_back();
        let report = pool.report()[0].1;
        assert_eq!((report.active, report.idle, report.connecting), (0, 0, 1));
        waits.await.unwrap();
    });
}

#[test]
fn a_connection_that_was_dropped_makes_room_for_another() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let closed = name(&first);
        let waits = {
            let pool = Rc::clone(&pool);
            spawn_local(async move { take(&pool).await })
        };
        settle().await;
        drop(first);
        assert_ne!(name(&waits.await.unwrap()), closed);
        let mut old = service.accept();
        assert_eq!(old.read(&mut [0; 1]).unwrap(), 0);
    });
}

#[test]
fn an_operation_that_gave_up_keeps_no_connection() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let gives_up = spawn_local(Rc::clone(&pool).take(TakeOptions::default(), None));
        settle().await;
        gives_up.abort();
        settle().await;
        let used = name(&first);
        first.give_back();
        let next = take(&pool).await;
        assert_eq!(name(&next), used);
        assert_eq!(pool.report()[0].1, PoolReport { active: 1, ..PoolReport::default() });
    });
}

#[test]
fn a_connection_closed_by_the_service_is_not_used() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        take(&pool).await.give_back();
        drop(service.accept());
        time::pause();
        time::advance(CHECKED_AFTER).await;
        time::resume();
        let fresh = take(&pool).await;
        let accepted = service.accept();
        assert_eq!(name(&fresh), accepted.peer_addr().unwrap());
    });
}

#[test]
fn a_connection_with_unexpected_bytes_is_not_used() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let used = name(&first);
        service.accept().write_all(b"late").unwrap();
        first.socket.stream.tcp().readable().await.unwrap();
        first.give_back();
        time::pause();
        time::advance(CHECKED_AFTER).await;
        time::resume();
        assert_ne!(name(&take(&pool).await), used);
    });
}

#[test]
fn idle_and_old_connections_are_closed() {
    for plan in [
        PoolPlan { max_idle_time: Duration::from_secs(5), ..sized(4) },
        PoolPlan { max_lifetime: Some(Duration::from_secs(5)), ..sized(4) },
    ] {
        run(async {
            let service = Service::new();
            let pool = pool_of(&service, plan);
            take(&pool).await.give_back();
            time::pause();
            // The inspections are not aligned with the connection's age.
            for second in 0..7 {
                assert!(second > 4 || pool.report().len() == 1);
                time::advance(upkeep::INTERVAL).await;
                settle().await;
            }
            assert!(pool.report().is_empty());
            assert_eq!(service.accept().read(&mut [0; 1]).unwrap(), 0);
        });
    }
}

#[test]
fn a_closed_pool_closes_what_comes_back() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(4));
        let (first, second) = (take(&pool).await, take(&pool).await);
        first.give_back();
        pool.close();
        assert_eq!(service.accept().read(&mut [0; 1]).unwrap(), 0);
        second.give_back();
        assert_eq!(service.accept().read(&mut [0; 1]).unwrap(), 0);
    });
}

#[test]
fn operations_that_wait_are_served_by_a_closed_pool() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        let first = take(&pool).await;
        let used = name(&first);
        let waiting = spawn_local(Rc::clone(&pool).take(TakeOptions::default(), None));
        settle().await;
        pool.close();
        first.give_back();
        let second = waiting.await.unwrap().unwrap();
        assert_eq!(name(&second), used);
        drop(second);
        take(&pool).await.give_back();
        assert_eq!(pool.report()[0].1, PoolReport::default(), "none stays idle");
    });
}

#[test]
fn an_idle_connection_makes_room_at_the_clusters_limit() {
    run(async {
        let service = Service::new();
        let mut plan = plan_at(&[service.address]);
        plan.circuit_breaker.max_connections = Some(1);
        plan.circuit_breaker.pending_timeout = Duration::from_secs(20);
        let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
        let workers = [0, 1].map(|_| ConnectionPool::start(Arc::clone(&cluster), sized(1)));
        take(&workers[0]).await.give_back();
        take(&workers[1]).await.give_back();
        take(&workers[0]).await.give_back();
    });
}

#[test]
fn no_connection_is_an_error_with_its_cause() {
    run(async {
        let unbound = tokio::net::TcpSocket::new_v4().unwrap();
        unbound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut plan = plan_at(&[unbound.local_addr().unwrap()]);
        plan.connect_attempts = 1;
        plan.failover = Some(FailoverPlan { hold: None, ..FailoverPlan::default() });
        let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
        let pool = ConnectionPool::start(cluster, sized(1));
        let error = pool.take(TakeOptions::default(), None).await.unwrap_err();
        let TakeError::Connect(error) = error else { panic!("{error}") };
        assert!(matches!(*error, ConnectError::Failed { .. }), "{error}");
    });
}

/// Sends a word and expects the same one.
#[derive(Debug)]
struct Password(&'static str);

impl HandshakeConfig for Password {
    fn begin(&self, _: &Identity) -> Option<Box<dyn Handshake>> {
        Some(Box::new(Password(self.0)))
    }
}

impl Handshake for Password {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(self.0.as_bytes());
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        match reply {
            b"welcome" => HandshakeStep::Done,
            b"begone" => HandshakeStep::Refused("the user has left".to_owned()),
            reply if b"welcome".starts_with(reply) || b"begone".starts_with(reply) => {
                HandshakeStep::NeedMore
            }
            _ => HandshakeStep::Failed("it wants another password".to_owned()),
        }
    }
}

#[test]
fn each_connection_has_one_handshake() {
    run(async {
        let service = Service::new();
        let cluster = Cluster::new(Arc::new(plan_at(&[service.address])), &Metrics::new());
        let answers = thread::spawn(move || {
            for answer in ["welcome", "no"] {
                let mut socket = service.accept();
                let mut word = [0; 6];
                socket.read_exact(&mut word).unwrap();
                assert_eq!(&word, b"sesame");
                socket.write_all(answer.as_bytes()).unwrap();
                // The connection is closed by the pool.
                thread::spawn(move || socket.read(&mut [0; 1]));
            }
        });
        let pool = ConnectionPool::start(cluster, sized(2));
        std::mem::forget(pool.join(Arc::new(Password("sesame"))));
        let first = take(&pool).await;
        first.give_back();
        let again = take(&pool).await;
        let error = Rc::clone(&pool).take(TakeOptions::default(), None).await.unwrap_err();
        assert!(error.to_string().contains("it wants another password"), "{error}");
        drop(again);
        answers.join().unwrap();
    });
}

mod hold;
mod users;
