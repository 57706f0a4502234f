//! A whole replica set behind one listener: members that are found, followed, and chosen for each
//! operation.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::{Binary, Document, doc, spec::BinarySubtype};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    eventually,
    replica_set::{Hold, ReplicaSet},
    secantus::Secantus,
    tollgate::Tollgate,
    wire,
};

/// A proxy before a replica set of which it knows one member.
fn proxy(set: &ReplicaSet, more: &str) -> Tollgate {
    Tollgate::start(&config(&set.address(0).to_string(), more))
}

fn config(seed: &str, more: &str) -> String {
    format!(
        "workers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: rs }}\n\
         clusters:\n  rs:\n    replica_set: {{ name: rs, seeds: [\"{seed}\"] }}\n    \
         pool: {{ max_pool_size: 4 }}\n    failover: {{ hold: 5s }}\n{more}"
    )
}

/// Waits until the proxy knows the roles of this many members.
fn know(tollgate: &Tollgate, members: usize) {
    eventually("the members to be known", || {
        let report = tollgate.json("/clusters");
        let endpoints = report[0]["endpoints"].as_array().unwrap();
        let known = endpoints.iter().filter(|it| it["role"] != "unknown").count();
        (known == members && endpoints.len() == members).then_some(())
    });
}

fn role_of(tollgate: &Tollgate, set: &ReplicaSet, member: usize) -> String {
    let report = tollgate.json("/clusters");
    let endpoints = report[0]["endpoints"].as_array().unwrap();
    let address = set.address(member).to_string();
    let found = endpoints.iter().find(|it| it["address"] == address.as_str());
    found.map_or("gone".to_owned(), |it| it["role"].as_str().unwrap().to_owned())
}

fn find(collection: &str, preference: Document) -> Document {
    let mut command = doc! { "find": collection, "filter": {}, "$db": "test" };
    if !preference.is_empty() {
        command.insert("$readPreference", preference);
    }
    command
}

fn insert(client: &mut RawClient, collection: &str, id: i32) -> Document {
    client.command(id, &doc! { "insert": collection, "documents": [{ "_id": id }], "$db": "test" })
}

/// How many finds each member has got.
fn finds(set: &ReplicaSet) -> Vec<usize> {
    (0..set.addresses().len()).map(|member| set.counters(member).operations("find")).collect()
}

#[test]
fn all_members_are_found_by_asking_one() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    let roles: Vec<_> = (0..3).map(|member| role_of(&tollgate, &set, member)).collect();
    assert_eq!(roles, ["primary", "secondary", "secondary"]);
    let primary = |member| {
        let address = set.address(member).to_string();
        tollgate.metric("tollgate_endpoint_primary", &[("endpoint", &address)])
    };
    assert_eq!([0, 1, 2].map(primary), [1.0, 0.0, 0.0]);
}

#[test]
fn reads_go_where_their_preference_says() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    set.set_tags(2, doc! { "use": "analytics" });
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(insert(&mut client, "preferred", 1).get_i32("n").unwrap(), 1);
    let mut reads = |preference: Document| {
        let before = finds(&set);
        for id in 0..30 {
            let reply = client.command(id, &find("preferred", preference.clone()));
            assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
        }
        let after = finds(&set);
        before.iter().zip(after).map(|(before, after)| after - before).collect::<Vec<_>>()
    };
    assert_eq!(reads(doc! {}), [30, 0, 0]);
    eventually("both secondaries to be near", || {
        let secondary = reads(doc! { "mode": "secondary" });
        assert_eq!(secondary[0], 0);
        (secondary[1] > 3 && secondary[2] > 3).then_some(())
    });
    // The members are equally near as soon as a busy machine has measured that.
    eventually("all members to be near", || {
        reads(doc! { "mode": "nearest" }).iter().all(|count| *count > 0).then_some(())
    });
    let tagged = doc! { "mode": "secondary", "tags": [{ "use": "analytics" }] };
    assert_eq!(reads(tagged), [0, 0, 30]);
}

