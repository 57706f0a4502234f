use super::*;
use crate::{
    dice::{Dice, document},
    shape::row_text,
    testing::{command, msg, sequence},
};
use bson::{Document, RawArrayBuf, RawBson, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use std::collections::{BTreeMap, HashMap};

/// The shape of a command, and the text of its row.
fn shape_and_text(name: &'static str, message: &[u8]) -> (QueryShape, String) {
    let (message, mut text) = (MessageView::read(message).unwrap(), String::new());
    row_text(name, &message, &mut text);
    (query_shape(name, "shop.orders", &message), text)
}

/// A command in an `OP_MSG`.
fn raw_command(body: &RawDocumentBuf) -> Vec<u8> {
    msg(1, 0, 0, &[[&[0], body.as_bytes()].concat()])
}

fn shape(name: &'static str, body: Document) -> QueryShape {
    shape_and_text(name, &command(1, body)).0
}

fn find(filter: Document) -> QueryShape {
    shape("find", doc! {"find": "orders", "filter": filter, "$db": "shop"})
}

#[test]
fn values_do_not_change_the_key_and_fields_and_types_do() {
    let one = find(doc! {"status": "open", "age": {"$gt": 5}});
    assert_eq!(one, find(doc! {"status": "closed", "age": {"$gt": 7.5}}));
    for other in [
        doc! {"status": "open", "age": {"$lt": 5}},
        doc! {"status": 1, "age": {"$gt": 5}},
        doc! {"status": "open", "agf": {"$gt": 5}},
        doc! {"status": "open", "age": {"$gt": 5}, "more": null},
        doc! {"status": "open"},
        doc! {},
    ] {
        assert_ne!(one.key, find(other.clone()).key, "{other}");
    }
    let names = |name: &'static str, resource| {
        let bytes = command(1, doc! {name: "c", "query": {}});
        query_shape(name, resource, &MessageView::read(&bytes).unwrap()).key
    };
    assert_ne!(names("count", "a.b"), names("distinct", "a.b"));
    assert_ne!(names("count", "a.b"), names("count", "a.c"));
}

#[test]
fn what_is_not_part_of_the_query_does_not_count() {
    let plain = find(doc! {"a": 1});
    let session = doc! {
        "find": "orders", "lsid": {"id": 1}, "$clusterTime": {"a": 1}, "filter": {"a": 2},
        "comment": "here", "maxTimeMS": 5, "batchSize": 7, "$db": "shop",
    };
    assert_eq!(plain, shape("find", session));
    let reordered = |first: &str, second: &str| {
        shape("find", doc! {"find": "orders", first: {"a": 1}, second: {"a": 1}}).key
    };
    assert_eq!(reordered("sort", "filter"), reordered("filter", "sort"));
    assert_ne!(reordered("sort", "filter"), reordered("projection", "filter"));
}

#[test]
fn directions_and_paths_count_where_the_text_shows_them() {
    let sort = |direction: i32| shape("find", doc! {"find": "c", "sort": {"a": direction}}).key;
    assert_ne!(sort(1), sort(-1));
    let group = |path: &str| {
        let pipeline = vec![doc! {"$group": {"_id": path, "n": {"$sum": 1}}}];
        shape("aggregate", doc! {"aggregate": "c", "pipeline": pipeline}).key
    };
    assert_ne!(group("$a"), group("$b"));
    assert_eq!(group("a"), group("b"));
    let lookup = |from: &str| {
        let pipeline = vec![doc! {"$lookup": {"from": from, "as": "x"}}];
        shape("aggregate", doc! {"aggregate": "c", "pipeline": pipeline}).key
    };
    assert_ne!(lookup("users"), lookup("items"));
}

#[test]
fn lists_of_any_length_have_one_shape() {
    let list = |ids: Vec<ObjectId>| find(doc! {"_id": {"$in": ids}});
    let short = list(vec![ObjectId::new(), ObjectId::new()]);
    let long = list((0..1000).map(|_| ObjectId::new()).collect());
    assert_eq!(short, long);
    let too_long = list((0..1001).map(|_| ObjectId::new()).collect());
    assert_eq!(too_long, QueryShape { has_long_list: true, ..short });
    let numbers = |count| find(doc! {"a": {"$in": (0..count).collect::<Vec<i32>>()}});
    assert!(!numbers(1000).has_long_list && numbers(1001).has_long_list);
}

