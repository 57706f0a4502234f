//! What clients of a pool notice when a member of the replica set fails: each cell of the table in
//! docs/failover.md.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Binary, Document, doc, spec::BinarySubtype};
use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    eventually,
    replica_set::{Hold, ReplicaSet},
    secantus::Secantus,
    tollgate::Tollgate,
    wire::op_msg,
};

/// A set of three members, and a proxy before it with these settings of `failover`.
struct Failover {
    set: ReplicaSet,
    tollgate: Tollgate,
    collection: String,
    /// The number of the collection, and of the client's session.
    number: u8,
}

impl Failover {
    fn start(failover: &str) -> Option<Self> {
        static NUMBERS: AtomicU8 = AtomicU8::new(0);
        let server = Secantus::shared()?;
        let set = ReplicaSet::start(server.address(), 3);
        let tollgate = Tollgate::start(&format!(
            "workers: 1\n\
             listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: rs }}\n\
             clusters:\n  rs: {{ replica_set: {{ name: rs, seeds: [\"{}\"] }}, \
             pool: {{ max_pool_size: 4 }}, failover: {{ {failover} }} }}\n",
            set.address(0)
        ));
        let number = NUMBERS.fetch_add(1, Relaxed);
        let this = Self { set, tollgate, collection: format!("failover_{number}"), number };
        this.wait_for_primary(0, 3);
        let created = this.client().command(1, &this.insert(0));
        assert_eq!(created.get_i32("n").unwrap(), 1, "{created}");
        Some(this)
    }

    fn client(&self) -> RawClient {
        RawClient::connect(self.tollgate.listener("db"))
    }

    /// Waits until the proxy knows this primary, and this many members.
    fn wait_for_primary(&self, member: usize, members: usize) {
        let address = self.set.address(member).to_string();
        eventually("the primary", || {
            let report = self.tollgate.json("/clusters");
            let endpoints = report[0]["endpoints"].as_array()?.clone();
            let known = endpoints.iter().filter(|it| it["role"] != "unknown").count();
            let primary = endpoints.iter().find(|it| it["role"] == "primary")?;
            (primary["address"] == address && known == members).then_some(())
        });
    }

    /// Opens a change stream. Returns the request that awaits its news for so many milliseconds.
    fn watch(&self, client: &mut RawClient, millis: i32) -> Document {
        let watch = doc! { "aggregate": &self.collection, "pipeline": [{ "$changeStream": {} }],
        "cursor": {}, "$db": "test" };
        let opened = client.command(1, &watch);
        let id = opened.get_document("cursor").unwrap().get_i64("id").unwrap();
        doc! { "getMore": id, "collection": &self.collection, "maxTimeMS": millis, "$db": "test" }
    }

    /// Has the primary step down without another one, and waits until the proxy knows.
    fn lose_primary(&self) {
        self.set.elect(None);
        eventually("no primary", || {
            let report = self.tollgate.json("/clusters");
            let endpoints = report[0]["endpoints"].as_array()?;
            endpoints.iter().all(|it| it["role"] != "primary").then_some(())
        });
    }

    fn insert(&self, id: i32) -> Document {
        doc! { "insert": &self.collection, "documents": [{ "_id": id }], "$db": "test" }
    }

    fn find(&self) -> Document {
        doc! { "find": &self.collection, "$db": "test" }
    }

    /// The command as a retryable write.
    fn numbered(&self, mut command: Document, number: i64) -> Document {
        let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![self.number; 16] };
        command.extend(doc! { "lsid": { "id": id }, "txnNumber": number });
        command
    }

    fn in_transaction(&self, command: Document, starts: bool) -> Document {
        let mut command = self.numbered(command, 1);
        command.insert("autocommit", false);
        if starts {
            command.insert("startTransaction", true);
        }
        command
    }

    /// How many documents have this id, as the primary says.
    fn count(&self, id: i32) -> usize {
        let mut find = self.find();
        find.insert("filter", doc! { "_id": id });
        batch(&self.client().command(9, &find)).len()
    }

    /// Sends a request that the primary holds at this point, and has `fail` happen. Returns the reply, or
    /// nothing if the connection closes.
    fn fail_under(
        &self,
        request: &Document,
        hold: Hold,
        fail: impl FnOnce(&ReplicaSet),
    ) -> Option<Document> {
        let mut client = self.client();
        // The client's connection is there, and the pool has one.
        client.command(1, &doc! { "ping": 1, "$db": "admin" });
        self.set.hold(0, Some(hold));
        client.send(&op_msg(2, request));
        self.set.wait("the request", |counters| counters[0].held > 0);
        fail(&self.set);
        client.try_read().map(|reply| reply.document())
    }
}

fn batch(reply: &Document) -> Vec<bson::Bson> {
    let cursor = reply.get_document("cursor").unwrap_or_else(|_| panic!("{reply}"));
    cursor.get_array("firstBatch").unwrap().clone()
}

