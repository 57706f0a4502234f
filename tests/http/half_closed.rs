//! Clients that end their half of the connection, and listen on.

use crate::support::{
    ends::End,
    eventually,
    http::{Content, Reply, Service, State, Version, at, proxy, routed},
};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_request_with_fin_in_the_same_segment_is_answered() {
    for version in [Version::One, Version::Two] {
        let service = Service::start(version, |_| Reply::ok("answer"));
        let tollgate = proxy(&service, "half_close: true");
        for request in [GET, POST].repeat(20) {
            let mut client = End::connect(at(&tollgate));
            client.send_last(request);
            let all = text(client.rest());
            assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("answer"), "{all:?}");
        }
        let line = tollgate.logged(40, |_| true).into_iter().find(|line| line["outcome"] != "ok");
        assert_eq!(line, None);
    }
}

#[test]
fn a_client_that_ends_its_half_while_its_answer_is_due_gets_it() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let service = Service::start(Version::One, move |_| Reply::ok("answer").held(&held));
    let tollgate = proxy(&service, "half_close: true");
    for (count, request) in [GET, POST].repeat(10).into_iter().enumerate() {
        let mut client = End::connect(at(&tollgate));
        client.send(request);
        service.wait_for_requests(count + 1);
        client.finish();
        gate.add_permits(1);
        let all = text(client.rest());
        assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("answer"), "{all:?}");
    }
}

#[test]
fn a_half_closed_client_gets_the_whole_response() {
    let (feed, content) = Content::fed();
    let content = std::sync::Mutex::new(Some(content));
    let service = Service::start(Version::One, move |_| {
        Reply::ok(content.lock().unwrap().take().expect("one request"))
    });
    let tollgate = proxy(&service, "half_close: true");
    let mut client = End::connect(at(&tollgate));
    client.send(GET);
    feed.send("one, ");
    client.head();
    client.expect(b"5\r\none, \r\n");
    client.finish();
    feed.send("two");
    drop(feed);
    assert_eq!(text(client.rest()), "3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(tollgate.logged(1, |_| true)[0]["outcome"], "ok");
}

#[test]
fn a_half_close_loses_no_response_that_waits_in_the_socket() {
    const LONG: usize = 8 << 20;
    let service = Service::start(Version::One, |_| Reply::ok(vec![b'x'; LONG]));
    let tollgate = proxy(&service, "half_close: true");
    for _ in 0..3 {
        let mut client = End::connect(at(&tollgate));
        client.send_last(GET);
        // Nothing is read until nothing more can be written.
        client.head();
        assert_eq!(client.rest().len(), LONG);
    }
    assert!(tollgate.logged(3, |_| true).iter().all(|line| line["outcome"] == "ok"));
}

#[test]
fn a_client_that_closes_before_its_answer_is_gone_at_once() {
    for answers in [Version::One, Version::Two] {
        let service = Service::start(answers, |_| Reply::never());
        let tollgate = proxy(&service, "");
        for (count, request) in [GET, POST].into_iter().enumerate() {
            let began = Instant::now();
            let mut client = End::connect(at(&tollgate));
            client.send(request);
            service.wait_for_requests(count + 1);
            client.finish();
            eventually("the service to hear", || {
                (service.received()[count].state == State::Dropped).then_some(())
            });
            assert!(client.rest().is_empty());
            assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        }
        for line in tollgate.logged(2, |_| true) {
            let told = (&line["outcome"], &line["reason"], &line["status"]);
            assert_eq!(told, (&"cancelled".into(), &"client".into(), &Value::Null), "{line}");
        }
        let labels = [("listener", "web"), ("reason", "client")];
        tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 2.0);
    }
}

#[test]
fn a_local_reply_reaches_a_half_closed_client() {
    let service = Service::replying(Version::One, "no");
    let long = "x".repeat(60_000);
    let route = format!("{{ name: here, reply: {{ status: 200, body: \"{long}\" }} }}");
    let tollgate = routed(&[&route], &[("shop", &service)]);
    for _ in 0..10 {
        let mut client = End::connect(at(&tollgate));
        client.send_last(GET);
        let all = text(client.rest());
        assert!(all.starts_with("HTTP/1.1 200") && all.ends_with(&long), "{}", all.len());
    }
}
