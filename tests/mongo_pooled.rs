//! Clients whose operations share connections to a MongoDB server: what they see, and what the server
//! gets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Document, doc, oid::ObjectId, spec::BinarySubtype};
use std::{
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    eventually,
    scripted::{Received, Scripted, batch, hello, reply_to},
    tollgate::{Tollgate, mongo_config, output_of},
    wire::{self, MORE_TO_COME, Message, op_msg, op_query},
};

/// A server that answers `hello` as a primary does, and other commands with the number of the request.
/// It does not answer `sleep`.
fn server() -> Scripted {
    Scripted::answering(|message| {
        let command = message.document();
        match command.keys().next().map(String::as_str) {
            Some("hello" | "isMaster") => reply_to(message, &hello("db.example:27017")),
            Some("sleep") => Vec::new(),
            Some("aggregate") => reply_to(message, &batch(true, 7, "shop.orders", &[])),
            _ => reply_to(message, &doc! { "n": message.id(), "ok": 1.0 }),
        }
    })
}

/// A proxy with one worker whose clients share at most `size` connections.
fn pooled(server: &Scripted, size: usize, settings: &str, pool: &str) -> Tollgate {
    let config = mongo_config(server.address(), "")
        .replace("protocol: mongo", &format!("protocol: {{ mongo: {{ {settings} }} }}"))
        .replace("] }", &format!("], pool: {{ max_pool_size: {size}, {pool} }} }}"));
    Tollgate::start(&format!("workers: 1\n{config}"))
}

/// The commands that reached the server, without those of the proxy itself.
fn commands(received: &[Received]) -> Vec<Document> {
    let documents = received.iter().flat_map(Received::messages).map(|it| it.document());
    documents.filter(|it| !it.contains_key("client")).collect()
}

fn ping(client: &mut RawClient, id: i32) -> Document {
    client.command(id, &doc! { "ping": 1, "$db": "admin" })
}

#[test]
fn a_hundred_clients_share_four_connections() {
    let server = server();
    let tollgate = pooled(&server, 4, "", "");
    let mut clients: Vec<_> =
        (0..100).map(|_| RawClient::connect(tollgate.listener("db"))).collect();
    for (id, client) in (1..).zip(&mut clients) {
        client.send(&op_msg(id, &doc! { "ping": 1, "$db": "admin" }));
    }
    for (id, client) in (1..).zip(&mut clients) {
        let reply = client.read();
        assert_eq!((reply.answers(), reply.document().get_i32("n").unwrap()), (id, id));
    }
    assert!(server.received().len() <= 4, "{} connections", server.received().len());
    let report = &tollgate.json("/pools")[0];
    assert_eq!((&report["cluster"], &report["max_pool_size"]), (&"db".into(), &4.into()));
    let endpoint = &report["endpoints"][0];
    assert_eq!(endpoint["idle"], server.received().len());
    assert_eq!((&endpoint["active"], &endpoint["waiting"]), (&0.into(), &0.into()));
    let line = &tollgate.logged(100, |line| line["operation"] == "ping")[99];
    assert_eq!(line["endpoint"], server.address().to_string());
    assert!(line["pool_wait_ms"].is_number(), "{line}");
}

