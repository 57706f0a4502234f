//! Priorities, zones and panic.

use super::*;
use crate::plan::OnPanic;

/// Three priorities with ten endpoints each, `usable[i]` of them usable.
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
    let level = |hash| {
        pick(
            &cluster,
            &members,
            PickOptions { hash: Some(hash), exclude: &[], ..PickOptions::default() },
        )
    };
    assert_eq!([69, 70, 71, 100].map(level), [Some(0), Some(2), Some(2), Some(0)]);
}

#[test]
fn the_next_level_is_tried_when_one_is_exhausted() {
    for policy in ALL {
        let members = priorities([10, 3, 10]);
        let cluster = cluster(plan_by(policy), &members);
        let endpoints = cluster.endpoints();
        let but = |except| {
            pick(
                &cluster,
                &members,
                PickOptions { exclude: except, hash: Some(7), ..PickOptions::default() },
            )
        };
        for _ in 0..50 {
            assert!((10..13).contains(&but(&endpoints[..10]).unwrap()));
            assert!((20..30).contains(&but(&endpoints[..13]).unwrap()));
        }
        // Unusable ones are not picked either, after everything else was tried.
        assert_eq!(but(&[&endpoints[..13], &endpoints[20..]].concat()), None);
    }
}

/// Ten endpoints in the proxy's zone and ten in another, with this many usable ones.
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
fn the_local_zone_is_preferred_up_to_its_capacity() {
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
            // The first half is in the proxy's zone.
            let endpoints = cluster.endpoints();
            let exclude = &endpoints[..10];
            assert!(
                pick(
                    &cluster,
                    &members,
                    PickOptions { exclude, hash: None, ..PickOptions::default() }
                )
                .unwrap()
                    >= 10
            );
        }
    }
}

#[test]
fn zones_are_ignored_without_a_local_zone_and_for_keys() {
    let members = zoned(10, 10);
    for (zone, policy) in
        [(None, LbPolicy::Random), (Some("c"), LbPolicy::Random), (Some("a"), LbPolicy::Maglev)]
    {
        let plan = ClusterPlan { zone: zone.map(Arc::from), ..plan_by(policy) };
        let counts = picks(&cluster(plan, &members), &members, 20_000);
        assert!(counts.iter().all(|&count| count > 800), "{zone:?} {counts:?}");
    }
}

/// Whether a cluster with `usable` usable endpoints panics, and how many endpoints get picks.
fn panic_with(panic: PanicPlan, usable: usize, all: usize) -> (bool, usize) {
    let members = weighing(&vec![1; all]);
    out(&members[usable..]);
    let cluster = cluster(ClusterPlan { panic, ..plan_by(LbPolicy::RoundRobin) }, &members);
    let ask = |_| pick(&cluster, &members, PickOptions::default());
    let picked: std::collections::BTreeSet<_> = (0..100).filter_map(ask).collect();
    assert_eq!(cluster.set.load().describe(), format!("{usable} of {all} endpoints are usable"));
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
fn a_set_threshold_applies_to_every_size_and_zero_never_panics() {
    let at = |percent| PanicPlan { threshold: Some(percent), on_panic: OnPanic::IgnoreHealth };
    assert_eq!(panic_with(at(50), 1, 3), (true, 3));
    assert_eq!(panic_with(at(50), 1, 2), (false, 1));
    assert_eq!(panic_with(at(100), 9, 10), (false, 9), "all can be carried by nine");
    assert_eq!(panic_with(at(100), 7, 10), (true, 10));
    assert_eq!(panic_with(at(0), 0, 3), (false, 0));
    assert_eq!(panic_with(at(0), 1, 10), (false, 1));
}

#[test]
fn a_panic_fails_picks_if_the_plan_says_so() {
    let fail = |threshold| PanicPlan { threshold, on_panic: OnPanic::Fail };
    assert_eq!(panic_with(fail(None), 2, 6), (true, 0));
    assert_eq!(panic_with(fail(None), 3, 6), (false, 3));
    assert_eq!(panic_with(fail(None), 0, 1), (true, 0));
}

#[test]
fn drained_endpoints_are_not_picked_even_in_a_panic() {
    for policy in ALL {
        let members = weighing(&[1; 4]);
        out(&members);
        members[1].endpoint.exclude(Exclusion::Drained);
        members[2].endpoint.exclude(Exclusion::Removed);
        let cluster = cluster(plan_by(policy), &members);
        let counts = picks(&cluster, &members, 1_000);
        assert!(cluster.set.load().table.panics() && counts[0] > 0 && counts[3] > 0, "{counts:?}");
        assert_eq!(counts[1..3], [0, 0]);
        assert_eq!(cluster.set.load().describe(), "0 of 2 endpoints are usable");
        // It is no panic either if an operator drained all of them.
        members[0].endpoint.exclude(Exclusion::Drained);
        members[3].endpoint.exclude(Exclusion::Drained);
        cluster.refresh();
        assert!(
            !cluster.set.load().table.panics() && cluster.pick(PickOptions::default()).is_none()
        );
        assert_eq!(cluster.set.load().describe(), "there is no endpoint");
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
    assert_eq!(cluster.set.load().describe(), words);
}
