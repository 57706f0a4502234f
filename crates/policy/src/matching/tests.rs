use super::*;
use operation::Protocol;
use std::{
    borrow::Cow,
    cell::RefCell,
    net::IpAddr,
    time::{Duration, Instant},
};

const TOY: Protocol = Protocol::plain("toy");

/// Attributes that note what they were asked for.
#[derive(Default)]
struct Facts {
    peer: Option<IpAddr>,
    facts: Vec<(&'static str, &'static str)>,
    input: RefCell<Vec<String>>,
}

impl Attributes for Facts {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.input.borrow_mut().push(name.to_owned());
        let found = self.facts.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).into()
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

fn facts(facts: &[(&'static str, &'static str)]) -> Facts {
    let peer = facts.iter().find(|(key, _)| *key == "peer").map(|(_, it)| it.parse().unwrap());
    Facts { peer, facts: facts.to_vec(), input: RefCell::default() }
}

/// A match as people write it, in JSON.
fn made(json: &Value) -> Match {
    let mut made = Match::default();
    for (key, globs) in json.as_object().unwrap() {
        if key == "not" {
            made.exclude(self::made(globs));
            continue;
        }
        let globs: Vec<&str> = match globs {
            Value::Array(list) => list.iter().map(|it| it.as_str().unwrap()).collect(),
            one => vec![one.as_str().unwrap()],
        };
        made.add(key, &globs).unwrap();
    }
    made
}

macro_rules! made { ($($json:tt)*) => { made(&serde_json::json!({ $($json)* })) }; }

fn key(name: &str, resource: &str) -> SeriesKey {
    let protocol = const { &TOY };
    SeriesKey { protocol, name: name.into(), resource: resource.into(), confirmed: true }
}

mod facts;
mod globs;

/// Whether a match applies to an operation that came in by the listener `db`.
fn evaluate(made: &Match, operation: &Operation<'_>) -> Truth {
    match made.applies("db", &key(operation.name, operation.resource)) {
        Applicability::Never => Truth::No,
        Applicability::Always => Truth::Yes,
        Applicability::PerOperation(rest) => made.matches(&rest, operation),
    }
}

/// Whether a policy that guards applies to an operation: in doubt it does.
fn applies(made: &Match, name: &str, resource: &str, facts: &Facts) -> bool {
    evaluate(made, &operation(name, resource, facts)) != Truth::No
}

fn operation<'a>(name: &'a str, resource: &'a str, attributes: &'a Facts) -> Operation<'a> {
    let protocol = const { &TOY };
    Operation {
        protocol,
        name,
        resource,
        head: b"",
        attributes,
        long_poll: false,
        limit_exempt: false,
        may_have_callsite: true,
        known_names: false,
        partial: false,
        may_have_other_resources: false,
        query_shape: None,
    }
}

#[test]
fn every_key_must_match_and_one_of_its_globs_is_enough() {
    let made = made! {
        "listener": "db", "protocol": "toy", "operation": ["find", "get*"], "resource": "shop.*",
    };
    let none = facts(&[]);
    assert!(applies(&made, "find", "shop.orders", &none));
    assert!(applies(&made, "getMore", "shop.orders", &none));
    assert!(!applies(&made, "insert", "shop.orders", &none));
    assert!(!applies(&made, "find", "game.scores", &none));
    assert_eq!(made.applies("other", &key("find", "shop.orders")), Applicability::Never);
    assert!(applies(&Match::default(), "anything", "", &none));
}

#[test]
fn what_is_not_there_matches_no_glob_and_excludes_nothing() {
    let with = facts(&[("app", "reports")]);
    let without = facts(&[]);
    let only = made! { "app": "*" };
    assert!(applies(&only, "find", "", &with) && !applies(&only, "find", "", &without));
    let but = made! { "not": { "app": "rep*" } };
    assert!(!applies(&but, "find", "", &with) && applies(&but, "find", "", &without));
    let peers = made! { "peer": "*" };
    assert!(!applies(&peers, "find", "", &without));
}

#[test]
fn not_excludes_operations_that_match_all_of_its_keys() {
    let made = made! { "operation": "find", "not": { "app": "reports", "resource": "shop.*" } };
    let (reports, other) = (facts(&[("app", "reports")]), facts(&[("app", "shop")]));
    assert!(!applies(&made, "find", "shop.orders", &reports));
    assert!(applies(&made, "find", "shop.orders", &other));
    assert!(applies(&made, "find", "game.scores", &reports));
    assert!(!applies(&made, "insert", "game.scores", &reports));
}

