//! What becomes of an operation whose member refuses it, interrupts it or is lost: sent again, or an error
//! with the label that its driver needs. The tables are those of docs/failover.md.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Bson, Document, doc};
use serde_json::Value;
use support::{
    client::RawClient, eventually, pooled::Pooled, replica_set::ReplicaSet, secantus::Secantus,
    wire,
};

/// How the server fails once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    /// It is no primary, and has done nothing.
    Refused,
    /// By a step-down, before it was done.
    Interrupted,
    /// By a step-down, after it was done.
    Done,
    /// The connection closes before the answer.
    Lost,
}

use Failure::{Done, Interrupted, Lost, Refused};

// What the client gets. If it is `SUCCESS`, the request was sent twice, and else once.
const SUCCESS: &str = "success";
const CLOSE: &str = "its connection closes";
const ERROR: &str = "error 6";
const TRANSIENT: &str = "error 6 TransientTransactionError";
const RETRYABLE: &str = "error 6 RetryableWriteError";
const RESUMABLE: &str = "error 6 ResumableChangeStreamError";

/// The request that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Read,
    NumberedWrite,
    OtherWrite,
    WriteOfMany,
    Statement1,
    Statement2,
    Commit,
    GetMore,
    ChangeStream,
}

/// What clients get without added numbers.
const TABLE: [(Kind, &[(Failure, &str)]); 9] = [
    (Kind::Read, &[(Refused, SUCCESS), (Interrupted, SUCCESS), (Lost, SUCCESS)]),
    (
        Kind::NumberedWrite,
        &[(Refused, SUCCESS), (Interrupted, SUCCESS), (Done, SUCCESS), (Lost, SUCCESS)],
    ),
    (Kind::OtherWrite, &[(Refused, SUCCESS), (Interrupted, ERROR), (Done, ERROR), (Lost, CLOSE)]),
    (Kind::WriteOfMany, &[(Refused, SUCCESS), (Interrupted, ERROR), (Done, ERROR), (Lost, CLOSE)]),
    (Kind::Statement1, &[(Refused, SUCCESS), (Interrupted, TRANSIENT), (Lost, TRANSIENT)]),
    (Kind::Statement2, &[(Refused, TRANSIENT), (Interrupted, TRANSIENT), (Lost, TRANSIENT)]),
    (
        Kind::Commit,
        &[(Refused, RETRYABLE), (Interrupted, RETRYABLE), (Done, RETRYABLE), (Lost, RETRYABLE)],
    ),
    (Kind::GetMore, &[(Interrupted, ERROR), (Lost, ERROR)]),
    (Kind::ChangeStream, &[(Interrupted, RESUMABLE), (Lost, RESUMABLE)]),
];

/// What changes with them.
const TABLE_OF_ADD: [(Kind, &[(Failure, &str)]); 2] = [
    (
        Kind::OtherWrite,
        &[(Refused, SUCCESS), (Interrupted, SUCCESS), (Done, SUCCESS), (Lost, SUCCESS)],
    ),
    (Kind::WriteOfMany, &[(Refused, SUCCESS), (Interrupted, ERROR), (Done, ERROR), (Lost, CLOSE)]),
];

/// A request and what has to come before it, all of one client.
struct Scenario {
    client: RawClient,
    session: Document,
}

impl Scenario {
    fn new(pool: &Pooled) -> Self {
        let mut id = [0; 16];
        fastrand::fill(&mut id);
        let id = bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: id.to_vec() };
        let client = RawClient::connect(pool.tollgate.listener("db"));
        Self { client, session: doc! { "id": id } }
    }

    fn succeeds(&mut self, mut command: Document) -> Document {
        command.insert("$db", "failover");
        let reply = self.client.command(1, &command);
        assert!(is_ok(&reply), "{command}: {reply}");
        reply
    }

    /// Does what has to come before, and returns the request.
    fn prepare(&mut self, kind: Kind) -> Document {
        let statement = |n: i64, mut command: Document| {
            command.extend(doc! { "lsid": self.session.clone(), "txnNumber": 1_i64 });
            command.insert("autocommit", false);
            if n == 1 {
                command.insert("startTransaction", true);
            }
            command
        };
        let insert = doc! { "insert": "all", "documents": [{}] };
        match kind {
            Kind::Read => doc! { "find": "all", "limit": 1 },
            Kind::OtherWrite => insert,
            Kind::NumberedWrite => {
                let number = doc! { "lsid": self.session.clone(), "txnNumber": 1_i64 };
                insert.into_iter().chain(number).collect()
            }
            Kind::WriteOfMany => {
                let change = doc! { "$set": { "seen": true } };
                let one = doc! { "q": { "_id": -1 }, "u": change, "multi": true };
                doc! { "update": "all", "updates": [one] }
            }
            Kind::Statement1 => statement(1, insert),
            Kind::Statement2 => {
                let (first, second) = (statement(1, insert.clone()), statement(2, insert));
                self.succeeds(first);
                second
            }
            Kind::Commit => {
                let commit = statement(2, doc! { "commitTransaction": 1 });
                let first = statement(1, insert);
                self.succeeds(first);
                commit
            }
            Kind::GetMore => {
                let opened = self.succeeds(doc! { "find": "all", "batchSize": 2 });
                more(&opened)
            }
            Kind::ChangeStream => {
                let pipeline = [doc! { "$changeStream": {} }];
                let open = doc! { "aggregate": "all", "pipeline": pipeline.to_vec(), "cursor": {} };
                let mut more = more(&self.succeeds(open));
                more.insert("maxTimeMS", 100);
                more
            }
        }
    }
}

