//! A request is logged in the same words on each path through the proxy.

use super::*;
use crate::{
    h1::request_head::HeadLimits,
    header_policy::RequestIdentity,
    request_attributes::{ATTRIBUTES, RequestAttributes, RequestFlags, WaitTimes, tests::session},
};
use http::{HeaderValue, StatusCode, header::USER_AGENT};
use operation::{Protocol, SpanContext, is_plain};
use std::time::Duration;

/// Attributes of every protocol's operations that log lines have.
const COMMON: [&str; 5] = ["peer", "local", "endpoint", "cluster", "scheme"];

const PEER: &str = "10.0.0.7:55052";

/// The head of a request with this target, user agent and id.
fn request(target: &str, agent: &[u8], id: &[u8]) -> Vec<u8> {
    let line = format!("GET {target} HTTP/1.1\r\nhost: shop.example:80\r\nuser-agent: ");
    [line.as_bytes(), agent, b"\r\nx-request-id: ", id, b"\r\n\r\n"].concat()
}

/// Runs `test` with the attributes of the request that these bytes are; they are not served further if the head
/// is left to the validator.
fn with_attributes(bytes: &[u8], policy: &HeaderPolicy, test: impl FnOnce(&HeadAttributes<'_>)) {
    let limits = HeadLimits { bytes: 4096, target: 1024, fields: 100 };
    let mut fields = Vec::new();
    let Ok(head) = RequestHead::read(bytes, &limits, &mut fields) else { return };
    let view = HeadView { bytes, head: &head.unwrap(), fields: &fields };
    let session = session();
    let made = HeadAttributes::new(view, &*session, (PEER, None), &|_, _| {});
    made.assign_request_id(policy);
    made.trace_id.set(Some(0xabc));
    forward(&made.progress);
    test(&made);
}

/// The same request as the server on hyper sees it.
fn as_parsed(bytes: &[u8], id: Option<&str>) -> RequestAttributes {
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(bytes).unwrap();
    let mut request = http::Request::get(parsed.path.unwrap());
    for field in parsed.headers {
        request = request.header(field.name, field.value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let made = RequestAttributes::new(&session(), PEER.into(), &head, "shop.example");
    assert_eq!(made.user_agent, head.headers.get(USER_AGENT).cloned());
    let received = head.headers.get("x-request-id").cloned();
    let request_id = id.map_or(received, |id| HeaderValue::from_str(id).ok());
    let span = SpanContext { trace_id: 0xabc, span_id: 1, sampled: true };
    let identity = RequestIdentity { trace: Some(span), request_id, client: [10, 0, 0, 7].into() };
    let _ = made.identity.set(identity);
    forward(&made.progress);
    made
}

/// Records that the request was forwarded.
fn forward(progress: &RequestProgress) {
    progress.status.set(Some(StatusCode::NOT_FOUND));
    progress.attempts.set(2);
    let (queue, connect) = (Duration::from_micros(1_002), Duration::from_micros(7));
    progress.wait_times.set(WaitTimes { queue, connect });
    progress.add_flag(RequestFlags::STALE);
    progress.set_target(&"cart".into(), Some((&"cart-1:8080".into(), Version::HTTP_11)));
}

/// The text that a log line has of an attribute.
fn logged(attributes: &dyn Attributes, name: &'static str) -> Option<String> {
    let protocol = Protocol { attributes: ATTRIBUTES, ..Protocol::plain("http") };
    let value = attributes.logged(b"", ResolvedAttribute::new(&protocol, name))?;
    if let LoggedValue::Plain(text) = value {
        assert!(is_plain(text), "{name}: {}", String::from_utf8_lossy(text));
    }
    Some(value.text().into_owned())
}

/// Random bytes of these.
fn some_of(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
    (0..random.usize(1..12)).map(|_| bytes[random.usize(..bytes.len())]).collect()
}

#[test]
fn a_request_is_logged_in_the_same_words_on_each_path() {
    let all: Vec<u8> = (b' '..=255).filter(|byte| *byte != 0x7f).chain(*b"\t\"\\").collect();
    let mut compared = 0;
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let path = some_of(&mut random, b"/a.~-_%\\{}\"'<>^`|!$&()*+,;=:@");
        let query = some_of(&mut random, b"?a=%41+&\"\\{}'<>^`|;/");
        let target = String::from_utf8([b"/", &*path, b"?", &*query].concat()).unwrap();
        let target = if seed % 3 == 0 { target.split('?').next().unwrap() } else { &target };
        let bytes = request(target, &some_of(&mut random, &all), &some_of(&mut random, &all));
        let policy = HeaderPolicy { request_id: seed % 2 == 0, ..HeaderPolicy::default() };
        with_attributes(&bytes, &policy, |own| {
            let id = own.request_id.get().map(RequestId::as_str).filter(|_| policy.request_id);
            let parsed = as_parsed(&bytes, id);
            own.progress.finish();
            parsed.progress.finish();
            for name in COMMON.iter().chain(ATTRIBUTES) {
                let (own, parsed) = (logged(own, name), logged(&parsed, name));
                assert_eq!(own, parsed, "{name}, seed {seed}: {}", String::from_utf8_lossy(&bytes));
            }
            compared += 1;
        });
    }
    assert!(compared > 2_000, "{compared}");
}

#[test]
fn an_attribute_is_the_same_by_name_and_for_a_log_line() {
    for target in ["/a", "/a?x=%41", "/b.c//d"] {
        let bytes = request(target, b"a\"gent\xff", b"an-id");
        with_attributes(&bytes, &HeaderPolicy::default(), |made| {
            for ended in [false, true] {
                if ended {
                    made.progress.finish();
                }
                for name in COMMON.iter().chain(ATTRIBUTES) {
                    let by_name = made.get(b"", name).text();
                    assert_eq!(logged(made, name).as_deref(), by_name.as_deref(), "{name}");
                    let late = ["endpoint", "cluster", "upstream_version"].contains(name);
                    assert!(!late || by_name.is_some() == ended, "{name} of {target}");
                }
            }
        });
    }
}
