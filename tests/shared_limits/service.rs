//! A rate-limit service that is asked, fails, and comes back.

use crate::{
    limiter::{Limiter, Manner, Pair},
    machine::{Machine, limit, peer, plan, run, take, take_until},
};
use policy::kinds::rate_limit::shared::{
    LimitDecision, OnStoreFailure, PendingDecision, StorePlan,
};
use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

const TIMEOUT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(5);
/// What a machine that is busy otherwise may add to a time-out.
const SLACK: Duration = Duration::from_millis(200);

const PEER: &[(&str, Option<&str>)] = &[("peer", None)];

fn machine(store: StorePlan, on_failure: OnStoreFailure, timeout: Duration) -> Machine {
    Machine::new(&plan(store, on_failure, timeout), &limit("asks", 1000, 1000))
}

fn plenty() -> Manner {
    Manner { most: 1_000_000, ..Manner::default() }
}

#[test]
fn the_service_decides_for_all_machines() {
    let limiter = Limiter::start(Manner { most: 10, ..Manner::default() });
    let store = limiter.store(&[PEER]);
    let machines = [(); 2].map(|()| machine(store.clone(), OnStoreFailure::Refuse, LONG));
    run(async {
        let mut got = 0;
        for machine in machines.iter().cycle().take(30) {
            match take(&machine.shared.client(), 1).await {
                LimitDecision::Allowed => got += 1,
                LimitDecision::Limited(wait) => assert_eq!(wait, Some(Duration::from_millis(7500))),
            }
        }
        assert_eq!(got, 10);
        let asked: u64 = machines.iter().map(Machine::answers).sum();
        assert_eq!((asked, limiter.received().len()), (30, 30), "each operation asks");
    });
}

#[test]
fn the_service_gets_the_configured_descriptors() {
    let limiter = Limiter::start(plenty());
    let store = limiter.store(&[
        &[("user", None), ("generic_key", Some("orders"))],
        PEER,
        &[("peer", None), ("tenant", None)],
    ]);
    let machine = machine(store, OnStoreFailure::Refuse, LONG);
    let hand = machine.shared.client();
    let attribute = |name: &str| match name {
        "user" => Some(Cow::Borrowed("ann")),
        "peer" => Some(Cow::Borrowed("10.0.0.1")),
        _ => None,
    };
    run(async {
        let PendingDecision::Later(answer) = hand.take(1, &attribute, 25, Instant::now()) else {
            panic!("it did not ask");
        };
        assert_eq!(answer.await, LimitDecision::Allowed);
    });
    let asked = &limiter.received()[0];
    assert_eq!((&*asked.domain, asked.hits), ("databases", 25));
    let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
    let told: Vec<_> = asked.descriptors.iter().map(|it| it.entries.clone()).collect();
    assert_eq!(
        told,
        [
            // printf 'user=ann' | openssl dgst -sha256 -hmac tollgate
            vec![pair("user", "37576173c06949afda8db4993824c558"), pair("generic_key", "orders")],
            vec![pair("peer", "10.0.0.1")],
        ]
    );
}

#[test]
fn an_operation_with_nothing_to_tell_is_not_asked_about() {
    let limiter = Limiter::start(plenty());
    let machine = machine(limiter.store(&[&[("tenant", None)]]), OnStoreFailure::Refuse, LONG);
    let taken = machine.shared.client().take(1, &peer, 1, Instant::now());
    assert!(matches!(taken, PendingDecision::Now(LimitDecision::Allowed)));
}

#[test]
fn a_slow_or_failing_service_costs_at_most_the_time_out() {
    let slow = Manner { delay: Duration::from_secs(60), ..plenty() };
    for (manner, kind) in [(slow, "timeout"), (Manner { fails: true, ..plenty() }, "error")] {
        let limiter = Limiter::start(manner);
        let machine = machine(limiter.store(&[PEER]), OnStoreFailure::Local, TIMEOUT);
        let hand = machine.shared.client();
        run(async {
            let (began, mut got) = (Instant::now(), 0);
            for _ in 0..200 {
                let began = Instant::now();
                got += u64::from(take(&hand, 1).await == LimitDecision::Allowed);
                assert!(began.elapsed() < TIMEOUT + SLACK, "{:?}", began.elapsed());
            }
            assert_eq!((got, machine.fallbacks()), (100, 200), "{kind}");
            assert!(began.elapsed() < 200 * TIMEOUT / 4, "nearly all are decided without a wait");
            let kind = format!("kind=\"{kind}\"");
            assert!(machine.metric("tollgate_shared_limit_errors_total", &[&kind]) > 0);
            limiter.set(plenty());
            take_until(&hand, "it is back", |_| machine.answers() > 0).await;
        });
    }
}

#[test]
fn a_service_that_is_gone_is_asked_again_when_it_is_back() {
    let mut limiter = Limiter::start(plenty());
    let store = limiter.store(&[PEER]);
    run(async {
        for (on_failure, share) in
            [(OnStoreFailure::Allow, 100), (OnStoreFailure::Refuse, 0), (OnStoreFailure::Local, 50)]
        {
            let machine = machine(store.clone(), on_failure, TIMEOUT);
            let hand = machine.shared.client();
            take_until(&hand, "it answers", |_| machine.answers() > 0).await;
            limiter.stop();
            let before = machine.fallbacks();
            take_until(&hand, "it falls back", |_| machine.fallbacks() > before).await;
            let mut got = 0;
            for _ in 0..100 {
                let began = Instant::now();
                got += u64::from(take(&hand, 1).await == LimitDecision::Allowed);
                assert!(began.elapsed() < TIMEOUT + SLACK, "{:?}", began.elapsed());
            }
            assert_eq!(got, share, "{on_failure:?}");
            limiter.again();
            let before = machine.answers();
            take_until(&hand, "it is back", |_| machine.answers() > before).await;
        }
    });
}
