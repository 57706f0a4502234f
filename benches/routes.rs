//! What finding a request's route costs, among one route and among a thousand of each kind.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark, no part of the proxy")]

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, request::Parts};
use std::{fmt::Write as _, hint::black_box};
use tollgate_http::{Routes, Settings};

/// The kinds of matches: a name, a pattern of which `N` is the route's number, and the host and
/// path of a request that fits.
const KINDS: [(&str, &str, &str, &str); 6] = [
    ("path", "path: /svcN/items", "shop.example", "/svcN/items"),
    ("prefix", "path_prefix: /svcN", "shop.example", "/svcN/items/42"),
    ("template", "path_template: \"/svcN/{id}/items\"", "shop.example", "/svcN/42/items"),
    ("regex", "path_regex: \"/svcN/[0-9]+/.*\"", "shop.example", "/svcN/42/items"),
    ("host", "host: svcN.example", "svcN.example", "/items/42"),
    ("suffix", "host: \"*.svcN.example\"", "shop.svcN.example", "/items/42"),
];

fn routes(pattern: &str, count: usize) -> Routes {
    let mut text = "routes:\n".to_owned();
    for number in 0..count {
        let matched = pattern.replace('N', &number.to_string());
        writeln!(text, "- {{ name: r{number}, match: {{ {matched} }}, cluster: shop }}").unwrap();
    }
    let settings: Settings = serde_saphyr::from_str(&text).unwrap();
    Routes::new(&settings.routes, settings.defaults()).unwrap()
}

fn lookups(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("routes");
    for (kind, pattern, host, path) in KINDS {
        for count in [1, 1000] {
            let routes = routes(pattern, count);
            let last = (count - 1).to_string();
            let (host, path) = (host.replace('N', &last), path.replace('N', &last));
            let head = Request::get(path).body(()).unwrap().into_parts().0;
            // The first ones build what an automaton has of its states.
            for _ in 0..3 {
                assert_eq!(*routes.find(&head, &host).unwrap().0.name, *format!("r{last}"));
            }
            group.bench_function(format!("{kind}-{count}"), |bench| {
                bench.iter(|| measured(&routes, &head, &host));
            });
        }
    }
    group.finish();
}

/// One lookup, as a function of its own so that valgrind can count it by name.
#[inline(never)]
fn measured(routes: &Routes, head: &Parts, host: &str) {
    black_box(routes.find(head, host));
}

criterion_group!(benches, lookups);
criterion_main!(benches);
