//! Replies that come too late.

use super::*;

/// Gives up, and reads what the client gets in the reply's place: what it answers, and its opcode.
fn give_up(codec: &mut Mongo, id: u32) -> Option<(u32, i32, bson::Document)> {
    let mut out = BytesMut::new();
    let why = RejectionRef::new(RejectReason::TimedOut, "that took too long");
    if !codec.give_up(Tag(id.into()), &why, &mut out) {
        assert!(out.is_empty());
        return None;
    }
    let header = crate::header::Header::read(&out).unwrap().unwrap();
    assert_eq!(header.len as usize, out.len());
    let at = if header.opcode == 2013 { 21 } else { 36 };
    Some((header.response_to, header.opcode, bson::Document::from_reader(&out[at..]).unwrap()))
}

fn find(id: u32) -> Vec<u8> {
    command(id, doc! {"find": "c", "$db": "d"})
}

fn rows(answers: u32, count: usize, len: usize) -> Vec<u8> {
    let cursor = doc! {"id": 0_i64, "firstBatch": documents(count, len)};
    answer(answers, doc! {"cursor": cursor, "ok": 1})
}

#[test]
fn an_abandoned_request_is_answered_as_stopped_by_the_server() {
    let mut codec = codec();
    one_request(&mut codec, &find(7));
    let (answers, opcode, document) = give_up(&mut codec, 7).unwrap();
    assert_eq!((answers, opcode), (7, 2013));
    assert_eq!(document.get_i32("code").unwrap(), 50);
    assert_eq!(document.get_str("codeName").unwrap(), "MaxTimeMSExpired");
    assert!(!document.contains_key("errorLabels"));
    one_request(&mut codec, &query(8, "admin.$cmd", &doc! {"ismaster": 1}));
    one_request(&mut codec, &query(9, "d.c", &doc! {"a": 1}));
    assert_eq!(give_up(&mut codec, 8).unwrap().1, 1);
    assert!(give_up(&mut codec, 9).unwrap().2.contains_key("$err"));
}

#[test]
fn a_late_reply_of_any_size_and_packing_is_dropped() {
    let late = [
        rows(1, 3, 9),
        rows(1, 300, 1000),
        answer(1, doc! {"ok": 0, "code": 91}),
        message(1001, 1, 2013, b"\0\0\0\0 not to be read"),
        message(1001, 1, 9999, b"never seen"),
        message(1001, 1, 2013, b""),
    ];
    let packed = late.iter().flat_map(|late| (0..4).map(|how| compress(late, how)));
    for late in packed.chain(late.iter().cloned()) {
        let replies = [rows(2, 1, 9), late, rows(3, 2, 9)].concat();
        let others = [rows(2, 1, 9), rows(3, 2, 9)].concat();
        for cut in [1, 7, 16, 25, 1000, usize::MAX] {
            let mut codec = codec();
            (1..4).for_each(|id| _ = one_request(&mut codec, &find(id)));
            assert!(give_up(&mut codec, 1).is_some());
            let seen = feed_replies(&mut codec, &replies, cut).unwrap();
            assert_eq!(seen.out, others, "cut {cut}");
            assert_eq!(seen.ended, 3);
            let marks: Vec<_> = seen.marks.iter().map(|mark| (mark.tag, mark.items)).collect();
            assert_eq!(marks, [(Tag(2), 1), (Tag(3), 2)]);
            assert!(codec.in_flight.is_empty());
        }
    }
}

#[test]
fn all_of_a_stream_is_late_and_nothing_after_it() {
    let more = body(0, &doc! {"getMore": 9_i64, "collection": "c", "$db": "d"});
    let batch = |id: u32, answers: u32, last: bool| {
        let document = doc! {"cursor": {"id": 9_i64, "nextBatch": documents(2, 9)}, "ok": 1};
        msg(id, answers, if last { 0 } else { 2 }, &[body(0, &document)])
    };
    for ids in [[(100, 1), (101, 100), (102, 101)], [(100, 1), (101, 1), (102, 1)]] {
        for packed in [false, true] {
            let mut codec = codec();
            one_request(&mut codec, &msg(1, 0, 1 << 16, std::slice::from_ref(&more)));
            assert!(give_up(&mut codec, 1).is_some());
            one_request(&mut codec, &find(2));
            let mut replies = Vec::new();
            for (at, (id, answers)) in ids.into_iter().enumerate() {
                let part = batch(id, answers, at == 2);
                replies.extend(if packed { compress(&part, 3) } else { part });
            }
            replies.extend(rows(2, 1, 9));
            let seen = feed_replies(&mut codec, &replies, 11).unwrap();
            assert_eq!(seen.out, rows(2, 1, 9));
            assert!(codec.in_flight.is_empty());
        }
    }
}

#[test]
fn an_unrelated_reply_is_not_part_of_a_late_stream() {
    let mut codec = codec();
    one_request(&mut codec, &find(1));
    assert!(give_up(&mut codec, 1).is_some());
    let first = msg(100, 1, 2, &[body(0, &doc! {"ok": 1})]);
    let stray = answer(77, doc! {"ok": 1});
    let seen = feed_replies(&mut codec, &[first, stray.clone()].concat(), usize::MAX).unwrap();
    assert_eq!(seen.out, stray);
}

