use super::*;
use crate::dice::{Dice, document};
use bson::{RawBsonRef, RawDocumentBuf, rawdoc};

#[test]
fn a_query_shape_shows_how_documents_are_found() {
    const ONE: Option<&str> = Some("targeted");
    const SOME: Option<&str> = Some("multi_get");
    const ALL: Option<&str> = Some("scatter_get");
    let of = |filter: RawDocumentBuf| rawdoc! { "find": "c", "filter": filter };
    let regex = bson::Regex { pattern: bson::cstr!("^a").into(), options: bson::cstr!("").into() };
    for (filter, expected) in [
        (rawdoc! { "_id": 1 }, ONE),
        (rawdoc! { "_id": null }, ONE),
        (rawdoc! { "a": 1, "_id": "x" }, ONE),
        (rawdoc! { "_id": { "$eq": 1 } }, ONE),
        (rawdoc! { "_id": { "region": "eu", "n": 1 } }, ONE),
        (rawdoc! { "_id": {} }, ONE),
        (rawdoc! { "_id": { "$in": [1, 2] } }, SOME),
        (rawdoc! { "_id": { "$gt": 1, "$in": [1, 2] } }, SOME),
        (rawdoc! { "_id": { "$gt": 1 } }, ALL),
        (rawdoc! { "_id": { "$ne": 1 } }, ALL),
        (rawdoc! { "_id": { "$exists": true } }, ALL),
        (rawdoc! { "_id": regex }, ALL),
        (rawdoc! { "_ID": 1 }, ALL),
        (rawdoc! { "a": { "_id": 1 } }, ALL),
        (rawdoc! {}, ALL),
        (rawdoc! { "$and": [{ "a": 1 }, { "_id": 1 }] }, ONE),
        (rawdoc! { "$and": [{ "$and": [{ "_id": { "$in": [1] } }] }] }, SOME),
        (rawdoc! { "$and": [{ "_id": { "$in": [1] } }, { "_id": 1 }] }, ONE),
        (rawdoc! { "$and": [{ "a": 1 }] }, ALL),
        (rawdoc! { "$or": [{ "_id": 1 }, { "a": 1 }] }, ALL),
    ] {
        let body = of(filter);
        assert_eq!(read_shape("find", body.as_bytes(), None, None), expected, "{body:?}");
    }
}

#[test]
fn the_first_statement_determines_the_shape() {
    let body = rawdoc! { "update": "c", "$db": "d" };
    let (one, any) = (rawdoc! { "q": { "_id": 1 }, "u": {} }, rawdoc! { "q": {}, "u": {} });
    for (first, second, expected) in [(&one, &any, "targeted"), (&any, &one, "scatter_get")] {
        let apart = [first.as_bytes(), second.as_bytes()].concat();
        let of = |apart| read_shape("update", body.as_bytes(), Some(apart), None);
        assert_eq!(of(&apart), Some(expected));
        assert_eq!(of(&apart[..first.as_bytes().len() - 1]), None, "it is cut");
    }
}

#[test]
fn every_command_with_a_query_has_its_own_shape() {
    let q = rawdoc! { "_id": 1 };
    for (name, body, expected) in [
        ("find", rawdoc! { "find": "c" }, Some("scatter_get")),
        ("count", rawdoc! { "count": "c", "query": q.clone() }, Some("targeted")),
        ("count", rawdoc! { "count": "c" }, Some("scatter_get")),
        ("distinct", rawdoc! { "distinct": "c", "key": "a", "query": q.clone() }, Some("targeted")),
        ("findAndModify", rawdoc! { "findAndModify": "c", "query": q.clone() }, Some("targeted")),
        (
            "update",
            rawdoc! { "update": "c", "updates": [{ "q": q.clone(), "u": {} }] },
            Some("targeted"),
        ),
        (
            "update",
            rawdoc! { "update": "c", "updates": [{ "q": {}, "u": {} }] },
            Some("scatter_get"),
        ),
        ("update", rawdoc! { "update": "c" }, None),
        (
            "delete",
            rawdoc! { "delete": "c", "deletes": [{ "q": { "_id": { "$in": [1] } } }] },
            Some("multi_get"),
        ),
        (
            "aggregate",
            rawdoc! { "aggregate": "c", "pipeline": [{ "$match": q.clone() }] },
            Some("targeted"),
        ),
        (
            "aggregate",
            rawdoc! { "aggregate": "c", "pipeline": [{ "$sort": { "a": 1 } }, { "$match": q.clone() }] },
            Some("targeted"),
        ),
        (
            "aggregate",
            rawdoc! { "aggregate": "c", "pipeline": [{ "$limit": 1 }, { "$match": q.clone() }] },
            Some("scatter_get"),
        ),
        ("aggregate", rawdoc! { "aggregate": "c", "pipeline": [] }, Some("scatter_get")),
        ("aggregate", rawdoc! { "aggregate": "c", "pipeline": [{ "$changeStream": {} }] }, None),
        ("aggregate", rawdoc! { "aggregate": 1, "pipeline": [{ "$currentOp": {} }] }, None),
        ("insert", rawdoc! { "insert": "c", "documents": [q.clone()] }, None),
        ("getMore", rawdoc! { "getMore": 1_i64, "collection": "c" }, None),
        ("hello", rawdoc! { "hello": 1, "filter": q }, None),
    ] {
        assert_eq!(read_shape(name, body.as_bytes(), None, None), expected, "{body:?}");
    }
}

