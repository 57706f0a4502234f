use super::{
    super::layout::{BOLD, CYAN, RESET},
    *,
};

fn row(operation: &str, resource: &str, operations: f64, p50: f64, busy: f64) -> Row {
    Row {
        operation: operation.into(),
        resource: resource.into(),
        operations,
        errors: 0.0,
        p50_ms: Some(p50),
        p99_ms: Some(p50 * 10.0),
        bytes: operations * 512.0,
        busy,
        listener: "db".into(),
        callsite: format!("{operation}.of.{resource}"),
        query: format!("{{\"filter\":{{\"{operation}\":1}}}}"),
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row { errors: 1.5, ..row("find", "shop.orders", 12.0, 81.25, 975.0) },
        row("aggregate", "shop.orders", 8.31, 3.2, 26.0),
        row("findAndModify", "a_very_long_database.a_very_long_collection", 123_456.7, 0.12, 20.0),
        Row { p50_ms: None, p99_ms: None, ..row("session", "-", 0.4, 0.0, 0.0) },
    ]
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap()
}

#[test]
fn a_wide_terminal_shows_everything() {
    let expected = "\
OPERATION     RESOURCE                           OPS/S  ERR%    P50*    P99* BYTES/S TIME
find          shop.orders                           12    12  81.2ms   812ms   6.1kB  95% ██████████
aggregate     shop.orders                          8.3     -   3.2ms  32.0ms   4.3kB   3%
findAndModify a_very_long_database.a_very_lon…    123k     -   120µs   1.2ms  63.2MB   2%
session       -                                    0.4     -       -       -    205B   0%";
    assert_eq!(render(&rows(), View::Operations, 100, false), expected);
}

#[test]
fn a_wide_terminal_shows_more_columns() {
    let expected = "\
OPERATION     RESOURCE                                    LISTENER   OPS/S  ERR%    P50*    P99* BYTES/S TIME
find          shop.orders                                 db            12    12  81.2ms   812ms   6.1kB  95% █████████████████████████████
aggregate     shop.orders                                 db           8.3     -   3.2ms  32.0ms   4.3kB   3% █
findAndModify a_very_long_database.a_very_long_collection db          123k     -   120µs   1.2ms  63.2MB   2% █
session       -                                           db           0.4     -       -       -    205B   0%";
    assert_eq!(render(&rows(), View::Operations, 150, false), expected);
}

#[test]
fn call_sites_come_with_what_they_do() {
    let rows = [
        Row { callsite: "report.scan".into(), ..row("find", "shop.orders", 12.0, 81.25, 975.0) },
        Row { callsite: "cart.load".into(), ..row("find", "shop.carts", 90.0, 0.5, 25.0) },
    ];
    let expected = "\
CALL SITE   OPERATION RESOURCE      OPS/S    P50*    P99* TIME
report.scan find      shop.orders      12  81.2ms   812ms  98%
cart.load   find      shop.carts       90   500µs   5.0ms   2%";
    assert_eq!(render(&rows, View::CallSites, 80, false), expected);
    let narrow = render(&rows, View::CallSites, 50, false);
    assert!(
        narrow.lines().next().unwrap().starts_with("CALL SITE   OPERATION   OPS/S"),
        "{narrow}"
    );
}

#[test]
fn eighty_columns_go_without_the_bars() {
    let expected = "\
OPERATION     RESOURCE                  OPS/S  ERR%    P50*    P99* BYTES/S TIME
find          shop.orders                  12    12  81.2ms   812ms   6.1kB  95%
aggregate     shop.orders                 8.3     -   3.2ms  32.0ms   4.3kB   3%
findAndModify a_very_long_database.a…    123k     -   120µs   1.2ms  63.2MB   2%
session       -                           0.4     -       -       -    205B   0%";
    assert_eq!(render(&rows(), View::Operations, 80, false), expected);
}

#[test]
fn a_narrow_terminal_shows_what_matters_most() {
    let expected = "\
OPERATION RESOURCE   OPS/S  ERR%    P99*
find      shop.or…      12    12   812ms
aggregate shop.or…     8.3     -  32.0ms
findAndM… a_very_…    123k     -   1.2ms
session   -            0.4     -       -";
    assert_eq!(render(&rows(), View::Operations, 40, false), expected);
}

#[test]
fn no_line_is_ever_wider_than_the_terminal() {
    for width in 0..200 {
        for view in [View::Operations, View::CallSites] {
            let text = render(&rows(), view, width, false);
            assert!(widest(&text) <= width, "{width}:\n{text}");
            assert_eq!(text.split('\n').count(), 5);
        }
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    let text = render(&rows(), View::Operations, 100, true);
    assert!(text.contains(RED) && text.contains(YELLOW));
    let codes = [BOLD, DIM, RED, YELLOW, CYAN, RESET];
    let plain = codes.iter().fold(text, |text, code| text.replace(code, ""));
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed.join("\n"), render(&rows(), View::Operations, 100, false));
}

#[test]
fn nothing_is_said_so() {
    assert!(render(&[], View::Operations, 80, false).ends_with("\nnothing passed through"));
}

#[test]
fn a_name_can_not_command_the_terminal() {
    let evil = row("find\x1b[2J\r", "a\u{202e}b\u{9b}1m", 1.0, 1.0, 1.0);
    let text = render(&[evil], View::Operations, 80, false);
    assert!(text.contains("find?[2J?") && text.contains("a?b?1m"), "{text}");
}

fn series(operation: &str, count: u64, p50: f64) -> Series {
    Series {
        operation: operation.into(),
        count,
        errors: count / 10,
        total_ms: count as f64 * p50,
        p50_ms: Some(p50),
        request_bytes: count * 100,
        reply_bytes: count * 200,
        ..Series::default()
    }
}

#[test]
fn rates_are_per_second_and_failing_rows_come_first() {
    let before = [series("find", 100, 1.0), series("insert", 100, 1.0), series("ping", 5, 1.0)];
    let now = [series("find", 300, 1.0), series("insert", 120, 50.0), series("ping", 5, 1.0)];
    let rows = rates(&before, &now, 2.0);
    assert_eq!(rows.iter().map(|row| &*row.operation).collect::<Vec<_>>(), ["insert", "find"]);
    assert_eq!((rows[0].operations, rows[0].errors), (10.0, 1.0));
    assert_eq!((rows[1].operations, rows[1].bytes), (100.0, 30_000.0));
}

#[test]
fn a_restarted_proxy_counts_from_zero() {
    let rows = rates(&[series("find", 1000, 1.0)], &[series("find", 30, 1.0)], 1.0);
    assert_eq!(rows[0].operations, 30.0);
}

#[test]
fn the_same_operation_on_two_listeners_is_kept_apart() {
    let of =
        |listener: &str, count| Series { listener: listener.into(), ..series("find", count, 1.0) };
    let rows = rates(&[of("a", 10), of("b", 10)], &[of("a", 20), of("b", 40)], 1.0);
    assert_eq!(rows.iter().map(|row| row.operations).collect::<Vec<_>>(), [30.0, 10.0]);
}
