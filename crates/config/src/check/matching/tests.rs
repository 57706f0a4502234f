//! Errors in a match that depend on the kind of the policy or of the listeners.

use super::*;
use crate::{Scope, decode, input};
use std::cell::RefCell;

fn scope(listeners: &[(&str, Option<&str>)]) -> Scope {
    let listener_scope = |(name, protocol): &(&str, Option<&str>)| {
        let all = protocols::all();
        let protocol = protocol.and_then(|name| all.into_iter().find(|it| it.name == name));
        let resources = (*name == "web").then(|| vec!["cart".into(), "default".into()]);
        ListenerScope { name: (*name).into(), protocol, resources }
    };
    Scope::new(listeners.iter().map(listener_scope).collect())
}

/// The diagnostics of a match.
fn problems_of(text: &str, scope: &Scope, about_connections: bool) -> Vec<String> {
    let (report, tree) = input::read_alone("t", text.as_bytes(), "").unwrap();
    let report = RefCell::new(report);
    let written: MatchSetting = decode::decode(&tree, &report).unwrap();
    let mut report = report.into_inner();
    let mut policies = Policies::alone(&tree, scope, &mut report);
    if about_connections {
        policies.of_connections("bandwidth", &written);
    } else {
        policies.reached = policies.matched_listeners(&written);
        let made = policies.compile(written);
        policies.reaches_a_listener(tree.at, &made);
    }
    let line = |it: &values::Diagnostic| format!("{}:{} {}", it.line(), it.column(), it.message);
    report.finish().0.iter().map(line).collect()
}

#[test]
fn policies_for_connections_match_only_what_is_known_then() {
    let scope = scope(&[("db", Some("mongo"))]);
    let problems = |text| problems_of(text, &scope, true);
    for text in [
        "{ listener: db, not: { peer: 10.0.0.7, protocol: tcp } }",
        "{ sni: x, tls.san: y, not: { proxy.vpce: z } }",
    ] {
        assert!(problems(text).is_empty(), "{text}");
    }
    assert_eq!(
        problems("{ operation: find, peer: 10.0.0.7, not: { app: x } }"),
        [
            "1:3 `bandwidth` decides before `operation` is known",
            "1:43 `bandwidth` decides before `app` is known",
        ]
    );
}

#[test]
fn only_a_match_that_no_listener_can_meet_is_reported() {
    let never = ["1:1 this matches no operation of any listener"];
    let both = scope(&[("db", Some("mongo")), ("raw", Some("tcp"))]);
    for text in [
        "{ listener: x* }",
        "{ listener: raw, protocol: mongo }",
        "{ listener: raw, user: admin@admin }",
        "{ not: { protocol: [tcp, mongo] } }",
        "{ not: { listener: \"*\" } }",
        "{ listener: db, not: { protocol: m* } }",
    ] {
        assert_eq!(problems_of(text, &both, false), never, "{text}");
    }
    for text in [
        "{}",
        "{ listener: \"r*\", peer: 10.0.0.7 }",
        "{ user: admin@admin }",
        "{ not: { user: admin@admin } }",
        "{ listener: raw, not: { user: admin@admin } }",
        "{ not: { protocol: mongo } }",
        "{ not: { listener: \"*\", operation: find } }",
        "{ not: { not: { listener: db } } }",
    ] {
        assert!(problems_of(text, &both, false).is_empty(), "{text}");
    }
    // A key that is known too late matches nothing, and excludes nothing.
    let web = scope(&[("web", Some("http")), ("rpc", Some("grpc"))]);
    for (text, at) in [("{ status: 503 }", 3), ("{ client: x, not: { endpoint: x } }", 21)] {
        let key = text[at - 1..].split(':').next().unwrap();
        let late = format!("1:{at} policies are asked before `{key}` is known");
        assert_eq!(problems_of(text, &web, false), [late], "{text}");
    }
    let mixed = scope(&[("web", Some("http")), ("db", Some("mongo"))]);
    assert_eq!(problems_of("{ protocol: http, endpoint: x }", &mixed, false), never);
    for text in ["{ endpoint: x }", "{ client: x }", "{ protocol: mongo, endpoint: x }"] {
        assert!(problems_of(text, &mixed, false).is_empty(), "{text}");
    }
    // An invalid protocol of a listener is reported elsewhere.
    let unknown = scope(&[("db", None)]);
    assert!(problems_of("{ protocol: tcp, app: x }", &unknown, false).is_empty());
    assert!(problems_of("{ app: x }", &scope(&[]), false).is_empty());
}

#[test]
fn unknown_operations_and_resources_are_reported() {
    let all = scope(&[("db", Some("mongo")), ("web", Some("http")), ("raw", Some("tcp"))]);
    for (text, message) in [
        ("{ protocol: mongo, operation: insertMany }", "there is no command `insertMany`"),
        ("{ listener: db, operation: GET }", "there is no command `GET`"),
        ("{ protocol: http, operation: get }", "no operation of http is called `get`"),
        ("{ listener: web, resource: carts }", "there is no route `carts`, did you mean `cart`?"),
        ("{ listener: web, not: { resource: x } }", "there is no route `x`"),
        ("{ command: find }", "unknown key `command`, did you mean `operation`?"),
        ("{ op: find }", "unknown key `op`, did you mean `operation`?"),
        ("{ db: shop }", "unknown key `db`, did you mean `database`?"),
        ("{ ns: shop.orders }", "unknown key `ns`, did you mean `resource`?"),
    ] {
        let found = problems_of(text, &all, false);
        let [one] = found.as_slice() else { panic!("{text}: {found:?}") };
        assert!(one.contains(message), "{text}: {one}");
    }
    for text in [
        "{ operation: [find, GET, session] }",
        "{ resource: shop.orders }",
        "{ listener: web, resource: [cart, \"d*\"], header.x-team: a }",
        "{ listener: web, header.X-Team: a }",
        "{ protocol: nothing-that-is-known, operation: x }",
    ] {
        let found = problems_of(text, &all, false);
        assert!(
            found.iter().all(|it| it.contains("no protocol") || it.contains("matches no")),
            "{found:?}"
        );
    }
}
