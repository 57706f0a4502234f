//! The proxy's own answers: they name their request with the same values as the log, and
//! carries what the route adds to answers. And where the log says that a request's time went.

use crate::support::{
    ends::End,
    eventually, free_address,
    http::{
        Answer, Client, PAIRINGS, Reply, Service, TestRequest, Version, at, endpoints, get, post,
        proxy, proxy_to, routed, routed_config,
    },
    tollgate::Tollgate,
};
use serde_json::{Value, json};

const VERSIONS: [Version; 2] = [Version::One, Version::Two];

/// Sends a request, and checks that header, body and log have the same id.
fn identified(tollgate: &Tollgate, client_version: Version, ask: TestRequest) -> (Answer, Value) {
    let path = ask.target.clone();
    let answer = Client::connect(at(tollgate), client_version).round_trip(ask);
    let line = tollgate.logged(1, |line| line["path"] == path).pop().unwrap();
    let id = answer.header("x-request-id");
    assert!(!id.is_empty(), "{answer:?}");
    assert_eq!(line["request_id"], id, "{line}");
    assert_eq!(line["status"], answer.status.to_string(), "{line}");
    assert_eq!(answer.json()["request_id"], id, "{answer:?}");
    (answer, line)
}

#[test]
fn a_local_reply_has_the_request_id_of_the_log() {
    let service = Service::start(Version::One, |_| Reply::reset());
    let config = routed_config(
        &[
            "{ name: gone, match: { path: /gone }, cluster: gone }",
            "{ name: all, match: { path_prefix: /all }, cluster: shop, max_request_body: 3 }",
        ],
        &[("shop", &service)],
        &format!(
            "  gone: {{ {} }}\npolicies:\n  - {{ name: no, match: {{ path: /all/no }}, deny: {{}} }}\n",
            endpoints(&[free_address()])
        ),
    );
    for client_version in VERSIONS {
        let tollgate = Tollgate::start(&config);
        let (answer, _) =
            identified(&tollgate, client_version, get("/all/no").header("x-request-id", "mine"));
        assert_eq!((answer.status, &*answer.header("x-request-id")), (403, "mine"));
        assert_eq!(answer.json()["policy"], "no");
        let (answer, line) = identified(&tollgate, client_version, get("/nowhere"));
        assert_eq!((answer.status, &line["reason"]), (404, &json!("no_route")));
        assert_eq!(answer.json().get("reason"), None, "one word is enough: {answer:?}");
        // Where the log has another word than the body's `error`, the body has both.
        let (answer, line) = identified(&tollgate, client_version, get("/gone"));
        assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("no_endpoint")));
        assert_eq!(
            (&answer.json()["reason"], &line["reason"]),
            (&json!("connect_failed"), &json!("connect_failed"))
        );
        let (answer, line) = identified(&tollgate, client_version, get("/all/lost"));
        assert_eq!((answer.status, &answer.json()["error"]), (502, &json!("lost")));
        assert_eq!(answer.json()["reason"], line["reason"]);
        let (answer, _) = identified(&tollgate, client_version, post("/all/long", "hello"));
        assert_eq!(answer.status, 413);
        let words = answer.json()["message"].to_string();
        assert!(words.contains("3 bytes (max_request_body)"), "{words}");
    }
}

#[test]
fn a_route_s_own_headers_are_on_the_proxy_s_answers_too() {
    let headers = "response_headers: { set: { x-route: \"%{route}\", x-id: \"%{request_id}\" } }";
    let config = routed_config(
        &[
            &format!("{{ name: gone, match: {{ path: /gone }}, cluster: gone, {headers} }}"),
            &format!(
                "{{ name: says, match: {{ path: /says }}, reply: {{ status: 200, body: \"{{\\\"error\\\":1}}\" }}, {headers} }}"
            ),
            &format!(
                "{{ name: sends, match: {{ path: /sends }}, redirect: {{ path: /x }}, {headers} }}"
            ),
            &format!(
                "{{ name: denies, match: {{ path: /denies }}, redirect: {{ path: /x }}, {headers} }}"
            ),
        ],
        &[],
        &format!(
            "  gone: {{ {} }}\npolicies:\n  - {{ name: no, match: {{ resource: denies }}, deny: {{}} }}\n",
            endpoints(&[free_address()])
        ),
    );
    let tollgate = Tollgate::start(&config);
    for client_version in VERSIONS {
        for (route, status) in [("gone", 503), ("says", 200), ("sends", 301), ("denies", 403)] {
            let answer = Client::connect(at(&tollgate), client_version)
                .round_trip(get(&format!("/{route}")));
            assert_eq!(
                (answer.status, &*answer.header("x-route")),
                (status, route),
                "{client_version:?}"
            );
            let id = answer.header("x-request-id");
            assert!(!id.is_empty() && answer.header("x-id") == id, "{answer:?}");
            if route == "says" {
                assert_eq!(answer.text(), "{\"error\":1}", "what the operator wrote stays");
            }
        }
    }
}

