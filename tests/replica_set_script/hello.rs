//! What members say of themselves, and when.

use crate::{
    ask, awaiting, client, hello, in_database, insert,
    support::{
        client::RawClient,
        replica_set::{Membership, ReplicaSet},
        wire::{self, EXHAUST_ALLOWED, MORE_TO_COME, OP_REPLY},
    },
    three,
};
use bson::{Document, doc};
use std::time::{Duration, Instant};

fn names(set: &ReplicaSet, members: &[usize]) -> Vec<bson::Bson> {
    members.iter().map(|member| set.address(*member).to_string().into()).collect()
}

#[test]
fn members_describe_the_set_and_their_own_role() {
    let Some(set) = three() else { return };
    let (primary, secondary) = (hello(&set, 0), hello(&set, 1));
    for (member, hello) in [(0, &primary), (1, &secondary)] {
        assert_eq!(hello.get_str("setName").unwrap(), "rs");
        assert_eq!(hello.get_str("me").unwrap(), set.address(member).to_string());
        assert_eq!(hello.get_array("hosts").unwrap(), &names(&set, &[0, 1, 2]));
        assert_eq!(hello.get_str("primary").unwrap(), set.address(0).to_string());
        assert_eq!(hello.get_bool("isWritablePrimary").unwrap(), member == 0);
        assert_eq!(hello.get_bool("secondary").unwrap(), member != 0);
    }
    assert!(primary.contains_key("electionId") && !secondary.contains_key("electionId"));
    let process = |hello: &Document| hello.get_document("topologyVersion").unwrap().clone();
    assert_ne!(process(&primary).get("processId"), process(&secondary).get("processId"));
}

#[test]
fn old_names_and_the_old_opcode_are_answered() {
    let Some(set) = three() else { return };
    let old = doc! { "isMaster": 1, "helloOk": true };
    let reply = client(&set, 0).round_trip(&wire::op_query(7, "admin.$cmd", &old));
    assert_eq!((reply.opcode(), reply.answers()), (OP_REPLY, 7));
    assert!(reply.document().get_bool("ismaster").unwrap());
    assert!(reply.document().get_bool("helloOk").unwrap());
    assert!(!ask(&set, 1, doc! { "ismaster": 1 }).get_bool("ismaster").unwrap());
}

#[test]
fn a_waiting_hello_is_answered_at_a_change() {
    let Some(set) = three() else { return };
    let mut monitor = client(&set, 1);
    let known = monitor.command(1, &in_database(doc! { "hello": 1 }));
    monitor.send(&wire::op_msg(2, &awaiting(&known)));
    set.wait("the monitor to wait", |all| all[1].watching == 1);
    set.elect(Some(1));
    let reply = monitor.read();
    assert_eq!((reply.answers(), reply.flags()), (2, 0));
    assert!(reply.document().get_bool("isWritablePrimary").unwrap());
    // One that does not know the present state need not wait.
    assert!(monitor.command(3, &awaiting(&known)).get_bool("isWritablePrimary").unwrap());
    assert_eq!(set.counters(1).watching, 0);
}

#[test]
fn a_waiting_hello_is_answered_in_time_without_a_change() {
    let Some(set) = three() else { return };
    let known = hello(&set, 0);
    let mut soon = awaiting(&known);
    soon.insert("maxAwaitTimeMS", 50);
    let start = Instant::now();
    let reply = ask(&set, 0, soon);
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(reply.get("topologyVersion"), known.get("topologyVersion"));
}

#[test]
fn an_exhaust_hello_streams_each_change() {
    let Some(set) = three() else { return };
    let mut monitor = client(&set, 0);
    let known = monitor.command(1, &in_database(doc! { "hello": 1 }));
    let sections = [wire::body(&awaiting(&known))];
    monitor.send(&wire::op_msg_of(2, 0, EXHAUST_ALLOWED, &sections));
    let mut answers = 2;
    for primary in [1, 2, 0] {
        set.wait("the monitor to wait", |all| all[0].watching == 1);
        set.elect(Some(primary));
        let reply = monitor.read();
        assert_eq!((reply.answers(), reply.flags()), (answers, MORE_TO_COME));
        assert_eq!(reply.document().get_str("primary").unwrap(), set.address(primary).to_string());
        answers = reply.id();
    }
    drop(monitor);
    set.wait("the stream to end", |all| all[0].watching == 0 && all[0].open == 0);
}

