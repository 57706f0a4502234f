//! Facts that are unknown, or not known yet: which policies apply, wait and count.

use super::{
    configured::{Stage, stage},
    *,
};
use operation::{AttributeValue, Attributes, OperationNames};

/// An operation of whose comment this is known.
struct Comment(AttributeValue<'static>);

impl Attributes for Comment {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        if name == "comment" { self.0.clone() } else { AttributeValue::Absent }
    }
}

fn admit(stage: &Stage, comment: AttributeValue<'static>, partial: bool) -> Verdict {
    let comment = Comment(comment);
    let operation =
        Operation { protocol: stage.protocol, partial, attributes: &comment, ..operation() };
    stage.gate.admit(&operation, Instant::now())
}

#[test]
fn only_protecting_policies_apply_in_doubt() {
    let guards = stage("[{ name: g, match: { comment: x }, deny: {} }]");
    let Verdict::Reject(no) = admit(&guards, AttributeValue::Unknown, false) else {
        panic!("it guards")
    };
    assert_eq!(&*no.message, "the policy `g` forbids this (its `comment` is not known)");
    assert!(matches!(admit(&guards, AttributeValue::Absent, false), Verdict::Admit(_)));
    let breaks = stage(
        "[{ name: f, match: { comment: x }, fault: { percent: 100, delay: { min: 1h, max: 2h } } }]",
    );
    let Verdict::Admit(ticket) = admit(&breaks, AttributeValue::Unknown, false) else {
        panic!("it breaks")
    };
    assert!(ticket.effects().is_none(), "nobody is delayed for what may be another's");
}

#[test]
fn an_unknown_name_is_denied_and_gets_no_fault() {
    let admit = |policy: &str| {
        let stage = stage(policy);
        let unnamed = Operation { protocol: stage.protocol, name: "?", ..operation() };
        stage.gate.admit(&unnamed, Instant::now())
    };
    for guard in [
        "[{ name: g, match: { operation: drop }, deny: {} }]",
        "[{ name: g, match: { not: { operation: find } }, deny: {} }]",
        "[{ name: g, match: { operation: [insert, 'drop*'] }, read_only: true }]",
    ] {
        let Verdict::Reject(no) = admit(guard) else { panic!("{guard}") };
        assert_eq!(no.reason, RejectReason::Denied);
        assert!(no.message.ends_with("(its `operation` is not known)"), "{}", no.message);
    }
    let fault = "[{ name: f, match: { operation: drop }, \
                 fault: { percent: 100, delay: { min: 1h, max: 2h } } }]";
    let Verdict::Admit(ticket) = admit(fault) else { panic!("a fault refuses nothing") };
    assert!(ticket.effects().is_none());
}

#[test]
fn more_is_read_only_if_a_policy_depends_on_it() {
    for (policies, turns) in [
        ("[{ name: p, match: { comment: x }, deny: {} }]", true),
        ("[{ name: p, match: { not: { comment: x } }, deny: {} }]", true),
        ("[{ name: p, match: { comment: x }, dry_run: true, deny: {} }]", true),
        ("[{ name: p, rate_limit: { rate: 1/h, key: [comment] } }]", true),
        ("[{ name: p, match: { comment: x, operation: drop }, deny: {} }]", false),
        ("[{ name: p, match: { comment: x, app: y }, deny: {} }]", false),
        ("[{ name: p, match: { resource: 'audit.*' }, deny: {} }]", false),
        ("[{ name: p, enabled: false, match: { comment: x }, deny: {} }]", false),
    ] {
        let stage = stage(policies);
        let verdict = admit(&stage, AttributeValue::Unread, true);
        assert_eq!(matches!(verdict, Verdict::NeedMore), turns, "{policies} {verdict:?}");
        // What is asked again without more to come is decided.
        assert!(
            !matches!(admit(&stage, AttributeValue::Unread, false), Verdict::NeedMore),
            "{policies}"
        );
    }
}

#[test]
fn unknown_key_values_share_one_allowance() {
    let stage = stage("[{ name: p, rate_limit: { rate: 1/h, burst: 1, key: [comment] } }]");
    let passes = |fact| matches!(admit(&stage, fact, false), Verdict::Admit(_));
    assert!(
        passes(AttributeValue::known("a"))
            && passes(AttributeValue::known("b"))
            && !passes(AttributeValue::known("a"))
    );
    assert!(
        passes(AttributeValue::Unknown)
            && !passes(AttributeValue::Unread)
            && !passes(AttributeValue::Unknown)
    );
    let lines =
        |a: &'static str, b: &'static str| AttributeValue::Repeated(vec![a.into(), b.into()]);
    assert!(passes(lines("a", "c")) && passes(lines("b", "c")) && !passes(lines("a", "c")));
}

#[test]
fn an_operation_settles_by_the_name_in_its_late_details() {
    let stage = stage("[]");
    let unread = Operation {
        protocol: stage.protocol,
        name: "?",
        resource: "?",
        partial: true,
        ..operation()
    };
    let Verdict::Admit(ticket) = stage.gate.admit(&unread, Instant::now()) else { panic!() };
    let named = Some(OperationNames { name: "insert", resource: "shop.orders" });
    let how = Settlement {
        names: named,
        confirmed: true,
        ..Settlement::new(Outcome::Ok, Instant::now())
    };
    ticket.settle(&how);
    let mut text = String::new();
    stage.metrics.render(&mut text);
    let line = "tollgate_operations_total{listener=\"db\",protocol=\"toy\",operation=\"insert\",\
                resource=\"shop.orders\",outcome=\"ok\"} 1";
    assert!(text.contains(line), "{text}");
}
