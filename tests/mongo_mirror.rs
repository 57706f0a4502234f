//! A second MongoDB deployment gets copies of reads, and the answers are compared.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    eventually, free_address,
    python::drivers,
    scripted::{Scripted, batch, hello, reply_to},
    secantus::Secantus,
    tollgate::Tollgate,
    tools,
    wire::Message,
};

/// Counts the reads that were to be mirrored, by result.
const MIRRORED: &str = "tollgate_mirrored_total";

/// A proxy with one worker before a server, and with a mirror.
fn proxy(server: SocketAddr, mirror: SocketAddr, settings: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  db:\n    address: \"127.0.0.1:0\"\n    cluster: shop\n    \
         protocol: {{ mongo: {{ mirror: {{ to: next, {settings} }} }} }}\n\
         clusters:\n  shop: {{ endpoints: [\"{server}\"], pool: {{}} }}\n  \
         next: {{ endpoints: [\"{mirror}\"], pool: {{}} }}\n"
    ))
}

fn results(tollgate: &Tollgate, result: &str) -> f64 {
    tollgate.metric(MIRRORED, &[("cluster", "next"), ("result", result)])
}

fn wait_for(tollgate: &Tollgate, result: &str, count: f64) {
    tollgate.wait_for_metric(MIRRORED, &[("cluster", "next"), ("result", result)], count);
}

/// What a server answers to a command, whose first batch has these documents and opens this cursor.
fn answer(message: &Message, cursor: i64, documents: &[Document]) -> Vec<u8> {
    let command = message.document();
    let reply = match command.keys().next().map(String::as_str) {
        Some("hello" | "isMaster") => hello("db.example:27017"),
        Some("find" | "aggregate") => batch(true, cursor, "shop.orders", documents),
        Some("count") => doc! { "n": documents.len() as i32, "ok": 1.0 },
        Some("distinct") => doc! { "values": documents.to_vec(), "ok": 1.0 },
        _ => doc! { "ok": 1.0 },
    };
    reply_to(message, &reply)
}

fn server(cursor: i64, documents: Vec<Document>) -> Scripted {
    Scripted::answering(move |message| answer(message, cursor, &documents))
}

/// The commands that a server has got, in the order of its connections, without handshakes.
fn commands(server: &Scripted) -> Vec<Document> {
    let received = server.received();
    let messages = received.iter().flat_map(|one| one.messages());
    let commands = messages.map(|message| message.document());
    let is_handshake = |command: &Document| {
        matches!(command.keys().next().map(String::as_str), Some("hello" | "isMaster"))
    };
    commands.filter(|command| !is_handshake(command)).collect()
}

fn find() -> Document {
    doc! { "find": "orders", "filter": { "status": "open" }, "$db": "shop" }
}

/// The only row of `GET /shapes` with this operation.
fn row(tollgate: &Tollgate, operation: &str) -> Value {
    let rows = tollgate.json("/shapes");
    let rows = rows["shapes"].as_array().unwrap();
    rows.iter().find(|row| row["operation"] == operation).cloned().unwrap_or_default()
}

#[test]
fn answers_are_compared_in_any_order() {
    let (one, two) = (doc! { "_id": 1 }, doc! { "_id": 2 });
    let old = server(0, vec![one.clone(), two.clone()]);
    let same = server(0, vec![two, one.clone()]);
    let less = server(0, vec![one]);
    for (mirror, differs) in [(&same, 0), (&less, 1)] {
        let tollgate = proxy(old.address(), mirror.address(), "compare: true");
        let mut client = RawClient::connect(tollgate.listener("db"));
        for (index, operation) in ["find", "count", "distinct", "aggregate"].iter().enumerate() {
            let mut command = doc! { *operation: "orders" };
            command.extend(match *operation {
                "aggregate" => doc! { "pipeline": [{ "$match": { "a": 1 } }], "cursor": {} },
                "distinct" => doc! { "key": "a" },
                _ => doc! {},
            });
            command.insert("$db", "shop");
            client.command(index as i32 + 1, &command);
        }
        wait_for(&tollgate, if differs == 0 { "same" } else { "differs" }, 4.0);
        for operation in ["find", "count", "distinct", "aggregate"] {
            let mirror = eventually("the row to be there", || {
                let row = row(&tollgate, operation)["mirror"].clone();
                (row["compared"] == 1).then_some(row)
            });
            assert_eq!(mirror["differs"], differs, "{operation} {mirror}");
            assert_eq!(mirror["examples"].as_array().unwrap().len(), differs, "{mirror}");
        }
        if differs == 1 {
            let mirror = row(&tollgate, "find")["mirror"].clone();
            let example = &mirror["examples"][0];
            assert_eq!(
                (&example["documents"], &example["mirror_documents"]),
                (&2.into(), &1.into())
            );
            assert_ne!(example["hash"], example["mirror_hash"]);
        }
    }
}

