use super::*;
use crate::{
    placement::RequestPlace,
    testing::{body as section, command, msg},
};
use bson::{Bson, Document, Timestamp, doc};

fn exchange_of(sent: &[u8]) -> Option<ReadExchange> {
    let message = MessageView::read(sent).unwrap();
    let mut resource = String::new();
    let asked = ParsedCommand::parse(&message, &mut resource);
    let kind = RequestKind::of(&message, &asked, &RequestPlace::of(&message, &asked));
    ReadExchange::of(sent, kind, &resource)
}

fn exchange(document: Document) -> Option<ReadExchange> {
    exchange_of(&command(7, document))
}

/// The next request, as a document.
fn request(exchange: &mut ReadExchange) -> Document {
    let mut bytes = BytesMut::new();
    exchange.write_request(&mut bytes);
    assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
    Document::from_reader(&bytes[21..]).unwrap()
}

fn reply(answers: i32, document: &Document) -> Vec<u8> {
    let mut bytes = msg(99, 0, 0, &[section(0, document)]);
    bytes[8..12].copy_from_slice(&answers.to_le_bytes());
    bytes
}

fn batch(cursor: i64, documents: Vec<Document>) -> Document {
    doc! { "cursor": { "id": cursor, "ns": "shop.orders", "firstBatch": documents }, "ok": 1.0 }
}

