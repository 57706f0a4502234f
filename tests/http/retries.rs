//! What is tried again, how often, and what is not; copies, and second opinions.

use crate::support::{
    eventually, free_address,
    http::{
        Client, Content, PAIRINGS, Reply, Service, Version, at, endpoints, get, post, proxy_to,
        routed, routed_config,
    },
    tollgate::Tollgate,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// A service whose first `failures` answers are those, and that echoes from then on.
fn ailing(version: Version, failures: usize, how: fn() -> Reply) -> Service {
    let count = AtomicUsize::new(0);
    Service::start(version, move |_| {
        if count.fetch_add(1, Ordering::SeqCst) < failures { how() } else { Reply::echo() }
    })
}

fn retrying(service: &Service, retry: &str) -> Tollgate {
    let route = format!("{{ name: all, cluster: shop, retry: {{ {retry} }} }}");
    routed(&[&route], &[("shop", service)])
}

#[test]
fn configured_failures_are_retried_with_the_same_body() {
    let cases: [(&str, fn() -> Reply); 8] = [
        ("5xx", || Reply::status(500)),
        ("5xx", || Reply::reset()),
        ("gateway_error", || Reply::status(502)),
        ("gateway_error", || Reply::status(504)),
        ("503", || Reply::status(503)),
        ("500-502", || Reply::status(501)),
        ("retriable_4xx", || Reply::status(409)),
        ("reset", || Reply::reset()),
    ];
    let route = |(at, (on, _)): (usize, &(&str, fn() -> Reply))| {
        format!(
            "{{ name: case-{at}, match: {{ path: /{at} }}, cluster: shop, retry: {{ on: {on}, attempts: 3 }} }}"
        )
    };
    let routes: Vec<String> = cases.iter().enumerate().map(route).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    for (client_version, answers) in PAIRINGS {
        let counts = [const { AtomicUsize::new(0) }; 8];
        let service = Service::start(answers, move |asked| {
            let at: usize = asked.target[1..].parse().expect("a case's number");
            let times = counts[at].fetch_add(1, Ordering::SeqCst);
            if times < 2 { (cases[at].1)() } else { Reply::echo() }
        });
        let tollgate = routed(&routes, &[("shop", &service)]);
        let client = Client::connect(at(&tollgate), client_version);
        for (at, (on, _)) in cases.iter().enumerate() {
            let path = format!("/{at}");
            let answer = client.round_trip(post(&path, Content::pieces(&[b"hel", b"lo"])));
            assert_eq!(
                (answer.status, answer.text()),
                (200, "hello"),
                "{client_version:?} {answers:?} {on}"
            );
            let tries = service.received().iter().filter(|asked| asked.target == path).count();
            assert_eq!(tries, 3, "{client_version:?} {answers:?} {on}");
            let line = &tollgate.logged(1, |line| line["path"] == path)[0];
            assert_eq!((&line["attempts"], &line["flags"]), (&"3".into(), &"retried".into()));
            assert_eq!(line["outcome"], "ok");
        }
    }
}

#[test]
fn failures_that_a_route_does_not_name_are_the_clients_to_see() {
    let cases: [(&str, fn() -> Reply, u16); 4] = [
        ("gateway_error", || Reply::status(500), 500),
        ("connect_failure", || Reply::reset(), 502),
        ("reset", || Reply::status(503), 503),
        ("5xx", || Reply::status(404), 404),
    ];
    for answers in [Version::One, Version::Two] {
        for (on, how, status) in cases {
            let service = ailing(answers, 9, how);
            let tollgate = retrying(&service, &format!("on: {on}, attempts: 3"));
            let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
            assert_eq!((answer.status, service.received().len()), (status, 1), "{answers:?} {on}");
        }
    }
}

#[test]
fn a_refused_stream_is_retried_whatever_its_method() {
    let service = ailing(Version::Two, 1, Reply::refused);
    let tollgate = retrying(&service, "on: refused_stream, methods: GET");
    let answer = Client::connect(at(&tollgate), Version::Two).round_trip(post("/", "hello"));
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}

#[test]
fn a_reset_stream_is_not_retried_by_default() {
    let count = AtomicUsize::new(0);
    let service =
        Service::start(Version::Two, move |_| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::reset(),
            _ => Reply::ok("ok"),
        });
    let tollgate = proxy_to(&service.endpoints(), "", "");
    let client = Client::connect(at(&tollgate), Version::Two);
    assert_eq!(client.round_trip(get("/1")).status, 200);
    assert_eq!(client.round_trip(get("/2")).status, 502);
    assert_eq!((service.received().len(), service.connections()), (2, 1));
}