fn more(opened: &Document) -> Document {
    let id = opened.get_document("cursor").unwrap().get_i64("id").unwrap();
    doc! { "getMore": id, "collection": "all" }
}

fn is_ok(reply: &Document) -> bool {
    reply.get("ok").and_then(Bson::as_f64) == Some(1.0) && !reply.contains_key("writeConcernError")
}

/// Has the server fail the next command of this name, with the label of a retryable write if it is one.
fn fail_once(server: &Secantus, request: &Document, failure: Failure) {
    let mut data = doc! { "failCommands": [request.keys().next().unwrap()] };
    if failure == Done && request.contains_key("txnNumber") {
        data.insert("errorLabels", ["RetryableWriteError"].to_vec());
    }
    match failure {
        Failure::Refused => data.insert("errorCode", 10107),
        Failure::Interrupted => data.insert("errorCode", 11602),
        Failure::Done => {
            data.insert("writeConcernError", doc! { "code": 11602, "errmsg": "interrupted" })
        }
        Failure::Lost => data.insert("closeConnection", true),
    };
    let once = doc! { "times": 1 };
    let command = doc! {
        "configureFailPoint": "failCommand", "mode": once, "data": data, "$db": "admin",
    };
    assert!(is_ok(&RawClient::connect(server.address()).command(1, &command)));
}

/// What the client gets, and how often a member got the request.
fn outcome(set: &ReplicaSet, scenario: &mut Scenario, request: &Document) -> (String, usize) {
    let name = request.keys().next().unwrap();
    let count = || set.operations(name).iter().sum::<usize>();
    let before = count();
    scenario.client.send(&wire::op_msg(2, request));
    let gets = match scenario.client.try_read().map(|reply| reply.document()) {
        None => CLOSE.to_owned(),
        Some(reply) if is_ok(&reply) => SUCCESS.to_owned(),
        Some(reply) => {
            let error = reply.get_document("writeConcernError").unwrap_or(&reply);
            let labels = reply.get_array("errorLabels").map(Vec::as_slice).unwrap_or_default();
            let labels = labels.iter().filter_map(Bson::as_str);
            let code = error.get_i32("code").unwrap().to_string();
            ["error", &code].into_iter().chain(labels).collect::<Vec<_>>().join(" ")
        }
    };
    (gets, count() - before)
}

/// Holds each request of a table against what it says.
fn follows(failover: &str, table: &[(Kind, &[(Failure, &str)])]) {
    let Some(server) = Secantus::start(false, false) else { return };
    let keys = format!("pool: {{ max_pool_size: 4 }}, failover: {{ {failover} }}");
    let pool = Pooled::before_set_with(&server, "router", &keys);
    let set = pool.set.as_ref().unwrap();
    let rows: Vec<_> = (0..10).map(|n| doc! { "_id": n }).collect();
    Scenario::new(&pool).succeeds(doc! { "insert": "all", "documents": rows });
    for (kind, failures) in table {
        for (failure, expected) in *failures {
            let mut scenario = Scenario::new(&pool);
            let mut request = scenario.prepare(*kind);
            let database = if *kind == Kind::Commit { "admin" } else { "failover" };
            request.insert("$db", database);
            fail_once(&server, &request, *failure);
            let (gets, sends) = outcome(set, &mut scenario, &request);
            let case = format!("{kind:?}, {failure:?}");
            assert_eq!(gets, *expected, "{case}");
            assert_eq!(sends, if *expected == SUCCESS { 2 } else { 1 }, "{case}");
        }
    }
}

#[test]
fn requests_are_sent_again_by_the_table() {
    follows("", &TABLE);
}

#[test]
fn writes_with_an_added_number_are_sent_again() {
    follows("retryable_writes: add", &TABLE_OF_ADD);
}

#[test]
fn lost_writes_are_reported_if_the_config_says_so() {
    follows("lost: error", &[(Kind::OtherWrite, &[(Lost, ERROR)])]);
}

#[test]
fn nothing_is_sent_again_without_replay() {
    let all: &[_] = &[(Refused, RETRYABLE), (Interrupted, RETRYABLE), (Done, RETRYABLE)];
    follows("replay: false", &[(Kind::NumberedWrite, all)]);
}

#[test]
fn the_wait_for_news_is_no_time_limit() {
    let Some(server) = Secantus::start(false, false) else { return };
    let keys = "pool: {}, failover: { hold: 1s }";
    let pool = Pooled::before_set_with(&server, "router", keys);
    let mut scenario = Scenario::new(&pool);
    scenario.succeeds(doc! { "create": "all" });
    let mut more = scenario.prepare(Kind::ChangeStream);
    more.extend(doc! { "maxTimeMS": 1, "$db": "failover" });
    // The member that has the cursor can't be used, until the hold ends.
    let set = pool.set.as_ref().unwrap();
    set.elect(None);
    set.shut_down(0);
    eventually("the member to be unknown", || {
        let clusters = pool.tollgate.json("/clusters");
        let address = set.address(0).to_string();
        let mut endpoints = clusters[0]["endpoints"].as_array()?.iter();
        let unknown = |it: &&Value| it["address"] == *address && it["role"] == "unknown";
        endpoints.find(unknown).map(|_| ())
    });
    let (gets, _) = outcome(set, &mut scenario, &more);
    assert!([SUCCESS, RESUMABLE].contains(&&*gets), "{gets}");
}
