//! What pymongo's applications notice if members of a replica set behind one listener fail: nothing, with
//! the driver's own retries.

#![allow(clippy::unwrap_used)]

mod support;

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};
use support::{
    pooled::{Pooled, SIZE},
    python::drivers,
    replica_set::{Hold, ReplicaSet},
    secantus::Secantus,
    tools,
};

/// Eight threads of pymongo that work until it is finished.
struct Application {
    process: Child,
    said: BufReader<ChildStdout>,
}

/// What it saw.
#[derive(Debug, Deserialize)]
struct Seen {
    done: usize,
    errors: BTreeMap<String, usize>,
    /// Documents in the collection that were acknowledged.
    acknowledged: usize,
    /// Documents in the collection that were not.
    others: usize,
}

impl Application {
    /// Starts it, and waits until each of its threads has done an operation.
    fn start(pool: &Pooled, way: &str, kind: &str) -> Option<Self> {
        let collection = format!("failover_{kind}_{}", pool.present_as);
        let mut process = Command::new(tools::python()?.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(drivers().join("pymongo_failover.py"))
            .args([&pool.uri(way), kind, &collection])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Some(Self { process, said })
    }

    fn finish(mut self) -> Seen {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(self.process.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

/// Runs the application before a router and before a primary while a test does something to the members.
fn runs_without_errors(kind: &str, disturb: impl Fn(&ReplicaSet)) -> Vec<Seen> {
    let Some(server) = Secantus::shared() else { return Vec::new() };
    let mut all = Vec::new();
    for (pool, way) in Pooled::before_sets(server).iter().zip(["bare", "set"]) {
        let Some(application) = Application::start(pool, way, kind) else { break };
        disturb(pool.set.as_ref().unwrap());
        let seen = application.finish();
        assert_eq!(seen.errors, BTreeMap::new(), "{seen:?}");
        all.push(seen);
    }
    all
}

/// Waits until these members have served fifty more finds.
fn wait_for_reads(set: &ReplicaSet, members: &[usize]) {
    let before = set.operations("find");
    set.wait("reads at members", |all| {
        members.iter().all(|member| all[*member].operations("find") > before[*member] + 50)
    });
}

#[test]
fn reads_that_prefer_secondaries_survive_their_end() {
    let all = runs_without_errors("reads", |set| {
        wait_for_reads(set, &[1, 2]);
        set.kill(1);
        wait_for_reads(set, &[2]);
        set.start_again(1);
        wait_for_reads(set, &[1, 2]);
        set.kill(2);
        wait_for_reads(set, &[1]);
        set.kill(1);
        wait_for_reads(set, &[0]);
    });
    assert!(all.iter().all(|seen| seen.done > 250), "{all:?}");
}

/// Stops writes on all connections of the pool to the primary, and lets `act` end their term there. The
/// next primary gets enough writes for the retries to be over.
fn interrupt_writes(set: &ReplicaSet, hold: Hold, next: usize, act: impl Fn(usize)) {
    let primary = set.primary().unwrap();
    set.hold(primary, Some(hold));
    set.wait("writes to be held", |all| all[primary].held == SIZE);
    act(primary);
    let before = set.counters(next).operations("insert");
    set.wait("inserts at the next primary", |all| all[next].operations("insert") > before + 50);
    set.hold(primary, None);
}

#[test]
fn retried_inserts_are_neither_lost_nor_done_twice() {
    let all = runs_without_errors("inserts", |set| {
        interrupt_writes(set, Hold::Before, 1, |_| set.step_down(Some(1)));
        interrupt_writes(set, Hold::After, 2, |_| set.step_down(Some(2)));
        interrupt_writes(set, Hold::After, 0, |primary| {
            set.kill(primary);
            set.elect(Some(0));
        });
        assert!(set.counters(0).refusals(11602) > 0 && set.counters(1).refusals(11602) > 0);
    });
    for seen in all {
        // One that is done twice is an error: its key is taken.
        assert_eq!((seen.acknowledged, seen.others), (seen.done, 0), "{seen:?}");
    }
}
