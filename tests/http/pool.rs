//! Connections to services: kept, shared, bounded, and given up in time.

use crate::support::{
    eventually, free_address,
    http::{Client, PAIRINGS, Reply, Service, Version, at, endpoints, get, post, proxy, proxy_to},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

const BOTH: [Version; 2] = [Version::One, Version::Two];

#[test]
fn requests_one_after_the_other_need_one_connection() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        for _ in 0..5 {
            let client = Client::connect(at(&tollgate), client_version);
            assert_eq!(client.round_trip(get("/")).text(), "ok");
            assert_eq!(client.round_trip(post("/", "body")).text(), "ok");
        }
        assert_eq!(service.connections(), 1, "{client_version:?} {answers:?}");
    }
}

#[test]
fn a_connection_carries_no_more_requests_than_it_may() {
    for answers in BOTH {
        let service = Service::replying(answers, "ok");
        let cluster =
            service.endpoints().replace("version", "max_requests_per_connection: 2, version");
        let tollgate = proxy_to(&cluster, "", "");
        let client = Client::connect(at(&tollgate), Version::One);
        for _ in 0..6 {
            assert_eq!(client.round_trip(get("/")).text(), "ok");
        }
        assert_eq!(service.connections(), 3, "{answers:?}");
    }
}

#[test]
fn a_connection_that_rests_too_long_is_closed() {
    for answers in BOTH {
        let service = Service::replying(answers, "ok");
        let cluster = service.endpoints().replace("version", "idle_timeout: 100ms, version");
        let tollgate = proxy_to(&cluster, "", "");
        let client = Client::connect(at(&tollgate), Version::One);
        assert_eq!(client.round_trip(get("/")).text(), "ok");
        eventually("the connection's end", || (service.open_connections() == 0).then_some(()));
        assert_eq!(client.round_trip(get("/")).text(), "ok");
        assert_eq!(service.connections(), 2, "{answers:?}");
    }
}

#[test]
fn a_service_that_closes_what_rests_is_not_noticed() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        for _ in 0..3 {
            assert_eq!(client.round_trip(get("/")).text(), "ok");
            service.cut_connections();
            eventually("the connection's end", || (service.open_connections() == 0).then_some(()));
        }
        assert_eq!(client.round_trip(get("/")).text(), "ok", "{client_version:?} {answers:?}");
        assert!(tollgate.logged(4, |_| true).iter().all(|line| line["outcome"] == "ok"));
    }
}

#[test]
fn concurrent_requests_share_few_http_2_connections() {
    for (streams, connections) in [(1000, 1), (3, 2)] {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let service =
            Service::with_streams(Version::Two, streams, move |asked| match &*asked.target {
                "/first" => Reply::ok("ok"),
                _ => Reply::ok("ok").held(&held),
            });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), Version::Two);
        client.round_trip(get("/first"));
        let pending: Vec<_> = (0..6).map(|_| client.begin(get("/"))).collect();
        service.wait_for_requests(7);
        gate.add_permits(6);
        for pending in pending {
            assert_eq!(pending.answer().text(), "ok");
        }
        assert_eq!(service.connections(), connections, "{streams} on each");
    }
}

#[test]
fn a_service_that_goes_away_in_good_order_loses_no_request() {
    let (service, gate) = Service::holding(Version::Two);
    let tollgate = proxy(&service, "");
    let client = Client::connect(at(&tollgate), Version::Two);
    let pending = client.begin(get("/held"));
    service.wait_for_requests(1);
    service.end_connections();
    for _ in 0..20 {
        assert_eq!(client.round_trip(post("/", "body")).text(), "ok");
    }
    assert!(!pending.is_answered());
    gate.add_permits(1);
    assert_eq!(pending.answer().text(), "held");
    assert_eq!(service.connections(), 2);
    eventually("the first one's end", || (service.open_connections() == 1).then_some(()));
}

