//! The text formats of metrics: Prometheus 0.0.4, and OpenMetrics 1.0, which has exemplars.
//!
//! Sources: Prometheus, "Exposition formats"; OpenMetrics 1.0, "Text format".

use super::{
    Family, Metrics,
    buckets::{BOUNDS, Distribution, exported, seconds},
    cells::SeriesCells,
    exemplar::Exemplar,
    table::{Kind, REASON},
};
use std::fmt::Write;

impl Metrics {
    /// Appends every series as Prometheus text: families by name, series by labels, durations in
    /// seconds. It takes time with many series, so workers must not call it.
    pub fn render(&self, out: &mut String) {
        self.write_families(out, TextFormat::Prometheus);
    }

    /// The same in the format of OpenMetrics, with exemplars.
    pub fn render_openmetrics(&self, out: &mut String) {
        self.write_families(out, TextFormat::OpenMetrics);
        out.push_str("# EOF\n");
    }

    fn write_families(&self, out: &mut String, format: TextFormat) {
        let bound = |last: usize| match format {
            TextFormat::Prometheus => seconds(BOUNDS[last]).to_string(),
            // Whole numbers have a fraction here.
            TextFormat::OpenMetrics => format!("{:?}", seconds(BOUNDS[last])),
        };
        let bounds: Vec<(usize, String)> = exported().map(|last| (last, bound(last))).collect();
        for family in self.families() {
            write_family(out, &family, &bounds, format);
        }
    }
}

/// The format of an export.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextFormat {
    Prometheus,
    OpenMetrics,
}

/// The lines before the samples of a family.
fn write_head(out: &mut String, family: &Family, format: TextFormat) {
    let metric = &family.metric;
    let is_counter = metric.kind == Kind::Counter;
    let name = match format {
        // Only the samples of a counter have the suffix.
        TextFormat::OpenMetrics if is_counter => metric.name.trim_end_matches("_total"),
        _ => metric.name,
    };
    let _ = write!(out, "# HELP {name} ");
    escape(out, metric.help, format == TextFormat::OpenMetrics);
    let _ = writeln!(out, "\n# TYPE {name} {}", metric.kind.as_str());
    // A unit must be the end of the name.
    let has_unit = name.strip_suffix(metric.unit).is_some_and(|front| front.ends_with('_'));
    if format == TextFormat::OpenMetrics && has_unit {
        let _ = writeln!(out, "# UNIT {name} {}", metric.unit);
    }
}

fn write_family(out: &mut String, family: &Family, bounds: &[(usize, String)], format: TextFormat) {
    let all = family.all();
    if all.is_empty() {
        return;
    }
    let name = family.metric.name;
    write_head(out, family, format);
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
            SeriesCells::Histogram(cells, exemplar) => {
                let exemplar = exemplar.get().filter(|_| format == TextFormat::OpenMetrics);
                write_histogram(out, name, &labels, (&cells.total(), exemplar), bounds)
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
    (held, mut exemplar): (&Distribution, Option<Exemplar>),
    bounds: &[(usize, String)],
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let (mut below, mut next) = (0, 0);
    for (last, bound) in bounds {
        below += held.buckets[next..=*last].iter().sum::<u64>();
        next = last + 1;
        let _ = write!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        // It stands at the bucket that its value falls into.
        let fits = |it: &mut Exemplar| it.took.as_nanos() <= u128::from(BOUNDS[*last]);
        exemplar.take_if(fits).iter().for_each(|exemplar| exemplar.write(out));
        out.push('\n');
    }
    let count = held.count();
    let _ = write!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    exemplar.iter().for_each(|exemplar| exemplar.write(out));
    out.push('\n');
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
