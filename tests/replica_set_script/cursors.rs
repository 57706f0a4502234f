//! Cursors belong to the member that opened them.

use crate::{
    ask, client, code, find, in_database, succeeded,
    support::{
        replica_set::ReplicaSet,
        wire::{self, EXHAUST_ALLOWED, MORE_TO_COME},
    },
    three,
};
use bson::{Bson, Document, doc};

/// Opens a cursor over twenty documents at a member, with 18 left to get.
fn open(set: &ReplicaSet, member: usize, collection: &str) -> i64 {
    let documents: Vec<_> = (0..20).map(|id| doc! { "_id": id }).collect();
    let primary = set.primary().unwrap_or(member);
    ask(set, primary, doc! { "insert": collection, "documents": documents });
    let reply = ask(set, member, find(collection, Some("nearest")));
    reply.get_document("cursor").unwrap().get_i64("id").unwrap()
}

fn get_more(cursor: i64, collection: &str) -> Document {
    doc! { "getMore": cursor, "collection": collection, "batchSize": 2 }
}

#[test]
fn a_cursor_is_known_to_one_member() {
    let Some(set) = three() else { return };
    let cursor = open(&set, 1, "one");
    for member in [0, 2] {
        assert_eq!(code(&ask(&set, member, get_more(cursor, "one"))), 43);
    }
    assert!(succeeded(&ask(&set, 1, get_more(cursor, "one"))));
    // Members keep their cursors when their roles change.
    set.elect(Some(1));
    assert!(succeeded(&ask(&set, 1, get_more(cursor, "one"))));
}

#[test]
fn a_cursor_ends_with_the_process_of_its_member() {
    let Some(set) = three() else { return };
    let cursor = open(&set, 1, "process");
    set.kill(1);
    set.start_again(1);
    assert_eq!(code(&ask(&set, 1, get_more(cursor, "process"))), 43);
}

#[test]
fn only_its_own_cursors_can_be_closed_at_a_member() {
    let Some(set) = three() else { return };
    let (first, second) = (open(&set, 1, "close"), open(&set, 2, "close"));
    let kill = doc! { "killCursors": "close", "cursors": [first, second] };
    let reply = ask(&set, 1, kill);
    assert_eq!(reply.get_array("cursorsKilled").unwrap(), &[Bson::Int64(first)]);
    assert_eq!(reply.get_array("cursorsNotFound").unwrap(), &[Bson::Int64(second)]);
    assert_eq!(code(&ask(&set, 1, get_more(first, "close"))), 43);
    assert!(succeeded(&ask(&set, 2, get_more(second, "close"))));
}

#[test]
fn an_exhaust_cursor_streams_through_a_member() {
    let Some(set) = three() else { return };
    let cursor = open(&set, 2, "exhaust");
    let mut client = client(&set, 2);
    let sections = [wire::body(&in_database(get_more(cursor, "exhaust")))];
    client.send(&wire::op_msg_of(5, 0, EXHAUST_ALLOWED, &sections));
    let (mut documents, mut more) = (0, true);
    while more {
        let reply = client.read();
        let batch = reply.document();
        documents += batch.get_document("cursor").unwrap().get_array("nextBatch").unwrap().len();
        more = reply.flags() & MORE_TO_COME != 0;
    }
    assert_eq!(documents, 18);
}
