//! Operations that no endpoint can serve now are held.

use super::*;
use tokio::net::TcpSocket;

/// A pool before an address where nothing listens yet. At most `waiting` operations are held.
fn pool_before(address: SocketAddr, waiting: usize) -> Rc<ConnectionPool> {
    let mut plan = plan_at(&[address]);
    plan.failover = Some(FailoverPlan::default());
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    ConnectionPool::start(cluster, PoolPlan { wait_queue_size: waiting, ..sized(1) })
}

/// An address that is reserved, and what reserves it.
fn unused_address() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// Has an operation be held.
async fn hold_one(
    pool: &Rc<ConnectionPool>,
) -> tokio::task::JoinHandle<Result<PooledConnection, TakeError>> {
    let taking = spawn_local(Rc::clone(pool).take(TakeOptions::default(), None));
    while pool.held.get() == 0 {
        tokio::task::yield_now().await;
    }
    taking
}

#[test]
fn an_operation_is_held_until_the_endpoint_is_back() {
    run(async {
        let (address, socket) = unused_address();
        let pool = pool_before(address, 10);
        let taking = hold_one(&pool).await;
        let _listener = socket.listen(16).unwrap();
        let taken = taking.await.unwrap().unwrap();
        assert!(!taken.held.is_zero() && taken.waited >= taken.held);
        assert_eq!(pool.held.get(), 0);
    });
}

#[test]
fn the_time_limit_of_a_held_operation_ends_its_wait() {
    run(async {
        let (address, _socket) = unused_address();
        let pool = pool_before(address, 10);
        let limit = Some(Duration::from_millis(30));
        let options = TakeOptions { time_limit: limit, ..TakeOptions::default() };
        let error = Rc::clone(&pool).take(options, None).await.unwrap_err();
        assert!(matches!(error, TakeError::TimeLimit { .. }), "{error}");
        assert_eq!(error.client_error().0, operation::RejectReason::TimedOut);
        assert_eq!(pool.held.get(), 0);
    });
}

#[test]
fn held_operations_are_bounded() {
    run(async {
        let (address, _socket) = unused_address();
        let pool = pool_before(address, 1);
        let _held = hold_one(&pool).await;
        let error = Rc::clone(&pool).take(TakeOptions::default(), None).await.unwrap_err();
        assert!(matches!(error, TakeError::QueueFull { .. }), "{error}");
    });
}

#[test]
fn what_can_not_be_held_fails_after_a_pause() {
    run(async {
        let (address, _socket) = unused_address();
        let pool = pool_before(address, 10);
        let options = TakeOptions { is_held_when_unreachable: false, ..TakeOptions::default() };
        let began = Instant::now();
        let error = pool.take(options, None).await.unwrap_err();
        assert!(matches!(error, TakeError::Connect(_)), "{error}");
        assert!(began.elapsed() >= Duration::from_millis(200), "clients may try again at once");
    });
}