#[test]
fn a_copy_has_nothing_of_the_session_of_its_client() {
    let (old, mirror) = (server(0, vec![]), server(0, vec![]));
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let mut sent = find();
    sent.insert("lsid", doc! { "id": 1 });
    sent.insert("$clusterTime", doc! { "clusterTime": bson::Timestamp { time: 9, increment: 1 } });
    client.command(1, &sent);
    wait_for(&tollgate, "same", 1.0);
    assert_eq!(commands(&mirror), [find()]);
    assert_eq!(commands(&old), [sent]);
}

#[test]
fn a_mirror_gets_no_write_and_nothing_of_a_transaction() {
    let (old, mirror) = (server(0, vec![]), server(0, vec![]));
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let mut in_transaction = find();
    in_transaction.extend(doc! {
        "lsid": { "id": 1 }, "txnNumber": 1_i64, "startTransaction": true, "autocommit": false,
    });
    let aggregate = |stage: Document| doc! { "aggregate": "orders", "pipeline": [stage], "cursor": {}, "$db": "shop" };
    let others = [
        doc! { "insert": "orders", "documents": [{ "_id": 1 }], "$db": "shop" },
        doc! { "update": "orders", "updates": [{ "q": {}, "u": { "$set": { "a": 1 } } }], "$db": "shop" },
        doc! { "delete": "orders", "deletes": [{ "q": {}, "limit": 0 }], "$db": "shop" },
        doc! { "findAndModify": "orders", "query": {}, "remove": true, "$db": "shop" },
        doc! { "bulkWrite": 1, "ops": [{ "insert": 0, "document": {} }], "nsInfo": [{ "ns": "shop.orders" }], "$db": "admin" },
        aggregate(doc! { "$out": "copy" }),
        aggregate(doc! { "$merge": { "into": "copy" } }),
        doc! { "mapReduce": "orders", "map": "", "reduce": "", "out": "copy", "$db": "shop" },
        doc! { "create": "orders", "$db": "shop" },
        doc! { "createIndexes": "orders", "indexes": [{ "key": { "a": 1 }, "name": "a" }], "$db": "shop" },
        doc! { "dropIndexes": "orders", "index": "a", "$db": "shop" },
        doc! { "collMod": "orders", "$db": "shop" },
        doc! { "drop": "orders", "$db": "shop" },
        doc! { "renameCollection": "shop.orders", "to": "shop.old", "$db": "admin" },
        doc! { "dropDatabase": 1, "$db": "shop" },
        doc! { "killCursors": "orders", "cursors": [5_i64], "$db": "shop" },
        doc! { "getMore": 5_i64, "collection": "orders", "$db": "shop" },
        doc! { "ping": 1, "$db": "admin" },
        in_transaction,
    ];
    let expected = others.len() + 1;
    for (index, command) in others.iter().enumerate() {
        client.command(index as i32 + 1, command);
    }
    client.command(99, &find());
    wait_for(&tollgate, "same", 1.0);
    assert_eq!(commands(&mirror), [find()]);
    assert_eq!(commands(&old).len(), expected);
}

#[test]
fn a_cursor_that_a_copy_opens_is_killed() {
    let (old, mirror) = (server(0, vec![]), server(42, vec![]));
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    RawClient::connect(tollgate.listener("db")).command(1, &find());
    let kill = doc! { "killCursors": "orders", "cursors": [42_i64], "$db": "shop" };
    eventually("the cursor to be killed", || commands(&mirror).contains(&kill).then_some(()));
    assert_eq!(commands(&mirror), [find(), kill]);
}

#[test]
fn a_read_of_several_batches_is_not_mirrored() {
    let (old, mirror) = (server(7, vec![]), server(0, vec![]));
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    client.command(1, &find());
    client.command(2, &doc! { "count": "orders", "$db": "shop" });
    wait_for(&tollgate, "same", 1.0);
    assert_eq!(commands(&mirror), [doc! { "count": "orders", "$db": "shop" }]);
}

#[test]
fn a_mirror_that_hangs_delays_no_client() {
    let old = server(0, vec![doc! { "_id": 1 }]);
    let mirror = Scripted::start(|peer| {
        while let Some(message) = peer.message() {
            if message.document().contains_key("hello")
                || message.document().contains_key("isMaster")
            {
                peer.send(&answer(&message, 0, &[]));
            }
        }
    });
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let started = Instant::now();
    for id in 1..=100 {
        assert_eq!(client.command(id, &find())["ok"].as_f64(), Some(1.0));
    }
    // A copy may take fifteen seconds.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // The others wait.
    wait_for(&tollgate, "dropped", 36.0);
    assert_eq!(results(&tollgate, "same"), 0.0);
}

