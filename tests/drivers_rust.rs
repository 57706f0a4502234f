//! The Rust driver through the proxy to a real server.
//!
//! Each scenario runs with a bare connection string, with `replicaSet=` and with
//! `directConnection=true`; what the driver reports is held against what the proxy logged. (This
//! driver knows neither unacknowledged writes nor exhaust cursors.)

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use futures_util::{AsyncReadExt, AsyncWriteExt, TryStreamExt, future::try_join_all};
use mongodb::{
    Client, Collection,
    error::{Error, ErrorKind},
    event::{EventHandler, command::CommandEvent, command::CommandStartedEvent, sdam::SdamEvent},
    options::{
        ClientOptions, GridFsBucketOptions, ReadPreference, ReadPreferenceOptions,
        SelectionCriteria,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{
    observed::{Observed, Run},
    pooled::Pooled,
    secantus::{self, Secantus},
    tollgate::Tollgate,
};

const WAYS: [&str; 3] = ["bare", "set", "direct"];

/// What a way to write a connection string adds to it, for a set of this name.
fn uri_option(way: &str, set: &str) -> String {
    match way {
        "set" => format!("&replicaSet={set}"),
        "direct" => "&directConnection=true".to_owned(),
        "balanced" => "&loadBalanced=true".to_owned(),
        _ => String::new(),
    }
}

/// What the driver reported so far.
#[derive(Clone, Default)]
struct Told {
    sent: Arc<Mutex<Vec<(String, String)>>>,
    servers: Arc<Mutex<BTreeSet<String>>>,
}

impl Told {
    fn listen(&self, options: &mut ClientOptions) {
        let (sent, servers) = (self.sent.clone(), self.servers.clone());
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(event) = event {
                sent.lock().unwrap().push(words(&event));
            }
        }));
        options.sdam_event_handler = Some(EventHandler::callback(move |event| {
            let address = match event {
                SdamEvent::ServerOpening(event) => event.address.to_string(),
                SdamEvent::ServerDescriptionChanged(event) => event.address.to_string(),
                _ => return,
            };
            servers.lock().unwrap().insert(address);
        }));
    }
}

/// The command's name, and what it is about.
fn words(event: &CommandStartedEvent) -> (String, String) {
    let name = event.command_name.clone();
    let key = if name == "getMore" { "collection" } else { name.as_str() };
    let resource = match event.command.get_str(key) {
        Ok(collection) => format!("{}.{collection}", event.db),
        Err(_) => event.db.clone(),
    };
    (name, resource)
}

/// Runs a scenario once for each way to write a connection string.
fn observed(
    server: &Secantus,
    name: &str,
    credentials: Option<(&str, &str)>,
    scenario: impl AsyncFn(&Client, &Collection<Document>) -> Result<(), Error>,
) -> Observed {
    let tollgate = server.proxy();
    let tls = server.uri_options();
    let ways = WAYS.map(|way| (way, format!("{}&{tls}", uri_option(way, "secantus"))));
    let runs = runs(tollgate.listener("db"), name, &ways, credentials, scenario);
    let observed = Observed { tollgate, runs, encrypted: server.is_encrypted() };
    observed.runs.iter().for_each(|run| observed.check(run));
    observed
}

/// Runs a scenario once for each way to write a connection string: its name, and options.
fn runs(
    proxy: SocketAddr,
    name: &str,
    ways: &[(&str, String)],
    credentials: Option<(&str, &str)>,
    scenario: impl AsyncFn(&Client, &Collection<Document>) -> Result<(), Error>,
) -> Vec<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run_one = |(way, option): &(&str, String)| {
        let app = format!("rust-{name}-{way}");
        let told = Told::default();
        runtime.block_on(async {
            let options = options(proxy, &app, option, credentials).await;
            run(options, &app, &told, &scenario).await.unwrap_or_else(|e| panic!("{app}: {e}"));
        });
        let sent = told.sent.lock().unwrap().clone();
        let servers = told.servers.lock().unwrap().iter().cloned().collect();
        Run { app, sent, servers }
    };
    ways.iter().map(run_one).collect()
}

