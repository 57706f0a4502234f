//! Several routers before one server.

use crate::{
    ask, client, code, find, hello, in_database, labels, succeeded,
    support::{replica_set::ReplicaSet, secantus::Secantus},
    transactions::{Transaction, make},
};
use bson::doc;

fn two() -> Option<ReplicaSet> {
    Some(ReplicaSet::routers(Secantus::shared()?.address(), 2))
}

#[test]
fn routers_say_that_they_are_routers() {
    let Some(set) = two() else { return };
    for member in [0, 1] {
        let hello = hello(&set, member);
        assert_eq!(hello.get_str("msg").unwrap(), "isdbgrid");
        assert!(hello.get_bool("isWritablePrimary").unwrap());
        for key in ["setName", "hosts", "me", "primary", "secondary", "electionId", "lastWrite"] {
            assert!(!hello.contains_key(key), "{hello}");
        }
    }
    assert!(!set.uri().contains("replicaSet"));
}

#[test]
fn a_cursor_is_known_to_one_router() {
    let Some(set) = two() else { return };
    let documents: Vec<_> = (0..10).map(|id| doc! { "_id": id }).collect();
    assert!(succeeded(&ask(&set, 0, doc! { "insert": "routed", "documents": documents })));
    let opened = ask(&set, 1, find("routed", None));
    let cursor = opened.get_document("cursor").unwrap().get_i64("id").unwrap();
    let more = doc! { "getMore": cursor, "collection": "routed" };
    assert_eq!(code(&ask(&set, 0, more.clone())), 43);
    assert!(succeeded(&ask(&set, 1, more)));
}

#[test]
fn a_transaction_is_known_to_one_router() {
    let Some(set) = two() else { return };
    make(&set, "split");
    let (it, first) = Transaction::begin(&set, 0, "split");
    let token = first.get_document("recoveryToken").unwrap().clone();
    let recover = || {
        let mut commit = it.commit();
        commit.insert("recoveryToken", token.clone());
        commit
    };
    for statement in [it.statement(2), it.commit(), recover()] {
        let reply = ask(&set, 1, statement);
        assert_eq!((code(&reply), labels(&reply)), (251, vec!["TransientTransactionError"]));
    }
    let mut own = client(&set, 0);
    let commit = own.command(1, &in_database(recover()));
    assert!(succeeded(&commit) && commit.contains_key("recoveryToken"), "{commit}");
    // The token leads any router to the outcome; without it only the one that knows is asked.
    assert!(succeeded(&ask(&set, 1, recover())));
    assert_eq!(code(&ask(&set, 1, it.commit())), 251);
    assert!(succeeded(&ask(&set, 0, it.commit())));
}

#[test]
fn a_transaction_ends_with_its_router() {
    let Some(set) = two() else { return };
    make(&set, "lost");
    let (it, _) = Transaction::begin(&set, 0, "lost");
    set.kill(0);
    assert_eq!(code(&ask(&set, 1, it.commit())), 251);
    set.start_again(0);
    assert_eq!(code(&ask(&set, 0, it.statement(2))), 251);
    // It keeps nothing from others.
    assert!(succeeded(&ask(&set, 0, crate::insert("lost", 1))));
}
