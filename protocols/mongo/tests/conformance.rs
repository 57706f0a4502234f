//! What real drivers said to a server is read as it should be, however it is cut or broken.

#![allow(clippy::unwrap_used, reason = "that is how a test fails")]

use bson::{Document, doc};
use mongo::{Mongo, MongoListener};
use operation::{
    Outcome,
    testing::{Expected, Fixture, conforms, load},
};
use std::{path::Path, sync::Arc};

#[test]
fn mongo_conforms() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mongo");
    let fixtures = load(directory).unwrap();
    conforms::<Mongo>(|| Arc::new(MongoListener::default()), &fixtures);
}

/// An `OP_MSG` with this body.
fn message(id: u32, answers: u32, body: &Document) -> Vec<u8> {
    let body = body.to_vec().unwrap();
    let words = [body.len() as u32 + 21, id, answers, 2013, 0];
    let head = words.into_iter().flat_map(u32::to_le_bytes);
    head.chain([0]).chain(body).collect()
}

#[test]
fn a_request_that_is_longer_than_its_front_conforms_too() {
    let filter = doc! { "text": "y".repeat(66_000) };
    let find = doc! { "find": "orders", "filter": filter.clone(), "$db": "shop" };
    let explain = doc! { "explain": { "find": "orders", "filter": filter }, "$db": "shop" };
    let fixture = Fixture::new("the database behind 64 KiB")
        .client(&message(1, 0, &find))
        .upstream(&message(9, 1, &doc! { "ok": 1.0 }))
        .client(&message(2, 0, &explain))
        .upstream(&message(9, 2, &doc! { "ok": 1.0 }))
        .expects(Expected::settled("find", "shop.orders", Outcome::Ok))
        .expects(Expected::settled("explain", "shop.?", Outcome::Ok));
    conforms::<Mongo>(|| Arc::new(MongoListener::default()), &[fixture]);
}