async fn options(
    proxy: SocketAddr,
    app: &str,
    option: &str,
    credentials: Option<(&str, &str)>,
) -> ClientOptions {
    let (login, source) = match credentials {
        Some((user, password)) => (format!("{user}:{password}@"), "&authSource=admin"),
        None => (String::new(), ""),
    };
    let uri = format!("mongodb://{login}{proxy}/?appName={app}{source}{option}");
    let uri = uri.trim_end_matches('&');
    let mut options = ClientOptions::parse(uri).await.expect("a URI");
    options.server_selection_timeout = Some(Duration::from_secs(20));
    // How long the driver believes a server gone that says it is going down.
    options.heartbeat_freq = Some(Duration::from_millis(500));
    options
}

async fn run(
    mut options: ClientOptions,
    app: &str,
    told: &Told,
    scenario: &impl AsyncFn(&Client, &Collection<Document>) -> Result<(), Error>,
) -> Result<(), Error> {
    told.listen(&mut options);
    let client = Client::with_options(options)?;
    let shop = client.database("drivers").collection(&app.replace('-', "_"));
    shop.drop().await?;
    scenario(&client, &shop).await?;
    client.shutdown().await;
    Ok(())
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Authentication { .. } => Some(18),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(error)) => Some(error.code),
        _ => None,
    }
}

async fn crud(client: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_one(doc! { "_id": 1, "total": 10 }).comment("checkout.place").await?;
    shop.insert_many((2..51).map(|n| doc! { "_id": n, "total": n * 10 })).await?;
    assert_eq!(shop.count_documents(doc! {}).await?, 50);
    let seven = shop.find_one(doc! { "_id": 7 }).comment("checkout.total").await?;
    assert_eq!(seven, Some(doc! { "_id": 7, "total": 70 }));
    let old = doc! { "$set": { "old": true } };
    assert_eq!(shop.update_many(doc! { "_id": { "$lt": 11 } }, old).await?.modified_count, 10);
    shop.find_one_and_update(doc! { "_id": 1 }, doc! { "$inc": { "total": 1 } }).await?;
    assert_eq!(shop.distinct("old", doc! {}).await?, [bson::Bson::Boolean(true)]);
    assert_eq!(shop.delete_many(doc! { "_id": { "$gt": 40 } }).await?.deleted_count, 10);
    let duplicate = shop.insert_one(doc! { "_id": 1 }).await.unwrap_err();
    assert_eq!(code(&duplicate), Some(11000));
    client.database("admin").run_command(doc! { "ping": 1 }).await?;
    Ok(())
}

#[test]
fn every_write_and_read_is_named_counted_and_attributed() {
    for server in Secantus::shared_plain_and_encrypted() {
        observed(server, "crud", None, crud).check_crud();
    }
}

async fn cursors(_: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_many((0..500).map(|n| doc! { "_id": n, "text": "x".repeat(100) })).await?;
    let rows = shop.find(doc! {}).batch_size(50).comment("report.rows").await?;
    assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 500);
    let mut abandoned = shop.find(doc! {}).batch_size(10).await?;
    assert!(abandoned.advance().await?);
    Ok(())
}

#[test]
fn a_cursor_s_batches_belong_to_the_call_site_that_began_it() {
    for server in Secantus::shared_plain_and_encrypted() {
        observed(server, "cursors", None, cursors).check_cursors();
    }
}

async fn transactions(client: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_one(doc! { "_id": "stock", "left": 5 }).await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    shop.insert_one(doc! { "_id": "order" }).session(&mut session).await?;
    let less = doc! { "$inc": { "left": -1 } };
    shop.update_one(doc! { "_id": "stock" }, less).session(&mut session).await?;
    session.commit_transaction().await?;
    session.start_transaction().await?;
    shop.insert_one(doc! { "_id": "second thoughts" }).session(&mut session).await?;
    session.abort_transaction().await?;
    assert_eq!(shop.count_documents(doc! {}).await?, 2);
    Ok(())
}

