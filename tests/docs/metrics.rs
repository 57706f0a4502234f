//! docs/metrics.md lists every metric, those of each protocol too, and queries none that is not.

use crate::{agrees, blocks, first_column, read};
use std::collections::BTreeSet;
use tollgate_metrics::table::{self, Kind, Metric, TABLE};

const PAGE: &str = "docs/metrics.md";

/// What every protocol counts of its own.
pub(crate) fn of_protocols() -> Vec<Metric> {
    protocols::all().flat_map(table::extras).collect()
}

/// Every name that a query may use: histograms have three.
pub(crate) fn names() -> BTreeSet<String> {
    let metrics = TABLE.iter().copied().chain(of_protocols());
    let named = metrics.flat_map(|metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", metric.name)).to_vec()
        }
        _ => vec![metric.name.to_owned()],
    });
    named.collect()
}

/// The names of ours that a query uses.
pub(crate) fn used(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tollgate_"))
}

/// The labels of the metric that a query names, to hold `by (…)` and `{…}` against.
pub(crate) fn labels(name: &str) -> Vec<&'static str> {
    let metrics: Vec<Metric> = TABLE.iter().copied().chain(of_protocols()).collect();
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let found = metrics.iter().find(|metric| metric.name == name || Some(metric.name) == base);
    found.map_or_else(Vec::new, |metric| metric.labels.to_vec())
}

fn rows(mut metrics: Vec<Metric>) -> String {
    metrics.sort_by_key(|metric| metric.name);
    let mut rows =
        String::from("| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for Metric { name, kind, unit, labels, help } in metrics {
        let (kind, labels) = (kind.as_str(), labels.join(", "));
        let help = help.trim_end_matches('.');
        rows += &format!("| `{name}` | {kind} | {unit} | {labels} | {help}. |\n");
    }
    rows
}

#[test]
fn the_page_lists_every_metric() {
    agrees(PAGE, "metrics", &rows(TABLE.to_vec()));
}

#[test]
fn the_page_lists_what_protocols_count() {
    agrees(PAGE, "protocols", &rows(of_protocols()));
}

#[test]
fn every_query_on_the_page_names_metrics_that_exist() {
    let (page, names) = (read(PAGE), names());
    let queries = blocks(&page, "promql");
    assert!(queries.len() >= 5);
    for query in queries {
        assert!(used(&query).next().is_some(), "{query}");
        for name in used(&query) {
            assert!(names.contains(name), "{name} in\n{query}");
        }
    }
}

#[test]
fn no_metric_is_listed_twice() {
    let page = read(PAGE);
    let listed: Vec<&str> = first_column(&page).into_iter().filter(|n| n.contains('_')).collect();
    let distinct: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(listed.len(), distinct.len());
}
