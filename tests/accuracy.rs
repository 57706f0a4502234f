//! A rate limit lets through what it says, however hard it is pushed, and no honest client pays for
//! one that pushes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use support::{client::RawClient, scripted::Scripted, tollgate::Tollgate, wire::op_msg};

/// What the limit allows in a second, and at once.
const RATE: u64 = 200;
const BURST: u64 = 50;

/// How hard it is pushed, and for how long.
const CLIENTS: u32 = 64;
const PUSH: u64 = 5;
const TIME: Duration = Duration::from_secs(10);

fn proxy(upstream: SocketAddr, workers: usize) -> Tollgate {
    Tollgate::start(&format!(
        "workers: {workers}\n\
         listeners:\n  it: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: it }}\n\
         clusters:\n  it: {{ endpoints: [\"{upstream}\"] }}\n\
         policies:\n- {{ name: fair, match: {{ operation: find }}, \
         rate_limit: {{ rate: {RATE}/s, burst: {BURST}, key: [resource] }} }}\n"
    ))
}

/// Asks at an even pace until the time is over; counts what is answered.
fn push(address: SocketAddr, collection: &str, pace: Duration, until: Instant, served: &AtomicU64) {
    let mut client = RawClient::connect(address);
    let find = op_msg(7, &doc! { "find": collection, "filter": {}, "$db": "shop" });
    let mut next = Instant::now();
    while Instant::now() < until {
        if client.round_trip(&find).document().get_f64("ok").unwrap() == 1.0 {
            served.fetch_add(1, Relaxed);
        }
        next += pace;
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn one_or_two_workers_admit_the_rate_and_the_burst() {
    thread::scope(|scope| {
        for workers in [1, 2] {
            scope.spawn(move || {
                let server = Scripted::agreeing();
                let tollgate = proxy(server.address(), workers);
                let address = tollgate.listener("it");
                let (served, honest) = (AtomicU64::new(0), AtomicU64::new(0));
                let begun = Instant::now();
                let until = begun + TIME;
                let pace = Duration::from_secs(1) * CLIENTS / u32::try_from(PUSH * RATE).unwrap();
                thread::scope(|scope| {
                    for _ in 0..CLIENTS {
                        scope.spawn(|| push(address, "runaway", pace, until, &served));
                    }
                    scope.spawn(|| {
                        push(address, "honest", Duration::from_millis(20), until, &honest);
                    });
                });
                let allowed = RATE as f64 * begun.elapsed().as_secs_f64() + BURST as f64;
                let got = served.load(Relaxed) as f64;
                assert!((got / allowed - 1.0).abs() <= 0.02, "{workers}: {got} of {allowed}");
                let labels = [("policy", "fair"), ("reason", "rate_limited")];
                let refused = tollgate.metric("tollgate_refusals_total", &labels);
                assert!(refused > got, "it was pushed hard: {refused} refused, {got} served");
                let honest = honest.load(Relaxed) as f64;
                let labels = [("resource", "shop.honest"), ("outcome", "rejected")];
                assert_eq!(tollgate.metric("tollgate_operations_total", &labels), 0.0);
                assert!(honest > 300.0, "whoever asks fifty times a second is served: {honest}");
            });
        }
    });
}