/// What a client says to open a cursor with many batches.
fn open_cursor(client: &mut RawClient, collection: &str, preference: Document) -> i64 {
    let mut command = find(collection, preference);
    command.insert("batchSize", 1);
    let reply = client.command(100, &command);
    reply.get_document("cursor").unwrap().get_i64("id").unwrap()
}

fn more(client: &mut RawClient, collection: &str, cursor: i64) -> Document {
    let command =
        doc! { "getMore": cursor, "collection": collection, "batchSize": 1, "$db": "test" };
    client.command(101, &command)
}

fn fill(client: &mut RawClient, collection: &str, count: i32) {
    let documents: Vec<_> = (0..count).map(|id| doc! { "_id": id }).collect();
    let reply =
        client.command(1, &doc! { "insert": collection, "documents": documents, "$db": "test" });
    assert_eq!(reply.get_i32("n").unwrap(), count, "{reply}");
}

#[test]
fn a_new_primary_is_known_as_soon_as_it_is_elected() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    let mut client = RawClient::connect(tollgate.listener("db"));
    for (round, primary) in [1, 2, 0, 1].into_iter().enumerate() {
        set.wait("the monitors to wait for news", |all| all.iter().all(|it| it.watching > 0));
        set.step_down(Some(primary));
        let elected = Instant::now();
        eventually("the new primary", || {
            (role_of(&tollgate, &set, primary) == "primary").then_some(())
        });
        let known = elected.elapsed();
        assert!(known < Duration::from_millis(100), "known after {known:?}");
        let reply = insert(&mut client, "elected", round as i32);
        assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
        assert_eq!(set.counters(primary).operations("insert"), 1 + usize::from(round == 3));
    }
}

#[test]
fn operations_wait_while_there_is_no_primary() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let tollgate = proxy(&set, "");
    know(&tollgate, 2);
    set.elect(None);
    eventually("no primary", || (role_of(&tollgate, &set, 0) == "secondary").then_some(()));
    let mut client = RawClient::connect(tollgate.listener("db"));
    let write = doc! { "insert": "held", "documents": [{ "_id": 1 }], "$db": "test" };
    client.send(&wire::op_msg(1, &write));
    let mut reader = RawClient::connect(tollgate.listener("db"));
    let read = find("held", doc! { "mode": "primaryPreferred" });
    assert_eq!(reader.command(2, &read).get_f64("ok").unwrap(), 1.0);
    set.elect(Some(1));
    assert_eq!(client.read().document().get_i32("n").unwrap(), 1);
    let line = &tollgate.logged(1, |line| line["operation"] == "insert")[0];
    assert_eq!(line["endpoint"], set.address(1).to_string());
}

#[test]
fn a_read_that_no_member_fits_is_refused_after_a_wait() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let config = config(&set.address(0).to_string(), "").replace("hold: 5s", "hold: 200ms");
    let tollgate = Tollgate::start(&config);
    know(&tollgate, 2);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let preference = doc! { "mode": "secondary", "tags": [{ "use": "nothing" }] };
    let reply = client.command(1, &find("unfit", preference));
    assert_eq!(reply.get_i32("code").unwrap(), 133, "{reply}");
    let words = reply.get_str("errmsg").unwrap();
    assert!(
        words.starts_with(
            "no member of `rs` fits the read preference secondary with the tags [{use: nothing}]; waited 0."
        ),
        "{words}"
    );
    set.elect(None);
    eventually("no primary", || (role_of(&tollgate, &set, 0) == "secondary").then_some(()));
    let reply = insert(&mut client, "unfit", 1);
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert!(reply.get_str("errmsg").unwrap().starts_with("`rs` has no primary; waited"), "{reply}");
}

#[test]
fn stale_members_serve_no_reads_that_mind() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    set.set_lag(1, Duration::from_secs(300));
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    let mut client = RawClient::connect(tollgate.listener("db"));
    for id in 0..20 {
        let preference = doc! { "mode": "secondary", "maxStalenessSeconds": 100 };
        assert_eq!(client.command(id, &find("stale", preference)).get_f64("ok").unwrap(), 1.0);
    }
    assert_eq!(finds(&set), [0, 0, 20]);
    let report = tollgate.json("/clusters");
    let lags: Vec<_> = report[0]["endpoints"].as_array().unwrap().iter().collect();
    let lag = |member| {
        let address = set.address(member).to_string();
        let found = lags.iter().find(|it| it["address"] == address.as_str()).unwrap();
        found["lag_seconds"].as_f64().unwrap()
    };
    assert!((299.0..302.0).contains(&lag(1)), "{}", lag(1));
    assert!(lag(2) < 2.0, "{}", lag(2));
}