#[test]
fn a_retry_waits_for_as_long_as_the_service_asks() {
    let service = ailing(Version::One, 1, || Reply::status(503).header("retry-after", "1"));
    let tollgate = retrying(&service, "on: 503");
    let began = Instant::now();
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(post("/", "hello"));
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_retry_delay_over_the_time_limit_prevents_a_retry() {
    let cases = [
        ("timeout: off", "16"),
        ("timeout: 5s", "5"),
        ("timeout: 5m, idle_timeout: 3s", "4"),
        ("timeout: 5s", "Tue, 31 Dec 2999 23:59:59 GMT"),
    ];
    for (times, client_version) in cases {
        let service = Service::start(Version::Two, move |_| {
            Reply::status(503).header("retry-after", client_version)
        });
        let route = format!("{{ name: all, cluster: shop, retry: {{ on: 503 }}, {times} }}");
        let tollgate = routed(&[&route], &[("shop", &service)]);
        let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, client_version.into()),
            "{times}"
        );
        assert_eq!(service.received().len(), 1, "{times}");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["flags"], &line["outcome"]), (&"pushed_back".into(), &"failed".into()));
    }
}

#[test]
fn attempts_end_and_the_last_answer_is_the_clients() {
    let service = ailing(Version::One, 9, || Reply::status(503));
    let tollgate = retrying(&service, "on: 5xx, attempts: 2");
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
    assert_eq!((answer.status, answer.text()), (503, "503"));
    assert_eq!(service.received().len(), 3);
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["attempts"], &line["outcome"]), (&"3".into(), &"failed".into()));
}

#[test]
fn another_endpoint_is_tried_than_before() {
    let ill = Service::start(Version::One, |_| Reply::status(503));
    let well = Service::replying(Version::One, "ok");
    let cluster = endpoints(&[ill.address(), well.address()]);
    let tollgate = Tollgate::start(&format!(
        "{}clusters:\n  shop: {{ {cluster} }}\n",
        routed_config(&["{ name: all, cluster: shop, retry: { on: 503 } }"], &[], "")
            .replace("clusters:\n", "")
    ));
    let client = Client::connect(at(&tollgate), Version::One);
    for _ in 0..10 {
        assert_eq!(client.round_trip(get("/")).text(), "ok");
    }
}

#[test]
fn methods_that_must_not_be_repeated_are_not() {
    let service = ailing(Version::One, 1, || Reply::status(503));
    let tollgate = retrying(&service, "on: 5xx, methods: [GET, HEAD]");
    let client = Client::connect(at(&tollgate), Version::One);
    assert_eq!(client.round_trip(post("/", "pay")).status, 503);
    assert_eq!(service.received().len(), 1);
}

#[test]
fn a_body_that_is_too_large_to_keep_is_sent_once() {
    for (client_version, answers) in PAIRINGS {
        let service = ailing(answers, 1, || Reply::status(503));
        let tollgate = retrying(&service, "on: 5xx, max_body: 1KiB");
        let client = Client::connect(at(&tollgate), client_version);
        assert_eq!(
            client.round_trip(post("/", vec![b'x'; 8 << 10])).status,
            503,
            "{client_version:?} {answers:?}"
        );
        assert_eq!(service.received().len(), 1);
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["flags"], "too_large_to_retry", "{client_version:?} {answers:?}");
    }
}

#[test]
fn nothing_is_tried_again_once_the_answer_began() {
    let service = ailing(Version::One, 1, || Reply::ok(Content::from("hel").broken()));
    let tollgate = retrying(&service, "on: [5xx, reset], attempts: 3");
    let answer = Client::connect(at(&tollgate), Version::One).begin(get("/")).try_answer();
    assert!(!answer.is_ok_and(|it| !it.broken));
    assert_eq!(service.received().len(), 1);
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another() {
    for (client_version, answers) in PAIRINGS {
        let count = AtomicUsize::new(0);
        let service =
            Service::start(answers, move |_| match count.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::never(),
                _ => Reply::ok("ok"),
            });
        let tollgate = retrying(&service, "on: 5xx, per_try_timeout: 100ms");
        let answer = Client::connect(at(&tollgate), client_version).round_trip(get("/"));
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{client_version:?} {answers:?}");
    }
}

#[test]
fn retries_do_not_drown_a_service_that_is_ill() {
    let service =
        Service::start(Version::Two, |_| Reply::status(503).after(Duration::from_millis(100)));
    let tollgate = retrying(&service, "on: 5xx, budget: { percent: 0, min: 2 }");
    let client = Client::connect(at(&tollgate), Version::Two);
    let pending: Vec<_> = (0..10).map(|_| client.begin(get("/"))).collect();
    pending.into_iter().for_each(|it| assert_eq!(it.answer().status, 503));
    assert!(service.received().len() < 20, "{}", service.received().len());
    let refused = tollgate.logged(10, |_| true);
    assert!(refused.iter().any(|line| line["flags"] == "retry_budget"), "{refused:?}");
}

