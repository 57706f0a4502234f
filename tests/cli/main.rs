//! The command line: what each command prints, its exit code, and what is never said.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod proxied;
mod secrets;

use bson::doc;
use serde_json::Value;
use std::{
    net::TcpListener,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};
use support::{
    client::RawClient,
    ends::Upstream,
    scripted::Scripted,
    tollgate::{CommandOutput, Tollgate, output_of, program, tcp_config},
};

/// A config file that goes away with the test.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tollgate.yaml"), text).unwrap();
        Self(directory)
    }

    fn path(&self) -> String {
        self.0.path().join("tollgate.yaml").display().to_string()
    }
}

fn fixture(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("fixtures/config").join(name).display().to_string()
}

/// Asserts that it failed with this code, and said all of these words on stderr.
fn failed(said: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    assert!(!said.err.contains("panicked"), "{said:?}");
}

const COMMANDS: [&str; 6] = ["run", "check", "proxy", "demo", "schema", "top"];

#[test]
fn the_help_names_every_command() {
    let help = output_of(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        assert!(help.out.contains(&format!("\n  {command} ")), "no {command} in {help:?}");
        let help = output_of(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.out.contains(&format!("Usage: tollgate {command}")), "{help:?}");
    }
    assert!(output_of(&["--version"]).out.starts_with("tollgate "));
}

#[test]
fn what_can_t_be_understood_is_a_matter_of_usage() {
    failed(&output_of(&[]), 2, &["Usage: tollgate"]);
    failed(&output_of(&["gibberish"]), 2, &["gibberish", "Usage"]);
    failed(&output_of(&["proxy", "tcp", ":1"]), 2, &["UPSTREAM"]);
    failed(&output_of(&["check", "--format", "xml"]), 2, &["text", "json"]);
    failed(&output_of(&["demo", "--duration", "soon"]), 2, &["soon"]);
}

#[test]
fn a_good_config_is_ok_and_nobody_is_called() {
    // Everything that a run would touch: a taken port, a server, a name that doesn't exist.
    let (taken, upstream) = (Upstream::start(), Upstream::start());
    let config = tcp_config(upstream.address(), "")
        .replace("127.0.0.1:0", &taken.address().to_string())
        .replace("endpoints: [", "endpoints: [\"nowhere.invalid:1\", ");
    let file = File::new(&config);
    let check = output_of(&["check", "-c", &file.path()]);
    assert_eq!((check.code, check.out.as_str(), check.err.as_str()), (Some(0), "ok\n", ""));
    let check = output_of(&["check", "--format", "json", "-c", &file.path()]);
    assert_eq!((check.code, check.out.as_str()), (Some(0), "[]\n"));
    assert!(!upstream.was_called() && !taken.was_called());
}

/// What `check` says of a config beside `ok`.
fn hints(listener: &str, rest: &str) -> Vec<String> {
    let config = format!(
        "max_connections: 1000\n\
         listeners:\n  db: {{ {listener}, cluster: c }}\n\
         clusters:\n  c: {{ endpoints: [\"127.0.0.1:1\"] }}\n{rest}"
    );
    let file = File::new(&config);
    let check = output_of(&["check", "-c", &file.path()]);
    assert_eq!((check.code, check.err.as_str()), (Some(0), ""), "{check:?}");
    let json = output_of(&["check", "--format", "json", "-c", &file.path()]);
    assert_eq!((json.code, json.out.as_str()), (Some(0), "[]\n"), "hints are for people");
    let hints = check.out.strip_prefix("ok\n").unwrap();
    hints.lines().map(|line| line.strip_prefix("hint: ").unwrap().to_owned()).collect()
}

#[test]
fn a_list_of_denied_commands_without_those_that_are_not_known_is_a_hint() {
    let db = "address: 127.0.0.1:0, protocol: mongo";
    let deny = |matching: &str| {
        format!("policies: [{{ name: p, match: {{ {matching} }}, deny: {{}} }}]\n")
    };
    for left_out in ["operation: drop", "operation: [drop, 'create*']"] {
        let hints = hints(db, &deny(left_out));
        assert_eq!(hints.len(), 1, "{left_out}");
        assert!(hints[0].contains("policy `p`: ") && hints[0].contains("add `other`"), "{hints:?}");
    }
    for good in
        ["operation: [drop, other]", "operation: '*'", "not: { operation: find }", "peer: ::1"]
    {
        assert!(hints(db, &deny(good)).is_empty(), "{good}");
    }
    let session = deny("operation: session");
    assert!(hints("address: 127.0.0.1:0, protocol: tcp", &session).is_empty());
}

