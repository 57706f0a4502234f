//! The smuggling corpus against the whole proxy: what a client of HTTP/1 is answered, what a
//! service sees of it by either version, and how the connection ends.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "shared with the tests of the screen")]
#[path = "../protocols/http/tests/support/corpus.rs"]
mod corpus;
mod support;

use corpus::{Case, Seen};
use std::collections::BTreeMap;
use support::{
    eventually,
    http::{Answer, RawHttpClient, ReceivedRequest, Service, State, Version, at, proxy},
    tollgate::Tollgate,
};

/// Sends all that a case's client sends, and returns what it is answered; whoever was refused has
/// been closed by then, and not reset.
fn answered(tollgate: &Tollgate, case: &Case) -> Vec<Answer> {
    let name = case.name;
    let mut client = RawHttpClient::connect(at(tollgate));
    client.try_send(&case.bytes);
    let answers: Vec<Answer> = case
        .client
        .iter()
        .map(|status| client.answer().unwrap_or_else(|error| panic!("{name}: {status}? {error}")))
        .collect();
    if case.fault.is_none() {
        client.finish();
    }
    match client.rest() {
        Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "{name}: more answers"),
        Err(error) => panic!("{name}: the connection's end: {error}"),
    }
    answers
}

/// Every case, one after the other, before a service that speaks this version.
fn each_case(version: Version) {
    let service = Service::replying(version, "hello");
    let tollgate = proxy(&service, "");
    let mut violations: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut complete, mut cut) = (0, Vec::new());
    for case in corpus::cases() {
        let (name, before) = (case.name, service.received().len());
        let answers = answered(&tollgate, &case);
        let refused = answers.len() - usize::from(case.fault.is_some());
        for (n, (answer, expected)) in answers.iter().zip(&case.client).enumerate() {
            assert_eq!(answer.status, *expected, "{name}, answer {n}: {answer:?}");
            if n < refused {
                continue;
            }
            let words = answer.json();
            assert!(words["message"].as_str().unwrap().len() > 15, "{name}: {words}");
            assert_eq!(words["error"].as_str(), case.fault, "{name}");
            assert_eq!(answer.header("connection"), "close", "{name}");
        }
        let heard: Vec<Seen> = service.received().drain(before..).map(seen).collect();
        let whole = |all: &[Seen]| -> Vec<Seen> {
            all.iter().filter(|seen| seen.body.is_some()).cloned().collect()
        };
        assert_eq!(whole(&heard), whole(&case.upstream), "{name}");
        cut.extend(case.upstream.into_iter().filter(|seen| seen.body.is_none()));
        complete += whole(&heard).len();
        if let Some(fault) = case.fault {
            *violations.entry(fault).or_default() += 1.0;
        }
    }
    for (kind, count) in &violations {
        let labels = [("listener", "web"), ("protocol", "http"), ("kind", *kind)];
        tollgate.wait_for_metric("tollgate_violations_total", &labels, *count);
    }
    let all = violations.values().sum();
    tollgate.wait_for_metric("tollgate_violations_total", &[("listener", "web")], all);
    let reason = [("listener", "web"), ("reason", "client_violation")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &reason, all);
    // Nothing that was held back comes later.
    let ended = || service.received().iter().all(|asked| asked.state != State::UnderWay);
    eventually("all bodies to end", || ended().then_some(()));
    let (whole, rest): (Vec<Seen>, Vec<Seen>) =
        service.received().into_iter().map(seen).partition(|seen| seen.body.is_some());
    assert_eq!(whole.len(), complete);
    assert!(rest.len() <= cut.len(), "{} of {} bodies were cut", rest.len(), cut.len());
    rest.iter().for_each(|seen| assert!(cut.contains(seen), "{seen:?}"));
}

fn seen(asked: ReceivedRequest) -> Seen {
    let body = asked.whole_body();
    Seen { method: asked.method.to_string(), target: asked.target, body }
}

#[test]
fn nothing_is_smuggled_to_a_service_of_http_1() {
    each_case(Version::One);
}

#[test]
fn nothing_is_smuggled_to_a_service_of_http_2() {
    each_case(Version::Two);
}