#[test]
fn hello_is_answered_without_the_server() {
    let server = server();
    let tollgate = pooled(&server, 4, "", "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let before = client.command(1, &doc! { "hello": 1, "$db": "admin" });
    assert_eq!(before.get_str("msg").unwrap(), "isdbgrid");
    assert_eq!(before.get_i32("maxWireVersion").unwrap(), 27);
    assert!(before.get_bool("isWritablePrimary").unwrap());
    assert!(!before.contains_key("setName") && !before.contains_key("hosts"));
    for id in 2..10 {
        client.command(id, &doc! { "hello": 1, "$db": "admin" });
    }
    let old = client.round_trip(&op_query(20, "admin.$cmd", &doc! { "isMaster": 1 }));
    assert_eq!((old.opcode(), old.answers()), (wire::OP_REPLY, 20));
    assert!(old.document().get_bool("ismaster").unwrap());
    assert!(commands(&server.received()).is_empty(), "the server got only the proxy's own hello");
    let line = &tollgate.logged(10, |line| line["answered"] == "proxy")[9];
    assert!(line["endpoint"].is_null(), "{line}");
}

#[test]
fn clients_see_the_server_as_the_config_says() {
    let server = server();
    let ask = |settings: &str, command: Document| {
        let tollgate = pooled(&server, 1, settings, "");
        let mut client = RawClient::connect(tollgate.listener("db"));
        (client.command(1, &command), tollgate.listener("db").to_string())
    };
    let modern = doc! { "hello": 1, "$db": "admin" };
    let (seen, address) = ask("present_as: primary", modern.clone());
    assert_eq!(seen.get_str("setName").unwrap(), "rs");
    assert_eq!(seen.get_array("hosts").unwrap(), &[address.as_str().into()]);
    assert_eq!(
        (seen.get_str("me").unwrap(), seen.get_str("primary").unwrap()),
        (&*address, &*address)
    );
    assert!(!seen.contains_key("msg") && !seen.contains_key("serviceId"));
    let (seen, _) = ask("present_as: primary, advertise: 'db.example:1'", modern);
    assert_eq!(seen.get_array("hosts").unwrap(), &["db.example:1".into()]);
    let (seen, _) = ask("", doc! { "hello": 1, "loadBalanced": true, "$db": "admin" });
    assert!(seen.get_object_id("serviceId").is_ok() && seen.get_str("msg").unwrap() == "isdbgrid");
    assert!(!seen.contains_key("topologyVersion"), "no monitor watches a load balancer");
}

#[test]
fn a_standalone_server_is_shown_as_one() {
    let server = Scripted::answering(|message| {
        let mut hello = hello("db.example:27017");
        for key in ["setName", "hosts", "me", "primary", "setVersion"] {
            hello.remove(key);
        }
        reply_to(message, &hello)
    });
    let tollgate = pooled(&server, 1, "", "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let seen = client.command(1, &doc! { "hello": 1, "$db": "admin" });
    assert!(!seen.contains_key("msg") && !seen.contains_key("setName"), "{seen}");
}

#[test]
fn a_client_that_knows_the_state_waits_for_news() {
    let server = server();
    let tollgate = pooled(&server, 1, "", "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let hello = doc! { "hello": 1, "$db": "admin" };
    let version = client.command(1, &hello).get_document("topologyVersion").unwrap().clone();
    let wait = |version: &Document| {
        doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 200, "$db": "admin" }
    };
    let began = Instant::now();
    client.command(2, &wait(&version));
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    let mut other = version.clone();
    other.insert("processId", ObjectId::new());
    let long = doc! {
        "hello": 1, "topologyVersion": other, "maxAwaitTimeMS": 3_600_000, "$db": "admin",
    };
    client.command(3, &long);
    // A client that leaves while it waits leaves at once.
    let mut an_hour = wait(&version);
    an_hour.insert("maxAwaitTimeMS", 3_600_000);
    client.send(&op_msg(4, &an_hour));
    client.finish();
    assert_eq!(client.try_read(), None);
}

#[test]
fn states_are_streamed_to_clients_that_ask_for_it() {
    let server = server();
    let tollgate = pooled(&server, 1, "", "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    let version = client.command(1, &doc! { "hello": 1, "$db": "admin" });
    let version = version.get_document("topologyVersion").unwrap().clone();
    let ask = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 50, "$db": "admin" };
    let sections = [wire::body(&ask)];
    client.send(&wire::op_msg_of(2, 0, wire::EXHAUST_ALLOWED, &sections));
    let mut answers = 2;
    for _ in 0..3 {
        let reply = client.read();
        assert_eq!((reply.answers(), reply.flags()), (answers, MORE_TO_COME));
        answers = reply.id();
    }
}

#[test]
fn a_client_that_logs_in_gets_a_connection_of_its_own() {
    let server = Scripted::answering(|message| {
        let command = message.document();
        let payload = bson::Binary { subtype: BinarySubtype::Generic, bytes: b"r=1".to_vec() };
        let step = doc! { "conversationId": 1, "done": false, "payload": payload };
        match command.keys().next().map(String::as_str) {
            Some("hello") if command.contains_key("speculativeAuthenticate") => {
                let login = doc! { "speculativeAuthenticate": step };
                reply_to(message, &Document::from_iter(hello("db:1").into_iter().chain(login)))
            }
            Some("hello") => reply_to(message, &hello("db.example:27017")),
            Some("saslContinue") => {
                reply_to(message, &doc! { "conversationId": 1, "done": true, "ok": 1.0 })
            }
            _ => reply_to(message, &doc! { "ok": 1.0 }),
        }
    });
    let tollgate = pooled(&server, 1, "", "");
    let mut user = RawClient::connect(tollgate.listener("db"));
    let login = doc! {
        "hello": 1,
        "client": { "driver": { "name": "test", "version": "1" } },
        "compression": ["zlib"],
        "speculativeAuthenticate": { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "db": "admin" },
        "$db": "admin",
    };
    let seen = user.command(1, &login);
    assert_eq!(seen.get_str("msg").unwrap(), "isdbgrid", "the rest of it is the proxy's");
    assert!(seen.get_document("speculativeAuthenticate").is_ok());
    let forwarded = &commands(&server.received())[0];
    assert!(!forwarded.contains_key("client") && !forwarded.contains_key("compression"));
    user.command(2, &doc! { "saslContinue": 1, "conversationId": 1, "$db": "admin" });
    let mut other = RawClient::connect(tollgate.listener("db"));
    ping(&mut other, 3);
    ping(&mut user, 4);
    let received = server.received();
    let names = |at: usize| -> Vec<String> {
        let commands = commands(&received[at..=at]);
        commands.iter().filter_map(|it| it.keys().next().cloned()).collect()
    };
    assert_eq!(names(0), ["hello", "saslContinue", "ping"], "the user's own");
    assert_eq!(names(1), ["ping"], "there is room for another");
    assert!(tollgate.stderr().contains("clients log in"), "{}", tollgate.stderr());
}

#[test]
fn an_operation_that_finds_no_connection_may_be_retried() {
    let server = server();
    let tollgate = pooled(&server, 1, "", "wait_queue_timeout: 500ms");
    let mut busy = RawClient::connect(tollgate.listener("db"));
    busy.send(&op_msg(1, &doc! { "sleep": 1, "$db": "admin" }));
    server.wait("the command", |all| !commands(all).is_empty());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let error = ping(&mut client, 2);
    assert_eq!(error.get_i32("code").unwrap(), 462);
    let labels = error.get_array("errorLabels").unwrap();
    assert!(labels.contains(&"RetryableError".into()), "{labels:?}");
    let text = error.get_str("errmsg").unwrap();
    assert!(text.contains("pool.max_pool_size"), "{text}");
    let labels = [("cluster", "db"), ("reason", "timeout")];
    tollgate.wait_for_metric("tollgate_pool_refusals_total", &labels, 1.0);
    drop(busy);
    let served = |id: i32| ping(&mut client, id).get_i32("n").ok();
    let mut ids = (3..).map(served);
    eventually("the connection of the client that left is replaced", || ids.next().flatten());
}

#[test]
fn change_streams_leave_connections_to_other_operations() {
    let server = Scripted::answering(|message| {
        let command = message.document();
        match command.keys().next().map(String::as_str) {
            Some("hello") => reply_to(message, &hello("db.example:27017")),
            Some("aggregate") => reply_to(message, &batch(true, 7, "shop.orders", &[])),
            // A change stream waits for news.
            Some("getMore") => Vec::new(),
            _ => reply_to(message, &doc! { "n": message.id(), "ok": 1.0 }),
        }
    });
    let tollgate = pooled(&server, 1, "", "");
    let watch = doc! {
        "aggregate": "orders", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "shop",
    };
    let more = doc! { "getMore": 7_i64, "collection": "orders", "maxTimeMS": 1_000, "$db": "shop" };
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.command(1, &watch);
        client.send(&op_msg(2, &more));
        streams.push(client);
    }
    let waits = |all: &[Received]| {
        commands(all).iter().filter(|it| it.contains_key("getMore")).count() == 3
    };
    server.wait("three change streams", waits);
    let mut other = RawClient::connect(tollgate.listener("db"));
    assert_eq!(ping(&mut other, 5).get_i32("n").unwrap(), 5);
    assert_eq!(tollgate.json("/pools")[0]["endpoints"][0]["awaiting"], 3);
}

#[test]
fn a_connection_that_the_server_has_closed_is_not_used() {
    let server = Scripted::start(|peer| {
        // Two commands a connection: the proxy's hello, and one more.
        for _ in 0..2 {
            let Some(message) = peer.message() else { return };
            let reply = match message.document().contains_key("hello") {
                true => hello("db.example:27017"),
                false => doc! { "n": message.id(), "ok": 1.0 },
            };
            peer.send(&reply_to(&message, &reply));
        }
    });
    let tollgate = pooled(&server, 1, "", "");
    let mut client = RawClient::connect(tollgate.listener("db"));
    for id in 1..4 {
        assert_eq!(ping(&mut client, id).get_i32("n").unwrap(), id);
        // The server has closed it now, and the proxy has had time to see it.
        let none = || {
            let endpoint = &tollgate.json("/pools")[0]["endpoints"][0];
            endpoint["idle"] == 0 && endpoint["active"] == 0
        };
        eventually("the connection is closed", || none().then_some(()));
    }
}

#[test]
fn an_unacknowledged_write_frees_its_connection() {
    let server = server();
    let tollgate = pooled(&server, 1, "", "");
    let mut writer = RawClient::connect(tollgate.listener("db"));
    let insert = doc! {
        "insert": "orders", "documents": [{ "_id": 1 }], "writeConcern": { "w": 0 }, "$db": "shop",
    };
    let sections = [wire::body(&insert)];
    writer.send(&wire::op_msg_of(1, 0, MORE_TO_COME, &sections));
    server.wait("the write", |all| !commands(all).is_empty());
    let mut other = RawClient::connect(tollgate.listener("db"));
    assert_eq!(ping(&mut other, 2).get_i32("n").unwrap(), 2);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_reply_to_no_request_reaches_no_client() {
    let server = Scripted::answering(|message| {
        let command = message.document();
        if command.contains_key("hello") {
            return reply_to(message, &hello("db.example:27017"));
        }
        let reply = |id| wire::op_msg_reply(900, id, &doc! { "n": id, "ok": 1.0 });
        match command.get_str("comment") {
            Ok("wrong id") => reply(message.id() + 1),
            Ok("twice") => [reply(message.id()), reply(message.id())].concat(),
            _ => reply(message.id()),
        }
    });
    let tollgate = pooled(&server, 1, "", "");
    let ask = |comment: &str| {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.send(&op_msg(7, &doc! { "ping": 1, "comment": comment, "$db": "admin" }));
        client.try_read().map(|reply: Message| reply.answers())
    };
    assert_eq!(ask("wrong id"), None, "it could be another client's");
    assert_eq!(ask("twice"), Some(7));
    for _ in 0..3 {
        assert_eq!(ask("right"), Some(7));
    }
    let labels = [("listener", "db"), ("kind", "unexpected_reply")];
    assert!(tollgate.metric("tollgate_violations_total", &labels) >= 1.0);
}

#[test]
fn settings_that_no_pool_can_have_are_refused() {
    let check = |listener: &str, cluster: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.yaml");
        let config = format!(
            "listeners:\n  db: {{ address: \"127.0.0.1:27017\", cluster: db, {listener} }}\n\
             clusters:\n  db: {{ endpoints: [\"127.0.0.1:27018\"], {cluster} }}\n"
        );
        std::fs::write(&file, config).unwrap();
        let output = output_of(&["check", "-c", &file.display().to_string()]);
        (output.code == Some(0), format!("{}{}", output.out, output.err))
    };
    let mongo = |settings: &str| format!("protocol: {{ mongo: {{ {settings} }} }}");
    for (listener, cluster, words) in [
        (mongo("present_as: member"), "pool: {}", "can't take the proxy for one member"),
        (mongo("rewrite_hello: false"), "pool: {}", "the proxy itself answers `hello`"),
        (mongo("members: { 'a:1': 'b:1' }"), "pool: {}", "clients see one server"),
        (mongo("present_as: router"), "", "needs a cluster with a `pool`"),
        ("protocol: tcp".to_owned(), "pool: {}", "`tcp` has no operations that could share"),
        ("protocol: http".to_owned(), "pool: {}", "share connections without a `pool`"),
        (mongo(""), "pool: { min_pool_size: 5, max_pool_size: 4 }", "there are at most 4"),
        (mongo(""), "pool: {}, spare_connections: 2", "opened in advance by `min_pool_size`"),
        (mongo(""), "pool: {}, proxy_protocol: v2", "a PROXY header names one"),
    ] {
        let (good, text) = check(&listener, cluster);
        assert!(!good && text.contains(words), "{listener} {cluster}: {text}");
    }
    assert!(check(&mongo("present_as: primary"), "pool: { max_pool_size: 4 }").0);
}

#[test]
fn a_reply_after_the_time_limit_reaches_no_client() {
    let server = Scripted::start(|peer| {
        while let Some(message) = peer.message() {
            let command = message.document();
            if command.contains_key("hello") {
                peer.send(&reply_to(&message, &hello("db.example:27017")));
                continue;
            }
            if command.get_str("comment").is_ok_and(|it| it == "slow") {
                // The proxy closes the connection when it gives the operation up.
                peer.silence();
            }
            peer.send(&reply_to(&message, &doc! { "n": message.id(), "ok": 1.0 }));
        }
    });
    let config =
        mongo_config(server.address(), "").replace("] }", "], pool: { max_pool_size: 1 } }");
    let tollgate = Tollgate::start(&format!(
        "workers: 1\n{config}policies: [{{ name: soon, match: {{ operation: ping }}, \
         time_limit: {{ timeout: 50ms }} }}]\n"
    ));
    let mut client = RawClient::connect(tollgate.listener("db"));
    let error = client.command(7, &doc! { "ping": 1, "comment": "slow", "$db": "admin" });
    assert_eq!(error.get_i32("code").unwrap(), 50, "{error}");
    for id in 8..12 {
        assert_eq!(ping(&mut client, id).get_i32("n").unwrap(), id);
    }
}

/// A client of this application.
fn client_of(tollgate: &Tollgate, app: &str) -> RawClient {
    let mut client = RawClient::connect(tollgate.listener("db"));
    let metadata = doc! {
        "application": { "name": app },
        "driver": { "name": "test", "version": "1" },
        "os": { "type": "test" },
    };
    client.command(1, &doc! { "hello": 1, "client": metadata, "$db": "admin" });
    client
}

#[test]
fn applications_take_turns_for_a_connection() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let server = Scripted::answering(move |message| {
        let command = message.document();
        match command.keys().next().map(String::as_str) {
            Some("hello") => return reply_to(message, &hello("db.example:27017")),
            Some("block") => blocked.lock().unwrap().recv().unwrap(),
            _ => {}
        }
        reply_to(message, &doc! { "n": message.id(), "ok": 1.0 })
    });
    let tollgate = pooled(&server, 1, "", "fair_by: app");
    let mut first = client_of(&tollgate, "a");
    first.send(&op_msg(2, &doc! { "block": 1, "$db": "admin" }));
    let waiting = |count: usize| {
        eventually("operations to wait", || {
            let waiting = &tollgate.json("/pools")[0]["endpoints"][0]["waiting"];
            (*waiting == count).then_some(())
        });
    };
    let many: Vec<_> = (0..100).map(|_| client_of(&tollgate, "a")).collect();
    let few: Vec<_> = (0..10).map(|_| client_of(&tollgate, "b")).collect();
    for (number, mut client) in (100..).zip(many.iter().chain(&few).map(RawClient::try_clone)) {
        client.send(&op_msg(number, &doc! { "ping": 1, "$db": "admin" }));
        waiting((number - 99) as usize);
    }
    release.send(()).unwrap();
    waiting(0);
    let served = || -> Vec<i32> {
        let received = server.received();
        let messages = received.iter().flat_map(Received::messages);
        messages.filter(|it| it.document().contains_key("ping")).map(|it| it.id()).collect()
    };
    let order = eventually("all to be served", || Some(served()).filter(|it| it.len() == 110));
    let of_b = order[..20].iter().filter(|number| **number >= 200).count();
    assert_eq!(of_b, 10, "{order:?}");
}