#[test]
fn an_answer_that_takes_too_long_is_a_504_in_words() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, move |_| Reply::never());
        let route = "{ name: all, cluster: shop, timeout: 100ms }";
        let tollgate = routed(&[route], &[("shop", &service)]);
        let answer = Client::connect(at(&tollgate), client_version).round_trip(get("/"));
        assert_eq!((answer.status, &answer.json()["error"]), (504, &"timed_out".into()));
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&"lost".into(), &"timed_out".into()),
            "{client_version:?} {answers:?}"
        );
    }
}

#[test]
fn an_answer_that_has_begun_may_go_on_after_its_route_s_time() {
    for (client_version, answers) in PAIRINGS {
        let (feed, content) = Content::fed();
        let service = Service::once(answers, content);
        let route = "{ name: all, cluster: shop, timeout: 300ms }";
        let tollgate = routed(&[route], &[("shop", &service)]);
        let client = Client::connect(at(&tollgate), client_version);
        let began = Instant::now();
        let pending = client.begin(get("/events"));
        while began.elapsed() < Duration::from_millis(600) {
            feed.send("x");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        drop(feed);
        let answer = pending.answer();
        assert!(
            answer.status == 200 && !answer.broken,
            "{client_version:?} {answers:?} {answer:?}"
        );
        assert_eq!(
            tollgate.logged(1, |_| true)[0]["outcome"],
            "ok",
            "{client_version:?} {answers:?}"
        );
    }
}

#[test]
fn an_answer_may_have_a_time_for_all_of_it() {
    for (client_version, answers) in PAIRINGS {
        let (feed, content) = Content::fed();
        let service = Service::once(answers, content);
        let route = "{ name: all, cluster: shop, total_timeout: 300ms }";
        let tollgate = routed(&[route], &[("shop", &service)]);
        let client = Client::connect(at(&tollgate), client_version);
        let pending = client.begin(get("/events"));
        while feed.is_read() {
            feed.send("x");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(!pending.try_answer().is_ok_and(|it| !it.broken), "{client_version:?} {answers:?}");
        let line = &tollgate.logged(1, |_| true)[0];
        let told = (&line["outcome"], &line["reason"], &line["flags"]);
        assert_eq!(told, (&"lost".into(), &"timed_out".into(), &"answer_cut".into()), "{line}");
    }
}

#[test]
fn an_answer_in_which_nothing_moves_is_broken_off() {
    for (client_version, answers) in PAIRINGS {
        let (feed, content) = Content::fed();
        let service = Service::once(answers, content);
        let route = "{ name: all, cluster: shop, timeout: off, idle_timeout: 200ms }";
        let tollgate = routed(&[route], &[("shop", &service)]);
        let client = Client::connect(at(&tollgate), client_version);
        let pending = client.begin(get("/"));
        feed.send("one");
        let answer = pending.try_answer();
        assert!(!answer.is_ok_and(|it| !it.broken), "{client_version:?} {answers:?}");
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(line["reason"], "idle_timeout", "{client_version:?} {answers:?} {line}");
    }
}

#[test]
fn a_second_endpoint_is_asked_where_the_first_is_slow() {
    let count = Arc::new(AtomicUsize::new(0));
    let service =
        Service::start(Version::Two, move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::never(),
            _ => Reply::ok("ok"),
        });
    let route = "{ name: all, cluster: shop, hedge: { after: 50ms } }";
    let tollgate = routed(&[route], &[("shop", &service)]);
    let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
    assert_eq!(answer.text(), "ok");
    assert_eq!(tollgate.logged(1, |_| true)[0]["flags"], "hedged");
}

#[test]
fn a_mirror_request_delays_no_response() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::back());
        let shadow = Service::start(answers, move |_| Reply::never());
        let route = "{ name: all, cluster: shop, mirror: { cluster: shadow } }";
        let tollgate = routed(&[route], &[("shop", &service), ("shadow", &shadow)]);
        let client = Client::connect(at(&tollgate), client_version);
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(
                client.round_trip(post("/a?b", "hello")).text(),
                "hello",
                "{client_version:?} {answers:?}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let copies = shadow.wait_for_requests(3);
        assert!(copies.iter().all(|it| it.target == "/a?b"), "{client_version:?} {answers:?}");
        eventually("the bodies", || {
            shadow.received().iter().all(|it| it.body == b"hello").then_some(())
        });
        assert_eq!(tollgate.logged(3, |_| true)[0]["flags"], "mirrored");
    }
}

#[test]
fn a_mirror_that_is_away_is_not_noticed() {
    let service = Service::replying(Version::One, "ok");
    let route = "{ name: all, cluster: shop, mirror: { cluster: shadow } }";
    let more = format!("  shadow: {{ {} }}\n", endpoints(&[free_address()]));
    let tollgate = Tollgate::start(&routed_config(&[route], &[("shop", &service)], &more));
    let client = Client::connect(at(&tollgate), Version::One);
    assert_eq!(client.round_trip(get("/")).text(), "ok");
}