#[test]
fn a_listener_on_every_interface_without_any_limit_is_a_hint() {
    let everywhere = "address: ':27018', protocol: mongo";
    for address in ["':27018'", "'[::]:27018'", "0.0.0.0:27018"] {
        let hints = hints(&format!("address: {address}, protocol: mongo"), "");
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(hints[0].starts_with("listener `db`: "), "{hints:?}");
        assert!(hints[0].contains("is every interface, and nothing limits a client there"));
    }
    let policy = |what: &str| format!("policies: [{{ name: p, {what} }}]\n");
    let limits = [
        "connection_limit: { max: 5, key: [peer] }",
        "rate_limit: { rate: 5/s, key: [peer] }",
        "rate_limit: { rate: 5/s, unit: connections }",
        "concurrency_limit: { max: 5 }",
        "match: { protocol: mongo }, connection_limit: { max: 5 }",
    ];
    for limit in limits {
        assert!(hints(everywhere, &policy(limit)).is_empty(), "{limit}");
    }
    for bound in
        ["address: 127.0.0.1:0, protocol: mongo", &format!("{everywhere}, max_connections: 500")]
    {
        assert!(hints(bound, "").is_empty(), "{bound}");
    }
    let none = [
        "connection_limit: { max: 5 }, dry_run: true",
        "connection_limit: { max: 5 }, enabled: false",
        "rate_limit: { rate: 5MiB/s, unit: bytes }",
        "deny: {}, match: { operation: [drop, other] }",
    ];
    for policy in none.map(policy) {
        assert_eq!(hints(everywhere, &policy).len(), 1, "{policy}");
    }
    // A limit that is about another listener.
    let two = format!("{everywhere}, cluster: c }}\n  wire: {{ address: ':27019', protocol: tcp");
    let hints = hints(&two, &policy("match: { protocol: tcp }, connection_limit: { max: 5 }"));
    assert_eq!(hints.len(), 1, "{hints:?}");
    assert!(hints[0].starts_with("listener `db`: "), "{hints:?}");
}

#[test]
fn several_servers_that_a_client_takes_for_one_are_a_hint() {
    let db = "address: 127.0.0.1:0, protocol: mongo";
    let with = |cluster: &str| {
        let config =
            format!("listeners:\n  db: {{ {db}, cluster: c }}\nclusters:\n  c: {{ {cluster} }}\n");
        let check = output_of(&["check", "-c", &File::new(&config).path()]);
        assert_eq!((check.code, check.err.as_str()), (Some(0), ""), "{check:?}");
        check.out
    };
    for several in [
        "endpoints: [\"a:1\", \"b:1\"]",
        "endpoints: [{ srv: mongodb+srv://db.example.net }]",
        "endpoints_file: members.yaml",
        "endpoints: [\"a:1\", \"b:1\"], health_check: {}",
    ] {
        let told = with(several);
        assert!(told.contains("hint: listener `db`: `c` may have several servers"), "{told}");
    }
    for good in [
        "endpoints: [\"a:1\"]",
        "endpoints: [\"a:1\", \"b:1\"], lb_policy: maglev",
        "endpoints: [\"a:1\", \"b:1\"], health_check: { probe: { mongo: { writable: true } } }",
    ] {
        assert_eq!(with(good), "ok\n", "{good}");
    }
    let tcp = tcp_config("127.0.0.1:1".parse().unwrap(), "");
    let tcp = tcp.replace("endpoints: [", "endpoints: [\"127.0.0.1:2\", ");
    assert_eq!(output_of(&["check", "-c", &File::new(&tcp).path()]).out, "ok\n");
}