#[test]
fn a_policy_sends_reads_of_an_application_to_secondaries() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    set.set_lag(1, Duration::from_secs(300));
    let policy = "policies:\n  - { name: reports-elsewhere, match: { collection: report* }, \
                  route: { to: secondary, else: primary, max_lag: 90s } }\n";
    let tollgate = proxy(&set, policy);
    know(&tollgate, 3);
    let mut client = RawClient::connect(tollgate.listener("db"));
    insert(&mut client, "reports", 1);
    for id in 0..10 {
        let reply = client.command(id, &find("reports", doc! {}));
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        assert_eq!(batch.len(), 1, "{reply}");
        client.command(id, &find("others", doc! {}));
    }
    // The secondary would have refused a read without a preference.
    assert_eq!(finds(&set), [10, 0, 10]);
    assert_eq!(set.counters(2).refusals(13435), 0);
    set.set_lag(2, Duration::from_secs(300));
    eventually("the lag to be known", || {
        client.command(1, &find("reports", doc! {}));
        (finds(&set)[0] > 10).then_some(())
    });
    let modified =
        tollgate.metric("tollgate_policy_effects_total", &[("policy", "reports-elsewhere")]);
    assert!(modified >= 11.0, "{modified}");
}

#[test]
fn a_cursor_stays_on_its_member() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    let mut client = RawClient::connect(tollgate.listener("db"));
    fill(&mut client, "cursors", 30);
    for _ in 0..5 {
        let cursor = open_cursor(&mut client, "cursors", doc! { "mode": "nearest" });
        for _ in 0..10 {
            assert_eq!(more(&mut client, "cursors", cursor).get_f64("ok").unwrap(), 1.0);
        }
        let kill = doc! { "killCursors": "cursors", "cursors": [cursor], "$db": "test" };
        let reply = client.command(102, &kill);
        assert_eq!(reply.get_array("cursorsKilled").unwrap().len(), 1, "{reply}");
    }
    assert_eq!((0..3).map(|member| set.counters(member).refusals(43)).sum::<usize>(), 0);
}

#[test]
fn a_cursor_that_another_proxy_opened_is_found() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let [first, second] = [proxy(&set, ""), proxy(&set, "")];
    for tollgate in [&first, &second] {
        know(tollgate, 3);
    }
    let mut client = RawClient::connect(first.listener("db"));
    fill(&mut client, "elsewhere", 9);
    let mut other = RawClient::connect(second.listener("db"));
    let cursor = open_cursor(&mut client, "elsewhere", doc! { "mode": "secondary" });
    for _ in 0..5 {
        let reply = more(&mut other, "elsewhere", cursor);
        let batch = reply.get_document("cursor").unwrap().get_array("nextBatch").unwrap();
        assert_eq!(batch.len(), 1, "{reply}");
    }
    // It was looked for once.
    let asked = |members: std::ops::Range<usize>| {
        members.map(|member| set.counters(member).refusals(43)).sum::<usize>()
    };
    assert!((1..=2).contains(&asked(0..3)), "{}", asked(0..3));
    let reply = more(&mut other, "elsewhere", 4242);
    assert_eq!(reply.get_i32("code").unwrap(), 43, "{reply}");
    assert!(asked(0..3) >= 4, "every member was asked: {}", asked(0..3));
}

