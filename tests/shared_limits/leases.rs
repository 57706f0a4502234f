//! What a Redis keeps, and how often it is asked.

use crate::{
    machine::{Machine, PATIENCE, limit, peer, plan, run, take},
    server::Server,
};
use policy::kinds::rate_limit::shared::{
    LimitDecision, OnStoreFailure, PendingDecision, RedisPlan, SharedLimitSpec, StorePlan,
};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(5);

fn machine(server: &Server, limit: &SharedLimitSpec) -> Machine {
    Machine::new(&plan(server.store(), OnStoreFailure::Refuse, LONG), limit)
}

/// So few a day that a test sees none of them come.
fn slow(policy: &str, burst: u64) -> SharedLimitSpec {
    SharedLimitSpec { amount: 1, per: Duration::from_secs(86_400), ..limit(policy, 1, burst) }
}

#[test]
fn a_slow_limit_is_exact_on_any_number_of_machines() {
    let server = Server::start();
    let machines = [(); 3].map(|()| machine(&server, &slow("slow", 10)));
    run(async {
        let mut got = 0;
        for machine in machines.iter().cycle().take(60) {
            got += u64::from(take(&machine.shared.client(), 1).await == LimitDecision::Allowed);
        }
        assert_eq!(got, 10);
    });
}

#[test]
fn a_refusal_is_remembered_and_says_when_there_is_more() {
    let server = Server::start();
    let machine = machine(&server, &slow("slow", 1));
    let hand = machine.shared.client();
    run(async {
        assert_eq!(take(&hand, 1).await, LimitDecision::Allowed);
        let LimitDecision::Limited(Some(wait)) = take(&hand, 1).await else {
            panic!("it was not refused")
        };
        assert!(wait > Duration::from_secs(86_000) && wait <= Duration::from_secs(86_400));
        let trips = machine.answers();
        for _ in 0..1000 {
            let taken = hand.take(1, &peer, 1, Instant::now());
            assert!(
                matches!(taken, PendingDecision::Now(LimitDecision::Limited(Some(_)))),
                "it asks each time"
            );
        }
        assert_eq!(machine.answers(), trips);
    });
}

/// Microseconds of the server's clock, as keys have them.
fn now_of(server: &Server) -> i64 {
    let time = server.command("TIME");
    let mut parts = time.lines().filter(|line| !line.starts_with(['*', '$', '+']));
    let mut next = || parts.next().unwrap().parse::<i64>().unwrap();
    (next() - 1_760_000_000) * 1_000_000 + next()
}

#[test]
fn a_key_ahead_of_the_clock_delays_like_an_empty_bucket() {
    let server = Server::start();
    let minute = 60_000_000;
    for (noted, policy) in [(false, "bare"), (true, "noted")] {
        let machine = machine(&server, &limit(policy, 1, 5));
        let at = now_of(&server) + minute;
        let value = if noted { format!("'{} {at}'", at + 3_000_000) } else { at.to_string() };
        let set = format!("SET tollgate:{policy}:peer=10.0.0.1 {value}");
        assert!(server.command(&set).starts_with("+OK"), "{set}");
        run(async {
            let answer = take(&machine.shared.client(), 6).await;
            let LimitDecision::Limited(Some(wait)) = answer else { panic!("{policy}: {answer:?}") };
            assert!(wait <= Duration::from_secs(5), "{policy}: {wait:?}");
        });
    }
}