#[test]
fn an_application_may_have_connections_of_its_own() {
    let server = server();
    let tollgate = pooled(&server, 1, "", "by_app: true");
    for round in 0..2 {
        for app in ["shop", "reports"] {
            let mut client = client_of(&tollgate, app);
            assert_eq!(ping(&mut client, 10 + round).get_f64("ok").unwrap(), 1.0);
        }
    }
    let received = server.received();
    let hellos = received.iter().flat_map(Received::messages).map(|it| it.document());
    let mut names: Vec<_> = hellos
        .filter_map(|hello| {
            let application =
                hello.get_document("client").ok()?.get_document("application").ok()?;
            Some(application.get_str("name").unwrap().to_owned())
        })
        .collect();
    names.sort();
    assert_eq!(names, ["reports", "shop"]);
}

#[test]
fn listeners_of_a_cluster_share_its_pool() {
    let server = server();
    let tollgate = Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  routers: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db }}\n  \
         sets: {{ address: \"127.0.0.1:0\", protocol: {{ mongo: {{ present_as: primary }} }}, cluster: db }}\n\
         clusters:\n  db: {{ endpoints: [\"{}\"], pool: {{ max_pool_size: 1 }} }}\n",
        server.address()
    ));
    let [mut one, mut two] =
        ["routers", "sets"].map(|listener| RawClient::connect(tollgate.listener(listener)));
    assert_eq!(ping(&mut one, 1).get_i32("n").unwrap(), 1);
    // What the connection has shown is known to both.
    let hello = two.command(2, &doc! { "hello": 1, "$db": "admin" });
    assert!(hello.contains_key("setName"), "{hello}");
    assert_eq!(ping(&mut two, 3).get_i32("n").unwrap(), 3);
    assert_eq!(server.received().len(), 1);
}
