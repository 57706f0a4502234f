//! What stands in a request twice, near or far apart: a server may go by either.

use crate::{
    denies, find, message_of,
    support::wire::{Compressor, Message, body, compressed, op_msg_of, sequence, sequence_of},
    with,
};
use bson::doc;

#[test]
fn what_stands_there_twice_gets_past_no_guard() {
    let find = doc! { "find": "orders", "$db": "shop" };
    let bulk = doc! { "bulkWrite": 1, "ops": [], "$db": "admin" };
    let namespaces = |name: &str| sequence("nsInfo", &[doc! { "ns": name }]);
    let two = with(&doc! { "ns": "shop.orders" }, &[doc! { "ns": "audit.events" }]);
    let two = sequence_of("nsInfo", [two]);
    for matching in ["{ resource: audit.events }", "{ collection: events }", "{ database: audit }"]
    {
        let mut guarded = denies(matching);
        guarded.refuses(&message_of(1, &with(&find, &[doc! { "find": "events" }])));
        guarded.refuses(&message_of(2, &with(&find, &[doc! { "$db": "audit" }])));
        guarded.refuses(&op_msg_of(
            3,
            0,
            0,
            &[body(&bulk), namespaces("shop.orders"), namespaces("audit.events")],
        ));
        guarded.refuses(&op_msg_of(4, 0, 0, &[body(&bulk), two.clone()]));
        guarded.passes(&op_msg_of(5, 0, 0, &[body(&bulk), namespaces("shop.orders")]));
        guarded.leaks_nothing();
    }
}

#[test]
fn a_repeated_field_far_apart_is_rejected_before_its_end() {
    for matching in ["{ resource: audit.events }", "{ database: audit }", "{ operation: drop }"] {
        let find = find("orders", "shop", 200_000);
        let early = doc! { "find": "orders", "$db": "shop", "filter": "y".repeat(200_000) };
        for bytes in [
            message_of(1, &with(&early, &[doc! { "$db": "audit" }])),
            message_of(2, &with(&early, &[doc! { "find": "events" }])),
            op_msg_of(3, 0, 0, &[body(&find), body(&doc! { "drop": "events", "$db": "audit" })]),
        ] {
            for bytes in [bytes.clone(), compressed(&bytes, Compressor::Zlib)] {
                let mut guarded = denies(matching);
                guarded.client.try_send(&bytes);
                let said = guarded.client.try_read();
                let refused = |reply: Message| reply.document().get_i32("code").unwrap() == 13;
                assert!(said.is_none_or(refused), "{matching}");
                guarded.server.wait("the close", |all| {
                    all.iter().all(|one| one.closed || one.bytes.len() <= guarded.seen)
                });
                let got = guarded.server.received().remove(0).bytes.len() - guarded.seen;
                assert!(got < bytes.len(), "{got} of {} bytes", bytes.len());
            }
        }
    }
    let labels = [("listener", "db"), ("kind", "duplicate_field")];
    let mut guarded = denies("{ resource: audit.events }");
    let early = doc! { "find": "orders", "$db": "shop", "filter": "y".repeat(200_000) };
    guarded.client.try_send(&message_of(1, &with(&early, &[doc! { "$db": "audit" }])));
    guarded.tollgate.wait_for_metric("tollgate_violations_total", &labels, 1.0);
}