#[test]
fn what_is_possible_and_hardly_meant_is_a_hint() {
    let config = "admin: 0.0.0.0:9901\n\
        listeners:\n  \
          db: { address: '127.0.0.1:1', cluster: db, \
            protocol: { mongo: { members: { mongo-1.db:27017: 'proxy:1', mongo-9:27017: 'proxy:2' } } } }\n  \
          web: { address: '127.0.0.1:2', protocol: { http: { routes: \
            [{ name: back, match: { path: /back }, cluster: web, rewrite: { path: / } }] } } }\n\
        clusters:\n  \
          db: { endpoints: ['mongo-1.dbs:27017'] }\n  \
          web: { endpoints: ['localhost:2'] }\n  \
          old: { endpoints: ['old:1'] }\n\
        access_log: { path: /nowhere/at/all/access.log }\n\
        policies:\n  \
          - { name: p, match: { protocol: mongo, resource: orders, operation: find }, time_limit: { timeout: 5s } }\n  \
          - { name: q, match: { protocol: mongo, resource: [orders, 'orders.*'] }, time_limit: { timeout: 5s } }\n";
    let check = output_of(&["check", "-c", &File::new(config).path()]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let told: Vec<&str> = check.out.lines().collect();
    for (at, part) in [
        "ok",
        "hint: admin: 0.0.0.0:9901 is every interface",
        "hint: listener `db`: no cluster has the member `mongo-1.db:27017`, did you mean `mongo-1.dbs:27017`?",
        "hint: listener `web` leads to itself",
        "hint: cluster `old`: no listener leads to it",
        "hint: access_log: there is no folder `/nowhere/at/all`",
        "hint: policy `p`: the resource `orders` is a database by itself",
    ]
    .iter()
    .enumerate()
    {
        assert!(told.get(at).is_some_and(|line| line.starts_with(part)), "{part}: {told:#?}");
    }
    assert_eq!(told.len(), 7, "{told:#?}");
}

#[test]
fn a_config_may_come_by_stdin() {
    let good = std::fs::File::open(fixture("good/minimal.yaml")).unwrap();
    let check = program().args(["check", "-c", "-"]).stdin(good).output().unwrap();
    assert!(check.status.success() && check.stdout.starts_with(b"ok\n"), "{check:?}");
    let bad = std::fs::File::open(fixture("bad/unknown_key.yaml")).unwrap();
    let check = program().args(["check", "-c", "-"]).stdin(bad).output().unwrap();
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(told.starts_with("stdin:5:5: unknown key `clustr`"), "{told}");
}

#[test]
fn a_limit_above_the_whole_proxy_s_is_a_hint() {
    let hints = hints("address: 127.0.0.1:0, protocol: mongo, max_connections: 2000", "");
    assert_eq!(hints.len(), 1, "{hints:?}");
    assert!(hints[0].contains("it never has 2000 connections"), "{hints:?}");
}

#[test]
fn a_credential_in_the_key_of_a_shared_limit_is_a_hint_without_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let secret = format!("hash_key_file: {}", file.display());
    let told = |key: &str, rest: &str| {
        let shared = format!("shared: {{ redis: {{ address: 'r:1' }}, {rest} }}");
        let limit = format!("rate_limit: {{ rate: 5/s, key: [{key}], {shared} }}");
        let policy = format!("policies: [{{ name: each, {limit} }}]\n");
        hints("address: 127.0.0.1:0, protocol: http", &policy)
    };
    for key in ["header.authorization", "header.Authorization", "peer, header.cookie"] {
        let hints = told(key, "");
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(hints[0].starts_with("policy `each`: the store gets `header."), "{hints:?}");
        assert!(hints[0].contains("write a `hash_key_file`"), "{hints:?}");
        assert!(told(key, &secret).is_empty());
    }
    let plain = told("header.cookie", &format!("{secret}, plain: [header.cookie]"));
    assert!(plain[0].contains("leave it out of `plain`"), "{plain:?}");
    assert!(told("peer, user_agent", "").is_empty());
}

#[test]
fn a_bad_config_is_told_to_people_with_place_and_hint() {
    let path = fixture("bad/unknown_key.yaml");
    let check = output_of(&["check", "-c", &path]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.starts_with(&format!("{path}:5:5: unknown key `clustr`")), "{check:?}");
    assert!(check.out.contains("hint: "), "{check:?}");
    // `run` reports the same, in another place.
    failed(&output_of(&["run", "-c", &path]), 1, &[check.out.trim_end()]);
}

