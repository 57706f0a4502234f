//! Guards before MongoDB see what the server will see: however a request names what it is about,
//! how long it is, in which order its parts come, and what in it stands there twice.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Binary, Bson, Document, Uuid, doc, spec::BinarySubtype};
use serde_json::Value;
use std::io::Write;
use support::{
    client::RawClient,
    scripted::{Scripted, reply_to},
    tollgate::{Tollgate, mongo_config},
    wire::{self, Compressor, body, compressed, op_msg, op_msg_of, sequence},
};

const MIB: usize = 1 << 20;

/// A proxy with policies before a server that agrees to everything, and a client that may compress.
struct Guarded {
    tollgate: Tollgate,
    server: Scripted,
    client: RawClient,
    /// What of the client the server has seen.
    seen: usize,
}

/// A proxy with these policies, and these settings of its listener.
fn guarded_with(settings: &str, policies: &str) -> Guarded {
    let server = Scripted::agreeing();
    let config = format!("{}policies:\n{policies}", mongo_config(server.address(), settings));
    let tollgate = Tollgate::start(&config);
    let (client, hello) = RawClient::offering(tollgate.listener("db"));
    Guarded { tollgate, server, client, seen: hello.len() }
}

/// A proxy that denies what matches.
fn denies(matching: &str) -> Guarded {
    guarded_with("", &format!("  - {{ name: closed, match: {matching}, deny: {{}} }}\n"))
}

impl Guarded {
    /// The code that this request is answered with, and what was said; 0 if the server answered.
    fn code(&mut self, bytes: &[u8]) -> (i32, String) {
        let reply = self.client.ask(bytes).document();
        let code = reply.get_i32("code").unwrap_or(0);
        if code == 0 {
            self.seen += bytes.len();
        }
        (code, reply.get_str("errmsg").unwrap_or_default().to_owned())
    }

