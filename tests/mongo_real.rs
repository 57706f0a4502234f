//! A real MongoDB behind the proxy, where there is one: `TOLLGATE_TEST_MONGODB=mongodb://…` names a
//! replica set that tests may write to. Without it these tests say that they are skipped, and pass;
//! `docker compose run --rm --build test` brings one along.
//!
//! `TOLLGATE_TEST_SET` names a set of three or more members, which a test lets elect. With
//! `TOLLGATE_TEST_KILL` and `TOLLGATE_TEST_START`, commands of the shell that end and start the member
//! whose host is `$1` and whose port is `$2`, a member is ended, too: `docker compose run --rm --build test-elections` has all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use bson::{Document, doc};
use futures_util::{TryStreamExt, future::join_all};
use mongodb::{
    Client, Collection,
    error::{Error, ErrorKind, WriteFailure},
    options::{ClientOptions, Compressor, ServerAddress},
};
use std::{
    cell::Cell,
    net::ToSocketAddrs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::tollgate::{Tollgate, mongo_config};

/// The connection string of the server, if there is one to test with.
fn server(test: &str) -> Option<String> {
    variable(test, "TOLLGATE_TEST_MONGODB")
}

/// What a variable of the environment names, if it is there.
fn variable(test: &str, name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("SKIPPED {test}: there is no {name}");
    }
    value
}

/// Runs a scenario through the proxy in a collection of its own, and returns the proxy with its log.
fn through_the_proxy(
    uri: &str,
    name: &str,
    adapt: impl Fn(&mut ClientOptions),
    scenario: impl AsyncFn(&Client, &Collection<Document>) -> Result<(), Error>,
) -> Tollgate {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = ClientOptions::parse(uri).await.expect("TOLLGATE_TEST_MONGODB");
        let upstream = match options.hosts.first() {
            Some(ServerAddress::Tcp { host, port }) => (host.clone(), port.unwrap_or(27017)),
            other => panic!("the tests need host:port, not {other:?}"),
        };
        let upstream = upstream.to_socket_addrs().expect("a known name").next().unwrap();
        let tollgate = Tollgate::start(&mongo_config(upstream, ""));
        options.hosts = vec![ServerAddress::parse(tollgate.listener("db").to_string()).unwrap()];
        options.app_name = Some(name.to_owned());
        options.server_selection_timeout = Some(Duration::from_secs(20));
        adapt(&mut options);
        let client = Client::with_options(options).unwrap();
        let collection = client.database("tollgate_test").collection(name);
        collection.drop().await.unwrap();
        scenario(&client, &collection).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        collection.drop().await.unwrap();
        client.shutdown().await;
        tollgate
    })
}

async fn crud(_: &Client, all: &Collection<Document>) -> Result<(), Error> {
    all.insert_many((0..500).map(|n| doc! { "_id": n, "text": "x".repeat(500) })).await?;
    let rows = all.find(doc! {}).batch_size(100).comment("real.rows").await?;
    assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 500);
    let more = doc! { "$set": { "seen": true } };
    assert_eq!(all.update_many(doc! { "_id": { "$lt": 10 } }, more).await?.modified_count, 10);
    assert_eq!(all.delete_many(doc! { "seen": true }).await?.deleted_count, 10);
    assert_eq!(all.count_documents(doc! {}).await?, 490);
    let duplicate = all.insert_one(doc! { "_id": 10 }).await.unwrap_err();
    match *duplicate.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => assert_eq!(error.code, 11000),
        other => panic!("not a duplicate key: {other}"),
    }
    Ok(())
}

/// What the log must contain for [`crud`].
fn check_crud(tollgate: &Tollgate, name: &str) {
    let of = |operation: &str| {
        tollgate.logged(1, |line| line["operation"] == operation && line["app"] == name)
    };
    let inserts = of("insert");
    assert_eq!(inserts[0]["documents"], 500);
    assert_eq!(inserts[0]["resource"], format!("tollgate_test.{name}"));
    let rejected = tollgate.logged(1, |line| line["code"] == "DuplicateKey");
    assert_eq!(rejected[0]["outcome"], "rejected");
    assert_eq!(of("update")[0]["documents"], 10);
    assert_eq!(of("delete")[0]["documents"], 10);
    let batches = tollgate.logged(4, |line| line["operation"] == "getMore");
    assert!(batches.iter().all(|line| line["callsite"] == "real.rows"), "{batches:?}");
}

