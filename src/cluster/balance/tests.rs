//! What is promised of picks. `simulation` has the large ones.

mod simulation;

use super::*;
use crate::{
    cluster::{Lease, endpoint::Meters, tests::plan},
    config::plan::{HashPlan, LbPolicy, PanicPlan, SlowStartPlan},
};
use std::time::Duration;

const ALL: [LbPolicy; 5] = [
    LbPolicy::RoundRobin,
    LbPolicy::LeastRequest,
    LbPolicy::Random,
    LbPolicy::RingHash,
    LbPolicy::Maglev,
];

/// A plan without endpoints: tests make members themselves.
fn plan_by(lb_policy: LbPolicy) -> ClusterPlan {
    ClusterPlan { lb_policy, ..plan(&[]) }
}

/// An endpoint at that port of 127.0.0.1, of the first priority.
fn member(port: u16, weight: u32) -> Member {
    let address: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    let meters = Meters::new("orders", address.to_string().into(), &metrics::NoopRecorder);
    let endpoint = Arc::new(Endpoint::new(address, Arc::new(meters)));
    Member { endpoint, weight, priority: 0, zone: None }
}

/// Endpoints at ports from 1 on.
fn weighing(weights: &[u32]) -> Vec<Member> {
    (1..).zip(weights).map(|(port, &weight)| member(port, weight)).collect()
}

fn cluster(plan: ClusterPlan, members: &[Member]) -> Arc<Cluster> {
    random::seed(4);
    let cluster = Cluster::new(Arc::new(plan), &metrics::NoopRecorder);
    cluster.change(|_| members.to_vec());
    cluster
}

fn pick(cluster: &Cluster, members: &[Member], ask: Ask<'_>) -> Option<usize> {
    let picked = cluster.pick(ask)?;
    members.iter().position(|m| Arc::ptr_eq(&m.endpoint, &picked))
}

/// How many of so many picks each member gets, where keys, if they count, are all different.
fn picks(cluster: &Cluster, members: &[Member], times: usize) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    for nth in 0..times {
        let hash = Some(Cluster::hash(&nth.to_be_bytes()));
        counts[pick(cluster, members, Ask { hash, except: &[] }).unwrap()] += 1;
    }
    counts
}

/// The picks of some members together, in percent of all.
fn percent(counts: &[usize]) -> f64 {
    100.0 * counts.iter().sum::<usize>() as f64
}

fn assert_near(is: f64, ought: f64, what: &str) {
    assert!((is - ought).abs() < ought.max(1.0) * 0.02, "{what}: {is} instead of {ought}");
}

fn out(members: &[Member]) {
    for member in members {
        member.endpoint.take_out(Out::Unhealthy);
    }
}

#[test]
fn weights_hold_within_two_percent() {
    let members = weighing(&[1, 2, 3, 4]);
    for policy in ALL {
        let hash = HashPlan { ring_size: 1 << 18, ..HashPlan::default() };
        let cluster = cluster(ClusterPlan { hash, ..plan_by(policy) }, &members);
        let counts = picks(&cluster, &members, 100_000);
        for (index, &count) in counts.iter().enumerate() {
            let ought = 10_000.0 * (index + 1) as f64;
            assert_near(count as f64, ought, &format!("{policy:?} {counts:?}"));
        }
    }
}

#[test]
fn round_robin_gives_each_exactly_its_turns_over_all_threads() {
    let members = weighing(&[1, 2, 7]);
    let cluster = cluster(plan_by(LbPolicy::RoundRobin), &members);
    let workers = (0..4).map(|_| {
        let (cluster, members) = (cluster.clone(), members.clone());
        std::thread::spawn(move || picks(&cluster, &members, 1_000))
    });
    let workers: Vec<_> = workers.collect();
    let counts = workers.into_iter().map(|worker| worker.join().unwrap());
    let sum = counts.fold([0; 3], |sum, counts| [0, 1, 2].map(|i| sum[i] + counts[i]));
    assert_eq!(sum, [400, 800, 2_800]);
}

