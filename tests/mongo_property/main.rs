//! Guards before MongoDB hold however a request is spelled: what a careless server reads as
//! something that a guard forbids never reaches it.
//!
//! Requests are generated. A reference server (`drivers/mongo_reference.py`) reports for each what a
//! server sees in it that keeps the last of everything: first asked directly, then behind the
//! proxy. `GUARD_MESSAGES` is how many for each guard, `GUARD_SEED` the first one's seed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod commands;
mod log_ins;
mod spelling;
#[path = "../support/mod.rs"]
mod support;
mod value;
mod wire_client;

use bson::Document;
use commands::{Command, collection, database};
use fastrand::Rng;
use spelling::{Spelled, plainly, wildly};
use support::{python::Service, tollgate::Tollgate};
use wire_client::Client;

/// What the reference server saw in a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Saw {
    operation: String,
    names: Vec<String>,
    databases: Vec<String>,
    comments: Vec<String>,
    writes: bool,
    user: Option<String>,
}

impl Saw {
    fn read(document: &Document) -> Self {
        let texts = |key: &str| {
            let all = document.get_array(key).unwrap();
            all.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
        };
        Self {
            operation: document.get_str("operation").unwrap().to_owned(),
            names: texts("names"),
            databases: texts("databases"),
            comments: texts("comments"),
            writes: document.get_bool("writes").unwrap(),
            user: document.get_str("user").ok().map(str::to_owned),
        }
    }

    /// Whether a collection of a database is among its names, also as one that a UUID may name.
    fn names(&self, wanted: impl Fn(&str, &str) -> bool) -> bool {
        self.names.iter().any(|name| {
            let (database, collection) = name.split_once('.').unwrap_or((name, ""));
            wanted(database, collection)
        })
    }
}

/// A guard, and whether it forbids what was seen.
struct Guard {
    policy: &'static str,
    forbids: fn(&Saw) -> bool,
}

/// How many messages each guard is tried with, and the seed of the first one.
fn effort(usual: u64) -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    (number("GUARD_MESSAGES").unwrap_or(usual), number("GUARD_SEED").unwrap_or(1))
}

/// A random generator for the message with this number.
fn rng(seed: u64) -> Rng {
    // Seeds that follow one another begin alike.
    Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Both ways to the reference server, for one guard.
struct Trial {
    service: Service,
    tollgate: Tollgate,
    direct: Client,
    guarded: Client,
}

impl Trial {
    /// `None` where the reference server can't run.
    fn begin(policies: &str) -> Option<Self> {
        let service = Service::with_pymongo("mongo_reference.py")?;
        let policies = format!("  - {policies}\n");
        let room = "max_held_bytes: 256MiB";
        let tollgate = Tollgate::mongo_guarded(service.address(), room, &policies);
        let direct = Client::connect(service.address());
        let guarded = Client::connect(tollgate.listener("db"));
        Some(Self { service, tollgate, direct, guarded })
    }

    /// New connections without a login.
    fn reconnect(&mut self) {
        self.direct = Client::connect(self.service.address());
        self.guarded = Client::connect(self.tollgate.listener("db"));
    }

    /// What the server sees in a message if there is no proxy.
    fn seen_directly(&mut self, spelled: &Spelled) -> Option<Saw> {
        let seen = self.direct.exchange(&spelled.bytes, spelled.silent, &mut Rng::with_seed(0));
        let seen = seen.expect("the reference server closes no connection");
        assert!(seen.len() <= 1, "one message was seen as several: {seen:?}");
        seen.into_iter().next()
    }

    /// What it sees behind the proxy, which may close the connection.
    fn seen_behind(&mut self, spelled: &Spelled, rng: &mut Rng) -> Vec<Saw> {
        match self.guarded.exchange(&spelled.bytes, spelled.silent, rng) {
            Some(seen) => seen,
            None => {
                self.guarded = Client::connect(self.tollgate.listener("db"));
                Vec::new()
            }
        }
    }
}

/// A message for people: all of it, or its front where it is long.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 1500;
    let shown: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = bytes.len().saturating_sub(SHOWN);
    if more == 0 { shown } else { format!("{shown}… and {more} bytes more") }
}