#[test]
fn a_mirror_that_is_down_delays_no_client() {
    let old = server(0, vec![]);
    let tollgate = proxy(old.address(), free_address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let started = Instant::now();
    for id in 1..=20 {
        client.command(id, &find());
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let all = eventually("the copies to end", || {
        let failed = results(&tollgate, "unreachable");
        (failed == 20.0).then_some(failed)
    });
    assert_eq!(all, 20.0);
    assert_eq!(row(&tollgate, "find")["mirror"]["failed"], 20);
}

#[test]
fn an_error_of_the_mirror_is_no_difference() {
    let old = server(0, vec![]);
    let mirror = Scripted::answering(|message| {
        let document = message.document();
        match document.contains_key("find") {
            true => reply_to(message, &doc! { "ok": 0.0, "code": 26, "errmsg": "no" }),
            false => answer(message, 0, &[]),
        }
    });
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    RawClient::connect(tollgate.listener("db")).command(1, &find());
    wait_for(&tollgate, "failed", 1.0);
    let row = eventually("the row to be there", || {
        let row = row(&tollgate, "find")["mirror"].clone();
        (row["failed"] == 1).then_some(row)
    });
    assert_eq!((&row["compared"], &row["differs"]), (&0.into(), &0.into()));
}

#[test]
fn long_answers_are_not_compared() {
    let old = server(0, vec![doc! { "_id": 1, "text": "x".repeat(70_000) }]);
    let mirror = server(0, vec![]);
    let tollgate = proxy(old.address(), mirror.address(), "compare: true");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let answer = client.command(1, &find());
    assert!(answer.to_string().len() > 70_000);
    wait_for(&tollgate, "too_long", 1.0);
    client.command(2, &doc! { "count": "orders", "$db": "shop" });
    wait_for(&tollgate, "differs", 1.0);
    assert_eq!(commands(&mirror).len(), 1);
}

#[test]
fn a_part_of_the_reads_is_chosen_at_random() {
    let (old, mirror) = (server(0, vec![]), server(0, vec![]));
    let tollgate = proxy(old.address(), mirror.address(), "percent: 20");
    let mut client = RawClient::connect(tollgate.listener("db"));
    for id in 1..=1000 {
        client.command(id, &find());
    }
    // A mean of 200 with a standard deviation of 13.
    let sent = eventually("the copies to end", || {
        let sent = results(&tollgate, "sent");
        (sent as usize == commands(&mirror).len()).then_some(sent)
    });
    assert!((120.0..280.0).contains(&sent), "{sent}");
}

/// What pymongo does: reads of each kind, and writes.
const PROGRAM: &str = "
import pymongo, sys
shop = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=10000).mirror_test
assert len(list(shop.items.find({'kind': 1}))) == 5
assert shop.items.count_documents({}) == 10
assert sorted(shop.items.distinct('kind')) == [0, 1]
assert shop.items.find_one({'_id': 3})['kind'] == 1
shop.items.update_one({'_id': 3}, {'$set': {'seen': True}})
shop.copy.insert_one({'_id': 1})
list(shop.items.aggregate([{'$match': {}}, {'$out': 'copied'}]))
";

fn python(program: &str, server: SocketAddr) -> Option<()> {
    let mut command = Command::new(tools::python()?.join("python"));
    command.current_dir(drivers()).args(["-c", program, &format!("mongodb://{server}")]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[test]
fn reads_of_a_driver_are_compared_on_two_servers() {
    let Some(old) = Secantus::start(false, false) else { return };
    let Some(new) = Secantus::start(false, false) else { return };
    let fill = |more: &str| {
        format!(
            "import pymongo, sys\nshop = pymongo.MongoClient(sys.argv[1]).mirror_test\n\
             shop.items.insert_many([{{'_id': n, 'kind': n % 2}} for n in range(10)]){more}"
        )
    };
    let (Some(()), Some(())) = (python(&fill(""), old.address()), python(&fill(""), new.address()))
    else {
        return;
    };
    let tollgate = proxy(old.address(), new.address(), "compare: true");
    python(PROGRAM, tollgate.listener("db"));
    wait_for(&tollgate, "same", 4.0);
    assert_eq!(results(&tollgate, "differs"), 0.0);
    let check = "import pymongo, sys\nshop = pymongo.MongoClient(sys.argv[1]).mirror_test\n\
                 assert shop.list_collection_names() == ['items'], shop.list_collection_names()\n\
                 assert 'seen' not in shop.items.find_one({'_id': 3})\n\
                 shop.items.delete_one({'_id': 5})";
    python(check, new.address());
    python(
        "import pymongo, sys\nlist(pymongo.MongoClient(sys.argv[1]).mirror_test.items.find({'kind': 1}))",
        tollgate.listener("db"),
    );
    wait_for(&tollgate, "differs", 1.0);
}
