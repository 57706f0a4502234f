use super::{stats::IntervalStats, *};
use crate::{
    Lease, PickOptions,
    plan::{ClusterPlan, SuccessRatePlan},
    tests::{Recorded, plan_at},
};
use std::{net::SocketAddr, sync::atomic::AtomicBool};
use tollgate_metrics::Metrics;

const MS: Duration = Duration::from_millis(1);

fn addresses(n: u16) -> Vec<SocketAddr> {
    (0..n).map(|i| ([10, 0, (i >> 8) as u8, i as u8], 5000).into()).collect()
}

fn cluster(n: u16, change: impl FnOnce(&mut OutlierPlan)) -> Arc<Cluster> {
    recorded(n, change, &Metrics::new())
}

fn recorded(n: u16, change: impl FnOnce(&mut OutlierPlan), recorder: &Metrics) -> Arc<Cluster> {
    let mut outlier = OutlierPlan::default();
    change(&mut outlier);
    let plan = ClusterPlan { outlier_detection: Some(outlier), ..plan_at(&addresses(n)) };
    Cluster::new(Arc::new(plan), recorder)
}

fn ejected(cluster: &Cluster) -> usize {
    cluster.endpoints().iter().filter(|e| e.is_excluded(Exclusion::Ejected)).count()
}

/// Ends this many operations on endpoint number `index` with this outcome.
fn operations(cluster: &Cluster, index: usize, outcome: Outcome, times: u32) {
    let endpoint = &cluster.endpoints()[index];
    for _ in 0..times {
        cluster.observe(endpoint, outcome, MS);
    }
}

