//! The recorder: sums are correct, the text is valid, bounds hold.

mod exposition;

use super::{table::*, *};
use exposition::{Family, Sample};
use operation::{ExtraCounter, Protocol};
use std::{sync::Barrier, thread, time::Duration};

fn read(metrics: &Metrics) -> Vec<Family> {
    let mut out = String::new();
    metrics.render(&mut out);
    exposition::read(&out)
}

/// The value of the sample with this name and, among others, these labels.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted = |sample: &Sample| {
        sample.name == name && labels.iter().all(|(l, v)| sample.label(l) == Some(v))
    };
    let families = read(metrics);
    let mut found = families.iter().flat_map(|f| &f.samples).filter(|s| wanted(s));
    let value = found.next()?.value;
    assert!(found.next().is_none(), "{name} {labels:?} is not one sample");
    Some(value)
}

const FIND: [(&str, &str); 4] =
    [("listener", "l"), ("protocol", "p"), ("operation", "find"), ("resource", "shop.orders")];

fn find_and(label: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    FIND.into_iter().chain([(label, value)]).collect()
}

#[test]
fn a_new_recorder_exports_only_its_dropped_series() {
    let families = read(&Metrics::new());
    assert_eq!(families.len(), 1);
    assert_eq!(families[0].name, METRICS_DROPPED_TOTAL);
    assert_eq!(families[0].samples[0].value, 0.0);
}

#[test]
fn a_counter_counts() {
    let metrics = Metrics::new();
    let counter = metrics.counter(CONNECTIONS_TOTAL, &[("listener", "l")]);
    counter.increment(2);
    metrics.counter(CONNECTIONS_TOTAL, &[("listener", "l")]).increment(3);
    metrics.counter(CONNECTIONS_TOTAL, &[("listener", "m")]).increment(7);
    assert_eq!(value(&metrics, CONNECTIONS_TOTAL, &[("listener", "l")]), Some(5.0));
    assert_eq!(value(&metrics, CONNECTIONS_TOTAL, &[("listener", "m")]), Some(7.0));
}

#[test]
fn labels_come_in_the_tables_order_however_they_were_given() {
    let metrics = Metrics::new();
    let labels = [("reason", "r"), ("listener", "l"), ("policy", "p")];
    metrics.counter(REFUSALS_TOTAL, &labels).increment(1);
    let mut out = String::new();
    metrics.render(&mut out);
    assert!(out.contains("tollgate_refusals_total{listener=\"l\",policy=\"p\",reason=\"r\"} 1\n"));
}

#[test]
fn a_gauge_may_be_decremented_on_another_worker() {
    let metrics = Metrics::new();
    let gauge = |metrics: &Metrics| metrics.gauge(CONNECTIONS_ACTIVE, &[("listener", "l")]);
    let rise = metrics.clone();
    thread::spawn(move || {
        enter_worker(0);
        gauge(&rise).increment(5);
    })
    .join()
    .unwrap();
    let fall = metrics.clone();
    thread::spawn(move || {
        enter_worker(1);
        gauge(&fall).decrement(4);
    })
    .join()
    .unwrap();
    assert_eq!(value(&metrics, CONNECTIONS_ACTIVE, &[("listener", "l")]), Some(1.0));
}

#[test]
fn a_gauge_can_be_set() {
    let metrics = Metrics::new();
    let gauge = metrics.gauge(BUILD_INFO, &[("version", "1.2.3")]);
    gauge.set(4);
    gauge.set(1);
    assert_eq!(value(&metrics, BUILD_INFO, &[("version", "1.2.3")]), Some(1.0));
}

