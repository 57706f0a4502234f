use super::*;
use crate::{store::Limits, wire};

/// Runs one command after the other on one server, in the database `shop`.
struct Shop(Store);

impl Shop {
    fn new() -> Self {
        Self(Store::default())
    }

    fn with_orders(count: i32) -> Self {
        let mut shop = Self::new();
        let orders: Vec<Document> = (0..count)
            .map(|id| doc! { "_id": id, "status": if id % 2 == 0 { "new" } else { "paid" } })
            .collect();
        shop.ask(doc! { "insert": "orders", "documents": orders });
        shop
    }

    fn try_ask(&mut self, mut command: Document) -> Result<Document, CommandError> {
        command.insert("$db", "shop");
        run(&mut self.0, Request::new(&command, 1)?)
    }

    fn ask(&mut self, command: Document) -> Document {
        self.try_ask(command).unwrap()
    }

    fn code(&mut self, command: Document) -> i32 {
        self.try_ask(command).unwrap_err().code
    }
}

fn cursor(reply: &Document) -> (i64, &Vec<Bson>) {
    let cursor = reply.get_document("cursor").unwrap();
    let batch = cursor.get_array("firstBatch").or(cursor.get_array("nextBatch")).unwrap();
    (cursor.get_i64("id").unwrap(), batch)
}

fn write_error(reply: &Document) -> (i32, i32) {
    let error = reply.get_array("writeErrors").unwrap()[0].as_document().unwrap();
    (error.get_i32("index").unwrap(), error.get_i32("code").unwrap())
}

#[test]
fn a_result_comes_in_batches_until_it_is_read() {
    let mut shop = Shop::with_orders(250);
    let reply = shop.ask(doc! { "find": "orders" });
    let (id, batch) = cursor(&reply);
    assert_eq!(batch.len(), FIRST_BATCH);
    let more = doc! { "getMore": id, "collection": "orders", "batchSize": 100 };
    let reply = shop.ask(more.clone());
    assert_eq!((cursor(&reply).0, cursor(&reply).1.len()), (id, 100));
    let reply = shop.ask(more.clone());
    assert_eq!((cursor(&reply).0, cursor(&reply).1.len()), (0, 49));
    assert_eq!(shop.code(more), 43);
}

#[test]
fn a_killed_cursor_is_gone() {
    let mut shop = Shop::with_orders(3);
    let reply = shop.ask(doc! { "find": "orders", "batchSize": 0 });
    let (id, batch) = cursor(&reply);
    assert!(id != 0 && batch.is_empty());
    let reply = shop.ask(doc! { "killCursors": "orders", "cursors": [id, 99i64] });
    assert_eq!(*reply.get_array("cursorsKilled").unwrap(), [Bson::Int64(id)]);
    assert_eq!(*reply.get_array("cursorsNotFound").unwrap(), [Bson::Int64(99)]);
    assert_eq!(shop.code(doc! { "getMore": id, "collection": "orders" }), 43);
}

#[test]
fn a_cursor_belongs_to_its_collection() {
    let mut shop = Shop::with_orders(3);
    let reply = shop.ask(doc! { "find": "orders", "batchSize": 1 });
    let id = cursor(&reply).0;
    assert_eq!(shop.code(doc! { "getMore": id, "collection": "carts" }), 13);
}

#[test]
fn find_sorts_skips_limits_and_projects() {
    let mut shop = Shop::with_orders(10);
    let reply = shop.ask(doc! {
        "find": "orders", "filter": { "status": "new" }, "sort": { "_id": -1 }, "skip": 1,
        "limit": 2, "projection": { "status": 0 },
    });
    assert_eq!(cursor(&reply).1, &[doc! { "_id": 6 }.into(), doc! { "_id": 4 }.into()]);
    let reply = shop.ask(doc! { "find": "orders", "batchSize": 2, "singleBatch": true });
    assert_eq!((cursor(&reply).0, cursor(&reply).1.len()), (0, 2));
    assert_eq!(shop.code(doc! { "find": "orders", "limit": -1 }), 2);
    assert_eq!(shop.code(doc! { "find": 1 }), 73);
}

#[test]
fn a_duplicate_ends_an_ordered_insert_and_not_an_unordered_one() {
    let documents = vec![doc! { "_id": 1 }, doc! { "_id": 1 }, doc! { "_id": 2 }];
    for (ordered, inserted) in [(true, 1), (false, 2)] {
        let reply = Shop::new().ask(doc! {
            "insert": "orders", "documents": documents.clone(), "ordered": ordered,
        });
        assert_eq!(reply.get_i32("n").unwrap(), inserted);
        assert_eq!(write_error(&reply), (1, 11000));
        assert_eq!(reply.get_f64("ok").unwrap(), 1.0);
    }
}