#[tokio::test(start_paused = true)]
async fn enough_failures_in_a_row_eject_at_once() {
    for outcome in [Outcome::Failed, Outcome::Lost] {
        let cluster = cluster(2, |_| {});
        operations(&cluster, 0, outcome, 4);
        assert_eq!(ejected(&cluster), 0);
        operations(&cluster, 0, outcome, 1);
        assert!(cluster.endpoints()[0].is_excluded(Exclusion::Ejected), "{outcome}");
        for _ in 0..10 {
            let picked = cluster.pick(PickOptions::default()).unwrap();
            assert!(Arc::ptr_eq(&picked, &cluster.endpoints()[1]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_or_rejection_ends_a_run_of_failures() {
    for good in [Outcome::Ok, Outcome::Rejected] {
        for bad in [Outcome::Failed, Outcome::Lost] {
            let cluster = cluster(2, |_| {});
            for _ in 0..10 {
                operations(&cluster, 0, bad, 4);
                operations(&cluster, 0, good, 1);
            }
            assert_eq!(ejected(&cluster), 0);
            operations(&cluster, 0, bad, 4);
            operations(&cluster, 0, Outcome::Cancelled, 9);
            operations(&cluster, 0, bad, 1);
            assert_eq!(ejected(&cluster), 1, "{bad} {good}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failed_connections_and_lost_operations_make_one_run() {
    let cluster = cluster(2, |_| {});
    let endpoint = &cluster.endpoints()[0];
    // An established connection does not reset the run of lost operations.
    for _ in 0..4 {
        cluster.observe_connect(endpoint, true);
        cluster.observe(endpoint, Outcome::Lost, MS);
    }
    assert_eq!(ejected(&cluster), 0);
    cluster.observe_connect(endpoint, false);
    assert_eq!(ejected(&cluster), 1);
}

#[tokio::test(start_paused = true)]
async fn an_established_connection_ends_a_run_of_failed_ones() {
    let cluster = cluster(2, |_| {});
    let endpoint = &cluster.endpoints()[0];
    for _ in 0..10 {
        (0..4).for_each(|_| cluster.observe_connect(endpoint, false));
        cluster.observe_connect(endpoint, true);
    }
    assert_eq!(ejected(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_detector_set_to_zero_never_ejects() {
    let cluster = cluster(2, |plan| {
        plan.consecutive_failures = 0;
        plan.consecutive_local_failures = 0;
    });
    operations(&cluster, 0, Outcome::Failed, 1000);
    operations(&cluster, 0, Outcome::Lost, 1000);
    assert_eq!(ejected(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_usable_endpoint_is_never_ejected() {
    let alone = cluster(1, |_| {});
    operations(&alone, 0, Outcome::Lost, 100);
    assert_eq!(ejected(&alone), 0);

    let two = cluster(2, |plan| plan.max_ejection_percent = 100);
    operations(&two, 0, Outcome::Lost, 5);
    operations(&two, 1, Outcome::Lost, 100);
    assert!(two.endpoints()[1].usable());
    assert_eq!(ejected(&two), 1);
}

#[tokio::test(start_paused = true)]
async fn at_least_one_and_at_most_the_share_is_ejected() {
    let cluster = cluster(6, |plan| plan.max_ejection_percent = 1);
    operations(&cluster, 0, Outcome::Failed, 5);
    operations(&cluster, 1, Outcome::Failed, 500);
    assert_eq!(ejected(&cluster), 1);
}

#[tokio::test(start_paused = true)]
async fn a_spared_endpoint_is_ejected_once_there_is_room() {
    let cluster = cluster(4, |plan| plan.max_ejection_percent = 25);
    tokio::task::LocalSet::new()
        .run_until(async {
            let sweep = tokio::task::spawn_local(Arc::clone(&cluster).sweep());
            operations(&cluster, 0, Outcome::Failed, 5);
            operations(&cluster, 1, Outcome::Failed, 50);
            assert!(!cluster.endpoints()[1].is_excluded(Exclusion::Ejected));
            time::sleep(Duration::from_millis(30_100)).await;
            assert_eq!(ejected(&cluster), 0);
            operations(&cluster, 1, Outcome::Failed, 5);
            assert!(cluster.endpoints()[1].is_excluded(Exclusion::Ejected));
            sweep.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_unenforced_ejection_is_counted_once_an_interval() {
    let recorder = Recorded::default();
    let cluster = recorded(2, |plan| plan.enforcing_consecutive = 0, &recorder);
    operations(&cluster, 0, Outcome::Failed, 50);
    assert_eq!(ejected(&cluster), 0);
    let count = |metric: &str| {
        recorder.count(&format!("{metric}(orders, 10.0.0.0:5000, consecutive_failures)"))
    };
    assert_eq!(count("tollgate_ejections_total"), 0);
    assert_eq!(count("tollgate_ejections_not_enforced_total"), 1);
    cluster.end_interval();
    operations(&cluster, 0, Outcome::Failed, 50);
    assert_eq!(count("tollgate_ejections_not_enforced_total"), 2);
}

#[tokio::test(start_paused = true)]
async fn gauges_and_counters_follow_an_endpoint_out_and_back() {
    let recorder = Recorded::default();
    let cluster = recorded(2, |_| {}, &recorder);
    let up = || recorder.gauge("tollgate_endpoint_up(orders, 10.0.0.0:5000)");
    let out = || recorder.gauge("tollgate_endpoint_ejected(orders, 10.0.0.0:5000)");
    assert_eq!((up(), out()), (1.0, 0.0));
    operations(&cluster, 0, Outcome::Lost, 5);
    assert_eq!((up(), out()), (1.0, 1.0));
    let ejections = "tollgate_ejections_total(orders, 10.0.0.0:5000, consecutive_local_failures)";
    assert_eq!(recorder.count(ejections), 1);
    let lost = "tollgate_endpoint_operations_total(orders, 10.0.0.0:5000, lost)";
    assert_eq!(recorder.count(lost), 5);
    time::advance(Duration::from_secs(30)).await;
    cluster.restore_due(Instant::now());
    assert_eq!((up(), out()), (1.0, 0.0));
}

/// Ejects endpoint 0, and returns after how many whole seconds it is back.
async fn seconds_out(cluster: &Arc<Cluster>) -> u64 {
    operations(cluster, 0, Outcome::Failed, 5);
    let began = Instant::now();
    assert_eq!(ejected(cluster), 1);
    while ejected(cluster) > 0 {
        time::sleep(Duration::from_millis(100)).await;
    }
    (began.elapsed() + MS * 50).as_secs()
}

#[tokio::test(start_paused = true)]
async fn repeated_ejections_last_longer_up_to_a_maximum() {
    let cluster = cluster(2, |plan| {
        plan.base_ejection_time = Duration::from_secs(3);
        plan.max_ejection_time = Duration::from_secs(8);
        plan.interval = Duration::from_secs(1000);
    });
    tokio::task::LocalSet::new()
        .run_until(async {
            let sweep = tokio::task::spawn_local(Arc::clone(&cluster).sweep());
            let mut lasted = Vec::new();
            for _ in 0..4 {
                lasted.push(seconds_out(&cluster).await);
            }
            assert_eq!(lasted, [3, 6, 8, 8]);
            // The interval in which it was ejected reduces nothing, the two after it one each.
            time::sleep(Duration::from_secs(1000)).await;
            assert_eq!(cluster.endpoints()[0].stats.ejection_count.load(Relaxed), 4);
            time::sleep(Duration::from_secs(3000)).await;
            assert_eq!(cluster.endpoints()[0].stats.ejection_count.load(Relaxed), 1);
            assert_eq!(seconds_out(&cluster).await, 6);
            time::sleep(Duration::from_secs(10_000)).await;
            assert_eq!(seconds_out(&cluster).await, 3);
            sweep.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_returning_endpoint_starts_with_reset_counters() {
    let cluster = cluster(2, |_| {});
    let endpoint = cluster.endpoints()[0].clone();
    operations(&cluster, 0, Outcome::Failed, 5);
    // These were in flight when it was ejected.
    operations(&cluster, 0, Outcome::Failed, 4);
    assert!(cluster.restore(&endpoint, "a test says so"));
    cluster.refresh();
    assert!(endpoint.usable());
    assert_eq!(endpoint.stats.end_interval().volume(), 0);
    operations(&cluster, 0, Outcome::Failed, 4);
    assert_eq!(ejected(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_returning_endpoint_that_fails_at_once_is_ejected_at_once() {
    for outcome in [Outcome::Failed, Outcome::Lost] {
        let cluster = cluster(2, |_| {});
        operations(&cluster, 0, outcome, 5);
        assert_eq!(ejected(&cluster), 1);
        time::advance(Duration::from_secs(31)).await;
        cluster.restore_due(Instant::now());
        assert_eq!(ejected(&cluster), 0);
        operations(&cluster, 0, outcome, 1);
        assert_eq!(ejected(&cluster), 1, "{outcome}");
        // Twice as long, since it is the second time.
        time::advance(Duration::from_secs(61)).await;
        cluster.restore_due(Instant::now());
        operations(&cluster, 0, Outcome::Ok, 1);
        operations(&cluster, 0, outcome, 4);
        assert_eq!(ejected(&cluster), 0, "one good operation is the end of it");
    }
}

#[tokio::test(start_paused = true)]
async fn greetings_are_no_proof_of_work() {
    let cluster = cluster(2, |_| {});
    let endpoint = cluster.endpoints()[0].clone();
    let lease = Lease::new(&cluster, &endpoint);
    for _ in 0..5 {
        lease.operation_started();
        lease.handshake_ended(MS);
        lease.operation_started();
        lease.operation_ended(Outcome::Failed, MS);
    }
    assert_eq!((ejected(&cluster), endpoint.active_operations()), (1, 0));
}

fn window(good: u64, bad: u64) -> IntervalStats {
    IntervalStats { good, bad, ..IntervalStats::default() }
}

fn found(plan: &OutlierPlan, windows: &[IntervalStats]) -> Vec<(usize, Detector)> {
    let windows: Vec<_> = windows.iter().collect();
    rates::outliers(plan, &windows).into_iter().map(|s| (s.index, s.detector)).collect()
}

fn only_success_rate() -> OutlierPlan {
    OutlierPlan { failure_percentage: None, ..OutlierPlan::default() }
}

#[test]
fn a_success_rate_far_below_the_mean_is_an_outlier() {
    // Success rates 100 × 9 and 80: mean 98, deviation 6, threshold 86.6.
    let mut windows = vec![window(100, 0); 9];
    windows.push(window(80, 20));
    assert_eq!(found(&only_success_rate(), &windows), [(9, Detector::SuccessRate)]);
    // With a factor of a little more than 3, the threshold is just below 80.
    let plan = OutlierPlan {
        success_rate: Some(SuccessRatePlan { stdev_factor: 3.001, ..SuccessRatePlan::default() }),
        ..only_success_rate()
    };
    assert_eq!(found(&plan, &windows), []);
}

#[test]
fn endpoints_that_fail_alike_are_no_outliers() {
    for bad in 0..=300 {
        assert_eq!(found(&only_success_rate(), &vec![window(1000, bad); 7]), [], "{bad}");
    }
}

#[test]
fn too_few_endpoints_or_operations_are_not_compared() {
    let mut windows = vec![window(1000, 0); 9];
    windows.push(window(0, 99));
    assert_eq!(found(&only_success_rate(), &windows), []);
    windows[9] = window(0, 100);
    assert_eq!(found(&only_success_rate(), &windows), [(9, Detector::SuccessRate)]);
    assert_eq!(found(&only_success_rate(), &windows[6..]), []);
}

#[test]
fn the_worst_failure_percentages_are_ejected_first() {
    let plan = OutlierPlan { success_rate: None, ..OutlierPlan::default() };
    let windows = [
        window(50, 0),
        window(150, 850),
        window(0, 50),
        window(16, 84),
        window(50, 0),
        window(0, 49),
    ];
    let expected = [(2, Detector::FailurePercentage), (1, Detector::FailurePercentage)];
    assert_eq!(found(&plan, &windows), expected);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ejects_outliers() {
    let cluster = cluster(10, |plan| plan.consecutive_failures = 0);
    for index in 0..10 {
        operations(&cluster, index, Outcome::Ok, 200);
    }
    operations(&cluster, 3, Outcome::Failed, 200);
    cluster.end_interval();
    assert_eq!(ejected(&cluster), 1);
    let endpoint = cluster.endpoints()[3].clone();
    let ejection = endpoint.ejection.load_full().unwrap();
    assert_eq!(ejection.detector, Detector::SuccessRate);
    assert!(ejection.reason.starts_with("success rate 50.0 % is below"), "{}", ejection.reason);
    assert_eq!(endpoint.stats.last().success_rate(), Some(50.0));
    // An interval without operations changes nothing.
    cluster.end_interval();
    assert_eq!(ejected(&cluster), 1);
    assert_eq!(endpoint.stats.last().success_rate(), None);
}

#[tokio::test(start_paused = true)]
async fn at_most_the_share_of_a_thousand_endpoints_is_ejected() {
    for percent in [10, 33, 50] {
        let cluster = cluster(1000, |plan| {
            plan.max_ejection_percent = percent;
            plan.success_rate.as_mut().unwrap().detector.minimum_operations = 10;
        });
        let endpoints = cluster.endpoints();
        let mut most = 0;
        // A generator with a fixed seed, so that each run is the same.
        let mut seed = 7u64;
        for round in 0..8 {
            for _ in 0..5_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let index = (seed >> 33) as usize % endpoints.len();
                // Two thirds of the endpoints fail all operations.
                let outcome = if index.is_multiple_of(3) { Outcome::Ok } else { Outcome::Failed };
                cluster.observe(&endpoints[index], outcome, MS);
            }
            most = most.max(ejected(&cluster));
            assert!(most <= usize::from(percent) * 10, "{most} in round {round}");
            cluster.end_interval();
            assert!(ejected(&cluster) <= usize::from(percent) * 10);
            time::advance(Duration::from_secs(10)).await;
            cluster.restore_due(Instant::now());
        }
        assert_eq!(most, usize::from(percent) * 10, "the share was never used up");
    }
}

#[test]
fn observations_of_many_threads_are_counted_exactly() {
    const EACH: u64 = 20_000;
    let cluster = cluster(2, |plan| plan.interval = Duration::from_secs(3600));
    let endpoint = cluster.endpoints()[0].clone();
    let done = AtomicBool::new(false);
    let (mut good, mut bad, mut timed) = (0, 0, 0);
    let mut add = |window: &IntervalStats| {
        good += window.good;
        bad += window.bad;
        timed += window.durations.count();
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let lease = Lease::new(&cluster, &endpoint);
                    for i in 0..EACH {
                        lease.operation_started();
                        lease.operation_ended(
                            if i.is_multiple_of(4) { Outcome::Failed } else { Outcome::Ok },
                            MS,
                        );
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                add(&endpoint.stats.end_interval());
                std::thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Relaxed);
    });
    add(&endpoint.stats.end_interval());
    assert_eq!((good, bad, timed), (EACH * 3, EACH, EACH * 4));
    assert_eq!(endpoint.active_operations(), 0);
}

#[test]
fn exactly_one_of_many_threads_ejects() {
    let recorder = Recorded::default();
    let cluster = recorded(2, |_| {}, &recorder);
    let endpoint = cluster.endpoints()[0].clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| cluster.observe(&endpoint, Outcome::Lost, MS)));
        }
    });
    let ejections = "tollgate_ejections_total(orders, 10.0.0.0:5000, consecutive_local_failures)";
    assert_eq!(recorder.count(ejections), 1);
    assert_eq!(ejected(&cluster), 1);
}

#[tokio::test(start_paused = true)]
async fn the_config_decides_which_session_ends_are_failures() {
    use SessionFailures::{NoReply, None, Reset};
    for (counts, reset, silent) in
        [(None, false, false), (Reset, true, false), (NoReply, true, true)]
    {
        for (was_reset, ejects) in [(true, reset), (false, silent)] {
            let recorder = Recorded::default();
            let cluster = recorded(2, |plan| plan.session_failures = counts, &recorder);
            let lease = Lease::new(&cluster, &cluster.endpoints()[0]);
            for _ in 0..10 {
                lease.operation_started();
                lease.session_ended(Outcome::Lost, was_reset, MS);
            }
            assert_eq!(ejected(&cluster) == 1, ejects, "{counts:?} {was_reset}");
            let lost = "tollgate_endpoint_operations_total(orders, 10.0.0.0:5000, lost)";
            assert_eq!(recorder.count(lost), 10);
            assert_eq!(lease.endpoint().active_operations(), 0);
        }
    }
}
