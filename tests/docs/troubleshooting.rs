//! docs/troubleshooting.md: the reasons and metrics that it names exist.

use crate::{first_column, metrics, read};

const PAGE: &str = "docs/troubleshooting.md";

/// The words in backquotes in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_reason_on_the_page_is_in_the_list_of_reasons() {
    let page = read("docs/access-log.md");
    let reasons = first_column(page.split("\n## Reasons\n").nth(1).unwrap());
    let page = read(PAGE);
    let mut named = 0;
    for table in page.split("\n\n").filter(|it| it.contains("| `reason` |")) {
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split(" | ").collect()).collect();
        let column = rows[0].iter().position(|title| *title == "`reason`").unwrap();
        for row in &rows[2..] {
            for word in row.get(column).into_iter().flat_map(|cell| quoted(cell)) {
                assert!(reasons.contains(&word), "`{word}` in {row:?}");
                named += 1;
            }
        }
    }
    assert!(named > 30, "only {named} were found");
}

#[test]
fn every_metric_on_the_page_exists() {
    let names = metrics::names();
    for name in metrics::used(&read(PAGE)) {
        assert!(names.contains(name), "{name}");
    }
}
