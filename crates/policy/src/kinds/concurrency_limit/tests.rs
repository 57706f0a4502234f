//! Which operations a concurrency limit admits, queues and rejects.

use crate::{
    Decision, SeriesPolicy, WorkerPolicy,
    rule::Rule,
    testing::{self, ask, client, policy_env, series_policy, settle},
};
use operation::{DecisionFuture, Outcome, RejectReason, Settlement};
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

fn rule(settings: &str) -> Arc<Rule> {
    testing::rule(&format!("concurrency_limit: {{ {settings} }}"))
}

fn limit(settings: &str) -> Box<dyn WorkerPolicy> {
    testing::policy(&rule(settings), &policy_env())
}

fn series(policy: &dyn WorkerPolicy) -> Box<dyn SeriesPolicy> {
    series_policy(policy, "find", "shop.orders")
}

/// Asks `times` times; returns the states of the operations that were admitted.
fn admitted(bound: &dyn SeriesPolicy, n: u32, times: usize) -> Vec<u64> {
    let asked = (0..times).map(|_| ask(bound, &client(n), Instant::now()));
    asked.filter_map(|(decision, id)| matches!(decision, Decision::Admit).then_some(id)).collect()
}

fn end(bound: &dyn SeriesPolicy, id: u64) {
    settle(bound, id, &Settlement::new(Outcome::Ok, Instant::now()));
}

fn waits(bound: &dyn SeriesPolicy, n: u32) -> (DecisionFuture, u64) {
    match ask(bound, &client(n), Instant::now()) {
        (Decision::Pending(answer), id) => (answer, id),
        (decision, _) => panic!("it does not wait: {decision:?}"),
    }
}

fn poll(answer: &mut DecisionFuture) -> Option<Decision> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(decision) => Some(decision),
        Poll::Pending => None,
    }
}

#[test]
fn a_finished_operation_frees_its_slot_for_any_worker() {
    let rule = rule("max: 3, key: [peer]");
    let (one, two) = (testing::policy(&rule, &policy_env()), testing::policy(&rule, &policy_env()));
    let (one, two) = (series(&*one), series(&*two));
    let first = admitted(&*one, 1, 2);
    assert_eq!(admitted(&*two, 1, 5).len(), 1);
    assert_eq!(admitted(&*two, 2, 5).len(), 3, "another client has its own");
    let (Decision::Reject(no), _) = ask(&*one, &client(1), Instant::now()) else { panic!() };
    assert_eq!(no.reason, RejectReason::Overloaded);
    end(&*one, first[0]);
    assert_eq!(admitted(&*two, 1, 5).len(), 1);
}

#[test]
fn long_polls_take_no_slot() {
    let policy = limit("max: 1");
    let (bound, watcher) = (series(&*policy), client(1));
    let mut watch = testing::operation(&watcher);
    watch.long_poll = true;
    for _ in 0..5 {
        let mut id = 0;
        assert!(matches!(bound.admit(&watch, Instant::now(), &mut id), Decision::Admit));
        end(&*bound, id);
    }
    assert_eq!(admitted(&*bound, 1, 5).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_operation_continues_when_another_ends() {
    let policy = limit("max: 1, queue: 1");
    let bound = series(&*policy);
    let first = admitted(&*bound, 1, 1)[0];
    let (mut answer, id) = waits(&*bound, 1);
    assert!(matches!(ask(&*bound, &client(1), Instant::now()).0, Decision::Reject(_)));
    assert!(poll(&mut answer).is_none());
    end(&*bound, first);
    let goes_on = poll(&mut answer);
    assert!(matches!(goes_on, Some(Decision::Modify(effects)) if effects.waited));
    assert_eq!(admitted(&*bound, 1, 1).len(), 0);
    end(&*bound, id);
    assert_eq!(admitted(&*bound, 1, 5).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_waits_too_long_is_rejected() {
    let policy = limit("max: 1, queue: 1, queue_timeout: 300ms");
    let bound = series(&*policy);
    let first = admitted(&*bound, 1, 1)[0];
    let began = tokio::time::Instant::now();
    let (answer, _) = waits(&*bound, 1);
    assert!(matches!(answer.await, Decision::Reject(no) if no.reason == RejectReason::Overloaded));
    assert_eq!(began.elapsed().as_millis(), 300);
    end(&*bound, first);
    assert_eq!(admitted(&*bound, 1, 5).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_away_while_it_waits_holds_nothing() {
    let policy = limit("max: 1, queue: 2");
    let bound = series(&*policy);
    let first = admitted(&*bound, 1, 1)[0];
    // As a question is dropped: first its ticket, which settles it, and then the answer.
    let (mut answer, id) = waits(&*bound, 1);
    assert!(poll(&mut answer).is_none());
    end(&*bound, id);
    drop(answer);
    // And one that was granted a place, and not asked again.
    let (mut granted, id) = waits(&*bound, 1);
    assert!(poll(&mut granted).is_none());
    end(&*bound, first);
    end(&*bound, id);
    drop(granted);
    // An operation that gets its place only after it ended gives it back.
    let again = admitted(&*bound, 1, 5);
    assert_eq!(again.len(), 1);
    let (mut late, id) = waits(&*bound, 1);
    end(&*bound, id);
    end(&*bound, again[0]);
    assert!(poll(&mut late).is_some());
    assert_eq!(admitted(&*bound, 1, 5).len(), 1);
}

#[test]
fn settings_are_checked_and_shown() {
    for (settings, message) in [
        ("queue: 5", "no limit is given"),
        ("max: 5, adaptive: {}", "`adaptive` is another"),
        ("max: 5, queue_timeout: 1s", "needs a `queue`"),
        ("max: 5, over: delay", "wait in its queue"),
        ("adaptive: { min: 5, max: 4 }", "`min` is 5, and `max` is 4"),
        ("adaptive: { initial: 5 }", "not from 10 to 1000"),
        ("adaptive: { smoothing: 0 }", "never changes it"),
    ] {
        let policy = format!("{{ name: it, concurrency_limit: {{ {settings} }} }}");
        let error = testing::rules(&policy).unwrap_err();
        assert!(error.contains(message), "{settings}: {error}");
    }
    for settings in [
        "max: 50",
        "max: 50, key: [user], queue: 7, queue_timeout: 250ms, over: close, message: busy",
        "adaptive: {}",
        "adaptive: { min: 1, max: 7, tolerance: 2.5, smoothing: 29 }",
    ] {
        let shown = rule(settings).config.to_json().to_string();
        assert_eq!(rule(&shown[1..shown.len() - 1]).config.to_json().to_string(), shown);
    }
}

#[test]
fn a_dry_run_counts_and_delays_no_operation() {
    let text = "{ name: it, dry_run: true, concurrency_limit: { max: 1, queue: 5 } }";
    let rule = testing::rules(text).unwrap().remove(0);
    let policy = testing::policy(&rule, &policy_env());
    let bound = series(&*policy);
    let first = admitted(&*bound, 1, 3);
    assert_eq!(first.len(), 1);
    settle(&*bound, first[0], &Settlement::new(Outcome::Ok, Instant::now() + Duration::ZERO));
    assert_eq!(admitted(&*bound, 1, 3).len(), 1);
}
