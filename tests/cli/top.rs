//! `tollgate top` and `tollgate demo`, which show the same table.

use crate::{
    failed,
    support::{
        self,
        client::RawClient,
        eventually,
        scripted::{Scripted, hello, reply_to},
        tollgate::{Tollgate, mongo_config, output_of},
        wire::op_msg,
    },
};
use bson::doc;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

#[test]
fn the_demonstration_shows_a_table_of_every_protocol_and_ends() {
    let demo = output_of(&["demo", "--duration", "2s"]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    // A row of each: MongoDB's commands, HTTP's methods by route, gRPC's methods.
    let rows = [
        ("find", "shop.orders"),
        ("GET", "cart"),
        ("GET", "rest"),
        ("shop.Prices/Quote", "default"),
    ];
    for (operation, resource) in rows {
        let row = |line: &str| line.split_whitespace().take(2).eq([operation, resource]);
        assert!(demo.out.lines().any(row), "no {operation} {resource}: {}", demo.out);
    }
    assert!(demo.out.contains("http://127.0.0.1:"), "{}", demo.out);
}

#[test]
fn top_shows_one_table_of_a_running_proxy() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let enough = AtomicBool::new(false);
    let top = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Relaxed) {
                client.command(7, &doc! { "find": "orders", "$db": "shop" });
            }
        });
        let admin = tollgate.admin().to_string();
        let top = output_of(&["top", &admin, "--once", "--interval", "300ms"]);
        enough.store(true, Relaxed);
        top
    });
    assert_eq!(top.code, Some(0), "{top:?}");
    let row = top.out.lines().find(|line| line.contains("shop.orders"));
    assert!(row.is_some_and(|row| row.contains("find")), "{}", top.out);
}

#[test]
fn top_shows_call_sites_in_the_order_that_was_asked_for() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let enough = AtomicBool::new(false);
    let top = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Relaxed) {
                for site in ["b.twice", "a.once", "b.twice"] {
                    let comment = format!("{{\"callingFunction\":\"{site}\"}}");
                    client
                        .command(7, &doc! { "find": "orders", "comment": comment, "$db": "shop" });
                }
            }
        });
        let admin = tollgate.admin().to_string();
        let interval = ["--once", "--interval", "300ms"];
        let top =
            output_of(&[&["top", &admin, "--callsites", "--sort", "ops"][..], &interval].concat());
        enough.store(true, Relaxed);
        top
    });
    assert_eq!(top.code, Some(0), "{top:?}");
    let named = |name: &str| top.out.lines().position(|line| line.starts_with(name));
    let (twice, once) = (named("b.twice"), named("a.once"));
    assert!(twice.is_some() && twice < once, "{}", top.out);
    failed(&output_of(&["top", "--sort", "size"]), 2, &["size", "p99"]);
}

#[test]
fn top_shows_a_cluster_with_unusable_endpoints() {
    let nobody = support::free_address();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{nobody}\"], health_check: {{ interval: 100ms, \
         unhealthy_threshold: 1 }} }}\n"
    ));
    tollgate.wait_for_metric("tollgate_endpoint_up", &[("cluster", "shop")], 0.0);
    let admin = tollgate.admin().to_string();
    let top = output_of(&["top", &admin, "--once", "--interval", "100ms"]);
    let line = format!("shop: 0 of 1 in use, {nobody} unhealthy");
    assert!(top.out.contains(&line), "{}", top.out);
}

#[test]
fn top_shows_the_pools_of_a_proxy() {
    let server = Scripted::answering(|message| match message.document().contains_key("hello") {
        true => reply_to(message, &hello("db.example:27017")),
        // The operation keeps its connection.
        false => Vec::new(),
    });
    let config =
        mongo_config(server.address(), "").replace("] }", "], pool: { max_pool_size: 1 } }");
    let tollgate = Tollgate::start(&format!("workers: 1\n{config}"));
    let mut clients = [0, 1].map(|_| RawClient::connect(tollgate.listener("db")));
    for client in &mut clients {
        client.send(&op_msg(7, &doc! { "find": "orders", "$db": "shop" }));
    }
    eventually("one operation waits", || {
        (tollgate.json("/pools")[0]["endpoints"][0]["waiting"] == 1).then_some(())
    });
    let admin = tollgate.admin().to_string();
    let top = output_of(&["top", &admin, "--once", "--pools", "--interval", "100ms"]);
    let row = top.out.lines().find(|line| line.contains(&server.address().to_string()));
    let row: Vec<&str> = row.unwrap_or(&top.out).split_whitespace().collect();
    assert_eq!((row[0], &row[2..]), ("db", &["1", "1", "100%", "0", "0", "0", "1"][..]), "{top:?}");
    assert!(top.out.contains("db: 1 wait for a pooled connection"), "{}", top.out);
    failed(&output_of(&["top", "--pools", "--callsites"]), 2, &["--pools", "--callsites"]);
}

#[test]
fn top_shows_endpoints_sessions_certificates_and_operations() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let enough = AtomicBool::new(false);
    let admin = tollgate.admin().to_string();
    let screen = |view: &str| {
        let top = output_of(&["top", &admin, "--once", "--interval", "300ms", "--view", view]);
        assert_eq!(top.code, Some(0), "{view}: {top:?}");
        top.out
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Relaxed) {
                client.command(7, &doc! { "find": "orders", "$db": "shop" });
            }
        });
        let shown = ["now", "sessions", "tls", "live"].map(screen);
        enough.store(true, Relaxed);
        let [now, sessions, tls, live] = shown;
        let endpoint = server.address().to_string();
        assert!(now.lines().any(|it| it.contains(&endpoint) && it.contains("in use")), "{now}");
        assert!(now.contains(&tollgate.listener("db").to_string()), "{now}");
        assert!(sessions.lines().any(|it| it.starts_with("127.0.0.1:")), "{sessions}");
        assert!(tls.contains("no listener and no cluster has a certificate"), "{tls}");
        let find = |line: &str| line.contains("shop.orders") && line.contains(" ok ");
        assert!(live.lines().any(find), "{live}");
    });
}

#[test]
fn the_demo_listens_on_the_given_admin_address() {
    let admin = support::free_address().to_string();
    let demo = output_of(&["demo", "--duration", "1s", "--admin", &admin]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.out.contains(&format!("http://{admin}/")), "{}", demo.out);
    failed(&output_of(&["demo", "--admin", "nowhere"]), 1, &["nowhere"]);
}

#[test]
fn top_without_a_proxy_names_the_address() {
    let nowhere = support::free_address().to_string();
    failed(&output_of(&["top", &nowhere, "--once"]), 1, &[&nowhere, "refused"]);
    // Without a terminal there is no user to react to it.
    failed(&output_of(&["top", &nowhere]), 1, &[&nowhere, "refused"]);
    failed(&output_of(&["top", "--once", "localhost"]), 1, &["HOST:PORT", "`localhost:9901`"]);
}
