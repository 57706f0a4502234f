use super::*;
use crate::testing::{body, command, joined, msg, sequence};
use bson::{Bson, Document, doc};

/// The other resources of a command of the database `shop`, with the words of what is not known.
fn of(bytes: &[u8]) -> Vec<String> {
    let message = MessageView::read(bytes).unwrap();
    match other_namespaces(&message, "shop") {
        AttributeValue::Multiple(names) => names.into_iter().map(Cow::into_owned).collect(),
        AttributeValue::Absent => vec![],
        fact => vec![format!("{fact:?}")],
    }
}

fn reads(stage: Document) -> Document {
    doc! {"aggregate": "orders", "pipeline": [stage], "$db": "shop"}
}

#[test]
fn every_collection_that_a_command_names_is_found() {
    let lookup = doc! {"$lookup": {"from": "events", "as": "x"}};
    let symbol = Bson::Symbol("events".into());
    for (document, found) in [
        (doc! {"find": "orders", "filter": {"from": "x", "$lookup": {"from": "y"}}}, vec![]),
        (reads(doc! {"$match": {"from": "a", "into": "b", "coll": "c"}}), vec![]),
        (reads(lookup.clone()), vec!["shop.events"]),
        (reads(doc! {"$lookup": {"from": symbol, "as": "x"}}), vec!["shop.events"]),
        (
            reads(doc! {"$lookup": {"from": {"db": "audit", "coll": "events"}}}),
            vec!["audit.events"],
        ),
        (reads(doc! {"$graphLookup": {"from": "events"}}), vec!["shop.events"]),
        (reads(doc! {"$unionWith": "events"}), vec!["shop.events"]),
        (reads(doc! {"$unionWith": {"coll": "events"}}), vec!["shop.events"]),
        (
            reads(doc! {"$unionWith": {"coll": "a", "pipeline": [lookup.clone()]}}),
            vec!["shop.a", "shop.events"],
        ),
        (reads(doc! {"$facet": {"a": [lookup.clone()]}}), vec!["shop.events"]),
        (reads(doc! {"$out": "events"}), vec!["shop.events"]),
        (reads(doc! {"$out": {"db": "audit", "coll": "events"}}), vec!["audit.events"]),
        (reads(doc! {"$merge": "events"}), vec!["shop.events"]),
        (reads(doc! {"$merge": {"into": "events"}}), vec!["shop.events"]),
        (reads(doc! {"$merge": {"into": {"db": "audit", "coll": "e"}}}), vec!["audit.e"]),
        (
            doc! {"explain": {"aggregate": "orders", "pipeline": [lookup.clone()]}},
            vec!["shop.events"],
        ),
        (
            doc! {"create": "v", "viewOn": "events", "pipeline": [lookup]},
            vec!["shop.events", "shop.events"],
        ),
        (doc! {"create": "c", "capped": true}, vec![]),
        (doc! {"collMod": "v", "viewOn": "events"}, vec!["shop.events"]),
        (doc! {"renameCollection": "a.b", "to": "audit.events"}, vec!["audit.events"]),
        (doc! {"cloneCollectionAsCapped": "a", "toCollection": "b"}, vec!["shop.b"]),
        (doc! {"mapReduce": "a", "out": "b"}, vec!["shop.b"]),
        (doc! {"mapreduce": "a", "out": {"replace": "b", "db": "audit"}}, vec!["audit.b"]),
        (doc! {"mapReduce": "a", "out": {"inline": 1}}, vec![]),
        (doc! {"filemd5": 1, "root": "fs"}, vec!["shop.fs.chunks"]),
        (
            doc! {"applyOps": [{"op": "c", "ns": "a.$cmd", "o": {"applyOps": [{"ns": "audit.e"}]}}]},
            vec!["a.$cmd", "audit.e"],
        ),
        (
            doc! {"applyOps": [{"op": "c", "ns": "audit.$cmd", "o": {"drop": "events"}}]},
            vec!["audit.$cmd", "audit.events"],
        ),
        (doc! {"bulkWrite": 1, "nsInfo": [{"ns": "a.b"}, {"ns": "c.d"}]}, vec!["c.d"]),
    ] {
        let told = format!("{document}");
        assert_eq!(of(&command(1, document)), found, "{told}");
    }
    let namespaces = sequence("nsInfo", &[doc! {"ns": "a.b"}, doc! {"ns": "c.d"}]);
    let bulk = body(0, &doc! {"bulkWrite": 1, "$db": "admin"});
    assert_eq!(of(&msg(1, 0, 0, &[bulk.clone(), namespaces.clone()])), ["c.d"]);
    assert_eq!(of(&msg(1, 0, 0, &[namespaces, bulk])), ["c.d"]);
}

#[test]
fn an_unreadable_collection_name_may_be_any() {
    let deep = (0..250).fold(doc! {"$out": "x"}, |inner, _| doc! {"$facet": inner});
    let two = joined(&[doc! {"ns": "a.b"}, doc! {"ns": "a.b"}]);
    let section = [&b"nsInfo\0"[..], &two].concat();
    let len = section.len() as u32 + 4;
    let section = [&[1][..], &len.to_le_bytes(), &section].concat();
    for bytes in [
        command(1, reads(deep)),
        command(1, reads(doc! {"$lookup": {"from": 7}})),
        command(1, reads(doc! {"$out": {"s3": {"bucket": "b"}}})),
        command(1, doc! {"aggregate": "c", "pipeline": "x"}),
        command(1, doc! {"applyOps": 1}),
        command(1, doc! {"applyOps": [{"op": "i", "ns": "a.b", "ui": 1}]}),
        command(1, doc! {"applyOps": [{"op": "c", "ns": "a.$cmd", "o": 1}]}),
        command(1, doc! {"applyOps": [{"ns": "a.$cmd", "o": {"renameCollection": "b.c"}}]}),
        command(1, doc! {"mapReduce": "c", "out": {"replace": "a", "merge": "b"}}),
        command(1, doc! {"bulkWrite": 1}),
        command(1, doc! {"bulkWrite": 1, "nsInfo": [{"ns": 1}]}),
        msg(1, 0, 0, &[body(0, &doc! {"bulkWrite": 1}), section]),
    ] {
        assert_eq!(of(&bytes), ["Unknown"], "{bytes:?}");
    }
    let bytes = command(1, reads(doc! {"$lookup": {"from": "events"}}));
    assert_eq!(of(&bytes[..bytes.len() - 20]), ["Unread"]);
}

#[test]
fn a_pipeline_that_comes_as_a_sequence_may_name_any() {
    let stages = sequence("pipeline", &[doc! {"$unionWith": "events"}]);
    let aggregate = body(0, &doc! {"aggregate": "orders", "$db": "shop"});
    assert_eq!(of(&msg(1, 0, 0, &[aggregate.clone(), stages.clone()])), ["Unknown"]);
    assert_eq!(of(&msg(1, 0, 0, &[stages.clone(), aggregate.clone()])), ["Unknown"]);
    // Also behind what is here, with or without its name.
    let long = msg(1, 0, 0, &[aggregate.clone(), sequence("x", &[doc! {"a": 1}]), stages.clone()]);
    let at = 16 + 4 + aggregate.len();
    for cut in [at, at + 3, at + 7, long.len() - 1] {
        assert_eq!(of(&long[..cut]), ["Unread"], "{cut}");
    }
    let bytes = msg(1, 0, 0, &[aggregate, stages]);
    for cut in at..bytes.len() {
        assert_eq!(of(&bytes[..cut]), ["Unread"], "{cut}");
    }
}