#[test]
fn a_request_waits_for_a_connection_where_there_may_be_no_more() {
    let (service, gate) = Service::holding(Version::One);
    let cluster =
        service.endpoints() + ", circuit_breaker: { max_connections: 1, pending_timeout: 20s }";
    let tollgate = proxy_to(&cluster, "", "");
    let first = Client::connect(at(&tollgate), Version::One).begin(get("/held"));
    service.wait_for_requests(1);
    let second = Client::connect(at(&tollgate), Version::One).begin(get("/held"));
    let third = Client::connect(at(&tollgate), Version::One).begin(get("/held"));
    gate.add_permits(3);
    for pending in [first, second, third] {
        assert_eq!(pending.answer().text(), "held");
    }
}

#[test]
fn a_request_that_waited_too_long_for_a_connection_is_refused() {
    let (service, gate) = Service::holding(Version::One);
    let breaker = "circuit_breaker: { max_connections: 1, pending_timeout: 50ms }";
    let tollgate = proxy_to(&format!("{}, {breaker}", service.endpoints()), "", "");
    let first = Client::connect(at(&tollgate), Version::One).begin(get("/held"));
    service.wait_for_requests(1);
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/2"));
    assert_eq!((answer.status, &answer.json()["error"]), (503, &"overloaded".into()));
    gate.add_permits(1);
    assert_eq!(first.answer().text(), "held");
}

#[test]
fn requests_over_the_cluster_s_limit_are_rejected_at_once() {
    for (client_version, answers) in PAIRINGS {
        let (service, gate) = Service::holding(answers);
        let cluster = service.endpoints() + ", circuit_breaker: { max_operations: 1 }";
        let tollgate = proxy_to(&cluster, "", "");
        let first = Client::connect(at(&tollgate), client_version).begin(get("/held"));
        service.wait_for_requests(1);
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.round_trip(get("/2"));
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"overloaded".into()));
        gate.add_permits(1);
        assert_eq!(first.answer().text(), "held");
        assert_eq!(client.round_trip(get("/3")).text(), "ok", "{client_version:?} {answers:?}");
    }
}

#[test]
fn an_endpoint_that_can_not_be_reached_is_passed_over() {
    for answers in BOTH {
        let service = Service::replying(answers, "ok");
        let cluster = service.endpoints().replace('[', &format!("[\"{}\", ", free_address()));
        let tollgate = proxy_to(&cluster, "", "");
        let client = Client::connect(at(&tollgate), Version::One);
        for _ in 0..5 {
            assert_eq!(client.round_trip(get("/")).text(), "ok", "{answers:?}");
        }
    }
}

#[test]
fn without_an_endpoint_that_can_be_reached_it_is_a_503() {
    for client_version in BOTH {
        let tollgate = proxy_to(&endpoints(&[free_address(), free_address()]), "", "");
        let answer = Client::connect(at(&tollgate), client_version).round_trip(get("/"));
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"no_endpoint".into()));
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["status"], "503", "{line}");
    }
}

#[test]
fn what_rests_for_an_endpoint_that_was_drained_is_used_no_more() {
    for answers in BOTH {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), Version::One);
        assert_eq!(client.round_trip(get("/")).text(), "ok");
        let page = format!("/clusters/shop/endpoints/{}?state=drained", service.address());
        assert_eq!(tollgate.post(&page).0, 200);
        eventually("the connection's end", || (service.open_connections() == 0).then_some(()));
        assert_eq!(client.round_trip(get("/")).status, 503, "{answers:?}");
    }
}

#[test]
fn many_clients_at_once_are_all_served() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::echo().after(Duration::from_millis(1)));
        let tollgate = proxy(&service, "");
        let clients: Vec<_> =
            (0..20).map(|_| Client::connect(at(&tollgate), client_version)).collect();
        for round in 0..5 {
            let body = |at: usize| format!("{round} {at}");
            let pending: Vec<_> =
                clients.iter().enumerate().map(|(at, it)| it.begin(post("/", body(at)))).collect();
            for (at, pending) in pending.into_iter().enumerate() {
                assert_eq!(pending.answer().text(), body(at), "{client_version:?} {answers:?}");
            }
        }
        assert!(service.connections() <= 20);
    }
}
