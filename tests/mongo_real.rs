//! A real MongoDB behind the proxy, where there is one: `TOLLGATE_TEST_MONGODB=mongodb://…` names a
//! replica set that tests may write to. Without it these tests say that they are skipped, and pass;
//! `docker compose run --rm --build test` brings one along.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    error::{Error, ErrorKind, WriteFailure},
    options::{ClientOptions, Compressor, ServerAddress},
};
use std::{cell::Cell, net::ToSocketAddrs, time::Duration};
use support::tollgate::{Tollgate, mongo_config};

/// The connection string of the server, if there is one to test with.
fn server(test: &str) -> Option<String> {
    let uri = std::env::var("TOLLGATE_TEST_MONGODB").ok().filter(|uri| !uri.is_empty());
    if uri.is_none() {
        println!("SKIPPED {test}: TOLLGATE_TEST_MONGODB=mongodb://… names no server");
    }
    uri
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