/// The primary crashes, and another member is elected.
fn crash(set: &ReplicaSet) {
    set.kill(0);
    set.elect(Some(1));
}

fn labels(reply: &Document) -> Vec<&str> {
    let labels = reply.get_array("errorLabels").map(Vec::as_slice).unwrap_or_default();
    labels.iter().filter_map(bson::Bson::as_str).collect()
}

#[test]
fn a_read_survives_a_crash() {
    let Some(it) = Failover::start("") else { return };
    let reply = it.fail_under(&it.find(), Hold::Before, crash).unwrap();
    assert_eq!(batch(&reply).len(), 1, "{reply}");
    let line = &it.tollgate.logged(1, |line| line["operation"] == "find")[0];
    assert_eq!((&line["attempts"], &line["outcome"]), (&"2".into(), &"ok".into()), "{line}");
    assert_eq!(line["endpoint"], it.set.address(1).to_string());
    let replays = [("cause", "connection"), ("outcome", "ok")];
    it.tollgate.wait_for_metric("tollgate_replays_total", &replays, 1.0);
}

#[test]
fn a_retryable_write_is_done_once_in_a_crash() {
    for hold in [Hold::Before, Hold::After] {
        let Some(it) = Failover::start("") else { return };
        let insert = it.numbered(it.insert(1), 3);
        let reply = it.fail_under(&insert, hold, crash).unwrap();
        assert_eq!(reply.get_i32("n").unwrap(), 1, "{hold:?}: {reply}");
        assert_eq!(it.count(1), 1);
    }
}

#[test]
fn a_lost_write_closes_the_connection_or_is_an_error() {
    for (setting, is_error) in [("", false), ("lost: error", true)] {
        let Some(it) = Failover::start(setting) else { return };
        let reply = it.fail_under(&it.insert(1), Hold::After, crash);
        assert_eq!(reply.is_some(), is_error, "{reply:?}");
        if let Some(reply) = reply {
            assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
            assert!(labels(&reply).is_empty(), "{reply}");
        }
        // It was done, and is not done twice.
        assert_eq!(it.count(1), 1);
    }
}

#[test]
fn a_write_made_retryable_is_done_once() {
    for hold in [Hold::Before, Hold::After] {
        for fail in [crash as fn(&ReplicaSet), |set| set.step_down(Some(1))] {
            let Some(it) = Failover::start("retryable_writes: add") else { return };
            let reply = it.fail_under(&it.insert(1), hold, fail).unwrap();
            assert_eq!(reply.get_i32("n").unwrap(), 1, "{hold:?}: {reply}");
            assert!(reply.get("writeConcernError").is_none(), "{reply}");
            assert_eq!(it.count(1), 1);
        }
    }
}

#[test]
fn a_plain_write_that_was_interrupted_is_not_sent_twice() {
    let Some(it) = Failover::start("") else { return };
    let reply = it.fail_under(&it.insert(1), Hold::After, |set| set.step_down(Some(1))).unwrap();
    let concern = reply.get_document("writeConcernError");
    let error = concern.unwrap_or(&reply);
    assert_eq!(error.get_i32("code").unwrap(), 6, "{reply}");
    let sent: usize = it.set.operations("insert").iter().sum();
    assert_eq!(sent, 2, "the first one made the collection");
}

#[test]
fn a_plain_write_that_was_refused_goes_to_the_next_primary() {
    let Some(it) = Failover::start("") else { return };
    let mut client = it.client();
    for id in 1..20 {
        // The proxy learns of it at the same time as it sends the next write.
        it.set.elect(Some(usize::try_from(id).unwrap() % 3));
        let reply = client.command(id, &it.insert(id));
        assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
    }
    assert!((1..20).all(|id| it.count(id) == 1));
}

#[test]
fn a_transaction_that_died_can_be_begun_again() {
    let Some(it) = Failover::start("") else { return };
    let mut client = it.client();
    let begun = client.command(1, &it.in_transaction(it.insert(1), true));
    assert_eq!(begun.get_i32("n").unwrap(), 1, "{begun}");
    let next = it.in_transaction(it.insert(2), false);
    let reply = it.fail_under(&next, Hold::Before, crash).unwrap();
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(labels(&reply), ["TransientTransactionError"]);
    let reply = client.command(2, &next);
    assert_eq!(labels(&reply), ["TransientTransactionError"], "{reply}");
    // The first statement of a transaction is sent again if the member refuses it.
    it.wait_for_primary(1, 2);
    it.set.elect(Some(2));
    let mut again = it.in_transaction(it.insert(1), true);
    again.insert("txnNumber", 2_i64);
    assert_eq!(client.command(3, &again).get_i32("n").unwrap(), 1);
}

