//! A Redis that is gone, hangs, and comes back.

use crate::{
    machine::{Machine, limit, plan, run, take, take_until},
    server::Server,
};
use policy::kinds::rate_limit::shared::{LimitDecision, OnStoreFailure, SharedLimitSpec};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

const TIMEOUT: Duration = Duration::from_millis(20);
/// What a machine that is busy otherwise may add to it.
const SLACK: Duration = Duration::from_millis(200);

const ALL: [OnStoreFailure; 3] =
    [OnStoreFailure::Allow, OnStoreFailure::Refuse, OnStoreFailure::Local];

/// Five, and none after.
fn five(policy: &str) -> SharedLimitSpec {
    SharedLimitSpec { per: Duration::from_secs(86_400), ..limit(policy, 1, 5) }
}

fn machines(server: &Server) -> [Machine; 3] {
    ALL.map(|on_failure| {
        let plan = plan(server.store(), on_failure, TIMEOUT);
        Machine::new(&plan, &five(&format!("{on_failure:?}")))
    })
}

/// How many of 200 get through, and how long the slowest took.
async fn burst(machine: &Machine) -> (u64, Duration) {
    let (hand, mut got, mut slowest) = (machine.shared.client(), 0, Duration::ZERO);
    for _ in 0..200 {
        let began = Instant::now();
        got += u64::from(take(&hand, 1).await == LimitDecision::Allowed);
        slowest = slowest.max(began.elapsed());
    }
    (got, slowest)
}

/// Until the store decides, and says no.
async fn until_limited(machine: &Machine) {
    take_until(&machine.shared.client(), "the limit holds", |answer| {
        matches!(answer, LimitDecision::Limited(Some(_)))
    })
    .await;
}

#[test]
fn an_unreachable_store_costs_at_most_the_time_out() {
    let mut server = Server::start();
    server.kill();
    let machines = machines(&server);
    run(async {
        for (machine, expected) in machines.iter().zip([200, 0, 100]) {
            let (got, slowest) = burst(machine).await;
            assert_eq!(got, expected);
            assert!(slowest < TIMEOUT + SLACK, "{slowest:?}");
            assert_eq!(machine.fallbacks(), 200);
            let errors = ["kind=\"unreachable\"", "store=\"redis\""];
            let errors = machine.metric("tollgate_shared_limit_errors_total", &errors);
            assert!((1..50).contains(&errors), "{errors}: it backs off");
        }
        assert_eq!(machines[2].local.load(Relaxed), 200);
        server.restart();
        for machine in &machines {
            until_limited(machine).await;
        }
    });
}

#[test]
fn a_store_is_used_again_after_it_returns() {
    let mut server = Server::start();
    let plans = ALL.map(|on_failure| plan(server.store(), on_failure, TIMEOUT));
    // Leases and rests are over after milliseconds.
    let machines = plans.map(|plan| Machine::new(&plan, &limit("fast", 100, 1)));
    run(async {
        for machine in &machines {
            until_limited(machine).await;
        }
        server.kill();
        for (machine, on_failure) in machines.iter().zip(ALL) {
            let before = machine.fallbacks();
            take_until(&machine.shared.client(), "it falls back", |_| machine.fallbacks() > before)
                .await;
            let (got, slowest) = burst(machine).await;
            let share = match on_failure {
                OnStoreFailure::Allow => 200,
                OnStoreFailure::Refuse => 0,
                OnStoreFailure::Local => 100,
            };
            assert_eq!(got, share, "{on_failure:?}");
            assert!(slowest < TIMEOUT + SLACK, "{slowest:?}");
        }
        server.restart();
        for machine in &machines {
            let before = machine.answers();
            take_until(&machine.shared.client(), "it is back", |_| machine.answers() > before)
                .await;
            until_limited(machine).await;
        }
    });
}

#[test]
fn a_store_that_hangs_delays_no_operation() {
    let server = Server::start();
    let plan = plan(server.store(), OnStoreFailure::Allow, TIMEOUT);
    let machine = Machine::new(&plan, &limit("hangs", 100, 1));
    run(async {
        until_limited(&machine).await;
        server.freeze();
        let hand = machine.shared.client();
        take_until(&hand, "it falls back", |_| machine.fallbacks() > 0).await;
        let began = Instant::now();
        let (got, slowest) = burst(&machine).await;
        assert_eq!(got, 200);
        assert!(slowest < TIMEOUT + SLACK, "{slowest:?}");
        assert!(began.elapsed() < 200 * TIMEOUT / 4, "nearly all are decided without a wait");
        assert!(machine.metric("tollgate_shared_limit_errors_total", &["\"timeout\""]) > 0);
        server.thaw();
        let before = machine.answers();
        take_until(&hand, "it is back", |_| machine.answers() > before).await;
        until_limited(&machine).await;
    });
}
