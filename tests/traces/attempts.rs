//! Attempts: each is a span, whose id the service gets.

use crate::{
    collector::Collector,
    support::{
        http::{Client, Reply, Service, Version, at, get, routed_config},
        tollgate::Tollgate,
    },
};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A proxy with this route.
fn start(tracing: &str, route: &str, clusters: &[(&str, &Service)]) -> Tollgate {
    Tollgate::start(&format!("{tracing}{}", routed_config(&[route], clusters, "")))
}

/// Asks with this parent, and returns the status.
fn ask(tollgate: &Tollgate, traceparent: &str) -> u16 {
    let client = Client::connect(at(tollgate), Version::One);
    client
        .round_trip(get("/").header("traceparent", traceparent).header("tracestate", "a=b"))
        .status
}

/// The spans of attempts, in order, and that of the operation.
fn sorted(mut spans: Vec<Value>) -> (Value, Vec<Value>) {
    let own = spans.iter().position(|span| span["kind"] == "server").unwrap();
    let own = spans.remove(own);
    spans.sort_by_key(|span| span["start"].as_u64());
    assert!(spans.iter().all(|span| span["parent_span_id"] == own["span_id"]), "{spans:#?}");
    (own, spans)
}

/// What a service must have got as the sender of each attempt.
fn senders(attempts: &[&Value]) -> Vec<String> {
    let text = |attempt: &&Value| {
        let [trace, span] = ["trace_id", "span_id"].map(|key| attempt[key].as_str().unwrap());
        format!("00-{trace}-{span}-01")
    };
    attempts.iter().map(text).collect()
}

fn received(service: &Service) -> Vec<String> {
    service.received().iter().map(|request| request.header("traceparent")).collect()
}

#[test]
fn retries_are_spans_beside_each_other() {
    let Some(collector) = Collector::start("grpc") else { return };
    let count = AtomicUsize::new(0);
    let service = Service::start(Version::One, move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Reply::status(503) } else { Reply::echo() }
    });
    let route = "{ name: all, cluster: shop, retry: { on: 5xx, attempts: 3 } }";
    let tracing = collector.tracing("grpc", "sample: 0%");
    let tollgate = start(&tracing, route, &[("shop", &service)]);
    assert_eq!(ask(&tollgate, SAMPLED), 200);
    let (own, attempts) = sorted(collector.wait(3));
    let [failed, ok] = &attempts[..] else { panic!("{attempts:#?}") };
    assert_eq!((&own["parent_span_id"], &own["status"]), (&"00f067aa0ba902b7".into(), &0.into()));
    assert!([&own, failed, ok].iter().all(|span| span["trace_state"] == "a=b"));
    let of = |span: &Value, key: &str| span["attributes"][key].clone();
    assert_eq!(of(failed, "http.response.status_code"), 503);
    assert_eq!((of(failed, "error.type"), &failed["status"]), ("503".into(), &2.into()));
    assert_eq!(of(failed, "http.request.resend_count"), Value::Null);
    assert_eq!(of(ok, "http.request.resend_count"), 1);
    assert_eq!(of(ok, "http.response.status_code"), 200);
    assert_eq!(received(&service), senders(&[failed, ok]));
    assert!(service.received().iter().all(|request| request.header("tracestate") == "a=b"));
}

#[test]
fn the_loser_of_a_hedge_is_linked_to_the_winner() {
    let Some(collector) = Collector::start("grpc") else { return };
    let count = AtomicUsize::new(0);
    let service = Service::start(Version::One, move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Reply::never() } else { Reply::echo() }
    });
    let route = "{ name: all, cluster: shop, hedge: { after: 50ms } }";
    let tracing = collector.tracing("grpc", "sample: 100%");
    let tollgate = start(&tracing, route, &[("shop", &service)]);
    assert_eq!(ask(&tollgate, SAMPLED), 200);
    let (_, attempts) = sorted(collector.wait(3));
    let [lost, won] = &attempts[..] else { panic!("{attempts:#?}") };
    assert_eq!(lost["attributes"]["tollgate.outcome"], "cancelled");
    assert_eq!(lost["links"][0]["span_id"], won["span_id"]);
    assert_eq!(lost["links"][0]["tollgate.link"], "hedge");
    assert_eq!(won["links"].as_array().unwrap().len(), 0);
    assert_eq!(received(&service), senders(&[lost, won]));
}

