//! The first route that matches takes a request, and what is written there happens.

use crate::support::{
    http::{
        Client, PAIRINGS, Reply, Service, TestRequest, Version, at, get, post, routed,
        routed_config,
    },
    tollgate::{Tollgate, output_of},
};

fn names(version: Version) -> (Service, Service) {
    (Service::replying(version, "cart"), Service::replying(version, "shop"))
}

#[test]
fn the_first_route_that_matches_takes_a_request() {
    let routes = [
        "{ name: host, match: { host: [api.example, \"*.api.example\"] }, cluster: cart }",
        "{ name: exact, match: { path: /exact }, cluster: cart }",
        "{ name: prefix, match: { path_prefix: /cart, method: [GET, POST] }, cluster: cart }",
        "{ name: template, match: { path_template: \"/users/{id}/cart\" }, cluster: cart }",
        "{ name: regex, match: { path_regex: \"/v[0-9]+/cart\" }, cluster: cart }",
        "{ name: header, match: { headers: { x-team: red } }, cluster: cart }",
        "{ name: query, match: { query: { beta: \"1\" } }, cluster: cart }",
        "{ name: rest, cluster: shop }",
    ];
    for (client_version, answers) in PAIRINGS {
        let (cart, shop) = names(answers);
        let tollgate = routed(&routes, &[("cart", &cart), ("shop", &shop)]);
        let client = Client::connect(at(&tollgate), client_version);
        let cases: [(TestRequest, &str); 16] = [
            (get("/").header("host", "API.example:80"), "host"),
            (get("/").header("host", "a.api.example"), "host"),
            (get("/").header("host", "notapi.example"), "rest"),
            (get("/exact?a"), "exact"),
            (get("/exact/"), "rest"),
            (get("/cart"), "prefix"),
            (post("/cart/1", "x"), "prefix"),
            (TestRequest::new(http::Method::PUT, "/cart"), "rest"),
            (get("/cartoon"), "rest"),
            (get("/users/7/cart"), "template"),
            (get("/users/7/8/cart"), "rest"),
            (get("/v12/cart"), "regex"),
            (get("/v12/carts"), "rest"),
            (get("/").header("x-team", "red"), "header"),
            (get("/?a=2&beta=1"), "query"),
            (get("/?beta=2"), "rest"),
        ];
        for (at, (ask, route)) in cases.into_iter().enumerate() {
            let told = ask.target.clone();
            let cluster = if route == "rest" { "shop" } else { "cart" };
            assert_eq!(
                client.round_trip(ask).text(),
                cluster,
                "{client_version:?} {answers:?} {told}"
            );
            let line = &tollgate.logged(at + 1, |_| true)[at];
            assert_eq!(line["resource"], route, "{told}");
        }
        let labels = [("resource", "prefix"), ("operation", "GET")];
        tollgate.wait_for_metric("tollgate_operations_total", &labels, 1.0);
    }
}

#[test]
fn what_no_route_takes_is_a_404_and_counted() {
    for client_version in [Version::One, Version::Two] {
        let shop = Service::replying(Version::One, "shop");
        let tollgate = routed(
            &["{ name: cart, match: { path_prefix: /cart }, cluster: shop }"],
            &[("shop", &shop)],
        );
        let answer = Client::connect(at(&tollgate), client_version).round_trip(get("/other"));
        assert_eq!((answer.status, &answer.json()["error"]), (404, &"no_route".into()));
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["resource"], &line["outcome"]), (&"unrouted".into(), &"rejected".into()));
        let labels = [("resource", "unrouted"), ("outcome", "rejected")];
        tollgate.wait_for_metric("tollgate_operations_total", &labels, 1.0);
        assert_eq!(shop.connections(), 0);
    }
}

#[test]
fn clusters_share_requests_by_weight() {
    let (cart, shop) = names(Version::One);
    let route = "{ name: all, clusters: [{ cluster: cart, weight: 3 }, { cluster: shop }] }";
    let tollgate = routed(&[route], &[("cart", &cart), ("shop", &shop)]);
    let client = Client::connect(at(&tollgate), Version::One);
    for _ in 0..400 {
        client.round_trip(get("/"));
    }
    // 300 of 400; five standard deviations are 43.
    let carts = cart.received().len();
    assert!((255..=345).contains(&carts), "{carts}");
    assert_eq!(carts + shop.received().len(), 400);
}

