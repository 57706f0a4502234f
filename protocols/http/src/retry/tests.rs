use super::*;
use std::rc::Rc;

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
fn a_budget_is_a_share_of_what_is_under_way_but_never_less_than_its_minimum() {
    let load = Rc::new(Load::default());
    let budget = Budget { percent: 20, min: 1 };
    let mut active: Vec<Attempting> = (0..10).map(|_| load.begin()).collect();
    let allowed: Vec<bool> = active.iter_mut().map(|it| it.may_retry(&budget)).collect();
    assert_eq!(allowed.iter().filter(|allowed| **allowed).count(), 2);
    // Who has one has the next.
    assert!(active[0].may_retry(&budget) && !active[9].may_retry(&budget));
    assert_eq!((load.active(), load.retrying()), (10, 2));
    active.remove(0);
    // Of nine it is one, which still retries.
    assert!(!active[8].may_retry(&budget));
    active.remove(0);
    assert!(active[7].may_retry(&budget));
    drop(active);
    assert_eq!((load.active(), load.retrying()), (0, 0));
    assert!(!load.begin().may_retry(&Budget { percent: 0, min: 0 }));
    assert!(load.begin().may_retry(&Budget { percent: 0, min: 1 }));
}

#[test]
fn what_was_never_written_can_be_written_elsewhere() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert!(is_safe_to_repeat(&method, true), "{method}");
    }
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        assert!(is_safe_to_repeat(&method, false), "{method}");
        assert!(!is_safe_to_repeat(&method, true), "{method}");
    }
}
