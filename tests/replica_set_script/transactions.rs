//! Transactions belong to the primary that began them, and to its term.

use crate::{
    ask, client, code, in_database, insert, labels, session, succeeded,
    support::{
        replica_set::{Hold, ReplicaSet},
        wire,
    },
    three,
};
use bson::{Document, doc};

/// One transaction: its statements carry the same session and number.
pub(crate) struct Transaction {
    lsid: Document,
    collection: &'static str,
}

impl Transaction {
    pub(crate) fn new(collection: &'static str) -> Self {
        Self { lsid: session(), collection }
    }

    /// Begins one at a member by an insert, and returns its reply too.
    pub(crate) fn begin(
        set: &ReplicaSet,
        member: usize,
        collection: &'static str,
    ) -> (Self, Document) {
        let it = Self::new(collection);
        let reply = ask(set, member, it.begins());
        (it, reply)
    }

    pub(crate) fn begins(&self) -> Document {
        let mut first = self.statement(1);
        first.insert("startTransaction", true);
        first
    }

    /// A further insert.
    pub(crate) fn statement(&self, id: i32) -> Document {
        self.in_it(insert(self.collection, id))
    }

    pub(crate) fn commit(&self) -> Document {
        self.in_it(doc! { "commitTransaction": 1, "$db": "admin" })
    }

    fn in_it(&self, mut command: Document) -> Document {
        command.extend(doc! { "lsid": self.lsid.clone(), "txnNumber": 1_i64, "autocommit": false });
        command
    }
}

/// A collection, which must be there before a transaction.
pub(crate) fn make(set: &ReplicaSet, collection: &str) {
    ask(set, set.primary().unwrap_or(0), doc! { "create": collection });
}

pub(crate) fn count(set: &ReplicaSet, member: usize, collection: &str) -> i32 {
    ask(set, member, doc! { "count": collection }).get_i32("n").unwrap()
}

#[test]
fn a_transaction_is_committed_on_its_primary() {
    let Some(set) = three() else { return };
    make(&set, "commits");
    let (it, first) = Transaction::begin(&set, 0, "commits");
    assert!(succeeded(&first), "{first}");
    assert!(!first.contains_key("recoveryToken"));
    assert!(succeeded(&ask(&set, 0, it.statement(2))));
    assert_eq!(count(&set, 0, "commits"), 0);
    assert!(succeeded(&ask(&set, 0, it.commit())));
    assert_eq!(count(&set, 0, "commits"), 2);
}

#[test]
fn a_secondary_refuses_transactions() {
    let Some(set) = three() else { return };
    let (it, first) = Transaction::begin(&set, 1, "nowhere");
    assert_eq!((code(&first), labels(&first)), (10107, vec!["TransientTransactionError"]));
    let commit = ask(&set, 1, it.commit());
    assert_eq!((code(&commit), labels(&commit)), (10107, vec!["RetryableWriteError"]));
}

#[test]
fn a_transaction_ends_with_its_term() {
    let Some(set) = three() else { return };
    make(&set, "terms");
    let (it, _) = Transaction::begin(&set, 0, "terms");
    set.elect(Some(1));
    for member in [1, 0] {
        set.elect(Some(member));
        for statement in [it.statement(2), it.commit()] {
            let reply = ask(&set, member, statement);
            assert_eq!((code(&reply), labels(&reply)), (251, vec!["TransientTransactionError"]));
        }
    }
    // Nothing of it is left at the server, which would keep others from the document.
    assert!(succeeded(&ask(&set, 0, insert("terms", 1))));
    assert_eq!(count(&set, 0, "terms"), 1);
}

#[test]
fn a_commit_that_was_done_can_be_asked_for_again() {
    let Some(set) = three() else { return };
    make(&set, "again");
    let (it, _) = Transaction::begin(&set, 0, "again");
    set.hold(0, Some(Hold::After));
    let mut first = client(&set, 0);
    first.send(&wire::op_msg(1, &in_database(it.commit())));
    set.wait("the commit to be held", |all| all[0].held == 1);
    set.kill(0);
    assert!(first.try_read().is_none());
    set.elect(Some(1));
    let again = ask(&set, 1, it.commit());
    assert!(succeeded(&again), "{again}");
    assert_eq!(count(&set, 1, "again"), 1);
}

#[test]
fn a_commit_is_interrupted_before_or_after_it_is_done() {
    let Some(set) = three() else { return };
    make(&set, "commit");
    for (hold, done) in [(Hold::Before, 0), (Hold::After, 1)] {
        set.elect(Some(0));
        let (it, _) = Transaction::begin(&set, 0, "commit");
        set.hold(0, Some(hold));
        let mut committer = client(&set, 0);
        committer.send(&wire::op_msg(1, &in_database(it.commit())));
        set.wait("the commit to be held", |all| all[0].held == 1);
        set.step_down(Some(1));
        let reply = committer.read().document();
        set.hold(0, None);
        assert_eq!(labels(&reply), ["RetryableWriteError"]);
        let concern = reply.get_document("writeConcernError").ok();
        assert_eq!(code(concern.unwrap_or(&reply)), 11602);
        assert_eq!(concern.is_some(), hold == Hold::After);
        let again = ask(&set, 1, it.commit());
        assert_eq!(succeeded(&again), hold == Hold::After, "{again}");
        assert_eq!(count(&set, 1, "commit"), done);
    }
}

#[test]
fn a_statement_under_way_is_interrupted() {
    let Some(set) = three() else { return };
    make(&set, "statement");
    set.hold(0, Some(Hold::Before));
    let it = Transaction::new("statement");
    let mut writer = client(&set, 0);
    writer.send(&wire::op_msg(1, &in_database(it.begins())));
    set.wait("the statement to be held", |all| all[0].held == 1);
    set.step_down(Some(1));
    let reply = writer.read().document();
    assert_eq!((code(&reply), labels(&reply)), (11602, vec!["TransientTransactionError"]));
}
