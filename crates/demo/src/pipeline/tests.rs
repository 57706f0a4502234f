use super::*;

fn orders() -> Vec<Rc<Document>> {
    [("new", 10), ("paid", 20), ("new", 30)]
        .into_iter()
        .enumerate()
        .map(|(id, (status, total))| {
            Rc::new(doc! { "_id": id as i32, "status": status, "total": total })
        })
        .collect()
}

fn ran(stages: &[Document]) -> Result<Vec<Document>, CommandError> {
    let stages: Vec<Bson> = stages.iter().cloned().map(Bson::from).collect();
    Ok(run(orders(), &stages)?.into_iter().map(Rc::unwrap_or_clone).collect())
}

#[test]
fn groups_are_summed_up_in_the_order_they_appeared() {
    let group = doc! { "$group": {
        "_id": "$status", "orders": { "$sum": 1 }, "counted": { "$count": {} },
        "total": { "$sum": "$total" }, "average": { "$avg": "$total" }, "most": { "$max": "$total" },
        "first": { "$first": "$_id" }, "last": { "$last": "$_id" },
    } };
    assert_eq!(
        ran(&[group]).unwrap(),
        [
            doc! {
                "_id": "new", "orders": 2, "counted": 2, "total": 40, "average": 20.0, "most": 30,
                "first": 0, "last": 2,
            },
            doc! {
                "_id": "paid", "orders": 1, "counted": 1, "total": 20, "average": 20.0, "most": 20,
                "first": 1, "last": 1,
            },
        ]
    );
}

#[test]
fn stages_follow_one_another() {
    let found = ran(&[
        doc! { "$match": { "total": { "$gte": 20 } } },
        doc! { "$sort": { "total": -1 } },
        doc! { "$skip": 1 },
        doc! { "$limit": 1 },
        doc! { "$project": { "_id": 0, "state": "$status" } },
    ]);
    assert_eq!(found.unwrap(), [doc! { "state": "paid" }]);
    assert_eq!(ran(&[doc! { "$count": "n" }]).unwrap(), [doc! { "n": 3 }]);
    assert_eq!(ran(&[doc! { "$match": { "a": 1 } }, doc! { "$count": "n" }]).unwrap(), []);
}

#[test]
fn drivers_count_documents_this_way() {
    let group = doc! { "$group": { "_id": 1, "n": { "$sum": 1 } } };
    assert_eq!(ran(&[doc! { "$match": {} }, group]).unwrap(), [doc! { "_id": 1, "n": 3 }]);
}

#[test]
fn what_is_not_known_is_an_error_and_not_a_guess() {
    for (stage, code) in [
        (doc! { "$lookup": {} }, 40324),
        (doc! { "$match": {}, "$limit": 1 }, 40323),
        (doc! { "$group": { "n": { "$sum": 1 } } }, 15955),
        (doc! { "$group": { "_id": 1, "n": { "$push": 1 } } }, 15952),
        (doc! { "$group": { "_id": { "$year": "$at" } } }, 168),
        (doc! { "$limit": -1 }, 14),
    ] {
        assert_eq!(ran(std::slice::from_ref(&stage)).unwrap_err().code, code, "{stage}");
    }
}

#[test]
fn results_that_take_too_much_memory_are_refused() {
    let text = "x".repeat(10 << 20);
    let documents = vec![Rc::new(doc! { "_id": 1, "text": text })];
    let copies: Document = (0..10).map(|at| (format!("copy{at}"), Bson::from("$text"))).collect();
    let project = [Bson::from(doc! { "$project": copies })];
    assert_eq!(run(documents, &project).unwrap_err().code, 292);
}