#[test]
fn a_reply_that_has_begun_is_not_given_up() {
    let mut codec = codec();
    one_request(&mut codec, &find(1));
    one_request(&mut codec, &find(2));
    let reply = rows(1, 100, 1000);
    let (front, rest) = reply.split_at(500);
    assert!(matches!(codec.reply(front).unwrap(), Next::Pass { ends: false, .. }));
    assert_eq!(give_up(&mut codec, 1), None);
    assert!(give_up(&mut codec, 2).is_some(), "that is another");
    assert!(matches!(codec.reply(rest).unwrap(), Next::Pass { ends: true, .. }));

    one_request(&mut codec, &find(3));
    told_more(&mut codec, &msg(100, 3, 2, &[body(0, &doc! {"ok": 1})]));
    assert_eq!(give_up(&mut codec, 3), None, "its first part has passed");
}

fn told_more(codec: &mut Mongo, part: &[u8]) {
    assert_eq!(feed_replies(codec, part, usize::MAX).unwrap().out, part);
}

#[test]
fn while_a_hello_is_held_none_of_it_has_passed() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, doc! {"hello": 1, "$db": "admin"}));
    let reply = answer(1, doc! {"ok": 1, "me": "db-1:27017", "hosts": ["db-1:27017"]});
    assert!(matches!(codec.reply(&reply[..60]).unwrap(), Next::Hold(_)));
    assert!(give_up(&mut codec, 1).is_some());
    assert!(feed_replies(&mut codec, &reply, 13).unwrap().out.is_empty());
}

#[test]
fn what_is_not_open_is_not_given_up() {
    let mut codec = codec();
    assert_eq!(give_up(&mut codec, 1), None);
    one_request(&mut codec, &find(1));
    one_reply(&mut codec, &rows(1, 0, 0));
    assert_eq!(give_up(&mut codec, 1), None, "it is answered");
    one_request(&mut codec, &find(2));
    assert!(give_up(&mut codec, 2).is_some());
    assert_eq!(give_up(&mut codec, 2), None, "that has been done");
    let mut out = BytesMut::new();
    assert!(!codec.give_up(
        Tag(u64::MAX),
        &RejectionRef::new(RejectReason::TimedOut, ""),
        &mut out
    ));
}

#[test]
fn a_server_that_owes_too_much_is_not_waited_for() {
    let mut codec = codec();
    let given_up = (0..150).filter(|id| {
        one_request(&mut codec, &find(*id));
        give_up(&mut codec, *id).is_some()
    });
    assert_eq!(given_up.count(), 100);
    told_nothing(&mut codec, &rows(0, 1, 9));
    assert!(give_up(&mut codec, 120).is_some(), "there is room again");
}

fn told_nothing(codec: &mut Mongo, late: &[u8]) {
    assert!(feed_replies(codec, late, usize::MAX).unwrap().out.is_empty());
}

#[test]
fn a_reused_request_id_belongs_to_the_newer_request() {
    let mut codec = codec();
    one_request(&mut codec, &find(7));
    assert!(give_up(&mut codec, 7).is_some());
    one_request(&mut codec, &command(7, doc! {"count": "c", "$db": "d"}));
    let (late, own) = (rows(7, 3, 9), answer(7, doc! {"n": 5, "ok": 1}));
    let seen = feed_replies(&mut codec, &[late, own.clone()].concat(), usize::MAX).unwrap();
    assert_eq!((seen.out, seen.marks.len()), (own, 1));
    assert!(codec.in_flight.is_empty());
}

#[test]
fn a_refusal_does_not_forget_a_late_reply_with_the_same_number() {
    let mut codec = codec();
    one_request(&mut codec, &find(7));
    assert!(give_up(&mut codec, 7).is_some());
    one_request(&mut codec, &find(7));
    refusal(&mut codec, 7, RejectReason::Denied);
    told_nothing(&mut codec, &rows(7, 3, 9));
}

#[test]
fn a_login_that_was_given_up_counts_if_the_server_says_so() {
    let mut codec = codec();
    let x509 = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=app", "$db": "d"};
    one_request(&mut codec, &command(1, x509));
    assert!(give_up(&mut codec, 1).is_some());
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::Absent);
    told_nothing(&mut codec, &answer(1, doc! {"ok": 1}));
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::known("CN=app@d"));
}

#[test]
fn a_cursor_of_a_dropped_reply_is_not_stored() {
    let mut codec = codec();
    let watch = doc! {"aggregate": "c", "pipeline": [{"$changeStream": {}}], "$db": "d"};
    one_request(&mut codec, &command(1, watch));
    assert!(give_up(&mut codec, 1).is_some());
    told_nothing(&mut codec, &answer(1, doc! {"cursor": {"id": 5_i64, "firstBatch": []}, "ok": 1}));
    let more = doc! {"getMore": 5_i64, "collection": "c", "$db": "d"};
    assert!(!one_request(&mut codec, &command(2, more)).2.long_poll);
}
