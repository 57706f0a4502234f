//! The table of operations: from what the admin interface counts to lines of text. No clock, no terminal.

#[cfg(test)]
mod tests;

use super::{
    choice::{Sort, View},
    layout::{DIM, Heads, Line, RED, YELLOW, lay_out},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One series, as the admin interface reports it. Counts are since the proxy's start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Series {
    /// The listener's name.
    pub listener: String,
    /// What its clients speak.
    pub protocol: String,
    /// The operation's name.
    pub operation: String,
    /// What it was for.
    pub resource: String,
    /// Where in a client's program it comes from, if this is of call sites.
    pub callsite: String,
    /// The query without values, if this is of shapes.
    pub query: String,
    /// The key of the shape: two shapes may have the same text.
    pub shape: String,
    /// How many.
    #[serde(alias = "calls")]
    pub count: u64,
    /// How many did not end well.
    pub errors: u64,
    /// How long they took, all together, in milliseconds.
    pub total_ms: f64,
    /// The median duration, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The duration that a hundredth exceed, in milliseconds.
    pub p99_ms: Option<f64>,
    /// How many bytes of requests.
    pub request_bytes: u64,
    /// How many bytes of replies.
    pub reply_bytes: u64,
}

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The operation's name.
    pub operation: String,
    /// What it was for.
    pub resource: String,
    /// The listener that it came by.
    pub listener: String,
    /// Where in a client's program it comes from.
    pub callsite: String,
    /// The query without values.
    pub query: String,
    /// Operations a second.
    pub operations: f64,
    /// Of these, how many did not end well.
    pub errors: f64,
    /// The median duration, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The duration that a hundredth exceed, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Bytes a second, both ways.
    pub bytes: f64,
    /// How many milliseconds of each second are spent on it, over all connections.
    pub busy: f64,
}

impl Row {
    /// All that it is called by.
    pub fn names(&self) -> [&str; 5] {
        [&self.callsite, &self.operation, &self.resource, &self.query, &self.listener]
    }
}

/// What happened between two answers of the admin interface, `seconds` apart: what takes the most
/// time first. Series in which nothing happened are left out.
pub fn rates(before: &[Series], now: &[Series], seconds: f64) -> Vec<Row> {
    let earlier: BTreeMap<_, _> = before.iter().map(|series| (identity(series), series)).collect();
    let nothing = Series::default();
    let rows = now.iter().filter_map(|series| {
        // A count that went down means that the proxy was restarted.
        let then = earlier.get(&identity(series)).filter(|then| then.count <= series.count);
        let then = then.copied().unwrap_or(&nothing);
        let a_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds.max(0.001);
        let operations = a_second(series.count, then.count);
        (operations > 0.0).then(|| Row {
            operation: series.operation.clone(),
            resource: series.resource.clone(),
            listener: series.listener.clone(),
            callsite: series.callsite.clone(),
            query: series.query.clone(),
            operations,
            errors: a_second(series.errors, then.errors),
            p50_ms: series.p50_ms,
            p99_ms: series.p99_ms,
            bytes: a_second(series.request_bytes, then.request_bytes)
                + a_second(series.reply_bytes, then.reply_bytes),
            busy: (series.total_ms - then.total_ms).max(0.0) / seconds.max(0.001),
        })
    });
    let mut rows: Vec<Row> = rows.collect();
    Sort::Time.apply(&mut rows);
    rows
}

fn identity(series: &Series) -> [&str; 6] {
    let Series { listener, protocol, operation, resource, callsite, shape, .. } = series;
    [listener, protocol, operation, resource, callsite, shape]
}

/// A column of numbers: its head, its width, and what it shows of a row.
struct Column {
    head: &'static str,
    width: usize,
    /// The table must be this wide for it.
    from: usize,
    /// …and not this wide.
    below: usize,
    show: fn(&Row, total: f64) -> String,
}

const ANY: usize = usize::MAX;

/// Those with a star count since the proxy began, the others since the table before.
const NUMBERS: [Column; 8] = [
    Column { head: "OPS/S", width: 7, from: 0, below: ANY, show: |row, _| number(row.operations) },
    Column { head: "ERR%", width: 5, from: 36, below: ANY, show: |row, _| error_share(row) },
    Column { head: "P50*", width: 7, from: 56, below: ANY, show: |row, _| duration(row.p50_ms) },
    Column { head: "P99*", width: 7, from: 0, below: ANY, show: |row, _| duration(row.p99_ms) },
    Column { head: "BYTES/S", width: 7, from: 70, below: ANY, show: |row, _| size(row.bytes) },
    Column {
        head: "TIME",
        width: 4,
        from: 44,
        below: ANY,
        show: |row, total| percent(row.busy, total),
    },
    Column {
        head: "",
        width: 10,
        from: 92,
        below: WIDE,
        show: |row, total| bar(row.busy, total, 10),
    },
    Column {
        head: "",
        width: 30,
        from: WIDE,
        below: ANY,
        show: |row, total| bar(row.busy, total, 30),
    },
];

