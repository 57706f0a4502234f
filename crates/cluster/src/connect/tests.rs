use super::*;
use crate::plan::{ClusterPlan, LbPolicy, OnPanic, OutlierPlan};
use crate::{
    Exclusion, HostAnswer, Lookup, Resolver,
    tests::{Recorded, closed, listener, loopback, plan, plan_at},
};
use operation::Close;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::{Future, pending},
    pin::pin,
    task,
};
use tollgate_metrics::Metrics;

/// A cluster of endpoints without servers, dialed by a closure.
fn on_paper(n: u16, change: impl FnOnce(&mut ClusterPlan)) -> Arc<Cluster> {
    let addresses: Vec<SocketAddr> = (1..=n).map(|i| ([10, 0, 0, i as u8], 5000).into()).collect();
    let mut plan = plan_at(&addresses);
    change(&mut plan);
    Cluster::new(Arc::new(plan), &Metrics::new())
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

#[tokio::test]
async fn a_refused_attempt_goes_to_a_different_endpoint() {
    let (_socket, shut) = closed();
    let (_listener, open) = listener().await;
    let recorded = Recorded::default();
    let cluster = Cluster::new(Arc::new(plan_at(&[shut, open])), &recorded);
    for _ in 0..10 {
        let upstream = cluster.connect(None).await.unwrap();
        assert_eq!(upstream.lease.endpoint().address(), open);
        assert_eq!(upstream.stream.tcp().peer_addr().unwrap(), open);
    }
    let connects = |address, result| {
        recorded.count(&format!("tollgate_upstream_connect_total(orders, {address}, {result})"))
    };
    assert_eq!(connects(open, "ok"), 10);
    assert_eq!(connects(shut, "refused"), 5);
    assert_eq!(connects(shut, "ok") + connects(open, "refused") + connects(shut, "error"), 0);
}

#[tokio::test]
async fn every_endpoint_is_tried_before_any_is_tried_again() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
        let cluster = on_paper(4, |plan| {
            plan.lb_policy = policy;
            plan.connect_attempts = 4;
        });
        let dialed = RefCell::new(Vec::new());
        let result = cluster.connect_with_dial(None, async |address| {
            dialed.borrow_mut().push(address);
            Err(refused())
        });
        assert!(
            matches!(result.await, Err(ConnectError::Failed { attempts, .. }) if attempts.len() == 4)
        );
        let dialed = dialed.into_inner();
        assert_eq!(dialed.len(), 4);
        assert_eq!(dialed.iter().collect::<BTreeSet<_>>().len(), 4, "{policy:?}: {dialed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_endpoint_is_tried_again_after_a_pause() {
    let cluster = on_paper(1, |plan| plan.connect_attempts = 3);
    let (attempts, mut longest) = (Cell::new(0), Duration::ZERO);
    for _ in 0..100 {
        attempts.set(0);
        let begin = time::Instant::now();
        let upstream = cluster.connect_with_dial(None, async |_| {
            attempts.set(attempts.get() + 1);
            if attempts.get() < 3 { Err(refused()) } else { Ok(loopback()) }
        });
        upstream.await.unwrap();
        assert_eq!(attempts.get(), 3);
        longest = longest.max(begin.elapsed());
    }
    // Tokio's clock counts milliseconds, and rounds up.
    let limit = MIN_PAUSE + MIN_PAUSE * 2;
    assert!(longest > limit / 3 && longest <= limit + Duration::from_millis(2), "{longest:?}");
}

#[tokio::test]
async fn after_a_connect_timeout_the_next_endpoint_is_tried() {
    let (_listener, open) = listener().await;
    let mut plan = plan_at(&["10.0.0.1:5000".parse().unwrap(), open]);
    plan.connect_timeout = Duration::from_millis(200);
    let recorded = Recorded::default();
    let cluster = Cluster::new(Arc::new(plan), &recorded);
    for _ in 0..2 {
        let upstream = cluster.connect_with_dial(None, async |address| match address == open {
            true => dial(&ClusterPlan::new("orders", Vec::new()), address).await,
            false => pending().await,
        });
        assert_eq!(upstream.await.unwrap().lease.endpoint().address(), open);
    }
    let timeouts = "tollgate_upstream_connect_total(orders, 10.0.0.1:5000, timeout)";
    assert_eq!(recorded.count(timeouts), 1);
}

#[tokio::test]
async fn silence_everywhere_is_a_timeout() {
    let cluster = on_paper(2, |plan| {
        plan.connect_timeout = Duration::from_millis(1);
        plan.connect_attempts = 2;
    });
    let error = cluster.connect_with_dial(None, async |_| pending().await).await.unwrap_err();
    assert_eq!(error.close_reason(), Close::ConnectTimeout);
    let text = error.to_string();
    assert!(
        text.starts_with("no endpoint of cluster `orders` accepted a connection in time: 10.0.0."),
        "{text}"
    );
    assert!(text.contains("10.0.0.1:5000: timed out") && text.contains("10.0.0.2:5000: timed out"));
}

#[tokio::test]
async fn an_error_lists_the_attempts() {
    let (_socket, shut) = closed();
    let cluster = Cluster::new(Arc::new(plan_at(&[shut])), &Metrics::new());
    let error = cluster.connect(None).await.unwrap_err();
    assert_eq!(error.close_reason(), Close::ConnectFailed);
    // Three attempts at one endpoint are reported once.
    let expected = format!(
        "no endpoint of cluster `orders` accepted a connection: {shut}: connection refused"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(cluster.report()["endpoints"][0]["connects_failed"], 3);
}

#[tokio::test]
async fn one_refusal_among_timeouts_is_no_timeout() {
    let cluster = on_paper(2, |plan| plan.connect_attempts = 2);
    let error = cluster
        .connect_with_dial(None, async |address| match address.ip().to_string().as_str() {
            "10.0.0.1" => Err(io::ErrorKind::TimedOut.into()),
            _ => Err(refused()),
        })
        .await
        .unwrap_err();
    assert_eq!(error.close_reason(), Close::ConnectFailed);
}

/// Resolves only `db`.
struct OnlyDb;

impl Resolver for OnlyDb {
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
            match host {
                "db" => Ok(HostAnswer { addresses, ttl: Duration::from_secs(60) }),
                _ => Err("no such name".to_owned()),
            }
        })
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_no_endpoint() {
    let plan = Arc::new(plan(&[("nowhere", 5000)]));
    let cluster = Cluster::with_resolver(plan, &Metrics::new(), Box::new(OnlyDb));
    let error = cluster.connect(None).await.unwrap_err();
    assert_eq!(error.to_string(), "cluster `orders` has no endpoint");
    cluster.resolve().await;
    let error = cluster.connect(None).await.unwrap_err();
    assert_eq!(error.close_reason(), Close::NoEndpoint);
    assert_eq!(error.to_string(), "cluster `orders` has no endpoint: nowhere: no such name");
}

#[tokio::test]
async fn an_endpoint_with_a_name_is_described_by_name_and_address() {
    let (_socket, shut) = closed();
    let mut plan = plan(&[("db", shut.port())]);
    plan.connect_attempts = 1;
    let cluster = Cluster::with_resolver(Arc::new(plan), &Metrics::new(), Box::new(OnlyDb));
    cluster.resolve().await;
    let text = cluster.connect(None).await.unwrap_err().to_string();
    assert!(
        text.ends_with(&format!(": db:{} ({shut}): connection refused", shut.port())),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_is_active_until_its_lease_is_dropped() {
    let (_listener, open) = listener().await;
    let recorded = Recorded::default();
    let cluster = Cluster::new(Arc::new(plan_at(&[open])), &recorded);
    let gauge = format!("tollgate_upstream_connections_active(orders, {open})");
    let first = cluster.connect(None).await.unwrap();
    let second = cluster.connect(None).await.unwrap();
    let endpoint = first.lease.endpoint().clone();
    assert_eq!((endpoint.active_connections(), recorded.gauge(&gauge)), (2, 2.0));
    drop(first.lease);
    assert_eq!((endpoint.active_connections(), recorded.gauge(&gauge)), (1, 1.0));
    drop(second);
    assert_eq!((endpoint.active_connections(), recorded.gauge(&gauge)), (0, 0.0));
}

#[tokio::test]
async fn an_attempt_counts_as_active_until_it_ends() {
    let cluster = on_paper(1, |plan| plan.connect_attempts = 1);
    let endpoint = cluster.endpoints()[0].clone();
    let dialed = Cell::new(0);
    let failed = cluster.connect_with_dial(None, async |_| {
        dialed.set(endpoint.active_connections());
        Err(refused())
    });
    assert!(failed.await.is_err());
    assert_eq!((dialed.get(), endpoint.active_connections()), (1, 0));
    {
        let mut cancelled = pin!(cluster.connect_with_dial(None, async |_| pending().await));
        let mut task = task::Context::from_waker(task::Waker::noop());
        assert!(cancelled.as_mut().poll(&mut task).is_pending());
        assert_eq!(endpoint.active_connections(), 1);
    }
    assert_eq!(endpoint.active_connections(), 0);
}

#[tokio::test]
async fn a_success_ends_the_last_error() {
    let (_listener, open) = listener().await;
    let mut plan = plan_at(&[open]);
    plan.connect_attempts = 1;
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    let last_error = || cluster.report()["endpoints"][0]["last_error"].clone();
    assert!(cluster.connect_with_dial(None, async |_| Err(refused())).await.is_err());
    assert_eq!(last_error(), "connection refused");
    cluster.connect(None).await.unwrap();
    assert!(last_error().is_null());
}

#[tokio::test]
async fn sockets_send_at_once_and_are_kept_alive_as_configured() {
    let (_listener, open) = listener().await;
    let mut plan = ClusterPlan::new("orders", Vec::new());
    plan.keepalive.idle = Duration::from_secs(40);
    plan.keepalive.interval = Duration::from_secs(7);
    plan.keepalive.probes = 5;
    plan.tcp_user_timeout = Some(Duration::from_secs(9));
    let stream = dial(&plan, open).await.unwrap();
    assert!(stream.nodelay().unwrap());
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(40));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
}

#[test]
fn pauses_double_up_to_a_limit_with_full_jitter() {
    assert_eq!(retry_pause(0, 0.0), Duration::ZERO);
    assert_eq!(retry_pause(0, 1.0), MIN_PAUSE);
    assert_eq!(retry_pause(1, 1.0), MIN_PAUSE * 2);
    assert_eq!(retry_pause(1, 0.5), MIN_PAUSE);
    assert_eq!(retry_pause(100, 1.0), Duration::from_secs(1));
}

#[test]
fn io_errors_are_described_in_plain_words_where_known() {
    assert_eq!(describe(&io::Error::from_raw_os_error(111)), "connection refused");
    // "Too many open files" has no `ErrorKind` of its own.
    assert!(describe(&io::Error::from_raw_os_error(24)).contains("os error 24"));
}

/// A cluster of one name with an address of each family, at port 5000.
async fn both_families() -> Arc<Cluster> {
    struct Both;
    impl Resolver for Both {
        fn resolve<'a>(&'a self, _: &'a str) -> Lookup<'a> {
            let addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
            Box::pin(async { Ok(HostAnswer { addresses, ttl: Duration::from_secs(60) }) })
        }
    }
    let mut plan = plan(&[("db", 5000)]);
    plan.connect_timeout = Duration::from_secs(1);
    plan.connect_attempts = 2;
    let cluster = Cluster::with_resolver(Arc::new(plan), &Metrics::new(), Box::new(Both));
    cluster.resolve().await;
    cluster
}

fn sums(cluster: &Cluster) -> [u64; 3] {
    let report = cluster.report();
    let sum = |key: &str| {
        let endpoints = report["endpoints"].as_array().unwrap();
        endpoints.iter().map(|endpoint| endpoint[key].as_u64().unwrap()).sum()
    };
    [sum("connects_ok"), sum("connects_failed"), sum("active_connections")]
}

#[tokio::test(start_paused = true)]
async fn the_second_address_family_starts_after_the_delay() {
    let cluster = both_families().await;
    for silent_is_v4 in [true, false] {
        for _ in 0..2 {
            let begin = time::Instant::now();
            let upstream = cluster.connect_with_dial(None, async |address| {
                if address.is_ipv4() == silent_is_v4 { pending().await } else { Ok(loopback()) }
            });
            let upstream = upstream.await.unwrap();
            assert_ne!(upstream.lease.endpoint().address().is_ipv4(), silent_is_v4);
            assert!(begin.elapsed() < Duration::from_millis(252), "{:?}", begin.elapsed());
            assert_eq!(sums(&cluster)[2], 1, "the loser is let go");
        }
    }
    // The loser of a race counts neither as a success nor as a failure.
    assert_eq!(sums(&cluster), [4, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_first_may_still_win_the_race() {
    let cluster = both_families().await;
    let first = Cell::new(None);
    let upstream = cluster.connect_with_dial(None, async |address| {
        if first.get().is_none() {
            first.set(Some(address));
            time::sleep(Duration::from_millis(400)).await;
            return Ok(loopback());
        }
        pending().await
    });
    assert_eq!(Some(upstream.await.unwrap().lease.endpoint().address()), first.get());
}

#[tokio::test(start_paused = true)]
async fn two_silent_families_have_a_timeout_each_and_are_one_attempt() {
    let cluster = both_families().await;
    let dials = Cell::new(0);
    let error = cluster.connect_with_dial(None, async |_| {
        dials.set(dials.get() + 1);
        pending().await
    });
    let begin = time::Instant::now();
    assert_eq!(error.await.unwrap_err().close_reason(), Close::ConnectTimeout);
    // Two attempts with a pause between them, each a race.
    assert_eq!(dials.get(), 4);
    assert!(begin.elapsed() >= Duration::from_millis(2_500), "{:?}", begin.elapsed());
    assert_eq!(sums(&cluster), [0, 4, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_excluded_family_does_not_race() {
    let cluster = both_families().await;
    let out = cluster.endpoints().into_iter().find(|e| e.address().is_ipv6()).unwrap();
    out.exclude(crate::Exclusion::Ejected);
    cluster.update_set(<[_]>::to_vec);
    let dialed = RefCell::new(BTreeSet::new());
    let error = cluster.connect_with_dial(None, async |address| {
        dialed.borrow_mut().insert(address.to_string());
        pending().await
    });
    assert!(error.await.is_err());
    assert_eq!(dialed.into_inner(), BTreeSet::from(["10.0.0.1:5000".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_connect_cancelled_during_a_race_leaks_nothing() {
    let cluster = both_families().await;
    let connect = cluster.connect_with_dial(None, async |_| pending().await);
    assert!(time::timeout(Duration::from_millis(300), connect).await.is_err());
    assert_eq!(sums(&cluster), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn local_errors_blame_no_endpoint() {
    use rustix::io::Errno;
    let lacking = [Errno::ADDRNOTAVAIL, Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS]
        .into_iter()
        .chain([Errno::NOMEM, Errno::NOSPC]);
    for errno in lacking {
        let outlier = OutlierPlan { consecutive_local_failures: 1, ..OutlierPlan::default() };
        let addresses = ["10.0.0.1:5000", "10.0.0.2:5000"].map(|a| a.parse().unwrap());
        let plan = ClusterPlan { outlier_detection: Some(outlier), ..plan_at(&addresses) };
        let recorded = Recorded::default();
        let cluster = Cluster::new(Arc::new(plan), &recorded);
        let error = cluster.connect_with_dial(None, async |_| Err(errno.into())).await.unwrap_err();
        assert_eq!(error.close_reason(), Close::LocalError, "{errno}");
        assert_eq!(error.client_error().0, operation::RejectReason::Overloaded);
        assert!(cluster.endpoints().iter().all(|it| it.usable() && !it.is_failing()), "{errno}");
        assert_eq!(cluster.report()["endpoints"][0]["connects_failed"], 0);
        let result = |result| {
            let count =
                |i| format!("tollgate_upstream_connect_total(orders, 10.0.0.{i}:5000, {result})");
            recorded.count(&count(1)) + recorded.count(&count(2))
        };
        assert_eq!((result("local_error"), result("error")), (3, 0), "{errno}");
    }
}

#[tokio::test]
async fn the_error_in_a_panic_says_how_many_endpoints_are_usable() {
    let cluster = on_paper(3, |plan| plan.panic.on_panic = OnPanic::Fail);
    cluster.endpoints().iter().for_each(|endpoint| _ = endpoint.exclude(Exclusion::Unhealthy));
    cluster.refresh();
    let error = cluster.connect(None).await.unwrap_err();
    assert_eq!(error.close_reason(), Close::NoEndpoint);
    let expected = "cluster `orders` has no endpoint: 0 of 3 endpoints are usable (on_panic: fail)";
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        error.client_error().1,
        "`orders` has no endpoint",
        "addresses are none of a client's business"
    );
}