#[test]
fn a_series_is_resolved_as_far_as_it_can_be_also_inside_not() {
    let made = made! {
        "operation": "find",
        "not": { "resource": "shop.*", "user": "admin", "not": { "listener": "db", "app": "x" } },
    };
    let levels = |listener| match made.applies(listener, &key("find", "shop.a")) {
        Applicability::PerOperation(rest) => rest.levels.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(made.applies("db", &key("insert", "shop.a")), Applicability::Never);
    assert_eq!(made.applies("db", &key("find", "game.a")), Applicability::Always);
    assert_eq!((levels("db"), levels("web")), (3, 2));
    let but = made! { "not": { "resource": "shop.*" } };
    assert_eq!(but.applies("db", &key("find", "shop.a")), Applicability::Never);
    assert_eq!(but.applies("db", &key("find", "game.a")), Applicability::Always);
}

#[test]
fn a_match_reads_the_cheapest_attributes_first() {
    let made = made! {
        "query_hash": "x", "callsite": "cart*", "app": "reports", "peer": "10.0.0.0/8",
        "resource": "shop.*", "not": { "resource": "game.*", "user": "admin" },
    };
    let Applicability::PerOperation(rest) = made.applies("db", &key("find", "shop.a")) else {
        panic!()
    };
    let input = |facts: &Facts, callsite| {
        let held = made.matches(
            &rest,
            &Operation { may_have_callsite: callsite, ..operation("find", "shop.a", facts) },
        );
        (held, facts.input.borrow().join(" "))
    };
    let elsewhere = facts(&[("peer", "192.0.2.1"), ("app", "reports")]);
    assert_eq!(input(&elsewhere, true), (Truth::No, String::new()));
    let all = [("peer", "10.0.0.7"), ("app", "reports"), ("callsite", "cart:7")];
    assert_eq!(input(&facts(&all), false), (Truth::No, "app".to_owned()));
    assert_eq!(input(&facts(&all), true), (Truth::No, "app callsite query_hash".to_owned()));
    let all = [&all[..], &[("query_hash", "x")]].concat();
    assert_eq!(input(&facts(&all), true), (Truth::Yes, "app callsite query_hash".to_owned()));
}

#[test]
fn peers_are_addresses_networks_or_globs() {
    let holds = |peers: &str, address: &str| {
        PeerMatcher::parse(peers).unwrap().contains(address.parse().unwrap())
    };
    for (peers, address) in [
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.7", "::ffff:10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("10.0.0.0/8", "10.255.0.1"),
        ("::ffff:10.0.0.0/104", "10.1.2.3"),
        ("0.0.0.0/0", "192.0.2.1"),
        ("10.0.0.6/31", "10.0.0.7"),
        ("10.0.0.7/32", "10.0.0.7"),
        ("10.0.*", "10.0.200.1"),
        ("10.0.0.?", "10.0.0.7"),
        ("*", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8:7::1"),
        ("2001:db8:*", "2001:db8::1"),
        ("::/0", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
    ] {
        assert!(holds(peers, address), "{peers} {address}");
    }
    for (peers, address) in [
        ("10.0.0.7", "10.0.0.8"),
        ("10.0.0.0/8", "11.0.0.0"),
        ("10.0.0.6/31", "10.0.0.8"),
        ("10.0.0.?", "10.0.0.70"),
        ("0.0.0.0/0", "2001:db8::1"),
        ("::/0", "10.0.0.7"),
        ("2001:db8::/32", "2001:db9::1"),
    ] {
        assert!(!holds(peers, address), "{peers} {address}");
    }
    for (wrong, message) in [
        ("db-1", "`db-1` is no IP address"),
        ("10.0.0.7:80", "is no IP address"),
        ("10.0.0/8", "`10.0.0` is no IP address"),
        ("10.0.0.0/33", "0 to 32"),
        ("::/129", "0 to 128"),
        ("10.0.0.0/", "0 to 32"),
        ("10.0.0.0/+8", "0 to 32"),
        ("10.0.0.0/8/8", "0 to 32"),
        ("10.0.0.1/8", "is an address inside a network"),
        ("10.*/8", "`10.*` is no IP address"),
        ("", "is no IP address"),
    ] {
        let fault = PeerMatcher::parse(wrong).unwrap_err();
        assert!(fault.message.contains(message), "{wrong}: {fault:?}");
    }
    assert_eq!(
        PeerMatcher::parse("10.0.0.1/8").unwrap_err().hint,
        "write `10.0.0.0/8`, or the address alone: `10.0.0.1`"
    );
}

#[test]
fn a_connection_is_matched_by_what_is_known_of_it() {
    let link = |peer: [u8; 4]| Facts { peer: Some(peer.into()), ..Facts::default() };
    let made = made! { "listener": "db*", "not": { "peer": ["10.0.0.0/8", "127.0.0.1"] } };
    assert_eq!(made.connect_phase(), Some(ConnectPhase::BeforeHandshake));
    assert!(made.matches_connection("db-1", "toy", &link([192, 0, 2, 1])));
    assert!(!made.matches_connection("db-1", "toy", &link([10, 0, 0, 7])));
    assert!(!made.matches_connection("web", "toy", &link([192, 0, 2, 1])));
    assert!(!made! { "protocol": "x" }.matches_connection("db", "toy", &link([1, 1, 1, 1])));
    assert_eq!(made! { "operation": "find" }.connect_phase(), None);
    assert_eq!(made! { "sni": "x", "not": { "app": "x" } }.connect_phase(), None);
    let later = made! { "proxy.vpce": "x", "not": { "tls.san": "x" } };
    assert_eq!(later.connect_phase(), Some(ConnectPhase::AfterHandshake));
    assert_eq!(made! { "via": "10.*" }.connect_phase(), Some(ConnectPhase::BeforeHandshake));
}

#[test]
fn it_is_shown_as_it_is_written() {
    let json = serde_json::json!({
        "listener": "db", "resource": ["shop.*", "game.*"], "peer": ["10.0.0.0/8", "10.0.*"],
        "app": "reports", "not": { "operation": "find", "not": { "peer": "::1" } },
    });
    assert_eq!(made(&json).to_json(), json);
}

#[test]
fn the_mismatching_key_is_explained() {
    let facts = facts(&[("peer", "192.0.2.1"), ("app", "reports")]);
    let mismatch = |made: Match, resource: &str| {
        let operation = operation("find", resource, &facts);
        let explained = made.explain(&KnownFields::of("db", &operation), &operation);
        let (truth, text) = match explained {
            Explanation::Applies => (Truth::Yes, String::new()),
            Explanation::No(it) => (Truth::No, format!("{}: {}", it.key, it.why)),
            Explanation::InDoubt(it) => (Truth::Unknown, format!("{}, maybe: {}", it.key, it.why)),
        };
        assert_eq!(truth, evaluate(&made, &operation));
        text
    };
    let made_of = |json: &Value| made(json);
    for (json, resource, expected) in [
        (serde_json::json!({ "app": "reports", "resource": "shop.*" }), "shop.a", ""),
        (
            serde_json::json!({ "operation": ["get", "put"] }),
            "",
            "operation: `operation` is `find`, and must be one of [\"get\",\"put\"]",
        ),
        (
            serde_json::json!({ "resource": "shop.*" }),
            "",
            "resource: there is no resource, and it must be `shop.*`",
        ),
        (
            serde_json::json!({ "peer": "10.0.0.0/8" }),
            "",
            "peer: `peer` is `192.0.2.1`, and must be `10.0.0.0/8`",
        ),
        (
            serde_json::json!({ "user": "admin" }),
            "",
            "user: there is no `user`, and it must be `admin`",
        ),
        (
            serde_json::json!({ "not": { "app": "rep*" } }),
            "",
            "not: all of {\"app\":\"rep*\"} matches",
        ),
        (
            serde_json::json!({ "not": { "resource": "shop.*" } }),
            "?.a",
            "resource, maybe: `resource` is not known, and may be `shop.*`",
        ),
        (
            serde_json::json!({ "resource": ["shop.b", "audit.*"] }),
            "?.a",
            "resource, maybe: `resource` is not known, and may be one of [\"shop.b\",\"audit.*\"]",
        ),
    ] {
        assert_eq!(mismatch(made_of(&json), resource), expected, "{json}");
    }
}