/// From how many columns on bars are long.
pub(super) const WIDE: usize = 130;

/// A column of text: the first ones share what the numbers leave.
struct Text {
    head: &'static str,
    /// The table must be this wide for it.
    from: usize,
    show: fn(&Row) -> &str,
}

const OPERATIONS: [Text; 3] = [
    Text { head: "OPERATION", from: 0, show: |row| &row.operation },
    Text { head: "RESOURCE", from: 0, show: |row| &row.resource },
    Text { head: "LISTENER", from: 108, show: |row| &row.listener },
];
const SHAPES: [Text; 4] = [
    Text { head: "OPERATION", from: 0, show: |row| &row.operation },
    Text { head: "RESOURCE", from: 48, show: |row| &row.resource },
    Text { head: "QUERY", from: 0, show: |row| &row.query },
    Text { head: "LISTENER", from: 160, show: |row| &row.listener },
];
const CALL_SITES: [Text; 4] = [
    Text { head: "CALL SITE", from: 0, show: |row| &row.callsite },
    Text { head: "OPERATION", from: 48, show: |row| &row.operation },
    Text { head: "RESOURCE", from: 72, show: |row| &row.resource },
    Text { head: "LISTENER", from: 130, show: |row| &row.listener },
];

/// The 99th percentile, in milliseconds, from which on it is shown in a colour.
pub(super) const SLOW_MS: f64 = 100.0;

/// The table as text, no line longer than `width` columns. With `colour` it holds escape codes.
pub fn render(rows: &[Row], view: View, width: usize, colour: bool) -> String {
    let callsites = view == View::CallSites;
    // Of call sites neither errors nor bytes are counted.
    let counted = |head| !callsites || !["ERR%", "BYTES/S"].contains(&head);
    let fits =
        |column: &&Column| (column.from..column.below).contains(&width) && counted(column.head);
    let columns: Vec<&Column> = NUMBERS.iter().filter(fits).collect();
    let texts: &[Text] = match view {
        View::CallSites => &CALL_SITES,
        View::Shapes => &SHAPES,
        _ => &OPERATIONS,
    };
    let texts: Vec<&Text> = texts.iter().filter(|text| width >= text.from).collect();
    let total: f64 = rows.iter().map(|row| row.busy).sum();
    let line = |row: &Row| {
        let number = |column: &&Column| ((column.show)(row, total), tint(column, row));
        Line {
            texts: texts.iter().map(|text| (text.show)(row).to_owned()).collect(),
            numbers: columns.iter().map(number).collect(),
        }
    };
    let heads = Heads {
        texts: texts.iter().map(|text| text.head).collect(),
        numbers: columns.iter().map(|column| (column.head, column.width)).collect(),
    };
    let lines: Vec<Line> = rows.iter().map(line).collect();
    lay_out(&heads, &lines, "nothing passed through", (width, colour))
}

fn tint(column: &Column, row: &Row) -> &'static str {
    match column.head {
        "ERR%" if row.errors > 0.0 => RED,
        "P99*" if row.p99_ms.is_some_and(|p99| p99 >= SLOW_MS) => YELLOW,
        "" => DIM,
        _ => "",
    }
}

/// A number in few columns.
pub(super) fn number(value: f64) -> String {
    match value {
        100_000.0.. => format!("{:.0}k", value / 1000.0),
        10.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

fn error_share(row: &Row) -> String {
    match 100.0 * row.errors / row.operations.max(f64::MIN_POSITIVE) {
        0.0 => "-".to_owned(),
        share if share < 9.95 => format!("{share:.1}"),
        share => format!("{share:.0}"),
    }
}

/// A duration in few columns.
pub fn duration(millis: Option<f64>) -> String {
    match millis {
        None => "-".to_owned(),
        Some(millis) if millis < 0.9995 => format!("{:.0}µs", millis * 1000.0),
        Some(millis) if millis < 99.95 => format!("{millis:.1}ms"),
        Some(millis) if millis < 9999.5 => format!("{millis:.0}ms"),
        Some(millis) => format!("{:.0}s", millis / 1000.0),
    }
}

pub(super) fn size(bytes: f64) -> String {
    match bytes {
        1e9.. => format!("{:.1}GB", bytes / 1e9),
        1e6.. => format!("{:.1}MB", bytes / 1e6),
        1e3.. => format!("{:.1}kB", bytes / 1e3),
        _ => format!("{bytes:.0}B"),
    }
}

pub(super) fn percent(part: f64, total: f64) -> String {
    if total > 0.0 { format!("{:.0}%", 100.0 * part / total) } else { "-".to_owned() }
}

/// A share as a bar of this many columns.
pub(super) fn bar(part: f64, total: f64, columns: usize) -> String {
    let share = if total > 0.0 { part / total } else { 0.0 };
    let length = (columns as f64 * share).round() as usize;
    format!("{:<columns$}", "█".repeat(length.min(columns)))
}
