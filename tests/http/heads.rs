//! What heads say passes as it was written.

use crate::support::{
    ends::{End, Upstream},
    http::{Client, PAIRINGS, Reply, Service, Version, at, endpoints, get, proxy, proxy_to},
    tollgate::Tollgate,
};
use std::time::Duration;

/// A proxy before a service that the test itself speaks for, and which adds no headers.
fn bare(upstream: &Upstream) -> Tollgate {
    let settings = "request_id: false, trace: false, forwarded: off";
    proxy_to(&endpoints(&[upstream.address()]), settings, "")
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn targets_pass_byte_for_byte() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let targets = [
            "/a%20b/%C3%A4/%7e~;v=1,2:@!$&'()*+",
            "/q?a=1&a=2&&b==%26+c&?d=/../e",
            "/empty?",
            "/a//b/",
            "/%41%e4",
            "/?",
        ];
        for target in targets {
            assert_eq!(client.round_trip(get(target)).status, 200, "{target}");
        }
        let asked: Vec<_> = service.received().into_iter().map(|it| it.target).collect();
        assert_eq!(asked, targets, "{client_version:?} {answers:?}");
    }
}

#[test]
fn an_absolute_target_sets_the_host() {
    for answers in [Version::One, Version::Two] {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let mut client = End::connect(at(&tollgate));
        client.send(b"GET http://shop.example:81/a?b HTTP/1.1\r\nhost: shop.example:81\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        let asked = &service.received()[0];
        assert_eq!((&*asked.target, &*asked.authority), ("/a?b", "shop.example:81"));
    }
}

#[test]
fn options_of_the_whole_server_pass() {
    for answers in [Version::One, Version::Two] {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let mut client = End::connect(at(&tollgate));
        client.send(b"OPTIONS * HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200"), "{answers:?} {head}");
        assert_eq!(
            (&*service.received()[0].target, service.received()[0].method.as_str()),
            ("*", "OPTIONS")
        );
    }
}

#[test]
fn hosts_pass_as_they_were_written() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        for host in ["Shop.Example:8080", "10.0.0.1", "[::1]:80"] {
            client.round_trip(get("/").header("host", host));
            let asked = service.received().pop().expect("a request");
            assert_eq!(asked.authority, host, "{client_version:?} {answers:?}");
        }
    }
}

#[test]
fn headers_pass_with_all_their_lines_in_their_order() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| {
            Reply::ok("ok")
                .header("set-cookie", "a=1; Path=/")
                .header("set-cookie", "b=2")
                .header("set-cookie", "a=3, 4")
                .header("server", "shop/1.0")
                .header("date", "Tue, 15 Nov 1994 08:12:31 GMT")
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let answer =
            client.round_trip(get("/").header("x-a", "1").header("x-b", "").header("x-a", "2, 3"));
        assert_eq!(answer.header("set-cookie"), "a=1; Path=/, b=2, a=3, 4");
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 3);
        assert_eq!(answer.header("server"), "shop/1.0");
        assert_eq!(answer.header("date"), "Tue, 15 Nov 1994 08:12:31 GMT");
        assert_eq!(answer.headers.get_all("date").iter().count(), 1);
        let asked = &service.received()[0];
        assert_eq!((asked.header("x-a"), asked.header("x-b")), ("1, 2, 3".into(), String::new()));
        assert_eq!(asked.headers.get_all("x-a").iter().count(), 2);
    }
}

#[test]
fn cookies_in_lines_of_their_own_are_one_for_http_1() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "");
    let client = Client::connect(at(&tollgate), Version::Two);
    client.round_trip(get("/").header("cookie", "a=1").header("cookie", "b=2"));
    let asked = &service.received()[0];
    let lines: Vec<_> = asked.headers.get_all("cookie").iter().collect();
    assert_eq!(lines, ["a=1; b=2"]);
}