#[test]
fn four_workers_and_a_reader_agree_in_the_end() {
    const EACH: u64 = 10_000;
    let metrics = Metrics::new();
    let start = Barrier::new(5);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (metrics, start) = (&metrics, &start);
            scope.spawn(move || {
                enter_worker(worker);
                let counter = metrics.counter(CONNECTIONS_TOTAL, &[("listener", "l")]);
                let histogram = metrics.histogram(OPERATION_DURATION_SECONDS, &FIND);
                let gauge = metrics.gauge(OPERATIONS_ACTIVE, &[("listener", "l")]);
                start.wait();
                for _ in 0..EACH {
                    gauge.increment(1);
                    counter.increment(1);
                    histogram.record(Duration::from_millis(1));
                    gauge.decrement(1);
                }
            });
        }
        start.wait();
        for _ in 0..10 {
            read(&metrics); // holds together at any time
        }
    });
    let all = 4.0 * EACH as f64;
    let duration = |suffix| value(&metrics, &format!("{OPERATION_DURATION_SECONDS}{suffix}"), &[]);
    assert_eq!(value(&metrics, CONNECTIONS_TOTAL, &[]), Some(all));
    assert_eq!(value(&metrics, OPERATIONS_ACTIVE, &[]), Some(0.0));
    assert_eq!(duration("_count"), Some(all));
    assert_eq!(duration("_sum"), Some(all / 1000.0));
}

#[test]
fn workers_write_cells_of_their_own_and_one_worker_one_cell() {
    let metrics = Metrics::new();
    thread::scope(|scope| {
        for worker in [0, 1, 1, 2] {
            let metrics = &metrics;
            scope.spawn(move || {
                enter_worker(worker);
                metrics.counter(CONNECTIONS_TOTAL, &[("listener", "l")]).increment(1);
            });
        }
    });
    let series = metrics.series(CONNECTIONS_TOTAL, Kind::Counter, &[("listener", "l")]).unwrap();
    let SeriesCells::Counter(cells) = &*series else { panic!("no counter") };
    assert_eq!(cells.len(), 3);
    assert_eq!(cells.total(), 4);
}

#[test]
fn a_histogram_falls_into_cumulative_buckets() {
    let metrics = Metrics::new();
    let histogram = metrics.histogram(OPERATION_DURATION_SECONDS, &FIND);
    for seconds in [0.00005, 0.001, 0.0011, 0.3, 70.0, 1000.0] {
        histogram.record(seconds);
    }
    let bucket = |le| value(&metrics, "tollgate_operation_duration_seconds_bucket", &[("le", le)]);
    assert_eq!(bucket("0.0001"), Some(1.0));
    assert_eq!(bucket("0.0005"), Some(1.0));
    assert_eq!(bucket("0.001"), Some(2.0));
    assert_eq!(bucket("0.0025"), Some(3.0));
    assert_eq!(bucket("0.25"), Some(3.0));
    assert_eq!(bucket("0.5"), Some(4.0));
    assert_eq!(bucket("50"), Some(4.0));
    assert_eq!(bucket("+Inf"), Some(6.0));
    let sum = value(&metrics, "tollgate_operation_duration_seconds_sum", &[]);
    assert_eq!(sum, Some(1070.30215));
}

#[test]
fn a_histogram_accepts_invalid_durations() {
    let metrics = Metrics::new();
    let histogram = metrics.histogram(OPERATION_DURATION_SECONDS, &FIND);
    histogram.record(f64::NAN);
    histogram.record(-1.0);
    histogram.record(f64::NEG_INFINITY);
    let sum = value(&metrics, "tollgate_operation_duration_seconds_sum", &[]);
    assert_eq!(sum, Some(0.0));
    histogram.record(f64::INFINITY);
    let count = value(&metrics, "tollgate_operation_duration_seconds_count", &[]);
    assert_eq!(count, Some(4.0));
}

#[test]
fn recording_many_equals_recording_each() {
    let metrics = Metrics::new();
    metrics.histogram(OPERATION_DURATION_SECONDS, &FIND).record_many(0.5, 7);
    let told = |suffix| value(&metrics, &format!("{OPERATION_DURATION_SECONDS}{suffix}"), &[]);
    assert_eq!(told("_count"), Some(7.0));
    assert_eq!(told("_sum"), Some(3.5));
}

