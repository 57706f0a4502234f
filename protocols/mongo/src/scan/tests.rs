use super::*;
use crate::testing::{body, documents, msg, reply, sequence};
use bson::{Bson, Document, doc};
use operation::Outcome::{Failed, Ok, Rejected};

/// Scans a message after its header, cut at these places.
fn scan(message: &[u8], request: bool, cuts: &[usize]) -> MessageFacts {
    let rest = &message[16..];
    let opcode = u32_at(message, 12).unwrap() as i32;
    let new = if request { Scan::request } else { Scan::reply };
    let mut scan = new(opcode, rest.len() as u32);
    let mut facts = MessageFacts::default();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([rest.len()]) {
        let cut = cut.clamp(from, rest.len());
        scan.feed(&rest[from..cut], &mut facts);
        from = cut;
    }
    scan.finish(&mut facts);
    facts
}

fn answered(document: &Document) -> MessageFacts {
    scan(&msg(1, 2, 0, &[body(0, document)]), false, &[])
}

/// Everything that a reply may hold, with things in between that look alike.
fn rich() -> Document {
    doc! {
        "decoy": {"ok": 0, "code": 1, "cursor": {"id": 9_i64}}, "list": [{"ok": 0}],
        "regex": Bson::RegularExpression(bson::Regex {
            pattern: "ok".try_into().unwrap(), options: "i".try_into().unwrap()
        }),
        "a key that is longer than every key that matters and than the carry": "n",
        "cursor": {"firstBatch": documents(5, 40), "id": 77_i64, "ns": "a.b"},
        "n": 3, "nModified": 2,
        "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}, {"code": 1}],
        "writeConcernError": {"code": 64, "errmsg": "waiting"},
        "speculativeAuthenticate": {"conversationId": 1, "done": true},
        "ok": 1.0
    }
}

#[test]
fn the_facts_are_found_among_the_rest() {
    let facts = answered(&rich());
    assert_eq!((facts.documents, facts.affected, facts.cursor_id), (5, 3, Some(77)));
    assert!(facts.ok() && facts.auth_done && facts.has_speculative_auth && !facts.broken);
    assert_eq!(facts.command_outcome(), (Rejected, Some("DuplicateKey")));
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    let sections = [body(0, &rich()), body(3, &doc! {"otel": {}})];
    for flags in [0, 1, 3] {
        let message = msg(1, 2, flags, &sections);
        let whole = scan(&message, false, &[]);
        assert!(!whole.broken);
        for cut in 0..message.len() - 16 {
            assert_eq!(scan(&message, false, &[cut]), whole, "cut at {cut}");
        }
        let bytes: Vec<_> = (0..message.len()).collect();
        assert_eq!(scan(&message, false, &bytes), whole);
    }
}

#[test]
fn what_is_stepped_over_need_never_be_fed() {
    let mut rich = rich();
    rich.insert("padding", "x".repeat(3000));
    let batch = doc! {"cursor": {"id": 1_i64, "nextBatch": documents(3, 5000)}, "ok": 1.0};
    for (document, steps) in [(rich, 2900), (batch, 14_500)] {
        let message = msg(1, 2, 0, &[body(0, &document)]);
        let (rest, mut facts) = (&message[16..], MessageFacts::default());
        for cut in [1, 7, 64] {
            let mut scan = Scan::reply(opcode::MSG, rest.len() as u32);
            facts = MessageFacts::default();
            let (mut at, mut stepped) = (0, 0);
            while at < rest.len() {
                let here = cut.min(rest.len() - at);
                scan.feed(&rest[at..at + here], &mut facts);
                at += here;
                let unseen = scan.skip(rest.len() - at);
                (at, stepped) = (at + unseen, stepped + unseen);
            }
            scan.finish(&mut facts);
            assert_eq!(facts, answered(&document), "{cut} bytes at a time");
            assert!(stepped > steps, "{stepped} of {} were stepped over", rest.len());
        }
        assert!(!facts.broken);
    }
}

#[test]
fn a_success_may_be_of_any_type() {
    for ok in [Bson::Double(1.0), Bson::Int32(1), Bson::Int64(1), Bson::Boolean(true)] {
        assert_eq!(answered(&doc! {"ok": ok}).command_outcome(), (Ok, None));
    }
    for ok in [Bson::Double(0.0), Bson::Int32(0), Bson::Int64(0), Bson::Boolean(false)] {
        let facts = answered(&doc! {"ok": ok, "code": 10107});
        assert_eq!(facts.command_outcome(), (Failed, Some("NotWritablePrimary")));
    }
}

