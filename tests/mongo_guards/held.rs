//! Long requests: held until what a guard goes by is known, let go where nothing turns on it, and
//! never more of them than there is room for.

use crate::{
    denies, find, guarded_with,
    support::wire::{self, Compressor, body, compressed, op_msg, op_msg_of, sequence},
};
use bson::{Bson, Document, doc};
use serde_json::Value;

const MIB: usize = 1 << 20;

#[test]
fn a_long_request_is_judged_by_the_database_that_it_names_last() {
    for matching in ["{ resource: 'audit.*' }", "{ database: audit }", "{ resource: '*.events' }"] {
        let mut guarded = denies(matching);
        for padding in [10, 60_000, 70_000, 300_000, 5 * MIB] {
            guarded.refuses(&op_msg(1, &find("events", "audit", padding)));
            guarded.passes(&op_msg(2, &find("orders", "shop", padding)));
            for how in Compressor::ALL {
                guarded.refuses(&compressed(&op_msg(3, &find("events", "audit", padding)), how));
                guarded.passes(&compressed(&op_msg(4, &find("orders", "shop", padding)), how));
            }
        }
        guarded.leaks_nothing();
        let lines = guarded.tollgate.logged(40, |line| line["operation"] == "find");
        let named = |line: &Value| {
            // The database does not matter where any will do.
            let any = matching.contains("*.") && line["resource"] == "?.events";
            any || ["shop.orders", "audit.events"].iter().any(|known| line["resource"] == *known)
        };
        assert!(lines.iter().all(named), "{matching}: {lines:?}");
    }
}

#[test]
fn a_long_request_is_not_held_if_no_policy_needs_it() {
    let mut guarded =
        guarded_with("", "  - { name: other, match: { operation: drop }, deny: {} }\n");
    let rows: Vec<_> = (0..100).map(|i| doc! { "_id": i, "text": "y".repeat(2000) }).collect();
    let insert =
        doc! { "insert": "orders", "documents": rows.clone(), "comment": "why", "$db": "shop" };
    let apart = [sequence("documents", &rows), body(&doc! { "insert": "orders", "$db": "shop" })];
    guarded.passes(&op_msg(1, &insert));
    guarded.passes(&compressed(&op_msg(2, &insert), Compressor::Snappy));
    guarded.passes(&op_msg(3, &find("orders", "shop", 100_000)));
    guarded.refuses(&op_msg_of(
        4,
        0,
        0,
        &[apart[0].clone(), body(&doc! { "drop": "c", "$db": "d" })],
    ));
    guarded.passes(&op_msg_of(5, 0, 0, &apart));
    let lines = guarded.tollgate.logged(5, |line| line["operation"] != "hello");
    let told: Vec<_> = lines
        .iter()
        .map(|line| ["operation", "resource", "documents", "comment"].map(|key| line[key].clone()))
        .collect();
    let row = |name: &str, resource: &str, documents: i32, comment: Option<&str>| -> [Value; 4] {
        [name.into(), resource.into(), documents.into(), comment.into()]
    };
    assert_eq!(told[0], row("insert", "shop.orders", 100, Some("why")));
    assert_eq!(told[1], row("insert", "shop.orders", 100, Some("why")));
    assert_eq!(told[2][..2], row("find", "shop.orders", 0, None)[..2]);
    assert_eq!(told[3][..2], row("drop", "d.c", 0, None)[..2]);
    assert_eq!(told[4][..3], row("insert", "shop.orders", 100, None)[..3]);
    let labels = [("operation", "insert"), ("resource", "shop.orders"), ("outcome", "ok")];
    guarded.tollgate.wait_for_metric("tollgate_operations_total", &labels, 3.0);
}

#[test]
fn a_sequence_before_the_body_hides_no_command() {
    let mut guarded = denies("{ operation: drop }");
    for padding in [10, 70_000, 200_000] {
        for name in ["documents", "zzz"] {
            let rows = sequence(name, &[doc! { "x": "y".repeat(padding) }]);
            let drop = body(&doc! { "drop": "victim", "$db": "shop" });
            guarded.refuses(&op_msg_of(1, 0, 0, &[rows.clone(), drop.clone()]));
            guarded.refuses(&op_msg_of(2, 0, 0, &[drop, rows.clone()]));
            let insert = body(&doc! { "insert": "orders", "$db": "shop" });
            guarded.passes(&op_msg_of(3, 0, 0, &[rows, insert]));
        }
    }
    guarded.leaks_nothing();
}

