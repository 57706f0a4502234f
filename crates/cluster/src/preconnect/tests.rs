use super::*;
use crate::{Exclusion, plan::ClusterPlan, tests::plan_at};
use std::{
    io::{Read, Write},
    net::TcpListener,
};
use tokio::task::yield_now;
use tollgate_metrics::Metrics;

/// A service whose connections are made synchronously, so that time can be paused.
struct Service {
    listener: TcpListener,
    address: SocketAddr,
}

impl Service {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn accept(&self) -> std::net::TcpStream {
        self.listener.accept().unwrap().0
    }
}

fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn cluster(services: &[&Service], change: impl FnOnce(&mut ClusterPlan)) -> Arc<Cluster> {
    let mut plan = plan_at(&services.iter().map(|service| service.address).collect::<Vec<_>>());
    plan.spare_connections = 2;
    change(&mut plan);
    Cluster::new(Arc::new(plan), &Metrics::new())
}

/// Starts a pool for this cluster, and returns it with the number of dials.
fn hold(cluster: &Arc<Cluster>) -> (Rc<PreconnectPool>, Rc<Cell<usize>>) {
    let pool = PreconnectPool::new(cluster.clone());
    let dials = Rc::new(Cell::new(0));
    let counted = dials.clone();
    let dial = async move |address| {
        counted.set(counted.get() + 1);
        connected(address)
    };
    spawn_local(pool.clone().refill(Rc::new(dial)));
    (pool, dials)
}

async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

async fn pass(seconds: u64) {
    for _ in 0..seconds {
        time::advance(Duration::from_secs(1)).await;
        settle().await;
    }
}

/// Connects with a preconnected socket only.
async fn take(pool: &PreconnectPool) -> Option<UpstreamConnection> {
    let refuse = async |_| Err(io::ErrorKind::ConnectionRefused.into());
    pool.cluster.connect_with(None, |endpoint| pool.take(endpoint), refuse).await.ok()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_gets_a_ready_socket_and_another_is_dialed() {
    let service = Service::new();
    let cluster = cluster(&[&service], |_| {});
    let (pool, dials) = hold(&cluster);
    settle().await;
    assert_eq!((pool.ready(), dials.get()), (2, 2));
    // Idle ones are not in use: no limit counts them.
    assert_eq!(cluster.report()["circuit_breaker"]["connections"], 0);
    let upstream = take(&pool).await.unwrap();
    assert_eq!(pool.ready(), 1);
    assert_eq!(cluster.report()["circuit_breaker"]["connections"], 1);
    assert_eq!(upstream.lease.endpoint().active_connections(), 1);
    settle().await;
    assert_eq!((pool.ready(), dials.get()), (2, 3));
    // It works, and the pool returned the oldest.
    let mut accepted = service.accept();
    upstream.stream.tcp().try_write(b"ping").unwrap();
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    // Dialed once each, and counted once.
    assert_eq!(cluster.report()["endpoints"][0]["connects_ok"], 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_socket_closed_by_the_service_is_not_used() {
    let service = Service::new();
    let cluster = cluster(&[&service], |_| {});
    let (pool, _) = hold(&cluster);
    settle().await;
    drop(service.accept());
    let second = service.accept();
    let upstream = take(&pool).await.unwrap();
    assert_eq!(upstream.stream.local_addr().unwrap(), second.peer_addr().unwrap());
    assert_eq!(pool.ready(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn first_bytes_of_the_service_are_kept_for_the_client() {
    let service = Service::new();
    let cluster = cluster(&[&service], |plan| plan.spare_connections = 1);
    let (pool, _) = hold(&cluster);
    settle().await;
    service.accept().write_all(b"220 ready").unwrap();
    // The service closed after its greeting: the client sees the close too.
    let upstream = take(&pool).await.unwrap();
    upstream.stream.tcp().readable().await.unwrap();
    let mut bytes = [0; 9];
    assert_eq!(upstream.stream.tcp().try_read(&mut bytes).unwrap(), 9);
    assert_eq!(&bytes, b"220 ready");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_is_old_is_renewed() {
    let service = Service::new();
    let cluster = cluster(&[&service], |_| {});
    let (pool, dials) = hold(&cluster);
    settle().await;
    pass(29).await;
    assert_eq!((pool.ready(), dials.get()), (2, 2));
    pass(2).await;
    assert_eq!((pool.ready(), dials.get()), (2, 4));
    let mut old = [service.accept(), service.accept()];
    assert!(old.iter_mut().all(|stream| stream.read(&mut [0; 1]).unwrap() == 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn excluded_and_removed_endpoints_have_no_ready_sockets() {
    let (one, two) = (Service::new(), Service::new());
    let cluster = cluster(&[&one, &two], |_| {});
    let (pool, dials) = hold(&cluster);
    settle().await;
    assert_eq!((pool.ready(), dials.get()), (4, 4));
    cluster.endpoints()[0].exclude(Exclusion::Unhealthy);
    cluster.update_set(<[_]>::to_vec);
    pass(1).await;
    assert_eq!(pool.ready(), 2);
    cluster.update_set(|_| Vec::new());
    pass(1).await;
    assert_eq!((pool.ready(), dials.get()), (0, 4));
    assert_eq!(one.accept().read(&mut [0; 1]).unwrap(), 0, "its connections are closed");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_draining_worker_closes_all_and_stops_dialing() {
    let service = Service::new();
    let cluster = cluster(&[&service], |_| {});
    let (pool, dials) = hold(&cluster);
    settle().await;
    pool.close();
    pass(60).await;
    assert_eq!((pool.ready(), dials.get()), (0, 2));
    assert_eq!(service.accept().read(&mut [0; 1]).unwrap(), 0);
    assert!(take(&pool).await.is_none());
    // The task has ended and released the pool.
    assert_eq!(Rc::strong_count(&pool), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn connects_to_a_dead_endpoint_back_off_and_are_logged() {
    let cluster = cluster(&[&Service::new()], |plan| plan.spare_connections = 1);
    let pool = PreconnectPool::new(cluster.clone());
    let dials = Rc::new(RefCell::new(Vec::new()));
    let dialed_at = dials.clone();
    let begin = Instant::now();
    let dial = async move |_| {
        dialed_at.borrow_mut().push(begin.elapsed().as_secs());
        Err(io::ErrorKind::ConnectionRefused.into())
    };
    spawn_local(pool.clone().refill(Rc::new(dial)));
    settle().await;
    pass(65).await;
    assert_eq!(*dials.borrow(), [0, 1, 3, 7, 15, 31, 61]);
    assert_eq!(cluster.report()["endpoints"][0]["connects_failed"], 7);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn none_are_held_unless_configured() {
    let service = Service::new();
    let cluster = cluster(&[&service], |plan| plan.spare_connections = 0);
    let pool = PreconnectPool::start(cluster);
    pass(5).await;
    assert_eq!(pool.ready(), 0);
    assert_eq!(Rc::strong_count(&pool), 1);
    service.listener.set_nonblocking(true).unwrap();
    assert!(service.listener.accept().is_err());
}
