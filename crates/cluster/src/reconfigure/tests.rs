use crate::{
    BreakerPlan, CloseRequest, Cluster, Endpoint, Exclusion, Lease, PickOptions,
    plan::{ClusterPlan, EndpointPlan, HashPlan, HealthCheckPlan, InitialHealth, LbPolicy},
    tests::{Connects, plan, plan_at},
};
use proxy_protocol::Version;
use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tollgate_metrics::Metrics;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn cluster(plan: ClusterPlan) -> Arc<Cluster> {
    Cluster::new(Arc::new(plan), &Metrics::new())
}

fn endpoint(cluster: &Cluster, port: u16) -> Arc<Endpoint> {
    let endpoints = cluster.endpoints();
    let found = endpoints.iter().find(|it| it.address() == address(port)).cloned();
    found.unwrap_or_else(|| panic!("no endpoint {port} in {endpoints:?}"))
}

#[test]
fn endpoints_that_stay_are_the_same_objects() {
    let cluster = cluster(plan_at(&[address(1), address(2)]));
    let (one, two) = (endpoint(&cluster, 1), endpoint(&cluster, 2));
    cluster.operator_eject(&address(2).to_string()).unwrap();
    let weighted = EndpointPlan { weight: 7, ..plan_at(&[address(2)]).endpoints[0].clone() };
    let mut next = plan_at(&[address(3)]);
    next.endpoints.push(weighted);
    cluster.reconfigure(Arc::new(next));
    assert!(Arc::ptr_eq(&two, &endpoint(&cluster, 2)));
    assert!(two.is_excluded(Exclusion::Ejected));
    assert_eq!(cluster.set.load().members.iter().map(|it| it.weight).collect::<Vec<_>>(), [1, 7]);
    assert_eq!(one.close_request(), CloseRequest::WhenIdle);
    assert!(cluster.is_draining());
    // It comes back while it drains.
    cluster.reconfigure(Arc::new(plan_at(&[address(1)])));
    assert!(Arc::ptr_eq(&one, &endpoint(&cluster, 1)));
    assert_eq!(one.close_request(), CloseRequest::None);
}

#[test]
fn a_retired_cluster_drains_all_endpoints() {
    let cluster = cluster(plan_at(&[address(1)]));
    let one = endpoint(&cluster, 1);
    cluster.retire();
    assert!(cluster.is_empty() && cluster.pick(PickOptions::default()).is_none());
    assert_eq!(one.close_request(), CloseRequest::WhenIdle);
}

#[test]
fn shared_connections_close_if_new_ones_are_made_in_another_way() {
    let cluster = cluster(plan_at(&[address(1)]));
    let one = endpoint(&cluster, 1);
    let (shared, mut own) = (Lease::new(&cluster, &one), Lease::new(&cluster, &one));
    own.set_own();
    let timeouts = ClusterPlan { connect_attempts: 1, ..plan_at(&[address(1)]) };
    cluster.reconfigure(Arc::new(timeouts));
    assert_eq!(shared.close_request(), CloseRequest::None);
    let header = ClusterPlan { proxy_protocol: Some(Version::V2), ..plan_at(&[address(1)]) };
    cluster.reconfigure(Arc::new(header));
    assert_eq!(shared.close_request(), CloseRequest::WhenIdle);
    assert_eq!(own.close_request(), CloseRequest::None, "a client's own connection goes on");
    assert_eq!(Lease::new(&cluster, &one).close_request(), CloseRequest::None);
}

#[test]
fn an_endpoint_without_checks_is_used_again() {
    let check = HealthCheckPlan {
        initial: InitialHealth::Unhealthy,
        ..HealthCheckPlan::new(Arc::new(Connects))
    };
    let checked = ClusterPlan { health_check: Some(check), ..plan_at(&[address(1), address(2)]) };
    let cluster = cluster(checked);
    assert!(endpoint(&cluster, 1).is_excluded(Exclusion::Unhealthy));
    cluster.reconfigure(Arc::new(plan_at(&[address(1), address(2)])));
    assert!(!endpoint(&cluster, 1).is_excluded(Exclusion::Unhealthy));
    assert!(endpoint(&cluster, 2).usable());
}

#[test]
fn a_lowered_limit_lets_operations_end() {
    let limited = |most| ClusterPlan {
        circuit_breaker: BreakerPlan { max_operations: Some(most), ..BreakerPlan::default() },
        ..plan_at(&[address(1)])
    };
    let cluster = cluster(limited(2));
    let permits = [cluster.admit_operation().unwrap(), cluster.admit_operation().unwrap()];
    cluster.reconfigure(Arc::new(limited(1)));
    assert!(cluster.admit_operation().is_none());
    assert!(cluster.overloaded().contains("limit of 1 operations"), "{}", cluster.overloaded());
    drop(permits);
    assert!(cluster.admit_operation().is_some());
    cluster.reconfigure(Arc::new(plan_at(&[address(1)])));
    assert!(!cluster.limits_operations());
}

#[test]
fn bounded_load_counts_what_is_open_already() {
    let cluster = cluster(plan_at(&[address(1), address(2)]));
    let one = endpoint(&cluster, 1);
    let leases: Vec<_> = (0..10).map(|_| Lease::new(&cluster, &one)).collect();
    let hash = HashPlan { bounded_load: Some(100), ..HashPlan::default() };
    let lb_policy = LbPolicy::RingHash;
    let bounded = ClusterPlan { lb_policy, hash, ..plan_at(&[address(1), address(2)]) };
    cluster.reconfigure(Arc::new(bounded));
    for hash in 0..20 {
        let options = PickOptions { hash: Some(hash), ..PickOptions::default() };
        let picked = cluster.pick(options).unwrap();
        assert_eq!(picked.address(), address(2), "the other one has all connections");
    }
    drop(leases);
    let _more = Lease::new(&cluster, &one);
}

#[tokio::test]
async fn a_task_that_follows_the_plan_begins_again_with_each_one() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    async fn counts(_: Arc<Cluster>) {
        RUNS.fetch_add(1, SeqCst);
    }
    let cluster = cluster(plan(&[]));
    let reconfigured = RefCell::new(0);
    let reconfigures = async {
        for runs in 1..4 {
            while RUNS.load(SeqCst) < runs {
                tokio::task::yield_now().await;
            }
            cluster.reconfigure(Arc::new(plan(&[])));
            *reconfigured.borrow_mut() += 1;
        }
        while RUNS.load(SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = Arc::clone(&cluster).follow_plan(counts) => unreachable!(),
        () = reconfigures => {}
    }
    assert_eq!((*reconfigured.borrow(), RUNS.load(SeqCst)), (3, 4));
}