#[test]
fn members_come_and_go_without_a_lost_operation() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let tollgate = proxy(&set, "");
    know(&tollgate, 2);
    let stop = AtomicBool::new(false);
    let read = || {
        let mut client = RawClient::connect(tollgate.listener("db"));
        let mut count = 0;
        while !stop.load(Relaxed) {
            count += 1;
            let reply = client.command(count, &find("moves", doc! { "mode": "nearest" }));
            assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
        }
        count
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..4).map(|_| threads.spawn(read)).collect();
        let new = set.add_member();
        know(&tollgate, 3);
        set.wait("reads at the new member", |all| all[new].operations("find") > 10);
        set.remove(1);
        know(&tollgate, 2);
        set.hide(new);
        know(&tollgate, 1);
        stop.store(true, Relaxed);
        let counts = readers.into_iter().map(|reader| reader.join().unwrap());
        assert!(counts.sum::<i32>() > 20);
    });
}

#[test]
fn of_two_primaries_the_newer_one_is_used() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 3);
    let tollgate = proxy(&set, "");
    know(&tollgate, 3);
    set.elect(Some(1));
    set.claim_primary(0, 1);
    eventually("the old primary to be known as such", || {
        (role_of(&tollgate, &set, 0) == "unknown" && role_of(&tollgate, &set, 1) == "primary")
            .then_some(())
    });
    let mut client = RawClient::connect(tollgate.listener("db"));
    insert(&mut client, "two", 1);
    assert_eq!(set.counters(0).operations("insert"), 0);
    assert_eq!(set.counters(1).operations("insert"), 1);
}

#[test]
fn clients_hear_of_no_state_change() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let tollgate = proxy(&set, "");
    know(&tollgate, 2);
    set.hold(0, Some(Hold::Before));
    let mut client = RawClient::connect(tollgate.listener("db"));
    let write = doc! { "insert": "changes", "documents": [{ "_id": 1 }], "$db": "test" };
    client.send(&wire::op_msg(1, &write));
    set.wait("the write to be held", |all| all[0].held == 1);
    set.step_down(Some(1));
    let reply = client.read().document();
    assert_eq!(reply.get_i32("code").unwrap(), 6, "{reply}");
    assert_eq!(reply.get_str("codeName").unwrap(), "HostUnreachable");
    assert!(!reply.contains_key("topologyVersion"));
    set.hold(0, None);
    assert_eq!(insert(&mut client, "changes", 2).get_i32("n").unwrap(), 1);
}

#[test]
fn clients_see_what_all_members_can_do() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    set.set_wire_versions(1, 0, 17);
    let tollgate = proxy(&set, "");
    know(&tollgate, 2);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let hello = eventually("clients to see it", || {
        let hello = client.command(1, &doc! { "hello": 1, "$db": "admin" });
        let limit = hello.get_i32("maxWireVersion").unwrap();
        (limit == 17).then_some(hello)
    });
    assert_eq!(hello.get_str("msg").unwrap(), "isdbgrid");
}

#[test]
fn a_client_with_its_own_connection_goes_to_the_primary() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    set.elect(Some(1));
    let text = config(&set.address(0).to_string(), "");
    let start = text.find("\n    pool:").unwrap();
    let tollgate = Tollgate::start(&text[..start]);
    let mut client = RawClient::connect(tollgate.listener("db"));
    assert_eq!(insert(&mut client, "own", 1).get_i32("n").unwrap(), 1);
    assert_eq!(set.counters(1).operations("insert"), 1);
}

#[test]
fn a_client_with_its_own_connection_leaves_a_former_primary() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let text = config(&set.address(0).to_string(), "");
    let without_pool = &text[..text.find("\n    pool:").unwrap()];
    for (text, first) in [(without_pool, "find"), (&text, "logout")] {
        set.elect(Some(0));
        let tollgate = Tollgate::start(text);
        know(&tollgate, 2);
        let mut client = RawClient::connect(tollgate.listener("db"));
        // A client that logs out has had a user: its connection is its own.
        let reply = client.command(1, &doc! { first: 1, "$db": "test" });
        assert!(reply.contains_key("ok"), "{reply}");
        assert_eq!(insert(&mut client, first, 1).get_i32("n").unwrap(), 1);
        set.step_down(Some(1));
        assert_eq!(client.read_until_close(), b"", "{first}");
        let before = set.counters(1).operations("insert");
        let mut next = RawClient::connect(tollgate.listener("db"));
        assert_eq!(insert(&mut next, first, 2).get_i32("n").unwrap(), 1);
        assert_eq!(set.counters(1).operations("insert") - before, 1);
    }
}

