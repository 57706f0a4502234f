//! Every write in every disguise, and reads that must not be classified as writes.

use crate::testing::{
    body, codec, command, compress, feed_requests, joined, message, msg, one_request, query,
    sequence,
};
use bson::{Bson, Document, doc};
use operation::{AttributeValue, Codec, Violation};

/// Whether the codec says that a request may write, once as the request that it has just marked
/// and once as one that it knows nothing of. A request that it can't classify may write.
fn writes(bytes: &[u8]) -> bool {
    let (mut here, elsewhere) = (codec(), codec());
    one_request(&mut here, bytes);
    let said = here.attribute(bytes, "writes");
    assert_eq!(elsewhere.attribute(bytes, "writes"), said);
    match said.text().as_deref() {
        Some("true") | None => true,
        Some("false") => false,
        other => panic!("neither true nor false: {other:?}"),
    }
}

/// The ways in which a command can be sent, each with its name.
fn disguises(plain: &Document) -> Vec<(&'static str, Vec<u8>)> {
    let mut whole = plain.clone();
    whole.insert("$db", "shop");
    let telemetry = body(3, &doc! {"otel": {"traceparent": "00-x"}});
    let wrapped = doc! {"$query": plain.clone(), "$readPreference": {"mode": "secondary"}};
    let mut ways = vec![
        ("plain", command(1, whole.clone())),
        ("with a checksum", msg(1, 0, 1, &[body(0, &whole)])),
        ("with room for a stream of replies", msg(1, 0, 1 << 16, &[body(0, &whole)])),
        ("with nobody waiting", msg(1, 0, 2, &[body(0, &whole)])),
        ("after telemetry", msg(1, 0, 0, &[telemetry.clone(), body(0, &whole)])),
        ("before telemetry", msg(1, 0, 0, &[body(0, &whole), telemetry])),
        ("legacy", query(1, "shop.$cmd", plain)),
        ("legacy and wrapped", query(1, "shop.$cmd", &wrapped)),
    ];
    let compressed = ways
        .clone()
        .into_iter()
        .flat_map(|(way, bytes)| (0..4).map(move |compressor| (way, compress(&bytes, compressor))));
    ways.extend(compressed.collect::<Vec<_>>());
    ways
}

#[track_caller]
fn all_ways(plain: &Document, expected: bool) {
    let explained = doc! {"explain": plain.clone(), "verbosity": "executionStats"};
    for document in [plain, &explained] {
        for (way, bytes) in disguises(document) {
            assert_eq!(writes(&bytes), expected, "{document}, {way}");
        }
    }
}

/// A pipeline that stores what `stage` says, at this place.
fn pipeline(place: usize, stage: &Document) -> Vec<Document> {
    let mut stages = vec![doc! {"$match": {"a": 1}}; 3];
    stages.insert(place, stage.clone());
    stages
}

#[test]
fn writes_are_writes_in_every_disguise() {
    let rows = vec![doc! {"_id": 1}];
    let statement = vec![doc! {"q": {}, "u": {"$set": {"a": 1}}}];
    for write in [
        doc! {"insert": "c", "documents": rows},
        doc! {"update": "c", "updates": statement},
        doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}]},
        doc! {"findAndModify": "c", "remove": true},
        doc! {"findandmodify": "c", "update": {"$set": {"a": 1}}},
        doc! {"bulkWrite": 1, "ops": [{"delete": 0}], "nsInfo": [{"ns": "shop.c"}]},
        doc! {"applyOps": [{"op": "d", "ns": "shop.c", "o": {"_id": 1}}]},
        doc! {"create": "c"},
        doc! {"create": "v", "viewOn": "c", "pipeline": []},
        doc! {"createIndexes": "c", "indexes": []},
        doc! {"dropIndexes": "c", "index": "*"},
        doc! {"collMod": "c"},
        doc! {"drop": "c"},
        doc! {"dropDatabase": 1},
        doc! {"renameCollection": "shop.a", "to": "shop.b"},
        doc! {"createUser": "eve", "pwd": "x", "roles": ["root"]},
        doc! {"updateUser": "eve", "pwd": "x"},
        doc! {"grantRolesToUser": "eve", "roles": ["root"]},
        doc! {"createRole": "r"},
        doc! {"setParameter": 1, "notablescan": true},
        doc! {"setFeatureCompatibilityVersion": "8.0"},
        doc! {"shutdown": 1},
        doc! {"replSetStepDown": 60},
        doc! {"fsync": 1, "lock": true},
        doc! {"profile": 2},
        doc! {"killOp": 1, "op": 5},
        doc! {"eval": "db.c.drop()"},
        doc! {"inventedTomorrow": 1},
        doc! {"INSERT": "c"},
        doc! {"": 1},
    ] {
        all_ways(&write, true);
    }
}