#[test]
fn transactions_commit_and_abort() {
    for server in Secantus::shared_plain_and_encrypted() {
        let seen = observed(server, "transactions", None, transactions);
        for run in &seen.runs {
            assert_eq!(seen.lines(run, "commitTransaction").len(), 1);
            assert_eq!(seen.lines(run, "abortTransaction").len(), 1);
        }
    }
}

async fn changes(client: &Client, _: &Collection<Document>) -> Result<(), Error> {
    // The server may begin before a drop that was just made, which ends the stream.
    let name = format!("changes_{}", bson::oid::ObjectId::new());
    let shop: Collection<Document> = client.database("drivers").collection(&name);
    shop.insert_one(doc! { "_id": 0 }).await?;
    let later = [doc! { "$match": { "documentKey._id": { "$gt": 0 } } }];
    let soon = Duration::from_millis(500);
    let mut stream = shop.watch().pipeline(later).max_await_time(soon).await?;
    shop.insert_many([doc! { "_id": 1 }, doc! { "_id": 2 }]).await?;
    for id in [1, 2] {
        let change = stream.try_next().await?.expect("a change");
        assert_eq!(change.document_key, Some(doc! { "_id": id }));
    }
    Ok(())
}

#[test]
fn a_change_stream_sees_what_others_write() {
    for server in Secantus::shared_plain_and_encrypted() {
        let seen = observed(server, "changes", None, changes);
        assert!(seen.runs.iter().all(|run| !seen.lines(run, "aggregate").is_empty()));
    }
}

/// Makes the server fail this application's next command of one kind.
async fn arm(client: &Client, shop: &Collection<Document>, fault: Document) -> Result<(), Error> {
    let mut data = fault;
    data.insert("appName", shop.name().replace('_', "-"));
    let arm = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    client.database("admin").run_command(arm).await.map(drop)
}

async fn retries(client: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_one(doc! { "_id": 0 }).await?;
    arm(client, shop, doc! { "failCommands": ["insert"], "closeConnection": true }).await?;
    shop.insert_one(doc! { "_id": 1 }).await?;
    let label = ["RetryableWriteError"];
    let away = doc! { "failCommands": ["update"], "errorCode": 91, "errorLabels": label };
    arm(client, shop, away).await?;
    let done = doc! { "$set": { "done": true } };
    assert_eq!(shop.update_one(doc! { "_id": 1 }, done).await?.modified_count, 1);
    Ok(())
}

#[test]
fn a_write_whose_connection_is_cut_is_lost_once_and_then_made() {
    for server in Secantus::shared_plain_and_encrypted() {
        observed(server, "retries", None, retries).check_retries();
    }
}

async fn login(client: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_one(doc! { "_id": 1 }).comment("account.open").await?;
    assert_eq!(shop.find_one(doc! { "_id": 1 }).await?, Some(doc! { "_id": 1 }));
    client.database("admin").run_command(doc! { "ping": 1 }).await?;
    Ok(())
}

#[test]
fn a_login_logs_the_user_and_no_credentials() {
    for server in Secantus::with_login() {
        let tls = format!("&{}", server.uri_options());
        let seen = observed(&server, "login", Some((secantus::USER, secantus::PASSWORD)), login);
        for run in &seen.runs {
            let wrong = Some((secantus::USER, "hunter-three-wrong"));
            let proxy = seen.tollgate.listener("db");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let error = runtime.block_on(async {
                let client = Client::with_options(options(proxy, "stranger", &tls, wrong).await)?;
                client.database("admin").run_command(doc! { "listDatabases": 1 }).await
            });
            assert_eq!(code(&error.unwrap_err()), Some(18), "{}", run.app);
        }
        seen.check_login();
        seen.check_secrets();
    }
}

