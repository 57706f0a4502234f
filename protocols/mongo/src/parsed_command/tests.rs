use super::*;
use crate::testing::{body, command, documents, joined, message, msg, query, sequence};
use bson::{Document, doc};

fn read(bytes: &[u8]) -> (ParsedCommand, String) {
    let mut resource = String::from("of the request before");
    let asked = ParsedCommand::parse(&MessageView::read(bytes).unwrap(), &mut resource);
    (asked, resource)
}

fn words(bytes: &[u8]) -> (&'static str, String) {
    let (asked, resource) = read(bytes);
    (asked.name, resource)
}

#[test]
fn commands_are_named_and_say_what_they_are_about() {
    let table = [
        (doc! {"find": "orders", "$db": "shop"}, "find", "shop.orders"),
        (doc! {"find": "a.b", "$db": "shop"}, "find", "shop.a.b"),
        (doc! {"aggregate": 1, "pipeline": [], "$db": "shop"}, "aggregate", "shop"),
        (doc! {"aggregate": "orders", "$db": "shop"}, "aggregate", "shop.orders"),
        (doc! {"getMore": 5_i64, "collection": "orders", "$db": "shop"}, "getMore", "shop.orders"),
        (doc! {"findandmodify": "o", "$db": "shop"}, "findAndModify", "shop.o"),
        (doc! {"explain": {"find": "o"}, "$db": "shop"}, "explain", "shop.o"),
        (doc! {"explain": {"explain": {"find": "o"}}, "$db": "shop"}, "explain", "shop.?"),
        (doc! {"renameCollection": "a.b", "to": "a.c", "$db": "admin"}, "renameCollection", "a.b"),
        (doc! {"bulkWrite": 1, "nsInfo": [{"ns": "a.b"}], "$db": "admin"}, "bulkWrite", "a.b"),
        (doc! {"ismaster": true, "$db": "admin"}, "isMaster", "admin"),
        (doc! {"hello": 1, "$db": "admin"}, "hello", "admin"),
        (doc! {"dropDatabase": 1, "$db": "shop"}, "dropDatabase", "shop"),
        (doc! {"inventedByAClient": 1, "$db": "shop"}, "other", "shop"),
        (doc! {"find": "orders"}, "find", "?.orders"),
    ];
    for (document, name, resource) in table {
        assert_eq!(words(&command(1, document.clone())), (name, resource.into()), "{document}");
    }
}

#[test]
fn the_first_key_is_the_command_whatever_follows() {
    let document = doc! {"ping": 1, "drop": "orders", "find": "orders", "$db": "shop"};
    assert_eq!(words(&command(1, document)), ("ping", "shop".into()));
}

#[test]
fn sections_may_come_in_any_order() {
    let insert = doc! {"insert": "orders", "$db": "shop"};
    let rows = sequence("documents", &documents(3, 10));
    for sections in [[body(0, &insert), rows.clone()], [rows.clone(), body(0, &insert)]] {
        assert_eq!(words(&msg(1, 0, 0, &sections)), ("insert", "shop.orders".into()));
        assert_eq!(words(&msg(1, 0, 1, &sections)), ("insert", "shop.orders".into()));
    }
    let namespaces = sequence("nsInfo", &[doc! {"ns": "a.b"}, doc! {"ns": "a.b"}]);
    let bulk = body(0, &doc! {"bulkWrite": 1, "$db": "admin"});
    assert_eq!(words(&msg(1, 0, 0, &[bulk, namespaces])), ("bulkWrite", "a.b".into()));
}

#[test]
fn a_bulk_write_is_about_the_first_of_its_collections() {
    let bulk = |info: Option<Document>| {
        let mut bulk = doc! {"bulkWrite": 1, "$db": "admin"};
        bulk.extend(info.unwrap_or_default());
        body(0, &bulk)
    };
    let several = [doc! {"ns": "a.b"}, doc! {"ns": "c.d"}];
    let one = sequence("nsInfo", &several[..1]);
    let mut cut = one.clone();
    cut.extend([9, 0, 0, 0, 0]);
    let len = cut.len() as u32 - 1;
    cut[1..5].copy_from_slice(&len.to_le_bytes());
    for (sections, resource) in [
        (vec![bulk(None), sequence("nsInfo", &several)], "a.b"),
        (vec![bulk(Some(doc! {"nsInfo": several.to_vec()}))], "a.b"),
        (vec![bulk(Some(doc! {"nsInfo": [{"ns": "a.b"}, 7]}))], "?"),
        (vec![bulk(Some(doc! {"nsInfo": []}))], "?"),
        (vec![bulk(None), cut], "?"),
        (vec![bulk(None)], "?"),
    ] {
        assert_eq!(words(&msg(1, 0, 0, &sections)), ("bulkWrite", resource.into()));
    }
    let bytes = msg(1, 0, 0, &[bulk(None), one, sequence("ops", &documents(9, 99))]);
    assert_eq!(words(&bytes), ("bulkWrite", "a.b".into()));
    assert_eq!(words(&bytes[..bytes.len() - 1]), ("bulkWrite", "?".into()), "what follows?");
}

