//! What a rate limit decides for which client.

use crate::{
    ConnectDecision, Decision, WorkerPolicy,
    rule::{Rule, Stage},
    testing::{self, TestClient, ask, client, policy_env, rule, series_policy, settle},
};
use operation::{Outcome, RejectMode, RejectReason, Settlement};
use serde_json::Value;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A rate limit on one worker, and a moment after it came to be.
fn limit(settings: &str) -> (Box<dyn WorkerPolicy>, Instant) {
    let rule = rule(&format!("rate_limit: {{ {settings} }}"));
    (testing::policy(&rule, &policy_env()), Instant::now())
}

/// The decisions on `times` operations of a client that arrive at once.
fn decisions(
    policy: &dyn WorkerPolicy,
    client: &TestClient,
    now: Instant,
    times: usize,
) -> Vec<String> {
    let bound = series_policy(policy, "find", "shop.orders");
    let decisions = (0..times).map(|_| match ask(&*bound, client, now).0 {
        Decision::Admit => "admit".to_owned(),
        Decision::Modify(effects) => format!("{:?}", effects.delay),
        Decision::Reject(no) => format!("{} {:?}", no.reason, no.mode),
        Decision::Pending(_) => "ask".to_owned(),
    });
    decisions.collect()
}

#[test]
fn only_clients_over_the_limit_are_rejected() {
    let (policy, now) = limit("rate: 2/s, key: [peer]");
    let rejected = "rate_limited Reply";
    assert_eq!(decisions(&*policy, &client(1), now, 3), ["admit", "admit", rejected]);
    assert_eq!(decisions(&*policy, &client(2), now, 3), ["admit", "admit", rejected]);
    assert_eq!(decisions(&*policy, &client(1), now + 500 * MS, 2), ["admit", rejected]);
}

#[test]
fn a_refusal_says_what_was_configured() {
    let settings = "rate: 1/h, base_backoff: 250ms, message: come back tomorrow, over: close";
    let (policy, now) = limit(settings);
    let bound = series_policy(&*policy, "find", "shop.orders");
    ask(&*bound, &client(1), now);
    let (Decision::Reject(no), _) = ask(&*bound, &client(1), now) else { panic!("it passed") };
    assert_eq!((no.reason, no.mode), (RejectReason::RateLimited, RejectMode::Close));
    assert_eq!((&*no.message, no.retry_after), ("come back tomorrow", Some(250 * MS)));

    let (policy, now) = limit("rate: 10MiB/s, unit: bytes, burst: 1");
    let bound = testing::series_policy(&*policy, "find", "shop.orders");
    let (_, state) = ask(&*bound, &client(1), now);
    settle(&*bound, state, &bytes(1 << 30, 0, now));
    let (Decision::Reject(no), _) = ask(&*bound, &client(1), now) else { panic!("it passed") };
    let message = "the policy `it` lets 10MiB/s bytes pass: try again later";
    assert_eq!((&*no.message, no.retry_after), (message, None));
}

#[test]
fn all_workers_share_an_allowance_and_so_do_series() {
    let rule = rule("rate_limit: { rate: 3/s }");
    let (one, two) = (testing::policy(&rule, &policy_env()), testing::policy(&rule, &policy_env()));
    let now = Instant::now();
    assert_eq!(decisions(&*one, &client(1), now, 2), ["admit", "admit"]);
    let inserts = series_policy(&*two, "insert", "shop.users");
    assert!(matches!(ask(&*inserts, &client(2), now).0, Decision::Admit));
    assert!(matches!(ask(&*inserts, &client(2), now).0, Decision::Reject(_)));
}

#[test]
fn operations_over_max_delay_are_rejected() {
    let (policy, now) = limit("rate: 10/s, burst: 1, over: delay, max_delay: 250ms");
    let expected = ["admit", "100ms", "200ms", "rate_limited Reply", "rate_limited Reply"];
    assert_eq!(decisions(&*policy, &client(1), now, 5), expected);
}

#[test]
fn clients_that_back_off_are_rejected_and_others_delayed() {
    let (policy, now) = limit("rate: 10/s, burst: 1, over: by_client");
    let knows = TestClient { backs_off: Some("true"), ..client(1) };
    let (says_no, says_nothing) = (TestClient { backs_off: Some("false"), ..knows }, client(1));
    assert_eq!(decisions(&*policy, &knows, now, 2), ["admit", "rate_limited Reply"]);
    assert_eq!(decisions(&*policy, &says_no, now, 1), ["100ms"]);
    assert_eq!(decisions(&*policy, &says_nothing, now, 1), ["200ms"]);
}

#[test]
fn long_polls_are_neither_limited_nor_counted() {
    let (policy, now) = limit("rate: 1/h");
    let bound = series_policy(&*policy, "hello", "");
    let watcher = client(1);
    let mut hello = testing::operation(&watcher);
    hello.long_poll = true;
    for _ in 0..5 {
        assert!(matches!(bound.admit(&hello, now, &mut 0), Decision::Admit));
    }
    assert_eq!(decisions(&*policy, &client(1), now, 2), ["admit", "rate_limited Reply"]);
    for _ in 0..5 {
        assert!(matches!(bound.admit(&hello, now, &mut 0), Decision::Admit));
    }
}

