//! The Prometheus text exposition format, version 0.0.4.

use super::{
    Family, Metrics,
    buckets::{BOUNDS, Distribution, exported, seconds},
    cells::SeriesCells,
    table::REASON,
};
use std::fmt::Write;

impl Metrics {
    /// Appends every series as Prometheus text: families by name, series by labels, durations in
    /// seconds. It takes time with many series, so workers must not call it.
    pub fn render(&self, out: &mut String) {
        let bounds: Vec<(usize, String)> =
            exported().map(|last| (last, seconds(BOUNDS[last]).to_string())).collect();
        for family in self.families() {
            write_family(out, &family, &bounds);
        }
    }
}

fn write_family(out: &mut String, family: &Family, bounds: &[(usize, String)]) {
    let all = family.all();
    if all.is_empty() {
        return;
    }
    let name = family.metric.name;
    let _ = write!(out, "# HELP {name} ");
    escape(out, family.metric.help, false);
    let _ = writeln!(out, "\n# TYPE {name} {}", family.metric.kind.as_str());
    let mut labels = String::new();
    for (values, series) in &all {
        labels.clear();
        for (label, value) in family.metric.labels.iter().zip(values.iter()) {
            if *label == REASON && value.is_empty() {
                continue;
            }
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = write!(labels, "{comma}{label}=\"");
            escape(&mut labels, value, true);
            labels.push('"');
        }
        match &**series {
            SeriesCells::Counter(cells) => sample(out, name, &labels, cells.total()),
            SeriesCells::Gauge(cells) => sample(out, name, &labels, cells.total()),
            SeriesCells::Histogram(cells) => {
                write_histogram(out, name, &labels, &cells.total(), bounds)
            }
        }
    }
}

fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        _ => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

fn write_histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    held: &Distribution,
    bounds: &[(usize, String)],
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let (mut below, mut next) = (0, 0);
    for (last, bound) in bounds {
        below += held.buckets[next..=*last].iter().sum::<u64>();
        next = last + 1;
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
    }
    let count = held.count();
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    sample(out, &format!("{name}_sum"), labels, seconds(held.sum));
    sample(out, &format!("{name}_count"), labels, count);
}

/// Appends `text` with backslashes and line feeds escaped, and double quotes too if it is `quoted`.
fn escape(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            _ => out.push(c),
        }
    }
}
