use super::*;
use crate::{
    ClusterPlan, ConnectionPool, EndpointPlan, PoolPlan, TakeError, TakeOptions,
    tests::{closed, listener, plan_at},
};
use futures_util::FutureExt;
use operation::{Handshake, Identity};
use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Mutex};
use tokio::runtime::LocalRuntime;
use tollgate_metrics::Metrics;
use values::Target;

/// What clients have open, as a test says.
#[derive(Debug, Default)]
struct Clients(Mutex<OpenStateCounts>);

impl HandshakeConfig for Clients {
    fn begin(&self, _: &Identity) -> Option<Box<dyn Handshake>> {
        None
    }

    fn open_states(&self) -> OpenStateCounts {
        *self.0.lock().unwrap()
    }
}

const PATIENT: PauseOptions =
    PauseOptions { drain_timeout: Duration::from_secs(20), resume_after: Duration::from_secs(600) };
const HASTY: PauseOptions = PauseOptions { drain_timeout: Duration::from_millis(30), ..PATIENT };

fn run(test: impl Future<Output = ()>) {
    LocalRuntime::new().unwrap().block_on(test);
}

fn cluster_at(address: SocketAddr, change: impl FnOnce(&mut ClusterPlan)) -> Arc<Cluster> {
    let mut plan = plan_at(&[address]);
    change(&mut plan);
    Cluster::new(Arc::new(plan), &Metrics::new())
}

fn pool_of(cluster: &Arc<Cluster>, wait: Duration) -> Rc<ConnectionPool> {
    let plan = PoolPlan { wait_queue_timeout: wait, wait_queue_size: 1, ..PoolPlan::default() };
    ConnectionPool::start(Arc::clone(cluster), plan)
}

fn begins() -> TakeOptions {
    TakeOptions::default()
}

fn continues() -> TakeOptions {
    TakeOptions { continues_state: true, ..TakeOptions::default() }
}

fn at(address: SocketAddr) -> Vec<EndpointPlan> {
    vec![EndpointPlan::new(Target::Host(address.ip().to_string(), address.port()))]
}

#[test]
fn new_operations_wait_until_the_cluster_resumes() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let pool = pool_of(&cluster, Duration::from_secs(20));
        let report = cluster.pause(PATIENT).await;
        assert!(report.drained, "{report:?}");
        let mut waiting = pin!(Rc::clone(&pool).take(begins(), None));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(cluster.report()["pause"]["waiting"], 1);
        cluster.resume().unwrap();
        waiting.await.unwrap();
        assert!(cluster.report()["pause"].is_null());
    });
}

#[test]
fn a_cluster_is_drained_when_its_last_operation_ends() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let pool = pool_of(&cluster, Duration::from_secs(20));
        let taken = Rc::clone(&pool).take(begins(), None).await.unwrap();
        let pausing = cluster.pause(PATIENT);
        let ending = async {
            while !pool.try_take(&begins()).is_err_and(|picked| picked.is_none()) {
                tokio::task::yield_now().await;
            }
            taken.give_back();
        };
        let (report, ()) = tokio::join!(pausing, ending);
        assert!(report.drained, "{report:?}");
        assert_eq!(report.left, PausedWork::default());
    });
}

#[test]
fn what_is_open_goes_on_until_it_is_cut() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let clients = Arc::new(Clients::default());
        std::mem::forget(cluster.add_listener(Arc::clone(&clients) as Arc<dyn HandshakeConfig>));
        let pool = pool_of(&cluster, Duration::from_secs(20));
        *clients.0.lock().unwrap() = OpenStateCounts { transactions: 1, cursors: 2, tails: 3 };
        let pausing = cluster.pause(HASTY);
        let going_on = async {
            while !pool.try_take(&begins()).is_err_and(|picked| picked.is_none()) {
                tokio::task::yield_now().await;
            }
            Rc::clone(&pool).take(continues(), None).await.unwrap().give_back();
        };
        let (report, ()) = tokio::join!(pausing, going_on);
        assert!(report.drained, "{report:?}");
        let left = PausedWork { transactions: 1, cursors: 2, change_streams: 3, ..report.left };
        assert_eq!((report.left, report.left.operations), (left, 0));
        assert!(pool.take(continues(), None).now_or_never().is_none(), "it was cut");
    });
}

#[test]
fn change_streams_are_not_waited_for() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let clients = Arc::new(Clients::default());
        std::mem::forget(cluster.add_listener(Arc::clone(&clients) as Arc<dyn HandshakeConfig>));
        *clients.0.lock().unwrap() = OpenStateCounts { tails: 3, ..OpenStateCounts::default() };
        let report = cluster.pause(PATIENT).await;
        assert!(report.drained && report.took < PATIENT.drain_timeout / 2, "{report:?}");
        assert_eq!(report.left.change_streams, 3);
    });
}

