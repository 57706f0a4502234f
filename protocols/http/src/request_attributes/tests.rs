use super::*;
use operation::{
    AttemptSink, Decision, Gate, Operation, Protocol, Settlement, SpanContext, Ticket, Verdict,
};
use session::testing::TestSession;
use std::time::{Duration, Instant};

/// Is never asked.
struct Open;

impl Gate for Open {
    fn admit(&self, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("attributes admit nothing")
    }

    fn resume(&self, _: Ticket, _: Decision, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("attributes admit nothing")
    }

    fn record_rejected(&self, _: &Operation<'_>, _: Instant, _: &Settlement<'_>) {
        unreachable!("attributes admit nothing")
    }
}

/// Takes no attempts.
struct NoAttempts;

impl AttemptSink for NoAttempts {
    fn record_late(&self, _: &OpenSpan, _: &str, _: &Attempt) {}
}

/// The session of a client at 10.0.0.7.
pub(crate) fn session() -> Rc<dyn Session> {
    let (peer, local) = ("10.0.0.7:55052".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    Rc::new(TestSession::new(Rc::new(Open), ConnectionInfo { peer, local }))
}

/// The attributes of a request, with a value for each that there is.
fn attributes() -> RequestAttributes {
    let session = session();
    let request = http::Request::get("/a/b%41?x=%41").header("user-agent", "a\"gent");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let made = RequestAttributes::new(&session, "10.0.0.7:55052".into(), &head, "shop.example.com");
    let context = SpanContext { trace_id: 0xabc, span_id: 0xdef, sampled: true };
    let _ = made.identity.set(RequestIdentity {
        trace: Some(context),
        request_id: Some(HeaderValue::from_static("an-id")),
        client: [10, 0, 0, 7].into(),
    });
    let sink = Rc::new(NoAttempts);
    let span = OpenSpan { context, parent: None, tracestate: None, records_attempts: false, sink };
    let _ = made.span.set(span);
    made.progress.status.set(Some(StatusCode::NOT_FOUND));
    made.progress.attempts.set(2);
    let wait = |millis| Duration::from_micros(millis);
    made.progress.wait_times.set(WaitTimes { queue: wait(1_002), connect: wait(7) });
    made.progress.add_flag(RequestFlags::RETRIED);
    made.progress.add_flag(RequestFlags::HEDGED);
    made.progress.set_target(&"cart".into(), Some((&"cart-1:8080".into(), Version::HTTP_2)));
    made.progress.finish();
    made
}

const EXPECTED: [(&str, &str); 22] = [
    ("peer", "10.0.0.7:55052"),
    ("local", "10.0.0.1:80"),
    ("endpoint", "cart-1:8080"),
    ("cluster", "cart"),
    ("scheme", "http"),
    ("host", "shop.example.com"),
    ("path", "/a/bA"),
    ("raw_path", "/a/b%41"),
    ("query", "x=A"),
    ("raw_query", "x=%41"),
    ("version", "1.1"),
    ("upstream_version", "2"),
    ("user_agent", "a\"gent"),
    ("client", "10.0.0.7"),
    ("request_id", "an-id"),
    ("trace_id", "00000000000000000000000000000abc"),
    ("span_id", "0000000000000def"),
    ("status", "404"),
    ("attempts", "2"),
    ("queue_ms", "1.002"),
    ("connect_ms", "0.007"),
    ("flags", "retried hedged"),
];

#[test]
fn an_attribute_is_the_same_by_name_and_for_a_log_line() {
    let made = attributes();
    let protocol = Protocol { attributes: ATTRIBUTES, ..Protocol::plain("http") };
    for (name, text) in EXPECTED {
        assert_eq!(made.get(b"", name).text().as_deref(), Some(text), "{name}");
        let logged = made.logged(b"", ResolvedAttribute::new(&protocol, name));
        assert_eq!(logged.map(LoggedValue::text).as_deref(), Some(text), "{name}");
    }
    for name in ATTRIBUTES.iter().filter(|name| **name != "header.") {
        assert!(EXPECTED.iter().any(|(known, _)| known == name), "{name}");
    }
}

#[test]
fn a_client_behind_a_proxy_is_not_the_peer() {
    let made = attributes();
    let client = |ip: [u8; 4]| made.address(ip.into());
    assert_eq!(client([10, 0, 0, 7]), LoggedValue::Plain(b"10.0.0.7"));
    assert_eq!(client([10, 0, 0, 8]), LoggedValue::Ip([10, 0, 0, 8].into()));
}

#[test]
fn a_text_of_an_address_is_read_without_its_port() {
    assert_eq!(without_port("10.0.0.7:55052"), "10.0.0.7");
    assert_eq!(without_port("[2001:db8::7]:80"), "2001:db8::7");
}

#[test]
fn a_path_in_normal_form_is_logged_once() {
    let paths = |target: &str| {
        let (head, ()) = http::Request::get(target).body(()).unwrap().into_parts();
        let made = RequestAttributes::new(&session(), "10.0.0.7:55052".into(), &head, "a");
        ["path", "raw_path"].map(|name| made.get(b"", name).text().map(Cow::into_owned))
    };
    assert_eq!(paths("/a%2fb"), [Some("/a%2Fb".into()), Some("/a%2fb".into())]);
    assert_eq!(paths("/a%2Fb"), [Some("/a%2Fb".into()), None]);
    assert_eq!(paths("/a/b"), [Some("/a/b".into()), None]);
}
