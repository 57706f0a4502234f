//! Calls that are tried again although the service never answered.

use crate::support::{
    http::{Client, Content, Reply, Service, TestRequest, Version, post},
    tollgate::Tollgate,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

fn call() -> TestRequest {
    let ask = post("/shop.v1.Carts/Get", &[0; 5][..]);
    ask.header("content-type", "application/grpc").header("te", "trailers")
}

fn good() -> Reply {
    let content = Content::from(&[0; 5][..]).trailers(&[("grpc-status", "0")]);
    Reply::ok(content).header("content-type", "application/grpc")
}

/// The status of a call whose first try is answered so, with this retry.
fn status(retry: &str, first: fn() -> Reply) -> String {
    let tries = AtomicUsize::new(0);
    let service = Service::start(Version::Two, move |_| {
        if tries.fetch_add(1, Ordering::Relaxed) == 0 { first() } else { good() }
    });
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ routes: [{{ name: a, \
         cluster: rpc, retry: {{ {retry} }} }}] }} }} }}\nclusters:\n  rpc: {{ {} }}\n",
        service.endpoints()
    ));
    let mut answer = Client::connect(tollgate.listener("rpc"), Version::Two).round_trip(call());
    // A refusal is over with its head.
    answer.headers.extend(std::mem::take(&mut answer.trailers));
    answer.header("grpc-status")
}

#[test]
fn an_unresponsive_service_is_unavailable() {
    for first in [Reply::reset, Reply::refused] {
        assert_eq!(status("on: unavailable", first), "0");
        assert_eq!(status("on: internal", first), "14");
    }
}

#[test]
fn deadline_exceeded_is_also_a_try_that_took_too_long() {
    let slow = || good().after(Duration::from_secs(20));
    let retry = |on: &str| format!("on: {on}, per_try_timeout: 200ms");
    assert_eq!(status(&retry("deadline_exceeded"), slow), "0");
    assert_eq!(status(&retry("internal"), slow), "4");
}
