//! A drain lets answers end, closes what rests, and tells clients to go elsewhere.

use crate::support::{
    ends::End,
    eventually,
    http::{Client, PAIRINGS, Reply, Service, Version, at, get, proxy},
};
use rustix::process::Signal;
use std::sync::Arc;
use tokio::sync::Semaphore;

#[test]
fn an_answer_that_is_under_way_ends_before_the_proxy_does() {
    for (asks, answers) in PAIRINGS {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let service = Service::start(answers, move |_| Reply::ok("late").held(&held));
        let mut tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), asks);
        let pending = client.begin(get("/"));
        service.asked_times(1);
        tollgate.signal(Signal::TERM);
        eventually("/ready to say no", || (tollgate.get("/ready").0 == 503).then_some(()));
        assert!(tollgate.is_running());
        gate.add_permits(1);
        assert_eq!(pending.answer().text(), "late", "{asks:?} {answers:?}");
        assert!(tollgate.end().success(), "{asks:?} {answers:?}");
        assert!(client.begin(get("/")).try_answer().is_err());
    }
}

#[test]
fn connections_at_rest_are_closed_and_the_proxy_ends() {
    for (asks, answers) in PAIRINGS {
        let service = Service::saying(answers, "ok");
        let mut tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), asks);
        let silent = End::connect(at(&tollgate));
        assert_eq!(client.ask(get("/")).text(), "ok");
        assert!(tollgate.stop().success());
        eventually("the client's end", || client.has_ended().then_some(()));
        eventually("the service's", || (service.open_connections() == 0).then_some(()));
        drop(silent);
    }
}

#[test]
fn the_last_answer_on_a_connection_tells_that_it_closes() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let service = Service::start(Version::One, move |_| Reply::ok("late").held(&held));
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    service.asked_times(1);
    tollgate.signal(Signal::TERM);
    eventually("/ready to say no", || (tollgate.get("/ready").0 == 503).then_some(()));
    gate.add_permits(1);
    let all = String::from_utf8(client.rest()).expect("text").to_lowercase();
    assert!(all.contains("connection: close\r\n") && all.ends_with("late"), "{all}");
}

#[test]
fn a_connection_ends_after_as_many_requests_as_it_may_have() {
    for asks in [Version::One, Version::Two] {
        let service = Service::saying(Version::One, "ok");
        let tollgate = proxy(&service, "max_requests_per_connection: 3");
        let client = Client::connect(at(&tollgate), asks);
        for _ in 0..3 {
            assert_eq!(client.ask(get("/")).text(), "ok", "{asks:?}");
        }
        eventually("the connection's end", || client.has_ended().then_some(()));
    }
}
