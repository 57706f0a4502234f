use super::*;
use crate::{
    dice::Dice,
    testing::{answer, body, compress, message, msg, reply},
};
use ProbeResult::{Healthy, NeedMore, Unhealthy};
use bson::{Document, doc};

fn probe(settings: ProbeSettings) -> MongoProbe {
    MongoProbe::new(Arc::new(MongoProbeContext::new(settings).unwrap()))
}

/// What a probe with these settings makes of this answer to its request.
fn judged(settings: ProbeSettings, hello: Document) -> ProbeResult {
    let mut probe = probe(settings);
    let answer = answer(probe.id, hello);
    let judgement = probe.evaluate(&answer);
    assert_ne!(judgement, NeedMore, "all of it is here");
    judgement
}

fn member(role: Document) -> Document {
    let mut hello = doc! { "setName": "rs0", "hosts": ["a:1", "b:1"], "me": "a:1" };
    hello.extend(role);
    hello.extend(doc! { "maxWireVersion": 25, "ok": 1.0 });
    hello
}

fn healthy(words: &str) -> ProbeResult {
    Healthy(words.to_owned())
}

fn unhealthy(words: &str) -> ProbeResult {
    Unhealthy(words.to_owned())
}

fn any() -> ProbeSettings {
    ProbeSettings::default()
}

fn writable() -> ProbeSettings {
    ProbeSettings { writable: true, ..any() }
}

fn of(set: &str) -> ProbeSettings {
    ProbeSettings { replica_set: Some(set.to_owned()), ..any() }
}

#[test]
fn it_asks_hello_of_the_database_admin() {
    let mut probe = probe(any());
    let mut out = BytesMut::new();
    probe.write_request(&mut out);
    let command = doc! { "hello": 1, "$db": "admin" };
    assert_eq!(&out[..], msg(probe.id, 0, 0, &[body(0, &command)]));
}

#[test]
fn no_two_checks_have_the_same_number() {
    let check = Arc::new(MongoProbeContext::default());
    let ids: Vec<_> = (0..3).map(|_| MongoProbe::new(Arc::clone(&check)).id).collect();
    assert_eq!(ids, [0, 1, 2]);
    check.requests.store(u32::MAX, Relaxed);
    let ids: Vec<_> = (0..2).map(|_| MongoProbe::new(Arc::clone(&check)).id).collect();
    assert_eq!(ids, [u32::MAX >> 1, 0], "numbers are not negative");
}

#[test]
fn servers_that_can_be_used_are_called_by_their_role() {
    for (hello, words) in [
        (member(doc! { "isWritablePrimary": true, "secondary": false }), "primary of rs0"),
        (member(doc! { "ismaster": true, "secondary": false }), "primary of rs0"),
        (member(doc! { "isWritablePrimary": false, "secondary": true }), "secondary of rs0"),
        (member(doc! { "secondary": true, "hidden": true }), "hidden secondary of rs0"),
        (doc! { "isWritablePrimary": true, "ok": 1 }, "standalone"),
        (doc! { "isWritablePrimary": true, "msg": "isdbgrid", "ok": true }, "mongos"),
    ] {
        assert_eq!(judged(any(), hello), healthy(words));
    }
}

#[test]
fn servers_that_can_not_be_used_say_why() {
    for (hello, words) in [
        (member(doc! { "secondary": false, "arbiterOnly": true }), "arbiter of rs0: has no data"),
        (
            member(doc! { "isWritablePrimary": false, "secondary": false }),
            "neither primary nor secondary of rs0: starting or recovering",
        ),
        (
            doc! { "isreplicaset": true, "info": "Does not have a valid config", "ok": 1.0 },
            "member of a replica set without a config yet",
        ),
        (
            doc! { "ok": 0.0, "errmsg": "shutting down", "code": 91, "codeName": "no" },
            "answers hello with error 91 ShutdownInProgress",
        ),
        (
            doc! { "ok": 0.0, "code": 987_654, "codeName": "Strange\u{1b}" },
            "answers hello with error 987654 Strange\u{fffd}",
        ),
        (doc! { "ok": 0, "code": 987_654_i64 }, "answers hello with error 987654"),
        (doc! { "ok": 0.0 }, "answers hello with an error without a code"),
        (doc! { "isWritablePrimary": true }, "answers hello with an error without a code"),
    ] {
        assert_eq!(judged(any(), hello), unhealthy(words));
    }
}

#[test]
fn the_wrong_set_is_reported() {
    let primary = || member(doc! { "isWritablePrimary": true });
    assert_eq!(judged(of("rs0"), primary()), healthy("primary of rs0"));
    let words = "member of the replica set rs0, expected rs1";
    assert_eq!(judged(of("rs1"), primary()), unhealthy(words));
    let alone = doc! { "isWritablePrimary": true, "ok": 1 };
    assert_eq!(judged(of("rs0"), alone), unhealthy("member of no replica set, expected rs0"));
}

