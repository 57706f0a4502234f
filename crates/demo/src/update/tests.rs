use super::*;

fn updated(document: Document, update: Document) -> Result<Document, CommandError> {
    apply(&document, &update.into(), false)
}

#[test]
fn every_operator_does_what_its_name_says() {
    let start = || doc! { "_id": 1, "n": 5, "tags": ["a"], "deep": { "er": 1 } };
    for (update, path, expected) in [
        (doc! { "$set": { "deep.er": 2 } }, "deep", Some(Bson::from(doc! { "er": 2 }))),
        (doc! { "$set": { "new.one": 2 } }, "new", Some(doc! { "one": 2 }.into())),
        (doc! { "$unset": { "deep.er": "" } }, "deep", Some(doc! {}.into())),
        (doc! { "$unset": { "n": 1 } }, "n", None),
        (doc! { "$inc": { "n": 2 } }, "n", Some(7.into())),
        (doc! { "$inc": { "fresh": 2 } }, "fresh", Some(2.into())),
        (doc! { "$min": { "n": 2 } }, "n", Some(2.into())),
        (doc! { "$max": { "n": 2 } }, "n", Some(5.into())),
        (doc! { "$push": { "tags": "a" } }, "tags", Some(vec!["a", "a"].into())),
        (doc! { "$push": { "tags": { "$each": [1, 2] } } }, "tags", Some(bson::bson!(["a", 1, 2]))),
        (doc! { "$push": { "list": 1 } }, "list", Some(vec![1].into())),
        (doc! { "$addToSet": { "tags": "a" } }, "tags", Some(vec!["a"].into())),
        (doc! { "$pull": { "tags": "a" } }, "tags", Some(Bson::Array(vec![]))),
        (doc! { "$rename": { "n": "m" } }, "m", Some(5.into())),
        (doc! { "$set": { "tags.1": "b" } }, "tags", Some(vec!["a", "b"].into())),
        (doc! { "$setOnInsert": { "n": 0 } }, "n", Some(5.into())),
        (doc! { "n": 1 }, "deep", None),
    ] {
        let changed = updated(start(), update.clone()).unwrap();
        assert_eq!(changed.get(path), expected.as_ref(), "{update}");
        assert_eq!(changed.get_i32("_id").unwrap(), 1, "{update}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_the_servers_numbers() {
    for (update, code) in [
        (doc! { "$inc": { "text": 1 } }, 14),
        (doc! { "$push": { "text": 1 } }, 2),
        (doc! { "$set": { "text.more": 1 } }, 28),
        (doc! { "$set": { "_id": 2 } }, 66),
        (doc! { "_id": 2 }, 66),
        (doc! { "$unset": { "_id": 1 } }, 66),
        (doc! { "$mystery": { "a": 1 } }, 9),
        (doc! { "$set": 1 }, 9),
        (doc! { "$set": { "a..b": 1 } }, 56),
    ] {
        let failure = updated(doc! { "_id": 1, "text": "x" }, update.clone()).unwrap_err();
        assert_eq!(failure.code, code, "{update}");
    }
}

#[test]
fn an_upsert_starts_from_what_its_filter_demands() {
    let filter = doc! { "a.b": 1, "$and": [{ "c": { "$eq": 2 } }], "d": { "$gt": 3 } };
    assert_eq!(seed(&filter).unwrap(), doc! { "a": { "b": 1 }, "c": 2 });
}