#[test]
fn a_greater_term_has_a_greater_election_id() {
    let Some(set) = three() else { return };
    let first = hello(&set, 0).get_object_id("electionId").unwrap();
    set.elect(Some(1));
    let second = hello(&set, 1).get_object_id("electionId").unwrap();
    assert!(second > first);
    set.claim_primary(0, 1);
    assert_eq!(hello(&set, 0).get_object_id("electionId").unwrap(), first);
    assert!(hello(&set, 0).get_bool("isWritablePrimary").unwrap());
    assert_eq!(hello(&set, 0).get_str("primary").unwrap(), set.address(0).to_string());
    assert_eq!(hello(&set, 2).get_str("primary").unwrap(), set.address(1).to_string());
    set.elect(Some(2));
    assert!(!hello(&set, 0).get_bool("isWritablePrimary").unwrap());
    set.claim_primary(0, 256);
    assert!(hello(&set, 0).get_object_id("electionId").unwrap() > second);
}

#[test]
fn hello_and_errors_have_the_newest_time_of_the_cluster() {
    let Some(set) = three() else { return };
    let time = |reply: &Document| {
        reply.get_document("$clusterTime").unwrap().get_timestamp("clusterTime").unwrap()
    };
    for id in [1, 2] {
        let written = ask(&set, 0, insert("time", id));
        assert!(time(&hello(&set, 1)) >= time(&written));
        assert!(time(&ask(&set, 1, insert("time", id))) >= time(&written));
    }
}

#[test]
fn settings_of_a_member_are_in_its_hello() {
    let Some(set) = three() else { return };
    set.set_lag(1, Duration::from_secs(100));
    set.set_tags(1, doc! { "use": "reports" });
    set.set_wire_versions(1, 6, 13);
    set.set_name(1, "other");
    let (first, second) = (hello(&set, 0), hello(&set, 1));
    let written = |hello: &Document| {
        hello
            .get_document("lastWrite")
            .unwrap()
            .get_datetime("lastWriteDate")
            .unwrap()
            .timestamp_millis()
    };
    let lag = written(&first) - written(&second);
    assert!((99_000..=100_000).contains(&lag), "{lag} ms");
    assert_eq!(second.get_document("tags").unwrap(), &doc! { "use": "reports" });
    assert_eq!(second.get_i32("maxWireVersion").unwrap(), 13);
    assert_eq!(second.get_str("setName").unwrap(), "other");
    assert_eq!(first.get_str("setName").unwrap(), "rs");
}

#[test]
fn members_are_listed_by_what_they_are() {
    let Some(set) = three() else { return };
    let version = |set| hello(set, 0).get_i32("setVersion").unwrap();
    let before = version(&set);
    let added = set.add_member();
    assert_eq!(hello(&set, 0).get_array("hosts").unwrap(), &names(&set, &[0, 1, 2, added]));
    set.remove(1);
    set.hide(2);
    set.set_membership(added, Membership::Arbiter);
    let passive = set.add_member();
    set.set_membership(passive, Membership::Passive);
    let seen = hello(&set, 0);
    assert_eq!(seen.get_array("hosts").unwrap(), &names(&set, &[0]));
    assert_eq!(seen.get_array("passives").unwrap(), &names(&set, &[passive]));
    assert_eq!(seen.get_array("arbiters").unwrap(), &names(&set, &[added]));
    assert_eq!(version(&set), before + 6);
    assert!(hello(&set, 1).get_bool("isreplicaset").unwrap());
    assert!(hello(&set, 2).get_bool("hidden").unwrap());
    assert!(hello(&set, added).get_bool("arbiterOnly").unwrap());
    assert!(hello(&set, passive).get_bool("passive").unwrap());
}

#[test]
fn a_change_of_the_config_is_pushed() {
    let Some(set) = three() else { return };
    let mut monitor = RawClient::connect(set.address(0));
    let known = monitor.command(1, &in_database(doc! { "hello": 1 }));
    monitor.send(&wire::op_msg(2, &awaiting(&known)));
    set.wait("the monitor to wait", |all| all[0].watching == 1);
    set.remove(2);
    assert_eq!(monitor.read().document().get_array("hosts").unwrap(), &names(&set, &[0, 1]));
}