#[test]
fn only_strings_and_symbols_name_a_collection() {
    use bson::{Binary, Bson, Uuid};
    let uuid = Bson::Binary(Binary::from(Uuid::from_bytes([7; 16])));
    for (value, resource) in [
        (Bson::Symbol("events".into()), "audit.events"),
        (uuid, "audit.?"),
        (Bson::Int32(7), "audit.?"),
        (Bson::Null, "audit.?"),
        (Bson::Int64(1), "audit"),
        (Bson::Double(1.0), "audit"),
        (Bson::Boolean(true), "audit.?"),
    ] {
        for name in ["find", "count", "aggregate", "drop", "insert"] {
            let document = doc! {name: value.clone(), "$db": "audit"};
            assert_eq!(words(&command(1, document)).1, resource, "{name} {value}");
        }
    }
    let database = Bson::Symbol("audit".into());
    assert_eq!(words(&command(1, doc! {"find": "c", "$db": database})).1, "audit.c");
    let to = doc! {"renameCollection": Bson::Symbol("audit.events".into()), "$db": "admin"};
    assert_eq!(words(&command(1, to)).1, "audit.events");
}

#[test]
fn an_unknown_command_may_affect_any_name_in_it() {
    for (value, resource) in [
        (bson::Bson::from("events"), "?"),
        (doc! {"ns": "events"}.into(), "?"),
        (1.into(), "audit"),
        (true.into(), "audit"),
    ] {
        let document = doc! {"inventedByAClient": value, "$db": "audit"};
        assert_eq!(words(&command(1, document)), ("other", resource.into()));
    }
}

#[test]
fn a_command_has_one_name_for_all_its_spellings() {
    for (word, name) in [
        ("deleteIndexes", "dropIndexes"),
        ("dbstats", "dbStats"),
        ("collstats", "collStats"),
        ("shardcollection", "shardCollection"),
        ("findandmodify", "findAndModify"),
    ] {
        assert_eq!(words(&command(1, doc! {word: "a.b", "$db": "d"})).0, name);
    }
}

#[test]
fn what_is_there_twice_is_a_violation() {
    let with =
        |first: Document, more: &[Document]| [vec![0], joined(&[&[first], more].concat())].concat();
    let find = doc! {"find": "orders", "$db": "shop"};
    let namespaces = |ns: &str| sequence("nsInfo", &[doc! {"ns": ns}]);
    let bulk = || body(0, &doc! {"bulkWrite": 1, "$db": "admin"});
    for sections in [
        vec![with(find.clone(), &[doc! {"find": "events"}])],
        vec![with(find.clone(), &[doc! {"$db": "audit"}])],
        vec![with(find.clone(), &[doc! {"comment": 1}, doc! {"comment": 2}])],
        vec![body(0, &find), body(0, &find)],
        vec![bulk(), namespaces("shop.orders"), namespaces("audit.events")],
        vec![with(doc! {"bulkWrite": 1}, &[doc! {"nsInfo": []}]), namespaces("a.b")],
        vec![body(3, &find), body(0, &find), body(3, &find)],
    ] {
        let (asked, _) = read(&msg(1, 0, 0, &sections));
        assert_eq!(asked.violation, Some(DUPLICATE_FIELD), "{sections:?}");
    }
    // Names that share a place of the filter are still different names.
    let many: Document = (0..200).map(|i| (format!("field{i}"), i.into())).collect();
    assert_eq!(read(&msg(1, 0, 0, &[body(0, &many)])).0.violation, None);
    let many: Document = (0..300).map(|i| (format!("field{i}"), i.into())).collect();
    let (asked, _) = read(&msg(1, 0, 0, &[body(0, &many)]));
    assert_eq!(asked.violation, Some(Violation("too_many_fields")));
}

