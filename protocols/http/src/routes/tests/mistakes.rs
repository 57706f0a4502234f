//! Mistakes in routes are reported with position and hint.

use super::{mistakes, read, routes, settings};
use crate::routes::clusters;
use serde_json::{Value, json};

/// A route to a cluster with these additional keys.
fn route(keys: Value) -> Value {
    let mut route = json!({ "name": "a", "cluster": "shop" });
    let Value::Object(keys) = keys else { panic!("{keys}") };
    route.as_object_mut().unwrap().extend(keys);
    route
}

/// `path: message (hint)` of the only mistake.
fn told(list: &Value) -> String {
    let mistakes = mistakes(list);
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?} in {list}") };
    format!("{}: {} ({})", mistake.path.join("."), mistake.message, mistake.hint)
}

#[test]
fn a_route_has_one_name_and_one_action() {
    let two = json!([route(json!({ "match": { "path": "/x" } })), route(json!({}))]);
    let reply = json!({ "status": 200 });
    for (list, expected) in [
        (
            two,
            "routes.1.name: the name `a` stands here for the second time (names tell routes apart",
        ),
        (json!([{ "name": "a" }]), "routes.0: the route `a` leads nowhere (write `cluster`"),
        (
            json!([route(json!({ "reply": reply }))]),
            "routes.0.reply: the route `a` has two ends: `cluster` and `reply` (keep one",
        ),
        (
            json!([{ "name": "a", "clusters": [{ "cluster": "x", "weight": 0 }] }]),
            "routes.0.clusters: no cluster has any weight (give one at least 1)",
        ),
        (
            json!([{ "name": "a", "clusters": [{ "cluster": "x" }, { "cluster": "x" }] }]),
            "routes.0.clusters.1.cluster: `x` stands here for the second time (add up",
        ),
        (
            json!([{ "name": "a", "reply": reply, "retry": { "on": "reset" } }]),
            "routes.0.retry: `retry` does nothing here: no service is asked (leave it out)",
        ),
    ] {
        let told = told(&list);
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn an_unreachable_route_is_a_mistake() {
    let prefix = json!({ "path_prefix": "/x" });
    let late = |before: Value| json!([before, { "name": "late", "match": prefix, "cluster": "c" }]);
    for before in [
        json!({}),
        json!({ "match": {} }),
        json!({ "match": { "path_prefix": "/" } }),
        json!({ "match": { "host": "*" } }),
        json!({ "match": prefix }),
    ] {
        let told = told(&late(route(before)));
        assert!(
            told.starts_with("routes.1.name: no request reaches `late`: `a` before it"),
            "{told}"
        );
        assert!(told.ends_with("put `late` before `a`)"), "{told}");
    }
    for before in [
        json!({ "match": { "path_prefix": "/", "method": "GET" } }),
        json!({ "match": { "path_prefix": "/y" } }),
        json!({ "match": { "host": "h" } }),
    ] {
        assert_eq!(mistakes(&late(route(before))), []);
    }
}

#[test]
fn mistakes_in_matches_are_reported_with_their_key() {
    for (matched, expected) in [
        (json!({ "path": "x" }), "path: `x` does not begin with a slash (write `/x`)"),
        (json!({ "path_prefix": "/a?b" }), "path_prefix: `/a?b` has more to it than a path"),
        (json!({ "path": "/a/../b" }), "path: `/a/../b` is refused wherever it comes from"),
        (json!({ "path": "/50%" }), "path: `/50%` is refused"),
        (
            json!({ "path_regex": "/v(" }),
            "path_regex: `/v(` is no regular expression: unclosed group (",
        ),
        (json!({ "path_template": "/{}" }), "path_template: `` can't be a name here"),
        (json!({ "path": "/a", "path_regex": "/a" }), "path_regex: `path` and `path_regex` both"),
        (
            json!({ "host": "a:80" }),
            "host: `a:80` has a port, which no route looks at (leave it out: `a`)",
        ),
        (json!({ "host": "[::1]:80" }), "host: `[::1]:80` has a port"),
        (json!({ "host": ["a", "a.*.b"] }), "host.1: `a.*.b` is no host: a `*` stands for"),
        (json!({ "host": "*a" }), "host: `*a` is no host: a `*`"),
        (json!({ "host": "http://a" }), "host: `http://a` is no host"),
        (
            json!({ "method": "get" }),
            "method: no request has the method `get` (methods are in capitals: `GET`)",
        ),
        (json!({ "method": ["GET", "P T"] }), "method.1: `P T` is no method"),
        (json!({ "headers": { "x y": "1" } }), "headers.x y: `x y` can't be a header"),
        (
            json!({ "headers": { "host": "a" } }),
            "headers.host: not every request has this header (write `host`",
        ),
        (json!({ "headers": { "x": {} } }), "headers.x: this says nothing"),
        (
            json!({ "headers": { "x": { "regex": "[" } } }),
            "headers.x.regex: `[` is no regular expression",
        ),
        (
            json!({ "headers": { "x": { "range": [9, 1] } } }),
            "headers.x.range: a range needs two numbers",
        ),
        (json!({ "query": { "x": { "range": [1] } } }), "query.x.range: a range needs two numbers"),
        (
            json!({ "query": { "x": { "present": false, "exact": "1" } } }),
            "query.x.present: what is not there",
        ),
        (
            json!({ "query": { "x": { "not": { "regex": "(" } } } }),
            "query.x.not: `(` is no regular",
        ),
    ] {
        let told = told(&json!([route(json!({ "match": matched }))]));
        assert!(told.starts_with(&format!("routes.0.match.{expected}")), "{told}");
        assert!(!told.ends_with("()"), "no hint: {told}");
    }
}

/// The only mistake of a route with these keys; it must have a hint.
fn assert_told(keys: Value, expected: &str) {
    let told = told(&json!([route(keys)]));
    assert!(told.starts_with(&format!("routes.0.{expected}")), "{told}");
    assert!(!told.ends_with("()"), "no hint: {told}");
}

#[test]
fn mistakes_in_rewrites_are_reported_with_their_key() {
    let pattern = |pattern: &str, by: &str| json!({ "rewrite": { "regex": { "pattern": pattern, "substitution": by } } });
    for (keys, expected) in [
        (
            json!({ "rewrite": { "prefix": "/b" } }),
            "rewrite.prefix: there is no prefix in whose place",
        ),
        (
            json!({ "rewrite": { "path": "/{id}" } }),
            "rewrite.path: the match names nothing `id` (name pieces",
        ),
        (json!({ "rewrite": { "path": "b" } }), "rewrite.path: `b` does not begin with a slash"),
        (json!({ "rewrite": {} }), "rewrite: this rewrites nothing"),
        (json!({ "rewrite": { "host": "a b" } }), "rewrite.host: `a b` is no host"),
        (json!({ "rewrite": { "host": "me@a" } }), "rewrite.host: `me@a` is no host"),
        (pattern("(", ""), "rewrite.regex.pattern: `(` is no regular expression"),
        (
            pattern("v([0-9])", "$1x"),
            "rewrite.regex.substitution: the pattern has no group `1x` (write `${1}`",
        ),
        (pattern("v", "$2"), "rewrite.regex.substitution: the pattern has no group `2`"),
        (pattern("v", "a?b"), "rewrite.regex.substitution: "),
    ] {
        assert_told(keys, expected);
    }
}

#[test]
fn mistakes_in_header_edits_are_reported_with_their_key() {
    let set = |name: &str, value: &str| json!({ "request_headers": { "set": { name: value } } });
    for (keys, expected) in [
        (set("x y", "1"), "request_headers.set.x y: `x y` can't be a header"),
        (
            set("Connection", "x"),
            "request_headers.set.Connection: `Connection` belongs to each connection",
        ),
        (
            set("host", "x"),
            "request_headers.set.host: the host is no header of every request (write `rewrite",
        ),
        (set("x", "a\r\nb"), "request_headers.set.x: a header can't have the value \"a\\r\\nb\""),
        (
            set("x", "50%"),
            "request_headers.set.x: `50%` has a `%` that begins no variable (write `%%`",
        ),
        (set("x", "%{peer"), "request_headers.set.x: `%{peer` has a `%`"),
        (set("x", "%{per}"), "request_headers.set.x: there is no variable `per` (there are peer,"),
        (set("x", "%{header.a b}"), "request_headers.set.x: `a b` can't be a header"),
        (set("x", "%{capture.id}"), "request_headers.set.x: the match names nothing `id`"),
        (
            json!({ "response_headers": { "remove": ["a", "te"] } }),
            "response_headers.remove.1: `te` belongs",
        ),
        (json!({ "response_headers": {} }), "response_headers: this does nothing"),
    ] {
        assert_told(keys, expected);
    }
}

#[test]
fn impossible_times_and_attempts_are_reported_with_their_key() {
    for (keys, expected) in [
        (
            json!({ "hedge": { "after": "15s" } }),
            "hedge.after: a second endpoint would be asked when",
        ),
        (
            json!({ "retry": { "on": "5xx", "per_try_timeout": "16s" } }),
            "retry.per_try_timeout: one try",
        ),
        (
            json!({ "retry": { "on": "5xx", "max_body": "1GiB" } }),
            "retry.max_body: so much is not kept",
        ),
        (
            json!({ "retry": { "on": "5xx", "methods": "put" } }),
            "retry.methods: no request has the method",
        ),
        (
            json!({ "retry": { "on": "5xx", "backoff": { "base": "1s", "max": "1ms" } } }),
            "retry.backoff.max: the pause may never be as long",
        ),
        (json!({ "upgrade": ["web socket"] }), "upgrade: `web socket` is no protocol"),
    ] {
        assert_told(keys, expected);
    }
}

#[test]
fn mistakes_in_replies_are_reported_with_their_key() {
    for (key, value, expected) in [
        ("redirect", json!({}), ": this leads a client back to where it is"),
        ("redirect", json!({ "status": 305, "host": "a" }), ".status: 305 leads a client nowhere"),
        ("redirect", json!({ "scheme": "ftp" }), ".scheme: `ftp` is no scheme of the web"),
        (
            "redirect",
            json!({ "host": "a:1" }),
            ".host: `a:1` has a port (write it under `port`, and `a`",
        ),
        ("redirect", json!({ "path": "/{x}" }), ".path: the match names nothing `x`"),
        ("redirect", json!({ "prefix": "/x" }), ".prefix: there is no prefix"),
        ("reply", json!({ "status": 204, "body": "x" }), ".body: a 204 has no body"),
        (
            "reply",
            json!({ "status": 200, "body": "x".repeat(65537) }),
            ".body: the body is too long",
        ),
        (
            "reply",
            json!({ "status": 200, "headers": { "a": "\n" } }),
            ".headers.a: a header can't have",
        ),
        (
            "reply",
            json!({ "status": 200, "headers": { "content-length": "1" } }),
            ".headers.content-length: ",
        ),
    ] {
        let told = told(&json!([{ "name": "a", key: value }]));
        assert!(told.starts_with(&format!("routes.0.{key}{expected}")), "{told}");
    }
}

#[test]
fn all_mistakes_are_reported() {
    let list = json!([
        { "name": "a", "match": { "path": "x", "method": "get" }, "rewrite": { "path": "y" } },
        { "name": "b", "reply": { "status": 204, "body": "x" } },
    ]);
    let places: Vec<_> = mistakes(&list).iter().map(|it| it.path.join(".")).collect();
    assert_eq!(
        places,
        [
            "routes.0.match.path",
            "routes.0.match.method",
            "routes.0",
            "routes.0.rewrite.path",
            "routes.1.reply.body"
        ]
    );
}

#[test]
fn a_value_of_the_wrong_type_is_reported() {
    for (key, value, expected) in [
        ("max_head", json!("64XB"), "`64XB` is not a size"),
        ("failed", json!(["5xx", "6xx"]), "`6xx` is no status"),
        ("failed", json!([]), "an empty list"),
        ("forwarded", json!("on"), "unknown value `on`"),
        ("via", json!("a b"), "`a b` can't be the name of a proxy"),
        ("trusted_hops", json!(101), "`101` is out of range"),
        ("routes", json!([{ "name": "a b" }]), "`a b` can't be a name"),
        ("routes", json!([{ "name": "a", "retry": { "on": "4" } }]), "`4` is nothing to retry on"),
        (
            "routes",
            json!([{ "name": "a", "match": { "headers": { "x": { "is": 1 } } } }]),
            "unknown field `is`",
        ),
        (
            "routes",
            json!([{ "name": "a", "upgrade": 7 }]),
            "a list of protocols such as `[websocket]`",
        ),
    ] {
        let error = read(json!({ key: value })).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn clusters_are_listed_with_the_keys_that_name_them() {
    let list = json!([
        { "name": "a", "cluster": "one", "mirror": { "cluster": "two" } },
        { "name": "b", "clusters": [{ "cluster": "three" }, { "cluster": "four", "weight": 0 }] },
        { "name": "c", "reply": { "status": 200 } },
    ]);
    let settings = settings(&list);
    let found: Vec<_> = clusters(&settings.routes)
        .into_iter()
        .map(|(path, name)| format!("{} {name}", path.join(".")))
        .collect();
    assert_eq!(
        found,
        [
            "routes.0.cluster one",
            "routes.0.mirror.cluster two",
            "routes.1.clusters.0.cluster three",
            "routes.1.clusters.1.cluster four",
        ]
    );
}

#[test]
fn a_config_without_mistakes_has_none() {
    assert_eq!(routes(json!([route(json!({}))])).iter().count(), 1);
    assert_eq!(mistakes(&json!([])), []);
}
