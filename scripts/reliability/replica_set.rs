//! The replica set of the tests for scripts: `replica_set SERVER MEMBERS SERVICE_TIME_MS`.
//!
//! `SERVER` is the `host:port` of the server that has the data. The first line on stdout has the addresses
//! of the members, with commas. Then each line on stdin is an order, and is answered by a line, `ok` if it
//! is not about counters:
//!
//! ```text
//! elect MEMBER     makes a member the primary; `elect none` leaves the set without one
//! kill MEMBER      ends a member: its connections are reset
//! start MEMBER     starts it again
//! silence MEMBER   cuts a member off: it neither answers nor closes connections
//! hear MEMBER      ends that
//! refusals         the errors that the members themselves gave: `CODE:NUMBER …`
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for measurements: a wrong order ends it"
)]

#[path = "../../tests/support"]
#[allow(unused_imports, dead_code, unreachable_pub, reason = "a part of the tests' library")]
mod support {
    pub mod client;
    pub mod replica_set;
    pub mod wire;

    /// How long a member may take for what should happen at once.
    pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
}

use std::{collections::BTreeMap, io::BufRead, time::Duration};
use support::replica_set::ReplicaSet;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [server, members, service_time] = &arguments[..] else {
        panic!("replica_set SERVER MEMBERS SERVICE_TIME_MS");
    };
    let set = ReplicaSet::start(server.parse().unwrap(), members.parse().unwrap());
    set.set_service_time(Duration::from_millis(service_time.parse().unwrap()));
    let addresses: Vec<_> = set.addresses().iter().map(ToString::to_string).collect();
    println!("{}", addresses.join(","));
    for line in std::io::stdin().lock().lines() {
        println!("{}", obey(&set, &line.unwrap()));
    }
}

/// Carries out an order, and returns the answer.
fn obey(set: &ReplicaSet, order: &str) -> String {
    let (verb, member) = order.split_once(' ').unwrap_or((order, "none"));
    let member: Option<usize> = (member != "none").then(|| member.parse().unwrap());
    match (verb, member) {
        ("elect", next) => set.elect(next),
        ("kill", Some(member)) => set.kill(member),
        ("start", Some(member)) => set.start_again(member),
        ("silence", Some(member)) => set.silence(member, true),
        ("hear", Some(member)) => set.silence(member, false),
        ("refusals", None) => return refusals(set),
        _ => panic!("no such order: {order}"),
    }
    "ok".to_owned()
}

/// The errors of all members by code.
fn refusals(set: &ReplicaSet) -> String {
    let mut all = BTreeMap::new();
    for member in 0..set.addresses().len() {
        for (code, count) in set.counters(member).refusals {
            *all.entry(code).or_insert(0) += count;
        }
    }
    all.iter().map(|(code, count)| format!("{code}:{count}")).collect::<Vec<_>>().join(" ")
}
