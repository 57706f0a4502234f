//! Whole proxies before one server, and what their clients see of a limit that they share.

use crate::{
    limiter::{Limiter, Manner, Pair},
    server::Server,
    support::{
        client::RawClient,
        eventually,
        http::{Client, Service, Version, at, get, proxy_config},
        scripted::Scripted,
        tollgate::Tollgate,
        wire::op_msg,
    },
};
use bson::{Document, doc};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// What the limit allows in a second, and at once.
const RATE: u64 = 200;
const BURST: u64 = 50;
/// How long it is pushed, and how hard: by how many clients, each at this pace.
const SPAN: Duration = Duration::from_secs(10);
const CLIENTS: [usize; 2] = [24, 8];
const PACE: Duration = Duration::from_millis(32);

/// A proxy with a limit called `it`, before this server.
fn proxy(upstream: SocketAddr, limit: &str) -> Tollgate {
    proxy_that(upstream, &format!("rate_limit: {{ {limit} }}"))
}

/// A proxy with a policy called `it` that does this.
fn proxy_that(upstream: SocketAddr, does: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 2\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db }}\n\
         clusters:\n  db: {{ endpoints: [\"{upstream}\"] }}\n\
         policies:\n- {{ name: it, {does} }}\n"
    ))
}

/// A limit in this Redis. Nothing here is to depend on a machine that is slow.
fn redis(server: &Server, rest: &str) -> String {
    let address = server.address;
    format!("shared: {{ redis: {{ address: \"{address}\" }}, timeout: 5s, {rest} }}")
}

fn clients<const N: usize>(proxies: &[Tollgate; N]) -> [RawClient; N] {
    proxies.each_ref().map(|proxy| RawClient::connect(proxy.listener("db")))
}

fn find(collection: &str) -> Document {
    doc! { "find": collection, "filter": {}, "$db": "shop" }
}

/// Whether it was served. If not, it was refused in words that make a driver try again later.
fn is_served(reply: &Document) -> bool {
    if reply.get_f64("ok").unwrap() == 1.0 {
        return true;
    }
    assert_eq!(reply.get_i32("code").unwrap(), 462, "{reply}");
    let labels = reply.get_array("errorLabels").unwrap();
    for label in ["SystemOverloadedError", "RetryableError"] {
        assert!(labels.iter().any(|it| it.as_str() == Some(label)), "{reply}");
    }
    false
}

fn served(client: &mut RawClient, times: usize) -> usize {
    (0..times).filter(|_| is_served(&client.command(7, &find("orders")))).count()
}