#[test]
fn values_that_clients_choose_are_escaped_cleaned_and_cut() {
    let metrics = Metrics::new();
    let count = |resource: &str| {
        let labels = [("listener", "l"), ("callsite", "c"), ("operation", "o")];
        let labels: Vec<_> = labels.into_iter().chain([("resource", resource)]).collect();
        metrics.counter(CALLSITE_OPERATIONS_TOTAL, &labels).increment(1);
    };
    for (given, told) in [
        ("a\"b\\c{d}=,e", "a\"b\\c{d}=,e"),
        ("line\nfeed\0\r", "line\u{fffd}feed\u{fffd}\u{fffd}"),
        ("größe", "größe"),
        ("", ""),
    ] {
        count(given);
        let labels = [("resource", told)];
        assert_eq!(value(&metrics, CALLSITE_OPERATIONS_TOTAL, &labels), Some(1.0), "{given:?}");
    }
    // Cut between characters; values with the same cut text are one series.
    count(&"ü".repeat(1000));
    count(&"ü".repeat(2000));
    let cut = "ü".repeat(128);
    let told = value(&metrics, CALLSITE_OPERATIONS_TOTAL, &[("resource", &cut)]);
    assert_eq!(told, Some(2.0));
}

#[test]
fn the_recorder_drops_and_counts_series_over_its_limit() {
    let metrics = Metrics::with_max_series(2);
    for listener in ["a", "b", "c", "d"] {
        metrics.counter(CONNECTIONS_TOTAL, &[("listener", listener)]).increment(1);
    }
    metrics.counter(CONNECTIONS_TOTAL, &[("listener", "a")]).increment(1);
    let told = |listener| value(&metrics, CONNECTIONS_TOTAL, &[("listener", listener)]);
    assert_eq!([told("a"), told("b"), told("c")], [Some(2.0), Some(1.0), None]);
    assert_eq!(value(&metrics, METRICS_DROPPED_TOTAL, &[]), Some(2.0));
}

#[test]
fn forgotten_series_are_gone_and_make_room() {
    let metrics = Metrics::with_max_series(3);
    let connects = |cluster, result| {
        let labels = [("cluster", cluster), ("endpoint", "e"), ("result", result)];
        metrics.counter(UPSTREAM_CONNECT_TOTAL, &labels)
    };
    let old = connects("old", "ok");
    connects("old", "failed").increment(1);
    connects("new", "ok").increment(1);
    metrics.forget(UPSTREAM_CONNECT_TOTAL, &[("cluster", "old"), ("endpoint", "e")]);
    old.increment(1); // does no harm
    assert_eq!(value(&metrics, UPSTREAM_CONNECT_TOTAL, &[("cluster", "old")]), None);
    assert_eq!(value(&metrics, UPSTREAM_CONNECT_TOTAL, &[("cluster", "new")]), Some(1.0));
    connects("next", "ok").increment(1);
    connects("next", "failed").increment(1);
    assert_eq!(value(&metrics, METRICS_DROPPED_TOTAL, &[]), Some(0.0));
    for nothing in [&[][..], &[("no_such_label", "e")], &[("endpoint", "another")]] {
        metrics.forget(UPSTREAM_CONNECT_TOTAL, nothing);
        metrics.forget(METRICS_DROPPED_TOTAL, nothing);
    }
    assert_eq!(value(&metrics, UPSTREAM_CONNECT_TOTAL, &[("cluster", "new")]), Some(1.0));
    assert_eq!(value(&metrics, METRICS_DROPPED_TOTAL, &[]), Some(0.0));
}

#[test]
fn undeclared_metrics_are_dropped_and_counted() {
    let metrics = Metrics::new();
    metrics.counter("tollgate_surprise_total", &[]).increment(1);
    metrics.gauge(CONNECTIONS_TOTAL, &[("listener", "l")]).increment(1); // a counter
    metrics.counter(CONNECTIONS_TOTAL, &[]).increment(1); // a label is missing
    metrics.counter(CONNECTIONS_TOTAL, &[("cluster", "c")]).increment(1); // another label
    assert_eq!(value(&metrics, METRICS_DROPPED_TOTAL, &[]), Some(4.0));
    assert_eq!(read(&metrics).len(), 1);
}

