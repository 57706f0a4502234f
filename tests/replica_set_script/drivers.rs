//! Drivers with the scripted set: they take it for a real one.

use crate::{
    support::{
        PATIENCE, python,
        replica_set::{Counters, ReplicaSet},
        secantus::{self, Secantus},
        tools,
    },
    three,
};
use bson::{Document, doc};
use mongodb::{
    Client, Collection,
    error::ErrorKind,
    options::{ReadPreference, ReadPreferenceOptions, SelectionCriteria},
};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Runs the Rust driver with these options in its connection string.
pub(crate) fn rust(
    set: &ReplicaSet,
    options: &str,
    scenario: impl AsyncFn(&Client, Collection<Document>),
) {
    run(set, &format!("{}&{options}", set.uri()).replace("/&", "/?"), scenario);
}

fn run(set: &ReplicaSet, uri: &str, scenario: impl AsyncFn(&Client, Collection<Document>)) {
    // The driver's monitors go on while the scenario blocks its thread.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // On a busy machine no member is too slow to be chosen.
        let client = Client::with_uri_str(format!("{uri}&localThresholdMS=10000")).await.unwrap();
        set.wait("the driver to know all", |all| all.iter().all(|member| member.watching > 0));
        let name = bson::oid::ObjectId::new().to_string();
        scenario(&client, client.database("script").collection(&name)).await;
        client.shutdown().await;
    });
}

fn secondary(options: ReadPreferenceOptions) -> SelectionCriteria {
    ReadPreference::Secondary { options: Some(options) }.into()
}

#[test]
fn a_driver_follows_an_election() {
    let Some(set) = three() else { return };
    rust(&set, "retryWrites=true", async |_, all| {
        all.insert_one(doc! {}).await.unwrap();
        set.step_down(Some(2));
        all.insert_one(doc! {}).await.unwrap();
        set.kill(2);
        set.elect(Some(1));
        all.insert_one(doc! {}).await.unwrap();
        assert_eq!(all.count_documents(doc! {}).await.unwrap(), 3);
    });
    let taken = |it: &Counters| it.operations("insert") - it.refusals(10107);
    assert_eq!([0, 1, 2].map(|member| taken(&set.counters(member))), [1, 1, 1]);
}

#[test]
fn reads_of_a_driver_land_where_it_asks() {
    let Some(set) = three() else { return };
    set.set_tags(2, doc! { "use": "reports" });
    rust(&set, "heartbeatFrequencyMS=500", async |_, all| {
        let reads = async |criteria: SelectionCriteria| {
            let before = set.operations("find");
            for _ in 0..20 {
                all.find_one(doc! {}).selection_criteria(criteria.clone()).await.unwrap();
            }
            let after = set.operations("find");
            (0..3).map(|member| after[member] - before[member]).collect::<Vec<_>>()
        };
        assert_eq!(reads(ReadPreference::Primary.into()).await, [20, 0, 0]);
        let [primary, first, second] = reads(secondary(Default::default())).await[..] else {
            return;
        };
        assert!((primary, first + second) == (0, 20) && first > 0 && second > 0);
        let reports = [("use".to_owned(), "reports".to_owned())].into_iter().collect();
        let tagged = ReadPreferenceOptions::builder().tag_sets(vec![reports]).build();
        assert_eq!(reads(secondary(tagged)).await, [0, 0, 20]);
        set.set_lag(2, Duration::from_secs(300));
        let fresh = ReadPreferenceOptions::builder().max_staleness(Duration::from_secs(100));
        let fresh = secondary(fresh.build());
        eventually_async(async || reads(fresh.clone()).await == [0, 20, 0]).await;
    });
}

/// For what a driver does by itself in its own time.
async fn eventually_async(mut is_so: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn reads_go_on_when_a_secondary_is_killed() {
    let Some(set) = three() else { return };
    rust(&set, "readPreference=secondaryPreferred", async |_, all| {
        for round in 0..60 {
            if round == 20 {
                set.kill(1);
            }
            if round == 40 {
                set.kill(2);
            }
            all.find_one(doc! {}).await.unwrap();
        }
    });
    assert!(set.operations("find").iter().all(|finds| *finds > 0));
}

#[test]
fn a_driver_finds_members_that_come_and_go() {
    let Some(set) = three() else { return };
    rust(&set, "heartbeatFrequencyMS=500", async |_, all| {
        all.insert_one(doc! {}).await.unwrap();
        let new = set.add_member();
        set.wait("the driver to find it", |all| all[new].watching == 1);
        set.remove(1);
        set.wait("the driver to leave", |all| all[1].open == 0);
        set.set_name(2, "other");
        set.wait("the driver to leave a stranger", |all| all[2].open == 0);
    });
}

#[test]
fn a_driver_writes_to_the_newest_of_two_primaries() {
    let Some(set) = three() else { return };
    rust(&set, "retryWrites=true", async |_, all| {
        all.insert_one(doc! {}).await.unwrap();
        set.elect(Some(1));
        all.insert_one(doc! {}).await.unwrap();
        set.claim_primary(0, 1);
        for _ in 0..10 {
            all.insert_one(doc! {}).await.unwrap();
        }
    });
    assert_eq!(set.counters(1).operations("insert"), 11);
}

#[test]
fn a_driver_may_repeat_a_transaction_that_an_election_ends() {
    let Some(set) = three() else { return };
    rust(&set, "retryWrites=true", async |client, all| {
        all.insert_one(doc! {}).await.unwrap();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        all.insert_one(doc! {}).session(&mut session).await.unwrap();
        set.elect(Some(1));
        let error = all.insert_one(doc! {}).session(&mut session).await.unwrap_err();
        assert!(error.contains_label("TransientTransactionError"), "{error}");
        session.abort_transaction().await.unwrap();
        session.start_transaction().await.unwrap();
        all.insert_one(doc! {}).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
        assert_eq!(all.count_documents(doc! {}).await.unwrap(), 2);
    });
}

#[test]
fn a_driver_keeps_a_transaction_on_its_router() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::routers(server.address(), 2);
    rust(&set, "retryWrites=true", async |client, all| {
        all.insert_one(doc! {}).await.unwrap();
        for _ in 0..20 {
            let mut session = client.start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            for _ in 0..4 {
                all.insert_one(doc! {}).session(&mut session).await.unwrap();
            }
            session.commit_transaction().await.unwrap();
        }
        assert_eq!(all.count_documents(doc! {}).await.unwrap(), 81);
    });
    assert!((0..2).all(|router| set.counters(router).operations("commitTransaction") > 0));
    assert!((0..2).all(|router| set.counters(router).refusals.is_empty()));
}