/// Asks at an even pace until the time is over; counts what is served and what is not.
fn push(address: SocketAddr, until: Instant, served: &AtomicU64, refused: &AtomicU64) {
    let (mut client, find) = (RawClient::connect(address), op_msg(7, &find("orders")));
    let mut next = Instant::now();
    while Instant::now() < until {
        let counted =
            if is_served(&client.round_trip(&find).document()) { served } else { refused };
        counted.fetch_add(1, Relaxed);
        next += PACE;
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn two_proxies_let_through_together_what_the_limit_says() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    let shared = redis(&redis_server, "on_store_failure: refuse");
    let limit = format!("rate: {RATE}/s, burst: {BURST}, key: [resource], {shared}");
    let proxies = [(); 2].map(|()| proxy(server.address(), &limit));
    let (served, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    thread::scope(|scope| {
        for (proxy, clients) in proxies.iter().zip(CLIENTS) {
            let (address, served, refused) = (proxy.listener("db"), &served, &refused);
            for _ in 0..clients {
                scope.spawn(move || push(address, began + SPAN, served, refused));
            }
        }
    });
    let may = RATE as f64 * began.elapsed().as_secs_f64() + BURST as f64;
    let (served, refused) = (served.load(Relaxed) as f64, refused.load(Relaxed) as f64);
    let off = (served / may - 1.0) * 100.0;
    println!("{served} of {may:.0} got through ({off:+.2} %), {refused} did not");
    assert!(off.abs() <= 2.0, "{served} of {may} got through ({off:+.2} %)");
    assert!(refused > served, "they were pushed hard: {refused} refused, {served} served");
    let sum = |name: &str| proxies.iter().map(|proxy| proxy.metric(name, &[])).sum::<f64>();
    assert_eq!(sum("tollgate_refusals_total"), refused);
    assert_eq!(sum("tollgate_shared_limit_fallbacks_total"), 0.0);
    let [mut other, _] = clients(&proxies);
    assert!(is_served(&other.command(7, &find("users"))), "it has a limit of its own");
    let known = redis_server.command("KEYS tollgate:*");
    assert!(known.contains("tollgate:it:resource=shop.orders"), "{known}");
}

#[test]
fn a_delayed_operation_waits_for_the_store() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    let shared = redis(&redis_server, "on_store_failure: refuse");
    // A lease is one operation, so that none is left over.
    let limit = format!("rate: 20/s, burst: 1, over: delay, max_delay: 15s, {shared}");
    let proxies = [(); 2].map(|()| proxy(server.address(), &limit));
    let began = Instant::now();
    thread::scope(|scope| {
        for mut client in clients(&proxies) {
            scope.spawn(move || assert_eq!(served(&mut client, 15), 15));
        }
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(29 * 50 - 10), "30 operations took {took:?}");
    let modified = proxies.each_ref().map(|it| it.metric("tollgate_policy_effects_total", &[]));
    assert!(modified.iter().sum::<f64>() >= 29.0 / 2.0, "{modified:?} operations were delayed");
}

#[test]
fn a_delay_over_the_maximum_is_a_rejection_with_retry_delay() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    let shared = redis(&redis_server, "on_store_failure: refuse");
    let limit = "rate: 60/h, burst: 1, over: delay, max_delay: 10s, base_backoff: 5s";
    let proxies = [(); 2].map(|()| proxy(server.address(), &format!("{limit}, {shared}")));
    let [mut one, mut another] = clients(&proxies);
    assert_eq!(served(&mut one, 1), 1);
    let no = another.command(7, &find("orders"));
    assert!(!is_served(&no));
    let wait = no.get_i64("baseBackoffMS").unwrap();
    assert!((20_000..=60_000).contains(&wait), "a minute after the first: {wait}");
}

#[test]
fn what_one_proxy_moved_is_charged_to_all() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    let shared = redis(&redis_server, "on_store_failure: refuse");
    let limit = format!("rate: 600/h, burst: 10, unit: documents, {shared}");
    let proxies = [(); 2].map(|()| proxy(server.address(), &limit));
    let [mut one, mut another] = clients(&proxies);
    let documents = vec![doc! { "a": 1 }; 12];
    let insert = doc! { "insert": "orders", "documents": documents, "$db": "shop" };
    assert!(is_served(&one.command(7, &insert)), "nobody knew how many they would be");
    // One was requested at first, and eleven were reported at the end.
    proxies[0].wait_for_metric("tollgate_shared_limit_requests_total", &[], 2.0);
    assert!(!is_served(&another.command(7, &insert)));
}

#[test]
fn a_dry_run_asks_the_store_and_delays_no_operation() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    let shared = redis(&redis_server, "on_store_failure: refuse");
    let limit = format!("dry_run: true, rate_limit: {{ rate: 60/h, burst: 2, {shared} }}");
    let proxies = [(); 2].map(|()| proxy_that(server.address(), &limit));
    for mut client in clients(&proxies) {
        assert_eq!(served(&mut client, 3), 3);
    }
    eventually("four of six to be counted", || {
        let counted = |proxy: &Tollgate| proxy.metric("tollgate_dry_run_refusals_total", &[]);
        (proxies.iter().map(counted).sum::<f64>() == 4.0).then_some(())
    });
}

#[test]
fn without_redis_each_proxy_follows_its_config() {
    let (server, mut redis_server) = (Scripted::agreeing(), Server::start());
    let proxies = ["allow", "refuse", "local"].map(|word| {
        let shared = redis(&redis_server, &format!("on_store_failure: {word}"));
        proxy(server.address(), &format!("rate: 1000/h, burst: 30, {shared}"))
    });
    let mut clients = clients(&proxies);
    for client in &mut clients {
        assert_eq!(served(client, 1), 1);
    }
    redis_server.kill();
    let got = clients.each_mut().map(|client| served(client, 50));
    assert_eq!(got, [50, 0, 30]);
    for proxy in &proxies {
        assert_eq!(proxy.metric("tollgate_shared_limit_fallbacks_total", &[]), 50.0);
    }
    redis_server.restart();
    eventually("the limit to hold again", || (served(&mut clients[1], 1) == 1).then_some(()));
}

