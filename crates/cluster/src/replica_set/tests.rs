//! What members say, in some order, and which of them may serve what afterwards.

use super::*;
use crate::{ClusterPlan, ReplicaSetPlan};
use bytes::BytesMut;
use operation::{Monitor, MonitorConfig, MonitorStep, Placement, ReadMode, ReadPreference, TagSet};
use std::time::SystemTime;
use std::{collections::BTreeSet, rc::Rc};
use tollgate_metrics::Metrics;

#[derive(Debug)]
struct NoMonitor;

impl MonitorConfig for NoMonitor {
    fn begin(&self) -> Box<dyn Monitor> {
        Box::new(NoMonitor)
    }
}

impl Monitor for NoMonitor {
    fn write_request(&mut self, _: &mut BytesMut) {}

    fn read_reply(&mut self, _: &[u8]) -> MonitorStep {
        MonitorStep::NeedMore
    }

    fn max_await(&self) -> Duration {
        Duration::ZERO
    }
}

/// A set of which one member is known.
fn set() -> Arc<Cluster> {
    let mut plan = ClusterPlan::new("rs", Vec::new());
    plan.replica_set = Some(ReplicaSetPlan {
        name: "rs".into(),
        seeds: vec![target(1)],
        members: Default::default(),
        monitor: Arc::new(NoMonitor),
    });
    Cluster::new(Arc::new(plan), &Metrics::default())
}

fn target(number: u16) -> Target {
    Target::Host(format!("10.0.0.{number}"), 27017)
}

fn name(number: u16) -> String {
    target(number).to_string()
}

fn endpoint(cluster: &Cluster, number: u16) -> Option<Arc<Endpoint>> {
    cluster.endpoints().into_iter().find(|it| **it.name() == *name(number))
}

fn member(role: Role, members: &[u16]) -> MemberState {
    let members = Some(members.iter().copied().map(name).collect());
    MemberState { role, members, ..MemberState::default() }
}

fn primary(term: u8, members: &[u16]) -> MemberState {
    MemberState { term: vec![term], ..member(Role::Primary, members) }
}

fn report(cluster: &Cluster, number: u16, state: MemberState) {
    cluster.member_reported(&endpoint(cluster, number).unwrap(), state, None);
}

