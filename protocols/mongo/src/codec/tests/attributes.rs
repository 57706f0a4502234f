//! Facts that are asked for.

use super::*;
use std::borrow::Cow;

fn fact(codec: &Mongo, front: &[u8], name: &str) -> Option<String> {
    codec.attribute(front, name).text().map(Cow::into_owned)
}

fn find() -> bson::Document {
    doc! {
        "find": "orders", "filter": {"status": "open"}, "maxTimeMS": 250_i64,
        "comment": {"callingFunction": "pay", "n": 1}, "$db": "shop"
    }
}

#[test]
fn a_request_has_its_attributes() {
    let mut codec = codec();
    let bytes = [command(1, find()), command(2, doc! {"ping": 1, "comment": "next"})].concat();
    feed_requests(&mut codec, &bytes, usize::MAX).unwrap();
    let table = [
        ("database", "shop"),
        ("collection", "orders"),
        ("max_time_ms", "250"),
        ("callsite", "pay"),
        ("comment", r#"{"callingFunction":"pay","n":1}"#),
    ];
    for (name, value) in table {
        assert_eq!(fact(&codec, &bytes, name).as_deref(), Some(value), "{name}");
    }
    for name in ["user", "app", "peer", "header.x", ""] {
        assert_eq!(fact(&codec, &bytes, name), None, "{name}");
    }
}

#[test]
fn a_query_shows_values_only_where_values_are_asked_for() {
    let (codec, bytes) = (codec(), command(1, find()));
    let shape = fact(&codec, &bytes, "query").unwrap();
    assert!(shape.contains("status") && !shape.contains("open"), "{shape}");
    assert!(fact(&codec, &bytes, "query_values").unwrap().contains("open"));
    let mut other = find();
    other.insert("filter", doc! {"status": "closed"});
    let hash = fact(&codec, &bytes, "query_hash").unwrap();
    assert_eq!(hash.len(), 16);
    assert_eq!(fact(&codec, &command(9, other), "query_hash"), Some(hash));
}

#[test]
fn queries_of_updates_are_found_in_their_sequences() {
    let update = body(0, &doc! {"update": "c", "$db": "d"});
    let apart = sequence("updates", &[doc! {"q": {"email": "x@y"}, "u": {"$set": {"a": 1}}}]);
    let bytes = msg(1, 0, 0, &[update, apart]);
    let shape = fact(&codec(), &bytes, "query").unwrap();
    assert!(shape.contains("email") && !shape.contains("x@y"), "{shape}");
}

#[test]
fn a_bulk_write_has_all_of_its_collections() {
    let bulk = |second: &str| {
        let ops = [doc! {"insert": 0, "document": {}}, doc! {"insert": 1, "document": {}}];
        let spaces = [doc! {"ns": "shop.a"}, doc! {"ns": second}];
        let sections = [
            body(0, &doc! {"bulkWrite": 1, "$db": "admin"}),
            sequence("ops", &ops),
            sequence("nsInfo", &spaces),
        ];
        msg(1, 0, 0, &sections)
    };
    let mut codec = codec();
    one_request(&mut codec, &bulk("shop.b"));
    assert_eq!(codec.names(&[]).resource, "shop.a", "the others are `other_resources`");
    let shape = fact(&codec, &bulk("shop.b"), "query").unwrap();
    assert!(shape.ends_with(r#""nsInfo":[{"ns":"shop.a"},{"ns":"shop.b"}]}"#), "{shape}");
    let hash = |second| fact(&codec, &bulk(second), "query_hash");
    assert_ne!(hash("shop.b"), hash("shop.c"));
}

#[test]
fn secrets_are_never_shown() {
    let codec = codec();
    let secrets = [
        doc! {"createUser": "x", "pwd": "hunter2", "comment": "hunter2", "$db": "d"},
        doc! {"saslStart": 1, "payload": "hunter2", "comment": "hunter2", "$db": "d"},
        doc! {"hello": 1, "speculativeAuthenticate": {"x": "hunter2"}, "comment": "hunter2"},
    ];
    let names = ["comment", "query", "query_values", "callsite", "trace_id", "query_hash"];
    for secret in secrets {
        for bytes in [command(1, secret.clone()), query(1, "d.$cmd", &secret)] {
            for bytes in [bytes.clone(), compress(&bytes, 1)] {
                for name in names {
                    assert_eq!(fact(&codec, &bytes, name), None, "{name} of {secret}");
                }
            }
        }
    }
}

#[test]
fn a_compressed_request_has_the_same_attributes() {
    for compressor in 0..4 {
        let mut codec = codec();
        let bytes = compress(&command(1, find()), compressor);
        let (name, resource, mark, _) = one_request(&mut codec, &bytes);
        assert_eq!((name.as_str(), resource.as_str()), ("find", "shop.orders"));
        assert_eq!((mark.violation, mark.tag), (None, Some(Tag(1))));
        assert!(codec.decompressed.is_some());
        assert_eq!(fact(&codec, &bytes, "callsite").as_deref(), Some("pay"));
        // A copy of the front is enough, long after the codec has forgotten it.
        one_request(&mut codec, &command(2, doc! {"ping": 1}));
        assert!(codec.decompressed.is_none());
        assert_eq!(fact(&codec, &bytes, "callsite").as_deref(), Some("pay"));
    }
}

#[test]
fn a_compressed_request_longer_than_its_content_is_read() {
    let find = |padding: usize| {
        command(1, doc! {"find": "orders", "filter": {"a": "x".repeat(padding)}, "$db": "shop"})
    };
    let bytes = compress(&find(MAX_FRONT - find(0).len()), 0);
    assert_eq!(bytes.len(), MAX_FRONT + 9);
    for cut in [1000, usize::MAX] {
        let seen = feed_requests(&mut codec(), &bytes, cut).unwrap();
        let (name, resource, mark, _) = &seen.marks[0];
        assert_eq!((name.as_str(), resource.as_str()), ("find", "shop.orders"));
        assert_eq!((mark.partial, mark.violation), (true, None));
    }
}

#[test]
fn a_decompressed_request_is_dropped_after_its_reply() {
    let mut codec = codec();
    one_request(&mut codec, &compress(&command(1, find()), 1));
    one_reply(&mut codec, &answer(1, doc! {"ok": 1}));
    assert!(codec.decompressed.is_none());
}

#[test]
fn a_truncated_front_has_the_attributes_in_it() {
    let (codec, bytes) = (codec(), command(1, find()));
    for cut in 0..bytes.len() {
        for name in super::super::attribute::IN_REQUEST {
            let _ = fact(&codec, &bytes[..cut], name);
        }
    }
    assert_eq!(fact(&codec, &bytes[..bytes.len() - 20], "max_time_ms").as_deref(), Some("250"));
}

#[test]
fn a_client_that_backs_off_says_so_in_its_hello() {
    let hello = |extra: bson::Document| {
        let mut hello = doc! {"ismaster": 1, "$db": "admin"};
        hello.extend(extra);
        hello
    };
    let client = doc! {"driver": {"name": "x", "version": "1"}};
    let cases = [
        (doc! {"backpressure": "2", "client": client.clone()}, "true"),
        (doc! {"backpressure": "2"}, "true"),
        (doc! {"backpressure": true}, "true"),
        (doc! {"backpressure": 2}, "true"),
        (doc! {"backpressure": false}, "false"),
        (doc! {"backpressure": ""}, "false"),
        (doc! {"backpressure": bson::Bson::Null}, "false"),
        (doc! {"client": client}, "false"),
    ];
    for (extra, expected) in cases {
        for bytes in
            [command(1, hello(extra.clone())), query(1, "admin.$cmd", &hello(extra.clone()))]
        {
            let mut codec = codec();
            assert_eq!(fact(&codec, &[], "backs_off").as_deref(), Some("false"), "no hello yet");
            one_request(&mut codec, &bytes);
            assert_eq!(fact(&codec, &[], "backs_off").as_deref(), Some(expected), "{extra}");
            // A later hello that says nothing takes nothing back.
            one_request(&mut codec, &command(2, hello(doc! {})));
            assert_eq!(fact(&codec, &[], "backs_off").as_deref(), Some(expected), "{extra}");
        }
    }
}

/// The hash in the access log, computed from the kept front of a request and its late details.
fn logged_hash(request: &[u8], kept: usize) -> String {
    let mut codec = codec();
    codec.request(request).unwrap();
    let (front, learned) = (&request[..request.len().min(kept)], codec.late_details());
    let fact = match (codec.attribute(front, "query_hash"), &learned) {
        (AttributeValue::Unread, Some(learned)) => {
            codec.late_attribute(front, learned, "query_hash")
        }
        (fact, _) => fact,
    };
    fact.text().map(Cow::into_owned).unwrap()
}

#[test]
fn a_query_has_the_same_hash_at_admission_and_in_the_log() {
    // What a gate keeps of a request until it ends.
    const KEPT: usize = 4 * 1024;
    for keys in [1, 100, 3000] {
        let filter: bson::Document =
            (0..keys).map(|key| (format!("key-{key}"), 1.into())).collect();
        let find = command(1, doc! {"find": "c", "filter": filter, "$db": "d"});
        let plain = fact(&codec(), &find, "query_hash").unwrap();
        assert_eq!(logged_hash(&find, KEPT), plain, "{keys}");
        for compressor in 0..4 {
            let mut codec = codec();
            let packed = compress(&find, compressor);
            one_request(&mut codec, &packed);
            let kept = &packed[..packed.len().min(KEPT)];
            for front in [&packed[..], kept] {
                let hash = fact(&codec, front, "query_hash").unwrap();
                assert_eq!(hash, plain, "{keys}, {compressor}");
            }
        }
    }
    let more = |cursor: i64| command(1, doc! {"getMore": cursor, "collection": "c", "$db": "d"});
    let hashes = [1, 2].map(|cursor| fact(&codec(), &more(cursor), "query_hash").unwrap());
    assert_eq!(hashes[0], hashes[1], "they say nothing of the query that they go on with");
}

#[test]
fn a_comment_is_each_that_a_server_may_take_for_it() {
    let told = |bytes: &[u8]| codec().attribute(bytes, "comment").into_owned();
    let each =
        |texts: [&'static str; 2]| AttributeValue::Multiple(texts.map(Cow::Borrowed).to_vec());
    let both = doc! {"find": "c", "$comment": "a", "comment": "b", "$db": "d"};
    assert_eq!(told(&command(1, both)), each(["a", "b"]));
    let inner = doc! {"find": "c", "comment": "b"};
    let explain = doc! {"explain": inner.clone(), "$db": "d"};
    assert_eq!(told(&command(1, explain)), AttributeValue::known("b"));
    let nested = doc! {"explain": {"explain": inner}, "comment": "a", "$db": "d"};
    assert_eq!(told(&command(1, nested)), each(["a", "b"]));
    let wrapped = doc! {"$query": {"find": "c", "comment": "a"}, "$comment": "b"};
    assert_eq!(told(&query(1, "d.$cmd", &wrapped)), each(["a", "b"]));
    // Behind what is here there may be another one, unless it is the command's own.
    let long = |word: &str| {
        command(1, doc! {"find": "c", word: "a", "filter": {"x": "y".repeat(99)}, "$db": "d"})
    };
    let cut = |bytes: Vec<u8>| told(&bytes[..bytes.len() - 60]);
    assert_eq!(cut(long("comment")), AttributeValue::known("a"));
    assert_eq!(cut(long("$comment")), AttributeValue::Unread);
}

#[test]
fn a_collection_is_not_known_where_the_first_of_several_is_not() {
    let bulk = doc! {"bulkWrite": 1, "nsInfo": [{"ns": "a.b"}, {"ns": "c.d"}]};
    let bytes = command(1, doc! {"explain": bulk, "$db": "admin"});
    assert_eq!(codec().attribute(&bytes, "collection"), AttributeValue::Unknown);
}

#[test]
fn a_request_is_marked_with_the_attributes_that_it_lacks() {
    let absent = |bytes: &[u8]| -> Vec<&str> {
        let (_, _, request, _) = one_request(&mut codec(), bytes);
        let names = (0..).zip(Mongo::PROTOCOL.attributes);
        names.filter(|(number, _)| request.absent.contains(*number)).map(|it| *it.1).collect()
    };
    let bare = doc! {"find": "orders", "filter": {"comment": 1, "maxTimeMS": 1}, "$db": "shop"};
    let of_comments = ["callsite", "comment", "trace_id"];
    assert_eq!(absent(&command(1, bare.clone())), [&of_comments[..], &["max_time_ms"]].concat());
    assert_eq!(absent(&command(1, find())), [""; 0]);
    let commented = doc! {"find": "orders", "comment": "a", "$db": "shop"};
    assert_eq!(absent(&command(1, commented)), ["max_time_ms"]);
    let limited = doc! {"find": "orders", "maxTimeMS": 5, "$db": "shop"};
    assert_eq!(absent(&command(1, limited)), of_comments);
    // A cursor may have a call site.
    let more = doc! {"getMore": 5_i64, "collection": "orders", "$db": "shop"};
    assert_eq!(absent(&command(1, more)), ["comment", "trace_id", "max_time_ms"]);
    let explain = doc! {"explain": {"find": "orders", "comment": "a"}, "$db": "shop"};
    assert_eq!(absent(&command(1, explain)), ["max_time_ms"]);
    for name in ["comment", "maxTimeMS"] {
        let unknown = command(1, doc! {name: 5, "$db": "shop"});
        assert_eq!(absent(&unknown), [""; 0], "{name} is the command and a field");
    }
    let traced = [body(0, &bare), body(3, &doc! {"otel": {"traceparent": "x"}})];
    assert_eq!(absent(&msg(1, 0, 0, &traced)), ["max_time_ms"]);
    let twice = doc! {"find": "orders", "filter": {}, "$db": "shop"};
    let twice = [body(0, &twice), body(0, &twice)];
    assert_eq!(absent(&msg(1, 0, 0, &twice)), [""; 0], "it breaks a rule");
    assert_eq!(absent(&query(1, "shop.orders", &doc! {"a": 1})), [""; 0], "it is a legacy request");
}