#[test]
fn updates_count_what_they_matched_and_what_they_changed() {
    let mut shop = Shop::with_orders(4);
    let reply = shop.ask(doc! { "update": "orders", "updates": [
        { "q": {}, "u": { "$set": { "status": "paid" } }, "multi": true },
        { "q": { "_id": 1 }, "u": { "replaced": true } },
        { "q": { "_id": 9 }, "u": { "$setOnInsert": { "a": 1 }, "$set": { "b": 2 } }, "upsert": true },
    ] });
    assert_eq!((reply.get_i32("n").unwrap(), reply.get_i32("nModified").unwrap()), (6, 3));
    let upserted = doc! { "index": 2, "_id": 9 };
    assert_eq!(*reply.get_array("upserted").unwrap(), [upserted.into()]);
    let reply = shop.ask(doc! { "find": "orders", "filter": { "_id": { "$in": [1, 9] } } });
    assert_eq!(
        cursor(&reply).1,
        &[doc! { "_id": 1, "replaced": true }.into(), doc! { "_id": 9, "a": 1, "b": 2 }.into()]
    );
    let many = doc! { "q": {}, "u": { "replaced": true }, "multi": true };
    let reply = shop.ask(doc! { "update": "orders", "updates": [many] });
    assert_eq!(write_error(&reply), (0, 9));
}

#[test]
fn a_replacement_keeps_only_the_id_of_an_upserts_filter() {
    let mut shop = Shop::new();
    shop.ask(doc! { "update": "orders", "updates": [
        { "q": { "_id": 1, "a": 1 }, "u": { "b": 2 }, "upsert": true },
    ] });
    let reply = shop.ask(doc! { "find": "orders" });
    assert_eq!(cursor(&reply).1, &[doc! { "_id": 1, "b": 2 }.into()]);
}

#[test]
fn deletes_take_one_or_all() {
    let mut shop = Shop::with_orders(6);
    let one = doc! { "q": { "status": "new" }, "limit": 1 };
    let all = doc! { "q": { "status": "paid" }, "limit": 0 };
    let reply = shop.ask(doc! { "delete": "orders", "deletes": [one, all] });
    assert_eq!(reply.get_i32("n").unwrap(), 4);
    assert_eq!(shop.ask(doc! { "count": "orders" }).get_i32("n").unwrap(), 2);
}

#[test]
fn find_and_modify_gives_the_old_or_the_new() {
    let mut shop = Shop::with_orders(3);
    let set = doc! { "$set": { "status": "sent" } };
    let modify = |more: Document| {
        let mut command = doc! { "findAndModify": "orders" };
        command.extend(more);
        command
    };
    let old = shop.ask(modify(doc! {
        "query": { "status": "new" }, "sort": { "_id": -1 }, "update": set.clone(),
    }));
    assert_eq!(old.get_document("value").unwrap(), &doc! { "_id": 2, "status": "new" });
    let new = shop.ask(modify(doc! {
        "query": { "_id": 7 }, "update": set, "new": true, "upsert": true, "fields": { "_id": 0 },
    }));
    assert_eq!(new.get_document("value").unwrap(), &doc! { "status": "sent" });
    let removed = shop.ask(modify(doc! { "query": { "_id": 7 }, "remove": true }));
    assert_eq!(removed.get_document("value").unwrap().get_i32("_id").unwrap(), 7);
    let none = shop.ask(modify(doc! { "query": { "_id": 7 }, "remove": true }));
    assert_eq!(none.get("value"), Some(&Bson::Null));
}

#[test]
fn distinct_looks_into_arrays() {
    let mut shop = Shop::new();
    let documents = [doc! { "tags": ["b", "a"] }, doc! { "tags": "a" }, doc! {}];
    shop.ask(doc! { "insert": "orders", "documents": documents.to_vec() });
    let reply = shop.ask(doc! { "distinct": "orders", "key": "tags" });
    assert_eq!(*reply.get_array("values").unwrap(), [Bson::from("a"), Bson::from("b")]);
}

#[test]
fn an_aggregate_is_a_cursor_too() {
    let mut shop = Shop::with_orders(4);
    let group = doc! { "$group": { "_id": "$status", "n": { "$sum": 1 } } };
    let reply = shop.ask(doc! {
        "aggregate": "orders", "pipeline": [group], "cursor": { "batchSize": 1 },
    });
    assert!(cursor(&reply).0 != 0);
    assert_eq!(cursor(&reply).1, &[doc! { "_id": "new", "n": 2 }.into()]);
    assert_eq!(shop.code(doc! { "aggregate": "orders", "pipeline": [] }), 9);
}

