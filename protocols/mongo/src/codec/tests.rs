use super::*;
use crate::testing::{
    answer, body, codec, codec_of, command, compress, documents, feed_replies, feed_requests,
    message, msg, one_reply, one_request, query, reply, sequence,
};
use bson::doc;
use operation::Outcome::{Failed, Ok as Fine, Rejected};
use operation::RejectReason;

mod attributes;
mod cluster_time;
mod given_up;
mod handshakes;
mod hostile;
mod logins;
mod pooled;

/// Refuses, and reads the refusal back: the header's fields and the document.
fn refusal(codec: &mut Mongo, id: u32, reason: RejectReason) -> (u32, i32, bson::Document) {
    let mut out = BytesMut::new();
    assert!(codec.reject(Tag(id.into()), &RejectionRef::new(reason, "no, not now"), &mut out));
    let header = crate::header::Header::read(&out).unwrap().unwrap();
    assert_eq!(header.len as usize, out.len());
    let at = if header.opcode == 2013 { 21 } else { 36 };
    let document = bson::Document::from_reader(&out[at..]).unwrap();
    (header.response_to, header.opcode, document)
}

fn insert(id: u32, flags: u32, rows: usize, len: usize) -> Vec<u8> {
    let insert = body(0, &doc! {"insert": "orders", "$db": "shop"});
    msg(id, 0, flags, &[insert, sequence("documents", &documents(rows, len))])
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Mongo>() <= 512, "{}", size_of::<Mongo>());
}

#[test]
fn a_command_and_its_answer_make_an_operation() {
    let mut codec = codec();
    let (name, resource, mark, _) =
        one_request(&mut codec, &command(7, doc! {"find": "orders", "$db": "shop"}));
    assert_eq!((name.as_str(), resource.as_str()), ("find", "shop.orders"));
    assert_eq!((mark.tag, mark.long_poll, mark.violation), (Some(Tag(7)), false, None));
    let cursor = doc! {"cursor": {"id": 0_i64, "firstBatch": documents(3, 9)}, "ok": 1.0};
    let reply = one_reply(&mut codec, &answer(7, cursor));
    let expected = Reply { items: 3, confirms_names: true, ..Reply::new(Tag(7), Fine) };
    assert_eq!(reply, expected);
    assert!(codec.in_flight.is_empty());
}

#[test]
fn the_inside_of_a_long_document_passes_before_it_is_here() {
    let mut codec = codec();
    // Of a request, more than its front: that has to be here.
    let long = insert(1, 0, 2, 300_000);
    let Next::Pass { len, ends: false, .. } = codec.request(&long[..MAX_FRONT]).unwrap() else {
        panic!("it is all here, or none of it is let through");
    };
    assert!(len > 300_000 && len < 301_000, "{len}");
    let next = codec.request(&long[len as usize..][..100]).unwrap();
    let Next::Pass { len: more, mark: None, ends: false } = next else { panic!("{next:?}") };
    assert_eq!(len + more, long.len() as u64 - 1, "the last byte has to come");
    let last = Next::Pass { len: 1, mark: None, ends: true };
    assert_eq!(codec.request(&long[long.len() - 1..]), Ok(last));
    assert_eq!(codec.request_items(), 2);

    let cursor = doc! {"id": 0_i64, "firstBatch": documents(1, 500_000)};
    let found = answer(1, doc! {"cursor": cursor, "ok": 1.0});
    let Next::Pass { len, mark: None, ends: false } = codec.reply(&found[..200]).unwrap() else {
        panic!("nobody waits for the inside of a document");
    };
    assert!(len > 500_000 && len < found.len() as u64, "{len}");
    let next = codec.reply(&found[len as usize..]).unwrap();
    let Next::Pass { mark: Some(reply), ends: true, .. } = next else { panic!("{next:?}") };
    assert_eq!((reply.tag, reply.outcome), (Tag(1), Fine));
}