#[test]
fn a_find_without_limit_is_unlimited() {
    let with = |more: Document| {
        let mut body = doc! {"find": "c", "filter": {"a": 1}};
        body.extend(more);
        shape("find", body).is_unlimited
    };
    assert!(with(doc! {}) && with(doc! {"limit": 0}) && with(doc! {"singleBatch": false}));
    assert!(
        !with(doc! {"limit": 5}) && !with(doc! {"limit": -1}) && !with(doc! {"singleBatch": true})
    );
    assert!(!shape("aggregate", doc! {"aggregate": "c", "pipeline": []}).is_unlimited);
}

#[test]
fn documents_that_a_command_carries_do_not_count() {
    let insert = |document: Document| {
        let sections =
            [crate::testing::body(0, &doc! {"insert": "c"}), sequence("documents", &[document])];
        shape_and_text("insert", &msg(1, 0, 0, &sections))
    };
    let (one, text) = insert(doc! {"a": 1});
    assert_eq!((one, text.as_str()), (insert(doc! {"b": {"c": 1}}).0, ""));
}

#[test]
fn the_first_statement_stands_for_all() {
    let update = |statements: &[Document], inline: bool| {
        if inline {
            let body = doc! {"update": "c", "updates": statements.to_vec()};
            return shape_and_text("update", &command(1, body));
        }
        let sections =
            [crate::testing::body(0, &doc! {"update": "c"}), sequence("updates", statements)];
        shape_and_text("update", &msg(1, 0, 0, &sections))
    };
    let set = |field: &str| doc! {"q": {"_id": 1}, "u": {"$set": {field: 1}}};
    let (one, text) = update(&[set("a")], false);
    assert_eq!(text, r#"{"updates":[{"q":{"_id":"?number"},"u":{"$set":{"a":"?number"}}}]}"#);
    assert_eq!(update(&[set("a"), set("b")], false), (one, text));
    assert_eq!(update(&[set("a")], true).0, one);
    assert_ne!(update(&[set("b")], false).0.key, one.key);
}

#[test]
fn roles_follow_from_commands() {
    let role = |name| shape(name, doc! {name: "c"}).role;
    assert_eq!(role("find"), QueryRole::Lookup);
    assert_eq!(role("getMore"), QueryRole::Continuation);
    assert_eq!(role("killCursors"), QueryRole::CloseCursors);
    assert_eq!(role("createIndexes"), QueryRole::Other);
}

#[test]
fn keys_are_equal_if_and_only_if_texts_are() {
    let (mut by_text, mut by_key) = (BTreeMap::new(), HashMap::new());
    for seed in 0..20_000 {
        let mut dice = Dice::new(seed);
        let (name, field) = [
            ("find", "filter"),
            ("find", "projection"),
            ("count", "query"),
            ("aggregate", "pipeline"),
            ("findAndModify", "update"),
        ][dice.below(5)];
        let query = match field {
            "pipeline" => RawBson::Array(RawArrayBuf::from_iter([document(&mut dice, 3)])),
            _ => RawBson::Document(document(&mut dice, 3)),
        };
        let mut body = RawDocumentBuf::new();
        for (key, value) in [(name, RawBson::String("orders".into())), (field, query)] {
            body.append(bson::raw::CString::try_from(key).unwrap(), value);
        }
        let (shape, text) = shape_and_text(name, &raw_command(&body));
        if text.contains('…') {
            continue;
        }
        let text = format!("{name} {text}");
        let first = *by_text.entry(text.clone()).or_insert(shape.key);
        assert_eq!(first, shape.key, "seed {seed}: {text}");
        let same = by_key.entry(shape.key).or_insert_with(|| text.clone());
        assert_eq!(*same, text, "seed {seed}");
    }
    assert!(by_text.len() > 1000, "{}", by_text.len());
}

#[test]
fn any_bytes_have_a_shape() {
    for seed in 0..2_000 {
        let mut dice = Dice::new(seed);
        let body = rawdoc! {"find": "orders", "filter": document(&mut dice, 4)};
        let mut bytes = raw_command(&body);
        dice.mutate(&mut bytes);
        if let Some(message) = MessageView::read(&bytes) {
            query_shape("find", "shop.orders", &message);
        }
    }
}