async fn many(_: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    shop.insert_many((0..200).map(|n| doc! { "_id": n, "double": n * 2 })).await?;
    let find = |n: i32| async move { shop.find_one(doc! { "_id": n }).await };
    let found = try_join_all((0..200).map(find)).await?;
    let expected = |n: i32| Some(doc! { "_id": n, "double": n * 2 });
    assert_eq!(found, (0..200).map(expected).collect::<Vec<_>>());
    Ok(())
}

async fn files(client: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    let mut options = GridFsBucketOptions::default();
    options.bucket_name = Some(shop.name().to_owned());
    options.chunk_size_bytes = Some(20_000);
    let bucket = client.database("drivers").gridfs_bucket(options);
    let content: Vec<u8> = (0..100_000).map(|n: u32| n as u8).collect();
    let mut upload = bucket.open_upload_stream("image").await?;
    upload.write_all(&content).await?;
    upload.close().await?;
    let mut read = Vec::new();
    let id = upload.id().clone();
    bucket.open_download_stream(id.clone()).await?.read_to_end(&mut read).await?;
    assert!(read == content, "{} bytes of a file, not {}", read.len(), content.len());
    bucket.delete(id).await
}

async fn read_with(shop: &Collection<Document>, criteria: ReadPreference) -> Result<(), Error> {
    shop.insert_many((0..30).map(|n| doc! { "_id": n })).await?;
    let criteria = SelectionCriteria::ReadPreference(criteria);
    let rows = shop.find(doc! {}).batch_size(10).selection_criteria(criteria).await?;
    assert_eq!(rows.try_collect::<Vec<_>>().await?.len(), 30);
    Ok(())
}

/// What prefers members with a tag that one of them has.
fn tagged() -> ReadPreferenceOptions {
    let tags = [HashMap::from([("use".to_owned(), "reports".to_owned())]), HashMap::new()];
    ReadPreferenceOptions::builder().tag_sets(tags.to_vec()).build()
}

async fn elsewhere(_: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    read_with(shop, ReadPreference::Nearest { options: Some(tagged()) }).await
}

async fn secondary(_: &Client, shop: &Collection<Document>) -> Result<(), Error> {
    read_with(shop, ReadPreference::Secondary { options: Some(tagged()) }).await
}

#[test]
fn each_connection_string_works_through_a_pool() {
    for pool in Pooled::all() {
        let way = |way: &&'static str| (*way, uri_option(way, pool.set_name()));
        let ways: Vec<_> = pool.ways().iter().map(way).collect();
        let proxy = pool.tollgate.listener("db");
        let mut seen = runs(proxy, "crud", &ways, None, crud);
        seen.extend(runs(proxy, "cursors", &ways, None, cursors));
        seen.extend(runs(proxy, "transactions", &ways, None, transactions));
        seen.extend(runs(proxy, "changes", &ways, None, changes));
        seen.extend(runs(proxy, "many", &ways, None, many));
        seen.extend(runs(proxy, "files", &ways, None, files));
        seen.extend(runs(proxy, "elsewhere", &ways, None, elsewhere));
        if pool.present_as == "router" {
            seen.extend(runs(proxy, "secondary", &ways, None, secondary));
        }
        pool.check_runs(seen);
    }
}

#[test]
fn a_server_that_stands_alone_is_shown_as_what_it_is() {
    let Some(server) = Secantus::start(false, true) else { return };
    let tollgate = Tollgate::mongo(server.address());
    let mut client = support::client::RawClient::connect(tollgate.listener("db"));
    let hello = client.command(1, &doc! { "hello": 1, "$db": "admin" });
    assert!(!hello.contains_key("setName") && !hello.contains_key("hosts"), "{hello}");
    assert!(hello.get_bool("isWritablePrimary").unwrap());
}