#[test]
fn an_operation_does_not_wait_for_ever() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let pool = pool_of(&cluster, Duration::from_millis(20));
        cluster.pause(PATIENT).await;
        let mut waiting = pin!(Rc::clone(&pool).take(begins(), None));
        assert!(waiting.as_mut().now_or_never().is_none());
        let full = Rc::clone(&pool).take(begins(), None).await.unwrap_err();
        assert!(matches!(full, TakeError::PausedQueueFull { waiting: 1, .. }), "{full}");
        let error = waiting.await.unwrap_err().to_string();
        assert!(
            error.starts_with("`orders` is paused by an operator: the operation has waited 0.0 s")
        );
        assert!(error.ends_with("(pool.wait_queue_timeout)"), "{error}");
        assert_eq!(cluster.report()["pause"]["waiting"], 0);
    });
}

#[test]
fn a_connection_of_a_client_s_own_waits_as_well() {
    run(async {
        let (_service, address) = listener().await;
        let hasty = |plan: &mut ClusterPlan| {
            plan.circuit_breaker.pending_timeout = Duration::from_millis(20);
        };
        let cluster = cluster_at(address, hasty);
        let mut before = cluster.connect(None).await.unwrap();
        before.lease.set_own();
        let report = cluster.pause(HASTY).await;
        assert!(!report.drained, "the connection goes on");
        assert_eq!(report.left, PausedWork { own_connections: 1, ..PausedWork::default() });
        let error = cluster.connect(None).await.unwrap_err().to_string();
        let words = "`orders` is paused by an operator, and the pause did not end within 20ms \
                     (pending_timeout)";
        assert_eq!(error, words);
        cluster.resume().unwrap();
        cluster.connect(None).await.unwrap();
        drop(before);
        assert!(cluster.pause(HASTY).await.drained);
    });
}

#[test]
fn a_switch_leads_to_the_other_endpoint() {
    run(async {
        let ((_old, old), (_new, new)) = (listener().await, listener().await);
        let cluster = cluster_at(old, |_| {});
        let pool = pool_of(&cluster, Duration::from_secs(20));
        Rc::clone(&pool).take(begins(), None).await.unwrap().give_back();
        cluster.pause(PATIENT).await;
        let waiting = pin!(Rc::clone(&pool).take(begins(), None));
        let target = cluster.target_at(at(new));
        let report = cluster.switch(target).await.unwrap();
        assert_eq!(report.endpoints, [new.to_string()]);
        assert_eq!(cluster.report()["switched_to"], new.to_string());
        cluster.resume().unwrap();
        let taken = waiting.await.unwrap();
        assert_eq!(taken.socket.lease.endpoint().address(), new);
        let reports = pool.report();
        assert!(reports.iter().all(|(at, report)| at.address() == new || report.idle == 0));
        // Back to what the config says.
        cluster.pause(HASTY).await;
        let target = cluster.target_of(&cluster).unwrap();
        assert_eq!(cluster.switch(target).await.unwrap().endpoints, [old.to_string()]);
    });
}

#[test]
fn an_endpoint_that_is_dead_changes_nothing() {
    run(async {
        let ((_service, address), (_socket, dead)) = (listener().await, closed());
        let cluster = cluster_at(address, |_| {});
        cluster.pause(PATIENT).await;
        let error = cluster.switch(cluster.target_at(at(dead))).await.unwrap_err().to_string();
        assert_eq!(error, format!("nothing has changed: {dead}: connection refused"));
        assert!(cluster.report()["switched_to"].is_null());
        cluster.resume().unwrap();
        let upstream = cluster.connect(None).await.unwrap();
        assert_eq!(upstream.lease.endpoint().address(), address);
    });
}

#[test]
fn only_a_paused_cluster_is_switched() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        let error = cluster.switch(cluster.target_at(at(address))).await.unwrap_err().to_string();
        assert!(error.starts_with("cluster `orders` is not paused"), "{error}");
        assert_eq!(cluster.resume().unwrap_err().to_string(), error);
    });
}

#[test]
fn a_second_pause_begins_the_time_again() {
    run(async {
        let (_service, address) = listener().await;
        let cluster = cluster_at(address, |_| {});
        assert!(cluster.pause(HASTY).await.drained);
        let longer = PauseOptions { resume_after: Duration::from_secs(3000), ..PATIENT };
        assert!(cluster.pause(longer).await.drained);
        let left = cluster.report()["pause"]["resumes_in_seconds"].as_f64().unwrap();
        assert!(left > 2900.0, "{left}");
        cluster.resume().unwrap();
        assert!(cluster.resume().is_err());
    });
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_pause_ends_by_itself() {
    let cluster = cluster_at(([127, 0, 0, 1], 1).into(), |_| {});
    let mut ending = pin!(Arc::clone(&cluster).end_forgotten_pauses());
    let report = cluster.pause(PATIENT).await;
    assert!(report.drained, "{report:?}");
    tokio::select! {
        () = &mut ending => {}
        () = time::sleep(PATIENT.resume_after - Duration::from_secs(1)) => {}
    }
    assert!(!cluster.report()["pause"].is_null());
    tokio::select! {
        () = &mut ending => {}
        () = time::sleep(Duration::from_secs(2)) => {}
    }
    assert!(cluster.report()["pause"].is_null());
    assert!(cluster.resume().is_err());
}