#[test]
fn writes_reads_and_errors_pass_and_are_logged() {
    let Some(uri) = server("writes_reads_and_errors_pass_and_are_logged") else { return };
    check_crud(&through_the_proxy(&uri, "crud", |_| {}, crud), "crud");
}

#[test]
fn compressed_operations_are_logged_the_same() {
    let Some(uri) = server("compressed_operations_are_logged_the_same") else { return };
    for (word, compressor) in [
        ("snappy", Compressor::Snappy),
        ("zlib", Compressor::Zlib { level: None }),
        ("zstd", Compressor::Zstd { level: None }),
    ] {
        let offered = Cell::new(false);
        let adapt =
            |options: &mut ClientOptions| options.compressors = Some(vec![compressor.clone()]);
        let name = format!("crud_{word}");
        let tollgate = through_the_proxy(&uri, &name, adapt, async |client, all| {
            let hello = doc! { "hello": 1, "compression": [word] };
            let hello = client.database("admin").run_command(hello).await?;
            offered.set(hello.get_array("compression").is_ok_and(|words| !words.is_empty()));
            crud(client, all).await
        });
        check_crud(&tollgate, &name);
        if !offered.get() {
            println!("SKIPPED {word}: this server does not offer it");
            continue;
        }
        let insert = tollgate.logged(1, |line| line["documents"] == 500);
        assert!(insert[0]["request_bytes"].as_u64().unwrap() < 100_000, "never compressed");
    }
}

#[test]
fn a_transaction_commits() {
    let Some(uri) = server("a_transaction_commits") else { return };
    let tollgate = through_the_proxy(
        &uri,
        "transaction",
        |_| {},
        async |client, all| {
            client.database("tollgate_test").create_collection(all.name()).await?;
            let mut session = client.start_session().await?;
            session.start_transaction().await?;
            all.insert_one(doc! { "_id": 1 }).session(&mut session).await?;
            all.insert_one(doc! { "_id": 2 }).session(&mut session).await?;
            session.commit_transaction().await?;
            assert_eq!(all.count_documents(doc! {}).await?, 2);
            Ok(())
        },
    );
    let commits = tollgate.logged(1, |line| line["operation"] == "commitTransaction");
    assert_eq!(commits[0]["outcome"], "ok");
}

#[test]
fn a_change_stream_goes_on_while_others_write() {
    let Some(uri) = server("a_change_stream_goes_on_while_others_write") else { return };
    through_the_proxy(
        &uri,
        "changes",
        |_| {},
        async |_, all| {
            all.insert_one(doc! { "_id": 0 }).await?;
            let mut stream = all.watch().max_await_time(Duration::from_millis(500)).await?;
            all.insert_one(doc! { "_id": 1 }).await?;
            let change = stream.try_next().await?.expect("a change");
            assert_eq!(change.document_key, Some(doc! { "_id": 1 }));
            Ok(())
        },
    );
}

/// How long an election may take, and the start of a member.
const ELECTION: Duration = Duration::from_secs(60);

/// How many tasks work at once.
const WORKERS: usize = 16;

