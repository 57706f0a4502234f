//! What the server still does when its member's term or process ends.

use crate::{
    ask, client, code, in_database, insert, succeeded,
    support::{client::RawClient, replica_set::ReplicaSet, secantus::Secantus, wire},
    three,
    transactions::{Transaction, count, make},
};
use bson::{Document, doc};

/// A set before a server of its own.
fn three_of_their_own() -> Option<(ReplicaSet, Secantus)> {
    let server = Secantus::start(false, false)?;
    let set = ReplicaSet::start(server.address(), 3);
    make(&set, "under_way");
    Some((set, server))
}

/// Has the server take a while for the next insert.
fn slow_insert(set: &ReplicaSet) {
    let data = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 300 };
    let fail_point = doc! {
        "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data, "$db": "admin",
    };
    assert!(succeeded(&ask(set, 0, fail_point)));
}

/// A client whose command the server does now.
fn working(set: &ReplicaSet, command: Document) -> RawClient {
    slow_insert(set);
    let mut client = client(set, 0);
    client.send(&wire::op_msg(1, &in_database(command)));
    set.wait("the server to work", |all| all[0].writing == 1);
    client
}

#[test]
fn a_write_of_a_killed_member_is_done_before_an_election() {
    let Some((set, _server)) = three_of_their_own() else { return };
    let mut writer = working(&set, insert("under_way", 1));
    set.kill(0);
    assert!(writer.try_read().is_none());
    set.elect(Some(1));
    assert_eq!(count(&set, 1, "under_way"), 1);
}

#[test]
fn a_statement_of_a_killed_member_leaves_no_lock() {
    let Some((set, _server)) = three_of_their_own() else { return };
    working(&set, Transaction::new("under_way").begins());
    set.kill(0);
    set.elect(Some(1));
    assert!(succeeded(&ask(&set, 1, insert("under_way", 1))));
}

#[test]
fn a_statement_that_outlives_its_term_leaves_no_lock() {
    let Some((set, _server)) = three_of_their_own() else { return };
    for (later, collection) in [(false, "first"), (true, "later")] {
        set.elect(Some(0));
        make(&set, collection);
        let it = Transaction::new(collection);
        if later {
            assert!(succeeded(&ask(&set, 0, it.begins())));
        }
        let mut writer = working(&set, if later { it.statement(2) } else { it.begins() });
        set.elect(Some(1));
        assert!(succeeded(&writer.read().document()));
        assert!(succeeded(&ask(&set, 1, insert(collection, 1))));
        assert_eq!(code(&ask(&set, 1, it.commit())), 251);
    }
}

#[test]
fn a_client_that_goes_does_not_wait_for_the_server() {
    let Some(set) = three() else { return };
    make(&set, "goes");
    let mut client = client(&set, 0);
    let stream = doc! { "aggregate": "goes", "pipeline": [{ "$changeStream": {} }], "cursor": {} };
    let opened = client.command(1, &in_database(stream));
    let cursor = opened.get_document("cursor").unwrap().get_i64("id").unwrap();
    let more = doc! { "getMore": cursor, "collection": "goes", "maxTimeMS": 60_000 };
    client.send(&wire::op_msg(2, &in_database(more)));
    set.wait("the request", |all| all[0].operations("getMore") == 1);
    drop(client);
    set.wait("its end", |all| all[0].open == 0);
}
