//! The smuggling corpus: what the validator passes equals what the service may see.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

#[path = "support/corpus.rs"]
mod corpus;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "support/server.rs"]
mod server;

use corpus::{Case, Seen};
use tollgate_http::h1_validator::{H1Error, H1Validator, RequestLimits};

/// What the validator passes of a connection with these pieces, and how it ends.
fn screened<'b>(
    pieces: impl IntoIterator<Item = &'b [u8]>,
) -> (Vec<u8>, Option<H1Error>, H1Validator) {
    let mut screen = H1Validator::new(RequestLimits::default());
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let look = screen.validate(&held);
        passed.extend(held.drain(..look.bytes));
        if look.error.is_some() {
            return (passed, look.error, screen);
        }
    }
    (passed, None, screen)
}

#[test]
fn each_case_gets_the_expected_responses() {
    let cases = corpus::cases();
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in &cases {
        let name = case.name;
        let (_, fault, screen) = screened([&case.bytes[..]]);
        assert_eq!(fault.map(|fault| fault.violation.0), case.fault, "{name}");
        let complete = case.upstream.iter().filter(|seen| seen.body.is_some()).count();
        let refusals: Vec<u16> = fault.iter().map(|fault| fault.status).collect();
        let statuses = std::iter::repeat_n(200, complete).chain(refusals);
        assert_eq!(statuses.collect::<Vec<_>>(), case.client, "{name}");
        let waits = fault.is_none() && !screen.at_rest() && !screen.awaits_upgrade();
        assert_eq!(waits, case.waits, "{name}");
        let in_body = case.upstream.iter().any(|seen| seen.body.is_none());
        assert!(fault.is_none_or(|fault| fault.in_body == in_body), "{name}");
        assert!(fault.is_none_or(|fault| fault.message.len() > 20), "{name}");
    }
}

#[test]
fn the_service_receives_the_expected_requests() {
    for Case { name, bytes, upstream, .. } in corpus::cases() {
        let (passed, ..) = screened([&bytes[..]]);
        let heard = server::hear(&passed).into_iter().map(|heard| Seen {
            method: heard.method,
            target: heard.path,
            body: heard.body.map(|(length, _)| length),
        });
        assert_eq!(heard.collect::<Vec<_>>(), upstream, "{name}");
    }
}

#[test]
fn splitting_the_bytes_changes_nothing() {
    for Case { name, bytes, .. } in corpus::cases() {
        let (passed, fault, _) = screened([&bytes[..]]);
        let step = (bytes.len() / 700).max(1);
        for at in (0..=bytes.len()).step_by(step) {
            let (front, back) = bytes.split_at(at);
            let (cut, cut_fault, _) = screened([front, back]);
            assert_eq!((cut, cut_fault), (passed.clone(), fault), "{name}, cut at {at}");
        }
        let (trickled, trickled_fault, _) = screened(bytes.chunks(1));
        assert_eq!((trickled, trickled_fault), (passed, fault), "{name}, byte by byte");
    }
}

#[test]
fn every_violation_has_a_case() {
    let source = include_str!("../src/h1_validator/error.rs");
    let cases = corpus::cases();
    let mut words = 0;
    for line in source.split("pub(super) const ").skip(1).filter(|line| line.contains(": H1Error"))
    {
        let name = line.split(':').next().unwrap();
        let word = line.split('"').nth(1).unwrap();
        assert_eq!(name.to_lowercase(), word);
        let used = cases.iter().any(|case| case.fault == Some(word));
        assert!(used || word == "too_many_trailers", "no case ends with {word}");
        words += 1;
    }
    assert!(words > 40, "{words} faults found");
}