#[test]
fn whose_key_is_deleted_is_free_again_within_seconds() {
    let server = Server::start();
    let machine = machine(&server, &slow("freed", 1));
    let hand = machine.shared.client();
    run(async {
        assert_eq!(take(&hand, 1).await, LimitDecision::Allowed);
        assert!(matches!(take(&hand, 1).await, LimitDecision::Limited(Some(_))));
        server.command("FLUSHALL");
        let began = Instant::now();
        while take(&hand, 1).await != LimitDecision::Allowed {
            assert!(began.elapsed() < PATIENCE, "it never asks again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn keys_are_distinct_and_expire() {
    let server = Server::start();
    let machine = machine(&server, &slow("apart", 1));
    let hand = machine.shared.client();
    run(async {
        for key in 0..3u64 {
            let attribute = |_: &str| Some(format!("10.0.0.{key}").into());
            let PendingDecision::Later(answer) = hand.take(key, &attribute, 1, Instant::now())
            else {
                panic!("a key was taken for another one");
            };
            assert_eq!(answer.await, LimitDecision::Allowed);
        }
    });
    let keys = server.command("KEYS *");
    for key in 0..3 {
        assert!(keys.contains(&format!("tollgate:apart:peer=10.0.0.{key}")), "{keys}");
    }
    let left = server.command("PTTL tollgate:apart:peer=10.0.0.1");
    let left: u64 = left.lines().next().unwrap().trim_start_matches(':').parse().unwrap();
    assert!((86_000_000..=86_400_000).contains(&left), "{left} ms");
}

#[test]
fn what_was_spent_already_has_to_be_waited_for() {
    let server = Server::start();
    let machines = [(); 2].map(|()| machine(&server, &slow("spent", 10)));
    let hands = machines.each_ref().map(|machine| machine.shared.client());
    run(async {
        assert_eq!(take(&hands[0], 1).await, LimitDecision::Allowed);
        hands[0].spend(1, &peer, 12, Instant::now());
        // The debt is paid before anything else is asked for by the same machine.
        let LimitDecision::Limited(Some(wait)) = take(&hands[0], 1).await else {
            panic!("it had none left")
        };
        assert!(wait > Duration::from_secs(3 * 86_400), "{wait:?}");
        assert!(
            matches!(take(&hands[1], 1).await, LimitDecision::Limited(Some(_))),
            "the other has none too"
        );
    });
}

#[test]
fn more_than_the_burst_goes_through_when_nothing_else_did() {
    let server = Server::start();
    let machine = machine(&server, &slow("large", 10));
    let hand = machine.shared.client();
    run(async {
        assert_eq!(take(&hand, 25).await, LimitDecision::Allowed);
        let LimitDecision::Limited(Some(wait)) = take(&hand, 1).await else {
            panic!("it went through")
        };
        assert!(wait > Duration::from_secs(15 * 86_400), "{wait:?}");
    });
}

#[test]
fn a_server_without_the_script_gets_it_again() {
    let server = Server::start();
    let machine = machine(&server, &slow("forgets", 10));
    let hand = machine.shared.client();
    run(async {
        assert_eq!(take(&hand, 1).await, LimitDecision::Allowed);
        assert!(server.command("SCRIPT FLUSH").starts_with("+OK"));
        assert_eq!(take(&hand, 1).await, LimitDecision::Allowed);
        assert_eq!((machine.answers(), machine.fallbacks()), (2, 0));
    });
}

#[test]
fn a_server_that_wants_a_password_gets_the_one_in_the_file() {
    let server = Server::with(&["--requirepass", "open sesame"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    let StorePlan::Redis(store) = server.store() else { panic!("it is a Redis") };
    let answers = |password_file| {
        let store = StorePlan::Redis(RedisPlan { password_file, ..store.clone() });
        let plan = plan(store, OnStoreFailure::Refuse, LONG);
        let machine = Machine::new(&plan, &slow("locked", 10));
        run(take(&machine.shared.client(), 1))
    };
    assert_eq!(answers(Some(file)), LimitDecision::Allowed);
    assert_eq!(answers(None), LimitDecision::Limited(None));
    assert_eq!(answers(Some("/nonexistent".into())), LimitDecision::Limited(None));
}

#[test]
fn an_unused_limit_closes_its_connection() {
    let server = Server::start();
    let clients = || {
        let info = server.command("INFO clients");
        let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        line.unwrap().parse::<u32>().unwrap()
    };
    let machine = machine(&server, &slow("gone", 10));
    assert_eq!(run(take(&machine.shared.client(), 1)), LimitDecision::Allowed);
    assert_eq!(clients(), 2, "the limit's, and the one that asks");
    drop(machine);
    let began = Instant::now();
    while clients() > 1 {
        assert!(began.elapsed() < PATIENCE, "its thread goes on");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