#[test]
fn the_first_field_of_the_shard_key_decides() {
    let key = ["tenant".to_owned(), "_id".to_owned()];
    for (filter, expected) in [
        (rawdoc! { "tenant": "t" }, "targeted"),
        (rawdoc! { "tenant": { "$in": ["t", "u"] }, "_id": 1 }, "multi_get"),
        (rawdoc! { "_id": 1 }, "scatter_get"),
    ] {
        let body = rawdoc! { "find": "c", "filter": filter };
        assert_eq!(
            read_shape("find", body.as_bytes(), None, Some(&key)),
            Some(expected),
            "{body:?}"
        );
    }
    let body = rawdoc! { "find": "c", "filter": { "_id": 1 } };
    assert_eq!(
        read_shape("find", body.as_bytes(), None, Some(&[])),
        Some("targeted"),
        "as without one"
    );
}

#[test]
fn a_truncated_body_has_a_shape_where_possible() {
    let body = rawdoc! { "find": "c", "filter": { "_id": { "$in": [1, 2, 3] }, "b": 1 }, "x": 1 };
    let body = body.into_bytes();
    let mut told = 0;
    for cut in 0..body.len() {
        match read_shape("find", &body[..cut], None, None) {
            Some(shape) => {
                assert_eq!(shape, "multi_get", "cut at {cut}");
                told += 1;
            }
            None => assert_eq!(told, 0, "cut at {cut}: once told, it stays told"),
        }
    }
    assert!(told > 30, "{told}");
}

/// 0 for a filter that says nothing of `_id`, 1 for a list of values, 2 for one value.
fn judge(filter: &bson::RawDocument) -> usize {
    let of = |element: bson::error::Result<(&bson::raw::CStr, RawBsonRef<'_>)>| {
        let (key, value) = element.unwrap();
        match (key.as_str(), value) {
            ("_id", value) => judge_value(value),
            ("$and", RawBsonRef::Array(branches)) => {
                let documents = branches.into_iter().filter_map(|b| b.unwrap().as_document());
                documents.map(judge).max().unwrap_or(0)
            }
            _ => 0,
        }
    };
    filter.iter().map(of).max().unwrap_or(0)
}

fn judge_value(value: RawBsonRef<'_>) -> usize {
    match value {
        RawBsonRef::RegularExpression(_) => 0,
        RawBsonRef::Document(value) => {
            let keys: Vec<_> = value.iter().map(|e| e.unwrap().0.as_str()).collect();
            match keys.first() {
                Some(first) if first.starts_with('$') && keys.contains(&"$eq") => 2,
                Some(first) if first.starts_with('$') => usize::from(keys.contains(&"$in")),
                _ => 2,
            }
        }
        _ => 2,
    }
}

#[test]
fn generated_filters_are_judged_as_the_bson_crate_reads_them() {
    let mut seen = [0; 3];
    for seed in 0..20_000 {
        let filter = document(&mut Dice::new(seed), 4);
        let rank = judge(&filter);
        seen[rank] += 1;
        let body = rawdoc! { "find": "c", "filter": filter };
        let expected = ["scatter_get", "multi_get", "targeted"][rank];
        assert_eq!(
            read_shape("find", body.as_bytes(), None, None),
            Some(expected),
            "seed {seed}: {body:?}"
        );
    }
    assert!(seen.iter().all(|n| *n > 20), "every answer is tried: {seen:?}");
}
