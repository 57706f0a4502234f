//! The index finds the same routes as a loop over all of them.

use super::routes;
use crate::{
    normalize,
    routes::{RequestHead, Route, Routes},
};
use fastrand::Rng;
use http::HeaderName;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A head that is no `request::Parts`.
#[derive(Debug)]
struct PlainHead {
    method: &'static str,
    path: String,
    query: &'static str,
    beta: Option<&'static str>,
}

impl RequestHead for PlainHead {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        Some(self.query)
    }

    fn authority(&self) -> Option<&str> {
        None
    }

    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.beta.is_some_and(|value| *name == "x-beta" && test(value.as_bytes()))
    }
}

/// One of these.
fn one<'a>(random: &mut Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

/// A path of up to four of these segments.
fn path(random: &mut Rng, segments: &[&str]) -> String {
    let path: String =
        (0..random.usize(..5)).map(|_| format!("/{}", one(random, segments))).collect();
    if path.is_empty() { "/".to_owned() } else { path }
}

fn random_match(random: &mut Rng) -> Value {
    const SEGMENTS: [&str; 4] = ["a", "b", "ab", "%2F"];
    const REGEXES: [&str; 8] =
        ["/[ab]", "/a/.*", ".*", "/(?<x>[^/]+)/b", "[*]?", "/a|/b/a", "/.*/ab", "(?i)/A(/B)*"];
    let mut conditions = Map::new();
    let (key, value) = match random.u8(..6) {
        0 => ("path", path(random, &SEGMENTS)),
        1 | 2 => ("path_prefix", path(random, &SEGMENTS)),
        3 => {
            let mut template = path(random, &["a", "b", "{A}", "{B}"]);
            // Each name once.
            for (name, place) in ["{A}", "{B}"].into_iter().zip(["x", "y"]) {
                for number in 0..template.matches(name).count() {
                    template = template.replacen(name, &format!("{{{place}{number}}}"), 1);
                }
            }
            let rest = if random.bool() { "/{rest=**}" } else { "" };
            ("path_template", format!("{}{rest}", template.trim_end_matches('/')))
        }
        4 => ("path_regex", one(random, &REGEXES).to_owned()),
        _ => ("path", String::new()),
    };
    if !value.is_empty() {
        conditions.insert(key.to_owned(), value.into());
    }
    if random.bool() {
        const HOSTS: [&str; 8] =
            ["a.b", "b", "x.a.b", "*.b", "*.a.b", "a.*", "x.a.*", "long.enough.for.none.*"];
        let hosts: Vec<_> = (0..random.usize(1..3)).map(|_| json!(one(random, &HOSTS))).collect();
        conditions.insert("host".to_owned(), hosts.into());
    }
    if random.u8(..4) == 0 {
        conditions.insert("method".to_owned(), json!([one(random, &["GET", "POST"])]));
    }
    if random.u8(..4) == 0 {
        conditions.insert("headers".to_owned(), json!({ "x-beta": one(random, &["1", "2"]) }));
    }
    if random.u8(..8) == 0 {
        conditions.insert("query".to_owned(), json!({ "q": { "present": true } }));
    }
    conditions.into()
}

fn random_routes(random: &mut Rng) -> Routes {
    let one = |matched: Value| routes(json!([{ "name": "it", "match": matched, "cluster": "a" }]));
    // One by one, since a list in which some are unreachable is a mistake.
    let first = one(random_match(random));
    (0..random.usize(..14)).fold(first, |all, _| all.followed_by(one(random_match(random))))
}

fn random_head(random: &mut Rng) -> (PlainHead, &'static str) {
    let path = match random.u8(..20) {
        0 => String::new(),
        1 => "*".to_owned(),
        _ => path(random, &["a", "b", "ab", "%2f", "", "%61", "c"]),
    };
    let head = PlainHead {
        method: one(random, &["GET", "POST"]),
        path,
        query: one(random, &["", "q=1", "r=1"]),
        beta: [None, Some("1"), Some("2")][random.usize(..3)],
    };
    (head, one(random, &["a.b", "b", "x.a.b", "a.a.b", "x.a", "a.", ".b", "a..b", "", "c"]))
}

fn same(found: Option<&Arc<Route>>, other: Option<&Arc<Route>>) -> bool {
    match (found, other) {
        (Some(found), Some(other)) => Arc::ptr_eq(found, other),
        (found, other) => found.is_none() && other.is_none(),
    }
}

#[test]
fn the_index_finds_what_a_loop_over_all_routes_finds() {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let (mut none, mut first, mut later) = (0, 0, 0);
    for _ in 0..400 {
        let routes = random_routes(&mut random);
        for _ in 0..100 {
            let (head, host) = random_head(&mut random);
            let normal = normalize::path(&head.path);
            let looped = routes.iter().find(|it| it.matching.matches(&head, host, &normal));
            let found = routes.find(&head, host).map(|(route, _)| route);
            let matches: Vec<_> = routes.iter().map(|route| &route.matching).collect();
            assert!(
                same(found.as_ref(), looped),
                "seed {seed}: {head:?} of {host} took {:?} instead of {:?} of {matches:#?}",
                found.map(|route| format!("{:?}", route.matching)),
                looped.map(|route| format!("{:?}", route.matching)),
            );
            match looped {
                None => none += 1,
                Some(route) if Arc::ptr_eq(route, routes.iter().next().unwrap()) => first += 1,
                Some(_) => later += 1,
            }
        }
    }
    assert!(none.min(first).min(later) > 2_000, "seed {seed}: {none}, {first}, {later}");
}

#[test]
fn a_long_host_or_path_costs_no_more_than_its_length() {
    let routes = routes(json!([
        { "name": "host", "match": { "host": ["*.b", "a.*"], "path": "/x" }, "cluster": "a" },
        { "name": "path", "match": { "path_template": "/{a}/{b}/c" }, "cluster": "a" },
    ]));
    let head = PlainHead { method: "GET", path: "/a".repeat(200_000), query: "", beta: None };
    assert!(routes.find(&head, &"a.".repeat(200_000)).is_none());
}