#[test]
fn what_an_aggregate_stores_is_found_at_any_place() {
    for stage in [
        doc! {"$out": "copy"},
        doc! {"$out": {"db": "elsewhere", "coll": "copy"}},
        doc! {"$merge": "copy"},
        doc! {"$merge": {"into": "copy", "whenMatched": "replace"}},
        doc! {"$match": {}, "$out": "copy"},
    ] {
        for place in 0..=3 {
            let stages = pipeline(place, &stage);
            all_ways(&doc! {"aggregate": "c", "pipeline": &stages, "cursor": {}}, true);
            all_ways(&doc! {"aggregate": 1, "cursor": {}, "pipeline": &stages}, true);
            all_ways(&doc! {"aggregate": "c", "explain": true, "pipeline": stages}, true);
        }
    }
}

#[test]
fn what_a_pipeline_only_mentions_stores_nothing() {
    let stages = vec![
        doc! {"$match": {"$expr": {"$eq": ["$out", "$merge"]}}},
        doc! {"$project": {"out": "$merge", "all": {"$mergeObjects": ["$a", "$b"]}}},
        doc! {"$lookup": {"from": "out", "pipeline": [{"$match": {"merge": 1}}], "as": "x"}},
        doc! {"$unionWith": {"coll": "merge"}},
    ];
    all_ways(&doc! {"aggregate": "c", "pipeline": stages, "comment": "$out"}, false);
}

#[test]
fn results_of_a_map_reduce_are_a_write_unless_they_come_back() {
    let cases = [
        (Some("copy".into()), true),
        (Some(doc! {"replace": "copy"}.into()), true),
        (Some(doc! {"merge": "copy"}.into()), true),
        (Some(doc! {"reduce": "copy", "db": "elsewhere"}.into()), true),
        (Some(doc! {"inline": 1, "replace": "copy"}.into()), true),
        (Some(doc! {}.into()), true),
        (None, true),
        (Some(Bson::from(doc! {"inline": 1})), false),
    ];
    for (out, expected) in cases {
        for name in ["mapReduce", "mapreduce"] {
            let mut document = doc! {name: "c", "map": "f", "reduce": "f"};
            document.extend(out.clone().map(|out| ("out".to_owned(), out)));
            all_ways(&document, expected);
        }
    }
}

#[test]
fn reads_are_reads_in_every_disguise() {
    for read in [
        doc! {"find": "c", "filter": {"$out": 1}},
        doc! {"count": "c", "query": {}},
        doc! {"distinct": "c", "key": "a"},
        doc! {"aggregate": "c", "pipeline": [], "cursor": {}},
        doc! {"aggregate": 1, "pipeline": [{"$changeStream": {}}], "cursor": {}},
    ] {
        all_ways(&read, false);
    }
    for read in [
        doc! {"getMore": 5_i64, "collection": "c"},
        doc! {"killCursors": "c", "cursors": [5_i64]},
        doc! {"listCollections": 1},
        doc! {"listDatabases": 1},
        doc! {"listIndexes": "c"},
        doc! {"collStats": "c"},
        doc! {"dbStats": 1},
        doc! {"serverStatus": 1},
        doc! {"replSetGetStatus": 1},
        doc! {"hello": 1, "client": {}},
        doc! {"isMaster": true},
        doc! {"ping": 1},
        doc! {"buildInfo": 1},
        doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256"},
        doc! {"saslContinue": 1},
        doc! {"authenticate": 1},
        doc! {"logout": 1},
        doc! {"startSession": 1},
        doc! {"endSessions": []},
        doc! {"killSessions": []},
        doc! {"commitTransaction": 1},
        doc! {"abortTransaction": 1},
        doc! {"usersInfo": 1},
    ] {
        for (way, bytes) in disguises(&read) {
            assert!(!writes(&bytes), "{read}, {way}");
        }
    }
}

