//! Slow start.

use super::*;

#[test]
fn an_endpoint_warms_up_over_its_window() {
    let slow = SlowStartPlan { window: Duration::from_secs(60), aggression: 1.0, min_weight: 10 };
    let began = Instant::now();
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
        random::seed(5);
        let plan = ClusterPlan { slow_start: Some(slow), ..plan_by(policy) };
        let turns = LbState::new(&plan);
        let mut members = weighing(&[1; 3]);
        let share = |members: &[Member], seconds: u64| {
            let table = PickTable::new(&plan, members, began + Duration::from_secs(seconds));
            let last = &members[members.len() - 1].endpoint;
            let picks = (0..40_000)
                .filter(|_| Arc::ptr_eq(table.pick(PickOptions::default(), &turns).unwrap(), last));
            (picks.count() as f64 / 40_000.0, table.refresh_at().map(|at| (at - began).as_secs()))
        };
        // Endpoints that start with the proxy start together: none is spared.
        let (even, stale) = share(&members, 0);
        assert_near(even, 1.0 / 3.0, "at the start");
        assert_eq!(stale, Some(1));
        assert_eq!(share(&members, 61).1, None);

        members.push(member(4, 1));
        for (seconds, warmth) in
            [(100, 0.1), (106, 0.1), (115, 0.25), (130, 0.5), (159, 59.0 / 60.0)]
        {
            let (is, stale) = share(&members, seconds);
            let ought: f64 = warmth / (3.0 + warmth);
            assert!((is - ought).abs() < 0.007, "{policy:?} {seconds}: {is} instead of {ought}");
            assert_eq!(stale, Some(seconds + 1));
        }
        assert!((share(&members, 160).0 - 0.25).abs() < 0.007);
        assert_eq!(share(&members, 160).1, None);

        // Healthy again, it starts from the beginning.
        out(&members[3..]);
        assert!(share(&members, 170).0 < f64::EPSILON);
        members[3].endpoint.readmit(Exclusion::Unhealthy);
        assert!((share(&members, 200).0 - 0.1 / 3.1).abs() < 0.007);
        assert!((share(&members, 230).0 - 0.5 / 3.5).abs() < 0.007);
    }
}

#[test]
fn keys_do_not_move_by_warming_up() {
    let slow = SlowStartPlan { window: Duration::from_secs(60), aggression: 1.0, min_weight: 10 };
    let plan = ClusterPlan { slow_start: Some(slow), ..plan_by(LbPolicy::RingHash) };
    assert_eq!(PickTable::new(&plan, &weighing(&[1, 1]), Instant::now()).refresh_at(), None);
}

/// The number of new sets in three rounds of slow start, and the time of each round.
fn rounds(cluster: &Arc<Cluster>) -> (usize, Vec<Instant>) {
    let (dues, sets) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    let warming = cluster.warm_up_with(async |due| {
        sets.borrow_mut().push(cluster.set.load_full());
        if sets.borrow().len() > 3 {
            std::future::pending::<()>().await;
        }
        dues.borrow_mut().push(due);
    });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = std::pin::pin!(warming).as_mut().poll(&mut context);
    let (sets, dues) = (sets.borrow(), dues.borrow());
    let new = sets.windows(2).filter(|pair| !Arc::ptr_eq(&pair[0], &pair[1])).count();
    (new, dues.clone())
}

#[test]
fn sets_are_rebuilt_only_during_slow_start() {
    let warming = |window| {
        let slow = SlowStartPlan { window, aggression: 1.0, min_weight: 10 };
        let plan = ClusterPlan { slow_start: Some(slow), ..plan_by(LbPolicy::Random) };
        cluster(plan, &weighing(&[1; 2]))
    };
    let began = Instant::now();
    let (new, dues) = rounds(&warming(Duration::from_secs(3600)));
    assert_eq!((new, dues.len()), (3, 3));
    assert!(dues.iter().all(|&due| due >= began + Duration::from_secs(1)));
    let (new, dues) = rounds(&warming(Duration::ZERO));
    assert_eq!((new, dues.len()), (0, 3));
    assert!(dues.iter().all(|&due| due >= began + Duration::from_secs(1)));
    let cold = cluster(plan_by(LbPolicy::Random), &weighing(&[1; 2]));
    assert_eq!(rounds(&cold), (0, vec![]), "it ends at once");
}