#[test]
fn of_two_databases_none_is_believed() {
    let both = joined(&[doc! {"find": "c", "$db": "a"}, doc! {"$db": "b"}]);
    assert_eq!(words(&msg(1, 0, 0, &[[&[0], &both[..]].concat()])), ("find", "?.c".into()));
}

#[test]
fn what_cannot_be_read_is_not_called_by_no_name() {
    let empty = Document::new();
    for bytes in [
        msg(1, 0, 0, &[body(0, &empty)]),
        msg(1, 0, 0, &[]),
        command(1, doc! {"dropDatabase": 1}),
        message(1, 0, 2010, b"\0\0\0\0d.c\0rest"),
        message(1, 0, 2007, b"\0\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0"),
        message(1, 0, 2002, b"\0\0\0\0"),
    ] {
        assert_eq!(words(&bytes).1, "?");
    }
}

#[test]
fn a_body_beyond_the_front_is_not_guessed() {
    for identifier in ["documents", "updates", "ops", "strange"] {
        let sections = [sequence(identifier, &documents(9, 99)), body(0, &doc! {"x": 1})];
        let bytes = msg(1, 0, 0, &sections);
        let (asked, resource) = read(&bytes[..200]);
        assert_eq!((asked.name, resource.as_str(), asked.violation), ("?", "?", None));
        assert!(asked.partial && asked.sensitive && asked.has_comment);
        assert!(!read(&bytes).0.partial);
    }
}

#[test]
fn a_database_beyond_the_front_is_not_guessed() {
    let document = doc! {"find": "orders", "filter": {"x": "y".repeat(500)}, "$db": "shop"};
    assert_eq!(words(&command(1, document)[..300]), ("find", "?.orders".into()));
}

#[test]
fn unknown_sections_are_a_violation_and_so_is_no_body() {
    let find = doc! {"find": "c", "$db": "d"};
    let (asked, _) = read(&msg(1, 0, 0, &[body(9, &find), body(0, &find)]));
    assert_eq!((asked.name, asked.violation), ("other", Some(UNKNOWN_SECTION)));
    let (asked, resource) = read(&msg(1, 0, 0, &[body(0, &find), body(9, &find)]));
    assert_eq!(
        (asked.name, resource.as_str(), asked.violation),
        ("find", "d.c", Some(UNKNOWN_SECTION))
    );
    let (asked, _) = read(&msg(1, 0, 0, &[body(3, &find)]));
    assert_eq!(asked.violation, Some(Violation("no_body")));
    let (asked, _) = read(&msg(1, 0, 0, &[body(0, &Document::new())]));
    assert_eq!(asked.violation, Some(Violation("no_command")));
}

#[test]
fn fire_and_forget_is_silent() {
    let insert = body(0, &doc! {"insert": "c", "$db": "d"});
    assert!(read(&msg(1, 0, 2, std::slice::from_ref(&insert))).0.unacknowledged);
    assert!(!read(&msg(1, 0, 1 << 16, &[insert])).0.unacknowledged);
}

#[test]
fn what_waits_for_events_awaits() {
    let awaits = |document| read(&command(1, document)).0.long_poll;
    let version = doc! {"processId": 1, "counter": 2_i64};
    let both = doc! {"hello": 1, "topologyVersion": version.clone(), "maxAwaitTimeMS": 10_000_i64};
    assert!(awaits(both));
    assert!(!awaits(doc! {"hello": 1, "topologyVersion": version}));
    assert!(!awaits(doc! {"find": "c", "maxAwaitTimeMS": 1, "topologyVersion": 1}));
    let tails = |document| read(&command(1, document)).0.tailable;
    assert!(tails(doc! {"find": "c", "tailable": true, "awaitData": true}));
    assert!(!tails(doc! {"find": "c", "tailable": true}));
    assert!(tails(doc! {"aggregate": 1, "pipeline": [{"$changeStream": {}}]}));
    assert!(!tails(doc! {"explain": 1, "pipeline": [{"$changeStream": {}}]}));
    assert!(!tails(doc! {"aggregate": 1, "pipeline": [{"$match": {"$changeStream": 1}}]}));
}

