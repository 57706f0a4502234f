//! Config texts of policies: what they mean, and which mistakes are reported.

use policy::Rule;
use std::{sync::Arc, time::Duration};

/// The policy `x` that does this, or everything that is wrong with it.
fn policy(does: &str) -> Result<Arc<Rule>, String> {
    let whole = format!(
        "listeners: {{ a: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: c }} }}\n\
         clusters: {{ c: {{ endpoints: [\"127.0.0.1:1\"] }} }}\n\
         policies:\n  - {{ name: x, {does} }}\n"
    );
    match config::parse("test", &whole) {
        Ok(plan) => Ok(Arc::clone(&plan.policies[0])),
        Err(problems) => Err(problems.to_string()),
    }
}

fn shown(rule: &Rule) -> String {
    format!("{}: {}", rule.config.kind(), rule.config.to_json())
}

#[test]
fn a_policy_is_shown_as_it_was_written() {
    for written in [
        "time_limit: { timeout: 2s }",
        "time_limit: { timeout: 1500ms, message: late }",
        "bandwidth_limit: { up: 10KiB/s }",
        "bandwidth_limit: { down: 10MiB/m, burst: 1MiB, of: all }",
        "deny: { message: no, code: 13, over: reset }",
        "rate_limit: { rate: 500/s }",
        "rate_limit: { rate: 6000/m, burst: 100, key: [peer, user], over: refuse, message: slow }",
        "rate_limit: { rate: 10MiB/s, unit: bytes, over: delay, max_delay: 3s, max_keys: 9 }",
        "rate_limit: { rate: 5/d, unit: documents, over: by_client, base_backoff: 100ms }",
        "rate_limit: { rate: 7/h, unit: connections, key: [peer, listener], over: close }",
        "concurrency_limit: { max: 50 }",
        "concurrency_limit: { max: 50, key: [app], queue: 9, queue_timeout: 1500ms, over: close }",
        "concurrency_limit: { adaptive: {}, message: busy }",
        "concurrency_limit: { adaptive: { min: 2, max: 99, initial: 7, tolerance: 2.5 } }",
        "concurrency_limit: { adaptive: { smoothing: 35 } }",
        "connection_limit: { max: 50, key: [peer, protocol], over: reset }",
        "fault: { percent: 100, seed: 7, delay: 200ms }",
        "fault: { percent: 0.5, times: 3, for: 1m, refuse: { code: 50, labels: [A, B] } }",
        "fault: { nth: 3, seed: 7, close: request }",
        "fault: { every: 3, seed: 7, reset: reply, delay: { min: 10ms, max: 20ms } }",
        "fault: { nth: 3, close: end, delay: { p50: 10ms, p99: 1s, p99.9: 2s } }",
        "fault: { delay: { p0: 5ms, p50: 10ms, p100: 15ms } }",
        "fault: { percent: 10, seed: 7, truncate: 64KiB, throttle: 10KiB/s }",
        "fault: { refuse: { message: no } }",
    ] {
        let shown_once = shown(&policy(written).unwrap());
        let again = shown(&policy(&shown_once).unwrap());
        assert_eq!(shown_once, again, "{written}");
        let words = written.split(|c: char| !c.is_alphanumeric() && c != '.');
        for word in words.filter(|word| !word.is_empty()) {
            assert!(shown_once.contains(word), "{word} is not in {shown_once}");
        }
    }
}

#[test]
fn invalid_policies_are_reported() {
    for (written, told) in [
        ("time_limit: {}", "`timeout` is missing"),
        ("time_limit: { timeout: 2 }", "no unit"),
        ("read_only: false", "does nothing"),
        ("rate_limit: {}", "`rate` is missing"),
        ("rate_limit: { rate: 5/s, max_delay: 1s }", "none is asked"),
        ("rate_limit: { rate: 5/s, shared: { redis: {} } }", ":4:51: `address` is missing"),
        ("concurrency_limit: {}", "no limit is given"),
        ("concurrency_limit: { max: 5, over: delay }", "wait in its queue"),
        ("connection_limit: {}", "`max` is missing"),
        ("connection_limit: { max: 5, key: [user] }", "not known when a connection comes"),
        ("bandwidth_limit: { of: all }", "limits nothing"),
        ("bandwidth_limit: { up: 0/s }", "nothing at all"),
        ("bandwidth_limit: { up: 1/s, of: me }", "connection, all"),
        ("fault: {}", "breaks nothing"),
        ("fault: { nth: 3 }", "breaks nothing"),
        ("fault: { nth: 3, percent: 5, delay: 1s }", "`percent` and `nth` exclude each other"),
        ("fault: { close: end, reset: end }", "`close` and `reset` exclude each other"),
        ("fault: { refuse: {}, throttle: 1/s }", "no bytes to throttle"),
        ("fault: { percent: 0, delay: 1s }", "out of range"),
        ("fault: { percent: 100.1, delay: 1s }", "out of range"),
        ("fault: { percent: -1, delay: 1s }", "not a number"),
        ("fault: { nth: 0, delay: 1s }", "out of range"),
        ("fault: { delay: 5 }", "no unit"),
        ("fault: { delay: { min: 5ms } }", "no range and no table"),
        ("fault: { delay: { min: 5ms, max: 6ms, p50: 1ms } }", "no range and no table"),
        ("fault: { delay: { min: 5ms, max: 4ms } }", "`max` is shorter"),
        ("fault: { delay: { p50: 5ms, p99: 4ms } }", "`p99` is shorter"),
        ("fault: { delay: { p42: 5ms } }", "p42"),
        ("fault: { close: middle }", "middle"),
        ("fault: { delay: 1s }, deny: {}", "one thing"),
    ] {
        let problems = policy(written).expect_err(written);
        assert!(problems.contains(told), "{written}: {problems}");
    }
}

#[test]
fn a_fault_for_a_time_ends_by_itself() {
    let rule = policy("fault: { delay: 1s, for: 1h }").unwrap();
    let ends = rule.expires.unwrap();
    assert!(rule.is_expired(ends) && !rule.is_expired(ends - Duration::from_secs(1)));
    assert_eq!(policy("fault: { delay: 1s }").unwrap().expires, None);
}

#[test]
fn without_a_seed_each_fault_draws_its_own() {
    let seed = || shown(&policy("fault: { delay: 1s }").unwrap());
    assert!((0..3).any(|_| seed() != seed()));
}
