use super::*;
use crate::dice::{Dice, document};
use bson::{RawDocumentBuf, oid::ObjectId, rawdoc};

fn shape(name: &str, body: &[u8]) -> String {
    let mut out = String::new();
    query(name, body, false, &mut out);
    out
}

fn values(name: &str, body: &[u8]) -> String {
    let mut out = String::new();
    query(name, body, true, &mut out);
    out
}

#[test]
fn literals_become_the_names_of_their_types() {
    let id = ObjectId::from_bytes([0xAB; 12]);
    let body = rawdoc! {
        "find": "orders",
        "filter": { "status": "open", "age": { "$gt": 5, "$lt": 7.5 }, "vip": true, "_id": id },
        "$db": "shop",
        "limit": 5,
    };
    assert_eq!(
        shape("find", body.as_bytes()),
        concat!(
            r#"{"filter":{"status":"?string","age":{"$gt":"?number","$lt":"?number"},"#,
            r#""vip":"?bool","_id":"?objectId"}}"#,
        )
    );
    assert_eq!(
        values("find", body.as_bytes()),
        concat!(
            r#"{"filter":{"status":"open","age":{"$gt":5,"$lt":7.5},"vip":true,"#,
            r#""_id":{"$oid":"abababababababababababab"}}}"#,
        )
    );
}

