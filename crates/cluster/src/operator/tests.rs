use super::*;
use crate::{
    PickOptions,
    plan::{ClusterPlan, OutlierPlan},
    tests::plan_at,
};
use operation::Outcome;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    task::{LocalSet, spawn_local},
    time,
};
use tollgate_metrics::Metrics;

fn cluster(n: u16) -> Arc<Cluster> {
    let addresses: Vec<SocketAddr> = (1..=n).map(|i| ([10, 0, 0, i as u8], 5000).into()).collect();
    let outlier_detection = Some(OutlierPlan::default());
    let plan = ClusterPlan { outlier_detection, ..plan_at(&addresses) };
    Cluster::new(Arc::new(plan), &Metrics::new())
}

const FIRST: &str = "10.0.0.1:5000";

#[tokio::test(start_paused = true)]
async fn an_operator_ejection_lasts_until_the_operator_restores() {
    let cluster = cluster(2);
    LocalSet::new()
        .run_until(async {
            let sweep = spawn_local(Arc::clone(&cluster).sweep());
            assert_eq!(cluster.operator_eject(FIRST).unwrap(), 1);
            time::sleep(Duration::from_secs(100_000)).await;
            assert!(cluster.endpoints()[0].is_excluded(Exclusion::Ejected));
            assert!((0..9).all(|_| {
                cluster.pick(PickOptions::default()).unwrap().address().to_string() != FIRST
            }));
            assert_eq!(cluster.operator_return(FIRST).unwrap(), 1);
            assert!(cluster.endpoints()[0].usable());
            sweep.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_idle_connections_and_all_at_its_timeout() {
    let cluster = cluster(2);
    let notifications = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&notifications);
    cluster.on_close_request(move || {
        counted.fetch_add(1, SeqCst);
    });
    let endpoint = cluster.endpoints()[0].clone();
    LocalSet::new()
        .run_until(async {
            let sweep = spawn_local(Arc::clone(&cluster).sweep());
            time::sleep(Duration::from_secs(1)).await;
            cluster.operator_drain(FIRST).unwrap();
            assert!(endpoint.is_excluded(Exclusion::Drained));
            assert_eq!(
                (endpoint.close_request(), notifications.load(SeqCst)),
                (CloseRequest::WhenIdle, 1)
            );
            time::sleep(Duration::from_secs(29)).await;
            assert_eq!(endpoint.close_request(), CloseRequest::WhenIdle);
            time::sleep(Duration::from_secs(2)).await;
            assert_eq!(
                (endpoint.close_request(), notifications.load(SeqCst)),
                (CloseRequest::Removed, 2)
            );
            cluster.operator_return(FIRST).unwrap();
            assert!(endpoint.usable());
            assert_eq!(endpoint.close_request(), CloseRequest::None);

            // A drain that is undone in time closes nothing.
            cluster.operator_drain(FIRST).unwrap();
            time::sleep(Duration::from_secs(5)).await;
            cluster.operator_return(FIRST).unwrap();
            time::sleep(Duration::from_secs(60)).await;
            assert_eq!(
                (endpoint.close_request(), notifications.load(SeqCst)),
                (CloseRequest::None, 3)
            );
            sweep.abort();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_restore_an_endpoint_ejected_for_failures() {
    let cluster = cluster(3);
    let endpoint = cluster.endpoints()[0].clone();
    (0..5).for_each(|_| cluster.observe(&endpoint, Outcome::Failed, Duration::ZERO));
    assert!(endpoint.is_excluded(Exclusion::Ejected));
    cluster.operator_return(FIRST).unwrap();
    assert!(endpoint.usable());
}

#[test]
fn an_unknown_endpoint_is_an_error_that_lists_the_known() {
    let error = cluster(2).operator_drain("10.0.0.9:5000").unwrap_err().to_string();
    let expected =
        "cluster `orders` has no endpoint `10.0.0.9:5000`; it has 10.0.0.1:5000, 10.0.0.2:5000";
    assert_eq!(error, expected);
    let many = cluster(30).operator_eject("x").unwrap_err().to_string();
    assert!(many.ends_with("10.0.0.20:5000 and 10 more"), "{many}");
}
