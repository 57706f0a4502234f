//! How many get through.

use crate::{
    machine::{Machine, limit, plan},
    server::Server,
};
use policy::kinds::rate_limit::shared::OnStoreFailure;
use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

const RATE: u64 = 2000;
/// What a machine that is busy otherwise may be late by is no loss within this.
const BURST: u64 = 500;
const SPAN: Duration = Duration::from_secs(10);

/// Each of two machines takes this many a millisecond. Returns what each got.
fn shared_by(loads: [usize; 2]) -> [u64; 2] {
    let server = Server::start();
    let plan = plan(server.store(), OnStoreFailure::Refuse, Duration::from_secs(1));
    let start = Arc::new(Barrier::new(2));
    let machines = loads.map(|_| Machine::new(&plan, &limit("busy", RATE, BURST)));
    let pushing: Vec<_> = std::iter::zip(&machines, loads)
        .map(|(machine, load)| machine.push(&start, load, SPAN))
        .collect();
    let got: Vec<u64> = pushing.into_iter().map(|thread| thread.join().unwrap()).collect();
    let may = RATE * SPAN.as_secs() + BURST;
    let sum: u64 = got.iter().sum();
    let off = (sum as f64 / may as f64 - 1.0) * 100.0;
    let trips: Vec<u64> = machines.iter().map(Machine::answers).collect();
    println!("{loads:?}: {got:?} of {may} got through ({off:+.2} %), {trips:?} round trips");
    assert!(off.abs() < 2.0, "{got:?} of {may} got through ({off:+.2} %)");
    let asked: usize = loads.iter().map(|load| load * 10_000).sum();
    assert!((trips.iter().sum::<u64>() as usize) < asked / 10, "{trips:?} round trips");
    assert_eq!(machines.iter().map(Machine::fallbacks).sum::<u64>(), 0);
    [got[0], got[1]]
}

#[test]
fn two_machines_that_are_as_busy_stay_within_one_limit() {
    shared_by([5, 5]);
}

#[test]
fn a_machine_that_is_busy_alone_gets_what_the_other_leaves() {
    let [busy, idle] = shared_by([10, 0]);
    assert_eq!(idle, 0);
    assert!(busy > 0);
}