#[test]
fn documents_that_come_apart_from_their_command_hide_nothing() {
    let rows = || sequence("documents", &[doc! {"_id": 1}]);
    let insert = || body(0, &doc! {"insert": "c", "$db": "shop"});
    let stored = || sequence("pipeline", &[doc! {"$out": "copy"}]);
    let aggregate = |command: Document| body(0, &command);
    let bare = || aggregate(doc! {"aggregate": "c", "$db": "shop"});
    let explained = || aggregate(doc! {"explain": {"aggregate": "c"}, "$db": "shop"});
    let out = || sequence("out", &[doc! {"replace": "copy"}]);
    let reduce = || body(0, &doc! {"mapReduce": "c", "out": {"inline": 1}, "$db": "shop"});
    let long = || sequence("documents", &vec![doc! {"text": "x".repeat(1000)}; 100]);
    let cases = [
        ("rows after", vec![insert(), rows()]),
        ("rows before", vec![rows(), insert()]),
        ("more rows than the front holds", vec![long(), insert()]),
        ("a read behind more rows than the front holds", vec![long(), bare()]),
        ("a pipeline after", vec![bare(), stored()]),
        ("a pipeline before", vec![stored(), bare()]),
        ("a pipeline behind others", vec![rows(), rows(), stored(), bare()]),
        ("a pipeline to explain", vec![explained(), stored()]),
        ("an output", vec![reduce(), out()]),
        ("no command", vec![rows()]),
        ("nothing", vec![]),
        ("two commands", vec![aggregate(doc! {"find": "c", "$db": "shop"}), insert()]),
        ("a section of a kind that nobody knows", vec![bare(), body(9, &doc! {})]),
    ];
    for (case, sections) in cases {
        let plain = msg(1, 0, 0, &sections);
        for bytes in (0..4).map(|way| compress(&plain, way)).chain([plain.clone()]) {
            assert!(writes(&bytes), "{case}");
        }
    }
}

#[test]
fn what_lies_beyond_the_front_may_be_a_write() {
    let padding = "x".repeat(70_000);
    let stages = |stage| vec![doc! {"$match": {"a": &padding}}, stage];
    let cases = [
        ("the stage", doc! {"aggregate": "c", "pipeline": stages(doc! {"$out": "copy"})}),
        ("the pipeline", doc! {"aggregate": "c", "let": &padding, "pipeline": [{"$out": "copy"}]}),
        ("nothing, as it happens", doc! {"aggregate": "c", "pipeline": stages(doc! {"$sort": {}})}),
        ("the output", doc! {"mapReduce": "c", "map": &padding, "out": "copy"}),
    ];
    for (case, document) in &cases {
        all_ways(document, true);
        let mut whole = document.clone();
        whole.insert("$db", "shop");
        let bytes = command(1, whole);
        assert_eq!(codec().attribute(&bytes[..4096], "writes"), AttributeValue::Unread, "{case}");
    }
    // Of a `find` it does not matter what it says, if only it ends where the message does.
    let find = doc! {"find": "c", "filter": {"a": &padding}, "$db": "shop"};
    assert!(!writes(&command(1, find.clone())));
    let another = body(0, &doc! {"drop": "c", "$db": "shop"});
    let bytes = msg(1, 0, 0, &[body(0, &find), another]);
    for cut in [1000, 70_000, usize::MAX] {
        let seen = feed_requests(&mut codec(), &bytes, cut).unwrap();
        assert_eq!(seen.marks[0].2.violation, Some(Violation("duplicate_field")));
    }
}

