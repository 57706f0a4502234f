//! What applications notice if members of a replica set behind one listener fail: nothing. With `failover`,
//! of any driver, and without its retries; else with the retries of pymongo.

#![allow(clippy::unwrap_used)]

mod support;

use bson::{Bson, doc, oid::ObjectId};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};
use support::{
    client::RawClient,
    eventually,
    pooled::{Pooled, SIZE},
    python::drivers,
    replica_set::{Hold, ReplicaSet},
    secantus::Secantus,
    tools,
};

/// How many threads, tasks or processes of an application work at once.
const WORKERS: usize = 8;

/// An application of one or more processes that work until it is finished.
struct Application {
    processes: Vec<(Child, BufReader<ChildStdout>)>,
    /// Where it writes.
    collection: String,
}

/// What it saw.
#[derive(Debug, Default, Deserialize)]
struct Seen {
    /// The number of operations.
    done: usize,
    errors: BTreeMap<String, usize>,
    /// The keys of documents whose insert was acknowledged.
    keys: Vec<String>,
    /// How many `$inc` were acknowledged.
    counted: usize,
    /// The keys of documents that its change stream saw.
    events: Vec<String>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.counted += other.counted;
        self.keys.extend(other.keys);
        self.events.extend(other.events);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

impl Application {
    /// Starts it, and waits until each of its workers has done an operation. Each command is a process,
    /// and gets the name of a collection from `of`.
    fn start(collection: String, commands: impl IntoIterator<Item = Command>) -> Self {
        let mut processes = Vec::new();
        for mut command in commands {
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = command.spawn().unwrap();
            let said = BufReader::new(process.stdout.take().unwrap());
            processes.push((process, said));
        }
        for (_, said) in &mut processes {
            let mut ready = String::new();
            said.read_line(&mut ready).unwrap();
            assert_eq!(ready, "ready\n");
        }
        Self { processes, collection }
    }

