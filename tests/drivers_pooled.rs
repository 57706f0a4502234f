//! Drivers that share connections: each connection string that a pool supports (docs/pooling.md), before
//! one server and before a replica set.
//!
//! (`drivers_rust.rs` has the same for the Rust driver.)

mod support;

use std::{
    io::Read,
    process::{Command, Stdio},
};
use support::{
    observed::Driver,
    pooled::{Pooled, SIZE},
    python::drivers,
    secantus::{self, Secantus},
    tools,
};

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

#[test]
fn users_log_in_before_a_replica_set() {
    let Some(server) = Secantus::start(true, false) else { return };
    let credentials = format!("{}:{}", secantus::USER, secantus::PASSWORD);
    for pool in Pooled::before_sets(&server) {
        let ways = pool.ways();
        let variables = [("WAYS", &*ways.join(",")), ("SET_NAME", pool.set_name())];
        let proxy = pool.tollgate.listener("db");
        for driver in [Driver::Pymongo, Driver::Node] {
            let runs = driver.run(proxy, "login", Some(&credentials), &variables);
            let Some(runs) = runs else { return };
            assert_eq!(runs.len(), ways.len());
        }
        let user = format!("{}@admin", secantus::USER);
        let lines = pool.tollgate.logged(4 * ways.len(), |line| line["user"] == user);
        let primary = pool.set.as_ref().expect("members").address(0).to_string();
        assert!(lines.iter().all(|line| line["endpoint"] == primary), "{lines:?}");
    }
}

/// Runs a program with a connection string and a collection, each way that it knows, before replica sets
/// that are shown as routers and as primaries. `driver` is how it names itself.
fn works_before_sets(driver: &str, ways: &[&str], program: impl Fn(&str, &str) -> Option<Command>) {
    let Some(server) = Secantus::shared() else { return };
    for pool in Pooled::before_sets(server) {
        for way in pool.ways().iter().filter(|way| ways.contains(way)) {
            let collection = format!("{}_{}_{way}", driver.to_lowercase(), pool.present_as);
            let Some(mut command) = program(&pool.uri(way), &collection) else { return };
            let output = command.output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{collection}: {said}{error}");
            let batches = pool.tollgate.logged(5, |line| {
                line["operation"] == "getMore"
                    && line["resource"] == format!("drivers.{collection}")
            });
            let named = batches[0]["driver"].as_str().unwrap_or_default();
            assert!(named.contains(driver), "{named}");
        }
    }
}

const ALL: [&str; 4] = ["bare", "set", "direct", "balanced"];

#[test]
fn php_works_before_a_replica_set() {
    works_before_sets("PHP", &ALL, |uri, collection| {
        let mut php = tools::php_with_mongodb()?;
        php.arg(drivers().join("php_scenarios.php")).args([uri, collection]);
        Some(php)
    });
}

#[test]
fn a_hundred_php_processes_share_four_connections() {
    let Some(server) = Secantus::shared() else { return };
    let pool = Pooled::before_set(server, "router");
    let uri = pool.uri("bare");
    let start = || {
        let mut php = tools::php_with_mongodb()?;
        php.arg(drivers().join("php_worker.php")).args([&uri, "workers"]);
        Some(php.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs"))
    };
    let Some(mut processes) = (0..100).map(|_| start()).collect::<Option<Vec<_>>>() else { return };
    for process in &mut processes {
        let mut said = [0; 5];
        process.stdout.as_mut().expect("its output").read_exact(&mut said).expect("a line");
        assert_eq!(&said, b"done\n");
    }
    let clients = pool.tollgate.listener_report("db")["connections"].as_u64();
    assert!(clients >= Some(100), "{clients:?}");
    let set = pool.set.as_ref().expect("members");
    assert_eq!(set.operations("insert"), [600, 0, 0]);
    for member in 0..3 {
        // The monitor has one.
        let most = set.counters(member).most_open;
        assert!(most <= SIZE + 1, "{most} connections to member {member}");
    }
    for mut process in processes {
        drop(process.stdin.take());
        assert!(process.wait().expect("its end").success());
    }
}

#[test]
fn ruby_of_2018_works_before_a_replica_set() {
    works_before_sets("ruby", &["bare", "set"], |uri, collection| {
        let mut ruby = tools::ruby_with_mongodb()?;
        // Today's Ruby warns about much of it.
        ruby.arg("-W0").arg(drivers().join("ruby_scenarios.rb")).args([uri, collection]);
        Some(ruby)
    });
}

#[test]
fn mongoose_works_before_a_replica_set() {
    works_before_sets("Mongoose", &ALL, |uri, collection| {
        let mut node = Command::new("node");
        node.env("NODE_PATH", tools::node_modules_with_mongoose()?);
        node.arg(drivers().join("mongoose_scenarios.js")).args([uri, collection]);
        Some(node)
    });
}

#[test]
fn mongoengine_works_before_a_replica_set() {
    works_before_sets("MongoEngine", &ALL, |uri, collection| {
        let mut python = Command::new(tools::python_with_mongoengine()?.join("python"));
        python.arg(drivers().join("mongoengine_scenarios.py")).args([uri, collection]);
        Some(python)
    });
}

/// What a person does in the shell with the collection NAME: writes, batches, and a transaction.
const SHELL: &str = "
    const shop = db.getSiblingDB('drivers').NAME;
    shop.insertMany(Array.from({ length: 100 }, (_, _id) => ({ _id })));
    assert(shop.find().batchSize(10).toArray().length === 100);
    const session = db.getMongo().startSession();
    session.startTransaction();
    session.getDatabase('drivers').NAME.insertOne({ _id: 'order' });
    session.commitTransaction();
    assert(shop.countDocuments() === 101);
";

#[test]
fn mongosh_works_before_a_replica_set() {
    let home = tempfile::tempdir().expect("a directory");
    works_before_sets("mongosh", &["bare", "set"], |uri, collection| {
        let mut mongosh = tools::mongosh()?;
        let script = SHELL.replace("NAME", collection);
        // It keeps a history and a log there.
        mongosh.env("HOME", home.path()).args([uri, "--quiet", "--norc", "--eval", &script]);
        Some(mongosh)
    });
}