#[test]
fn a_protocol_declares_what_it_counts() {
    static PROTOCOL: Protocol = Protocol {
        stream: false,
        name: "chess",
        items: Some(ExtraCounter { metric: "tollgate_chess_pieces_total", help: "Pieces." }),
        codes: None,
        shapes: Some(ExtraCounter { metric: "tollgate_chess_openings_total", help: "Openings." }),
        attributes: &[],
        item_name: "pieces",
        logged: &[],
        logged_when_slow: &[],
        logged_with_values: &[],
        log_only: &[],
        unknown_operation: "",
        value_formats: &[],
        span: operation::SpanConventions::PLAIN,
    };
    let metrics = Metrics::new();
    metrics.declare(&PROTOCOL);
    let pieces =
        [("listener", "l"), ("operation", "move"), ("resource", "e4"), ("direction", "reply")];
    metrics.counter("tollgate_chess_pieces_total", &pieces).increment(2);
    metrics.declare(&PROTOCOL); // keeps what was counted
    let openings = [("listener", "l"), ("resource", "e4"), ("shape", "ruy_lopez")];
    metrics.counter("tollgate_chess_openings_total", &openings).increment(1);
    assert_eq!(value(&metrics, "tollgate_chess_pieces_total", &pieces), Some(2.0));
    assert_eq!(value(&metrics, "tollgate_chess_openings_total", &openings), Some(1.0));
}

#[test]
fn the_facades_macros_reach_the_recorder() {
    let metrics = Metrics::new();
    ::metrics::with_local_recorder(&metrics, || {
        ::metrics::counter!(CONNECTIONS_TOTAL, "listener" => "l").increment(3);
        ::metrics::gauge!(OPERATIONS_ACTIVE, "listener" => "l").increment(2);
        ::metrics::histogram!(OPERATION_DURATION_SECONDS, "listener" => "l", "protocol" => "p", "operation" => "o", "resource" => "r") .record(0.1);
    });
    assert_eq!(value(&metrics, CONNECTIONS_TOTAL, &[]), Some(3.0));
    assert_eq!(value(&metrics, OPERATIONS_ACTIVE, &[]), Some(2.0));
    assert_eq!(value(&metrics, "tollgate_operation_duration_seconds_count", &[]), Some(1.0));
}

#[test]
fn families_are_sorted_and_have_their_types() {
    let metrics = Metrics::new();
    for metric in TABLE {
        let labels: Vec<_> = metric.labels.iter().map(|label| (*label, "x")).collect();
        match metric.kind {
            Kind::Counter => metrics.counter(metric.name, &labels).increment(1),
            Kind::Gauge => metrics.gauge(metric.name, &labels).increment(1),
            Kind::Histogram => metrics.histogram(metric.name, &labels).record(1.0),
        }
    }
    let families = read(&metrics);
    assert_eq!(families.len(), TABLE.len());
    assert!(families.is_sorted_by(|a, b| a.name < b.name));
    for metric in TABLE {
        let family = families.iter().find(|family| family.name == metric.name).unwrap();
        assert_eq!(family.kind, metric.kind.as_str());
    }
}

#[test]
fn operations_are_rows_joined_from_three_metrics() {
    let metrics = Metrics::new();
    metrics.counter(OPERATIONS_TOTAL, &find_and("outcome", "ok")).increment(8);
    metrics.counter(OPERATIONS_TOTAL, &find_and("outcome", "failed")).increment(1);
    metrics.counter(OPERATIONS_TOTAL, &find_and("outcome", "lost")).increment(1);
    metrics.counter(OPERATIONS_TOTAL, &find_and("outcome", "cancelled")).increment(0);
    metrics.counter(OPERATION_BYTES_TOTAL, &find_and("direction", "request")).increment(100);
    metrics.counter(OPERATION_BYTES_TOTAL, &find_and("direction", "reply")).increment(2000);
    metrics.histogram(OPERATION_DURATION_SECONDS, &FIND).record_many(0.0011, 10);
    let drop = [("listener", "l"), ("protocol", "p"), ("operation", "drop"), ("resource", "x.y")];
    metrics.histogram(OPERATION_DURATION_SECONDS, &drop).record_many(1.0, 0);

    let rows = metrics.operations();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].operation.as_str(), rows[0].times.p50_ms), ("drop", None));
    assert_eq!(
        rows[1],
        OperationRow {
            listener: "l".into(),
            protocol: "p".into(),
            operation: "find".into(),
            resource: "shop.orders".into(),
            count: 10,
            errors: 2,
            refused: 0,
            outcomes: [("failed".to_owned(), 1), ("lost".to_owned(), 1), ("ok".to_owned(), 8)]
                .into(),
            times: Times {
                total_ms: 11.0,
                p50_ms: Some(1.125),
                p90_ms: Some(1.225),
                p99_ms: Some(1.248),
            },
            request_bytes: 100,
            reply_bytes: 2000,
            durations: rows[1].durations.clone(),
        }
    );
    assert_eq!(rows[1].durations.count(), 10);
}