#[test]
fn a_cut_anywhere_gives_the_same_marks_facts_and_bytes() {
    let update = body(0, &doc! {"update": "c", "$db": "d"});
    let requests = [
        command(1, doc! {"find": "orders", "$db": "shop"}),
        insert(2, 0, 5, 20),
        msg(3, 0, 3, &[sequence("updates", &documents(2, 9)), update]),
        query(4, "admin.$cmd", &doc! {"ismaster": 1}),
        compress(&insert(5, 0, 4, 30), 1),
        compress(&command(6, doc! {"count": "c", "$db": "d"}), 3),
        message(7, 0, 9999, b"whatever"),
    ]
    .concat();
    let replies = [
        answer(1, doc! {"cursor": {"id": 5_i64, "firstBatch": documents(3, 9)}, "ok": 1.0}),
        answer(2, doc! {"n": 5, "ok": 1.0}),
        reply(4, 8, 0, &[doc! {"ismaster": true, "ok": 1}]),
        compress(&answer(5, doc! {"ok": 1, "n": 3, "writeErrors": [{"code": 11000}]}), 2),
        answer(6, doc! {"ok": 0.0, "code": 91}),
    ]
    .concat();
    let mut whole = codec();
    let sent = feed_requests(&mut whole, &requests, usize::MAX).unwrap();
    let back = feed_replies(&mut whole, &replies, usize::MAX).unwrap();
    assert_eq!((sent.marks.len(), sent.ended, back.marks.len(), back.ended), (7, 7, 5, 5));
    assert_eq!((&sent.out, &back.out), (&requests, &replies));
    assert_eq!(sent.marks.iter().map(|mark| mark.3).collect::<Vec<_>>(), [0, 5, 2, 0, 4, 0, 0]);
    for cut in 1..300 {
        let mut codec = codec();
        assert_eq!(feed_requests(&mut codec, &requests, cut).unwrap(), sent, "{cut}");
        assert_eq!(feed_replies(&mut codec, &replies, cut).unwrap(), back, "{cut}");
    }
}

#[test]
fn a_large_insert_passes_while_it_is_counted() {
    let bytes = insert(1, 0, 3000, 1000);
    let mut codec = codec();
    let Next::Pass { len, ends: false, mark: Some(_) } =
        codec.request(&bytes[..MAX_FRONT]).unwrap()
    else {
        unreachable!("the front was not let through")
    };
    // As far as the end of the document that lies across the front's.
    assert!((MAX_FRONT..MAX_FRONT + 1100).contains(&(len as usize)), "{len}");
    for cut in [1000, 4096, 70_000, 1 << 20] {
        let mut codec = super::tests::codec();
        let seen = feed_requests(&mut codec, &bytes, cut).unwrap();
        assert_eq!((seen.marks.len(), seen.marks[0].3), (1, 3000));
    }
}

#[test]
fn a_large_reply_is_never_held() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, doc! {"find": "c", "$db": "d"}));
    let rows = documents(50, 100_000);
    let bytes = answer(1, doc! {"cursor": {"id": 0_i64, "firstBatch": rows}, "ok": 1});
    let mut at = 0;
    while at < bytes.len() {
        let here = &bytes[at..bytes.len().min(at + 60_000)];
        match codec.reply(here).unwrap() {
            Next::Pass { len, mark, ends } => {
                assert!(len as usize >= here.len());
                at += len as usize;
                assert_eq!(ends, at == bytes.len());
                assert_eq!(mark.map(|mark| mark.items), ends.then_some(50));
            }
            other => unreachable!("{other:?}"),
        }
    }
}

#[test]
fn fire_and_forget_has_no_tag_and_leaves_nothing_open() {
    let mut codec = codec();
    let (name, _, mark, sent) = one_request(&mut codec, &insert(1, 2, 6, 10));
    assert_eq!((name.as_str(), mark.tag, sent), ("insert", None, 6));
    assert!(codec.in_flight.is_empty());
}

#[test]
fn failures_carry_their_names() {
    let mut codec = codec();
    let table = [
        (doc! {"ok": 0, "code": 10107}, Failed, Some("NotWritablePrimary")),
        (doc! {"ok": 0, "code": 50}, Rejected, Some("MaxTimeMSExpired")),
        (doc! {"ok": 1, "n": 1}, Fine, None),
    ];
    for (id, (document, outcome, code)) in (1..).zip(table) {
        one_request(&mut codec, &command(id, doc! {"update": "c", "$db": "d"}));
        let reply = one_reply(&mut codec, &answer(id, document));
        assert_eq!((reply.outcome, reply.code), (outcome, code));
    }
}

