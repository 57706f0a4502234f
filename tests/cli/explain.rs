//! `tollgate check --explain`: the route and the policies of an operation.

use crate::{File, failed, fixture, support::tollgate::output_of};
use serde_json::Value;

#[test]
fn explain_shows_which_policies_apply() {
    let path = fixture("good/policies.yaml");
    let ask = |question: &str, more: &[&str]| {
        output_of(&[&["check", "-c", &path, "--explain", question], more].concat())
    };
    let drop = ask("mongo drop shop.orders peer=10.0.0.7 user=admin@admin", &[]);
    assert_eq!((drop.code, drop.err.as_str()), (Some(0), ""), "{drop:?}");
    let expected = "db (mongo):\n  \
        no-drops  deny  no: all of {\"not\":{\"app\":\"night?\"},\"peer\":[\"10.0.0.0/8\",\"192.168.*\",\"::1\"],\"user\":\"admin@admin\"} matches\n  \
        query     deny  no: there is no `query_hash`, and it must be `12e45`\n  \
        nobody    deny  no: `listener` is `db`, and must be `r*`\n";
    assert_eq!(drop.out, expected);
    let drop = ask("mongo drop shop.orders peer=10.0.0.7 user=admin@admin app=night7", &[]);
    assert!(drop.out.contains("  no-drops  deny  applies to it\n"), "{drop:?}");

    let raw = ask("tcp session listener=raw peer=192.0.2.1", &["--format", "json"]);
    let raw: Value = serde_json::from_str(&raw.out).unwrap();
    assert_eq!((&raw[0]["listener"], &raw[0]["protocol"]), (&"raw".into(), &"tcp".into()));
    let [drops, query, nobody] = raw[0]["policies"].as_array().unwrap().as_slice() else {
        panic!("{raw}")
    };
    assert_eq!((&drops["applies"], &drops["key"]), (&false.into(), &"protocol".into()));
    assert_eq!((&query["enabled"], &query["applies"]), (&false.into(), &false.into()));
    assert_eq!((&nobody["name"], &nobody["applies"]), (&"nobody".into(), &true.into()));
    assert_eq!(nobody["about"], "connection");
}

/// Two listeners with routes of every kind.
const ROUTED: &str = r#"
listeners:
  web:
    address: "127.0.0.1:8080"
    cluster: shop
    protocol:
      http:
        stream_idle_timeout: 2m
        routes:
          - name: blue
            match: { host: shop.example, path_prefix: /cart, headers: { x-team: blue } }
            clusters: [{ cluster: canary, weight: 1 }, { cluster: shop, weight: 3 }]
            rewrite: { prefix: /v2/cart, host: cart.internal }
            request_headers: { set: { x-user: "%{header.x-auth}" }, remove: [x-debug] }
            response_headers: { add: { vary: origin } }
            timeout: 5s
            retry: { on: [connect_failure, 503], attempts: 2, per_try_timeout: 1s }
            mirror: { cluster: canary, percent: 10 }
          - { name: old, match: { path_template: "/items/{id}" }, redirect: { path: "/products/{id}", status: 308 } }
          - { name: health, match: { path: /health, method: GET }, reply: { status: 204 } }
          - { name: chat, match: { path: /chat }, cluster: shop, upgrade: [websocket] }
  rpc:
    address: "127.0.0.1:8081"
    protocol: { grpc: { routes: [{ name: carts, match: { path_prefix: /shop.v1.Cart }, cluster: rpc }] } }
clusters:
  shop: { endpoints: ["a:1"] }
  canary: { endpoints: ["b:1"] }
  rpc: { endpoints: ["c:1"] }
policies:
  - { name: carts, match: { resource: [blue, carts], not: { path: "/cart/8*" } }, deny: {} }
"#;

