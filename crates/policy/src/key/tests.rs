//! Who shares an allowance.

use super::*;
use crate::testing::{self, TestClient, client};

fn key_spec(names: &[&str]) -> KeySpec {
    KeySpec(names.iter().map(|name| KeyPart::named(name)).collect())
}

fn key_of(names: &[&str], series: (&str, &str), client: &TestClient) -> u64 {
    let protocol = testing::policy_env().protocol;
    let (name, resource) = (series.0.into(), series.1.into());
    let series = series::SeriesKey { protocol, name, resource, confirmed: true };
    key_spec(names).hasher("front", &series).key(&testing::operation(client))
}

#[test]
fn only_operations_that_agree_in_all_parts_share_a_key() {
    let key = key_of;
    let (one, other) = (client(1), client(2));
    let find = ("find", "shop.orders");
    assert_eq!(key(&[], find, &one), key(&[], ("insert", "x"), &other));
    assert_eq!(key(&["peer"], find, &one), key(&["peer"], ("insert", "x"), &one));
    assert_ne!(key(&["peer"], find, &one), key(&["peer"], find, &other));
    assert_eq!(key(&["resource"], find, &one), key(&["resource"], ("insert", find.1), &other));
    assert_ne!(key(&["resource"], find, &one), key(&["resource"], (find.0, "shop.users"), &one));
    let both = &["user", "resource"];
    let ann = TestClient { user: Some("ann"), ..one };
    let bob = TestClient { user: Some("bob"), ..one };
    assert_eq!(key(both, find, &ann), key(both, find, &TestClient { user: Some("ann"), ..other }));
    assert_ne!(key(both, find, &ann), key(both, find, &bob));
    assert_ne!(key(both, find, &ann), key(both, ("find", "shop.users"), &ann));
}

#[test]
fn adjacent_parts_are_hashed_separately() {
    let parts = &["operation", "resource"];
    assert_ne!(key_of(parts, ("ab", "c"), &client(1)), key_of(parts, ("a", "bc"), &client(1)),);
}

#[test]
fn an_attribute_that_is_missing_is_the_empty_one() {
    let find = ("find", "shop.orders");
    let empty = TestClient { user: Some(""), ..client(1) };
    assert_eq!(key_of(&["user"], find, &client(1)), key_of(&["user"], find, &empty));
    assert_eq!(key_of(&["usr"], find, &client(1)), key_of(&["usr"], find, &client(2)));
}

#[test]
fn an_address_is_the_same_in_both_families() {
    let mapped =
        TestClient { peer: Some("::ffff:10.0.0.1".parse().unwrap()), ..TestClient::default() };
    let plain = TestClient { peer: Some("10.0.0.1".parse().unwrap()), ..TestClient::default() };
    let find = ("find", "shop.orders");
    assert_eq!(key_of(&["peer"], find, &mapped), key_of(&["peer"], find, &plain));
}

#[test]
fn connections_of_different_peers_have_different_keys() {
    let peer = key_spec(&["peer"]);
    let key =
        |key_spec: &KeySpec, listener, n| key_spec.connection_key(listener, "toy", &client(n));
    assert_eq!(key(&peer, "front", 1), key(&peer, "back", 1));
    assert_ne!(key(&peer, "front", 1), key(&peer, "front", 2));
    let listener = key_spec(&["listener"]);
    assert_eq!(key(&listener, "front", 1), key(&listener, "front", 2));
    assert_ne!(key(&listener, "front", 1), key(&listener, "back", 1));
}

#[test]
fn addresses_of_a_network_share_a_key_with_a_prefix_length() {
    let at = |ip: &str| TestClient { peer: Some(ip.parse().unwrap()), ..TestClient::default() };
    let find = ("find", "shop.orders");
    let key = |part: &str, ip: &str| key_of(&[part], find, &at(ip));
    let (one, near, far) = ("2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1");
    assert_ne!(key("peer", one), key("peer", near));
    assert_eq!(key("peer/64", one), key("peer/64", near));
    assert_ne!(key("peer/64", one), key("peer/64", far));
    assert_eq!(key("peer/48", one), key("peer/48", far));
    assert_ne!(key("peer/64", "10.0.0.1"), key("peer/64", "10.0.0.2"));
    assert_eq!(key("peer/24/64", "10.0.0.1"), key("peer/24/64", "::ffff:10.0.0.2"));
    let of_link = |ip: &str| key_spec(&["peer/64"]).connection_key("front", "toy", &at(ip));
    assert_eq!(of_link(one), of_link(near));
    assert_ne!(of_link(one), of_link(far));
}

#[test]
fn a_key_that_makes_no_sense_is_a_mistake() {
    let problem = |key: &str| {
        testing::rules(&format!("{{ name: it, rate_limit: {{ rate: 5/s, key: {key} }} }}"))
            .unwrap_err()
    };
    assert!(problem("[peer, peer]").contains("`peer` is there twice"));
    let nine = "[peer, listener, protocol, operation, resource, user, app, driver, comment]";
    assert!(problem(nine).contains("at most 8 parts"));
    assert!(problem("[peer/24]").contains("`peer/24` is no part of an address"));
    assert!(problem("[peer/24]").contains("write `peer`, `peer/64`"));
    assert!(problem("[[usr, user]]").contains("unknown attribute `usr`, did you mean `user`?"));
    assert!(
        problem("[['a b', user]]").contains("the attributes here: listener, protocol, operation")
    );
    assert!(problem("[user], unit: connections").contains("not known when a connection comes"));
}

#[test]
fn several_values_and_unknown_ones_share_one_key() {
    let hash = |fact: AttributeValue<'_>| {
        let mut hasher = hasher();
        hash_fact(&fact, &mut hasher);
        hasher.finish()
    };
    let each =
        |values: [&'static str; 2]| AttributeValue::Multiple(values.map(Cow::Borrowed).to_vec());
    assert_eq!(hash(each(["audit", "x1"])), hash(each(["audit", "x2"])));
    assert_eq!(hash(each(["audit", "x1"])), hash(AttributeValue::Unknown));
    assert_ne!(hash(each(["audit", "x1"])), hash(AttributeValue::known("audit")));
}