#[test]
fn a_field_that_is_there_twice_counts_twice() {
    let doubled = |name: &str, first: Document, fields: &[(&str, Bson)]| {
        let fields = fields.iter().map(|(key, value)| doc! {*key: value.clone()});
        let all: Vec<Document> = std::iter::once(first).chain(fields).collect();
        let bytes = msg(1, 0, 0, &[[vec![0], joined(&all)].concat()]);
        assert!(writes(&bytes), "{name}");
    };
    let stages = |stage: Document| Bson::from(vec![stage]);
    let (reads, stores) = (stages(doc! {"$match": {}}), stages(doc! {"$out": "copy"}));
    for order in [[&reads, &stores], [&stores, &reads]] {
        let fields = order.map(|stages| ("pipeline", stages.clone()));
        doubled("pipeline", doc! {"aggregate": "c", "$db": "shop"}, &fields);
    }
    let outs = [("out", doc! {"inline": 1}.into()), ("out", "copy".into())];
    doubled("out", doc! {"mapReduce": "c", "$db": "shop"}, &outs);
}

#[test]
fn a_pipeline_that_is_misshapen_is_no_read() {
    for pipeline in [
        Bson::from(doc! {"0": {"$out": "copy"}}),
        Bson::from("$out"),
        Bson::from(vec![Bson::from("x")]),
        Bson::Null,
    ] {
        all_ways(&doc! {"aggregate": "c", "pipeline": pipeline}, true);
    }
    all_ways(&doc! {"explain": {"explain": {"find": "c"}}}, true);
    all_ways(&doc! {"explain": "find"}, true);
}

#[test]
fn opcodes_of_old_say_what_they_do() {
    let rest = b"\0\0\0\0shop.c\0\0\0\0\0\0\0\0\0";
    let cases = [(2001, true), (2002, true), (2006, true), (2005, false), (2007, false)];
    let strangers = [(2010, true), (2011, true), (1234, true), (1, true)];
    for (opcode, expected) in cases.into_iter().chain(strangers) {
        let bytes = message(1, 0, opcode, rest);
        assert_eq!(writes(&bytes), expected, "{opcode}");
        assert_eq!(writes(&compress(&bytes, 1)), expected, "{opcode}, compressed");
    }
    let find = doc! {"$query": {"a": 1}, "$explain": true};
    assert!(!writes(&query(1, "shop.c", &find)));
    for pseudo in ["admin.$cmd.sys.unlock", "admin.$cmd.sys.killop", ""] {
        assert!(writes(&query(1, pseudo, &find)), "{pseudo:?}");
    }
    let behind = doc! {"$readPreference": {}, "$query": {"drop": "c"}};
    assert!(writes(&query(1, "shop.$cmd", &behind)));
}

#[test]
fn what_cannot_be_read_cannot_be_allowed() {
    let find = command(1, doc! {"find": "c", "$db": "shop"});
    let mut stranger = compress(&find, 1);
    stranger[24] = 77;
    let mut nested = compress(&find, 1);
    nested[16..20].copy_from_slice(&2012_i32.to_le_bytes());
    for bytes in [&stranger, &nested, &message(1, 0, 2013, &[]), &message(1, 0, 2012, &[])] {
        assert!(writes(bytes));
    }
    for cut in 0..find.len() - 1 {
        let said = codec().attribute(&find[..cut], "writes").into_owned();
        let known = if cut < 16 { AttributeValue::Unknown } else { AttributeValue::Unread };
        // Its first word is a read's.
        assert_eq!(said, if cut < 37 { known } else { AttributeValue::known("false") }, "{cut}");
    }
}