/// Tries a guard with messages of all kinds: none that it forbids may reach the server, and those
/// that drivers would send have to, if it does not forbid them.
fn try_guard(guard: &Guard) {
    let policy = format!("{{ name: guard, {} }}", guard.policy);
    let Some(mut trial) = Trial::begin(&policy) else { return };
    let (messages, first) = effort(250);
    let (mut forbidden, mut clean, mut wrong) = (0, 0, Vec::new());
    for seed in first..first + messages {
        let rng = &mut rng(seed);
        let id = rng.i32(1..1_000_000);
        let plain = rng.u8(..4) == 0;
        let spelled = if plain {
            let (database, collection) = (database(rng), collection(rng));
            let command = Command::usual(rng, &database, &collection);
            plainly(rng, id, &command)
        } else {
            let command = Command::any(rng);
            wildly(rng, id, &command)
        };
        let direct = trial.seen_directly(&spelled);
        let forbids = direct.as_ref().is_some_and(guard.forbids);
        let behind = trial.seen_behind(&spelled, rng);
        let what = match behind.iter().find(|saw| (guard.forbids)(saw)) {
            Some(saw) => format!("it is forbidden, and was answered: {saw:?}"),
            None if plain && !forbids && behind.is_empty() => format!("it is allowed: {direct:?}"),
            None => String::new(),
        };
        forbidden += u64::from(forbids);
        clean += u64::from(plain && !forbids);
        if !what.is_empty() {
            wrong.push(format!("seed {seed}: {what}\n{}", hex(&spelled.bytes)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {messages} messages get the wrong answer where the policy is\n{policy}\n{}",
        wrong.len(),
        wrong.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
    // Otherwise nothing was tried.
    assert!(forbidden * 12 > messages, "only {forbidden} of {messages} are forbidden");
    assert!(clean * 25 > messages, "only {clean} of {messages} are plain and allowed");
}

#[test]
fn a_denied_collection_is_reached_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { resource: audit.events }, deny: {}",
        forbids: |saw| saw.names(|db, coll| db == "audit" && matches!(coll, "events" | "*")),
    });
}

#[test]
fn no_spelling_reaches_a_denied_database() {
    try_guard(&Guard {
        policy: "match: { resource: 'audit.*' }, deny: {}",
        forbids: |saw| saw.names(|db, coll| db == "audit" && !coll.is_empty()),
    });
}

#[test]
fn no_spelling_reaches_a_denied_collection() {
    try_guard(&Guard {
        policy: "match: { resource: '*.events' }, deny: {}",
        forbids: |saw| saw.names(|_, coll| matches!(coll, "events" | "*")),
    });
}

#[test]
fn a_denied_database_is_reached_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { database: audit }, deny: {}",
        forbids: |saw| saw.names(|db, _| db == "audit"),
    });
}

#[test]
fn a_denied_name_of_a_collection_is_reached_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { collection: events }, deny: {}",
        forbids: |saw| saw.names(|_, coll| matches!(coll, "events" | "*")),
    });
}

#[test]
fn a_denied_command_runs_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { operation: [drop, dropIndexes, dropDatabase, insert, delete, dbStats, \
                 dataSize, renameCollection, mapReduce, applyOps, bulkWrite] }, deny: {}",
        forbids: |saw| {
            const DENIED: [&str; 11] = [
                "drop",
                "dropIndexes",
                "dropDatabase",
                "insert",
                "delete",
                "dbStats",
                "dataSize",
                "renameCollection",
                "mapReduce",
                "applyOps",
                "bulkWrite",
            ];
            DENIED.contains(&saw.operation.as_str())
        },
    });
}

#[test]
fn a_denied_comment_passes_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { comment: 'bad*' }, deny: {}",
        forbids: |saw| saw.comments.iter().any(|comment| comment.starts_with("bad")),
    });
}

#[test]
fn what_is_allowed_alone_is_left_by_no_spelling() {
    try_guard(&Guard {
        policy: "match: { not: { resource: 'shop.*' } }, deny: {}",
        forbids: |saw| saw.names(|db, coll| db != "shop" || coll.is_empty()),
    });
}

#[test]
fn no_spelling_writes_under_read_only() {
    try_guard(&Guard { policy: "read_only: true", forbids: |saw| saw.writes });
}
