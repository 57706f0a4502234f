use super::*;
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use std::rc::Rc;

const ALL: [Failure; 12] = [
    Failure::Connect,
    Failure::Refused,
    Failure::Reset,
    Failure::PerTryTimeout,
    Failure::Status(409),
    Failure::Status(429),
    Failure::Status(500),
    Failure::Status(502),
    Failure::Status(503),
    Failure::Status(599),
    Failure::Code(14),
    Failure::Code(4),
];

fn parse(words: &[&str]) -> Conditions {
    let parsed = words.iter().map(|word| Conditions::parse(word).unwrap());
    parsed.fold(Conditions::default(), Conditions::and)
}

fn covered(words: &[&str]) -> Vec<Failure> {
    let conditions = parse(words);
    ALL.into_iter().filter(|failure| conditions.covers(*failure)).collect()
}

#[test]
fn each_word_means_its_failures() {
    use Failure::{Code, Connect, PerTryTimeout, Refused, Reset, Status};
    for (word, failures) in [
        ("connect_failure", &[Connect][..]),
        ("refused_stream", &[Refused]),
        ("reset", &[Refused, Reset, PerTryTimeout]),
        ("gateway_error", &[Status(502), Status(503)]),
        ("retriable_4xx", &[Status(409)]),
        ("429", &[Status(429)]),
        ("unavailable", &[Code(14)]),
        ("deadline_exceeded", &[Code(4)]),
    ] {
        assert_eq!(covered(&[word]), failures, "{word}");
    }
    let five = [Connect, Refused, Reset, PerTryTimeout];
    let five = [&five[..], &[Status(500), Status(502), Status(503), Status(599)]].concat();
    assert_eq!(covered(&["5xx"]), five);
    assert_eq!(covered(&["409", "unavailable"]), [Status(409), Code(14)]);
    assert_eq!(covered(&[]), []);
    assert!(parse(&["cancelled"]).has_codes() && !parse(&["5xx"]).has_codes());
}

#[test]
fn every_status_has_a_bit_of_its_own() {
    for status in 400..600 {
        let one = parse(&[&status.to_string()]);
        let covers = |other: &u16| one.covers(Failure::Status(*other));
        assert_eq!((0..1000).filter(covers).collect::<Vec<_>>(), [status]);
    }
    assert!(!parse(&["5xx"]).covers(Failure::Code(u16::MAX)));
}

#[test]
fn a_wrong_word_is_told_with_what_to_write() {
    for (word, hint) in [
        ("connect-failure", "write `connect_failure`"),
        ("UNAVAILABLE", "write `unavailable`"),
        ("200", "a status is 400 to 599: `503`"),
        ("600", "a status is 400 to 599: `503`"),
    ] {
        assert_eq!(Conditions::parse(word).unwrap_err().hint, hint, "{word}");
    }
    for word in ["", "ok", "+500", "0500", "always", "50"] {
        assert!(Conditions::parse(word).is_err(), "{word}");
    }
}

#[test]
fn attempts_are_counted() {
    let retry = Retry {
        conditions: parse(&["reset"]),
        attempts: 2,
        per_try_timeout: None,
        backoff: Backoff::default(),
        budget: Budget::default(),
        max_body: 0,
    };
    let follows = |made| retry.follows(Failure::Reset, made);
    assert_eq!([1, 2, 3].map(follows), [true, true, false]);
    assert!(!retry.follows(Failure::Connect, 1));
}

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
fn a_service_may_ask_for_a_wait_up_to_a_bound() {
    let backoff = Backoff { retry_after: Some(Duration::from_secs(5)), ..Backoff::default() };
    let told = |value: &'static str| {
        backoff.told(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]))
    };
    assert_eq!(told("0"), Some(Some(Duration::ZERO)));
    assert_eq!(told("5"), Some(Some(Duration::from_secs(5))));
    assert_eq!(told("6"), Some(None));
    assert_eq!(told("99999999999999999999999"), Some(None));
    for unread in ["", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT"] {
        assert_eq!(told(unread), None, "{unread}");
    }
    assert_eq!(Backoff::default().told(&HeaderMap::new()), None);
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