fn answered(document: &Document) -> AnswerDigest {
    let mut exchange = exchange(doc! { "find": "orders", "$db": "shop" }).unwrap();
    match exchange.read_reply(&reply(7, document)) {
        MirrorStep::Answered(digest) => digest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_reads_of_a_collection_are_mirrored() {
    let stages = |stage: Document| {
        doc! { "aggregate": "orders", "pipeline": [{ "$match": {} }, stage], "cursor": {}, "$db": "shop" }
    };
    for read in [
        doc! { "find": "orders", "filter": { "a": 1 }, "$db": "shop" },
        doc! { "count": "orders", "query": {}, "$db": "shop" },
        doc! { "distinct": "orders", "key": "a", "$db": "shop" },
        stages(doc! { "$group": { "_id": "$a" } }),
    ] {
        assert!(exchange(read.clone()).is_some(), "{read}");
    }
    let mut in_transaction = doc! { "find": "orders", "$db": "shop", "lsid": { "id": 1 } };
    in_transaction.extend(doc! { "txnNumber": 1_i64, "autocommit": false });
    let tailable = doc! { "tailable": true, "awaitData": true };
    for other in [
        stages(doc! { "$out": "copy" }),
        stages(doc! { "$merge": { "into": "copy" } }),
        doc! { "aggregate": "orders", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "shop" },
        doc! { "aggregate": 1, "pipeline": [{ "$currentOp": {} }], "cursor": {}, "$db": "admin" },
        doc! { "insert": "orders", "documents": [{}], "$db": "shop" },
        doc! { "update": "orders", "updates": [{ "q": {}, "u": { "a": 1 } }], "$db": "shop" },
        doc! { "delete": "orders", "deletes": [{ "q": {}, "limit": 1 }], "$db": "shop" },
        doc! { "findAndModify": "orders", "query": {}, "remove": true, "$db": "shop" },
        doc! { "bulkWrite": 1, "ops": [], "nsInfo": [], "$db": "admin" },
        doc! { "mapReduce": "orders", "map": "", "reduce": "", "out": "copy", "$db": "shop" },
        doc! { "create": "orders", "$db": "shop" },
        doc! { "createIndexes": "orders", "indexes": [], "$db": "shop" },
        doc! { "drop": "orders", "$db": "shop" },
        doc! { "dropDatabase": 1, "$db": "shop" },
        doc! { "renameCollection": "shop.orders", "to": "shop.old", "$db": "admin" },
        doc! { "getMore": 5_i64, "collection": "orders", "$db": "shop" },
        doc! { "killCursors": "orders", "cursors": [5_i64], "$db": "shop" },
        doc! { "explain": { "find": "orders" }, "$db": "shop" },
        doc! { "commitTransaction": 1, "$db": "admin" },
        doc! { "hello": 1, "$db": "admin" },
        doc! { "noSuchCommand": "orders", "$db": "shop" },
        in_transaction,
        [doc! { "find": "orders", "$db": "shop" }, tailable].into_iter().flatten().collect(),
    ] {
        assert!(exchange(other.clone()).is_none(), "{other}");
    }
}

#[test]
fn a_read_that_is_not_plain_is_not_mirrored() {
    let find = section(0, &doc! { "find": "orders", "$db": "shop" });
    assert!(exchange_of(&msg(7, 0, 0, std::slice::from_ref(&find))).is_some());
    // Unacknowledged, exhaust, and a body that occurs twice.
    assert!(exchange_of(&msg(7, 0, 2, std::slice::from_ref(&find))).is_none());
    assert!(exchange_of(&msg(7, 0, 1 << 16, std::slice::from_ref(&find))).is_none());
    assert!(exchange_of(&msg(7, 0, 0, &[find.clone(), find])).is_none());
}

#[test]
fn the_copy_has_nothing_of_the_session() {
    let time = Timestamp { time: 9, increment: 1 };
    let concern = doc! { "level": "majority", "afterClusterTime": time, "atClusterTime": time };
    let mut copy = exchange(doc! {
        "find": "orders", "filter": { "lsid": 1 }, "lsid": { "id": 7 }, "txnNumber": 3_i64,
        "readConcern": concern, "$clusterTime": { "clusterTime": time },
        "$readPreference": { "mode": "secondary" }, "maxTimeMS": 50, "$db": "shop",
    })
    .unwrap();
    let expected = doc! {
        "find": "orders", "filter": { "lsid": 1 }, "readConcern": { "level": "majority" },
        "$readPreference": { "mode": "secondary" }, "maxTimeMS": 50, "$db": "shop",
    };
    assert_eq!(request(&mut copy), expected);
}

#[test]
fn answers_are_alike_in_any_order() {
    let [one, two] = [doc! { "_id": 1 }, doc! { "_id": 2 }];
    let both = answered(&batch(0, vec![one.clone(), two.clone()]));
    assert_eq!(both.items, 2);
    assert_eq!(both, answered(&batch(0, vec![two.clone(), one.clone()])));
    for other in
        [vec![one.clone()], vec![one.clone(), one], vec![], vec![doc! { "_id": 2_i64 }, two]]
    {
        assert_ne!(both, answered(&batch(0, other)));
    }
}

#[test]
fn counts_and_values_are_compared_too() {
    let count = |n: Bson| answered(&doc! { "n": n, "ok": 1.0 });
    assert_eq!(count(Bson::Int32(5)), count(Bson::Double(5.0)));
    assert_ne!(count(Bson::Int32(5)), count(Bson::Int32(6)));
    let values = |values: Vec<&str>| answered(&doc! { "values": values, "ok": 1.0 });
    assert_eq!(values(vec!["a", "b"]), values(vec!["b", "a"]));
    assert_ne!(values(vec!["a", "b"]), values(vec!["a", "c"]));
}

#[test]
fn a_cursor_that_the_copy_opens_is_killed() {
    let mut exchange = exchange(doc! { "find": "orders", "$db": "shop" }).unwrap();
    let opened = reply(7, &batch(42, vec![doc! { "_id": 1 }]));
    assert!(matches!(exchange.read_reply(&opened), MirrorStep::Opened(_)));
    let kill = doc! { "killCursors": "orders", "cursors": [42_i64], "$db": "shop" };
    assert_eq!(request(&mut exchange), kill);
    let killed = reply(1, &doc! { "ok": 1.0 });
    assert_eq!(exchange.read_reply(&killed), MirrorStep::Ended);
}

#[test]
fn a_reply_is_read_when_it_is_whole() {
    let mut exchange = exchange(doc! { "find": "orders", "$db": "shop" }).unwrap();
    let whole = reply(7, &batch(0, vec![doc! { "_id": 1 }]));
    for here in 0..whole.len() {
        assert_eq!(exchange.read_reply(&whole[..here]), MirrorStep::NeedMore, "{here} bytes");
    }
    assert_eq!(
        exchange.digest(&whole[HEADER_LEN..]),
        Some(answered(&batch(0, vec![doc! { "_id": 1 }])))
    );
    let failed = reply(7, &doc! { "ok": 0.0, "code": 50 });
    assert_eq!(exchange.read_reply(&failed), MirrorStep::Failed);
    assert_eq!(exchange.read_reply(&reply(8, &batch(0, vec![]))), MirrorStep::Unreadable);
    assert_eq!(exchange.read_reply(&[whole.clone(), whole].concat()), MirrorStep::Unreadable);
}