#[test]
fn each_error_is_where_it_belongs() {
    let table = [
        (doc! {"ok": 0, "code": 26}, Rejected, "NamespaceNotFound"),
        (doc! {"ok": 0}, Rejected, "unknown"),
        (doc! {"ok": 0, "code": 987_654}, Rejected, "other"),
        (doc! {"ok": 0, "code": 91.0}, Failed, "ShutdownInProgress"),
        // A write's own error never speaks against the node.
        (doc! {"ok": 1, "writeErrors": [{"code": 91}]}, Rejected, "ShutdownInProgress"),
        (doc! {"ok": 1, "writeConcernError": {"code": 91}}, Failed, "ShutdownInProgress"),
        (doc! {"ok": 1, "writeConcernError": {"code": 64}}, Rejected, "WriteConcernFailed"),
        (
            doc! {"ok": 1, "writeErrors": [{"code": 2}], "writeConcernError": {"code": 11600}},
            Failed,
            "InterruptedAtShutdown",
        ),
        (doc! {"ok": 1, "writeConcernError": {"errmsg": "?"}}, Rejected, "unknown"),
    ];
    for (document, outcome, name) in table {
        assert_eq!(answered(&document).command_outcome(), (outcome, Some(name)), "{document}");
    }
    assert_eq!(answered(&doc! {"ok": 1, "writeErrors": []}).command_outcome(), (Ok, None));
}

#[test]
fn documents_of_every_kind_of_reply_are_counted() {
    let rows = documents(4, 10);
    assert_eq!(answered(&doc! {"cursor": {"nextBatch": rows, "id": 0_i64}, "ok": 1}).documents, 4);
    assert_eq!(answered(&doc! {"values": [1, "two", null], "ok": 1}).documents, 3);
    assert_eq!(answered(&doc! {"value": {"_id": 1}, "ok": 1}).documents, 1);
    assert_eq!(answered(&doc! {"value": null, "ok": 1}).documents, 0);
}

#[test]
fn a_bulk_write_reports_its_first_error() {
    let results = vec![doc! {"ok": 1, "idx": 0}, doc! {"ok": 0, "idx": 1, "code": 121}];
    let document = doc! {
        "cursor": {"id": 0_i64, "firstBatch": results},
        "nErrors": 1, "nInserted": 2, "nMatched": 3, "nDeleted": 4, "nModified": 1, "ok": 1
    };
    let message = msg(1, 2, 0, &[body(0, &document)]);
    let mut scan = Scan::reply(2013, message.len() as u32 - 16);
    let mut facts = MessageFacts { bulk_write: true, ..MessageFacts::default() };
    scan.feed(&message[16..], &mut facts);
    scan.finish(&mut facts);
    assert_eq!(facts.command_outcome(), (Rejected, Some("DocumentValidationFailure")));
    assert_eq!((facts.documents, facts.affected), (0, 9));
}

#[test]
fn documents_in_sequences_and_bodies_are_counted() {
    let rows = documents(7, 50);
    let apart = [sequence("documents", &rows), body(0, &doc! {"insert": "c"})];
    let inside = [body(0, &doc! {"insert": "c", "documents": rows.clone()})];
    let bulk = [body(0, &doc! {"x": 1}), sequence("ops", &rows), sequence("nsInfo", &rows[..2])];
    for sections in [&apart[..], &inside[..], &bulk[..]] {
        let message = msg(1, 0, 0, sections);
        for cut in 0..message.len() - 16 {
            let facts = scan(&message, true, &[cut]);
            assert_eq!((facts.documents, facts.broken), (7, false), "cut at {cut}");
        }
    }
    let mut legacy = b"\0\0\0\0d.c\0".to_vec();
    rows.iter().for_each(|row| legacy.extend(row.to_vec().unwrap()));
    let message = crate::testing::message(1, 0, 2002, &legacy);
    assert_eq!(scan(&message, true, &[20, 21]).documents, 7);
}

#[test]
fn legacy_replies_tell_by_their_flags() {
    let facts = scan(&reply(1, 0, 42, &documents(3, 5)), false, &[19]);
    assert_eq!(
        (facts.documents, facts.cursor_id, facts.query_outcome()),
        (3, Some(42), (Ok, None))
    );
    let gone = scan(&reply(1, 1, 0, &[]), false, &[]);
    assert_eq!(gone.query_outcome(), (Rejected, Some("CursorNotFound")));
    let failed = reply(1, 2, 0, &[doc! {"$err": "not primary", "code": 13435}]);
    let facts = scan(&failed, false, &[]);
    assert_eq!(facts.query_outcome(), (Failed, Some("NotPrimaryNoSecondaryOk")));
    let command = scan(&reply(1, 8, 0, &[doc! {"ok": 0.0, "code": 59}]), false, &[]);
    assert_eq!(command.command_outcome(), (Rejected, Some("CommandNotFound")));
}

#[test]
fn what_lies_about_its_length_is_broken_and_goes_no_further() {
    let good = msg(1, 2, 0, &[body(0, &doc! {"a": {"b": 1}, "ok": 0, "code": 91})]);
    let lies: [&[u8]; 4] = [&[255; 4], &[0; 4], &[4, 0, 0, 0], &[0, 0, 0, 128]];
    for at in [21, 28] {
        for lie in lies {
            let mut message = good.clone();
            message[at..at + 4].copy_from_slice(lie);
            let facts = scan(&message, false, &[]);
            assert!(facts.broken, "{lie:?} at {at}");
            assert_eq!(facts.code, None);
        }
    }
    assert!(scan(&good[..good.len() - 3], false, &[]).broken);
}
