use super::*;
use crate::{
    FindingRow, ShapeOrder, ShapeReport, ShapeRow,
    testing::{Sent, call},
};
use operation::QueryShape;
use tollgate_metrics::Metrics;

const MS: Duration = Duration::from_millis(1);

fn shapes() -> (Arc<SharedShapes>, Rc<WorkerShapes>) {
    let shared = SharedShapes::new(1, &Metrics::new());
    (Arc::clone(&shared), WorkerShapes::new(shared))
}

fn row(shapes: &WorkerShapes, operation: &str) -> Option<ShapeRow> {
    let all = ShapeReport::merge(vec![shapes.report()], ShapeOrder::Time, usize::MAX);
    all.shapes.into_iter().find(|row| row.operation == operation)
}

fn kinds(found: &[FindingRow]) -> Vec<&'static str> {
    found.iter().map(|finding| finding.finding).collect()
}

#[test]
fn the_batches_of_a_cursor_count_for_its_opener() {
    let (shared, shapes) = shapes();
    let sent = Sent::new("shop");
    let opens = Call { items: 101, cursor: Some(CursorChange::Opened(7)), ..call(&sent, "find") };
    let more =
        Call { items: 50, cursor: Some(CursorChange::Advanced(7)), ..call(&sent, "getMore") };
    let last = Call { items: 9, cursor: Some(CursorChange::Closed(7)), ..more };
    [opens, more, more, last].iter().for_each(|call| shapes.record(call));
    let find = row(&shapes, "find").unwrap();
    assert_eq!((find.calls, find.continuations, find.documents), (1, 3, 210));
    assert_eq!((find.request_bytes, find.reply_bytes), (400, 800));
    assert!(row(&shapes, "getMore").is_none());
    // The cursor does not exist any more, or another process has opened it.
    shapes.record(&more);
    assert_eq!(row(&shapes, "getMore").unwrap().calls, 1);
    assert_eq!(kinds(&shared.findings()), [""; 0]);
}

#[test]
fn a_result_without_limit_is_found_once_for_each_cursor() {
    let (shared, shapes) = shapes();
    let sent = Sent::new("shop");
    let find = call(&sent, "find");
    let unlimited = QueryShape { is_unlimited: true, ..find.shape };
    let batch = |call| Call { items: 600, reply_bytes: 10_000, ..call };
    let opens = Call { cursor: Some(CursorChange::Opened(7)), shape: unlimited, ..batch(find) };
    let more = Call { cursor: Some(CursorChange::Advanced(7)), ..batch(call(&sent, "getMore")) };
    [opens, more, more, more].iter().for_each(|call| shapes.record(call));
    let limited = Call { cursor: Some(CursorChange::Opened(8)), ..batch(find) };
    let more_of_it = Call { cursor: Some(CursorChange::Advanced(8)), ..more };
    [limited, more_of_it, more_of_it].iter().for_each(|call| shapes.record(call));
    let found = shared.findings();
    assert_eq!(kinds(&found), ["unbounded_result"]);
    assert_eq!((found[0].count, found[0].max_documents), (1, Some(1200)));
    assert_eq!(
        (&found[0].apps[..], &found[0].callsites[..]),
        (&["shop".to_owned()][..], &["orders.py:17".to_owned()][..])
    );
    // One large batch is enough.
    let large = Call { reply_bytes: 2 << 20, shape: unlimited, ..find };
    shapes.record(&large);
    assert_eq!(shared.findings()[0].max_bytes, Some(2 << 20));
}