#[test]
fn least_request_of_two_always_takes_the_less_busy() {
    let members = weighing(&[1, 1]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let _busy = Lease::new(&cluster, &members[0].endpoint);
    assert_eq!(picks(&cluster, &members, 1_000), [0, 1_000]);
}

#[test]
fn least_request_of_many_never_takes_the_busiest() {
    let members = weighing(&[1; 5]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let busy = Lease::new(&cluster, &members[2].endpoint);
    let counts = picks(&cluster, &members, 10_000);
    assert_eq!(counts[2], 0);
    assert!(counts.iter().filter(|&&c| c > 2_300).count() == 4, "{counts:?}");
    // Operations count as connections do.
    let lease = Lease::new(&cluster, &members[0].endpoint);
    lease.began();
    lease.began();
    assert!(picks(&cluster, &members, 1_000)[0] == 0);
    drop(busy);
}

#[test]
fn least_request_fills_up_by_weight_when_connections_stay() {
    let members = weighing(&[1, 1, 3, 5]);
    let cluster = cluster(plan_by(LbPolicy::LeastRequest), &members);
    let leases: Vec<_> =
        (0..10_000).map(|_| Lease::new(&cluster, &cluster.pick(Ask::default()).unwrap())).collect();
    for member in &members {
        let ought = f64::from(member.weight) * 1_000.0;
        assert_near(member.endpoint.active_connections() as f64, ought, "connections");
    }
    drop(leases);
    assert!(members.iter().all(|m| m.endpoint.active_connections() == 0));
}

#[test]
fn what_is_excepted_is_not_picked_and_nothing_left_is_none() {
    for (policy, weights) in ALL.into_iter().flat_map(|p| [(p, [1, 1, 1]), (p, [1, 1000, 1])]) {
        let members = weighing(&weights);
        let cluster = cluster(plan_by(policy), &members);
        let endpoints = cluster.endpoints();
        for hash in [None, Some(Cluster::hash(b"a")), Some(0), Some(u64::MAX)] {
            let but = |except| pick(&cluster, &members, Ask { except, hash });
            for _ in 0..100 {
                assert_eq!(but(&endpoints[..2]), Some(2), "{policy:?}");
                assert_ne!(but(&endpoints[1..2]), Some(1), "{policy:?}");
            }
            assert_eq!(but(&endpoints), None, "{policy:?}");
        }
    }
}

#[test]
fn what_an_excepted_endpoint_leaves_is_shared_by_all_others() {
    let members = weighing(&[1; 10]);
    for policy in ALL {
        let hash = HashPlan { ring_size: 1 << 16, ..HashPlan::default() };
        let cluster = cluster(ClusterPlan { hash, ..plan_by(policy) }, &members);
        let except = [members[3].endpoint.clone()];
        let mut counts = [0; 10];
        for nth in 0..18_000_usize {
            let hash = Some(Cluster::hash(&nth.to_be_bytes()));
            counts[pick(&cluster, &members, Ask { hash, except: &except }).unwrap()] += 1;
        }
        assert_eq!(counts[3], 0);
        let even = (0..10).filter(|&i| i != 3).all(|i| (1_750..2_250).contains(&counts[i]));
        assert!(even, "{policy:?} {counts:?}");
    }
}

#[test]
fn second_attempts_take_no_turn() {
    // Else every other client of two would begin with the one that failed before.
    let members = weighing(&[1, 1]);
    let cluster = cluster(plan_by(LbPolicy::RoundRobin), &members);
    let except = [members[0].endpoint.clone()];
    let mut failed = 0;
    for _ in 0..1_000 {
        if pick(&cluster, &members, Ask::default()) == Some(0) {
            failed += 1;
            assert_eq!(pick(&cluster, &members, Ask { except: &except, hash: None }), Some(1));
        }
    }
    assert_eq!(failed, 500);
}

#[test]
fn a_key_stays_and_no_key_is_random() {
    let members = weighing(&[1; 20]);
    for policy in [LbPolicy::RingHash, LbPolicy::Maglev] {
        let cluster = cluster(plan_by(policy), &members);
        for key in ["10.0.0.1", "10.0.0.2", "alice"] {
            let hash = Some(Cluster::hash(key.as_bytes()));
            let ask = Ask { hash, except: &[] };
            let own = pick(&cluster, &members, ask);
            assert!((0..100).all(|_| pick(&cluster, &members, ask) == own));
        }
        let mut counts = [0; 20];
        for _ in 0..20_000 {
            counts[pick(&cluster, &members, Ask::default()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}

#[test]
fn keys_hash_as_in_envoy() {
    // XXH64 of the reference implementation, without a seed.
    assert_eq!(Cluster::hash(b""), 0xef46_db37_51d8_e999);
    assert_eq!(Cluster::hash(b"10.0.0.1"), 0xed16_cb68_c786_e3d7);
    assert_eq!(Cluster::hash(&[b'a'; 100]), 0x3750_41e8_b1de_cfb3);
}

fn bounded(policy: LbPolicy, percent: u32) -> ClusterPlan {
    let hash = HashPlan { bounded_load: Some(percent), ..HashPlan::default() };
    ClusterPlan { hash, ..plan_by(policy) }
}

#[test]
fn a_key_that_is_too_much_for_its_endpoint_is_passed_on() {
    let members = weighing(&[1, 1, 2]);
    for policy in [LbPolicy::RingHash, LbPolicy::Maglev] {
        let cluster = cluster(bounded(policy, 125), &members);
        let ask = Ask { hash: Some(Cluster::hash(b"everyone")), except: &[] };
        let own = pick(&cluster, &members, ask).unwrap();
        let leases: Vec<_> =
            (0..1_000).map(|_| Lease::new(&cluster, &cluster.pick(ask).unwrap())).collect();
        let loads = [0, 1, 2].map(|i| members[i].endpoint.load());
        // 125 % of their shares of 1000, and one more as Envoy has it.
        let bounds = [1, 1, 2].map(|weight| 1_001 * 125 / 100 * weight / 4 + 2);
        assert!(loads.iter().zip(bounds).all(|(load, bound)| *load <= bound), "{loads:?}");
        assert!(loads[own] + 3 >= bounds[own], "its own endpoint is full: {loads:?}");
        drop(leases);
        assert_eq!(pick(&cluster, &members, ask), Some(own), "nothing is left of the load");
    }
}

#[test]
fn operations_count_for_the_bound_and_load_within_it_moves_nothing() {
    let members = weighing(&[1; 4]);
    let cluster = cluster(bounded(LbPolicy::Maglev, 150), &members);
    let ask = Ask { hash: Some(Cluster::hash(b"alice")), except: &[] };
    let own = pick(&cluster, &members, ask).unwrap();
    let leases: Vec<_> = members.iter().map(|m| Lease::new(&cluster, &m.endpoint)).collect();
    // ⌈(4 + 1) × 150 %⌉ = 8 slots, 2 of them its own: with one operation it is full, not over.
    leases[own].began();
    assert_eq!(pick(&cluster, &members, ask), Some(own));
    leases[own].began();
    leases[own].began();
    assert_ne!(pick(&cluster, &members, ask), Some(own));
    for _ in 0..3 {
        leases[own].ended(operation::Outcome::Ok, Duration::ZERO);
    }
    assert_eq!(pick(&cluster, &members, ask), Some(own));
}

/// Three priorities with ten endpoints each, of which so many are usable.
fn priorities(usable: [usize; 3]) -> Vec<Member> {
    let of = |priority: u8| {
        (0..10).map(move |i| Member { priority, ..member(u16::from(priority) * 10 + i + 1, 1) })
    };
    let members: Vec<_> = (0..3).flat_map(of).collect();
    for (priority, usable) in usable.into_iter().enumerate() {
        out(&members[priority * 10 + usable..][..10 - usable]);
    }
    members
}

#[test]
fn priorities_share_by_what_they_can_carry() {
    for policy in ALL {
        for (usable, shares) in [
            ([10, 10, 10], [100.0, 0.0, 0.0]),
            ([8, 10, 10], [100.0, 0.0, 0.0]),
            ([7, 10, 10], [98.0, 2.0, 0.0]),
            ([5, 10, 10], [70.0, 30.0, 0.0]),
            ([5, 1, 10], [70.0, 14.0, 16.0]),
            ([0, 0, 10], [0.0, 0.0, 100.0]),
        ] {
            let members = priorities(usable);
            let cluster = cluster(plan_by(policy), &members);
            let counts = picks(&cluster, &members, 50_000);
            for (level, share) in shares.into_iter().enumerate() {
                let is = percent(&counts[level * 10..][..10]) / 50_000.0;
                assert!((is - share).abs() < 0.7, "{policy:?} {usable:?} {level}: {is}");
            }
            assert!(!cluster.set.load().table.panics());
            for (member, &count) in members.iter().zip(&counts) {
                assert!(count == 0 || member.endpoint.usable());
            }
        }
    }
}

#[test]
fn a_key_s_level_is_that_of_envoy() {
    // 70 % and 30 %, as in Envoy's BasicFailover.
    let members = [member(80, 1), member(81, 1), Member { priority: 1, ..member(82, 1) }];
    out(&members[1..2]);
    let cluster = cluster(plan_by(LbPolicy::RingHash), &members);
    let level = |hash| pick(&cluster, &members, Ask { hash: Some(hash), except: &[] });
    assert_eq!([69, 70, 71, 100].map(level), [Some(0), Some(2), Some(2), Some(0)]);
}

#[test]
fn where_a_level_is_exhausted_the_next_is_tried() {
    for policy in ALL {
        let members = priorities([10, 3, 10]);
        let cluster = cluster(plan_by(policy), &members);
        let endpoints = cluster.endpoints();
        let but = |except| pick(&cluster, &members, Ask { except, hash: Some(7) });
        for _ in 0..50 {
            assert!((10..13).contains(&but(&endpoints[..10]).unwrap()));
            assert!((20..30).contains(&but(&endpoints[..13]).unwrap()));
        }
        // Nor are unusable ones, when everything else was tried.
        assert_eq!(but(&[&endpoints[..13], &endpoints[20..]].concat()), None);
    }
}

/// Ten endpoints here and ten elsewhere, of which so many are usable.
fn zoned(here: usize, elsewhere: usize) -> Vec<Member> {
    let in_zone = |zone: &str, from: u16| {
        let zone = Some(Arc::from(zone));
        (0..10).map(move |i| Member { zone: zone.clone(), ..member(from + i, 1) })
    };
    let members: Vec<_> = in_zone("a", 1).chain(in_zone("b", 11)).collect();
    out(&members[here..10]);
    out(&members[10 + elsewhere..]);
    members
}

#[test]
fn the_own_zone_comes_first_and_keeps_what_it_can_carry() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
        for (here, elsewhere, share) in
            [(10, 10, 100.0), (8, 10, 100.0), (5, 10, 70.0), (2, 9, 28.0), (0, 10, 0.0)]
        {
            let members = zoned(here, elsewhere);
            let plan = ClusterPlan { zone: Some("a".into()), ..plan_by(policy) };
            let cluster = cluster(plan, &members);
            let counts = picks(&cluster, &members, 50_000);
            let is = percent(&counts[..10]) / 50_000.0;
            assert!((is - share).abs() < 0.7, "{policy:?} {here}: {is}");
            // Those that are here, then those elsewhere.
            let endpoints = cluster.endpoints();
            let except = &endpoints[..10];
            assert!(pick(&cluster, &members, Ask { except, hash: None }).unwrap() >= 10);
        }
    }
}

#[test]
fn zones_do_not_count_where_none_is_the_own_nor_for_keys() {
    let members = zoned(10, 10);
    for (zone, policy) in
        [(None, LbPolicy::Random), (Some("c"), LbPolicy::Random), (Some("a"), LbPolicy::Maglev)]
    {
        let plan = ClusterPlan { zone: zone.map(Arc::from), ..plan_by(policy) };
        let counts = picks(&cluster(plan, &members), &members, 20_000);
        assert!(counts.iter().all(|&count| count > 800), "{zone:?} {counts:?}");
    }
}

/// Whether a cluster with so many usable endpoints panics, and how many of them are picked.
fn panic_with(panic: PanicPlan, usable: usize, all: usize) -> (bool, usize) {
    let members = weighing(&vec![1; all]);
    out(&members[usable..]);
    let cluster = cluster(ClusterPlan { panic, ..plan_by(LbPolicy::RoundRobin) }, &members);
    let ask = |_| pick(&cluster, &members, Ask::default());
    let picked: std::collections::BTreeSet<_> = (0..100).filter_map(ask).collect();
    assert_eq!(cluster.set.load().words(), format!("{usable} of {all} endpoints are usable"));
    (cluster.set.load().table.panics(), picked.len())
}

#[test]
fn few_endpoints_panic_when_none_is_usable_and_many_below_half() {
    for (all, panics_below) in [(1, 1), (2, 1), (3, 1), (5, 1), (6, 3), (10, 5), (11, 6)] {
        for usable in 0..=all {
            let expected = match usable < panics_below {
                true => (true, all),
                false => (false, usable),
            };
            assert_eq!(panic_with(PanicPlan::default(), usable, all), expected, "{usable}/{all}");
        }
    }
}

#[test]
fn a_threshold_holds_for_every_size_and_zero_never_panics() {
    let at = |percent| PanicPlan { threshold: Some(percent), fail: false };
    assert_eq!(panic_with(at(50), 1, 3), (true, 3));
    assert_eq!(panic_with(at(50), 1, 2), (false, 1));
    assert_eq!(panic_with(at(100), 9, 10), (false, 9), "all can be carried by nine");
    assert_eq!(panic_with(at(100), 7, 10), (true, 10));
    assert_eq!(panic_with(at(0), 0, 3), (false, 0));
    assert_eq!(panic_with(at(0), 1, 10), (false, 1));
}

#[test]
fn a_panic_refuses_where_the_plan_prefers_that() {
    let fail = |threshold| PanicPlan { threshold, fail: true };
    assert_eq!(panic_with(fail(None), 2, 6), (true, 0));
    assert_eq!(panic_with(fail(None), 3, 6), (false, 3));
    assert_eq!(panic_with(fail(None), 0, 1), (true, 0));
}

#[test]
fn what_an_operator_took_out_stays_out_even_in_a_panic() {
    for policy in ALL {
        let members = weighing(&[1; 4]);
        out(&members);
        members[1].endpoint.take_out(Out::Drained);
        members[2].endpoint.take_out(Out::Removed);
        let cluster = cluster(plan_by(policy), &members);
        let counts = picks(&cluster, &members, 1_000);
        assert!(cluster.set.load().table.panics() && counts[0] > 0 && counts[3] > 0, "{counts:?}");
        assert_eq!(counts[1..3], [0, 0]);
        assert_eq!(cluster.set.load().words(), "0 of 2 endpoints are usable");
        // Nor is it a panic if an operator took all of them.
        members[0].endpoint.take_out(Out::Drained);
        members[3].endpoint.take_out(Out::Drained);
        cluster.refresh();
        assert!(!cluster.set.load().table.panics() && cluster.pick(Ask::default()).is_none());
        assert_eq!(cluster.set.load().words(), "there is no endpoint");
    }
}

#[test]
fn all_levels_in_panic_share_by_size() {
    let members = priorities([2, 1, 0]);
    let cluster = cluster(plan_by(LbPolicy::RoundRobin), &members);
    let counts = picks(&cluster, &members, 30_000);
    assert!(cluster.set.load().table.panics());
    assert!(counts.iter().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    let words = "2 of 10 endpoints of priority 0 are usable (panic), \
                 1 of 10 endpoints of priority 1 are usable (panic), \
                 0 of 10 endpoints of priority 2 are usable (panic)";
    assert_eq!(cluster.set.load().words(), words);
}

#[test]
fn an_endpoint_warms_up_over_its_window() {
    let slow = SlowStartPlan { window: Duration::from_secs(60), aggression: 1.0, min_weight: 10 };
    let began = Instant::now();
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
        random::seed(5);
        let plan = ClusterPlan { slow_start: Some(slow), ..plan_by(policy) };
        let turns = Turns::new(&plan);
        let mut members = weighing(&[1; 3]);
        let share = |members: &[Member], seconds: u64| {
            let table = Table::new(&plan, members, began + Duration::from_secs(seconds));
            let last = &members[members.len() - 1].endpoint;
            let picks = (0..40_000)
                .filter(|_| Arc::ptr_eq(table.pick(Ask::default(), &turns).unwrap(), last));
            (picks.count() as f64 / 40_000.0, table.stale().map(|at| (at - began).as_secs()))
        };
        // At the start they come in together: no one is spared.
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

        // Healthy again, it begins anew.
        out(&members[3..]);
        assert!(share(&members, 170).0 < f64::EPSILON);
        members[3].endpoint.bring_back(Out::Unhealthy);
        assert!((share(&members, 200).0 - 0.1 / 3.1).abs() < 0.007);
        assert!((share(&members, 230).0 - 0.5 / 3.5).abs() < 0.007);
    }
}

#[test]
fn keys_do_not_move_by_warming_up() {
    let slow = SlowStartPlan { window: Duration::from_secs(60), aggression: 1.0, min_weight: 10 };
    let plan = ClusterPlan { slow_start: Some(slow), ..plan_by(LbPolicy::RingHash) };
    assert_eq!(Table::new(&plan, &weighing(&[1, 1]), Instant::now()).stale(), None);
}

/// How many new sets three rounds of warming up make, and when each round was due.
fn rounds(cluster: &Arc<Cluster>) -> (usize, Vec<Instant>) {
    let (dues, sets) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    let warming = cluster.warm_up_by(async |due| {
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
fn sets_are_made_anew_while_something_warms_up_and_only_then() {
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

#[test]
fn an_empty_cluster_has_nothing_to_pick_and_nothing_to_panic_about() {
    for policy in ALL {
        let cluster = cluster(plan_by(policy), &[]);
        let ask = Ask { hash: Some(1), except: &[] };
        assert!(cluster.pick(ask).is_none() && cluster.pick(Ask::default()).is_none());
        assert!(!cluster.set.load().table.panics());
    }
}