fn bytes(request_bytes: u64, reply_bytes: u64, now: Instant) -> Settlement<'static> {
    Settlement { request_bytes, reply_bytes, ..Settlement::new(Outcome::Ok, now) }
}

#[test]
fn bytes_are_paid_for_when_they_have_passed() {
    let (policy, now) = limit("rate: 1000/s, unit: bytes, burst: 1000, key: [peer]");
    let bound = series_policy(&*policy, "find", "shop.orders");
    let (decision, state) = ask(&*bound, &client(1), now);
    assert!(matches!(decision, Decision::Admit));
    settle(&*bound, state, &bytes(1000, 2000, now));
    let refused = |after| matches!(ask(&*bound, &client(1), now + after).0, Decision::Reject(_));
    assert!(refused(Duration::ZERO));
    assert!(refused(1999 * MS));
    assert!(!refused(2001 * MS));
    assert!(matches!(ask(&*bound, &client(2), now).0, Decision::Admit), "another's debt");
}

#[test]
fn documents_of_request_or_reply_count_whichever_are_more() {
    let settings = "rate: 100/s, unit: documents, burst: 1, over: delay, max_delay: 1m";
    for (request_items, reply_items) in [(200, 1), (0, 200)] {
        let (policy, now) = limit(settings);
        let bound = series_policy(&*policy, "insert", "shop.orders");
        let (_, state) = ask(&*bound, &client(1), now);
        let how = Settlement { request_items, reply_items, ..bytes(9999, 9999, now) };
        settle(&*bound, state, &how);
        // One is there at once, and 199 take their time.
        assert_eq!(decisions(&*policy, &client(1), now, 1), ["1.990000001s"]);
    }
}

#[test]
fn connections_are_accepted_delayed_or_rejected() {
    let rule = rule("rate_limit: { rate: 1/s, unit: connections, key: [peer] }");
    assert_eq!(rule.config.stage(), Stage::Connection);
    let (policy, now) = (testing::policy(&rule, &policy_env()), Instant::now());
    assert!(matches!(policy.connect(&client(1), now), ConnectDecision::Accept));
    let ConnectDecision::Reject(no) = policy.connect(&client(1), now) else {
        panic!("it was let in")
    };
    assert_eq!(no.reason, RejectReason::RateLimited);
    assert!(matches!(policy.connect(&client(2), now), ConnectDecision::Accept));

    let (policy, now) = limit("rate: 1/s, unit: connections, over: delay, max_delay: 1s");
    assert!(matches!(policy.connect(&client(1), now), ConnectDecision::Accept));
    let ConnectDecision::Delay(wait) = policy.connect(&client(2), now) else { panic!("not held") };
    assert_eq!(wait, 1000 * MS);
    assert!(matches!(policy.connect(&client(3), now), ConnectDecision::Reject(_)));
}

fn mistakes(settings: &str) -> String {
    testing::rules(&format!("{{ name: it, rate_limit: {{ {settings} }} }}")).unwrap_err()
}

#[test]
fn invalid_settings_are_reported() {
    for (settings, message) in [
        ("burst: 5", "`rate` is missing"),
        ("rate: 5/s, max_delay: 1s", "`max_delay` says how long a delay may be"),
        ("rate: 5/s, unit: connections, over: by_client", "not known when it connects"),
        ("rate: 1GiB/s", "nothing is ever that fast"),
        ("rate: 1/s, burst: 5GiB", "nothing is ever that fast"),
        ("rate: 1/d, burst: 1MiB", "100 years"),
        ("rate: 5/s, over: dely", "did you mean `delay`"),
        ("rate: 5/s, unit: packets", "unknown value `packets`"),
        ("rate: 5/s, shared: {}", "the limit has no store"),
        ("rate: 5/s, shared: { redis: {} }", "shared.redis.address: `address` is missing"),
        (
            "rate: 5/s, unit: connections, shared: { redis: { address: 'redis:6379' } }",
            "a shared limit counts operations, documents or bytes",
        ),
    ] {
        let error = mistakes(settings);
        assert!(error.contains(message), "{settings}: {error}");
    }
}

#[test]
fn settings_are_shown_as_they_would_be_written() {
    for settings in [
        "rate: 500/s",
        "rate: 6000/m, burst: 7, key: [user, resource], max_keys: 10",
        "rate: 10MiB/s, unit: bytes, burst: 64KiB",
        "rate: 5/d, over: by_client, max_delay: 3s, base_backoff: 100ms",
        "rate: 5/h, over: reset, unit: connections, key: [peer], message: 'no, thanks'",
        "rate: 5/s, shared: { redis: { address: 'redis:6379' }, on_store_failure: local }",
    ] {
        let json = |rule: &Rule| rule.config.to_json().to_string();
        let shown = json(&rule(&format!("rate_limit: {{ {settings} }}")));
        assert_eq!(json(&rule(&format!("rate_limit: {shown}"))), shown, "{settings}");
    }
    let shown = rule("rate_limit: { rate: 10MiB/s, unit: bytes }").config.to_json();
    assert_eq!((&shown["burst"], &shown["shared"]), (&(10 << 20).into(), &Value::Null));
    assert_eq!(shown["rate"], "10MiB/s");
}