#[test]
fn the_catalogue_lists_databases_and_collections() {
    let mut shop = Shop::with_orders(1);
    let names = |reply: &Document| -> Vec<String> {
        let name = |item: &Bson| item.as_document().unwrap().get_str("name").unwrap().to_owned();
        cursor(reply).1.iter().map(name).collect()
    };
    shop.ask(doc! { "create": "carts" });
    assert_eq!(shop.code(doc! { "create": "carts" }), 48);
    let reply = shop.ask(doc! { "listCollections": 1, "nameOnly": true });
    assert_eq!(names(&reply), ["carts", "orders"]);
    let reply = shop.ask(doc! { "listCollections": 1, "filter": { "name": "carts" } });
    assert_eq!(names(&reply), ["carts"]);
    let index = doc! { "key": { "status": 1 }, "name": "status_1" };
    let reply = shop.ask(doc! { "createIndexes": "orders", "indexes": [index] });
    assert_eq!(reply.get_i32("numIndexesAfter").unwrap(), 2);
    assert_eq!(names(&shop.ask(doc! { "listIndexes": "orders" })), ["_id_", "status_1"]);
    assert_eq!(shop.code(doc! { "listIndexes": "nothing" }), 26);
    assert_eq!(shop.code(doc! { "dropIndexes": "orders", "index": "none" }), 27);
    shop.ask(doc! { "dropIndexes": "orders", "index": "*" });
    shop.ask(doc! { "drop": "carts" });
    let reply = shop.ask(doc! { "listDatabases": 1 });
    assert_eq!(reply.get_array("databases").unwrap().len(), 1);
    shop.ask(doc! { "dropDatabase": 1 });
    assert!(shop.ask(doc! { "listDatabases": 1 }).get_array("databases").unwrap().is_empty());
}

#[test]
fn a_shell_finds_the_answers_it_starts_with() {
    let mut shop = Shop::with_orders(1);
    for command in [
        "ping",
        "buildInfo",
        "hostInfo",
        "getLog",
        "getParameter",
        "connectionStatus",
        "hello",
        "endSessions",
        "serverStatus",
        "dbStats",
        "whatsmyuri",
        "getCmdLineOpts",
    ] {
        assert_eq!(shop.ask(doc! { command: 1 }).get_f64("ok").unwrap(), 1.0, "{command}");
    }
    assert_eq!(shop.ask(doc! { "buildInfo": 1 }).get_str("version").unwrap(), diagnostic::VERSION);
}

#[test]
fn what_the_server_can_not_do_has_the_servers_numbers() {
    let mut shop = Shop(Store::with_limits(Limits { documents: 1, ..Limits::default() }));
    assert_eq!(shop.code(doc! { "mapReduce": "orders" }), 59);
    assert_eq!(shop.code(doc! { "insert": "orders", "documents": [{}], "txnNumber": 1i64 }), 20);
    assert_eq!(shop.code(doc! { "insert": "orders", "documents": [] }), 16);
    assert_eq!(shop.code(doc! { "insert": "orders" }), 40414);
    let reply = shop.ask(doc! { "insert": "orders", "documents": [{}, {}] });
    assert_eq!(write_error(&reply), (1, 14031));
    let ping = doc! { "ping": 1 };
    assert_eq!(Request::new(&ping, 1).unwrap_err().code, 40571);
}

#[tokio::test]
async fn a_command_with_a_changed_byte_never_panics() {
    let commands = [
        doc! { "find": "orders", "filter": { "$or": [{ "a.b": { "$gt": 1 } }] }, "sort": { "a": -1 },
        "projection": { "a": 1, "b.c": 1 }, "skip": 1, "limit": 2 },
        doc! { "insert": "orders", "documents": [{ "_id": 1, "a": [1, { "b": 2.5 }] }] },
        doc! { "update": "orders", "updates": [{ "q": { "a.0": 1 }, "upsert": true, "u": {
        "$set": { "a.b": 1 }, "$inc": { "n": 1 }, "$push": { "l": { "$each": [1] } } } }] },
        doc! { "delete": "orders", "deletes": [{ "q": { "a": null }, "limit": 1 }] },
        doc! { "findAndModify": "orders", "query": { "_id": 1 }, "update": { "$unset": { "a": 1 } } },
        doc! { "aggregate": "orders", "cursor": {}, "pipeline": [
        { "$group": { "_id": "$a.b", "n": { "$sum": "$n" } } }, { "$project": { "m": "$n" } } ] },
        doc! { "createIndexes": "orders", "indexes": [
        { "key": { "a": 1, "b": 1 }, "name": "a", "unique": true } ] },
        doc! { "getMore": 1i64, "collection": "orders", "batchSize": 2 },
    ];
    let mut shop = Shop::with_orders(5);
    let mut answered = 0;
    for mut command in commands {
        command.insert("$db", "shop");
        let bytes = wire::WireMessage::new(1, 0, command).to_bytes().unwrap();
        for at in 20..bytes.len() {
            for value in [0, 1, 2, 0x24, 0x2e, 0x7f, 0x80, 0xff, bytes[at] ^ 1] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let Ok(Some(message)) = wire::read(&mut &changed[..]).await else { continue };
                if let Ok(request) = Request::new(&message.body, 1) {
                    let _ = run(&mut shop.0, request);
                    let _ = diagnostic::wanted_pause(request);
                    answered += 1;
                }
            }
        }
    }
    assert!(answered > 1000, "only {answered} could be read");
}
