//! What drivers' pools do if some of their connections cannot be made: the connections
//! that they have go on, through the proxy as without it.
//!
//! `cargo test --test mongo_pools -- --ignored --nocapture` measures four drivers, and prints the
//! tables of docs/mongodb.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(
    clippy::disallowed_methods,
    reason = "the work of a server takes time, and so does an outage"
)]

mod support;

use bson::doc;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};
use support::{
    python::drivers,
    scripted::{Scripted, batch, reply_to},
    tollgate::{Tollgate, mongo_config, tcp_config},
    tools,
    wire::Message,
};

/// How long the server takes for a find.
const WORK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Pymongo,
    OldPymongo,
    Node,
    OldNode,
}

impl Driver {
    const ALL: [Driver; 4] = [Driver::Pymongo, Driver::OldPymongo, Driver::Node, Driver::OldNode];

    fn name(self) -> &'static str {
        match self {
            Driver::Pymongo => "pymongo 4.20",
            Driver::OldPymongo => "pymongo 3.11",
            Driver::Node => "node 7.9",
            Driver::OldNode => "node 4.17",
        }
    }

    fn command(self) -> Option<Command> {
        Some(match self {
            Driver::Pymongo | Driver::OldPymongo => {
                let programs = match self {
                    Driver::Pymongo => tools::python()?,
                    _ => tools::old_python()?,
                };
                let mut command = Command::new(programs.join("python"));
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command.arg(drivers().join("pymongo_pools.py"));
                command
            }
            Driver::Node | Driver::OldNode => {
                let modules = match self {
                    Driver::Node => tools::node_modules()?,
                    _ => tools::old_node_modules()?,
                };
                let mut command = Command::new("node");
                command.env("NODE_PATH", modules).arg(drivers().join("node_pools.js"));
                command
            }
        })
    }

    /// Starts it, and waits until it has its first connections.
    fn start(self, address: SocketAddr, tasks: usize, finds: usize) -> Option<Running> {
        let mut child = self
            .command()?
            .args([address.to_string(), tasks.to_string(), finds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The old ones say there what they think of a connection that closes.
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        said.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "{}", self.name());
        Some(Running { child, said })
    }
}

/// A driver that has its first connections.
struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// What it saw.
#[derive(Debug, Deserialize)]
struct Seen {
    ok: usize,
    cleared: usize,
    seconds: f64,
    errors: BTreeMap<String, usize>,
}

impl Running {
    /// Lets it do its finds.
    fn finish(mut self) -> Seen {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let seen = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(self.child.wait().unwrap().success());
        seen
    }
}

/// A server that answers greetings at once, and finds after their work.
fn server() -> Scripted {
    server_at((std::net::Ipv4Addr::LOCALHOST, 0).into())
}

fn server_at(address: SocketAddr) -> Scripted {
    let hello = doc! {
        "helloOk": true, "isWritablePrimary": true, "ismaster": true,
        "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0, "maxWireVersion": 21, "ok": 1.0,
    };
    Scripted::answering_at(address, move |message: &Message| {
        let command = message.document();
        match command.keys().next().map(String::as_str) {
            Some("find") => {
                std::thread::sleep(WORK);
                reply_to(message, &batch(true, 0, "shop.orders", &[doc! { "_id": 1 }]))
            }
            Some("hello" | "isMaster" | "ismaster") => reply_to(message, &hello),
            _ => reply_to(message, &doc! { "ok": 1.0 }),
        }
    })
}

/// A driver's pool, from five tasks to twenty while the server takes no new connection.
fn closed_door(driver: Driver, through: impl Fn(SocketAddr) -> Option<Tollgate>) -> Option<Seen> {
    let server = server();
    let tollgate = through(server.address());
    let address = tollgate.as_ref().map_or(server.address(), |it| it.listener("db"));
    let running = driver.start(address, 20, 20)?;
    server.stop_listening();
    Some(running.finish())
}

/// A proxy that reads nothing.
fn unread(server: SocketAddr) -> Tollgate {
    Tollgate::start(&tcp_config(server, "").replacen("wire:", "db:", 1))
}

#[test]
fn drivers_keep_their_pools_at_a_connection_limit() {
    for driver in [Driver::Pymongo, Driver::Node] {
        let Some(seen) = closed_door(driver, |server| Some(Tollgate::mongo(server))) else {
            continue;
        };
        assert_eq!(seen.cleared, 0, "{seen:?}");
        // Without the proxy 334 to 370 of 400; 6 to 15 where pools are dropped.
        assert!(seen.ok > 200, "{seen:?}");
    }
}

#[test]
#[ignore = "measures, for docs/mongodb.md"]
fn measure_a_server_that_takes_no_more_connections() {
    for driver in Driver::ALL {
        print(driver, "direct", closed_door(driver, |_| None));
        print(driver, "mongo", closed_door(driver, |server| Some(Tollgate::mongo(server))));
        print(driver, "tcp", closed_door(driver, |server| Some(unread(server))));
    }
}

#[test]
#[ignore = "measures, for docs/mongodb.md"]
fn measure_a_server_that_is_gone_for_two_seconds() {
    for driver in Driver::ALL {
        for through in [false, true] {
            let server = server();
            let tollgate = through.then(|| Tollgate::mongo(server.address()));
            let address = tollgate.as_ref().map_or(server.address(), |it| it.listener("db"));
            let Some(running) = driver.start(address, 20, 20) else { continue };
            server.go();
            let back = server.address();
            let again = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(2));
                server_at(back)
            });
            let seen = running.finish();
            drop(again.join());
            print(driver, if through { "mongo" } else { "direct" }, Some(seen));
        }
    }
}

#[test]
#[ignore = "measures, for docs/mongodb.md"]
fn measure_limits_of_connections() {
    let limits = [
        ("no limit", "", "", ""),
        ("max_connections", "max_connections: 10", "", ""),
        ("connection_limit", "", "connection_limit: { max: 10, key: [peer] }", ""),
        ("over: close", "", "connection_limit: { max: 10, key: [peer], over: close }", ""),
        ("rate_limit", "", "rate_limit: { rate: 2/s, burst: 10, unit: connections }", ""),
        ("circuit_breaker", "", "", "max_connections: 10, max_pending: 0"),
        ("a queue", "", "", "max_connections: 10, max_pending: 50, pending_timeout: 1s"),
    ];
    for driver in Driver::ALL {
        for (name, listener, policy, breaker) in limits {
            let server = server();
            let mut config = mongo_config(server.address(), listener)
                .replace("endpoints:", &format!("circuit_breaker: {{ {breaker} }}, endpoints:"));
            if !policy.is_empty() {
                config += &format!("policies:\n  - {{ name: limit, {policy} }}\n");
            }
            let tollgate = Tollgate::start(&config);
            let seen = driver.start(tollgate.listener("db"), 40, 20).map(Running::finish);
            print(driver, name, seen);
        }
    }
}

fn print(driver: Driver, how: &str, seen: Option<Seen>) {
    let Some(Seen { ok, cleared, seconds, errors }) = seen else { return };
    println!("{} | {how} | {ok} ok, {seconds:.1} s, {cleared} cleared", driver.name());
    for (error, times) in errors {
        println!("    {times} × {error}");
    }
}