#[test]
fn a_mirror_is_linked_to_the_attempt_that_it_copies() {
    let Some(collector) = Collector::start("grpc") else { return };
    let service = Service::start(Version::One, |_| Reply::echo());
    // Its answer comes when the operation has long ended.
    let shadow = Service::start(Version::One, |_| Reply::echo().after(Duration::from_millis(300)));
    let route = "{ name: all, cluster: shop, mirror: { cluster: shadow } }";
    let tracing = collector.tracing("grpc", "sample: 0%");
    let tollgate = start(&tracing, route, &[("shop", &service), ("shadow", &shadow)]);
    assert_eq!(ask(&tollgate, SAMPLED), 200);
    let (own, attempts) = sorted(collector.wait(3));
    let [first, copy] = &attempts[..] else { panic!("{attempts:#?}") };
    assert_eq!(copy["attributes"]["tollgate.cluster"], "shadow");
    assert_eq!(copy["attributes"]["http.response.status_code"], 200);
    assert_eq!(copy["links"][0]["span_id"], first["span_id"]);
    assert_eq!(copy["links"][0]["tollgate.link"], "mirror");
    assert!(copy["end"].as_u64() > own["end"].as_u64(), "{copy:#?}");
    assert_eq!(received(&service), senders(&[first]));
    assert_eq!(received(&shadow), senders(&[copy]));
}

#[test]
fn an_error_is_kept_although_its_trace_is_not_recorded() {
    let Some(collector) = Collector::start("grpc") else { return };
    let service = Service::start(Version::One, |asked| {
        if asked.target == "/" { Reply::status(500) } else { Reply::echo() }
    });
    let tracing = collector.tracing("grpc", "sample: 100%, always: { errors: true }");
    let tollgate = start(&tracing, "{ name: all, cluster: shop }", &[("shop", &service)]);
    let client = Client::connect(at(&tollgate), Version::One);
    for path in ["/fine", "/"] {
        client.round_trip(get(path).header("traceparent", UNSAMPLED));
    }
    let (own, attempts) = sorted(collector.wait(2));
    assert_eq!((&own["sampled"], &own["status"]), (&false.into(), &2.into()));
    assert_eq!(own["attributes"]["tollgate.kept"], "error");
    assert_eq!(own["attributes"]["error.type"], "500");
    assert_eq!(attempts[0]["attributes"]["error.type"], "500");
    assert!(received(&service).iter().all(|it| it.starts_with(&UNSAMPLED[..36])));
    assert!(received(&service).iter().all(|it| it.ends_with("-00")));
}

#[test]
fn an_unrecorded_trace_passes_unchanged() {
    let Some(collector) = Collector::start("grpc") else { return };
    let service = Service::start(Version::One, |_| Reply::echo());
    let tracing = collector.tracing("grpc", "sample: 0%");
    let tollgate = start(&tracing, "{ name: all, cluster: shop }", &[("shop", &service)]);
    assert_eq!(ask(&tollgate, UNSAMPLED), 200);
    // A trace that begins here says that it is not recorded.
    let client = Client::connect(at(&tollgate), Version::One);
    client.round_trip(get("/"));
    let [first, second] = &received(&service)[..] else { panic!("two requests") };
    assert_eq!(first, UNSAMPLED);
    assert!(second.ends_with("-00") && second.len() == UNSAMPLED.len(), "{second}");
    assert_eq!(collector.after(tollgate), [] as [Value; 0]);
}