#[test]
fn an_answer_without_a_date_gets_one_and_nothing_else() {
    let upstream = Upstream::start();
    let tollgate = bare(&upstream);
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    assert_eq!(service.head(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    service.send(OK);
    // RFC 9110, section 6.6.1, asks for that.
    let head = client.head();
    let rest = head.strip_prefix("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: ");
    assert_eq!(rest.expect("a date").lines().count(), 2, "{head}");
}

#[test]
fn values_of_any_bytes_that_http_allows_pass() {
    let upstream = Upstream::start();
    let tollgate = bare(&upstream);
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-bytes: \xe4\xff \t\x80\r\n\r\n");
    let mut service = upstream.accept();
    service.expect(b"GET / HTTP/1.1\r\nhost: a\r\nx-bytes: \xe4\xff \t\x80\r\n\r\n");
    service.send(b"HTTP/1.1 200 OK\r\nx-bytes: \xfc\x80\r\ncontent-length: 0\r\n\r\n");
    client.expect(b"HTTP/1.1 200 OK\r\nx-bytes: \xfc\x80\r\ncontent-length: 0\r\n");
}

#[test]
fn reasons_that_services_make_up_pass() {
    let upstream = Upstream::start();
    let tollgate = bare(&upstream);
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut service = upstream.accept();
    service.head();
    service.send(b"HTTP/1.1 299 Mostly Fine\r\ncontent-length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 299 Mostly Fine\r\n"));
}

#[test]
fn long_headers_and_many_headers_pass_up_to_the_limits() {
    for (client_version, answers) in PAIRINGS {
        let long = "v".repeat(8 << 10);
        let told = long.clone();
        let service = Service::start(answers, move |_| Reply::ok("ok").header("x-long", &told));
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let mut ask = get("/").header("x-long", &long);
        for _ in 0..80 {
            ask = ask.header("x-many", "1");
        }
        let answer = client.round_trip(ask);
        assert_eq!(answer.status, 200, "{client_version:?} {answers:?}");
        assert!(answer.header("x-long") == long, "{client_version:?} {answers:?}");
        let asked = &service.received()[0];
        assert!(
            asked.header("x-long") == long && asked.headers.get_all("x-many").iter().count() == 80
        );
    }
}

#[test]
fn heads_over_the_limits_are_rejected() {
    for client_version in [Version::One, Version::Two] {
        let service = Service::replying(Version::One, "ok");
        let tollgate = proxy(&service, "max_head: 8KiB, max_headers: 20, max_target: 1KiB");
        let ask = |ask| Client::connect(at(&tollgate), client_version).round_trip(ask);
        assert_eq!(
            ask(get("/").header("x-long", &"v".repeat(9 << 10))).status,
            431,
            "{client_version:?}"
        );
        let many = (0..30).fold(get("/"), |ask, _| ask.header("x-many", "1"));
        assert_eq!(ask(many).status, 431, "{client_version:?}");
        assert_eq!(ask(get(&format!("/{}", "p".repeat(1100)))).status, 414, "{client_version:?}");
        assert_eq!(service.received().len(), 0, "{client_version:?}");
        let fine = ask(get("/").header("x-long", &"v".repeat(6 << 10)));
        assert_eq!(fine.status, 200, "{client_version:?}");
    }
}

#[test]
fn an_answer_with_a_head_over_the_limit_is_a_502() {
    for answers in [Version::One, Version::Two] {
        let service =
            Service::start(answers, |_| Reply::ok("ok").header("x-long", &"v".repeat(10 << 10)));
        let cluster = service.endpoints().replace("version", "max_head: 8KiB, version");
        let tollgate = proxy_to(&cluster, "", "");
        let answer = Client::connect(at(&tollgate), Version::One).round_trip(get("/"));
        assert_eq!(answer.status, 502, "{answers:?} {answer:?}");
    }
}

#[test]
fn requests_that_wait_in_line_are_answered_in_their_order() {
    let service = Service::start(Version::One, |asked| {
        let slow = asked.target == "/1";
        let delay = Duration::from_millis(if slow { 50 } else { 0 });
        Reply::ok(asked.target.clone()).after(delay)
    });
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    let client_version: String =
        (1..=5).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    client.send(client_version.as_bytes());
    for n in 1..=5 {
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect(format!("/{n}").as_bytes());
    }
    assert_eq!(service.connections(), 1);
}

#[test]
fn clients_of_http_1_0_are_served_once_or_as_often_as_they_ask() {
    let service = Service::replying(Version::One, "hello");
    let tollgate = proxy(&service, "");
    let mut once = End::connect(at(&tollgate));
    once.send(b"GET / HTTP/1.0\r\n\r\n");
    let all = String::from_utf8(once.rest()).expect("text");
    assert!(all.starts_with("HTTP/1.0 200") && all.ends_with("\r\n\r\nhello"), "{all}");
    let mut kept = End::connect(at(&tollgate));
    for _ in 0..2 {
        kept.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
        let head = kept.head().to_lowercase();
        assert!(head.contains("connection: keep-alive"), "{head}");
        kept.expect(b"hello");
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_stream_without_chunks() {
    let service = Service::start(Version::One, |_| {
        Reply::ok(crate::support::http::Content::pieces(&[b"hel", b"lo"]))
    });
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let all = String::from_utf8(client.rest()).expect("text");
    assert!(all.ends_with("\r\n\r\nhello") && !all.contains("chunked"), "{all}");
}

#[test]
fn a_client_that_wants_its_connection_closed_has_it_closed() {
    let service = Service::replying(Version::One, "hello");
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let all = String::from_utf8(client.rest()).expect("text").to_lowercase();
    assert!(all.contains("connection: close") && all.ends_with("hello"), "{all}");
    // That of the service is kept.
    assert_eq!(Client::connect(at(&tollgate), Version::One).round_trip(get("/")).text(), "hello");
    assert_eq!(service.connections(), 1);
}