    #[track_caller]
    fn refuses(&mut self, bytes: &[u8]) {
        let (code, _) = self.code(bytes);
        assert_eq!(code, 13, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }

    #[track_caller]
    fn passes(&mut self, bytes: &[u8]) {
        let (code, why) = self.code(bytes);
        assert_eq!(code, 0, "{why}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }

    /// The server saw what passed, and nothing else.
    #[track_caller]
    fn leaks_nothing(&mut self) {
        self.passes(&op_msg(77, &doc! { "ping": 1, "$db": "admin" }));
        let bytes = self.server.bytes(self.seen);
        assert_eq!(bytes.len(), self.seen, "the server saw more than what passed");
    }
}

/// `{find: collection, filter: …, $db: database}` with a filter of so many bytes.
fn find(collection: &str, database: &str, padding: usize) -> Document {
    doc! { "find": collection, "filter": { "text": "y".repeat(padding) }, "$db": database }
}

/// A document's bytes, with fields that it has already.
fn with(document: &Document, more: &[Document]) -> Vec<u8> {
    let mut inside = document.to_vec().unwrap();
    inside.pop();
    for one in more {
        let one = one.to_vec().unwrap();
        inside.extend(&one[4..one.len() - 1]);
    }
    inside.push(0);
    let len = (inside.len() as u32).to_le_bytes();
    inside[..4].copy_from_slice(&len);
    inside
}

/// A message of one section with these bytes.
fn message_of(id: i32, document: &[u8]) -> Vec<u8> {
    op_msg_of(id, 0, 0, &[[&[0], document].concat()])
}

#[test]
fn a_long_request_is_judged_by_the_database_that_it_names_last() {
    for matching in ["{ resource: 'audit.*' }", "{ database: audit }", "{ resource: '*.events' }"] {
        let mut guarded = denies(matching);
        for padding in [10, 60_000, 70_000, 300_000, 5 * MIB] {
            guarded.refuses(&op_msg(1, &find("events", "audit", padding)));
            guarded.passes(&op_msg(2, &find("orders", "shop", padding)));
            for how in Compressor::ALL {
                guarded.refuses(&compressed(&op_msg(3, &find("events", "audit", padding)), how));
                guarded.passes(&compressed(&op_msg(4, &find("orders", "shop", padding)), how));
            }
        }
        guarded.leaks_nothing();
        let lines = guarded.tollgate.logged(40, |line| line["operation"] == "find");
        let named = |line: &Value| {
            // The database does not matter where any will do.
            let any = matching.contains("*.") && line["resource"] == "?.events";
            any || ["shop.orders", "audit.events"].iter().any(|known| line["resource"] == *known)
        };
        assert!(lines.iter().all(named), "{matching}: {lines:?}");
    }
}

#[test]
fn a_long_request_is_learned_as_it_passes_where_nothing_turns_on_it() {
    let mut guarded =
        guarded_with("", "  - { name: other, match: { operation: drop }, deny: {} }\n");
    let rows: Vec<_> = (0..100).map(|i| doc! { "_id": i, "text": "y".repeat(2000) }).collect();
    let insert =
        doc! { "insert": "orders", "documents": rows.clone(), "comment": "why", "$db": "shop" };
    let apart = [sequence("documents", &rows), body(&doc! { "insert": "orders", "$db": "shop" })];
    guarded.passes(&op_msg(1, &insert));
    guarded.passes(&compressed(&op_msg(2, &insert), Compressor::Snappy));
    guarded.passes(&op_msg(3, &find("orders", "shop", 100_000)));
    guarded.refuses(&op_msg_of(
        4,
        0,
        0,
        &[apart[0].clone(), body(&doc! { "drop": "c", "$db": "d" })],
    ));
    guarded.passes(&op_msg_of(5, 0, 0, &apart));
    let lines = guarded.tollgate.logged(5, |line| line["operation"] != "hello");
    let told: Vec<_> = lines
        .iter()
        .map(|line| ["operation", "resource", "documents", "comment"].map(|key| line[key].clone()))
        .collect();
    let row = |name: &str, resource: &str, documents: i32, comment: Option<&str>| -> [Value; 4] {
        [name.into(), resource.into(), documents.into(), comment.into()]
    };
    assert_eq!(told[0], row("insert", "shop.orders", 100, Some("why")));
    assert_eq!(told[1], row("insert", "shop.orders", 100, Some("why")));
    assert_eq!(told[2][..2], row("find", "shop.orders", 0, None)[..2]);
    assert_eq!(told[3][..2], row("drop", "d.c", 0, None)[..2]);
    assert_eq!(told[4][..3], row("insert", "shop.orders", 100, None)[..3]);
    let labels = [("operation", "insert"), ("resource", "shop.orders"), ("outcome", "ok")];
    guarded.tollgate.metric_becomes("tollgate_operations_total", &labels, 3.0);
}

#[test]
fn a_sequence_before_the_body_hides_no_command() {
    let mut guarded = denies("{ operation: drop }");
    for padding in [10, 70_000, 200_000] {
        for name in ["documents", "zzz"] {
            let rows = sequence(name, &[doc! { "x": "y".repeat(padding) }]);
            let drop = body(&doc! { "drop": "victim", "$db": "shop" });
            guarded.refuses(&op_msg_of(1, 0, 0, &[rows.clone(), drop.clone()]));
            guarded.refuses(&op_msg_of(2, 0, 0, &[drop, rows.clone()]));
            let insert = body(&doc! { "insert": "orders", "$db": "shop" });
            guarded.passes(&op_msg_of(3, 0, 0, &[rows, insert]));
        }
    }
    guarded.leaks_nothing();
}

#[test]
fn a_comment_behind_a_long_filter_is_read_where_a_policy_goes_by_it() {
    for matching in ["{ comment: 'bad*' }", "{ callsite: 'bad*' }", "{ not: { comment: 'good*' } }"]
    {
        let mut guarded = denies(matching);
        for padding in [10, 100_000] {
            let find = |comment: &str| {
                let filter = doc! { "text": "y".repeat(padding) };
                op_msg(1, &doc! { "find": "c", "filter": filter, "comment": comment, "$db": "d" })
            };
            guarded.refuses(&find("bad one"));
            guarded.passes(&find("good one"));
        }
    }
}

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
    // What nobody knows may be about anything.
    guarded.refuses(&op_msg(2, &doc! { "inventedByAClient": "audit.events", "$db": "admin" }));
    guarded.passes(&op_msg(3, &doc! { "inventedByAClient": 1, "$db": "admin" }));
    let (code, why) = guarded.code(&op_msg(4, &doc! { "find": uuid, "$db": "audit" }));
    assert_eq!((code, why.contains("(its `resource` can't be told)")), (13, false), "{why}");
    let mut guarded = denies("{ resource: audit.events }");
    let (_, why) = guarded.code(&op_msg(4, &doc! { "find": 7, "$db": "audit" }));
    assert!(why.contains("(its `resource` can't be told)"), "{why}");
}

#[test]
fn what_stands_there_twice_gets_past_no_guard() {
    let find = doc! { "find": "orders", "$db": "shop" };
    let bulk = doc! { "bulkWrite": 1, "ops": [], "$db": "admin" };
    let namespaces = |name: &str| sequence("nsInfo", &[doc! { "ns": name }]);
    let two =
        [&b"nsInfo\0"[..], &with(&doc! { "ns": "shop.orders" }, &[doc! { "ns": "audit.events" }])]
            .concat();
    let two = [&[1], &(two.len() as u32 + 4).to_le_bytes()[..], &two].concat();
    for matching in ["{ resource: audit.events }", "{ collection: events }", "{ database: audit }"]
    {
        let mut guarded = denies(matching);
        guarded.refuses(&message_of(1, &with(&find, &[doc! { "find": "events" }])));
        guarded.refuses(&message_of(2, &with(&find, &[doc! { "$db": "audit" }])));
        guarded.refuses(&op_msg_of(
            3,
            0,
            0,
            &[body(&bulk), namespaces("shop.orders"), namespaces("audit.events")],
        ));
        guarded.refuses(&op_msg_of(4, 0, 0, &[body(&bulk), two.clone()]));
        guarded.passes(&op_msg_of(5, 0, 0, &[body(&bulk), namespaces("shop.orders")]));
        guarded.leaks_nothing();
    }
}

#[test]
fn what_stands_there_twice_far_apart_never_reaches_the_server_whole() {
    for matching in ["{ resource: audit.events }", "{ database: audit }", "{ operation: drop }"] {
        let find = find("orders", "shop", 200_000);
        let early = doc! { "find": "orders", "$db": "shop", "filter": "y".repeat(200_000) };
        for bytes in [
            message_of(1, &with(&early, &[doc! { "$db": "audit" }])),
            message_of(2, &with(&early, &[doc! { "find": "events" }])),
            op_msg_of(3, 0, 0, &[body(&find), body(&doc! { "drop": "events", "$db": "audit" })]),
        ] {
            for bytes in [bytes.clone(), compressed(&bytes, Compressor::Zlib)] {
                let mut guarded = denies(matching);
                guarded.client.try_send(&bytes);
                let said = guarded.client.read_until_close_or_reply();
                let refused = |reply: Document| reply.get_i32("code").unwrap() == 13;
                assert!(said.is_none_or(refused), "{matching}");
                guarded.server.wait("the close", |all| {
                    all.iter().all(|one| one.closed || one.bytes.len() <= guarded.seen)
                });
                let got = guarded.server.received().remove(0).bytes.len() - guarded.seen;
                assert!(got < bytes.len(), "{got} of {} bytes", bytes.len());
            }
        }
    }
    let labels = [("listener", "db"), ("kind", "duplicate_field")];
    let mut guarded = denies("{ resource: audit.events }");
    let early = doc! { "find": "orders", "$db": "shop", "filter": "y".repeat(200_000) };
    guarded.client.try_send(&message_of(1, &with(&early, &[doc! { "$db": "audit" }])));
    guarded.tollgate.metric_becomes("tollgate_violations_total", &labels, 1.0);
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
    let reply = guarded.client.ask(&wire::op_query(4, "shop.c", &doc! { "a": 1 }));
    assert_eq!((reply.answers(), reply.opcode()), (4, wire::OP_REPLY));
    assert!(reply.document().contains_key("$err"), "{reply:?}");
    guarded.leaks_nothing();
}

fn payload(user: &str) -> Bson {
    let bytes = format!("n,,n={user},r=nonce").into_bytes();
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

fn start(user: &str) -> Document {
    doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(user) }
}

/// A server that logs everybody in at once.
fn trusting() -> Scripted {
    Scripted::answering(|asked| {
        let document = asked.document();
        let done = document.contains_key("saslStart");
        reply_to(asked, &doc! { "done": done, "conversationId": 1, "ok": 1.0 })
    })
}

#[test]
fn a_user_is_who_the_server_logged_in_and_of_which_database() {
    let server = trusting();
    let policies =
        "  - { name: exempt, match: { operation: count, not: { user: root@admin } }, deny: {} }\n";
    let config = format!("{}policies:\n{policies}", mongo_config(server.address(), ""));
    let tollgate = Tollgate::start(&config);
    let log_in = |start: &[u8]| {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.ask(start);
        let reply = client.ask(&op_msg(2, &doc! { "count": "c", "$db": "shop" })).document();
        (reply.get_i32("code").unwrap_or(0), reply.get_str("errmsg").unwrap_or_default().to_owned())
    };
    let of = |document: &Document, database: &str| {
        let mut document = document.clone();
        document.insert("$db", database);
        op_msg(1, &document)
    };
    assert_eq!(log_in(&of(&start("root"), "admin")).0, 0);
    assert_eq!(log_in(&of(&start("mallory"), "admin")).0, 13);
    assert_eq!(log_in(&of(&start("root"), "tenant7")).0, 13);
    // A log-in beside a log-in is nobody's.
    let mut beside = start("mallory");
    beside.insert("speculativeAuthenticate", start("root"));
    assert_eq!(log_in(&of(&beside, "admin")).0, 13);
    let twice = with(&start("root"), &[doc! { "payload": payload("mallory"), "$db": "admin" }]);
    assert_eq!(log_in(&message_of(1, &twice)).0, 13);
    // One that can't be read makes the user unknown, which is said.
    let kerberos = doc! { "saslStart": 1, "mechanism": "GSSAPI", "payload": payload("root") };
    let (code, why) = log_in(&of(&kerberos, "$external"));
    assert!(code == 13 && why.contains("(its `user` can't be told)"), "{why}");
    let lines = tollgate.logged(1, |line| line["operation"] == "count" && line["outcome"] == "ok");
    assert_eq!(lines[0]["user"], "root@admin");
}

#[test]
fn compression_that_nobody_offered_is_not_read_and_gets_past_no_guard() {
    let server = Scripted::agreeing();
    let policies = "  - { name: closed, match: { resource: 'audit.*' }, deny: {} }\n";
    let config = format!("{}policies:\n{policies}", mongo_config(server.address(), ""));
    let tollgate = Tollgate::start(&config);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let message = compressed(&op_msg(1, &find("orders", "shop", 10)), Compressor::Zstd);
    assert_eq!(client.ask(&message).document().get_i32("code").unwrap(), 13);
    let labels = [("listener", "db"), ("kind", "compression_not_negotiated")];
    tollgate.metric_becomes("tollgate_violations_total", &labels, 1.0);
}

#[test]
fn a_request_is_let_go_as_soon_as_what_matters_is_known() {
    let mut guarded = denies("{ resource: 'audit.*' }");
    let padding = "y".repeat(300_000);
    let long = doc! { "insert": "orders", "a": &padding, "$db": "shop", "b": "z".repeat(8 * MIB) };
    let bytes = op_msg(1, &long);
    let (front, rest) = bytes.split_at(MIB);
    guarded.client.send(&front[..200_000]);
    guarded.client.send(&front[200_000..]);
    let seen = guarded.seen;
    guarded.server.wait("the front", |all| all[0].bytes.len() >= seen + 300_000);
    guarded.client.send(rest);
    assert_eq!(guarded.client.read().answers(), 1);
}

#[test]
fn what_is_held_is_bounded_for_each_listener_and_said_in_words() {
    let policies = "  - { name: closed, match: { resource: 'audit.*' }, deny: {} }\n  \
                    - { name: dry, match: { comment: x }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("max_held_bytes: 1MiB", policies);
    guarded.passes(&op_msg(1, &find("orders", "shop", 600_000)));
    let (code, why) = guarded.code(&op_msg(2, &find("orders", "shop", 3 * MIB)));
    assert!(code == 13 && why.contains("can't be told"), "{why}");
    let labels = [("listener", "db")];
    guarded.tollgate.metric_becomes("tollgate_requests_not_held_total", &labels, 1.0);
    assert!(guarded.tollgate.stderr().contains("raise max_held_bytes"));
    // What was held is given back.
    guarded.passes(&op_msg(3, &find("orders", "shop", 600_000)));
    guarded.leaks_nothing();
    // Where it is only counted nobody is refused for want of room.
    let policies = "  - { name: dry, match: { comment: x }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("max_held_bytes: 1MiB", policies);
    guarded.passes(&op_msg(1, &find("orders", "shop", 3 * MIB)));
}

#[test]
fn a_48_mb_insert_is_not_held_where_nothing_turns_on_it() {
    let mut guarded =
        guarded_with("", "  - { name: other, match: { operation: drop }, deny: {} }\n");
    let rows: Vec<_> = (0..450).map(|i| doc! { "_id": i, "text": "y".repeat(100_000) }).collect();
    let bytes = op_msg(1, &doc! { "insert": "orders", "documents": rows, "$db": "shop" });
    assert!(bytes.len() > 45_000_000 && bytes.len() < wire::LONGEST);
    let before = guarded.tollgate.peak_memory();
    guarded.passes(&bytes);
    let taken = guarded.tollgate.peak_memory() - before;
    assert!(taken < 16 << 20, "{taken} bytes");
    let line = guarded.tollgate.logged(1, |line| line["operation"] == "insert").remove(0);
    assert_eq!((&line["resource"], &line["documents"]), (&"shop.orders".into(), &450.into()));
}

#[test]
fn read_only_reads_a_long_pipeline_to_its_end() {
    let mut guarded = guarded_with("", "  - { name: ro, read_only: true }\n");
    let ids: Vec<_> = (0..6000).map(Bson::Int64).collect();
    let stages = |last: Document| {
        let first = doc! { "$match": { "_id": { "$in": ids.clone() } } };
        doc! { "aggregate": "orders", "pipeline": [first, last], "cursor": {}, "$db": "shop" }
    };
    guarded.passes(&op_msg(1, &stages(doc! { "$group": { "_id": 1, "n": { "$sum": 1 } } })));
    guarded.refuses(&op_msg(2, &stages(doc! { "$out": "copy" })));
    for how in Compressor::ALL {
        guarded.passes(&compressed(&op_msg(3, &stages(doc! { "$count": "n" })), how));
        guarded.refuses(&compressed(&op_msg(4, &stages(doc! { "$merge": "copy" })), how));
    }
    guarded.leaks_nothing();
}

#[test]
fn decoders_that_wait_for_more_are_bounded_before_anybody_logs_in() {
    // Where a policy guards, who can't be read for want of room is closed.
    let dry = "  - { name: dry, match: { operation: drop }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("", dry);
    let before = guarded.tollgate.peak_memory();
    let long = op_msg(
        1,
        &doc! { "insert": "c", "documents": [{ "x": "\0".repeat(40_000_000) }], "$db": "d" },
    );
    // A window as large as it may be, and a frame behind it that only says how long it is: the
    // decoder waits for the rest of that.
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    zstd.set_parameter(zstd::zstd_safe::CParameter::WindowLog(23)).unwrap();
    zstd.write_all(&long[16..]).unwrap();
    let mut packed = zstd.finish().unwrap();
    packed.extend(0x184D_2A50_u32.to_le_bytes());
    packed.extend(250_000_u32.to_le_bytes());
    let size = (long.len() as u32 - 16).to_le_bytes();
    let inside = [&wire::OP_MSG.to_le_bytes()[..], &size, &[3], &packed].concat();
    let mut message = wire::message(1, 0, wire::OP_COMPRESSED, &inside);
    let claimed = (message.len() as i32 + 250_000).to_le_bytes();
    message[..4].copy_from_slice(&claimed);
    message.resize(100_000, 0);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let (mut client, _) = RawClient::offering(guarded.tollgate.listener("db"));
        client.send(&message);
        waiting.push(client);
    }
    let labels = [("listener", "db")];
    guarded.tollgate.metric_becomes("tollgate_operations_active", &labels, 40.0);
    let taken = guarded.tollgate.peak_memory() - before;
    assert!(taken < 130 << 20, "{taken} bytes for 40 decoders");
    guarded.passes(&op_msg(9, &doc! { "ping": 1, "$db": "admin" }));
}
