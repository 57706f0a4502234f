use super::*;
use crate::{series::SeriesKey, testing::policy_env};
use operation::{
    AttemptField, AttributeValue, Attributes, Protocol, SHAPE_TEXT, Settlement, SpanField, SpanName,
};
use std::{cell::RefCell, collections::BTreeMap, time::Duration};
use traces::{Always, OtlpEndpoint, OtlpProtocol, Sample, Tracer, TracesPlan};
use values::FromText;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const BASE: SpanConventions = SpanConventions {
    kind: SpanKind::Client,
    name: SpanName::WithCollection,
    no_resource: "unrouted",
    fixed: &[("db.system.name", "toydb")],
    fields: &[
        ("db.namespace", SpanField::Database),
        ("db.collection.name", SpanField::Collection),
        ("db.operation.name", SpanField::Operation),
        ("db.query.summary", SpanField::SpanName),
        ("db.query.text", SpanField::Text(SHAPE_TEXT)),
        ("db.response.status_code", SpanField::CodeNumber),
        ("db.response.returned_rows", SpanField::ReplyItems),
        ("server", SpanField::Address("endpoint")),
    ],
    attempt_fields: &[
        ("request.method", AttemptField::Operation),
        ("response.status", AttemptField::Status),
        ("request.resends", AttemptField::Resends),
    ],
    codes: &[(66, "ShardKeyNotFound", Outcome::Failed)],
};

const CLIENT: &Protocol = &Protocol { span: BASE, ..Protocol::plain("toy") };

const SERVER: &Protocol = &Protocol {
    span: SpanConventions { kind: SpanKind::Server, name: SpanName::WithResource, ..BASE },
    ..Protocol::plain("toys")
};

/// The attributes of one operation, which keep its span.
#[derive(Default)]
struct Given {
    values: Vec<(&'static str, &'static str)>,
    span: RefCell<Option<&'static OpenSpan>>,
    attempts: Vec<Attempt>,
}

impl Attributes for Given {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).into()
    }

    fn on_traced(&self, span: OpenSpan) {
        *self.span.borrow_mut() = Some(Box::leak(Box::new(span)));
    }

    fn span(&self) -> Option<(&OpenSpan, Vec<Attempt>)> {
        Some(((*self.span.borrow())?, self.attempts.clone()))
    }
}

/// A listener whose spans go nowhere.
fn series(protocol: &'static Protocol, sample: f64, always: Always) -> SeriesSpans {
    let mut env = policy_env();
    env.protocol = protocol;
    let plan = TracesPlan {
        otlp: OtlpEndpoint::from_text("http://127.0.0.1:1").unwrap(),
        protocol: OtlpProtocol::Grpc,
        tls: None,
        sample: Sample(sample),
        always,
        service: "edge".into(),
        resource: Vec::new(),
        headers_file: None,
        headers: Vec::new(),
        max_spans_per_second: 1000,
        sessions: false,
        timeout: Duration::from_millis(1),
    };
    let tracer = Tracer::start(plan, &env.metrics).unwrap();
    env.tracer.store(Some(tracer));
    let (name, resource) = ("find".into(), "shop.orders".into());
    let key = SeriesKey { protocol, name, resource, confirmed: true };
    Spans::new(&env).unwrap().series(&key)
}

fn ask(series: &SeriesSpans, given: &Given, limit_exempt: bool) -> u64 {
    let client = crate::testing::TestClient::default();
    let base = crate::testing::operation(&client);
    let operation = Operation { limit_exempt, attributes: given, ..base };
    let mut state = 0;
    series.admit(&operation, Instant::now(), &mut state);
    state
}

/// The spans of an operation with this end, which took 20 ms.
fn spans(series: &SeriesSpans, given: &Given, how: &Settlement<'_>) -> Vec<Span> {
    let (name, resource) = ("find".into(), "shop.orders".into());
    series.listener.spans(&Settled {
        key: &SeriesKey { protocol: CLIENT, name, resource, confirmed: true },
        front: b"",
        began: how.now.checked_sub(Duration::from_millis(20)).unwrap(),
        long_poll: false,
        may_have_callsite: true,
        query_shape: None,
        policy_effects: &[],
        how: &Settlement { attributes: given, ..*how },
    })
}

fn ended(outcome: Outcome) -> Settlement<'static> {
    Settlement::new(outcome, Instant::now())
}

/// The attributes, in the form of the tests.
fn shown(span: &Span) -> BTreeMap<String, String> {
    let shown = |it: &traces::KeyValue| (it.key.clone(), format!("{:?}", it.value));
    span.attributes.iter().map(shown).collect()
}

#[test]
fn a_span_is_below_the_one_that_came_and_decides_alike() {
    let none = series(CLIENT, 0.0, Always::default());
    let values = vec![("traceparent", PARENT), ("tracestate", "a=b")];
    let given = Given { values, ..Given::default() };
    let [span] = &spans(&none, &given, &ended(Outcome::Ok))[..] else { panic!("no span") };
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((&*span.trace_state, span.flags), ("a=b", 0x301));
    assert_eq!((&*span.name, span.kind), ("find orders", Span::CLIENT));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 20_000_000);
    let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let given = Given { values: vec![("traceparent", unsampled)], ..Given::default() };
    let all = series(CLIENT, 1.0, Always::default());
    assert_eq!(spans(&all, &given, &ended(Outcome::Ok)), []);
}

#[test]
fn a_trace_that_begins_here_says_how_it_was_chosen() {
    let given = Given::default();
    let all = series(CLIENT, 1.0, Always::default());
    let [span] = &spans(&all, &given, &ended(Outcome::Ok))[..] else { panic!("no span") };
    assert_eq!((&*span.trace_state, span.flags), ("ot=th:0", 0x101));
    assert!(span.parent_span_id.is_empty());
    let none = series(CLIENT, 0.0, Always::default());
    assert_eq!(spans(&none, &given, &ended(Outcome::Ok)), []);
}