#[test]
fn attempts_that_never_connected_are_attempts() {
    let dead = free_address();
    let route = "{ name: all, cluster: gone, retry: { on: connect_failure, attempts: 2 } }";
    let more = format!("  gone: {{ {}, connect_attempts: 1 }}\n", endpoints(&[dead]));
    let tollgate = Tollgate::start(&routed_config(&[route], &[], &more));
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
    assert_eq!(answer.status, 503);
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["attempts"], &line["flags"]), (&json!("3"), &json!("retried")), "{line}");
}

#[test]
fn the_log_has_the_times_of_connect_and_queue() {
    for answers in VERSIONS {
        let (service, gate) = Service::holding(answers);
        let cluster = format!(
            "{}, circuit_breaker: {{ max_connections: 1, pending_timeout: 20s }}",
            service.endpoints().replace("version", "max_concurrent_streams: 1, version")
        );
        let tollgate = proxy_to(&cluster, "", "");
        let client = Client::connect(at(&tollgate), Version::One);
        client.round_trip(get("/first"));
        client.round_trip(get("/second"));
        let of = |path: &str| tollgate.logged(1, |line| line["path"] == path).remove(0);
        let connected = of("/first");
        assert!(connected["connect_ms"].as_f64().unwrap() > 0.0, "{answers:?} {connected}");
        assert_eq!(of("/second")["connect_ms"], Value::Null, "{answers:?}");
        if answers == Version::One {
            let held = client.begin(get("/held"));
            service.wait_for_requests(3);
            let waits = Client::connect(at(&tollgate), Version::One).begin(get("/waits"));
            let labels = [("cluster", "shop")];
            tollgate.wait_for_metric("tollgate_connections_pending", &labels, 1.0);
            gate.add_permits(1);
            assert_eq!((held.answer().text(), waits.answer().text()), ("held", "ok"));
            let line = of("/waits");
            assert!(line["queue_ms"].as_f64().unwrap() > 0.0, "{line}");
            assert!(line["queue_ms"].as_f64() <= line["ttfb_ms"].as_f64(), "{line}");
        }
    }
}

#[test]
fn a_skipped_mirror_request_is_logged() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::ok("ok"));
        let shadow = Service::start(answers, |_| Reply::ok("ok"));
        let tollgate = routed(
            &[
                "{ name: large, match: { path: /large }, cluster: shop, mirror: { cluster: shadow, max_body: 1MiB } }",
                "{ name: all, cluster: shop, mirror: { cluster: shadow } }",
            ],
            &[("shop", &service), ("shadow", &shadow)],
        );
        let client = Client::connect(at(&tollgate), client_version);
        let flags = |path: &str, size: usize| {
            assert_eq!(client.round_trip(post(path, vec![b'x'; size])).status, 200);
            tollgate.logged(1, |line| line["path"] == path).remove(0)["flags"].clone()
        };
        assert_eq!(flags("/small", 65536), "mirrored", "{client_version:?} {answers:?}");
        assert_eq!(flags("/long", 65537), "not_mirrored", "{client_version:?} {answers:?}");
        assert_eq!(flags("/large", 65537), "mirrored", "{client_version:?} {answers:?}");
        let copies = shadow.wait_for_requests(2);
        assert!(copies.iter().all(|it| it.target != "/long"));
        eventually("the bodies", || {
            shadow.received().iter().all(|it| it.body.len() >= 65536).then_some(())
        });
    }
}

#[test]
fn a_426_names_the_protocol() {
    let service = Service::start(Version::One, |_| {
        Reply::status(426).header("upgrade", "websocket").header("connection", "upgrade")
    });
    let tollgate = proxy(&service, "");
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
    assert_eq!((answer.status, &*answer.header("upgrade")), (426, "websocket"));
    assert!(answer.header("connection").contains("upgrade"), "{answer:?}");
    let answer = Client::connect(at(&tollgate), Version::Two).round_trip(get("/"));
    assert_eq!((answer.status, &*answer.header("upgrade")), (426, ""));
}

#[test]
fn a_status_without_words_of_its_own_has_none_made_up() {
    let service = Service::replying(Version::One, "never");
    let tollgate = routed(
        &[
            "{ name: gone, match: { path: /499 }, reply: { status: 499 } }",
            "{ name: odd, reply: { status: 299 } }",
        ],
        &[("shop", &service)],
    );
    for (status, first) in [(499, "HTTP/1.1 499 Client Closed Request"), (299, "HTTP/1.1 299 ")] {
        let mut client = End::connect(at(&tollgate));
        client.send(format!("GET /{status} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        assert_eq!(client.head().lines().next(), Some(first));
    }
}
