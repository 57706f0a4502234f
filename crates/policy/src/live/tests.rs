//! The policies in force and their order after changes.

use super::*;
use crate::{Rule, testing};
use std::time::Duration;

fn rules(names: &[&str]) -> Vec<Arc<Rule>> {
    let policies: Vec<String> =
        names.iter().map(|name| format!("{{ name: {name}, deny: {{}} }}")).collect();
    testing::rules(&policies.join(", ")).unwrap()
}

fn names(live: &Live) -> Vec<String> {
    live.rules().iter().map(|rule| rule.name.to_string()).collect()
}

fn fault(end: Option<Instant>) -> Rule {
    Rule { expires: end, ..(*rules(&["fault"])[0]).clone() }
}

#[test]
fn faults_come_before_policies_and_the_latest_first() {
    let (live, now) = (Live::new(rules(&["one", "two"])), Instant::now());
    assert_eq!(names(&live), ["one", "two"]);
    let first = live.add_fault(fault(None), now).unwrap();
    let second = Rule { name: "second".into(), ..fault(None) };
    let second = live.add_fault(second, now).unwrap();
    assert_eq!(names(&live), ["second", "fault", "one", "two"]);
    assert!(live.remove_fault(&first.id) && !live.remove_fault(&first.id));
    assert_eq!(names(&live), ["second", "one", "two"]);
    let third = live.add_fault(fault(None), now).unwrap();
    assert!(third.id != first.id && third.id != second.id, "ids are never reused");
    live.replace(rules(&["three"]));
    assert_eq!(names(&live), ["fault", "second", "three"]);
}

#[test]
fn each_change_is_a_new_generation_and_nothing_else_is() {
    let (live, now) = (Live::new(rules(&["one"])), Instant::now());
    let seen = std::cell::Cell::new(live.generation());
    let changed = || seen.replace(live.generation()) != live.generation();
    assert!(live.change("one", |rule| Rule { dry_run: true, ..rule.clone() }).is_some());
    assert!(changed());
    let fault = live.add_fault(fault(Some(now + Duration::from_secs(1))), now).unwrap();
    assert!(changed());
    live.expire(now);
    let _ = (live.policies(), live.faults(now), live.remove_fault("no such"));
    assert!(live.change("no such", Rule::clone).is_none());
    assert!(!changed());
    assert!(live.remove_fault(&fault.id) && changed());
}

#[test]
fn an_expired_fault_is_removed() {
    let (live, now) = (Live::new(rules(&["one"])), Instant::now());
    let end = now + Duration::from_secs(30);
    live.add_fault(fault(Some(end)), now).unwrap();
    live.expire(end.checked_sub(Duration::from_nanos(1)).unwrap());
    assert_eq!(names(&live), ["fault", "one"]);
    assert_eq!(live.faults(end).len(), 0);
    assert_eq!(names(&live), ["one"]);
}

#[test]
fn the_number_of_faults_is_bounded() {
    let (live, now) = (Live::new(Vec::new()), Instant::now());
    let end = now + Duration::from_secs(30);
    for _ in 0..MAX_FAULTS {
        assert!(live.add_fault(fault(Some(end)), now).is_some());
    }
    assert!(live.add_fault(fault(Some(end)), now).is_none());
    assert!(live.add_fault(fault(Some(end)), end).is_some());
    assert_eq!(live.faults(now).len(), 1);
}

#[test]
fn a_policy_that_is_disabled_and_enabled_keeps_its_state() {
    let live = Live::new(rules(&["one", "two"]));
    let before = live.rules();
    let off = live.change("two", |rule| Rule { enabled: false, ..rule.clone() }).unwrap();
    assert!(off.is_changed() && !live.policies()[0].is_changed());
    let after = live.rules();
    assert!(Arc::ptr_eq(&before[0], &after[0]), "the other policy is the same");
    assert!(Arc::ptr_eq(&before[1].config, &after[1].config) && !after[1].enabled);
    let on = live.change("two", |rule| Rule { enabled: true, ..rule.clone() }).unwrap();
    assert!(!on.is_changed());
    assert!(Arc::ptr_eq(&before[1], &live.rules()[1]));
}
