//! Who finds a place, and who gives one back.

use super::*;
use crate::testing::{self, client, policy_env};
use std::thread;

fn rule(settings: &str) -> Arc<Rule> {
    testing::rule(&format!("connection_limit: {{ {settings} }}"))
}

fn guest(policy: &dyn WorkerPolicy, n: u32) -> Option<Box<dyn ConnectionPermit>> {
    match policy.connect(&client(n), Instant::now()) {
        ConnectDecision::AcceptWith(guest) => Some(guest),
        ConnectDecision::Reject(no) => {
            assert_eq!(no.reason, RejectReason::Overloaded);
            None
        }
        ConnectDecision::Accept | ConnectDecision::Delay(_) => panic!("nobody is let in uncounted"),
    }
}

#[test]
fn a_place_is_free_again_when_its_connection_ends() {
    let rule = rule("max: 2, key: [peer]");
    let (one, two) = (testing::policy(&rule, &policy_env()), testing::policy(&rule, &policy_env()));
    let first = guest(&*one, 1).unwrap();
    let _second = guest(&*two, 1).unwrap();
    assert!(guest(&*one, 1).is_none());
    let _other = guest(&*one, 2).unwrap();
    drop(first);
    let _third = guest(&*two, 1).unwrap();
    assert!(guest(&*one, 1).is_none());
}

#[test]
fn without_a_key_there_is_one_limit_for_all() {
    let policy = testing::policy(&rule("max: 1, over: reset"), &policy_env());
    let _first = guest(&*policy, 1).unwrap();
    let ConnectDecision::Reject(no) = policy.connect(&client(2), Instant::now()) else {
        panic!("let in")
    };
    assert_eq!(no.mode, operation::RejectMode::Reset);
    assert_eq!(&*no.message, "the policy `it` allows 1 connections at a time");
}

#[test]
fn memory_of_closed_connections_is_freed() {
    let open = OpenConnections { max: 1, shards: Default::default() };
    for key in 0..100_000_u64 {
        assert!(open.enter(key << 32));
        assert!(!open.enter(key << 32));
    }
    for key in 0..100_000_u64 {
        open.leave(key << 32);
    }
    for shard in &open.shards {
        let shard = shard.lock().unwrap();
        assert_eq!(shard.len(), 0);
        assert!(shard.capacity() <= 64, "{}", shard.capacity());
    }
}

#[test]
fn threads_never_exceed_the_limit() {
    let open = OpenConnections { max: 3, shards: Default::default() };
    let inside = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    if !(open.enter(7)) {
                        continue;
                    }
                    let now = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert!(now < 3, "{now} were in already");
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    open.leave(7);
                }
            });
        }
    });
    assert!(open.shard(7).is_empty());
}

#[test]
fn settings_are_checked_and_shown() {
    let mistake = |settings: &str| {
        testing::rules(&format!("{{ name: it, connection_limit: {{ {settings} }} }}")).unwrap_err()
    };
    assert!(mistake("key: [peer]").contains("`max` is missing"));
    assert!(mistake("max: 5, over: delay").contains("not supported by a connection limit"));
    assert!(mistake("max: 5, key: [user]").contains("not known when a connection comes"));
    let shown = rule("max: 5, key: [peer, listener], over: close").config.to_json().to_string();
    let again = testing::rule(&format!("connection_limit: {shown}"));
    assert_eq!(again.config.to_json().to_string(), shown);
}
