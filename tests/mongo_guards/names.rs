//! Every name that a request has for what it is about: collections by any type, those inside of
//! pipelines and other fields, and commands by each of their names.

use crate::{
    denies, find,
    support::{
        client::RawClient,
        scripted::Scripted,
        tollgate::{Tollgate, mongo_config, program},
        wire::{self, op_msg},
    },
};
use bson::{Binary, Bson, Document, Uuid, doc};

#[test]
fn a_collection_is_denied_by_whatever_type_names_it() {
    let uuid = Bson::Binary(Binary::from(Uuid::from_bytes([7; 16])));
    for matching in
        ["{ resource: 'audit.*' }", "{ resource: audit.events }", "{ collection: events }"]
    {
        let mut guarded = denies(matching);
        for name in ["find", "count", "distinct", "aggregate", "insert", "drop"] {
            let symbol = doc! { name: Bson::Symbol("events".into()), "$db": "audit" };
            guarded.refuses(&op_msg(1, &symbol));
            guarded.refuses(&op_msg(2, &doc! { name: uuid.clone(), "$db": "audit" }));
            guarded.passes(&op_msg(3, &doc! { name: "orders", "$db": "shop" }));
        }
    }
    let mut guarded = denies("{ database: audit }");
    let database = Bson::Symbol("audit".into());
    guarded.refuses(&op_msg(1, &doc! { "find": "events", "$db": database }));
    let mut guarded = denies("{ resource: 'audit.*' }");
    let symbol = Bson::Symbol("audit.events".into());
    guarded.refuses(&op_msg(1, &doc! { "renameCollection": symbol, "to": "a.b", "$db": "admin" }));
    // An unknown command may be about anything.
    guarded.refuses(&op_msg(2, &doc! { "inventedByAClient": "audit.events", "$db": "admin" }));
    guarded.passes(&op_msg(3, &doc! { "inventedByAClient": 1, "$db": "admin" }));
    let (code, why) = guarded.code(&op_msg(4, &doc! { "find": uuid, "$db": "audit" }));
    assert_eq!((code, why.contains("(its `resource` is not known)")), (13, false), "{why}");
    let mut guarded = denies("{ resource: audit.events }");
    let (_, why) = guarded.code(&op_msg(4, &doc! { "find": 7, "$db": "audit" }));
    assert!(why.contains("(its `resource` is not known)"), "{why}");
}

#[test]
fn every_collection_that_a_command_names_is_guarded() {
    let lookup = doc! { "$lookup": { "from": "events", "as": "x" } };
    let reads =
        |stage: Document| doc! { "aggregate": "orders", "pipeline": [stage], "$db": "audit" };
    let mut guarded = denies("{ resource: audit.events }");
    for document in [
        reads(lookup.clone()),
        reads(doc! { "$unionWith": "events" }),
        reads(doc! { "$graphLookup": { "from": "events" } }),
        reads(doc! { "$facet": { "a": [lookup] } }),
        reads(doc! { "$out": "events" }),
        reads(doc! { "$merge": { "into": { "db": "audit", "coll": "events" } } }),
        doc! { "aggregate": 1, "pipeline": [{ "$unionWith": "events" }], "$db": "audit" },
        doc! { "create": "view", "viewOn": "events", "pipeline": [], "$db": "audit" },
        doc! { "renameCollection": "shop.a", "to": "audit.events", "$db": "admin" },
        doc! { "bulkWrite": 1, "ops": [], "nsInfo": [{ "ns": "a.b" }, { "ns": "audit.events" }] },
        doc! { "explain": reads(doc! { "$out": "events" }), "$db": "audit" },
    ] {
        guarded.refuses(&op_msg(1, &document));
        let mut long = document.clone();
        long.insert("let", doc! { "x": "y".repeat(100_000) });
        guarded.refuses(&op_msg(2, &long));
    }
    guarded.passes(&op_msg(3, &reads(doc! { "$lookup": { "from": "orders", "as": "x" } })));
    let bulk = doc! { "bulkWrite": 1, "ops": [], "nsInfo": [{ "ns": "a.b" }, { "ns": "a.c" }] };
    guarded.passes(&op_msg(4, &bulk));
    guarded.leaks_nothing();
    // By database, also where the command's own is another; and what may only be about its own.
    let across =
        doc! { "bulkWrite": 1, "ops": [], "nsInfo": [{ "ns": "shop.a" }, { "ns": "audit.e" }] };
    for matching in ["{ database: audit }", "{ not: { resource: 'shop.*' }, operation: bulkWrite }"]
    {
        let mut guarded = denies(matching);
        guarded.refuses(&op_msg(1, &across));
        let own =
            doc! { "bulkWrite": 1, "ops": [], "nsInfo": [{ "ns": "shop.a" }, { "ns": "shop.b" }] };
        guarded.passes(&op_msg(2, &own));
    }
}

#[test]
fn a_command_is_denied_by_every_name_that_it_has() {
    let mut guarded = denies("{ operation: [dropIndexes, dbStats, shardCollection] }");
    for (word, value) in [
        ("dropIndexes", Bson::from("c")),
        ("deleteIndexes", "c".into()),
        ("dbStats", 1.into()),
        ("dbstats", 1.into()),
        ("shardCollection", "a.b".into()),
        ("shardcollection", "a.b".into()),
    ] {
        guarded.refuses(&op_msg(1, &doc! { word: value, "$db": "shop" }));
    }
    guarded.passes(&op_msg(2, &doc! { "collstats": "c", "$db": "shop" }));
    // What an opcode asks for that is older than the command has the command's name.
    let mut guarded = denies("{ operation: [find, insert] }");
    guarded.client.send(&wire::message(3, 0, 2002, b"\0\0\0\0shop.c\0"));
    let reply = guarded.client.round_trip(&wire::op_query(4, "shop.c", &doc! { "a": 1 }));
    assert_eq!((reply.answers(), reply.opcode()), (4, wire::OP_REPLY));
    assert!(reply.document().contains_key("$err"), "{reply:?}");
    guarded.leaks_nothing();
}

#[test]
fn the_hash_in_the_log_denies_that_query_alone() {
    let server = Scripted::agreeing();
    let config = mongo_config(server.address(), "");
    let tollgate = Tollgate::start_as(program(), "slower_than: 0.001ms", &config);
    let mut client = RawClient::connect(tollgate.listener("db"));
    // Of the second one neither what a gate keeps nor the first 64 KiB contain the database.
    for padding in [10, 80_000] {
        client.round_trip(&op_msg(1, &find("orders", "shop", padding)));
        let wanted = |line: &serde_json::Value| {
            line["request_bytes"].as_u64().is_some_and(|bytes| bytes as usize > padding)
        };
        let line = tollgate.logged(1, wanted).remove(0);
        assert_eq!(line["resource"], "shop.orders");
        let hash = line["query_hash"].as_str().unwrap().to_owned();
        let mut guarded = denies(&format!("{{ query_hash: '{hash}' }}"));
        guarded.refuses(&op_msg(2, &find("orders", "shop", padding)));
        guarded.passes(&op_msg(3, &find("carts", "shop", padding)));
        guarded.passes(&op_msg(4, &find("orders", "billing", padding)));
    }
}
