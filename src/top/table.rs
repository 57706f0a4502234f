//! The table: from what the admin interface counts to lines of text. No clock, no terminal.

#[cfg(test)]
mod tests;

use super::choice::{Sort, View};
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
    /// How many.
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
    pub fn names(&self) -> [&str; 4] {
        [&self.callsite, &self.operation, &self.resource, &self.listener]
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

fn identity(series: &Series) -> [&str; 5] {
    let Series { listener, protocol, operation, resource, callsite, .. } = series;
    [listener, protocol, operation, resource, callsite]
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
const WIDE: usize = 130;

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
const CALL_SITES: [Text; 4] = [
    Text { head: "CALL SITE", from: 0, show: |row| &row.callsite },
    Text { head: "OPERATION", from: 48, show: |row| &row.operation },
    Text { head: "RESOURCE", from: 72, show: |row| &row.resource },
    Text { head: "LISTENER", from: 130, show: |row| &row.listener },
];

/// How wide texts are that share so much: none more than its longest, and who needs less than its
/// share leaves the rest to the others. A column lies between two.
fn widths(texts: &[&Text], rows: &[Row], room: usize) -> Vec<usize> {
    let wish = |text: &&Text| {
        let longest = rows.iter().map(|row| (text.show)(row).chars().count()).max();
        longest.unwrap_or_default().max(text.head.len())
    };
    let wishes: Vec<usize> = texts.iter().map(wish).collect();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| wishes[*at]);
    let mut left = room.saturating_sub(texts.len().saturating_sub(1));
    let mut widths = vec![0; texts.len()];
    for (done, at) in order.into_iter().enumerate() {
        widths[at] = wishes[at].min(left.div_ceil(texts.len() - done));
        left -= widths[at];
    }
    widths
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// The 99th percentile, in milliseconds, from which on it is shown in a colour.
const SLOW_MS: f64 = 100.0;

/// The table as text, no line longer than `width` columns. With `colour` it holds escape codes.
pub fn render(rows: &[Row], view: View, width: usize, colour: bool) -> String {
    // Of call sites neither errors nor bytes are counted.
    let counted = |head| view == View::Operations || !["ERR%", "BYTES/S"].contains(&head);
    let fits =
        |column: &&Column| (column.from..column.below).contains(&width) && counted(column.head);
    let columns: Vec<&Column> = NUMBERS.iter().filter(fits).collect();
    let texts: &[Text] = match view {
        View::Operations => &OPERATIONS,
        View::CallSites => &CALL_SITES,
    };
    let texts: Vec<&Text> = texts.iter().filter(|text| width >= text.from).collect();
    let numbers: usize = columns.iter().map(|column| column.width + 1).sum();
    let widths = widths(&texts, rows, width.saturating_sub(numbers));
    let paint = |code: &str, text: String| match colour && !code.is_empty() {
        true => format!("{code}{text}{RESET}"),
        false => text,
    };
    let cells = |show: &dyn Fn(&Text) -> String| -> Vec<String> {
        let cells = texts.iter().zip(&widths);
        cells.map(|(text, width)| fit(&show(text), *width)).collect()
    };
    let head = cells(&|text| text.head.to_owned()).join(" ");
    let heads = columns.iter().map(|column| format!(" {:>1$}", column.head, column.width));
    let head: String = std::iter::once(head).chain(heads).collect();
    let mut lines = vec![paint(BOLD, clip(&head, width))];
    if rows.is_empty() {
        lines.push(clip("nothing passed through", width));
    }
    let total: f64 = rows.iter().map(|row| row.busy).sum();
    for row in rows {
        let mut names = cells(&|text| (text.show)(row).to_owned());
        let taken = names.iter().map(|name| name.chars().count() + 1).sum::<usize>();
        let mut left = (width + 1).saturating_sub(taken);
        if let Some(first) = names.first_mut() {
            *first = paint(CYAN, std::mem::take(first));
        }
        let mut line = names.join(" ");
        for column in &columns {
            let text = format!(" {:>1$}", (column.show)(row, total), column.width);
            let text = clip(&text, left);
            left = left.saturating_sub(text.chars().count());
            line.push_str(&paint(tint(column, row), text));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// A line that is not to be overlooked.
pub fn loud(text: &str, colour: bool) -> String {
    if colour { format!("{YELLOW}{text}{RESET}") } else { text.to_owned() }
}

fn tint(column: &Column, row: &Row) -> &'static str {
    match column.head {
        "ERR%" if row.errors > 0.0 => RED,
        "P99*" if row.p99_ms.is_some_and(|p99| p99 >= SLOW_MS) => YELLOW,
        "" => DIM,
        _ => "",
    }
}

/// Fits a text to exactly this many columns. Names come from clients, so control characters are
/// removed.
fn fit(text: &str, width: usize) -> String {
    format!("{:<width$}", clip(text, width))
}

/// Truncates a text to this many columns.
pub fn clip(text: &str, width: usize) -> String {
    let mut clipped: String =
        text.chars().take(width).map(|it| if is_plain(it) { it } else { '?' }).collect();
    if text.chars().nth(width).is_some() && clipped.pop().is_some() {
        clipped.push('…');
    }
    clipped.trim_end_matches(' ').to_owned()
}

/// Wraps a text at blanks to this many columns, with later lines indented.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().filter(|line| !line.trim().is_empty());
        let full = full.map(|line| line.chars().count() + 1 + word.chars().count());
        if full.is_some_and(|full| full > width) {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| clip(line, width)).collect()
}

/// Whether a character takes its place and does nothing else: no control, no change of direction.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
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

fn size(bytes: f64) -> String {
    match bytes {
        1e9.. => format!("{:.1}GB", bytes / 1e9),
        1e6.. => format!("{:.1}MB", bytes / 1e6),
        1e3.. => format!("{:.1}kB", bytes / 1e3),
        _ => format!("{bytes:.0}B"),
    }
}

fn percent(part: f64, total: f64) -> String {
    if total > 0.0 { format!("{:.0}%", 100.0 * part / total) } else { "-".to_owned() }
}

/// A share as a bar of this many columns.
fn bar(part: f64, total: f64, columns: usize) -> String {
    let share = if total > 0.0 { part / total } else { 0.0 };
    let length = (columns as f64 * share).round() as usize;
    format!("{:<columns$}", "█".repeat(length.min(columns)))
}