#[test]
fn refusals_are_rows_by_policy_and_reason() {
    let metrics = Metrics::new();
    let labels = [("listener", "l"), ("policy", "slow"), ("reason", "rate_limited")];
    metrics.counter(REFUSALS_TOTAL, &labels).increment(3);
    metrics.counter(DRY_RUN_REFUSALS_TOTAL, &labels).increment(5);
    let rows = metrics.refusals();
    let counts: Vec<_> = rows.iter().map(|row| (row.dry_run, row.count)).collect();
    assert_eq!(counts, [(false, 3), (true, 5)]);
    assert_eq!((&*rows[0].policy, &*rows[0].reason), ("slow", "rate_limited"));
}

#[test]
fn a_refusal_has_a_reason_and_all_else_has_no_such_label() {
    let metrics = Metrics::new();
    let with = |reason| [find_and("outcome", "rejected"), vec![("reason", reason)]].concat();
    metrics.counter(OPERATIONS_TOTAL, &find_and("outcome", "rejected")).increment(2);
    metrics.counter(OPERATIONS_TOTAL, &with("overloaded")).increment(3);
    let mut text = String::new();
    metrics.render(&mut text);
    for sample in ["outcome=\"rejected\"} 2", "outcome=\"rejected\",reason=\"overloaded\"} 3"] {
        assert!(text.contains(sample), "{text}");
    }
    let row = &metrics.operations()[0];
    assert_eq!((row.errors, row.refused, row.outcomes["rejected"]), (5, 3, 5));
}

#[test]
fn callsites_are_rows_too() {
    let metrics = Metrics::new();
    let labels =
        [("listener", "l"), ("callsite", "cart.rs:7"), ("operation", "o"), ("resource", "r")];
    metrics.counter(CALLSITE_OPERATIONS_TOTAL, &labels).increment(4);
    metrics.histogram(CALLSITE_DURATION_SECONDS, &labels).record_many(0.002, 4);
    let rows = metrics.callsites();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].callsite.as_str(), rows[0].count), ("cart.rs:7", 4));
    assert_eq!(rows[0].times.total_ms, 8.0);
}

#[test]
fn every_name_in_the_file_is_in_the_table_once() {
    let file = include_str!("table/names.rs");
    assert_eq!(file.matches(": &str = \"tollgate_").count(), TABLE.len());
    let mut names: Vec<_> = TABLE.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    assert!(names.is_sorted_by(|a, b| a < b), "a name comes twice");
}

#[test]
fn names_follow_the_conventions() {
    for Metric { name, kind, unit, labels, help } in TABLE {
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(*unit == "seconds", name.ends_with("_seconds"), "{name}");
        assert_eq!(*unit == "bytes", name.contains("_bytes"), "{name}");
        assert!(help.ends_with('.') && !help.contains(['\n', '|']), "{name}");
        assert!(!labels.contains(&"le"), "{name}");
    }
}

#[test]
fn metrics_that_are_joined_share_their_first_labels() {
    let labels = |name| TABLE.iter().find(|metric| metric.name == name).unwrap().labels;
    let row = labels(OPERATION_DURATION_SECONDS);
    assert_eq!(row.len(), 4);
    assert_eq!(labels(OPERATIONS_TOTAL)[..4], *row);
    assert_eq!(labels(OPERATION_BYTES_TOTAL)[..4], *row);
    assert_eq!(labels(CALLSITE_OPERATIONS_TOTAL), labels(CALLSITE_DURATION_SECONDS));
}

