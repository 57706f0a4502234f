//! What members refuse in their roles, and what an election does to work under way.

use crate::{
    ask, client, code, find, in_database, insert, labels, retryable_insert, succeeded,
    support::{
        replica_set::{Hold, Membership},
        wire::{self, MORE_TO_COME},
    },
    three,
};
use bson::doc;

#[test]
fn a_secondary_refuses_writes() {
    let Some(set) = three() else { return };
    assert!(succeeded(&ask(&set, 0, insert("writes", 1))));
    let reply = ask(&set, 1, insert("writes", 2));
    assert_eq!(code(&reply), 10107);
    assert!(labels(&reply).is_empty());
    assert!(reply.get_document("topologyVersion").unwrap().get_i64("counter").is_ok());
    let reply = ask(&set, 1, retryable_insert("writes", 2, 1));
    assert_eq!((code(&reply), labels(&reply)), (10107, vec!["RetryableWriteError"]));
    let out = doc! { "aggregate": "writes", "pipeline": [{ "$out": "copy" }], "cursor": {} };
    assert_eq!(code(&ask(&set, 1, out)), 10107);
    assert_eq!((set.counters(1).refusals(10107), set.counters(1).operations("insert")), (3, 2));
}

#[test]
fn a_secondary_serves_only_reads_that_allow_it() {
    let Some(set) = three() else { return };
    assert!(succeeded(&ask(&set, 0, insert("reads", 1))));
    for mode in [None, Some("primary")] {
        let reply = ask(&set, 2, find("reads", mode));
        assert_eq!(code(&reply), 13435);
        assert!(reply.contains_key("topologyVersion"));
    }
    for mode in ["secondary", "secondaryPreferred", "nearest", "primaryPreferred"] {
        let reply = ask(&set, 2, find("reads", Some(mode)));
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        assert_eq!(batch, [doc! { "_id": 1 }.into()]);
    }
    assert!(succeeded(&ask(&set, 2, doc! { "ping": 1 })));
}

#[test]
fn members_without_data_serve_no_reads() {
    let Some(set) = three() else { return };
    set.set_membership(1, Membership::Arbiter);
    set.remove(2);
    for member in [1, 2] {
        assert_eq!(code(&ask(&set, member, find("reads", Some("nearest")))), 13436);
        assert_eq!(code(&ask(&set, member, insert("reads", 1))), 10107);
    }
}

#[test]
fn an_election_moves_the_writes() {
    let Some(set) = three() else { return };
    set.step_down(None);
    assert_eq!(set.primary(), None);
    assert!((0..3).all(|member| code(&ask(&set, member, insert("moves", 1))) == 10107));
    set.elect(Some(2));
    assert_eq!((set.primary(), set.term()), (Some(2), 2));
    assert!(succeeded(&ask(&set, 2, insert("moves", 1))));
    assert_eq!(code(&ask(&set, 0, insert("moves", 2))), 10107);
    set.step_down(Some(1));
    assert_eq!((set.primary(), set.term()), (Some(1), 3));
}

#[test]
fn two_primaries_take_writes_for_a_while() {
    let Some(set) = three() else { return };
    set.elect(Some(1));
    set.claim_primary(0, 1);
    assert_eq!(set.primary(), Some(1));
    assert!(succeeded(&ask(&set, 0, insert("two", 1))));
    assert!(succeeded(&ask(&set, 1, insert("two", 2))));
    set.elect(Some(1));
    assert_eq!(code(&ask(&set, 0, insert("two", 3))), 10107);
}

#[test]
fn a_write_under_way_is_interrupted_before_it_is_done() {
    let Some(set) = three() else { return };
    set.hold(0, Some(Hold::Before));
    let mut writer = client(&set, 0);
    let write = in_database(retryable_insert("before", 1, 1));
    writer.send(&wire::op_msg(1, &write));
    let mut plain = client(&set, 0);
    plain.send(&wire::op_msg(1, &in_database(insert("before", 2))));
    set.wait("both to be held", |all| all[0].held == 2);
    set.step_down(Some(1));
    let reply = writer.read().document();
    assert_eq!((code(&reply), labels(&reply)), (11602, vec!["RetryableWriteError"]));
    assert!(reply.contains_key("topologyVersion"));
    let reply = plain.read().document();
    assert_eq!((code(&reply), labels(&reply)), (11602, vec![]));
    let count = ask(&set, 1, doc! { "count": "before" });
    assert_eq!(count.get_i32("n").unwrap(), 0);
    assert!(succeeded(&ask(&set, 1, write)));
}

#[test]
fn a_write_under_way_is_interrupted_after_it_is_done() {
    let Some(set) = three() else { return };
    set.hold(0, Some(Hold::After));
    let mut writer = client(&set, 0);
    let write = in_database(retryable_insert("after", 1, 1));
    writer.send(&wire::op_msg(1, &write));
    set.wait("the write to be held", |all| all[0].held == 1);
    set.step_down(Some(1));
    let reply = writer.read().document();
    assert_eq!(reply.get_i32("n").unwrap(), 1);
    assert_eq!(reply.get_document("writeConcernError").unwrap().get_i32("code").unwrap(), 11602);
    assert_eq!(labels(&reply), ["RetryableWriteError"]);
    assert_eq!(set.counters(0).refusals(11602), 1);
    // The server knows by the number that it has done it.
    assert_eq!(ask(&set, 1, write).get_i32("n").unwrap(), 1);
    assert_eq!(ask(&set, 1, doc! { "count": "after" }).get_i32("n").unwrap(), 1);
}

#[test]
fn held_operations_go_on_when_the_test_says_so() {
    let Some(set) = three() else { return };
    set.hold(1, Some(Hold::Before));
    let mut reader = client(&set, 1);
    reader.send(&wire::op_msg(1, &in_database(find("held", Some("secondary")))));
    set.wait("the read to be held", |all| all[1].held == 1);
    assert!(succeeded(&ask(&set, 0, insert("held", 1))));
    set.hold(1, None);
    let reply = reader.read().document();
    assert_eq!(reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len(), 1);
}

#[test]
fn a_refused_write_that_wants_no_reply_gets_none() {
    let Some(set) = three() else { return };
    let mut write = in_database(insert("silent", 1));
    write.insert("writeConcern", doc! { "w": 0 });
    let mut writer = client(&set, 1);
    writer.send(&wire::op_msg_of(1, 0, MORE_TO_COME, &[wire::body(&write)]));
    assert!(succeeded(&writer.command(2, &in_database(doc! { "ping": 1 }))));
    assert_eq!(set.counters(1).refusals(10107), 1);
}