#[test]
fn every_command_shows_the_fields_that_make_its_shape() {
    let sort = rawdoc! { "find": "c", "sort": { "a": -1, "b": 1.0 }, "projection": { "a": 1, "b": false, "c": { "$slice": 5 } }, "filter": {} };
    let distinct = rawdoc! { "distinct": "c", "key": "city", "query": { "a": 1 } };
    let pipeline = rawdoc! { "aggregate": "c", "pipeline": [{ "$match": { "a": 1 } }, { "$sort": { "a": -1 } }, { "$group": { "_id": "$a", "n": { "$sum": 1 } } }] };
    let update = rawdoc! { "update": "c", "updates": [{ "q": { "a": 1 }, "u": { "$set": { "b": "x" } }, "multi": true }] };
    let delete = rawdoc! { "delete": "c", "deletes": [{ "q": {}, "limit": 0 }] };
    let modify = rawdoc! { "findAndModify": "c", "update": { "$inc": { "n": 1 } }, "query": { "_id": "k" }, "fields": { "n": 1 } };
    let insert = rawdoc! { "insert": "c", "documents": [{ "a": 1 }, { "a": 2 }, { "b": null }] };
    for (name, body, expected) in [
        (
            "find",
            &sort,
            r#"{"filter":{},"sort":{"a":-1,"b":1},"projection":{"a":1,"b":false,"c":{"$slice":"?number"}}}"#,
        ),
        ("count", &rawdoc! { "count": "c", "query": { "a": 1 } }, r#"{"query":{"a":"?number"}}"#),
        ("distinct", &distinct, r#"{"key":"city","query":{"a":"?number"}}"#),
        (
            "aggregate",
            &pipeline,
            r#"{"pipeline":[{"$match":{"a":"?number"}},{"$sort":{"a":-1}},{"$group":{"_id":"$a","n":{"$sum":"?number"}}}]}"#,
        ),
        (
            "update",
            &update,
            r#"{"updates":[{"q":{"a":"?number"},"u":{"$set":{"b":"?string"}},"multi":"?bool"}]}"#,
        ),
        ("delete", &delete, r#"{"deletes":[{"q":{},"limit":"?number"}]}"#),
        (
            "findAndModify",
            &modify,
            r#"{"query":{"_id":"?string"},"fields":{"n":1},"update":{"$inc":{"n":"?number"}}}"#,
        ),
        ("insert", &insert, r#"{"documents":[{"a":"?number"},{"b":"?null"}]}"#),
        (
            "explain",
            &rawdoc! { "explain": { "count": "c", "query": { "a": 1 } } },
            r#"{"query":{"a":"?number"}}"#,
        ),
        ("find", &rawdoc! { "find": "c", "key": "secret" }, "{}"),
    ] {
        assert_eq!(shape(name, body.as_bytes()), expected);
    }
}

#[test]
fn commands_with_secrets_have_no_query() {
    let body = rawdoc! { "saslStart": 1, "payload": "secret", "query": { "a": "secret" } };
    for name in ["saslStart", "saslContinue", "authenticate", "createUser", "hello", "other", ""] {
        assert_eq!(values(name, body.as_bytes()), "");
        let hash = |body| hash(name, "d.c", body);
        assert_eq!(hash(body.as_bytes()), hash(&[]), "only the names count");
    }
    let explained = rawdoc! { "explain": { "createUser": "u", "query": { "pwd": "secret" } } };
    assert_eq!(values("explain", explained.as_bytes()), "");
    let find =
        rawdoc! { "find": "c", "filter": { "pwd": "secret", "a": { "pwd": { "b": "secret" } } } };
    assert!(!values("find", find.as_bytes()).contains("secret"));
}

#[test]
fn runs_of_equal_elements_are_written_once() {
    for (list, expected) in [
        (rawdoc! { "$in": [1, 2, 3] }, r#"["?number"]"#),
        (rawdoc! { "$in": [1, "a", "b", 2] }, r#"["?number","?string","?number"]"#),
        (rawdoc! { "$in": [] }, "[]"),
        (
            rawdoc! { "$in": [{ "a": 1 }, { "a": 2 }, { "a": "x" }] },
            r#"[{"a":"?number"},{"a":"?string"}]"#,
        ),
        (rawdoc! { "$in": [[1, 2], [3], []] }, r#"[["?number"],[]]"#),
    ] {
        let body = rawdoc! { "find": "c", "filter": { "a": list } };
        let expected = format!(r#"{{"filter":{{"a":{{"$in":{expected}}}}}}}"#);
        assert_eq!(shape("find", body.as_bytes()), expected);
    }
    let same = rawdoc! { "find": "c", "filter": { "a": { "$in": [1, 1] } } };
    assert_eq!(values("find", same.as_bytes()), r#"{"filter":{"a":{"$in":[1,1]}}}"#);
}

#[test]
fn values_are_escaped_and_cut() {
    let long = "é".repeat(65);
    let body = rawdoc! {
        "find": "c",
        "filter": {
            "quote\"": "a\"b\\c\n\u{7f}",
            "long": long,
            "nan": f64::NAN,
            "big": i64::MAX,
            "none": null,
            "when": bson::DateTime::from_millis(0),
            "cents": bson::Decimal128::from_bytes([0; 16]),
            "bytes": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1] },
        },
    };
    let expected = [
        r#"{"filter":{"quote\"":"a\"b\\c\u000a\u007f","#,
        &format!(r#""long":"{}…","#, "é".repeat(64)),
        r#""nan":"NaN","big":9223372036854775807,"none":null,"#,
        r#""when":{"$date":"1970-01-01T00:00:00Z"},"cents":{"$numberDecimal":"0E-6176"},"#,
        r#""bytes":"?binary"}}"#,
    ];
    assert_eq!(values("find", body.as_bytes()), expected.concat());
}

#[test]
fn no_value_is_in_a_shape() {
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let body = rawdoc! {
            "find": "c",
            "filter": document(&mut dice, 4),
            "sort": document(&mut dice, 2),
            "projection": document(&mut dice, 2),
        };
        let shape = shape("find", body.as_bytes());
        for value in ["text", "a sign", "^a", "0707", "-5", "1.5", "10995", "=>", "1970", "2023"] {
            assert!(!shape.contains(value), "seed {seed}: {value} in {shape}");
        }
    }
}

#[test]
fn a_long_query_is_cut_at_the_limit() {
    let mut filter = RawDocumentBuf::new();
    for index in 0..200 {
        let key = bson::raw::CString::try_from(format!("field{index}é")).unwrap();
        filter.append(key, "v");
    }
    let body = rawdoc! { "find": "c", "filter": filter };
    let mut out = String::from("before");
    query("find", body.as_bytes(), false, &mut out);
    assert!(out.starts_with("before{\"filter\"") && out.ends_with('…'));
    let written = out.len() - "before".len();
    assert!((900..=1024).contains(&written), "{written}");
}

#[test]
fn deep_documents_are_followed_twenty_levels() {
    let mut filter = rawdoc! { "x": 1 };
    for _ in 0..25 {
        filter = rawdoc! { "x": filter };
    }
    let body = rawdoc! { "find": "c", "filter": filter };
    let shape = shape("find", body.as_bytes());
    assert_eq!(shape.matches("\"x\"").count(), 20);
    assert!(shape.contains(r#""x":"…"}"#) && shape.ends_with('}'));
}

#[test]
fn a_cut_body_gives_a_shape_that_says_so() {
    let body = rawdoc! {
        "find": "c",
        "filter": { "status": "open", "tags": { "$in": ["a", "b"] } },
        "sort": { "at": -1 },
    }
    .into_bytes();
    let whole = shape("find", &body);
    assert!(!whole.contains('…'));
    for cut in 0..body.len() {
        let text = shape("find", &body[..cut]);
        let known = text.strip_suffix('…').unwrap_or_else(|| panic!("cut at {cut}: {text}"));
        assert!(whole.starts_with(known), "cut at {cut}: {text}");
    }
}

#[test]
fn equal_shapes_have_equal_hashes_and_others_do_not() {
    let one = rawdoc! { "find": "c", "filter": { "a": 1, "b": { "$in": [1, 2] } } };
    let same = rawdoc! { "find": "c", "filter": { "a": 2.5, "b": { "$in": [3] } }, "limit": 1 };
    let name = |command: &str, body: &RawDocumentBuf| hash(command, "d.c", body.as_bytes());
    assert_eq!(name("find", &one), name("find", &same));
    let other = rawdoc! { "find": "c", "filter": { "a": "x", "b": { "$in": [1, 2] } } };
    assert_ne!(name("find", &one), name("find", &other));
    assert_ne!(name("find", &one), name("count", &one));
}

#[test]
fn a_hash_is_the_same_in_every_release() {
    // FNV-1a of "count", "shop.c" and `{"query":{"a":"?number"}}`, with a zero byte after each of the
    // first two: a change here breaks what people have saved.
    let body = rawdoc! { "count": "c", "query": { "a": 1 } };
    assert_eq!(hash("count", "shop.c", body.as_bytes()), 0x8EF0_95C6_D5B5_140E);
}

#[test]
fn a_sequence_is_read_as_if_it_were_inline() {
    let statement = |id: i32| rawdoc! { "q": { "_id": id }, "u": { "$set": { "a": 1 } } };
    let apart = rawdoc! { "update": "c", "ordered": true };
    let together = |n| {
        let updates: bson::RawArrayBuf = (0..n).map(statement).collect();
        rawdoc! { "update": "c", "ordered": true, "updates": updates }
    };
    let documents: Vec<u8> = (0..20).flat_map(|id| statement(id).into_bytes()).collect();
    let size = documents.len() / 20;
    for (len, whole) in [(0, 0), (size - 1, 0), (size, 1), (size * 3 + 9, 3), (size * 20, 16)] {
        let body = with_sequence(apart.as_bytes(), "updates", &documents[..len]);
        assert_eq!(body, together(whole).into_bytes(), "{len} bytes");
    }
    let cut = &apart.as_bytes()[..10];
    assert_eq!(with_sequence(cut, "updates", &documents), cut);
}

#[test]
fn mutated_bodies_never_panic_and_stay_within_the_limit() {
    for seed in 0..6_000 {
        let mut dice = Dice::new(seed);
        let inner = document(&mut dice, 3);
        let mut body = rawdoc! {
            "find": "c", "filter": inner.clone(), "pipeline": [inner.clone()], "updates": [{ "q": inner }],
        }
        .into_bytes();
        dice.mutate(&mut body);
        for name in ["find", "aggregate", "update", "explain"] {
            let text = values(name, &body);
            assert!(text.len() <= MAX_QUERY_TEXT, "seed {seed}");
            hash(name, "d.c", &body);
            read_shape(name, &body, None, None);
        }
        with_sequence(&body, "updates", &body);
    }
}

/// The shape of a pipeline of this one stage.
fn stage(stage: &RawDocumentBuf) -> String {
    let body = rawdoc! { "aggregate": "c", "pipeline": [stage.clone()] };
    let shape = shape("aggregate", body.as_bytes());
    shape.strip_prefix(r#"{"pipeline":["#).unwrap().strip_suffix("]}").unwrap().to_owned()
}

#[test]
fn what_names_a_collection_or_a_field_is_no_value() {
    let set = rawdoc! { "$set": { "a": "$b" } };
    let joins = rawdoc! { "$match": { "$expr": { "$eq": ["$b", "$$x"] } } };
    for same in [
        rawdoc! { "$group": { "_id": "$customer", "n": { "$sum": "$total" } } },
        rawdoc! { "$lookup": { "from": "c", "localField": "a", "foreignField": "_id", "as": "d" } },
        rawdoc! { "$lookup": { "from": "c", "let": { "x": "$a" }, "pipeline": [joins], "as": "d" } },
        rawdoc! { "$unionWith": "archive" },
        rawdoc! { "$unionWith": { "coll": "archive", "pipeline": [{ "$count": "n" }] } },
        rawdoc! { "$merge": { "into": { "db": "b", "coll": "c" }, "whenMatched": [set] } },
        rawdoc! { "$merge": { "into": "c", "on": ["_id", "a"], "whenNotMatched": "discard" } },
        rawdoc! { "$out": "copy" },
        rawdoc! { "$unwind": "$items" },
        rawdoc! { "$facet": { "a": [{ "$sortByCount": "$b" }], "c": [{ "$unset": ["d", "e"] }] } },
    ] {
        let body = rawdoc! { "aggregate": "c", "pipeline": [same.clone()] };
        assert_eq!(shape("aggregate", body.as_bytes()), values("aggregate", body.as_bytes()));
    }
}

#[test]
fn what_is_a_value_in_a_stage_is_not_shown() {
    let graph = rawdoc! { "$graphLookup": { "from": "c", "startWith": "$a", "restrictSearchWithMatch": { "e": "$5" } } };
    let near =
        rawdoc! { "$geoNear": { "distanceField": "d", "key": "at", "query": { "a": "$5" } } };
    for (shown, expected) in [
        (
            rawdoc! { "$project": { "a": "$b", "c": { "$concat": ["$d", "-"] }, "e": true } },
            r#"{"$project":{"a":"$b","c":{"$concat":["$d","?string"]},"e":true}}"#,
        ),
        (
            rawdoc! { "$set": { "pwd": "$x", "a": { "$literal": "$5" }, "b": "text" } },
            r#"{"$set":{"pwd":"?string","a":{"$literal":"?string"},"b":"?string"}}"#,
        ),
        (rawdoc! { "$match": { "price": "$5" } }, r#"{"$match":{"price":"?string"}}"#),
        (
            rawdoc! { "$search": { "text": { "query": "$5", "path": "a" } } },
            r#"{"$search":{"text":{"query":"?string","path":"?string"}}}"#,
        ),
        (
            graph,
            r#"{"$graphLookup":{"from":"c","startWith":"$a","restrictSearchWithMatch":{"e":"?string"}}}"#,
        ),
        (near, r#"{"$geoNear":{"distanceField":"d","key":"at","query":{"a":"?string"}}}"#),
    ] {
        assert_eq!(stage(&shown), expected);
    }
}

#[test]
fn a_dollar_in_a_value_of_a_filter_or_an_update_is_not_shown() {
    let find = rawdoc! { "find": "c", "filter": { "a": "$5", "u": ["$5"], "$expr": { "$gt": ["$a", "$b"] } }, "projection": { "n": { "$size": "$list" }, "m": { "$elemMatch": { "a": "$5" } } } };
    assert_eq!(
        shape("find", find.as_bytes()),
        concat!(
            r#"{"filter":{"a":"?string","u":["?string"],"$expr":{"$gt":["$a","$b"]}},"#,
            r#""projection":{"n":{"$size":"$list"},"m":{"$elemMatch":{"a":"?string"}}}}"#
        )
    );
    let update = rawdoc! { "update": "c", "updates": [{ "q": { "u": ["$5"] }, "u": { "$set": { "a": "$5" }, "$rename": { "b": "c" } } }, { "q": {}, "u": [{ "$set": { "a": "$b" } }] }] };
    assert_eq!(
        shape("update", update.as_bytes()),
        concat!(
            r#"{"updates":[{"q":{"u":["?string"]},"u":{"$set":{"a":"?string"},"$rename":{"b":"c"}}},"#,
            r#"{"q":{},"u":[{"$set":{"a":"$b"}}]}]}"#
        )
    );
    let modify = rawdoc! { "findAndModify": "c", "update": [{ "$set": { "a": "$b" } }] };
    assert_eq!(shape("findAndModify", modify.as_bytes()), r#"{"update":[{"$set":{"a":"$b"}}]}"#);
    let reduce = rawdoc! { "mapReduce": "c", "out": { "replace": "sums", "db": "b" } };
    assert_eq!(shape("mapReduce", reduce.as_bytes()), r#"{"out":{"replace":"sums","db":"b"}}"#);
}

#[test]
fn different_targets_have_different_hashes() {
    let find = rawdoc! { "find": "c", "filter": { "_id": 3 } };
    let resources = ["shop.orders", "shop.carts", "billing.orders"];
    let group = |by: &str| rawdoc! { "aggregate": "c", "pipeline": [{ "$group": { "_id": by } }] };
    let lookup =
        |from: &str| rawdoc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": from } }] };
    let equal =
        |a: &str, b: &str| rawdoc! { "find": "c", "filter": { "$expr": { "$eq": [a, b] } } };
    let mut hashes: Vec<u64> =
        resources.iter().map(|resource| hash("find", resource, find.as_bytes())).collect();
    let bodies = [group("$a"), group("$b"), lookup("customers"), lookup("payments")];
    hashes.extend(bodies.iter().map(|body| hash("aggregate", "shop.orders", body.as_bytes())));
    let bodies = [equal("$a", "$b"), equal("$c", "$d")];
    hashes.extend(bodies.iter().map(|body| hash("find", "shop.orders", body.as_bytes())));
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}