#[test]
fn explain_shows_the_route_of_a_request() {
    let config = File::new(ROUTED);
    let ask = |question: &str| {
        let text = output_of(&["check", "-c", &config.path(), "--explain", question]);
        assert_eq!((text.code, text.err.as_str()), (Some(0), ""), "{text:?}");
        text.out
    };
    let blue = ask("http GET http://Shop.Example/cart/7?x=1 x-team=blue x-auth=joe");
    let expected = "web (http):\n  \
        route            blue\n  \
        cluster          canary 25 %, shop 75 %\n  \
        path             /cart/7 becomes /v2/cart/7\n  \
        host             becomes cart.internal\n  \
        request headers  without x-debug, x-user: %{header.x-auth}\n  \
        answer headers   one more vary: origin\n  \
        time-outs        5s until the answer begins, no limit until it ends, 2m without a byte\n  \
        retries          2 more on connect_failure, 503, each within 1s\n  \
        mirror           a copy of 10 % to canary\n\
        policies:\n  \
        carts  deny  applies to it\n";
    assert_eq!(blue, expected);
    for (question, line) in [
        ("http GET http://shop.example/cart/81 x-team=blue", "carts deny no: all of"),
        ("http GET http://shop.example/cart/7", "route default"),
        ("http GET http://shop.example/cart/7", "carts deny no: `resource` is `default`"),
        ("http GET /cart/7 x-team=blue", "route default"),
        ("http GET /cart/7 x-team=blue host=shop.example", "route blue"),
        ("http GET http://any/items/5%2e?q=1", "redirect to http://any/products/5.?q=1"),
        ("http GET http://any/health", "reply 204, by the proxy itself"),
        ("http POST http://any/health", "route default"),
        ("http GET http://any/chat", "upgrade to websocket"),
        ("http get http://any/", "answered 400 (method_case: "),
        ("http GET http://any/a/../b", "answered 400 (path)"),
        ("grpc /shop.v1.Cart/Add", "route carts"),
        ("grpc shop.v1.Cart/Add", "carts deny applies to it"),
        ("grpc /shop.v1.Other/Add", "answered 200 (no_route)"),
        ("grpc GET http://any/shop.v1.Cart/Add", "answered 405 (unsupported)"),
    ] {
        let text = ask(question);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = text.lines().any(|it| words(it).starts_with(line));
        assert!(found, "{question}: no {line:?} in\n{text}");
    }
    let json = output_of(&[
        "check",
        "-c",
        &config.path(),
        "--format",
        "json",
        "--explain",
        "grpc /shop.v1.Cart/Add",
    ]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json[0]["routed"]["route"], "carts");
    assert_eq!(
        (&json[0]["operation"], &json[0]["policies"][0]["applies"]),
        (&"shop.v1.Cart/Add".into(), &true.into())
    );
}

#[test]
fn an_explanation_compares_what_the_proxy_would_compare() {
    let config = File::new(
        "listeners:\n  web: { address: \":8080\", protocol: http, cluster: a }\n\
         clusters:\n  a: { endpoints: [\"127.0.0.1:1\"] }\n\
         policies:\n  - { name: no, match: { path: \"/%61dmin/*\", query: \"*q=a b*\" }, deny: {} }\n",
    );
    let ask = |facts: &str| {
        let question = format!("http GET default {facts}");
        output_of(&["check", "-c", &config.path(), "--explain", &question]).out
    };
    for facts in ["path=//admin/x query=q=a+b", "path=/admin%2fx query=%71=a%20b"] {
        assert!(ask(facts).contains("no  deny  applies to it"), "{facts}: {}", ask(facts));
    }
    let other = ask("path=//shop/x query=q=a+b");
    assert!(other.contains("`path` is `/shop/x`, and must be one of"), "{other}");
}

#[test]
fn an_invalid_question_exits_with_2() {
    let path = fixture("good/policies.yaml");
    let ask = |question: &str| output_of(&["check", "-c", &path, "--explain", question]);
    let example = "'mongo find shop.users app=reports";
    failed(&ask("mongo"), 2, &["a protocol and an operation", example]);
    failed(&ask("mongo find ap=x"), 2, &["did you mean `app`?", example]);
    failed(&ask("mongo find listener=raw"), 2, &["`raw` speaks mongo", "db (mongo), raw (tcp)"]);
    // A config that is wrong explains nothing.
    let bad = fixture("bad/policies.yaml");
    let output = output_of(&["check", "-c", &bad, "--explain", "mongo find"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("unknown key `oparation`"), "{output:?}");
}