#[test]
fn a_transaction_stays_on_its_router() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::routers(server.address(), 2);
    let addresses = set.addresses().iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>();
    let tollgate = Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: routers }}\n\
         clusters:\n  routers: {{ endpoints: [{}], pool: {{}} }}\n",
        addresses.join(", ")
    ));
    let mut client = RawClient::connect(tollgate.listener("db"));
    fill(&mut client, "routed", 1);
    for number in 1..=6_i64 {
        let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![number as u8; 16] };
        let session = doc! { "lsid": { "id": id }, "txnNumber": 1_i64, "autocommit": false };
        let in_transaction = |mut command: Document, database: &str| {
            command.extend(session.clone());
            command.insert("$db", database);
            command
        };
        let mut first = in_transaction(doc! { "find": "routed" }, "test");
        first.insert("startTransaction", true);
        assert_eq!(client.command(1, &first).get_f64("ok").unwrap(), 1.0);
        for step in 0..4 {
            let write = doc! { "insert": "routed", "documents": [{ "_id": 100 * number + step }] };
            let reply = client.command(2, &in_transaction(write, "test"));
            assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
        }
        let reply = client.command(3, &in_transaction(doc! { "commitTransaction": 1 }, "admin"));
        assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
    }
    assert_eq!((0..2).map(|router| set.counters(router).refusals(251)).sum::<usize>(), 0);
    assert!((0..2).all(|router| set.counters(router).operations("insert") > 0));
}

#[test]
fn members_of_a_set_that_are_taken_for_one_server_are_reported() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let addresses = set.addresses().iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>();
    let tollgate = Tollgate::start(&format!(
        "workers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: rs }}\n\
         clusters:\n  rs: {{ endpoints: [{}], lb_policy: round_robin, pool: {{}} }}\n",
        addresses.join(", ")
    ));
    let mut client = RawClient::connect(tollgate.listener("db"));
    eventually("the report", || {
        client.command(1, &doc! { "ping": 1, "$db": "admin" });
        client.command(2, &doc! { "hello": 1, "$db": "admin" });
        tollgate.stderr().contains("name the set in the cluster, `replica_set: ").then_some(())
    });
}

#[test]
fn a_routed_read_that_no_member_fits_leaves_the_next_one_alone() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 1);
    let policy = "policies:\n  - { name: elsewhere, match: { collection: nowhere }, \
                  route: { to: secondary } }\n";
    let config =
        config(&set.address(0).to_string(), policy).replace("timeout: 5s", "timeout: 50ms");
    let tollgate = Tollgate::start(&config);
    know(&tollgate, 1);
    let mut client = RawClient::connect(tollgate.listener("db"));
    for round in 1..4 {
        let reply = client.command(round, &find("nowhere", doc! {}));
        assert_eq!(reply.get_i32("code").unwrap(), 133, "{reply}");
        assert_eq!(insert(&mut client, "somewhere", round).get_i32("n").unwrap(), 1);
        let reply = client.command(round, &find("somewhere", doc! {}));
        assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
    }
}

#[test]
fn a_long_read_beside_short_ones_gets_its_own_reply() {
    let Some(server) = Secantus::shared() else { return };
    let set = ReplicaSet::start(server.address(), 2);
    let tollgate = proxy(&set, "");
    know(&tollgate, 2);
    let mut client = RawClient::connect(tollgate.listener("db"));
    fill(&mut client, "long_reads", 3);
    for round in 0..4 {
        let short = client.command(round, &find("long_reads", doc! { "mode": "nearest" }));
        assert_eq!(short.get_f64("ok").unwrap(), 1.0);
        let ids: Vec<_> = (0..50_000).collect();
        let mut long = find("long_reads", doc! { "mode": "secondary" });
        long.insert("filter", doc! { "_id": { "$in": ids } });
        let reply = client.command(round, &long);
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        assert_eq!(batch.len(), 3, "{reply}");
    }
}