/// What tasks do while the set elects, and what was acknowledged.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    keys: Mutex<Vec<String>>,
    counted: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Load {
    /// Inserts keys of its own, counts, or commits two keys and a count, until it is over.
    async fn work(&self, client: &Client, name: &str, worker: usize) {
        let database = client.database("tollgate_test");
        let (all, counters) = (database.collection(name), database.collection("counters"));
        for n in 0.. {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("{worker}-{n}");
            let (done, counts) = match worker % 3 {
                0 => (all.insert_one(doc! { "_id": &key }).await.map(|_| vec![key]), 0),
                1 => (count(&counters, name, worker).await.map(|()| Vec::new()), 1),
                _ => (transact(client, &all, &counters, worker, &key).await, 1),
            };
            match done {
                Ok(keys) => {
                    self.keys.lock().unwrap().extend(keys);
                    self.counted.fetch_add(counts, Ordering::Relaxed);
                }
                Err(error) => self.errors.lock().unwrap().push(error.to_string()),
            }
        }
    }

    /// Waits until this many more operations were acknowledged.
    async fn goes_on(&self, operations: usize) {
        let done = || self.keys.lock().unwrap().len() + self.counted.load(Ordering::Relaxed);
        let enough = done() + operations;
        until("operations", async || (done() >= enough).then_some(())).await;
    }
}

async fn count(counters: &Collection<Document>, name: &str, worker: usize) -> Result<(), Error> {
    let counter = doc! { "_id": format!("{name}-{worker}") };
    counters.update_one(counter, doc! { "$inc": { "n": 1 } }).await.map(drop)
}

async fn transact(
    client: &Client,
    all: &Collection<Document>,
    counters: &Collection<Document>,
    worker: usize,
    key: &str,
) -> Result<Vec<String>, Error> {
    let keys = ["first", "second"].map(|half| format!("{key}-{half}"));
    let mut session = client.start_session().await?;
    let body = async |session: &mut mongodb::ClientSession| {
        for key in &keys {
            all.insert_one(doc! { "_id": key }).session(&mut *session).await?;
        }
        let counter = doc! { "_id": format!("{}-{worker}", all.name()) };
        let one = doc! { "$inc": { "n": 1 } };
        counters.update_one(counter, one).session(session).await.map(drop)
    };
    session.start_transaction().and_run2(body).await?;
    Ok(keys.into())
}

/// Asks `look` until it has an answer.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < ELECTION, "waited {ELECTION:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The primary, which is another than `old`, by the name that the set has for it.
async fn primary(direct: &Client, old: &str) -> String {
    until("a new primary", async || {
        let hello = direct.database("admin").run_command(doc! { "hello": 1 }).await.ok()?;
        let writes = hello.get_bool("isWritablePrimary").unwrap_or(false);
        hello.get_str("me").ok().filter(|me| writes && *me != old).map(str::to_owned)
    })
    .await
}

/// Lets the primary step down and, where a test can do that, ends it; with a load each time.
async fn elect_and_kill(direct: &Client, load: &Load, test: &str) {
    load.goes_on(300).await;
    let first = primary(direct, "").await;
    let step_down = doc! { "replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 10 };
    // Servers of long ago closed the connection instead of an answer.
    let _ = direct.database("admin").run_command(step_down).await;
    let second = primary(direct, &first).await;
    load.goes_on(300).await;
    let commands = ["TOLLGATE_TEST_KILL", "TOLLGATE_TEST_START"].map(|name| variable(test, name));
    let [Some(kill), Some(start)] = commands else { return };
    run(&kill, &second).await;
    primary(direct, &second).await;
    load.goes_on(300).await;
    run(&start, &second).await;
    until("the member to be back", async || {
        let status = direct.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await;
        let status = status.ok()?;
        let members = status.get_array("members").ok()?.iter();
        let well = |member: &Document| member.get_i32("state").is_ok_and(|it| [1, 2].contains(&it));
        members.filter_map(|it| it.as_document()).all(well).then_some(())
    })
    .await;
}

/// Runs a command of the shell about a member to its good end.
async fn run(command: &str, member: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "sh"]).args(member.rsplitn(2, ':').collect::<Vec<_>>().iter().rev());
    let status = tokio::task::spawn_blocking(move || shell.status()).await.unwrap().unwrap();
    assert!(status.success(), "{command} {member}");
}

