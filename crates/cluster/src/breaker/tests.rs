use super::*;
use crate::{
    ConnectError, UpstreamConnection,
    tests::{Recorded, loopback, plan_at},
};
use operation::Close;
use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
};
use tokio::task::{spawn_local, yield_now};
use tollgate_metrics::Metrics;

/// A cluster of `n` endpoints without servers, with these limits.
fn cluster(n: u8, recorder: &Metrics, change: impl FnOnce(&mut BreakerPlan)) -> Arc<Cluster> {
    let addresses: Vec<SocketAddr> = (1..=n).map(|i| ([10, 0, 0, i], 5000).into()).collect();
    let mut plan = plan_at(&addresses);
    change(&mut plan.circuit_breaker);
    Cluster::new(Arc::new(plan), recorder)
}

async fn connect(cluster: &Arc<Cluster>) -> Result<UpstreamConnection, ConnectError> {
    cluster.connect_with_dial(None, async |_| Ok(loopback())).await
}

/// The breaker's counts: connections, waiting clients, connections being opened, retries.
fn counts(cluster: &Cluster) -> [usize; 4] {
    let Breaker { connections, pending, opening, retrying, .. } = &cluster.breaker;
    [connections, pending, opening, retrying].map(|count| count.load(SeqCst))
}

/// Runs every other task until it waits.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn waiting_clients_are_served_in_order_as_connections_end() {
    let recorded = Recorded::default();
    let cluster = cluster(2, &recorded, |plan| plan.max_connections = Some(2));
    let mut open = vec![connect(&cluster).await.unwrap(), connect(&cluster).await.unwrap()];
    let served = Rc::new(RefCell::new(Vec::new()));
    for number in 0..5 {
        let (cluster, served) = (cluster.clone(), served.clone());
        spawn_local(async move {
            let upstream = connect(&cluster).await.unwrap();
            served.borrow_mut().push((number, upstream));
        });
        settle().await;
    }
    let order = || served.borrow().iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert!(order().is_empty());
    assert_eq!(counts(&cluster), [2, 5, 5, 0]);
    assert_eq!(recorded.gauge("tollgate_connections_pending(orders)"), 5.0);
    open.pop();
    settle().await;
    assert_eq!(order(), [0]);
    // Two connections that end at once serve two clients.
    open.pop();
    drop(served.borrow_mut().remove(0));
    settle().await;
    assert_eq!(order(), [1, 2]);
    // A new client finds others waiting before it.
    let mut late = pin!(connect(&cluster));
    let polled = poll_fn(|task| Poll::Ready(late.as_mut().poll(task).is_pending())).await;
    assert!(polled);
    served.borrow_mut().clear();
    settle().await;
    assert_eq!(order(), [3, 4]);
    served.borrow_mut().clear();
    drop(late.await.unwrap());
    assert_eq!(counts(&cluster), [0; 4]);
    assert_eq!(recorded.gauge("tollgate_connections_pending(orders)"), 0.0);
    assert_eq!(recorded.count("tollgate_breaker_refusals_total(orders, max_connections)"), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rejection_names_the_full_limit_and_the_keys_to_change() {
    let recorded = Recorded::default();
    let cluster = cluster(1, &recorded, |plan| {
        plan.max_connections = Some(1);
        plan.max_pending = 1;
    });
    let open = connect(&cluster).await.unwrap();
    let begin = Instant::now();
    let (late, crowded) = tokio::join!(connect(&cluster), connect(&cluster));
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
    let (late, crowded) = (late.unwrap_err(), crowded.unwrap_err());
    assert_eq!(
        late.to_string(),
        "cluster `orders` is at its limit of 1 connections (circuit_breaker.max_connections), \
         and none was free within 2s (pending_timeout)"
    );
    assert_eq!(
        crowded.to_string(),
        "cluster `orders` is at its limit of 1 connections (circuit_breaker.max_connections), \
         and 1 client waits already (max_pending)"
    );
    assert_eq!(
        (late.close_reason(), crowded.close_reason()),
        (Close::Overloaded, Close::Overloaded)
    );
    assert_eq!(recorded.count("tollgate_breaker_refusals_total(orders, max_connections)"), 2);
    drop(open);
    assert_eq!(counts(&cluster), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_clients_are_rejected_at_once() {
    let cluster = cluster(1, &Metrics::new(), |plan| {
        plan.max_connections = Some(1);
        plan.max_pending = 0;
    });
    let _open = connect(&cluster).await.unwrap();
    let begin = Instant::now();
    let error = connect(&cluster).await.unwrap_err().to_string();
    assert!(error.ends_with("and no client may wait (max_pending)"), "{error}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn clients_wait_only_when_all_endpoints_are_full() {
    let cluster = cluster(3, &Metrics::new(), |plan| plan.max_connections_per_endpoint = Some(2));
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(connect(&cluster).await.unwrap());
    }
    assert!(cluster.endpoints().iter().all(|e| e.active_connections() == 2));
    let error = connect(&cluster).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cluster `orders` is at its limit of 2 connections to each endpoint \
         (circuit_breaker.max_connections_per_endpoint), \
         and none was free within 2s (pending_timeout)"
    );
    let waiting = spawn_local({
        let cluster = cluster.clone();
        async move { connect(&cluster).await }
    });
    settle().await;
    let freed = open.remove(3).lease.endpoint().address();
    let served = waiting.await.unwrap().unwrap();
    assert_eq!(served.lease.endpoint().address(), freed);
    drop((open, served));
    assert_eq!(counts(&cluster), [0; 4]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_new_endpoint_serves_waiting_clients() {
    let cluster = cluster(2, &Metrics::new(), |plan| plan.max_connections_per_endpoint = Some(1));
    let kept = cluster.set.load().members.clone();
    cluster.update_set(|members| members[..1].to_vec());
    let _open = connect(&cluster).await.unwrap();
    let waiting = spawn_local({
        let cluster = cluster.clone();
        async move { connect(&cluster).await.unwrap() }
    });
    settle().await;
    cluster.update_set(|_| kept.clone());
    let served = waiting.await.unwrap();
    assert_eq!(served.lease.endpoint().address(), kept[1].endpoint.address());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_leaves_at_any_point_leaks_nothing() {
    let cluster = cluster(2, &Metrics::new(), |plan| {
        plan.max_connections = Some(1);
        plan.pending_timeout = Duration::from_secs(3600);
    });
    let brief = Duration::from_millis(10);
    // Dropped while it dials.
    let dialing = cluster.connect_with_dial(None, async |_| pending().await);
    assert!(time::timeout(brief, dialing).await.is_err());
    assert_eq!(counts(&cluster), [0; 4]);
    // Dropped while it pauses or dials again.
    for _ in 0..20 {
        let failing = cluster.connect_with_dial(None, async |_| Err(io::ErrorKind::Other.into()));
        let _ = time::timeout(brief, failing).await;
        assert_eq!(counts(&cluster), [0; 4]);
    }
    // Dropped while it waits, as the first and as another one, also after it was woken.
    let open = connect(&cluster).await.unwrap();
    {
        let (mut first, mut second) = (Box::pin(connect(&cluster)), Box::pin(connect(&cluster)));
        let mut third = pin!(connect(&cluster));
        poll_fn(|task| {
            assert!(first.as_mut().poll(task).is_pending());
            assert!(second.as_mut().poll(task).is_pending());
            assert!(third.as_mut().poll(task).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(counts(&cluster)[1], 3);
        drop(second);
        drop(open);
        drop(first);
        drop(third.await.unwrap());
    }
    assert_eq!(counts(&cluster), [0; 4]);
    assert!(cluster.endpoints().iter().all(|e| e.active_connections() == 0));
    drop(connect(&cluster).await.unwrap());
}

#[test]
fn on_several_threads_limits_hold_and_all_are_served() {
    const THREADS: usize = 4;
    const TURNS: usize = 100;
    for per_endpoint in [None, Some(1)] {
        let cluster = cluster(2, &Metrics::new(), |plan| {
            plan.max_connections = Some(3);
            plan.max_connections_per_endpoint = per_endpoint;
            plan.pending_timeout = Duration::from_secs(600);
        });
        let most = if per_endpoint.is_some() { 2 } else { 3 };
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let client = async {
                        for _ in 0..TURNS {
                            let upstream = connect(&cluster).await.unwrap();
                            assert!(open.fetch_add(1, SeqCst) < most);
                            yield_now().await;
                            open.fetch_sub(1, SeqCst);
                            drop(upstream);
                        }
                    };
                    let other = async {
                        // Some clients give up while they wait.
                        for _ in 0..TURNS {
                            tokio::select! {
                                biased;
                                _ = connect(&cluster) => {}
                                () = yield_now() => {}
                            }
                        }
                    };
                    runtime.block_on(async { tokio::join!(client, other) });
                });
            }
        });
        assert_eq!(counts(&cluster), [0; 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_holds_and_its_exhaustion_is_explained() {
    let recorded = Recorded::default();
    let cluster = cluster(2, &recorded, |plan| {
        plan.retry_percent = 20;
        plan.min_retries = 1;
    });
    let dials = std::cell::Cell::new(0);
    let fail = async || {
        let failing = cluster.connect_with_dial(None, async |_| {
            dials.set(dials.get() + 1);
            time::sleep(Duration::from_millis(1)).await;
            Err(io::ErrorKind::ConnectionRefused.into())
        });
        failing.await.unwrap_err().to_string()
    };
    // Ten clients at a time: a fifth of them may retry.
    let errors = futures_util::future::join_all((0..10).map(|_| fail())).await;
    let stopped = errors.iter().filter(|error| error.contains("circuit_breaker.retry_percent"));
    assert_eq!(stopped.count(), 8, "{errors:?}");
    assert_eq!(dials.get(), 10 + 2 * 2);
    assert_eq!(recorded.count("tollgate_breaker_refusals_total(orders, retry_percent)"), 8);
    // A single client may always retry.
    dials.set(0);
    assert!(!fail().await.contains("circuit_breaker"));
    assert_eq!(dials.get(), 3);
    assert_eq!(counts(&cluster), [0; 4]);
}

#[test]
fn threads_together_admit_operations_up_to_the_limit() {
    let recorded = Recorded::default();
    let cluster = cluster(1, &recorded, |plan| plan.max_operations = Some(5));
    let open = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut permits = Vec::new();
                for round in 0..10_000 {
                    if let Some(permit) = cluster.admit_operation() {
                        assert!(open.fetch_add(1, SeqCst) < 5);
                        permits.push(permit);
                    }
                    if round % 3 == 0 {
                        open.fetch_sub(permits.len(), SeqCst);
                        permits.clear();
                    }
                }
                open.fetch_sub(permits.len(), SeqCst);
            });
        }
    });
    let permits: Vec<_> = (0..5).map(|_| cluster.admit_operation().unwrap()).collect();
    let before = recorded.count("tollgate_breaker_refusals_total(orders, max_operations)");
    assert!(cluster.admit_operation().is_none());
    let refusals = recorded.count("tollgate_breaker_refusals_total(orders, max_operations)");
    assert_eq!(refusals, before + 1);
    assert_eq!(
        cluster.overloaded(),
        "cluster `orders` is at its limit of 5 operations (circuit_breaker.max_operations)"
    );
    assert_eq!(cluster.report()["circuit_breaker"]["operations"], 5);
    drop(permits);
    assert_eq!(cluster.report()["circuit_breaker"]["operations"], 0);
}

#[test]
fn without_a_limit_operations_are_not_even_counted() {
    let cluster = cluster(1, &Metrics::new(), |_| {});
    let _permits: Vec<_> = (0..1_000).map(|_| cluster.admit_operation().unwrap()).collect();
    assert_eq!(cluster.breaker.operations.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_is_logged_once_a_minute() {
    let cluster = cluster(1, &Metrics::new(), |_| {});
    let breaker = &cluster.breaker;
    let mut logged = 0;
    for _ in 0..130 {
        logged += usize::from(breaker.log_throttles[BreakerLimit::Connections as usize].is_due());
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(logged, 3);
    breaker.log_limit(BreakerLimit::Operations);
    assert!(
        !breaker.log_throttles[BreakerLimit::Operations as usize].is_due(),
        "it was logged just now"
    );
    assert!(breaker.log_throttles[BreakerLimit::Retries as usize].is_due(), "each limit is logged");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_queued_client_sees_the_configured_limit() {
    let recorded = Recorded::default();
    let cluster = cluster(1, &recorded, |plan| {
        plan.max_connections_per_endpoint = Some(1);
        plan.max_pending = 1;
    });
    let _open = connect(&cluster).await.unwrap();
    let _waiting = spawn_local({
        let cluster = cluster.clone();
        async move { connect(&cluster).await.is_ok() }
    });
    settle().await;
    let refused = connect(&cluster).await.unwrap_err();
    let limit = "at its limit of 1 connections to each endpoint";
    assert!(refused.to_string().contains(limit), "{refused}");
    let refusals = "tollgate_breaker_refusals_total(orders, max_connections_per_endpoint)";
    assert_eq!(recorded.count(refusals), 1);
}
