use super::*;
use crate::testing::{TestClient, operation, policy_env, series_policy};
use operation::Settlement;

/// A tap, a listener's part of it, and the time.
struct Bench {
    tap: Arc<LiveTap>,
    listener: ListenerTap,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let env = policy_env();
        let (tap, listener) = (Arc::clone(&env.tap), ListenerTap::new(&env));
        let now = tap.epoch;
        Self { tap, listener, now }
    }

    fn watch(&self, filter: &TapFilter, after: u64) -> TapReport {
        self.tap.watch(filter, after, self.now)
    }

    /// Settles an operation on a resource that took this long.
    fn settle(&self, resource: &str, outcome: Outcome, took: Duration, limit_exempt: bool) {
        let bound = series_policy(&self.listener, "find", resource);
        let (client, mut state) = (TestClient::default(), 0);
        let found = Operation { limit_exempt, ..operation(&client) };
        bound.admit(&found, self.now, &mut state);
        let key = SeriesKey {
            protocol: found.protocol,
            name: "find".into(),
            resource: resource.into(),
            confirmed: true,
        };
        let how = Settlement::new(outcome, self.now);
        let done = Settled {
            key: &key,
            front: b"",
            began: self.now.checked_sub(took).unwrap(),
            long_poll: false,
            may_have_callsite: false,
            query_shape: None,
            policy_effects: &[],
            how: &how,
        };
        bound.settle(&done, state);
    }

    fn settle_ok(&self, resource: &str) {
        self.settle(resource, Outcome::Ok, Duration::ZERO, false);
    }
}

fn resources(report: &TapReport) -> Vec<&str> {
    report.operations.iter().map(|it| it.resource.as_str()).collect()
}

#[test]
fn nothing_is_recorded_without_a_watcher() {
    let bench = Bench::new();
    bench.settle_ok("early");
    let first = bench.watch(&TapFilter::default(), 0);
    assert!(first.operations.is_empty());
    bench.settle_ok("shop.orders");
    let second = bench.watch(&TapFilter::default(), first.next);
    assert_eq!(resources(&second), ["shop.orders"]);
    assert!(bench.watch(&TapFilter::default(), second.next).operations.is_empty());
}

#[test]
fn recording_ends_after_the_last_look() {
    let mut bench = Bench::new();
    bench.watch(&TapFilter::default(), 0);
    bench.settle_ok("seen");
    bench.now += WATCHED_FOR + Duration::from_millis(1);
    bench.settle_ok("late");
    assert_eq!(bench.tap.watched_until.load(Relaxed), 0);
    bench.settle_ok("later");
    // The next watcher does not get what is old.
    assert!(bench.watch(&TapFilter::default(), 0).operations.is_empty());
}

#[test]
fn a_filter_is_about_outcome_duration_and_names() {
    let bench = Bench::new();
    let filters = [
        TapFilter { outcome: Some(TapOutcome::NotOk), ..TapFilter::default() },
        TapFilter { outcome: Some(TapOutcome::Is(Outcome::Lost)), ..TapFilter::default() },
        TapFilter { slower_than: Duration::from_millis(100), ..TapFilter::default() },
        TapFilter { resource: Some("shop.*".to_owned()), ..TapFilter::default() },
        TapFilter { operation: Some("insert".to_owned()), ..TapFilter::default() },
        TapFilter { listener: Some("front".to_owned()), ..TapFilter::default() },
        TapFilter { housekeeping: true, ..TapFilter::default() },
    ];
    filters.iter().for_each(|filter| drop(bench.watch(filter, 0)));
    let ms = Duration::from_millis;
    bench.settle("shop.carts", Outcome::Ok, ms(1), false);
    bench.settle("users", Outcome::Failed, ms(200), false);
    bench.settle("gone", Outcome::Lost, ms(1), false);
    bench.settle("hello", Outcome::Ok, ms(1), true);
    let seen: Vec<_> = filters.iter().map(|it| resources(&bench.watch(it, 0)).join(" ")).collect();
    assert_eq!(
        seen,
        [
            "users gone",
            "gone",
            "users",
            "shop.carts",
            "",
            "shop.carts users gone",
            "shop.carts users gone hello",
        ]
    );
}

#[test]
fn a_filter_without_a_watcher_selects_nothing() {
    let bench = Bench::new();
    let slow = TapFilter { slower_than: Duration::from_secs(1), ..TapFilter::default() };
    bench.watch(&slow, 0);
    bench.settle_ok("fast");
    assert!(bench.watch(&TapFilter::default(), 0).operations.is_empty());
}

#[test]
fn a_flood_leaves_room_for_failures_and_is_bounded() {
    let mut bench = Bench::new();
    bench.watch(&TapFilter::default(), 0);
    for _ in 0..10 {
        (0..1000).for_each(|_| bench.settle_ok("flood"));
        bench.settle("broken", Outcome::Failed, Duration::ZERO, false);
        bench.now += Duration::from_millis(WINDOW_MS);
    }
    let seen = bench.watch(&TapFilter::default(), 0);
    assert_eq!(seen.operations.len(), 90, "80 that are well, and 10 that failed, a second");
    let failed = TapFilter { outcome: Some(TapOutcome::NotOk), ..TapFilter::default() };
    assert_eq!(bench.watch(&failed, 0).operations.len(), 10);
    for _ in 0..30 {
        (0..10).for_each(|_| bench.settle_ok("more"));
        bench.now += Duration::from_millis(WINDOW_MS);
    }
    let seen = bench.watch(&TapFilter::default(), 0);
    assert_eq!((seen.operations.len(), seen.next), (KEPT, 90 + 240));
}

#[test]
fn names_are_cut_and_filters_are_few() {
    let bench = Bench::new();
    for number in 0..100 {
        let resource = Some(format!("{number}"));
        bench.watch(&TapFilter { resource, ..TapFilter::default() }, 0);
    }
    assert_eq!(bench.tap.watches.load().len(), MAX_WATCHES);
    bench.watch(&TapFilter::default(), 0);
    bench.settle_ok(&"x".repeat(10_000));
    let seen = bench.watch(&TapFilter::default(), 0);
    assert!(seen.operations[0].resource.len() <= 160, "{}", seen.operations[0].resource.len());
}

#[test]
fn an_unknown_outcome_is_named() {
    assert_eq!("not_ok".parse(), Ok(TapOutcome::NotOk));
    assert_eq!("rejected".parse(), Ok(TapOutcome::Is(Outcome::Rejected)));
    let wrong = "bad".parse::<TapOutcome>().unwrap_err();
    assert!(wrong.contains("`bad`") && wrong.contains("cancelled"), "{wrong}");
}
