//! Which route matches which request.

use super::{head, routes};
use crate::{
    normalize,
    routes::{Action, Captures, Defaults, Routes},
};
use serde_json::{Value, json};

/// Whether a route with this match matches a request for `host`.
fn takes(matched: &Value, line: &str, host: &str, headers: &[(&'static str, &str)]) -> bool {
    let routes = routes(json!([{ "name": "it", "match": matched, "cluster": "shop" }]));
    routes.find(&head(line, headers), host).is_some()
}

fn table(matched: &Value, cases: &[(&str, bool)]) {
    for (line, expected) in cases {
        assert_eq!(takes(matched, line, "a", &[]), *expected, "{matched} {line}");
    }
}

#[test]
fn the_first_matching_route_is_used() {
    let routes = routes(json!([
        { "name": "cart", "match": { "path_prefix": "/cart", "method": ["GET", "POST"] }, "cluster": "cart" },
        { "name": "beta", "match": { "headers": { "x-beta": "yes" } }, "cluster": "beta" },
        { "name": "old", "match": { "path": "/old" }, "reply": { "status": 410 } },
        { "name": "rest", "cluster": "shop" },
    ]));
    for (line, headers, name) in [
        ("GET /cart", &[][..], "cart"),
        ("POST /cart/7?x=/old", &[("x-beta", "yes")], "cart"),
        ("DELETE /cart", &[], "rest"),
        ("DELETE /cart", &[("x-beta", "yes")], "beta"),
        ("GET /old", &[], "old"),
        ("OPTIONS *", &[], "rest"),
        ("CONNECT shop.example.com:443", &[], "rest"),
    ] {
        let (route, _) = routes.find(&head(line, headers), "a").unwrap();
        assert_eq!(&*route.name, name, "{line}");
    }
    let names: Vec<_> = routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["cart", "beta", "old", "rest"]);
}

#[test]
fn a_request_without_route_is_reported() {
    let routes = routes(json!([{ "name": "a", "match": { "path": "/a" }, "cluster": "a" }]));
    assert!(routes.find(&head("GET /b", &[]), "a").is_none());
}

#[test]
fn without_routes_all_requests_take_the_route_default() {
    let defaults =
        Defaults { timeout: None, whole: false, idle_timeout: None, max_request_body: Some(7) };
    let routes = Routes::single("shop", defaults);
    for line in ["GET /", "POST /x?y", "OPTIONS *", "CONNECT a:1"] {
        let (route, captures) = routes.find(&head(line, &[]), "").unwrap();
        assert_eq!((&*route.name, route.max_request_body), ("default", Some(7)));
        let Action::Forward(targets) = &route.action else { panic!("{:?}", route.action) };
        assert_eq!(&**targets.pick(0.5), "shop");
        assert_eq!(captures.0.capacity(), 0, "nothing is allocated");
    }
}

#[test]
fn a_path_prefix_has_whole_segments() {
    for prefix in ["/cart", "/cart/", "//cart"] {
        table(
            &json!({ "path_prefix": prefix }),
            &[
                ("GET /cart", true),
                ("GET /cart/", true),
                ("GET /cart/x", true),
                ("GET /cart?q=1", true),
                ("GET //cart//x", true),
                ("GET /c%61rt/x", true),
                ("GET /cartoon", false),
                ("GET /Cart", false),
                ("GET /cart%2Fx", false),
                ("GET /", false),
                ("GET /x/cart", false),
            ],
        );
    }
    table(
        &json!({ "path_prefix": "/" }),
        &[("GET /", true), ("GET /x", true), ("OPTIONS *", false)],
    );
}

#[test]
fn a_path_is_compared_as_a_whole_without_its_query() {
    table(
        &json!({ "path": "/a/b" }),
        &[
            ("GET /a/b", true),
            ("GET /a/b?c", true),
            ("GET /a//b", true),
            ("GET /a/b/", false),
            ("GET /a/b/c", false),
            ("GET /A/b", false),
            ("GET http://host/a/b", true),
        ],
    );
    table(
        &json!({ "path_regex": "/v[0-9]+/.*" }),
        &[("GET /v1/x", true), ("GET /v12/?y", true), ("GET /v1", false), ("GET /x/v1/y", false)],
    );
    table(
        &json!({ "path_template": "/users/{id}/orders/{rest=**}" }),
        &[
            ("GET /users/7/orders", true),
            ("GET /users/7/orders/8/9?x", true),
            ("GET /users//orders", false),
            ("GET /users/7/8/orders", false),
        ],
    );
}

#[test]
fn hosts_are_exact_or_have_one_end_open() {
    for (pattern, host, expected) in [
        (json!("shop.example.com"), "shop.example.com", true),
        (json!("Shop.Example.COM"), "shop.example.com", true),
        (json!("shop.example.com"), "shop.example.com.", true),
        (json!("shop.example.com."), "shop.example.com", true),
        (json!("shop.example.com"), "www.shop.example.com", false),
        (json!("*.example.com"), "shop.example.com", true),
        (json!("*.example.com"), "a.b.example.com", true),
        (json!("*.example.com"), "example.com", false),
        (json!("*.example.com"), ".example.com", false),
        (json!("*.example.com"), "badexample.com", false),
        (json!("shop.*"), "shop.example.com", true),
        (json!("shop.*"), "shop", false),
        (json!("shop.*"), "shop.", false),
        (json!("shop.*"), "shopping.com", false),
        (json!(["a", "b"]), "b", true),
        (json!(["a", "b"]), "c", false),
        (json!(["a", "*"]), "c", true),
        (json!("[::1]"), "[::1]", true),
        (json!("[::1]"), "[0:0::0:1]", true),
        (json!("*.example.com."), "shop.example.com", true),
    ] {
        assert_eq!(
            takes(&json!({ "host": pattern }), "GET /", &normalize::written_host(host), &[]),
            expected,
            "{pattern} {host}"
        );
    }
}

#[test]
fn headers_are_tested_line_by_line() {
    let two = &[("x-a", "one"), ("x-a", "2")][..];
    for (test, headers, expected) in [
        (json!("one"), two, true),
        (json!("2"), two, true),
        (json!("one, 2"), two, false),
        (json!("One"), two, false),
        (json!({ "exact": "one" }), two, true),
        (json!({ "prefix": "on" }), two, true),
        (json!({ "prefix": "ne" }), two, false),
        (json!({ "suffix": "ne" }), two, true),
        (json!({ "contains": "n" }), two, true),
        (json!({ "prefix": "o", "suffix": "2" }), two, false),
        (json!({ "regex": "o.e" }), two, true),
        (json!({ "regex": "o" }), two, false),
        (json!({ "range": [1, 2] }), two, true),
        (json!({ "range": [3, 9] }), two, false),
        (json!({ "range": [-5, 5] }), &[("x-a", "-5")], true),
        (json!({ "range": [0, 9] }), &[("x-a", "2x")], false),
        (json!({ "present": true }), two, true),
        (json!({ "present": false }), two, false),
        (json!({ "present": true }), &[], false),
        (json!({ "present": false }), &[], true),
        (json!({ "not": "one" }), two, false),
        (json!({ "not": "three" }), two, true),
        (json!({ "not": "one" }), &[], true),
        (json!({ "not": "one", "present": true }), &[], false),
        (json!({ "prefix": "o", "not": { "suffix": "x" } }), &[("x-a", "ok")], true),
        (json!({ "prefix": "o", "not": { "suffix": "x" } }), &[("x-a", "ox")], false),
    ] {
        let matched = json!({ "headers": { "X-A": test } });
        assert_eq!(takes(&matched, "GET /", "a", headers), expected, "{test} {headers:?}");
    }
    let both = json!({ "headers": { "x-a": "one", "x-b": "two" } });
    assert!(!takes(&both, "GET /", "a", two), "every header has to be so");
}

#[test]
fn parameters_of_the_query_are_decoded_before_they_are_tested() {
    for (query, target, expected) in [
        (json!({ "q": "a b" }), "/?q=a+b", true),
        (json!({ "q": "a b" }), "/?x=1&q=a%20b", true),
        (json!({ "q": "a b" }), "/?q=ab", false),
        (json!({ "a b": "1" }), "/?a+b=1", true),
        (json!({ "q": "" }), "/?q", true),
        (json!({ "q": "" }), "/?q=", true),
        (json!({ "q": "1=2" }), "/?q=1=2", true),
        (json!({ "q": "2" }), "/?q=1&q=2", true),
        (json!({ "q": { "present": false } }), "/?p=1", true),
        (json!({ "q": { "present": false } }), "/", true),
        (json!({ "q": { "present": true } }), "/?&", false),
        (json!({ "page": { "range": [1, 10] } }), "/?page=7", true),
    ] {
        let line = format!("GET {target}");
        assert_eq!(takes(&json!({ "query": query }), &line, "a", &[]), expected, "{query} {line}");
    }
}

#[test]
fn captures_are_made_only_where_they_are_used() {
    let template = json!({ "path_template": "/users/{id}" });
    let unused = routes(json!([{ "name": "a", "match": template, "cluster": "a" }]));
    let (_, captures) = unused.find(&head("GET /users/7", &[]), "a").unwrap();
    assert_eq!(captures.0.capacity(), 0);
    for extra in [
        json!({ "rewrite": { "path": "/u/{id}" } }),
        json!({ "request_headers": { "set": { "x-id": "%{capture.id}" } } }),
        json!({ "response_headers": { "add": { "x-id": "%{capture.id}" } } }),
    ] {
        let mut route = json!({ "name": "a", "match": template, "cluster": "a" });
        route.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (_, captures) = routes(json!([route])).find(&head("GET /users/7", &[]), "a").unwrap();
        assert_eq!(captures.get("id"), Some("7"), "{extra}");
        assert_eq!(Captures::get(&captures, "other"), None);
    }
}

#[test]
fn an_encoded_slash_does_not_bypass_a_route() {
    let routes = routes(json!([
        { "name": "files", "match": { "path_template": "/files/{name}" }, "cluster": "shop" },
        { "name": "private", "match": { "path_prefix": "/files/private" }, "reply": { "status": 403 } },
        { "name": "admin", "match": { "path_prefix": "/admin" }, "cluster": "admin" },
        { "name": "rest", "cluster": "shop" },
    ]));
    for (path, name, deceives) in [
        ("/admin/x", "admin", false),
        ("/admin%2Fx", "rest", true),
        ("/admin%5cx", "rest", true),
        ("/admin\\x", "rest", true),
        ("/%2Fadmin/x", "rest", true),
        ("/admin/a%2Fb", "admin", false),
        ("/other%2Fx", "rest", false),
        ("/@scope%2fpackage", "rest", false),
        // A template matches one segment, whatever it contains…
        ("/files/a%2Fb", "files", false),
        // …unless the proxy itself would answer.
        ("/files/private%2Fx", "files", true),
        ("/admin%252Fx", "rest", false),
    ] {
        let head = head(&format!("GET {path}"), &[]);
        let (route, _) = routes.find(&head, "a").unwrap();
        assert_eq!(&*route.name, name, "{path}");
        assert_eq!(routes.has_other_reading(&head, "a", &route), deceives, "{path}");
    }
}

#[test]
fn equivalent_paths_match_the_same_route() {
    for (pattern, path) in [
        (json!({ "path": "/v1:admin" }), "/v1%3Aadmin"),
        (json!({ "path": "/v1%3aadmin" }), "/v1:admin"),
        (json!({ "path": "/a@b" }), "/a%40b"),
        (json!({ "path_prefix": "/a(b)" }), "/a%28b%29/c"),
        (json!({ "path": "/a{b}" }), "/a%7Bb%7D"),
        (json!({ "path_template": "/a;b/{c}" }), "/a%3bb/1"),
        (json!({ "path_regex": "/a=b" }), "/a%3Db"),
    ] {
        assert!(takes(&pattern, &format!("GET {path}"), "a", &[]), "{pattern} {path}");
    }
}

#[test]
fn captures_and_forwarded_paths_keep_the_clients_spelling() {
    let routes = routes(json!([
        { "name": "user", "match": { "path_template": "/users/{id}" }, "rewrite": { "path": "/u/{id}" }, "cluster": "a" },
        { "name": "cart", "match": { "path_prefix": "/c@rt" }, "rewrite": { "prefix": "/v2" }, "cluster": "a" },
    ]));
    for (path, gone) in
        [("/users/a%3Bb", "/u/a%3Bb"), ("//c%40rt//x%3b", "/v2/x%3B"), ("/c@rt", "/v2")]
    {
        let mut head = head(&format!("GET {path}"), &[]);
        let (route, captures) = routes.find(&head, "a").unwrap();
        route.rewrite(&mut head, &captures, &super::variables()).unwrap();
        assert_eq!(head.uri.path(), gone, "{path}");
    }
}