#[test]
fn a_redis_that_rejects_everything_is_logged_once() {
    let (server, redis_server) = (Scripted::agreeing(), Server::start());
    redis_server.command("REPLICAOF 127.0.0.1 9");
    let shared = redis(&redis_server, "on_store_failure: allow");
    let mut proxy = proxy(server.address(), &format!("rate: 100/s, {shared}"));
    let mut client = RawClient::connect(proxy.listener("db"));
    let asked = || proxy.metric("tollgate_shared_limit_errors_total", &[]);
    let before = asked();
    eventually("ten refusals of the store", || {
        assert_eq!(served(&mut client, 1), 1);
        (asked() >= before + 10.0).then_some(())
    });
    redis_server.command("REPLICAOF NO ONE");
    eventually("an answer", || {
        served(&mut client, 1);
        (proxy.metric("tollgate_shared_limit_requests_total", &[]) > 0.0).then_some(())
    });
    assert!(proxy.stop().success());
    let log = proxy.stderr();
    let told = |what| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(told("can't be asked"), 1, "{log}");
    assert_eq!(told("the store answers again"), 1, "{log}");
}

/// A proxy of HTTP whose limit is for each token, in this Redis.
fn proxy_of_tokens(service: &Service, redis_server: &Server, rest: &str) -> Tollgate {
    let shared = redis(redis_server, &format!("on_store_failure: refuse{rest}"));
    Tollgate::start(&format!(
        "{}policies:\n- {{ name: each-token, rate_limit: {{ rate: 1/m, burst: 2, \
         key: [peer, header.authorization, header.cookie], {shared} }} }}\n",
        proxy_config(&service.endpoints(), "", "")
    ))
}

#[test]
fn tokens_are_hashed_in_the_store_and_limited_one_by_one() {
    let (service, redis_server) = (Service::replying(Version::One, "ok"), Server::start());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "a secret that machines share\n").unwrap();
    let secret = format!(", hash_key_file: {}", file.display());
    let status = |tollgate: &Tollgate, token: &str| {
        let ask = get("/").header("authorization", token).header("cookie", "session=SECRET-COOKIE");
        Client::connect(at(tollgate), Version::One).round_trip(ask).status
    };
    for rest in ["", &secret] {
        let [one, other] = [(); 2].map(|()| proxy_of_tokens(&service, &redis_server, rest));
        for token in ["Bearer SECRET-TOKEN-1", "Bearer SECRET-TOKEN-2"] {
            let got = [&one, &other, &one, &other].map(|tollgate| status(tollgate, token));
            assert_eq!(got, [200, 200, 429, 429], "{rest}: {token}");
        }
    }
    let known = redis_server.command("KEYS *");
    assert!(!known.contains("SECRET"), "{known}");
    // Two tokens, with and without a secret of the machines' own.
    assert_eq!(known.matches("tollgate:each-token:peer=127.0.0.1,header.").count(), 4, "{known}");
}

#[test]
fn a_rate_limit_service_decides_on_each_operation() {
    let (server, limiter) =
        (Scripted::agreeing(), Limiter::start(Manner { most: 10, ..Manner::default() }));
    let address = limiter.address;
    let descriptors = "[[{ key: peer }, { key: resource }, { key: generic_key, value: mine }]]";
    let service = format!("address: \"{address}\", domain: d, descriptors: {descriptors}");
    let shared = format!(
        "shared: {{ rate_limit_service: {{ {service} }}, timeout: 5s, on_store_failure: refuse }}"
    );
    let proxies = [(); 2]
        .map(|()| proxy(server.address(), &format!("rate: 1/s, base_backoff: 100ms, {shared}")));
    let [mut one, mut another] = clients(&proxies);
    assert_eq!((served(&mut one, 7), served(&mut another, 5)), (7, 3));
    let no = one.command(7, &find("orders"));
    assert!(!is_served(&no));
    assert_eq!(no.get_i64("baseBackoffMS").unwrap(), 7500, "what the service said: {no}");
    let asked = limiter.received();
    assert_eq!(asked.len(), 13);
    let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
    let told =
        [pair("peer", "127.0.0.1"), pair("resource", "shop.orders"), pair("generic_key", "mine")];
    assert!(asked.iter().all(|it| it.hits == 1 && it.descriptors[0].entries == told), "{asked:?}");
}