#[test]
fn a_bad_config_is_told_to_machines_as_json() {
    let path = fixture("bad/many_at_once.yaml");
    let check = output_of(&["check", "--format", "json", "-c", &path]);
    assert_eq!(check.code, Some(1), "{check:?}");
    let problems: Vec<Value> = serde_json::from_str(&check.out).unwrap();
    assert!(problems.len() > 2, "{problems:?}");
    for problem in problems {
        assert_eq!(problem["file"], path);
        assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{problem}");
        assert!(!problem["message"].as_str().unwrap().is_empty(), "{problem}");
    }
}

#[test]
fn a_config_explains_what_becomes_of_an_operation() {
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
fn a_config_explains_which_route_takes_a_request_and_what_it_does() {
    let config = File::new(ROUTED);
    let ask = |question: &str| {
        let told = output_of(&["check", "-c", &config.path(), "--explain", question]);
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:?}");
        told.out
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
        let told = ask(question);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = told.lines().any(|it| words(it).starts_with(line));
        assert!(found, "{question}: no {line:?} in\n{told}");
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
fn a_question_that_makes_no_sense_is_a_matter_of_usage() {
    let path = fixture("good/policies.yaml");
    let ask = |question: &str| output_of(&["check", "-c", &path, "--explain", question]);
    let example = "'mongo find shop.users app=reports";
    failed(&ask("mongo"), 2, &["a protocol and an operation", example]);
    failed(&ask("mongo find ap=x"), 2, &["did you mean `app`?", example]);
    failed(&ask("mongo find listener=raw"), 2, &["`raw` speaks mongo", "db (mongo), raw (tcp)"]);
    // A config that is wrong explains nothing.
    let bad = fixture("bad/policies.yaml");
    let said = output_of(&["check", "-c", &bad, "--explain", "mongo find"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("unknown key `oparation`"), "{said:?}");
}

#[test]
fn files_that_a_config_names_are_looked_for_where_the_process_runs() {
    let config = File::new(
        "listeners:\n  rpc: { address: \":9090\", cluster: a, protocol: { grpc: { transcode: { \
         descriptors: set.binpb } } } }\nclusters: { a: { endpoints: [a:1] } }\n",
    );
    let here = tempfile::tempdir().unwrap();
    let check = || {
        let mut tollgate = program();
        let output = tollgate.current_dir(&here).args(["check", "-c", &config.path()]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(check().contains("`set.binpb` can't be read"), "{}", check());
    std::fs::write(here.path().join("set.binpb"), "found, and no such thing").unwrap();
    assert!(check().contains("`set.binpb` is no descriptor set"), "{}", check());
}

#[test]
fn the_schema_has_every_key_that_a_config_may_have() {
    let schema = output_of(&["schema"]);
    assert_eq!((schema.code, schema.err.as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&schema.out).unwrap();
    let config = std::fs::read_to_string(fixture("good/every_key.yaml")).unwrap();
    let top = config.lines().filter(|line| !line.starts_with([' ', '#']));
    let keys: Vec<&str> = top.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys {
        let description = &schema["properties"][key]["description"];
        assert!(description.as_str().is_some_and(|text| !text.is_empty()), "{key}: {description}");
    }
}

#[test]
fn a_run_without_a_file_says_what_to_do() {
    failed(
        &output_of(&["run", "-c", "/nonexistent.yaml"]),
        1,
        &["/nonexistent.yaml", "hint", "-c"],
    );
}

#[test]
fn what_can_t_be_opened_is_called_by_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let upstream = support::free_address();
    let config = tcp_config(upstream, "");

    let listener = config.replace("127.0.0.1:0", &address);
    let file = File::new(&format!("admin: off\n{listener}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["listener `wire`", &address, "in use"]);

    let file = File::new(&format!("admin: \"{address}\"\n{config}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["admin", &address, "in use"]);

    let log = "access_log: { path: /nonexistent/access.log }";
    let file = File::new(&format!("admin: off\n{log}\n{config}"));
    failed(&output_of(&["run", "-c", &file.path()]), 1, &["access log", "/nonexistent/access.log"]);
}

#[test]
fn the_demonstration_shows_a_table_of_every_protocol_and_ends() {
    let demo = output_of(&["demo", "--duration", "2s"]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    // A row of each: MongoDB's commands, HTTP's methods by route, gRPC's methods.
    let rows = [
        ("find", "shop.orders"),
        ("GET", "cart"),
        ("GET", "rest"),
        ("shop.Prices/Quote", "default"),
    ];
    for (operation, resource) in rows {
        let row = |line: &str| line.split_whitespace().take(2).eq([operation, resource]);
        assert!(demo.out.lines().any(row), "no {operation} {resource}: {}", demo.out);
    }
    assert!(demo.out.contains("http://127.0.0.1:"), "{}", demo.out);
}

#[test]
fn top_shows_one_table_of_a_running_proxy() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let enough = AtomicBool::new(false);
    let top = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Relaxed) {
                client.command(7, &doc! { "find": "orders", "$db": "shop" });
            }
        });
        let admin = tollgate.admin().to_string();
        let top = output_of(&["top", &admin, "--once", "--interval", "300ms"]);
        enough.store(true, Relaxed);
        top
    });
    assert_eq!(top.code, Some(0), "{top:?}");
    let row = top.out.lines().find(|line| line.contains("shop.orders"));
    assert!(row.is_some_and(|row| row.contains("find")), "{}", top.out);
}

#[test]
fn top_shows_call_sites_in_the_order_that_was_asked_for() {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo(server.address());
    let mut client = RawClient::connect(tollgate.listener("db"));
    let enough = AtomicBool::new(false);
    let top = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Relaxed) {
                for site in ["b.twice", "a.once", "b.twice"] {
                    let comment = format!("{{\"callingFunction\":\"{site}\"}}");
                    client
                        .command(7, &doc! { "find": "orders", "comment": comment, "$db": "shop" });
                }
            }
        });
        let admin = tollgate.admin().to_string();
        let interval = ["--once", "--interval", "300ms"];
        let top =
            output_of(&[&["top", &admin, "--callsites", "--sort", "ops"][..], &interval].concat());
        enough.store(true, Relaxed);
        top
    });
    assert_eq!(top.code, Some(0), "{top:?}");
    let named = |name: &str| top.out.lines().position(|line| line.starts_with(name));
    let (twice, once) = (named("b.twice"), named("a.once"));
    assert!(twice.is_some() && twice < once, "{}", top.out);
    failed(&output_of(&["top", "--sort", "size"]), 2, &["size", "p99"]);
}