#[test]
fn where_writes_go_a_secondary_is_of_no_use() {
    let secondary = member(doc! { "isWritablePrimary": false, "secondary": true });
    assert_eq!(judged(writable(), secondary), unhealthy("secondary of rs0: takes no writes"));
    let primary = member(doc! { "isWritablePrimary": true });
    assert_eq!(judged(writable(), primary), healthy("primary of rs0"));
    let mongos = doc! { "isWritablePrimary": true, "msg": "isdbgrid", "ok": 1 };
    assert_eq!(judged(writable(), mongos), healthy("mongos"));
}

#[test]
fn an_answer_cut_anywhere_is_waited_for() {
    let mut probe = probe(any());
    let whole = answer(probe.id, member(doc! { "isWritablePrimary": true }));
    for cut in 0..whole.len() {
        assert_eq!(probe.evaluate(&whole[..cut]), NeedMore, "{cut}");
    }
    assert_eq!(probe.evaluate(&whole), healthy("primary of rs0"));
}

#[test]
fn only_the_answer_to_this_check_counts() {
    let mut probe = probe(any());
    let late = answer(probe.id + 1, doc! { "isWritablePrimary": true, "ok": 1 });
    assert_eq!(probe.evaluate(&late), unhealthy("answers another request than was asked"));
    let own = answer(probe.id, doc! { "isWritablePrimary": true, "ok": 1 });
    let words = "sends more than one answer to one request";
    assert_eq!(probe.evaluate(&[own, late].concat()), unhealthy(words));
    let more = msg(7, probe.id, flag::MORE_TO_COME, &[body(0, &doc! { "ok": 1 })]);
    assert_eq!(probe.evaluate(&more), unhealthy(words));
}

#[test]
fn an_invalid_answer_is_reported_early() {
    let mut probe = probe(any());
    let hello = doc! { "isWritablePrimary": true, "ok": 1 };
    let packed = compress(&answer(probe.id, hello.clone()), 1);
    let old = reply(probe.id, 0, 0, &[hello]);
    let huge = 65_537_u32.to_le_bytes();
    for (bytes, words) in [
        (&b"HTTP/1.1 400 Bad Request"[..], "speaks HTTP, not MongoDB's protocol"),
        (b"HTTP", "speaks HTTP, not MongoDB's protocol"),
        (&[0x15, 3, 1], "speaks TLS, not MongoDB's protocol"),
        (b"SSH-2.0-OpenSSH", "does not speak MongoDB's protocol"),
        (&[3, 0, 0, 0], "does not speak MongoDB's protocol"),
        (&huge, "answers with a message of 65537 bytes, at most 65536 are read"),
        (&packed[..16], "answers with opcode 2012, not with an OP_MSG"),
        (&old[..16], "answers with opcode 1, not with an OP_MSG"),
    ] {
        assert_eq!(probe.evaluate(bytes), unhealthy(words), "{bytes:?}");
    }
    for broken in [
        message(7, probe.id, 2013, &[]),
        message(7, probe.id, 2013, &[0; 5]),
        msg(7, probe.id, 0, &[]),
        msg(7, probe.id, 0, &[body(1, &doc! { "ok": 1 })]),
        msg(7, probe.id, 1, &[body(0, &doc! { "ok": 1 })]),
    ] {
        let words = "answers with a message that can't be read";
        assert_eq!(probe.evaluate(&broken), unhealthy(words), "{broken:?}");
    }
}

#[test]
fn no_mutilated_answer_is_a_panic_and_waiting_has_an_end() {
    let hello = member(doc! { "isWritablePrimary": true, "msg": "isdbgrid", "code": 91 });
    for seed in 0..20_000 {
        let mut dice = Dice::new(seed);
        let mut probe = probe(of("rs0"));
        let mut bytes = answer(probe.id, hello.clone());
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            match dice.below(3) {
                0 => bytes[at] = dice.next() as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, dice.next() as u8),
            }
        }
        let early = probe.evaluate(&bytes[..dice.below(bytes.len() + 1)]);
        let later = probe.evaluate(&bytes);
        // A verdict stays, whatever comes after it; more than an answer is never healthy.
        assert!(
            matches!(early, NeedMore) || matches!(later, Unhealthy(_)) || early == later,
            "{seed}"
        );
        bytes.resize(MAX_REPLY_LEN + 1, 0);
        assert!(matches!(probe.evaluate(&bytes), Unhealthy(_)), "seed {seed}");
    }
}