#[test]
fn a_policy_by_comment_reads_past_a_long_filter() {
    for matching in ["{ comment: 'bad*' }", "{ callsite: 'bad*' }", "{ not: { comment: 'good*' } }"]
    {
        let mut guarded = denies(matching);
        for padding in [10, 100_000] {
            let find = |comment: &str| {
                let filter = doc! { "text": "y".repeat(padding) };
                op_msg(1, &doc! { "find": "c", "filter": filter, "comment": comment, "$db": "d" })
            };
            guarded.refuses(&find("bad one"));
            guarded.passes(&find("good one"));
        }
    }
}

#[test]
fn a_request_is_let_go_as_soon_as_what_matters_is_known() {
    let mut guarded = denies("{ resource: 'audit.*' }");
    let padding = "y".repeat(300_000);
    let long = doc! { "insert": "orders", "a": &padding, "$db": "shop", "b": "z".repeat(8 * MIB) };
    let bytes = op_msg(1, &long);
    let (front, rest) = bytes.split_at(MIB);
    guarded.client.send(&front[..200_000]);
    guarded.client.send(&front[200_000..]);
    let seen = guarded.seen;
    guarded.server.wait("the front", |all| all[0].bytes.len() >= seen + 300_000);
    guarded.client.send(rest);
    assert_eq!(guarded.client.read().answers(), 1);
}

#[test]
fn what_is_held_is_bounded_for_each_listener_and_said_in_words() {
    let policies = "  - { name: closed, match: { resource: 'audit.*' }, deny: {} }\n  \
                    - { name: dry, match: { comment: x }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("max_held_bytes: 1MiB", policies);
    guarded.passes(&op_msg(1, &find("orders", "shop", 600_000)));
    let (code, why) = guarded.code(&op_msg(2, &find("orders", "shop", 3 * MIB)));
    assert!(code == 13 && why.contains("is not known"), "{why}");
    let labels = [("listener", "db")];
    guarded.tollgate.wait_for_metric("tollgate_requests_not_held_total", &labels, 1.0);
    let logged = || guarded.tollgate.stderr().contains("raise max_held_bytes").then_some(());
    crate::support::eventually("the log to name the key", logged);
    // What was held is given back.
    guarded.passes(&op_msg(3, &find("orders", "shop", 600_000)));
    guarded.leaks_nothing();
    // If a policy only counts, no request is refused for lack of room.
    let policies = "  - { name: dry, match: { comment: x }, dry_run: true, deny: {} }\n";
    let mut guarded = guarded_with("max_held_bytes: 1MiB", policies);
    guarded.passes(&op_msg(1, &find("orders", "shop", 3 * MIB)));
}

#[test]
fn a_48_mb_insert_is_not_held_where_nothing_turns_on_it() {
    let mut guarded =
        guarded_with("", "  - { name: other, match: { operation: drop }, deny: {} }\n");
    let rows: Vec<_> = (0..450).map(|i| doc! { "_id": i, "text": "y".repeat(100_000) }).collect();
    let bytes = op_msg(1, &doc! { "insert": "orders", "documents": rows, "$db": "shop" });
    assert!(bytes.len() > 45_000_000 && bytes.len() < wire::LONGEST);
    let before = guarded.tollgate.peak_memory();
    guarded.passes(&bytes);
    let taken = guarded.tollgate.peak_memory() - before;
    assert!(taken < 16 << 20, "{taken} bytes");
    let line = guarded.tollgate.logged(1, |line| line["operation"] == "insert").remove(0);
    assert_eq!((&line["resource"], &line["documents"]), (&"shop.orders".into(), &450.into()));
}

#[test]
fn read_only_reads_a_long_pipeline_to_its_end() {
    let mut guarded = guarded_with("", "  - { name: ro, read_only: true }\n");
    let ids: Vec<_> = (0..6000).map(Bson::Int64).collect();
    let stages = |last: Document| {
        let first = doc! { "$match": { "_id": { "$in": ids.clone() } } };
        doc! { "aggregate": "orders", "pipeline": [first, last], "cursor": {}, "$db": "shop" }
    };
    guarded.passes(&op_msg(1, &stages(doc! { "$group": { "_id": 1, "n": { "$sum": 1 } } })));
    guarded.refuses(&op_msg(2, &stages(doc! { "$out": "copy" })));
    for how in Compressor::ALL {
        guarded.passes(&compressed(&op_msg(3, &stages(doc! { "$count": "n" })), how));
        guarded.refuses(&compressed(&op_msg(4, &stages(doc! { "$merge": "copy" })), how));
    }
    guarded.leaks_nothing();
}