#[test]
fn errors_and_slow_operations_are_kept() {
    let given = Given::default();
    let always = Always { errors: true, slower_than: Some(Duration::from_millis(50)) };
    let some = series(CLIENT, 0.0, always);
    let kept = |series: &SeriesSpans, how| {
        spans(series, &given, &how).first().map(|span| shown(span)["tollgate.kept"].clone())
    };
    assert_eq!(kept(&some, ended(Outcome::Ok)), None);
    assert_eq!(kept(&some, ended(Outcome::Rejected)), None);
    assert!(kept(&some, ended(Outcome::Lost)).unwrap().contains("error"));
    let slow = Always { errors: false, slower_than: Some(Duration::from_millis(20)) };
    let slow = series(CLIENT, 0.0, slow);
    assert!(kept(&slow, ended(Outcome::Ok)).unwrap().contains("slow"));
}

#[test]
fn attributes_follow_the_conventions_of_the_protocol() {
    let all = series(CLIENT, 1.0, Always::default());
    let values = vec![
        (SHAPE_TEXT, "{ _id: ? }"),
        ("endpoint", "[::1]:27017"),
        ("cluster", "upstream"),
        ("secret", "no"),
    ];
    let given = Given { values, ..Given::default() };
    let how =
        Settlement { code: Some("ShardKeyNotFound"), reply_items: 3, ..ended(Outcome::Failed) };
    let [span] = &spans(&all, &given, &how)[..] else { panic!("no span") };
    let of =
        |pairs: &[traces::KeyValue]| shown(&Span { attributes: pairs.to_vec(), ..Span::default() });
    let expected = [
        attribute("db.system.name", "toydb"),
        attribute("db.namespace", "shop"),
        attribute("db.collection.name", "orders"),
        attribute("db.operation.name", "find"),
        attribute("db.query.summary", "find orders"),
        attribute("db.query.text", "{ _id: ? }"),
        attribute("db.response.status_code", "66"),
        attribute("db.response.returned_rows", 3),
        attribute("server.address", "::1"),
        attribute("server.port", 27017),
        attribute("tollgate.listener", "front"),
        attribute("tollgate.cluster", "upstream"),
        attribute("tollgate.outcome", "failed"),
        attribute("error.type", "ShardKeyNotFound"),
    ];
    assert_eq!(shown(span), of(&expected));
    assert_eq!(span.status.as_ref().unwrap().code, traces::Status::ERROR);
}

#[test]
fn an_exempt_operation_has_no_span() {
    let all = series(SERVER, 1.0, Always::default());
    let given = Given::default();
    assert_eq!(ask(&all, &given, true), EXEMPT);
    assert!(given.span.borrow().is_none());
    assert_eq!(ask(&all, &given, false), 0);
    assert!(given.span.borrow().is_some());
}

#[test]
fn attempts_are_below_the_operation_and_linked() {
    let all = series(SERVER, 1.0, Always::default());
    let began = Instant::now();
    let attempt = |span_id, outcome, link| Attempt {
        span_id,
        began,
        ended: began,
        resends: u32::from(span_id > 1),
        cluster: Some("upstream".into()),
        endpoint: Some("db-1:80".into()),
        status: (span_id == 2).then_some(200),
        version: None,
        outcome,
        link,
    };
    let loser = attempt(1, Outcome::Cancelled, Some(AttemptLink::Hedge));
    let attempts = vec![loser, attempt(2, Outcome::Ok, None)];
    let given = Given { attempts, ..Given::default() };
    ask(&all, &given, false);
    let [own, lost, won] = &spans(&all, &given, &ended(Outcome::Ok))[..] else { panic!("spans") };
    assert_eq!((own.kind, lost.kind, won.kind), (Span::SERVER, Span::CLIENT, Span::CLIENT));
    assert_eq!(own.name, "find shop.orders");
    for attempt in [lost, won] {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&own.trace_id, &own.span_id));
        assert_eq!(attempt.flags, Span::HAS_REMOTE | Span::SAMPLED);
    }
    assert_eq!(won.links, []);
    assert_eq!((&lost.links[0].span_id, &lost.links[0].trace_id), (&won.span_id, &won.trace_id));
    assert!(shown(won)["request.resends"].contains("Int(1)"), "{won:?}");
    assert!(!shown(lost).contains_key("request.resends"));
    let late = attempt(3, Outcome::Ok, Some(AttemptLink::Mirror(2)));
    let span = given.span.borrow().unwrap();
    let mirror = all.listener.attempt(span, "find", &late, (None, &Clock::now()));
    assert_eq!(mirror.links[0].span_id, won.span_id);
}

#[test]
fn a_connection_makes_no_span_unless_sessions_are_traced() {
    const STREAM: &Protocol = &Protocol { stream: true, ..Protocol::plain("bytes") };
    let mut env = policy_env();
    let tracer = &series(CLIENT, 1.0, Always::default()).listener.buffer;
    assert!(Spans::new(&env).is_none(), "nothing traces");
    env.protocol = STREAM;
    let plan = TracesPlan { sessions: false, ..tracer.tracer().plan().clone() };
    env.tracer.store(Some(Tracer::start(plan.clone(), &env.metrics).unwrap()));
    assert!(Spans::new(&env).is_none());
    let plan = TracesPlan { sessions: true, ..plan };
    env.tracer.store(Some(Tracer::start(plan, &env.metrics).unwrap()));
    assert!(Spans::new(&env).is_some());
}
