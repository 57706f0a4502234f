//! Drivers that share connections: each connection string that a pool supports (docs/pooling.md), before
//! one server and before a replica set.
//!
//! (`drivers_rust.rs` has the same for the Rust driver.)

mod support;

use support::{observed::Driver, pooled::Pooled};

/// What current drivers do.
const CURRENT: &str = "crud,cursors,transactions,changes,unacknowledged,many,files,elsewhere";

#[test]
fn pymongo_works_with_each_connection_string() {
    for pool in Pooled::all() {
        let ways = pool.ways();
        pool.check(Driver::Pymongo, &format!("{CURRENT},exhaust"), ways);
    }
}

#[test]
fn node_works_with_each_connection_string() {
    for pool in Pooled::all() {
        let ways = pool.ways();
        pool.check(Driver::Node, CURRENT, ways);
    }
}

#[test]
fn pymongo_of_2020_works_through_a_pool() {
    for pool in Pooled::all() {
        // It knows no load balancers.
        let ways: Vec<_> = pool.ways().iter().copied().filter(|way| *way != "balanced").collect();
        pool.check(Driver::OldPymongo, CURRENT, &ways);
    }
}

#[test]
fn node_of_2023_works_through_a_pool() {
    for pool in Pooled::all() {
        let ways = pool.ways();
        pool.check(Driver::OldNode, CURRENT, ways);
    }
}
