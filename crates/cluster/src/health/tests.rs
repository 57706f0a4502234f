use super::*;
use crate::InitialHealth;
use crate::{
    PickOptions,
    discovery::{HostAnswer, Lookup, Resolver},
    plan::{ClusterPlan, OutlierPlan},
    tests::{Recorded, closed, listener, plan, plan_at},
};
use bytes::BytesMut;
use operation::{Outcome, ProbeResult};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{LocalSet, spawn_local},
};
use tollgate_metrics::Metrics;

fn checks() -> HealthCheckPlan {
    HealthCheckPlan {
        timeout: Duration::from_secs(2),
        jitter: 0,
        healthy_threshold: 2,
        ..HealthCheckPlan::new(std::sync::Arc::new(crate::tests::Connects))
    }
}

/// Sends one byte and expects one: `+` is good.
struct Byte;

impl Probe for Byte {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"?");
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match answer {
            [] => ProbeResult::NeedMore,
            [b'+', ..] => ProbeResult::Healthy("well".to_owned()),
            _ => ProbeResult::Unhealthy("recovering".to_owned()),
        }
    }
}

fn byte() -> ProbeFactory {
    Arc::new(|| Box::new(Byte))
}

/// A service that is healthy or not, and counts the checks.
#[derive(Clone, Default)]
struct Service {
    ill: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Service {
    async fn serve(self, listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let service = self.clone();
            spawn_local(async move {
                let mut asked = [0];
                while stream.read_exact(&mut asked).await.is_ok() {
                    service.asked.fetch_add(1, SeqCst);
                    let answer = if service.ill.load(SeqCst) { b"-" } else { b"+" };
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    }
}

/// A cluster of a service that may be unhealthy, and another one that is always healthy.
async fn tried(
    change: impl FnOnce(&mut ClusterPlan),
    recorder: &Metrics,
    test: impl AsyncFnOnce(Arc<Cluster>, Service),
) {
    let ((first, a), (second, b)) = (listener().await, listener().await);
    let mut plan = ClusterPlan { health_check: Some(checks()), ..plan_at(&[a, b]) };
    change(&mut plan);
    let health_check = plan.health_check.clone().unwrap();
    let cluster = Cluster::new(Arc::new(plan), recorder);
    LocalSet::new()
        .run_until(async {
            let service = Service::default();
            spawn_local(service.clone().serve(first));
            spawn_local(Service::default().serve(second));
            let checker = spawn_local(Arc::clone(&cluster).check_by(health_check, byte()));
            test(cluster, service).await;
            checker.abort();
        })
        .await;
}

/// Advances the time in small steps, so that sockets make progress in between.
async fn seconds(n: u64) {
    for _ in 0..n * 20 {
        time::sleep(Duration::from_millis(50)).await;
        // Real sockets: written bytes are there at once, but the runtime has to poll.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn checks_exclude_and_readmit_an_endpoint() {
    let recorder = Recorded::default();
    tried(
        |_| {},
        &recorder,
        async |cluster, service| {
            let endpoint = cluster.endpoints()[0].clone();
            seconds(6).await;
            assert!(endpoint.usable());
            assert_eq!(endpoint.last_check.load().as_ref().unwrap().message, "well");
            service.ill.store(true, SeqCst);
            // An interval, and two edge intervals.
            seconds(8).await;
            assert!(endpoint.is_excluded(Exclusion::Unhealthy));
            assert_eq!(endpoint.last_check.load().as_ref().unwrap().message, "recovering");
            let name = endpoint.name().clone();
            assert_eq!(recorder.gauge(&format!("tollgate_endpoint_up(orders, {name})")), 0.0);
            assert!(
                recorder.count(&format!("tollgate_health_checks_total(orders, {name}, failed)"))
                    >= 3
            );
            for _ in 0..10 {
                assert!(!Arc::ptr_eq(&cluster.pick(PickOptions::default()).unwrap(), &endpoint));
            }
            assert_eq!(endpoint.close_request(), CloseRequest::None);
            service.ill.store(false, SeqCst);
            seconds(7).await;
            assert!(endpoint.usable());
            assert_eq!(recorder.gauge(&format!("tollgate_endpoint_up(orders, {name})")), 1.0);
            assert!(
                (0..10).any(|_| Arc::ptr_eq(
                    &cluster.pick(PickOptions::default()).unwrap(),
                    &endpoint
                ))
            );
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_first_round_comes_within_a_second_and_decides() {
    let initially_out = |plan: &mut ClusterPlan| {
        plan.health_check = Some(HealthCheckPlan { initial: InitialHealth::Unhealthy, ..checks() });
    };
    tried(initially_out, &Metrics::new(), async |cluster, service| {
        assert!(cluster.endpoints().iter().all(|e| e.is_excluded(Exclusion::Unhealthy)));
        seconds(1).await;
        assert!(cluster.endpoints().iter().all(|e| e.usable()));
        // Once, or twice if the second check, somewhere within an interval, came early.
        assert!((1..=2).contains(&service.asked.load(SeqCst)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_configured_clusters_close_unhealthy_connections() {
    let closes = |plan: &mut ClusterPlan| {
        let close_connections_on_unhealthy = true;
        plan.health_check = Some(HealthCheckPlan { close_connections_on_unhealthy, ..checks() });
    };
    tried(closes, &Metrics::new(), async |cluster, service| {
        let notifications = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&notifications);
        cluster.on_close_request(move || {
            counted.fetch_add(1, SeqCst);
        });
        let endpoint = cluster.endpoints()[0].clone();
        seconds(1).await;
        service.ill.store(true, SeqCst);
        seconds(10).await;
        assert_eq!(endpoint.close_request(), CloseRequest::Unhealthy);
        assert_eq!(notifications.load(SeqCst), 1);
        service.ill.store(false, SeqCst);
        seconds(10).await;
        assert_eq!(endpoint.close_request(), CloseRequest::None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_checks_succeed_again_is_no_longer_ejected() {
    let plan = |plan: &mut ClusterPlan| {
        let base_ejection_time = Duration::from_secs(280);
        plan.outlier_detection = Some(OutlierPlan { base_ejection_time, ..OutlierPlan::default() });
    };
    tried(plan, &Metrics::new(), async |cluster, service| {
        let endpoint = cluster.endpoints()[0].clone();
        seconds(1).await;
        for _ in 0..5 {
            cluster.observe(&endpoint, Outcome::Lost, Duration::ZERO);
        }
        // Successful checks of an endpoint that never failed change nothing.
        seconds(20).await;
        assert!(
            endpoint.is_excluded(Exclusion::Ejected) && !endpoint.is_excluded(Exclusion::Unhealthy)
        );
        service.ill.store(true, SeqCst);
        seconds(10).await;
        assert!(endpoint.is_excluded(Exclusion::Unhealthy));
        service.ill.store(false, SeqCst);
        seconds(10).await;
        assert!(endpoint.usable());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_probe_an_endpoint_is_checked_by_connecting() {
    let (_socket, shut) = closed();
    let (_listener, open) = listener().await;
    let plan = ClusterPlan { health_check: Some(checks()), ..plan_at(&[shut, open]) };
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    LocalSet::new()
        .run_until(async {
            let checker = spawn_local(Arc::clone(&cluster).check_health());
            seconds(1).await;
            let endpoints = cluster.endpoints();
            assert!(endpoints[0].is_excluded(Exclusion::Unhealthy) && endpoints[1].usable());
            let words = endpoints[0].last_check.load().as_ref().unwrap().message.clone();
            assert_eq!(words, "connection refused");
            checker.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn at_most_a_hundred_checks_run_at_a_time_and_they_are_spread() {
    // Each address of the loopback network is an endpoint of its own.
    let silent = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let addresses: Vec<SocketAddr> = (1..=250u8).map(|i| ([127, 0, 0, i], port).into()).collect();
    let plan = ClusterPlan { health_check: Some(checks()), ..plan_at(&addresses) };
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    /// Counts its live instances. Its connections get no answer.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    impl Probe for Counted {
        fn write_request(&mut self, out: &mut BytesMut) {
            out.extend_from_slice(b"?");
        }
        fn evaluate(&mut self, _: &[u8]) -> ProbeResult {
            ProbeResult::NeedMore
        }
    }
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let begin: ProbeFactory = Arc::new(move || {
        highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        Box::new(Counted(Arc::clone(&counted)))
    });
    LocalSet::new()
        .run_until(async {
            let checker = spawn_local(Arc::clone(&cluster).check_by(checks(), begin));
            seconds(8).await;
            checker.abort();
        })
        .await;
    assert_eq!(most.load(SeqCst), MAX_CONCURRENT);
    // None answered, and all were checked: three rounds of a hundred, two seconds each.
    assert!(cluster.endpoints().iter().all(|e| e.is_excluded(Exclusion::Unhealthy)));
    drop(silent);
}

/// A resolver that returns the given addresses.
#[derive(Clone, Default)]
struct FixedAnswer(Arc<Mutex<Vec<IpAddr>>>);

impl Resolver for FixedAnswer {
    fn resolve<'a>(&'a self, _: &'a str) -> Lookup<'a> {
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(HostAnswer { addresses, ttl: Duration::from_secs(60) }) })
    }
}

#[tokio::test(start_paused = true)]
async fn checks_follow_changes_of_the_endpoints() {
    let service = Service::default();
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let (names, recorder) = (FixedAnswer::default(), Recorded::default());
    let plan = ClusterPlan { health_check: Some(checks()), ..plan(&[("db", port)]) };
    let cluster = Cluster::with_resolver(Arc::new(plan), &recorder, Box::new(names.clone()));
    let up = || recorder.gauge(&format!("tollgate_endpoint_up(orders, db:{port})"));
    LocalSet::new()
        .run_until(async {
            spawn_local(service.clone().serve(everywhere));
            let checker = spawn_local(Arc::clone(&cluster).check_by(checks(), byte()));
            seconds(1).await;
            let become_of = async |last: &[u8]| {
                *names.0.lock().unwrap() =
                    last.iter().map(|i| IpAddr::from([127, 0, 0, *i])).collect();
                cluster.resolve().await;
                seconds(1).await;
            };
            become_of(&[1, 2, 3]).await;
            assert!(cluster.endpoints().iter().all(|e| e.last_check.load().is_some()));
            assert_eq!(up(), 3.0);
            become_of(&[2, 4]).await;
            assert!(cluster.endpoints().iter().all(|e| e.last_check.load().is_some()));
            assert_eq!(up(), 2.0);
            let before = service.asked.load(SeqCst);
            seconds(10).await;
            // Two endpoints, two rounds; removed ones are not checked.
            let asked = service.asked.load(SeqCst) - before;
            assert!((3..=6).contains(&asked), "{asked}");
            become_of(&[]).await;
            checker.abort();
        })
        .await;
}
