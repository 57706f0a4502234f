//! Attributes that are absent, unknown, or have several values.

use super::*;

/// Facts that are given as they are.
struct Told(&'static [(&'static str, AttributeValue<'static>)]);

impl Attributes for Told {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or(AttributeValue::Absent, |(_, fact)| fact.clone())
    }
}

const SHOP: Protocol =
    Protocol { attributes: &["user", "comment", OTHER_RESOURCES], ..Protocol::plain("shop") };

/// What a match makes of an operation on `shop.orders` of which these facts are known.
fn of(
    made: &Match,
    partial: bool,
    told: &'static [(&'static str, AttributeValue<'static>)],
) -> Truth {
    let (facts, told) = (facts(&[]), Told(told));
    let operation = Operation {
        protocol: const { &SHOP },
        attributes: &told,
        partial,
        may_have_other_resources: true,
        query_shape: None,
        ..operation("aggregate", "shop.orders", &facts)
    };
    let key = SeriesKey { protocol: const { &SHOP }, ..key("aggregate", "shop.orders") };
    match made.applies("db", &key) {
        Applicability::Never => Truth::No,
        Applicability::Always => Truth::Yes,
        Applicability::PerOperation(rest) => made.matches(&rest, &operation),
    }
}

#[test]
fn a_fact_that_is_not_known_is_neither_there_nor_absent() {
    const UNKNOWN: &[(&str, AttributeValue<'_>)] = &[("user", AttributeValue::Unknown)];
    const UNREAD: &[(&str, AttributeValue<'_>)] = &[("user", AttributeValue::Unread)];
    let (only, but) = (made! { "user": "root" }, made! { "not": { "user": "root" } });
    for made in [&only, &but] {
        assert_eq!(of(made, true, UNKNOWN), Truth::Unknown);
        assert_eq!(of(made, true, UNREAD), Truth::Unread);
        // Nothing more of it is read.
        assert_eq!(of(made, false, UNREAD), Truth::Unknown);
    }
    // Something else decides.
    assert_eq!(of(&made! { "user": "root", "comment": "x" }, true, UNREAD), Truth::No);
    assert_eq!(of(&made! { "not": { "user": "root", "comment": "x" } }, true, UNREAD), Truth::Yes);
}

#[test]
fn a_header_given_twice_fits_if_one_of_its_lines_does() {
    fn lines() -> AttributeValue<'static> {
        AttributeValue::Repeated(vec!["0".into(), "1".into()])
    }
    let told = Box::leak(Box::new([("user", lines())]));
    assert_eq!(of(&made! { "user": "1" }, false, told), Truth::Yes);
    assert_eq!(of(&made! { "user": "2" }, false, told), Truth::No);
    assert_eq!(of(&made! { "not": { "user": "1" } }, false, told), Truth::No);
    assert_eq!(of(&made! { "not": { "user": "2" } }, false, told), Truth::Yes);
}

#[test]
fn other_resources_by_their_own_key_may_be_what_is_not_known() {
    const TOLD: &[(&str, AttributeValue<'_>)] =
        &[(OTHER_RESOURCES, AttributeValue::Known(Cow::Borrowed("?.events")))];
    let (events, carts) =
        (made! { "other_resources": "audit.*" }, made! { "other_resources": "*.carts" });
    let not_events = made! { "not": { "other_resources": "audit.*" } };
    for (made, partial, truth) in [
        (&events, false, Truth::Unknown),
        (&events, true, Truth::Unread),
        (&not_events, false, Truth::Unknown),
        (&carts, false, Truth::No),
    ] {
        assert_eq!(of(made, partial, TOLD), truth, "{made:?}");
    }
}

#[test]
fn each_of_several_resources_can_match() {
    let others = |names: &[&'static str]| -> &'static [(&'static str, AttributeValue<'static>)] {
        let each = names.iter().map(|name| Cow::Borrowed(*name)).collect();
        Box::leak(Box::new([(OTHER_RESOURCES, AttributeValue::Multiple(each))]))
    };
    let (shop, audit) = (made! { "resource": "shop.*" }, made! { "resource": "audit.*" });
    let not_shop = made! { "not": { "resource": "shop.*" } };
    let not_audit = made! { "not": { "resource": "audit.*" } };
    for (names, on_audit, but_shop) in [
        (&["shop.carts"][..], Truth::No, Truth::No),
        (&["shop.carts", "audit.events"], Truth::Yes, Truth::Yes),
        (&["audit.?"], Truth::Yes, Truth::Yes),
        (&["?.events"], Truth::Unknown, Truth::Unknown),
        (&["?"], Truth::Unknown, Truth::Unknown),
    ] {
        assert_eq!(of(&shop, false, others(names)), Truth::Yes, "{names:?}");
        assert_eq!(of(&audit, false, others(names)), on_audit, "{names:?}");
        assert_eq!(of(&not_shop, false, others(names)), but_shop, "{names:?}");
        assert_eq!(of(&not_audit, false, others(names)), Truth::Yes, "{names:?}");
    }
    const UNREAD: &[(&str, AttributeValue<'_>)] = &[(OTHER_RESOURCES, AttributeValue::Unread)];
    assert_eq!(of(&audit, true, UNREAD), Truth::Unread);
    assert_eq!(of(&shop, true, UNREAD), Truth::Yes);
    assert_eq!(of(&not_shop, true, UNREAD), Truth::Unread);
}