#[test]
fn a_cursor_that_a_client_closes_is_not_idle() {
    let (shared, shapes) = shapes();
    let sent = Sent { closed_cursors: "7, 8", ..Sent::new("shop") };
    let ended = Instant::now() - Duration::from_secs(400);
    for id in [7, 8, 9] {
        let opens = Some(CursorChange::Opened(id));
        shapes.record(&Call { cursor: opens, began: ended, ended, ..call(&sent, "find") });
    }
    assert_eq!(shared.findings()[0].count, 3);
    shapes.record(&call(&sent, "killCursors"));
    let found = shared.findings();
    assert_eq!((kinds(&found), found[0].count), (vec!["idle_cursor"], 1));
    assert!(found[0].idle_s.unwrap() >= 400);
    assert!(row(&shapes, "killCursors").is_none());
}

#[test]
fn a_loop_is_found_with_its_call_site() {
    let (shared, shapes) = shapes();
    let sent = Sent::new("shop");
    let mut now = Instant::now();
    let mut send = |resource: &'static str| {
        let (began, ended) = (now + MS, now + 3 * MS);
        now = ended;
        let shape = QueryShape::of_names("find", resource, QueryRole::Lookup);
        shapes.record(&Call { resource, shape, began, ended, ..call(&sent, "find") });
    };
    for _ in 0..5 {
        send("shop.orders");
        (0..20).for_each(|_| send("shop.users"));
    }
    send("shop.config");
    let found = shared.findings();
    assert_eq!(kinds(&found), ["n_plus_one"]);
    assert_eq!((found[0].count, found[0].median_run), (5, Some(20)));
    assert_eq!(found[0].resource.as_deref(), Some("shop.users"));
    assert_eq!(found[0].callsites, ["orders.py:17"]);
}

#[test]
fn a_connection_that_ends_in_a_loop_ends_it() {
    let (shared, shapes) = shapes();
    let (sent, now) = (Sent::new("shop"), Instant::now());
    sent.lookups.set(LookupRun { key: 3, ..LookupRun::default() });
    (0..12).for_each(|_| shapes.record(&Call { began: now, ended: now, ..call(&sent, "find") }));
    assert_eq!(kinds(&shared.findings()), [""; 0]);
    let peer = IpAddr::from([127, 0, 0, 1]);
    shapes.connection_ended(&"db".into(), peer, sent.lookups.get(), MS);
    assert_eq!(shared.findings()[0].median_run, Some(12));
}

#[test]
fn lookups_sent_at_once_are_found_over_connections() {
    let (shared, shapes) = shapes();
    let connections: Vec<_> = (0..30).map(|_| Sent::new("shop")).collect();
    let list = QueryShape::of_names("find", "shop.lists", QueryRole::Lookup);
    let item = QueryShape::of_names("find", "shop.orders", QueryRole::Lookup);
    let at = |began, ended, sent, resource, shape| Call {
        resource,
        shape,
        began,
        ended,
        ..call(sent, "find")
    };
    let start = Instant::now();
    let request = |second: u64| {
        let began = start + Duration::from_secs(second);
        shapes.record(&at(began, began + MS, &connections[0], "shop.lists", list));
        for (number, sent) in connections.iter().enumerate() {
            let ended = began + MS * (10 + number as u32);
            shapes.record(&at(began + 2 * MS, ended, sent, "shop.orders", item));
        }
    };
    (0..3).for_each(request);
    assert_eq!(kinds(&shared.findings()), [""; 0], "twice is by chance");
    request(3);
    let found = shared.findings();
    assert_eq!((kinds(&found), found[0].median_run), (vec!["n_plus_one_burst"], Some(30)));
}

#[test]
fn an_outdated_driver_is_reported_for_each_client() {
    let (shared, shapes) = shapes();
    for app in ["shop", "jobs", "shop"] {
        let sent = Sent { outdated: Some("too old"), ..Sent::new(app) };
        (0..3).for_each(|_| shapes.record(&call(&sent, "insert")));
    }
    let found = shared.findings();
    assert_eq!((kinds(&found), found[0].count), (vec!["outdated_driver"], 2));
    assert_eq!(
        (&found[0].drivers[..], found[0].reason.as_deref()),
        (&["toy 1.0".to_owned()][..], Some("too old"))
    );
}
