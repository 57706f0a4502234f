//! Pages of other sites: the proxy answers what their browsers ask first, and says on every answer,
//! its own too, what they may read.

use crate::support::{
    free_address,
    http::{
        Answer, Client, PAIRINGS, Reply, Service, TestRequest, Version, at, endpoints, get, proxy,
        routed_config,
    },
    tollgate::Tollgate,
};
use http::Method;
use serde_json::json;

const SHOP: &str = "https://shop.example.org";
const CORS: &str = "cors: { origins: [\"https://shop.example.org\"], methods: [GET, PUT], headers: [x-team], \
                    expose: [x-total], credentials: true, max_age: 10m }";

fn preflight(path: &str, origin: &str, method: &str) -> TestRequest {
    TestRequest::new(Method::OPTIONS, path)
        .header("origin", origin)
        .header("access-control-request-method", method)
}

fn allowed(answer: &Answer) -> String {
    answer.header("access-control-allow-origin")
}

#[test]
fn a_preflight_is_answered_by_the_proxy() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "never");
        let tollgate = proxy(&service, CORS);
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.round_trip(preflight("/a", SHOP, "PUT"));
        assert_eq!((answer.status, allowed(&answer)), (204, SHOP.to_owned()));
        for (name, value) in [
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-team"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "600"),
            ("vary", "origin"),
        ] {
            assert_eq!(answer.header(name), value, "{client_version:?} {name}");
        }
        let line = tollgate.logged(1, |_| true).remove(0);
        let told = (&line["outcome"], &line["reason"], &line["status"]);
        assert_eq!(told, (&json!("ok"), &json!("preflight"), &json!("204")), "{line}");
        assert!(service.received().is_empty());
    }
}

#[test]
fn a_forbidden_origin_gets_no_cors_headers_and_is_logged() {
    let service = Service::start(Version::One, |_| {
        Reply::ok("ok").header("access-control-allow-origin", "*")
    });
    let tollgate = proxy(&service, CORS);
    let client = Client::connect(at(&tollgate), Version::One);
    let refused = client.round_trip(preflight("/first", "https://evil.example", "PUT"));
    assert_eq!((refused.status, &*allowed(&refused)), (204, ""));
    let line = tollgate.logged(1, |line| line["path"] == "/first").remove(0);
    let told = (&line["outcome"], &line["reason"], &line["status"]);
    assert_eq!(told, (&json!("rejected"), &json!("origin_refused"), &json!("204")), "{line}");
    // The service's own word counts for nothing.
    let answer = client.round_trip(get("/then").header("origin", "https://evil.example"));
    assert_eq!((answer.status, &*allowed(&answer)), (200, ""));
    let line = tollgate.logged(1, |line| line["path"] == "/then").remove(0);
    assert_eq!((&line["outcome"], &line["flags"]), (&json!("ok"), &json!("origin_refused")));
    let labels = [("listener", "web"), ("kind", "origin_refused")];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, 2.0);
    // A page's own site is another matter.
    client.round_trip(get("/own").header("origin", "http://shop.example"));
    let line = tollgate.logged(1, |line| line["path"] == "/own").remove(0);
    assert_eq!(line.get("flags"), None, "{line}");
}

#[test]
fn every_answer_says_what_pages_may_read_the_proxy_s_own_too() {
    let service = Service::start(Version::One, |_| {
        Reply::ok("ok")
            .header("vary", "accept")
            .header("access-control-allow-origin", "https://other")
    });
    let config = routed_config(
        &[
            &format!("{{ name: gone, match: {{ path: /gone }}, cluster: gone, {CORS} }}"),
            &format!(
                "{{ name: says, match: {{ path: /says }}, reply: {{ status: 200 }}, {CORS} }}"
            ),
            &format!(
                "{{ name: shop, match: {{ path_prefix: /shop, method: [GET, PUT] }}, cluster: shop, {CORS} }}"
            ),
            "{ name: rest, match: { path: /rest }, cluster: shop }",
        ],
        &[("shop", &service)],
        &format!(
            "  gone: {{ {} }}\npolicies:\n  - {{ name: no, match: {{ path: /shop/no }}, deny: {{}} }}\n",
            endpoints(&[free_address()])
        ),
    );
    let tollgate = Tollgate::start(&config);
    for client_version in [Version::One, Version::Two] {
        let client = Client::connect(at(&tollgate), client_version);
        for (path, status) in [("/gone", 503), ("/says", 200), ("/shop", 200), ("/shop/no", 403)] {
            let answer = client.round_trip(get(path).header("origin", SHOP));
            assert_eq!(
                (answer.status, &*allowed(&answer)),
                (status, SHOP),
                "{client_version:?} {path}"
            );
            assert_eq!(answer.header("access-control-expose-headers"), "x-total");
            assert!(answer.header("vary").contains("origin"), "{answer:?}");
        }
        // A preflight takes the route of the request that it asks for.
        let answer = client.round_trip(preflight("/shop", SHOP, "PUT"));
        assert_eq!((answer.status, &*allowed(&answer)), (204, SHOP), "{client_version:?}");
        // Where no route says so, it is the service's business.
        let answer = client.round_trip(preflight("/rest", SHOP, "PUT"));
        assert_eq!(
            (answer.status, &*allowed(&answer)),
            (200, "https://other"),
            "{client_version:?}"
        );
    }
}

#[test]
fn a_listener_says_it_for_all_its_routes() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ {CORS}, routes: [{{ name: all, \
         match: {{ path: /a }}, cluster: shop }}] }} }} }}\nclusters:\n  shop: {{ {} }}\n",
        service.endpoints()
    ));
    let client = Client::connect(at(&tollgate), Version::One);
    for (path, status) in [("/a", 200), ("/nowhere", 404)] {
        let answer = client.round_trip(get(path).header("origin", SHOP));
        assert_eq!((answer.status, &*allowed(&answer)), (status, SHOP));
    }
    assert_eq!(client.round_trip(preflight("/a", SHOP, "GET")).status, 204);
}