#[test]
fn a_stream_of_replies_settles_with_its_last() {
    let batch = |id: u32, answers: u32, flags: u32, cursor: i64| {
        let document = doc! {"cursor": {"id": cursor, "nextBatch": documents(2, 9)}, "ok": 1};
        msg(id, answers, flags, &[body(0, &document)])
    };
    // By the specification each reply answers the one before; some servers repeat the request.
    for ids in [[(100, 1), (101, 100), (102, 101)], [(100, 1), (101, 1), (102, 1)]] {
        let mut codec = codec();
        let more = body(0, &doc! {"getMore": 9_i64, "collection": "c", "$db": "d"});
        one_request(&mut codec, &msg(1, 0, 1 << 16, &[more]));
        for (at, (id, answers)) in ids.into_iter().enumerate() {
            let last = at == 2;
            let bytes = batch(id, answers, if last { 0 } else { 2 }, if last { 0 } else { 9 });
            let seen = feed_replies(&mut codec, &bytes, usize::MAX).unwrap();
            let marks = seen.marks.iter().map(|mark| (mark.tag, mark.items)).collect::<Vec<_>>();
            assert_eq!(marks, if last { vec![(Tag(1), 6)] } else { vec![] });
        }
        assert!(codec.in_flight.is_empty());
    }
}

#[test]
fn a_refusal_speaks_the_protocol_of_its_request() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, doc! {"find": "c", "$db": "d"}));
    let (answers, opcode, document) = refusal(&mut codec, 1, RejectReason::RateLimited);
    assert_eq!((answers, opcode), (1, 2013));
    let labels = ["SystemOverloadedError", "RetryableError"];
    assert_eq!(
        document,
        doc! {"ok": 0.0, "errmsg": "no, not now", "code": 462,
        "codeName": "IngressRequestRateLimitExceeded", "errorLabels": labels.to_vec()}
    );
    one_request(&mut codec, &query(2, "admin.$cmd", &doc! {"ismaster": 1}));
    let (answers, opcode, document) = refusal(&mut codec, 2, RejectReason::Overloaded);
    assert_eq!((answers, opcode, document.get_i32("code").unwrap()), (2, 1, 462));
    one_request(&mut codec, &query(3, "d.c", &doc! {"x": 1}));
    let (answers, opcode, document) = refusal(&mut codec, 3, RejectReason::Denied);
    assert_eq!((answers, opcode, document.get_str("$err").unwrap()), (3, 1, "no, not now"));
    assert!(codec.in_flight.is_empty());
}

#[test]
fn a_standing_no_has_no_labels_that_make_drivers_try_again() {
    let table =
        [(RejectReason::Denied, 13), (RejectReason::NoEndpoint, 6), (RejectReason::Injected, 8000)];
    for (reason, code) in table {
        let (_, _, document) = refusal(&mut codec(), 1, reason);
        assert_eq!(document.get_i32("code").unwrap(), code);
        assert!(!document.contains_key("errorLabels"));
        assert_eq!(document.get_f64("ok").unwrap(), 0.0);
    }
}

#[test]
fn a_refusal_is_an_answer_that_a_codec_can_read() {
    let (mut here, mut there) = (codec(), codec());
    for codec in [&mut here, &mut there] {
        one_request(codec, &command(1, doc! {"find": "c", "$db": "d"}));
    }
    let mut out = BytesMut::new();
    let long = "é".repeat(9000);
    let why = RejectionRef::new(RejectReason::Overloaded, &long);
    assert!(here.reject(Tag(1), &why, &mut out));
    let reply = one_reply(&mut there, &out);
    assert_eq!((reply.outcome, reply.code), (Rejected, Some("IngressRequestRateLimitExceeded")));
}

