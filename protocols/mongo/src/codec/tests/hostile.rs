//! Bytes that no driver sends.

use super::*;
use crate::dice::Dice;
use bson::{Bson, Document, RawDocument};

#[test]
fn other_protocols_are_recognised() {
    let http = codec().request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(http.unwrap_err(), Violation("looks_like_http"));
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0];
    assert_eq!(codec().request(&tls).unwrap_err(), Violation("looks_like_tls"));
    assert_eq!(codec().reply(b"HTTP/1.1 200 OK").unwrap_err(), Violation("looks_like_http"));
    assert_eq!(codec().request(&[0; 16]).unwrap_err(), Violation("length"));
    assert_eq!(codec().reply(&[255; 16]).unwrap_err(), Violation("length"));
}

#[test]
fn an_unreadable_message_passes_and_the_next_one_is_read() {
    let bytes = [
        message(1, 0, 2013, b""),
        message(2, 0, 2012, &[0xDD, 7, 0, 0, 9, 0, 0, 0, 77, 1, 2, 3]),
        message(3, 0, 2012, b"short"),
        command(4, doc! {"ping": 1, "$db": "d"}),
    ]
    .concat();
    for cut in [1, 5, usize::MAX] {
        let seen = feed_requests(&mut codec(), &bytes, cut).unwrap();
        let violations: Vec<_> =
            seen.marks.iter().map(|(name, _, mark, _)| (&**name, mark.violation)).collect();
        let bad = Some(Violation("bad_compression"));
        let expected = [("other", bad), ("other", bad), ("ping", None)];
        assert_eq!(violations[1..], expected);
        assert_eq!(violations[0].0, "other");
        assert_eq!(seen.out, bytes);
    }
}

#[test]
fn an_unreadable_reply_settles_without_blame() {
    let mut codec = codec();
    let mut broken = answer(1, doc! {"ok": 0, "code": 91, "a": {"b": 1}});
    // The length of `a`, after 21 bytes to the body, 4 to its elements, 8 for `ok`, 10 for `code`.
    assert_eq!(broken[43..47], *b"\x03a\0\x0c");
    broken[46] = 200;
    let noise = message(9, 2, 2012, &[0xDD, 7, 0, 0, 9, 0, 0, 0, 2, 1, 2, 3]);
    for (id, bytes, kind) in [(1, broken, "bad_document"), (2, noise, "bad_compression")] {
        one_request(&mut codec, &command(id, doc! {"find": "c", "$db": "d"}));
        let reply = one_reply(&mut codec, &bytes);
        assert_eq!((reply.outcome, reply.code), (Fine, None));
        assert_eq!(reply.violation, Some(Violation(kind)));
    }
    assert!(codec.in_flight.is_empty());
}

#[test]
fn a_message_that_inflates_to_less_than_it_claims_is_none() {
    let mut bytes = compress(&command(1, doc! {"ping": 1, "$db": "d"}), 2);
    bytes[20] += 1;
    let (name, resource, mark, _) = one_request(&mut codec(), &bytes);
    assert_eq!((name.as_str(), resource.as_str()), ("other", "?"));
    assert_eq!(mark.violation, Some(Violation("bad_compression")));
}

#[test]
fn a_decompression_bomb_ends_the_connection() {
    let mut huge = compress(&command(1, doc! {"ping": 1}), 2);
    huge[20..24].copy_from_slice(&60_000_000_u32.to_le_bytes());
    assert_eq!(
        feed_requests(&mut codec(), &huge, 1000).unwrap_err(),
        Violation("decompression_bomb")
    );
    let mut liar = compress(&insert(1, 0, 100, 1000), 2);
    liar[20..24].copy_from_slice(&64_u32.to_le_bytes());
    assert_eq!(
        feed_requests(&mut codec(), &liar, 1000).unwrap_err(),
        Violation("decompression_bomb")
    );
}

#[test]
fn a_flood_of_open_requests_is_counted_and_not_remembered() {
    let mut codec = codec();
    for id in 0..1500 {
        let (.., mark, _) = one_request(&mut codec, &command(id, doc! {"ping": 1, "$db": "d"}));
        let expected = (id >= 1000).then_some(Violation("too_many_open"));
        assert_eq!(mark.violation, expected, "{id}");
    }
    // Those replies still say which request they answer.
    assert_eq!(one_reply(&mut codec, &answer(1400, doc! {"ok": 1})).tag, Tag(1400));
}