/// A proxy that hides elections of the set, shown as this.
fn before_the_set(options: &ClientOptions, present_as: &str) -> Tollgate {
    let name = options.repl_set_name.as_ref().expect("replicaSet=… in TOLLGATE_TEST_SET");
    let seeds: Vec<_> = options.hosts.iter().map(|host| format!("\"{host}\"")).collect();
    Tollgate::start(&format!(
        "listeners:\n  db: {{ address: \"127.0.0.1:0\", cluster: set, \
         protocol: {{ mongo: {{ present_as: {present_as} }} }} }}\n\
         clusters:\n  set: {{ replica_set: {{ name: {name}, seeds: [{}] }}, \
         pool: {{}}, failover: {{ retryable_writes: add }} }}\n",
        seeds.join(", ")
    ))
}

/// Elections under load, with the driver's own retries or without.
async fn elections(uri: &str, test: &str, retries: bool) {
    let mut options = ClientOptions::parse(uri).await.expect("TOLLGATE_TEST_SET");
    options.server_selection_timeout = Some(ELECTION);
    let tollgate = before_the_set(&options, if retries { "router" } else { "primary" });
    let direct = Client::with_options(options.clone()).unwrap();
    options.hosts = vec![ServerAddress::parse(tollgate.listener("db").to_string()).unwrap()];
    options.repl_set_name = None;
    (options.retry_writes, options.retry_reads) = (Some(retries), Some(retries));
    let client = Client::with_options(options).unwrap();
    let name = format!("elections_{retries}");
    prepare(&direct, &name).await;
    let watched = client.database("tollgate_test").collection::<Document>(&name);
    let mut stream = watched.watch().await.unwrap();
    let load = Load::default();
    let end = async {
        elect_and_kill(&direct, &load, test).await;
        load.over.store(true, Ordering::Relaxed);
    };
    let workers = join_all((0..WORKERS).map(|worker| load.work(&client, &name, worker)));
    tokio::join!(end, workers);
    assert_eq!(*load.errors.lock().unwrap(), Vec::<String>::new());
    watched.insert_one(doc! { "_id": "last" }).await.unwrap();
    load.keys.lock().unwrap().push("last".to_owned());
    let mut seen = Vec::new();
    while seen.last().is_none_or(|key| key != "last") {
        let event = tokio::time::timeout(ELECTION, stream.try_next()).await.expect("an event");
        let key = event.unwrap().expect("an event").document_key.expect("a key");
        seen.push(key.get_str("_id").unwrap().to_owned());
    }
    drop(stream);
    compare(&direct, &name, load, seen).await;
    client.shutdown().await;
}

/// Makes the collections.
async fn prepare(direct: &Client, name: &str) {
    let database = direct.database("tollgate_test");
    let (all, counters) = (database.collection::<Document>(name), database.collection("counters"));
    all.drop().await.unwrap();
    counters.drop().await.unwrap();
    database.create_collection(name).await.unwrap();
    let zero = |worker| doc! { "_id": format!("{name}-{worker}"), "n": 0 };
    counters.insert_many((0..WORKERS).map(zero)).await.unwrap();
}

/// Compares what was acknowledged, what the set has, and what a change stream saw.
async fn compare(direct: &Client, name: &str, load: Load, mut seen: Vec<String>) {
    let database = direct.database("tollgate_test");
    let rows = async |name| {
        let rows = database.collection::<Document>(name).find(doc! {}).await.unwrap();
        rows.try_collect::<Vec<_>>().await.unwrap()
    };
    let keys = rows(name).await;
    let mut keys: Vec<_> = keys.iter().map(|row| row.get_str("_id").unwrap().to_owned()).collect();
    let mut acknowledged = load.keys.into_inner().unwrap();
    for keys in [&mut keys, &mut seen, &mut acknowledged] {
        keys.sort();
    }
    assert_eq!(acknowledged, keys, "acknowledged, and stored");
    assert_eq!(seen, keys, "seen by the change stream, and stored");
    let stored: i32 = rows("counters").await.iter().map(|row| row.get_i32("n").unwrap()).sum();
    assert_eq!(load.counted.into_inner(), stored as usize, "counted, and stored");
}

#[test]
fn elections_of_a_real_set_are_hidden() {
    let test = "elections_of_a_real_set_are_hidden";
    let Some(uri) = variable(test, "TOLLGATE_TEST_SET") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for retries in [true, false] {
        runtime.block_on(elections(&uri, test, retries));
    }
}