#[test]
fn redirects_and_fixed_replies_need_no_service() {
    let routes = [
        "{ name: moved, match: { path_prefix: /old }, redirect: { status: 308, prefix: /new } }",
        "{ name: away, match: { path: /away }, redirect: { scheme: https, host: a.example } }",
        "{ name: gone, match: { path: /gone }, reply: { status: 410, body: gone, headers: { x-a: b } } }",
        "{ name: rest, cluster: shop }",
    ];
    for client_version in [Version::One, Version::Two] {
        let shop = Service::replying(Version::One, "shop");
        let tollgate = routed(&routes, &[("shop", &shop)]);
        let client = Client::connect(at(&tollgate), client_version);
        let moved = client.round_trip(get("/old/a%20b?c=d"));
        assert_eq!(moved.status, 308);
        assert!(moved.header("location").ends_with("/new/a%20b?c=d"), "{moved:?}");
        let away = client.round_trip(get("/away?q"));
        assert_eq!(
            (away.status, away.header("location")),
            (301, "https://a.example/away?q".into()),
            "{client_version:?}"
        );
        let gone = client.round_trip(get("/gone"));
        assert_eq!((gone.status, gone.text()), (410, "gone"));
        assert_eq!(gone.header("x-a"), "b");
        assert_eq!(gone.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(shop.connections(), 0);
    }
}

#[test]
fn paths_and_hosts_are_rewritten_and_queries_are_not() {
    let routes = [
        "{ name: prefix, match: { path_prefix: /cart }, cluster: shop, rewrite: { prefix: /v2 } }",
        "{ name: template, match: { path_template: \"/u/{id}\" }, cluster: shop, rewrite: { path: \"/users/{id}/all\" } }",
        "{ name: regex, match: { path_prefix: /r }, cluster: shop, rewrite: { regex: { pattern: \"[0-9]+\", substitution: n } } }",
        "{ name: host, cluster: shop, rewrite: { host: \"inner.example:81\" } }",
    ];
    for (client_version, answers) in PAIRINGS {
        let shop = Service::replying(answers, "ok");
        let tollgate = routed(&routes, &[("shop", &shop)]);
        let client = Client::connect(at(&tollgate), client_version);
        for target in ["/cart/a%2Fb?x=%20", "/u/a%20b?/u/", "/r/1/22?3", "/other"] {
            client.round_trip(get(target));
        }
        let targets: Vec<_> = shop.received().into_iter().map(|it| it.target).collect();
        assert_eq!(
            targets,
            ["/v2/a%2Fb?x=%20", "/users/a%20b/all?/u/", "/r/n/n?3", "/other"],
            "{client_version:?} {answers:?}"
        );
        assert_eq!(shop.received()[3].authority, "inner.example:81");
    }
}

#[test]
fn headers_are_set_added_and_removed_with_variables() {
    let route = "{ name: all, cluster: shop, \
        request_headers: { set: { x-ip: \"%{peer_ip}\", x-to: \"%{host}\" }, add: { x-more: b }, remove: [x-secret] }, \
        response_headers: { set: { x-cluster: \"%{cluster}\" }, remove: [server] } }";
    for (client_version, answers) in PAIRINGS {
        let shop = Service::start(answers, |_| Reply::ok("ok").header("server", "shop"));
        let tollgate = routed(&[route], &[("shop", &shop)]);
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.round_trip(
            get("/").header("x-ip", "6.6.6.6").header("x-more", "a").header("x-secret", "s"),
        );
        assert_eq!(
            (answer.header("x-cluster"), answer.header("server")),
            ("shop".into(), "".into())
        );
        let asked = &shop.received()[0];
        assert_eq!(asked.header("x-ip"), "127.0.0.1", "{client_version:?} {answers:?}");
        assert_eq!(asked.header("x-to"), "shop.example");
        assert_eq!((asked.header("x-more"), asked.header("x-secret")), ("a, b".into(), "".into()));
    }
}

#[test]
fn policies_match_by_route_method_header_path_and_host() {
    let routes = [
        "{ name: cart, match: { path_prefix: /cart }, cluster: shop }",
        "{ name: rest, cluster: shop }",
    ];
    let cases: [(&str, fn() -> TestRequest); 5] = [
        ("resource: cart", || get("/cart/1")),
        ("operation: POST", || post("/a", "b")),
        ("header.x-team: red", || get("/a").header("x-team", "red")),
        ("path: /secret", || get("/secret?a")),
        ("host: inner.example", || get("/a").header("host", "Inner.example:80")),
    ];
    for (matches, ask) in cases {
        let shop = Service::replying(Version::One, "ok");
        let more = format!("policies:\n  - {{ name: no, match: {{ {matches} }}, deny: {{}} }}\n");
        let tollgate = Tollgate::start(&routed_config(&routes, &[("shop", &shop)], &more));
        for client_version in [Version::One, Version::Two] {
            let client = Client::connect(at(&tollgate), client_version);
            let answer = client.round_trip(ask());
            assert_eq!(answer.status, 403, "{matches} {client_version:?}");
            assert_eq!(answer.json()["policy"], "no", "{matches} {client_version:?}");
            assert_eq!(
                client.round_trip(get("/other")).text(),
                "ok",
                "{matches} {client_version:?}"
            );
        }
        tollgate.logged(2, |line| line["policy"] == "no" && line["status"] == "403");
    }
}

#[test]
fn errors_in_routes_have_a_position() {
    let shop = Service::replying(Version::One, "ok");
    let cases = [
        ("{ name: all, cluster: shpo }", "shpo"),
        ("{ name: all, match: { path_regex: \"(\" }, cluster: shop }", "path_regex"),
        ("{ name: all, cluster: shop, rewrite: { prefix: /a } }", "rewrite"),
        ("{ name: all }", "cluster"),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    for (route, told) in cases {
        let fine = "{ name: fine, match: { path: /fine }, cluster: shop }";
        let file = directory.path().join("tollgate.yaml");
        std::fs::write(&file, routed_config(&[fine, route], &[("shop", &shop)], "")).unwrap();
        let said = output_of(&["check", "-c", file.to_str().expect("text")]);
        let all = format!("{}{}", said.out, said.err);
        assert_ne!(said.code, Some(0), "{all}");
        // The second route stands in the ninth line.
        assert!(all.contains(told) && all.contains("tollgate.yaml:9"), "{route}\n{all}");
    }
}