/// The members and their roles: `1p 2s 3?`.
fn roles(cluster: &Cluster) -> String {
    let word = |endpoint: Arc<Endpoint>| {
        let number = endpoint.address().to_string();
        let number = number.trim_start_matches("10.0.0.").trim_end_matches(":27017").to_owned();
        let role = match endpoint.role() {
            Role::Primary => 'p',
            Role::Secondary => 's',
            Role::Unknown => '?',
        };
        format!("{number}{role}")
    };
    let words: BTreeSet<_> = cluster.endpoints().into_iter().map(word).collect();
    words.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn members_that_a_member_names_are_added() {
    let cluster = set();
    assert_eq!(roles(&cluster), "1?");
    report(&cluster, 1, member(Role::Secondary, &[1, 2]));
    assert_eq!(roles(&cluster), "1s 2?");
    report(&cluster, 2, member(Role::Secondary, &[2, 3]));
    assert_eq!(roles(&cluster), "1s 2s 3?");
}

#[test]
fn the_list_of_the_primary_replaces_all_others() {
    let cluster = set();
    report(&cluster, 1, member(Role::Secondary, &[1, 2, 3, 4]));
    report(&cluster, 2, primary(1, &[2, 3]));
    assert_eq!(roles(&cluster), "2p 3?");
    // A secondary may not have heard of a change yet.
    report(&cluster, 3, member(Role::Secondary, &[2, 3, 4]));
    assert_eq!(roles(&cluster), "2p 3s");
}

#[test]
fn clients_of_their_own_connections_leave_a_former_primary() {
    use crate::CloseRequest::{None as Stays, RoleLost};
    let cluster = set();
    let asked = || [1, 2].map(|it| endpoint(&cluster, it).unwrap().close_request());
    report(&cluster, 1, primary(1, &[1, 2]));
    assert_eq!(asked(), [Stays, RoleLost]);
    // In doubt, and there is no other primary.
    cluster.doubt(&endpoint(&cluster, 1).unwrap());
    report(&cluster, 2, member(Role::Secondary, &[1, 2]));
    assert_eq!(asked(), [Stays, RoleLost]);
    report(&cluster, 1, member(Role::Secondary, &[1, 2]));
    assert_eq!(asked(), [RoleLost, RoleLost]);
    report(&cluster, 1, primary(2, &[1, 2]));
    assert_eq!(asked(), [Stays, RoleLost]);
    // The one before may not be reachable any more.
    cluster.member_lost(&endpoint(&cluster, 1).unwrap(), "connection refused", false);
    report(&cluster, 2, primary(3, &[1, 2]));
    assert_eq!(asked(), [RoleLost, Stays]);
}

#[test]
fn all_connections_to_a_silent_member_close() {
    use crate::CloseRequest::{None as Stays, Unhealthy};
    let cluster = set();
    report(&cluster, 1, primary(1, &[1, 2]));
    let silent = endpoint(&cluster, 1).unwrap();
    let lease = crate::Lease::new(&cluster, &silent);
    cluster.member_lost(&silent, "no answer", true);
    assert_eq!([lease.close_request(), lease.shared_close_request()], [Unhealthy; 2]);
    // It answers again.
    report(&cluster, 1, primary(1, &[1, 2]));
    assert_eq!(lease.close_request(), Stays);
}

#[test]
fn connections_that_operations_share_stay_at_a_secondary() {
    let cluster = set();
    report(&cluster, 1, member(Role::Secondary, &[1]));
    let lease = crate::Lease::new(&cluster, &endpoint(&cluster, 1).unwrap());
    assert_eq!(lease.close_request(), crate::CloseRequest::RoleLost);
    assert_eq!(lease.shared_close_request(), crate::CloseRequest::None);
}

#[test]
fn a_newer_primary_replaces_the_one_before() {
    let cluster = set();
    report(&cluster, 1, primary(1, &[1, 2]));
    report(&cluster, 2, primary(2, &[1, 2]));
    assert_eq!(roles(&cluster), "1? 2p");
    report(&cluster, 1, primary(1, &[1, 2]));
    assert_eq!(roles(&cluster), "1? 2p");
    let words = cluster.report()["endpoints"].to_string();
    assert!(words.contains("unknown"), "{words}");
    report(&cluster, 1, member(Role::Secondary, &[1, 2]));
    assert_eq!(roles(&cluster), "1s 2p");
}

#[test]
fn primaries_without_a_term_follow_each_other() {
    let cluster = set();
    report(&cluster, 1, member(Role::Primary, &[1, 2]));
    report(&cluster, 2, member(Role::Primary, &[1, 2]));
    assert_eq!(roles(&cluster), "1? 2p");
    report(&cluster, 1, member(Role::Primary, &[1, 2]));
    assert_eq!(roles(&cluster), "1p 2?");
}

#[test]
fn a_member_that_can_not_be_asked_is_not_used() {
    let cluster = set();
    report(&cluster, 1, primary(1, &[1, 2]));
    report(&cluster, 2, member(Role::Secondary, &[1, 2]));
    let first = endpoint(&cluster, 1).unwrap();
    cluster.member_lost(&first, "connection refused", false);
    assert_eq!(roles(&cluster), "1? 2s");
    assert!(first.is_excluded(Exclusion::Unhealthy));
    assert!(cluster.pick(PickOptions::default()).is_none());
    let text = cluster.report_text();
    assert!(text.starts_with("rs: replica set rs, 1 of 2 endpoints in use\n"), "{text}");
    assert!(text.contains("connection refused"), "{text}");
    let missing = cluster.no_endpoint().to_string();
    assert_eq!(
        missing,
        "cluster `rs` has no endpoint: no primary of `rs` is known \
         (10.0.0.1:27017 is unknown, 10.0.0.2:27017 is secondary)"
    );
    report(&cluster, 1, primary(1, &[1, 2]));
    assert_eq!(roles(&cluster), "1p 2s");
    assert!(first.usable());
}

#[test]
fn late_answers_of_a_removed_member_change_nothing() {
    let cluster = set();
    report(&cluster, 1, primary(1, &[1, 2]));
    let second = endpoint(&cluster, 2).unwrap();
    report(&cluster, 2, member(Role::Secondary, &[1, 2]));
    report(&cluster, 1, primary(1, &[1]));
    assert_eq!(roles(&cluster), "1p");
    cluster.member_reported(&second, primary(9, &[2]), None);
    assert_eq!((roles(&cluster).as_str(), second.role()), ("1p", Role::Unknown));
}

#[test]
fn a_member_in_doubt_is_asked_again() {
    let cluster = set();
    report(&cluster, 1, primary(1, &[1]));
    let mut changes = cluster.changes.subscribe();
    changes.mark_unchanged();
    let first = endpoint(&cluster, 1).unwrap();
    cluster.doubt(&first);
    assert_eq!(roles(&cluster), "1?");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    // It is in doubt already.
    cluster.doubt(&first);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn seeds_are_asked_again_when_no_member_is_left() {
    let cluster = set();
    report(&cluster, 1, primary(1, &[7]));
    assert_eq!(roles(&cluster), "7?");
    cluster.add_seeds();
    assert_eq!(roles(&cluster), "1? 7?");
}

#[test]
fn a_member_is_dialled_at_its_configured_address() {
    let mut plan = ClusterPlan::new("rs", Vec::new());
    plan.replica_set = Some(ReplicaSetPlan {
        name: "rs".into(),
        seeds: vec![target(1)],
        members: [("inside-2:27017".to_owned(), target(2))].into(),
        monitor: Arc::new(NoMonitor),
    });
    let cluster = Cluster::new(Arc::new(plan), &Metrics::default());
    let members = Some(vec![name(1), "inside-2:27017".to_owned()]);
    report(&cluster, 1, MemberState { members, ..primary(1, &[]) });
    assert_eq!(roles(&cluster), "1p 2?");
}

/// A primary and three secondaries, of which the last is far behind.
fn four() -> Arc<Cluster> {
    let cluster = set();
    let now = SystemTime::now();
    let tags = |value: &str| vec![("use".to_owned(), value.to_owned())];
    let members = [1, 2, 3, 4];
    let written = |ago| Some(now - Duration::from_secs(ago));
    report(&cluster, 1, MemberState { last_write: written(1), ..primary(1, &members) });
    for (number, value, ago) in [(2, "app", 1), (3, "reports", 30), (4, "reports", 300)] {
        let state = member(Role::Secondary, &members);
        report(
            &cluster,
            number,
            MemberState { tags: tags(value), last_write: written(ago), ..state },
        );
    }
    cluster
}

/// The members that serve such reads: `1 2`.
fn served(cluster: &Cluster, preference: ReadPreference) -> String {
    let placement = Placement::Read(Rc::new(preference));
    let options = PickOptions { placement: Some(&placement), ..PickOptions::default() };
    let picks = (0..200).filter_map(|_| cluster.pick(options));
    let numbers: BTreeSet<_> = picks.map(|it| it.address().ip().to_string()).collect();
    let words: Vec<_> = numbers.iter().map(|ip| ip.trim_start_matches("10.0.0.")).collect();
    words.join(" ")
}

#[test]
fn each_mode_has_its_members() {
    let cluster = four();
    for (mode, expected) in [
        (ReadMode::Primary, "1"),
        (ReadMode::PrimaryPreferred, "1"),
        (ReadMode::Secondary, "2 3 4"),
        (ReadMode::SecondaryPreferred, "2 3 4"),
        (ReadMode::Nearest, "1 2 3 4"),
    ] {
        assert_eq!(served(&cluster, ReadPreference::of_mode(mode)), expected, "{}", mode.as_str());
    }
    cluster.member_lost(&endpoint(&cluster, 1).unwrap(), "gone", false);
    for (mode, expected) in [
        (ReadMode::Primary, ""),
        (ReadMode::PrimaryPreferred, "2 3 4"),
        (ReadMode::Nearest, "2 3 4"),
    ] {
        assert_eq!(served(&cluster, ReadPreference::of_mode(mode)), expected, "{}", mode.as_str());
    }
}

#[test]
fn the_first_tag_set_that_fits_a_member_decides() {
    let cluster = four();
    let tagged = |mode, sets: &[&[(&str, &str)]]| {
        let set = |tags: &&[(&str, &str)]| -> TagSet {
            tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let tag_sets = sets.iter().map(set).collect();
        served(&cluster, ReadPreference { tag_sets, ..ReadPreference::of_mode(mode) })
    };
    let reports: &[(&str, &str)] = &[("use", "reports")];
    let nothing: &[(&str, &str)] = &[("use", "nothing")];
    assert_eq!(tagged(ReadMode::Secondary, &[reports]), "3 4");
    assert_eq!(tagged(ReadMode::Secondary, &[nothing, reports]), "3 4");
    assert_eq!(tagged(ReadMode::Secondary, &[nothing]), "");
    assert_eq!(tagged(ReadMode::Secondary, &[nothing, &[]]), "2 3 4");
    assert_eq!(tagged(ReadMode::SecondaryPreferred, &[nothing]), "1");
    assert_eq!(tagged(ReadMode::Nearest, &[reports]), "3 4");
}

#[test]
fn stale_secondaries_are_left_out() {
    let cluster = four();
    let fresh = |mode, seconds| {
        let max_staleness = Some(Duration::from_secs(seconds));
        served(&cluster, ReadPreference { max_staleness, ..ReadPreference::of_mode(mode) })
    };
    assert_eq!(fresh(ReadMode::Secondary, 90), "2 3");
    assert_eq!(fresh(ReadMode::Secondary, 10), "2");
    assert_eq!(fresh(ReadMode::Nearest, 10), "1 2");
    // Without a primary, the newest secondary is the measure.
    cluster.member_lost(&endpoint(&cluster, 1).unwrap(), "gone", false);
    assert_eq!(fresh(ReadMode::Secondary, 90), "2 3");
}

#[test]
fn far_members_serve_no_reads_while_a_near_one_fits() {
    let cluster = four();
    let rtt = |number, millis| {
        let endpoint = endpoint(&cluster, number).unwrap();
        let state = member(endpoint.role(), &[1, 2, 3, 4]);
        cluster.member_reported(&endpoint, state, Some(Duration::from_millis(millis)));
    };
    for (number, millis) in [(2, 1), (3, 10), (4, 40)] {
        rtt(number, millis);
    }
    let secondary = ReadPreference::of_mode(ReadMode::Secondary);
    assert_eq!(served(&cluster, secondary.clone()), "2 3");
    cluster.member_lost(&endpoint(&cluster, 2).unwrap(), "gone", false);
    cluster.member_lost(&endpoint(&cluster, 3).unwrap(), "gone", false);
    assert_eq!(served(&cluster, secondary), "4");
}

#[test]
fn an_ejected_primary_takes_writes_all_the_same() {
    let cluster = four();
    let first = endpoint(&cluster, 1).unwrap();
    first.exclude(Exclusion::Ejected);
    cluster.refresh();
    assert!(cluster.pick(PickOptions::default()).is_some());
    first.exclude(Exclusion::Drained);
    assert!(cluster.pick(PickOptions::default()).is_none());
}