#[test]
fn a_user_logs_in_to_each_member() {
    let Some(server) = Secantus::start(true, false) else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let uri = |password| {
        let user = format!("mongodb://{}:{password}@", secantus::USER);
        format!("{}&authSource=admin", set.uri().replace("mongodb://", &user))
    };
    run(&set, &uri(secantus::PASSWORD), async |_, all| {
        all.insert_one(doc! {}).await.unwrap();
        for _ in 0..20 {
            all.find_one(doc! {}).selection_criteria(secondary(Default::default())).await.unwrap();
        }
    });
    assert!(set.operations("find")[1..].iter().all(|finds| *finds > 0));
    run(&set, &uri("wrong"), async |_, all| {
        let error = all.insert_one(doc! {}).await.unwrap_err();
        assert!(matches!(*error.kind, ErrorKind::Authentication { .. }), "{error}");
    });
}

/// A pymongo client, which does one thing for each line.
struct Pymongo {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Pymongo {
    /// Starts one in the environment with these programs, with these options in its connection string.
    fn start(programs: &Path, set: &ReplicaSet, options: &str) -> Self {
        let mut process = Command::new(programs.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(python::drivers().join("pymongo_replica_set.py"))
            .arg(format!("{}&{options}", set.uri()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    fn does(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut said = String::new();
        self.said.read_line(&mut said).unwrap();
        assert!(!said.is_empty(), "{line}: the client failed");
        said.trim().to_owned()
    }
}

impl Drop for Pymongo {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
fn pymongo_follows_elections_and_restarts() {
    for programs in [tools::python(), tools::old_python()].into_iter().flatten() {
        let Some(set) = three() else { return };
        let mut pymongo = Pymongo::start(&programs, &set, "heartbeatFrequencyMS=500");
        let name = |member: usize| set.address(member).to_string();
        let names = |members: [usize; 2]| members.map(name).join(",");
        pymongo.does(&format!("wait {} {}", name(0), names([1, 2])));
        assert_eq!(pymongo.does("insert pymongo"), name(0));
        assert_ne!(pymongo.does("find secondary pymongo"), name(0));
        set.step_down(None);
        pymongo.does(&format!("wait none {},{}", name(0), names([1, 2])));
        set.elect(Some(2));
        pymongo.does(&format!("wait {} {}", name(2), names([0, 1])));
        assert_eq!(pymongo.does("insert pymongo"), name(2));
        set.kill(1);
        pymongo.does(&format!("wait {} {}", name(2), name(0)));
        assert_eq!(pymongo.does("find secondary pymongo"), name(0));
        set.start_again(1);
        pymongo.does(&format!("wait {} {}", name(2), names([0, 1])));
    }
}

#[test]
fn pymongo_avoids_members_that_are_silent_or_shut_down() {
    let Some(programs) = tools::python() else { return };
    let Some(set) = three() else { return };
    let mut pymongo =
        Pymongo::start(&programs, &set, "heartbeatFrequencyMS=500&connectTimeoutMS=500");
    let name = |member: usize| set.address(member).to_string();
    pymongo.does(&format!("wait {} {},{}", name(0), name(1), name(2)));
    set.silence(1, true);
    pymongo.does(&format!("wait {} {}", name(0), name(2)));
    assert_eq!(pymongo.does("find secondary pymongo"), name(2));
    set.silence(1, false);
    pymongo.does(&format!("wait {} {},{}", name(0), name(1), name(2)));
    set.shut_down(2);
    pymongo.does(&format!("wait {} {}", name(0), name(1)));
    set.recover(1, true);
    pymongo.does(&format!("wait {} none", name(0)));
    assert_eq!(pymongo.does("find nearest pymongo"), name(0));
}
