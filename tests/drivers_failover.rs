//! What pymongo's applications notice if members of a replica set behind one listener fail: nothing, with
//! the driver's own retries.

#![allow(clippy::unwrap_used)]

mod support;

use bson::oid::ObjectId;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
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
    fn start(programs: &Path, pool: &Pooled, way: &str, kind: &str) -> Self {
        let mut process = Command::new(programs.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(drivers().join("pymongo_failover.py"))
            .args([&pool.uri(way), kind, &format!("failover_{}", ObjectId::new())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self { process, said }
    }

    fn finish(mut self) -> Seen {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(self.process.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

/// pymongo 4.20 and 3.11.
fn both() -> [Option<PathBuf>; 2] {
    [tools::python(), tools::old_python()]
}

/// Runs the application before a router and before a primary, with each of these drivers, while a test
/// does something to the members.
fn runs_without_errors<const N: usize>(
    drivers: [Option<PathBuf>; N],
    kind: &str,
    disturb: impl Fn(&ReplicaSet),
) -> Vec<Seen> {
    let Some(server) = Secantus::shared() else { return Vec::new() };
    let mut all = Vec::new();
    for programs in drivers.into_iter().flatten() {
        for (pool, way) in Pooled::before_sets(server).iter().zip(["bare", "set"]) {
            let application = Application::start(&programs, pool, way, kind);
            disturb(pool.set.as_ref().unwrap());
            let seen = application.finish();
            assert_eq!(seen.errors, BTreeMap::new(), "{seen:?}");
            all.push(seen);
        }
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
    let all = runs_without_errors(both(), "reads", |set| {
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

/// Interrupts writes by two elections and a crash.
fn change_primaries(set: &ReplicaSet) {
    interrupt_writes(set, Hold::Before, 1, |_| set.step_down(Some(1)));
    interrupt_writes(set, Hold::After, 2, |_| set.step_down(Some(2)));
    interrupt_writes(set, Hold::After, 0, |primary| {
        set.kill(primary);
        set.elect(Some(0));
    });
    // Errors of interrupted writes, and of transactions that ended with the term.
    let refused = |member| [11602, 251].map(|code| set.counters(member).refusals(code));
    assert!([0, 1].map(refused).concat().iter().sum::<usize>() >= SIZE, "nothing was interrupted");
}

#[test]
fn retried_inserts_are_neither_lost_nor_done_twice() {
    // That of 2020 does not see that an error of the write concern can be retried.
    for seen in runs_without_errors([tools::python()], "inserts", change_primaries) {
        // One that is done twice is an error: its key is taken.
        assert_eq!((seen.acknowledged, seen.others), (seen.done, 0), "{seen:?}");
    }
}

#[test]
fn transactions_are_neither_lost_nor_done_in_part() {
    for seen in runs_without_errors(both(), "transactions", change_primaries) {
        assert_eq!((seen.acknowledged, seen.others), (seen.done, 0), "{seen:?}");
    }
}