#[test]
fn a_ping_is_a_command_that_needs_no_login() {
    let ping = command(1, doc! {"ping": 1, "$db": "admin"});
    let (name, resource, mark, _) = one_request(&mut codec(), &ping);
    assert_eq!((name.as_str(), resource.as_str()), ("ping", "admin"));
    assert!(mark.tag.is_some() && mark.violation.is_none());
}

#[test]
fn a_query_of_old_is_settled_by_its_documents() {
    let mut codec = codec();
    one_request(&mut codec, &query(1, "d.c", &doc! {"$query": {"x": 1}}));
    let seen = one_reply(&mut codec, &reply(1, 0, 0, &[doc! {"ok": 0}, doc! {"ok": 0}]));
    assert_eq!((seen.outcome, seen.items), (Fine, 2));
    one_request(&mut codec, &message(2, 0, 2005, b"\0\0\0\0d.c\0\0\0\0\0\x09\0\0\0\0\0\0\0"));
    let seen = one_reply(&mut codec, &reply(2, 1, 0, &[]));
    assert_eq!((seen.outcome, seen.code), (Rejected, Some("CursorNotFound")));
}

#[test]
fn legacy_writes_expect_no_reply() {
    let mut codec = codec();
    for opcode in [2001, 2006] {
        let (_, resource, mark, sent) =
            one_request(&mut codec, &message(1, 0, opcode, b"\0\0\0\0d.c\0"));
        assert_eq!((resource.as_str(), mark.tag, sent), ("d.c", None, 1));
    }
    assert!(codec.in_flight.is_empty());
}

#[test]
fn a_cursor_keeps_its_call_site_on_other_connections() {
    let listener = Arc::new(MongoListener::default());
    let (mut one, mut other) = (codec_of(&listener), codec_of(&listener));
    one_request(&mut one, &command(1, doc! {"find": "c", "comment": "report.py", "$db": "d"}));
    let first = doc! {"cursor": {"id": 99_i64, "firstBatch": []}, "ok": 1};
    one_reply(&mut one, &answer(1, first));
    let more = command(2, doc! {"getMore": 99_i64, "collection": "c", "$db": "d"});
    one_request(&mut other, &more);
    assert_eq!(other.attribute(&more, "callsite"), AttributeValue::known("report.py"));
    one_reply(&mut other, &answer(2, doc! {"cursor": {"id": 0_i64, "nextBatch": []}, "ok": 1}));
    // The operation that used the cursor up is still to be reported.
    assert_eq!(other.attribute(&more, "callsite"), AttributeValue::known("report.py"));
    assert_eq!(one.attribute(&more, "callsite"), AttributeValue::Absent);
}

#[test]
fn more_of_a_tailing_cursor_awaits() {
    let mut codec = codec();
    let watch = doc! {"aggregate": "c", "pipeline": [{"$changeStream": {}}], "$db": "d"};
    assert!(!one_request(&mut codec, &command(1, watch)).2.long_poll);
    one_reply(&mut codec, &answer(1, doc! {"cursor": {"id": 5_i64, "firstBatch": []}, "ok": 1}));
    let more = |id, cursor: i64| command(id, doc! {"getMore": cursor, "collection": "c"});
    assert!(one_request(&mut codec, &more(2, 5)).2.long_poll);
    assert!(!one_request(&mut codec, &more(3, 6)).2.long_poll);
}

#[test]
fn reads_tell_how_they_find_their_documents() {
    let mut codec = codec();
    let mut shape = |bytes: &[u8]| one_request(&mut codec, bytes).2.shape;
    let find = |filter| command(1, doc! {"find": "c", "filter": filter, "$db": "d"});
    assert_eq!(shape(&find(doc! {"_id": 1})), Some("targeted"));
    assert_eq!(shape(&find(doc! {"x": 1})), Some("scatter_get"));
    let update = body(0, &doc! {"update": "c", "$db": "d"});
    let apart = sequence("updates", &[doc! {"q": {"_id": 1}, "u": {}}]);
    assert_eq!(shape(&msg(2, 0, 0, &[update, apart])), Some("targeted"));
    assert_eq!(shape(&command(3, doc! {"ping": 1})), None);
}