#[test]
fn commits_to_a_dead_member_are_slowed_down() {
    // Drivers repeat a commit at once, again and again.
    let Some(it) = Failover::start("hold: off") else { return };
    let mut client = it.client();
    client.command(1, &it.in_transaction(it.insert(1), true));
    let commit = it.in_transaction(doc! { "commitTransaction": 1, "$db": "admin" }, false);
    let reply = it.fail_under(&commit, Hold::Before, |set| set.kill(0)).unwrap();
    assert_eq!(labels(&reply), ["RetryableWriteError"], "{reply}");
    let began = Instant::now();
    for repeats in 1..=5 {
        let reply = client.command(repeats, &commit);
        assert_eq!(labels(&reply), ["RetryableWriteError"], "{reply}");
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    it.set.elect(Some(1));
    it.wait_for_primary(1, 2);
    // It died with its term.
    let reply = client.command(6, &commit);
    assert_eq!(reply.get_i32("code").unwrap(), 251, "{reply}");
    assert_eq!(labels(&reply), ["TransientTransactionError"]);
}

#[test]
fn a_change_stream_learns_that_it_can_go_on() {
    let Some(it) = Failover::start("") else { return };
    let mut client = it.client();
    let more = it.watch(&mut client, 20_000);
    client.send(&op_msg(2, &more));
    it.set.wait("the getMore", |counters| counters[0].operations("getMore") > 0);
    crash(&it.set);
    let reply = client.read().document();
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(labels(&reply), ["ResumableChangeStreamError"]);
    let reply = client.command(3, &more);
    assert!(matches!(reply.get_i32("code"), Ok(6 | 43)), "{reply}");
}

#[test]
fn a_hold_ends_with_its_words() {
    let Some(it) = Failover::start("hold: 300ms") else { return };
    it.set.elect(None);
    let began = Instant::now();
    let reply = it.client().command(1, &it.insert(1));
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    let words = reply.get_str("errmsg").unwrap();
    assert!(words.starts_with("`rs` has no primary; waited 0.3 s (failover.hold)"), "{words}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let mut limited = it.find();
    limited.insert("maxTimeMS", 50);
    let reply = it.client().command(2, &limited);
    assert_eq!(reply.get_i32("code").unwrap(), 50, "{reply}");
}

#[test]
fn the_time_that_a_change_stream_awaits_is_no_limit() {
    let Some(it) = Failover::start("") else { return };
    let mut client = it.client();
    let more = it.watch(&mut client, 20);
    it.lose_primary();
    it.set.kill(0);
    client.send(&op_msg(2, &more));
    it.tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "db")], 1.0);
    it.set.elect(Some(1));
    let reply = client.read().document();
    assert!(matches!(reply.get_i32("code"), Ok(6 | 43)), "{reply}");
}

#[test]
fn a_long_request_is_left_to_its_driver() {
    let Some(it) = Failover::start("replay_max: 1KiB") else { return };
    let mut find = it.find();
    find.insert("filter", doc! { "text": "x".repeat(2000) });
    let reply = it.fail_under(&find, Hold::Before, crash).unwrap();
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
}

#[test]
fn without_replay_the_client_sees_the_loss() {
    let Some(it) = Failover::start("replay: false") else { return };
    assert_eq!(it.fail_under(&it.find(), Hold::Before, crash), None);
}

#[test]
fn a_silent_primary_is_given_up() {
    let Some(it) = Failover::start("") else { return };
    let began = Instant::now();
    let reply = it.fail_under(&it.find(), Hold::Before, |set| {
        set.silence(0, true);
        set.elect(Some(1));
    });
    assert_eq!(batch(&reply.unwrap()).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn what_a_client_that_left_has_not_sent_is_not_done() {
    let Some(it) = Failover::start("") else { return };
    it.set.elect(None);
    let mut client = it.client();
    client.send(&op_msg(1, &it.insert(1)));
    let waits = [("listener", "db")];
    it.tollgate.wait_for_metric("tollgate_operations_active", &waits, 1.0);
    drop(client);
    let left =
        it.tollgate.logged(1, |line| line["operation"] == "insert" && line["outcome"] != "ok");
    assert_eq!(left[0]["outcome"], "cancelled", "{}", left[0]);
    it.set.elect(Some(0));
    it.wait_for_primary(0, 3);
    assert_eq!(it.count(1), 0);
}

#[test]
fn an_unacknowledged_write_is_sent_after_its_client_left() {
    let Some(it) = Failover::start("") else { return };
    it.lose_primary();
    let mut client = it.client();
    let mut insert = op_msg(1, &it.insert(1));
    // moreToCome: there is no reply.
    insert[16] |= 2;
    client.send(&insert);
    let waits = [("listener", "db")];
    it.tollgate.wait_for_metric("tollgate_operations_active", &waits, 1.0);
    drop(client);
    it.set.elect(Some(0));
    eventually("the document", || (it.count(1) == 1).then_some(()));
}
