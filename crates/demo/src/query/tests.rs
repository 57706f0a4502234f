use super::*;
use bson::doc;

fn is(filter: Document, document: Document) -> bool {
    matches(&filter, &document).unwrap()
}

#[test]
fn a_value_is_found_at_a_path_and_in_an_array() {
    let order = || doc! { "_id": 1, "to": { "city": "Bern" }, "tags": ["new", "gift"], "total": 5 };
    assert!(is(doc! { "to.city": "Bern", "total": 5.0 }, order()));
    assert!(is(doc! { "tags": "gift" }, order()));
    assert!(is(doc! { "tags": ["new", "gift"] }, order()));
    assert!(!is(doc! { "tags": ["gift", "new"] }, order()));
    assert!(!is(doc! { "to.city": "Basel" }, order()));
}

#[test]
fn every_operator_does_what_its_name_says() {
    for (condition, expected) in [
        (doc! { "$eq": 5 }, true),
        (doc! { "$ne": 5 }, false),
        (doc! { "$gt": 4, "$lt": 6 }, true),
        (doc! { "$gt": 5 }, false),
        (doc! { "$gte": 5, "$lte": 5 }, true),
        (doc! { "$in": [1, 5] }, true),
        (doc! { "$nin": [1, 5] }, false),
        (doc! { "$exists": true }, true),
        (doc! { "$exists": false }, false),
        (doc! { "$not": { "$gt": 4 } }, false),
        (doc! { "$all": [5] }, true),
        (doc! { "$gt": "4" }, false),
    ] {
        assert_eq!(is(doc! { "n": condition.clone() }, doc! { "n": 5 }), expected, "{condition}");
    }
}

#[test]
fn a_field_that_is_not_there_equals_null_and_nothing_else() {
    assert!(is(doc! { "n": null }, doc! {}));
    assert!(is(doc! { "n": { "$ne": 1 } }, doc! {}));
    assert!(!is(doc! { "n": { "$lt": 1 } }, doc! {}));
}

#[test]
fn clauses_are_joined() {
    let either = doc! { "$or": [{ "a": 1 }, { "b": 1 }] };
    assert!(is(either.clone(), doc! { "b": 1 }));
    assert!(!is(either.clone(), doc! { "c": 1 }));
    assert!(!is(doc! { "$and": [either.clone(), { "a": 2 }] }, doc! { "b": 1 }));
    assert!(is(doc! { "$nor": [either] }, doc! { "c": 1 }));
}

#[test]
fn what_is_not_known_is_an_error_and_not_a_guess() {
    for filter in [
        doc! { "n": { "$regex": "x" } },
        doc! { "$expr": true },
        doc! { "$or": [] },
        doc! { "n": { "$in": 1 } },
    ] {
        assert_eq!(matches(&filter, &doc! { "n": 1 }).unwrap_err().code, 2, "{filter}");
    }
}

#[test]
fn a_sort_by_several_fields_is_stable() {
    let mut documents = vec![
        doc! { "_id": 1, "a": 1, "b": 1 },
        doc! { "_id": 2, "a": 2, "b": 1 },
        doc! { "_id": 3, "a": 1, "b": 2 },
        doc! { "_id": 4, "a": 2, "b": 1 },
        doc! { "_id": 5, "b": 1 },
    ];
    sort(&mut documents, &doc! { "a": -1, "b": 1 }, |document| document).unwrap();
    let ids: Vec<i32> = documents.iter().map(|document| document.get_i32("_id").unwrap()).collect();
    assert_eq!(ids, [2, 4, 1, 3, 5]);
    assert_eq!(sort(&mut documents, &doc! { "a": 2 }, |document| document).unwrap_err().code, 2);
}

#[test]
fn projections_keep_or_leave_out() {
    let document = || doc! { "_id": 1, "a": { "b": 1, "c": 2 }, "d": [{ "e": 1, "f": 2 }, 3] };
    for (spec, expected) in [
        (doc! {}, document()),
        (doc! { "a": 1 }, doc! { "_id": 1, "a": { "b": 1, "c": 2 } }),
        (doc! { "a.b": true, "_id": 0 }, doc! { "a": { "b": 1 } }),
        (doc! { "d.e": 1 }, doc! { "_id": 1, "d": [{ "e": 1 }] }),
        (doc! { "a": 0, "d.f": 0 }, doc! { "_id": 1, "d": [{ "e": 1 }, 3] }),
        (doc! { "_id": 0 }, doc! { "a": { "b": 1, "c": 2 }, "d": [{ "e": 1, "f": 2 }, 3] }),
        (doc! { "_id": 1 }, doc! { "_id": 1 }),
    ] {
        assert_eq!(project(&spec, &document()).unwrap(), expected, "{spec}");
    }
    assert_eq!(project(&doc! { "a": 1, "d": 0 }, &document()).unwrap_err().code, 31254);
}