#[test]
fn top_tells_of_a_cluster_that_is_not_whole() {
    let nobody = support::free_address();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: http, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: [\"{nobody}\"], health_check: {{ interval: 100ms, \
         unhealthy_threshold: 1 }} }}\n"
    ));
    tollgate.wait_for_metric("tollgate_endpoint_up", &[("cluster", "shop")], 0.0);
    let admin = tollgate.admin().to_string();
    let top = output_of(&["top", &admin, "--once", "--interval", "100ms"]);
    let line = format!("shop: 0 of 1 in use, {nobody} unhealthy");
    assert!(top.out.contains(&line), "{}", top.out);
}

#[test]
fn the_admin_interface_of_the_demonstration_is_where_it_was_asked_for() {
    let admin = support::free_address().to_string();
    let demo = output_of(&["demo", "--duration", "1s", "--admin", &admin]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.out.contains(&format!("http://{admin}/")), "{}", demo.out);
    failed(&output_of(&["demo", "--admin", "nowhere"]), 1, &["nowhere"]);
}

#[test]
fn top_of_nothing_says_where_it_looked() {
    let nowhere = support::free_address().to_string();
    failed(&output_of(&["top", &nowhere, "--once"]), 1, &[&nowhere, "refused"]);
    // Without a terminal there is no user to react to it.
    failed(&output_of(&["top", &nowhere]), 1, &[&nowhere, "refused"]);
    failed(&output_of(&["top", "--once", "localhost"]), 1, &["HOST:PORT", "`localhost:9901`"]);
}