    /// Ends it, and compares what was acknowledged with what the server has.
    fn finish(mut self, server: &Secantus) -> Seen {
        // All at once: one that still runs keeps the others from nothing.
        self.processes.iter_mut().for_each(|(process, _)| drop(process.stdin.take()));
        let mut seen = Seen::default();
        for (mut process, mut said) in self.processes {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert!(process.wait().unwrap().success());
            seen.add(serde_json::from_str(&line).unwrap());
        }
        assert_eq!(seen.errors, BTreeMap::new(), "in {} operations", seen.done);
        let (keys, counted) = stored(server, &self.collection);
        seen.keys.sort();
        assert_eq!(seen.keys, keys, "acknowledged, and stored");
        assert_eq!(seen.counted, counted, "counted, and stored");
        seen
    }
}

/// The keys of a collection in order, and the sum of its counters.
fn stored(server: &Secantus, collection: &str) -> (Vec<String>, usize) {
    let mut client = RawClient::connect(server.address());
    let mut all = |name: &str| {
        let sorted = doc! { "_id": 1 };
        let find = doc! { "find": name, "sort": sorted, "batchSize": 1_000_000, "$db": "drivers" };
        let reply = client.command(1, &find);
        let rows = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        rows.iter().map(|row| row.as_document().unwrap().clone()).collect::<Vec<_>>()
    };
    let keys = all(collection).iter().map(|row| row.get_str("_id").unwrap().to_owned()).collect();
    let counters = all(&format!("{collection}_counters"));
    (keys, counters.iter().map(|row| row.get_i32("n").unwrap() as usize).sum())
}

/// A collection that no other application has.
fn new_collection() -> String {
    format!("failover_{}", ObjectId::new())
}

fn pymongo(programs: &Path, uri: &str, kind: &str, collection: &str) -> Command {
    let mut python = Command::new(programs.join("python"));
    python.env("PYTHONDONTWRITEBYTECODE", "1").arg(drivers().join("pymongo_failover.py"));
    python.args([uri, kind, collection]);
    python
}

/// pymongo 4.20 and 3.11.
fn both() -> [Option<PathBuf>; 2] {
    [tools::python(), tools::old_python()]
}

/// Runs the application before a router and before a primary, with each of these drivers, while a test
/// does something to the members. There is no `failover`.
fn runs_without_errors<const N: usize>(
    drivers: [Option<PathBuf>; N],
    kind: &str,
    disturb: impl Fn(&ReplicaSet),
) -> Vec<Seen> {
    let Some(server) = Secantus::shared() else { return Vec::new() };
    let mut all = Vec::new();
    for programs in drivers.into_iter().flatten() {
        for (pool, way) in Pooled::before_sets(server).iter().zip(["bare", "set"]) {
            let collection = new_collection();
            let command = pymongo(&programs, &pool.uri(way), kind, &collection);
            let application = Application::start(collection, [command]);
            disturb(pool.set.as_ref().unwrap());
            all.push(application.finish(server));
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

/// Stops at least this many operations at the primary, and lets `act` end its term there. The next primary gets
/// enough of each of these commands for the retries to be over.
fn interrupt(
    set: &ReplicaSet,
    held: usize,
    hold: Hold,
    next: usize,
    commands: &[&str],
    act: impl Fn(usize),
) {
    let primary = set.primary().unwrap();
    set.hold(primary, Some(hold));
    set.wait("operations to be held", |all| all[primary].held >= held);
    act(primary);
    let enough = |command: &&str| set.counters(next).operations(command) + 20;
    let enough: Vec<_> = commands.iter().map(enough).collect();
    set.wait("operations at the next primary", |all| {
        commands.iter().zip(&enough).all(|(command, n)| all[next].operations(command) > *n)
    });
    set.hold(primary, None);
}

/// Interrupts writes by two elections and a crash.
fn change_primaries(set: &ReplicaSet) {
    let interrupt =
        |hold, next, act: &dyn Fn(usize)| interrupt(set, SIZE, hold, next, &["insert"], act);
    interrupt(Hold::Before, 1, &|_| set.step_down(Some(1)));
    interrupt(Hold::After, 2, &|_| set.step_down(Some(2)));
    interrupt(Hold::After, 0, &|primary| {
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
    runs_without_errors([tools::python()], "inserts", change_primaries);
}

#[test]
fn transactions_are_neither_lost_nor_done_in_part() {
    runs_without_errors(both(), "transactions", change_primaries);
}

/// What each driver is run with: whether it retries itself, how it sees the pool, and the rest of the
/// cluster's keys.
const HIDDEN: [(bool, &str, &str, &str); 2] = [
    (true, "router", "bare", "failover: {}"),
    (false, "primary", "set", "failover: { retryable_writes: add }"),
];

/// Commands of which the next primary must have got some before the next interruption.
const COMMANDS: [&str; 4] = ["find", "insert", "update", "commitTransaction"];

/// What an application's change stream sees of an event.
#[derive(Clone, Copy, PartialEq)]
enum Sees {
    /// It has none.
    Nothing,
    /// Each event once.
    Once,
    /// After it was resumed, some events again: that of node's driver 4 goes back to the begin of a batch,
    /// also without the proxy.
    Again,
}

/// Runs an application that does everything, while primaries step down and crash, each with operations
/// that were not done yet, and with operations that were done and not answered.
///
/// Each test has a server of its own. SecantusDB's change streams also read the log entries of collections that
/// others create in the database; if one of these is the last of an empty batch, it refuses the resume token
/// that it gave out.
fn notices_no_election(
    sees: Sees,
    commands: impl Fn(&Secantus, &str, &str) -> Option<Vec<Command>>,
) {
    let Some(server) = Secantus::start(false, false) else { return };
    for (retries, present_as, way, keys) in HIDDEN {
        let pool = Pooled::before_set_with(&server, present_as, &format!("pool: {{}}, {keys}"));
        let options = format!("retryWrites={retries}&retryReads={retries}");
        let uri = format!("{}&{options}", pool.uri(way)).replace("?&", "?");
        let collection = new_collection();
        let Some(commands) = commands(&server, &uri, &collection) else { return };
        let application = Application::start(collection, commands);
        elect_and_crash(&pool);
        let mut seen = application.finish(&server);
        if sees != Sees::Nothing {
            seen.events.sort();
            if sees == Sees::Again {
                seen.events.dedup();
            }
            assert_eq!(seen.events, seen.keys, "seen by the change stream, and stored");
        }
    }
}

/// Ends the term of four primaries with an operation of each worker under way.
fn elect_and_crash(pool: &Pooled) {
    let set = pool.set.as_ref().unwrap();
    for crashes in [false, true] {
        for hold in [Hold::Before, Hold::After] {
            let next = (set.primary().unwrap() + 1) % 3;
            interrupt(set, WORKERS, hold, next, &COMMANDS, |primary| {
                if crashes {
                    set.kill(primary);
                } else {
                    set.elect(None);
                }
                wait_until_no_primary_is_known(pool);
                set.elect(Some(next));
                if crashes {
                    set.start_again(primary);
                }
            });
        }
    }
}

/// Operations wait then.
fn wait_until_no_primary_is_known(pool: &Pooled) {
    eventually("the proxy to know no primary", || {
        let clusters = pool.tollgate.json("/clusters");
        let mut endpoints = clusters[0]["endpoints"].as_array()?.iter();
        endpoints.all(|endpoint| endpoint["role"] != "primary").then_some(())
    });
}

#[test]
fn pymongo_notices_no_election() {
    notices_no_election(Sees::Once, |_, uri, collection| {
        Some(vec![pymongo(&tools::python()?, uri, "all", collection)])
    });
}

#[test]
fn pymongo_of_2020_notices_no_election() {
    notices_no_election(Sees::Once, |_, uri, collection| {
        Some(vec![pymongo(&tools::old_python()?, uri, "all", collection)])
    });
}

fn node(modules: PathBuf, uri: &str, collection: &str) -> Vec<Command> {
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).arg(drivers().join("node_failover.js")).args([uri, collection]);
    vec![node]
}

#[test]
fn node_notices_no_election() {
    notices_no_election(Sees::Once, |_, uri, collection| {
        Some(node(tools::node_modules()?, uri, collection))
    });
}

#[test]
fn node_of_2023_notices_no_election() {
    notices_no_election(Sees::Again, |_, uri, collection| {
        Some(node(tools::old_node_modules()?, uri, collection))
    });
}

#[test]
fn php_notices_no_election() {
    // Its extension has no change streams.
    notices_no_election(Sees::Nothing, |server, uri, collection| {
        let mut client = RawClient::connect(server.address());
        let counters: Vec<_> = (0..WORKERS as i32).map(|n| doc! { "_id": n, "n": 0 }).collect();
        let name = format!("{collection}_counters");
        for command in [
            doc! { "create": collection, "$db": "drivers" },
            doc! { "insert": name, "documents": counters, "$db": "drivers" },
        ] {
            let reply = client.command(1, &command);
            assert_eq!(reply.get("ok").and_then(Bson::as_f64), Some(1.0), "{reply}");
        }
        let worker = |worker: usize| {
            let mut php = tools::php_with_mongodb()?;
            php.arg(drivers().join("php_failover.php"));
            php.args([uri, collection, &worker.to_string()]);
            Some(php)
        };
        (0..WORKERS).map(worker).collect()
    });
}