#[test]
fn the_recorder_names_no_protocol() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && !path.ends_with("tests.rs"));
    assert!(files.len() > 5);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
        for name in ["mongo", "tcp", "http", "grpc", "redis"] {
            let named = text.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
            assert!(!named, "{} names {name}", file.display());
        }
    }
}

/// Reads the format of OpenMetrics by its rules for lines: returns the lines without exemplars, and the
/// exemplars with the name and the bucket of their sample.
fn read_openmetrics(text: &str) -> (Vec<Family>, Vec<(String, String)>) {
    let lines = text.strip_suffix("# EOF\n").expect("the mark of the end");
    assert!(!lines.contains("# EOF"));
    let (mut plain, mut exemplars, mut family) = (String::new(), Vec::new(), "");
    for line in lines.lines() {
        if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name.ends_with(&format!("_{unit}")) && name == family, "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        }
        let (sample, exemplar) =
            line.split_once(" # {").map_or((line, None), |(s, e)| (s, Some(e)));
        exemplars.extend(exemplar.map(|it| (sample.to_owned(), it.to_owned())));
        // What the strict parser of the other format wants: a family with the name of its samples.
        let is_counter =
            line.starts_with('#') && text.contains(&format!("# TYPE {family} counter"));
        assert!(!(is_counter && family.ends_with("_total")), "{line}");
        plain.push_str(sample);
        plain.push('\n');
    }
    for line in text.lines().filter(|line| line.ends_with(" counter")) {
        let name = line.split(' ').nth(2).unwrap();
        let total = |part: &str| part.replacen(name, &format!("{name}_total"), 1);
        plain = plain
            .lines()
            .map(|it| {
                let heads = [format!("# TYPE {name} "), format!("# HELP {name} ")];
                let of_it = heads.iter().any(|head| it.starts_with(head));
                if of_it { total(it) + "\n" } else { it.to_owned() + "\n" }
            })
            .collect();
    }
    (exposition::read(&plain), exemplars)
}

#[test]
fn openmetrics_has_the_same_samples_and_exemplars() {
    let metrics = Metrics::new();
    metrics.counter(CONNECTIONS_TOTAL, &[("listener", "a\"b")]).increment(2);
    let histogram = metrics.histogram(OPERATION_DURATION_SECONDS, &FIND);
    histogram.record(0.002);
    histogram.record(80.0);
    let slot = metrics.exemplar(OPERATION_DURATION_SECONDS, &FIND).unwrap();
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    slot.record(Duration::from_millis(2), (0xabc, 0xdef), at);
    let mut text = String::new();
    metrics.render_openmetrics(&mut text);
    let (families, exemplars) = read_openmetrics(&text);
    let names: Vec<&str> = families.iter().map(|family| &*family.name).collect();
    let same: Vec<String> = read(&metrics).iter().map(|family| family.name.clone()).collect();
    assert_eq!(names, same);
    let [(sample, exemplar)] = &exemplars[..] else { panic!("{exemplars:?}") };
    assert!(sample.contains("_bucket{") && sample.ends_with("le=\"0.0025\"} 1"), "{sample}");
    let ids = format!("trace_id=\"{:032x}\",span_id=\"{:016x}\"", 0xabc, 0xdef);
    assert_eq!(*exemplar, format!("{ids}}} 0.002 1700000000.250"));
    assert!(text.contains("le=\"1.0\"") && text.contains("le=\"+Inf\""));
    // Longer than the last bound: at the last bucket.
    slot.record(Duration::from_secs(80), (1, 2), at);
    text.clear();
    metrics.render_openmetrics(&mut text);
    assert!(read_openmetrics(&text).1[0].0.contains("le=\"+Inf\""));
    text.clear();
    metrics.render(&mut text);
    assert!(!text.contains(" # {") && !text.contains("# EOF"));
}

#[test]
fn no_family_of_openmetrics_has_the_name_of_another() {
    let names: Vec<&str> = TABLE.iter().map(|row| row.name.trim_end_matches("_total")).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(!names[at + 1..].contains(name), "{name}");
    }
    let counters = TABLE.iter().filter(|row| row.kind == Kind::Counter);
    assert!(counters.clone().all(|row| row.name.ends_with("_total")));
}
