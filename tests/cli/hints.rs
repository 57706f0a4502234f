//! Hints of `tollgate check`: what is valid and probably not meant.

use crate::{
    File,
    support::tollgate::{output_of, tcp_config},
};

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
fn a_deny_list_without_other_is_a_hint() {
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
fn an_unlimited_listener_on_every_interface_is_a_hint() {
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
    let two = format!("{everywhere}, cluster: c }}\n  web: {{ address: ':27019', protocol: http");
    let hints = hints(&two, &policy("match: { protocol: http }, connection_limit: { max: 5 }"));
    assert_eq!(hints.len(), 1, "{hints:?}");
    assert!(hints[0].starts_with("listener `db`: "), "{hints:?}");
}

#[test]
fn several_servers_behind_a_mongo_listener_are_a_hint() {
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
        "endpoints: [{ srv: _mongodb._tcp.db.example.net }]",
        "endpoints_file: members.yaml",
        "endpoints: [\"a:1\", \"b:1\"], health_check: {}",
    ] {
        let text = with(several);
        assert!(text.contains("hint: listener `db`: `c` may have several servers"), "{text}");
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
fn settings_that_are_probably_mistakes_are_hints() {
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
    let text: Vec<&str> = check.out.lines().collect();
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
        assert!(text.get(at).is_some_and(|line| line.starts_with(part)), "{part}: {text:#?}");
    }
    assert_eq!(text.len(), 7, "{text:#?}");
}

#[test]
fn a_limit_above_the_whole_proxy_s_is_a_hint() {
    let hints = hints("address: 127.0.0.1:0, protocol: mongo, max_connections: 2000", "");
    assert_eq!(hints.len(), 1, "{hints:?}");
    assert!(hints[0].contains("it never has 2000 connections"), "{hints:?}");
}

#[test]
fn an_unhashed_credential_in_a_shared_key_is_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let secret = format!("hash_key_file: {}", file.display());
    let text = |key: &str, rest: &str| {
        let shared = format!("shared: {{ redis: {{ address: 'r:1' }}, {rest} }}");
        let limit = format!("rate_limit: {{ rate: 5/s, key: [{key}], {shared} }}");
        let policy = format!("policies: [{{ name: each, {limit} }}]\n");
        hints("address: 127.0.0.1:0, protocol: http", &policy)
    };
    for key in ["header.authorization", "header.Authorization", "peer, header.cookie"] {
        let hints = text(key, "");
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(hints[0].starts_with("policy `each`: the store gets `header."), "{hints:?}");
        assert!(hints[0].contains("write a `hash_key_file`"), "{hints:?}");
        assert!(text(key, &secret).is_empty());
    }
    let plain = text("header.cookie", &format!("{secret}, plain: [header.cookie]"));
    assert!(plain[0].contains("leave it out of `plain`"), "{plain:?}");
    assert!(text("peer, user_agent", "").is_empty());
}