#[test]
fn legacy_messages_are_named_too() {
    let ismaster = doc! {"ismaster": true, "helloOk": true};
    assert_eq!(words(&query(1, "admin.$cmd", &ismaster)), ("isMaster", "admin".into()));
    let wrapped = doc! {"$query": {"count": "c"}, "$readPreference": {"mode": "secondary"}};
    assert_eq!(words(&query(1, "d.$cmd", &wrapped)), ("count", "d.c".into()));
    assert_eq!(words(&query(1, "d.c", &doc! {"x": 1})), ("find", "d.c".into()));
    let pseudo = query(1, "admin.$cmd.sys.killop", &doc! {"op": 1});
    assert_eq!(words(&pseudo), ("other", "admin.$cmd.sys.killop".into()));
    let rest = b"\0\0\0\0d.c\0rest";
    let table = [
        (2001, "update", true),
        (2002, "insert", true),
        (2005, "getMore", false),
        (2006, "delete", true),
        (2010, "?", false),
        (2011, "other", true),
        (1234, "other", true),
    ];
    for (opcode, name, silent) in table {
        let (asked, _) = read(&message(1, 0, opcode, rest));
        assert_eq!((asked.name, asked.unacknowledged), (name, silent), "{opcode}");
    }
    assert_eq!(words(&message(1, 0, 2002, rest)).1, "d.c");
}

#[test]
fn secrets_are_known_as_such() {
    let secret = |document| read(&command(1, document)).0.sensitive;
    assert!(secret(doc! {"saslStart": 1}));
    assert!(secret(doc! {"createUser": "x", "pwd": "y"}));
    assert!(secret(doc! {"hello": 1, "speculativeAuthenticate": {}}));
    assert!(!secret(doc! {"hello": 1}));
    let wrapped = doc! {"ismaster": 1, "speculativeAuthenticate": {}};
    assert!(read(&query(1, "admin.$cmd", &wrapped)).0.sensitive);
}

#[test]
fn names_that_are_too_long_are_cut() {
    let (_, resource) = read(&command(1, doc! {"find": "é".repeat(9000), "$db": "d"}));
    assert!(resource.len() <= MAX_RESOURCE_LEN);
}

#[test]
fn an_explained_command_has_the_database_of_the_explain() {
    let explain = |inner: Vec<u8>, database: &str| {
        let inner = Document::from_reader(&inner[..]).unwrap();
        command(1, doc! {"explain": inner, "$db": database})
    };
    let find = doc! {"find": "c", "$db": "a"};
    assert_eq!(words(&explain(find.to_vec().unwrap(), "a")).1, "a.c");
    assert_eq!(words(&explain(find.to_vec().unwrap(), "b")).1, "?.c");
    let twice = joined(&[doc! {"find": "c"}, doc! {"find": "d"}]);
    let field = [&[3][..], b"explain\0", &twice].concat();
    let len = field.len() as u32 + 5;
    let whole = [&len.to_le_bytes()[..], &field, &[0]].concat();
    let bytes = msg(1, 0, 0, &[[&[0], &whole[..]].concat()]);
    assert_eq!(read(&bytes).0.violation, Some(DUPLICATE_FIELD));
    // What is not here may say otherwise.
    let bytes = explain(doc! {"find": "c", "filter": {"a": "x".repeat(99)}}.to_vec().unwrap(), "a");
    let (asked, resource) = read(&bytes[..bytes.len() - 60]);
    assert_eq!((asked.partial, &*resource), (true, "?"));
    let inner = doc! {"explain": {"find": "c", "comment": "x"}};
    assert!(read(&command(1, inner)).0.has_comment);
}

#[test]
fn a_legacy_command_is_named_when_it_is_complete() {
    let read_query = |document: &Document| read(&query(1, "d.$cmd", document)).0.violation;
    let mode = || doc! {"mode": "secondary"};
    assert_eq!(read_query(&doc! {"$query": {"drop": "c"}, "$readPreference": mode()}), None);
    let late = doc! {"$readPreference": mode(), "$query": {"drop": "c"}};
    assert_eq!(read_query(&late), Some(MISPLACED_QUERY));
    assert_eq!(read_query(&doc! {"ping": 1, "$query": {"drop": "c"}}), Some(MISPLACED_QUERY));
    let other = doc! {"find": "c", "$db": "e"};
    assert_eq!(words(&query(1, "d.$cmd", &other)).1, "?.c");
    let bytes = query(1, "d.$cmd", &doc! {"find": "c", "filter": {"a": "x".repeat(99)}});
    assert_eq!(words(&bytes), ("find", "d.c".into()));
    let (asked, resource) = read(&bytes[..bytes.len() - 20]);
    assert_eq!((asked.name, &*resource, asked.partial), ("?", "?", true));
}
