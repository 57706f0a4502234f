//! A strict parser of the Prometheus text format: what it accepts, every parser accepts.

use std::collections::BTreeMap;

/// A sample: its full name, its labels with the text of their values, its value.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        Some(self.labels.iter().find(|(label, _)| label == name)?.1.as_str())
    }

    /// The labels but for `le`: the identity of a histogram.
    fn series(&self) -> Vec<(String, String)> {
        self.labels.iter().filter(|(label, _)| label != "le").cloned().collect()
    }
}

/// A family: its name, type and samples.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) samples: Vec<Sample>,
}

/// Parses a whole exposition; panics if a rule is broken.
pub(super) fn read(text: &str) -> Vec<Family> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let mut families: Vec<Family> = Vec::new();
    let mut helped = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help without text");
            assert!(!help.is_empty());
            unescape(help, "\\n");
            helped = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type without a name");
            assert_eq!(helped.take(), Some(name), "no help before the type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.iter().all(|family| family.name != name), "{name} comes twice");
            families.push(Family { name: name.into(), kind: kind.into(), samples: Vec::new() });
        } else {
            let sample = sample(line);
            let family = families.last_mut().expect("a sample before its type");
            let suffix = sample.name.strip_prefix(&family.name).expect("a sample of no family");
            match family.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            let same = |s: &&Sample| s.name == sample.name && s.labels == sample.labels;
            assert!(family.samples.iter().find(same).is_none(), "{line} comes twice");
            family.samples.push(sample);
        }
    }
    families.iter().for_each(check);
    families
}

/// Checks the rules for whole families.
fn check(family: &Family) {
    assert!(!family.samples.is_empty(), "{} has no sample", family.name);
    if family.kind == "counter" {
        assert!(family.samples.iter().all(|s| s.value >= 0.0 && s.value.fract() == 0.0));
    }
    if family.kind != "histogram" {
        return;
    }
    let mut histograms: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in &family.samples {
        histograms.entry(sample.series()).or_default().push(sample);
    }
    for (series, samples) in histograms {
        let [buckets @ .., sum, count] = &samples[..] else { panic!("{series:?} is cut short") };
        let bound = |s: &&Sample| match s.label("le").expect("a bucket without a bound") {
            "+Inf" => f64::INFINITY,
            number => number.parse().unwrap(),
        };
        assert!(buckets.iter().all(|s| s.name.ends_with("_bucket")));
        assert!(buckets.iter().map(bound).is_sorted_by(|a, b| a < b), "{series:?}");
        assert!(buckets.iter().map(|s| s.value).is_sorted(), "{series:?} is not cumulative");
        let last = buckets.last().unwrap();
        assert_eq!(bound(last), f64::INFINITY);
        assert_eq!(last.value, count.value);
        assert!(sum.name.ends_with("_sum") && count.name.ends_with("_count"));
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a sample without a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label without a value");
            assert!(is_name(label) && labels.iter().all(|(known, _)| known != label), "{line}");
            let end = closing_quote(after);
            labels.push((label.into(), unescape(&after[..end], "\\n\"")));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("labels do not end");
    }
    let value = rest.strip_prefix(' ').expect("no space before the value");
    assert!(!value.contains(' '), "{line}");
    Sample { name: name.into(), labels, value: value.parse().expect("no number") }
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return i,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    panic!("a value does not end: {text}");
}

/// Reverses escapes, of which those in `known` (with the backslash) are allowed.
fn unescape(text: &str, known: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escaped = chars.next().expect("a backslash at the end");
        assert!(known.contains(escaped), "unknown escape in {text}");
        out.push(if escaped == 'n' { '\n' } else { escaped });
    }
    out
}

#[test]
fn the_parser_accepts_a_valid_text() {
    let text =
        "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n\",y=\"\"} 3\n";
    let families = read(text);
    assert_eq!(
        families[0].samples[0].labels,
        [("x".into(), "1\"\\\n".into()), ("y".into(), String::new())]
    );
}

#[test]
fn the_parser_rejects_invalid_texts() {
    let head = "# HELP a What.\n# TYPE a counter\n";
    for bad in [
        "a{x=\"1} 3\n",
        "a{x=\"1\"}3\n",
        "a{x=\"1\"} three\n",
        "a 1\na 1\n",
        "a 1",
        "a 0.5\n",
        "b 1\n",
        "a{x=\"\\t\"} 1\n",
        "a{x=\"1\",x=\"2\"} 1\n",
        "",
    ] {
        let text = format!("{head}{bad}");
        assert!(std::panic::catch_unwind(|| read(&text)).is_err(), "took {bad:?}");
    }
}

#[test]
fn the_parser_rejects_inconsistent_histograms() {
    let text = |inf: u64, count: u64, small: u64| {
        format!(
            "# HELP h What.\n# TYPE h histogram\nh_bucket{{le=\"1\"}} {small}\n\
             h_bucket{{le=\"+Inf\"}} {inf}\nh_sum 1\nh_count {count}\n"
        )
    };
    read(&text(3, 3, 2));
    for bad in [text(3, 2, 2), text(3, 3, 4)] {
        assert!(std::panic::catch_unwind(|| read(&bad)).is_err(), "took {bad}");
    }
}
