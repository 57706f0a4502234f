use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

#[test]
fn waits_grow_up_to_their_bound_and_a_share_of_them_is_waited() {
    let backoff = Backoff::default();
    let millis = |retry, share| backoff.wait(retry, share).as_secs_f64() * 1000.0;
    for (retry, longest) in [(0, 0.0), (1, 25.0), (2, 75.0), (3, 175.0), (4, 250.0), (99, 250.0)] {
        assert_eq!(millis(retry, 0.0), 0.0);
        assert_eq!(millis(retry, 1.0), longest, "{retry}");
        assert!((millis(retry, 0.5) - longest / 2.0).abs() < 1e-6, "{retry}");
    }
    assert_eq!(millis(1, 7.0), 25.0);
    assert_eq!(millis(1, -1.0), 0.0);
    assert_eq!(backoff.wait(u32::MAX, 1.0), backoff.max);
}

#[test]
fn a_budget_is_a_share_of_active_requests_with_a_minimum() {
    let load = Rc::new(RouteLoad::default());
    let budget = RetryBudget { percent: 20, min: 1 };
    let mut active: Vec<RequestInFlight> = (0..10).map(|_| load.begin()).collect();
    let allowed: Vec<bool> = active.iter_mut().map(|it| it.may_retry(&budget)).collect();
    assert_eq!(allowed.iter().filter(|allowed| **allowed).count(), 2);
    // Once allowed, always allowed.
    assert!(active[0].may_retry(&budget) && !active[9].may_retry(&budget));
    assert_eq!((load.active(), load.retrying()), (10, 2));
    active.remove(0);
    // One of nine remains, which is still retrying.
    assert!(!active[8].may_retry(&budget));
    active.remove(0);
    assert!(active[7].may_retry(&budget));
    drop(active);
    assert_eq!((load.active(), load.retrying()), (0, 0));
    assert!(!load.begin().may_retry(&RetryBudget { percent: 0, min: 0 }));
    assert!(load.begin().may_retry(&RetryBudget { percent: 0, min: 1 }));
}

#[test]
fn an_unwritten_request_can_be_repeated() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert!(is_safe_to_repeat(&method, true), "{method}");
    }
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        assert!(is_safe_to_repeat(&method, false), "{method}");
        assert!(!is_safe_to_repeat(&method, true), "{method}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    // 15 seconds before the date below.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_762);
    let told = |headers: &[(&'static str, &'static str)]| {
        let entry = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Pushback::of_http(&headers.iter().map(entry).collect::<HeaderMap>(), now)
    };
    let after = |seconds| Pushback::After(Duration::from_secs(seconds));
    let date = ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(told(&[]), after(0));
    assert_eq!(told(&[("retry-after", "120")]), after(120));
    assert_eq!(told(&[("retry-after", "99999999999999999999999")]), after(u64::MAX));
    assert_eq!(told(&[date]), after(15));
    assert_eq!(told(&[date, ("date", "Sun, 06 Nov 1994 08:49:30 GMT")]), after(7));
    assert_eq!(told(&[date, ("date", "Sun, 06 Nov 1994 09:00:00 GMT")]), after(0));
    for odd in ["", "-1", "+1", "1.5", "soon", "1s"] {
        assert_eq!(told(&[("retry-after", odd)]), after(0), "{odd}");
    }
}

#[test]
fn no_retry_if_the_pushback_exceeds_the_remaining_time() {
    let [one, two] = [1, 2].map(Duration::from_secs);
    assert_eq!(Pushback::After(one).within(|| two), Some(one));
    assert_eq!(Pushback::After(two).within(|| two), None);
    assert_eq!(Pushback::Never.within(|| two), None);
    assert_eq!(Pushback::default().within(|| Duration::ZERO), Some(Duration::ZERO));
}