#[test]
fn mutated_bytes_never_panic_and_always_come_to_an_end() {
    let telemetry = body(3, &doc! {"otel": {"traceparent": "00"}});
    let find = doc! {"find": "c", "filter": {"a": [1, {"b": 2}]}, "comment": "x", "$db": "d"};
    let replied = doc! {
        "cursor": {"id": 5_i64, "firstBatch": documents(2, 3)},
        "writeErrors": [{"code": 1}], "writeConcernError": {"code": 2}, "ok": 1
    };
    let seeds = [
        msg(1, 1, 1, &[body(0, &find), telemetry]),
        insert(1, 0, 3, 9),
        query(1, "d.$cmd", &doc! {"$query": {"ismaster": 1, "client": {"driver": {}}}}),
        answer(1, replied),
        reply(1, 0, 5, &documents(2, 4)),
        message(1, 0, 2002, b"\0\0\0\0d.c\0\x05\0\0\0\0"),
        compress(&command(1, find), 1),
        answer(1, doc! {"hosts": ["a:1"], "me": "a:1", "setName": "s", "ok": 1}),
    ];
    let listener = Arc::new(MongoListener::default());
    let mut dice = Dice::new(7);
    let hello = command(1, doc! {"hello": 1, "$db": "d"});
    for round in 0..200_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        dice.mutate(&mut bytes);
        // Mostly a length that fits, so that more than the header is put to the test.
        if dice.below(8) > 0 && bytes.len() >= 16 {
            let len = bytes.len() as u32;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
        }
        let mut codec = codec_of(&listener);
        let cut = if round % 4 > 0 { usize::MAX } else { 1 + dice.below(40) };
        if dice.below(4) == 0 {
            let _ = codec.request(&hello);
        }
        let _ = feed_requests(&mut codec, &bytes, cut);
        let _ = feed_replies(&mut codec, &bytes, cut);
        if round % 21 == 0 {
            for name in super::super::attribute::IN_REQUEST {
                let _ = codec.attribute(&bytes, name);
            }
        }
    }
}

/// A document with everything that could be mistaken for what names a command.
fn random(dice: &mut Dice, depth: usize) -> Document {
    let words = ["find", "$db", "insert", "collection", "nsInfo", "x", "ping", "count", "", "ok"];
    let mut document = Document::new();
    for _ in 0..dice.below(6) {
        let value = match dice.below(7) {
            0 => Bson::Int32(dice.next() as i32),
            1 => Bson::String(words[dice.below(words.len())].repeat(dice.below(3))),
            2 if depth > 0 => Bson::Document(random(dice, depth - 1)),
            3 if depth > 0 => Bson::Array(vec![Bson::Document(random(dice, depth - 1))]),
            4 => Bson::Double(1.0),
            5 => Bson::Null,
            _ => Bson::Boolean(true),
        };
        document.insert(words[dice.below(words.len())], value);
    }
    document
}

/// A number without a fraction.
fn whole(value: &bson::RawBsonRef<'_>) -> Option<i64> {
    let double = value.as_f64().map(|it| it as i64);
    value.as_i32().map(i64::from).or(value.as_i64()).or(double)
}

#[test]
fn names_are_those_that_a_whole_parser_finds() {
    let mut dice = Dice::new(11);
    for _ in 0..20_000 {
        let document = random(&mut dice, 2);
        let bytes = command(1, document);
        let (name, resource, ..) = one_request(&mut codec(), &bytes);
        let raw = RawDocument::from_bytes(&bytes[21..]).unwrap();
        let Some(Ok((first, value))) = raw.into_iter().next() else {
            assert_eq!(name, "other");
            continue;
        };
        let known = crate::commands::find(first.as_str().as_bytes());
        assert_eq!(name, known.name);
        // `$db` as the command's own name is not a database.
        let database = raw.get("$db").unwrap().and_then(|db| db.as_str());
        let database = database.filter(|_| first.as_str() != "$db");
        let (database, one) = (database.unwrap_or("?"), Some(1) == whole(&value));
        let expected = match (first.as_str(), value.as_str()) {
            ("find" | "insert" | "count", Some(collection)) => format!("{database}.{collection}"),
            ("find" | "insert" | "count", None) if !one => format!("{database}.?"),
            ("find" | "insert" | "count" | "ping", _) => database.to_owned(),
            // A command that is not known may name anything.
            (_, Some(_)) => "?".to_owned(),
            _ if value.as_document().is_some() || value.as_array().is_some() => "?".to_owned(),
            _ => database.to_owned(),
        };
        assert_eq!(resource, expected, "{raw:?}");
    }
}
