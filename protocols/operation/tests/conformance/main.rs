//! The suite lets a sound codec pass, and catches each flaw for its own reason.
#![cfg(feature = "testing")]

mod toy;

use operation::{
    Outcome,
    testing::{CodecRun, ConformanceRule, Expected, Fixture, RuleBreach, Side, check, conforms},
};
use std::sync::Arc;
use toy::{Flaw, Toy, message};

/// Requests of every kind: short, long, without a reply, ahead of replies, with several replies.
fn fixtures() -> Vec<Fixture> {
    let long = format!("put shop.orders{}", ",item".repeat(400));
    let items =
        Expected { sent: Some(400), ..Expected::settled("put", "shop.orders", Outcome::Ok) };
    let found = Expected { items: Some(2), ..Expected::settled("get", "shop.orders", Outcome::Ok) };
    vec![
        Fixture::new("one after the other")
            .client(&message("hello there"))
            .upstream(&message("at 10.0.0.1"))
            .client(&message("get shop.orders,a"))
            .upstream(&message("ok,b,c"))
            .client(&message("get shop.prices"))
            .upstream(&message("no such thing"))
            .client(&message(&long))
            .upstream(&message("ok"))
            .expects(Expected::settled("hello", "there", Outcome::Ok))
            .expects(found)
            .expects(Expected::settled("get", "shop.prices", Outcome::Rejected))
            .expects(items),
        Fixture::new("several at once")
            .client(&message("get a.b"))
            .client(&message("put! a.b,c"))
            .client(&message("get c.d"))
            .upstream(&message("wait a moment"))
            .upstream(&message("wait another"))
            .upstream(&message("down for good"))
            .upstream(&message("ok"))
            .client(&message("get never.answered"))
            .expects(Expected::settled("get", "a.b", Outcome::Failed))
            .expects(Expected::silent("put!", "a.b"))
            .expects(Expected::settled("get", "c.d", Outcome::Ok))
            .expects(Expected::open("get", "never.answered")),
        Fixture::new("messages that answer no request")
            .upstream(&message("push first"))
            .client(&message("get a.b"))
            .client(&message("get c.d"))
            .upstream(&message("push before a reply"))
            .upstream(&message("ok,a"))
            .upstream(&message(&format!("push {}", "long".repeat(40))))
            .upstream(&message("no such thing"))
            .upstream(&message("push last"))
            .expects(Expected { items: Some(1), ..Expected::settled("get", "a.b", Outcome::Ok) })
            .expects(Expected::settled("get", "c.d", Outcome::Rejected)),
        Fixture::new("a transaction")
            .client(&message("begin now"))
            .client(&message("get a.b"))
            .client(&message("put c.d"))
            .client(&message("commit now"))
            .upstream(&message("ok"))
            .upstream(&message(&format!("ok{}", ",item".repeat(40))))
            .upstream(&message("push news"))
            .upstream(&message("ok"))
            .upstream(&message("ok"))
            .expects(Expected::settled("begin", "now", Outcome::Ok))
            .expects(Expected::settled("get", "a.b", Outcome::Ok))
            .expects(Expected::settled("put", "c.d", Outcome::Ok))
            .expects(Expected::settled("commit", "now", Outcome::Ok)),
    ]
}

fn verdict(flaw: Option<Flaw>) -> Result<(), RuleBreach> {
    check::<Toy>(|| Arc::new(flaw), &fixtures())
}

#[test]
fn a_sound_codec_conforms() {
    conforms::<Toy>(Arc::default, &fixtures());
}

#[test]
fn every_flaw_is_caught_for_its_own_reason() {
    let cases = [
        (Flaw::NamesTheWrongThing, ConformanceRule::Operations, "the name differs"),
        (Flaw::MissesAnOutcome, ConformanceRule::Operations, "the outcome differs"),
        (Flaw::MissesRequestsAfterTheFirst, ConformanceRule::Operations, "was not found"),
        (Flaw::MiscountsItems, ConformanceRule::Operations, "the items sent differ"),
        (Flaw::AnswersTheSameRequestAgain, ConformanceRule::Operations, "the outcome differs"),
        (Flaw::AnswersNobody, ConformanceRule::Operations, "belongs to no request"),
        (Flaw::NamesWhatIsHereAlready, ConformanceRule::Slices, "request 0"),
        (Flaw::CountsWhatIsHereAlready, ConformanceRule::Slices, "sent: Some"),
        (Flaw::ReadsAttributesPastTheMessage, ConformanceRule::Slices, "attributes: [(\"last\""),
        (Flaw::HoldsForNothing, ConformanceRule::Hold, "are here"),
        (Flaw::HoldsForWhatIsClaimed, ConformanceRule::Hold, "is the most"),
        (Flaw::PassesNothing, ConformanceRule::Progress, "passes nothing"),
        (Flaw::SwapsWhatIsNotHere, ConformanceRule::Progress, "replaces 16 bytes"),
        (Flaw::GoesRoundInCircles, ConformanceRule::Progress, "without progress"),
        (Flaw::MarksInTheMidst, ConformanceRule::MarkPosition, "within a message"),
        (Flaw::AsksUnsolicited, ConformanceRule::MarkPosition, "for replies only"),
        (Flaw::DeniesItsCallsite, ConformanceRule::Callsite, "without may_have_callsite"),
        (Flaw::DeniesItsLast, ConformanceRule::Absent, "without `last` has"),
        (Flaw::RereadsUnderAnotherTag, ConformanceRule::Reread, "that had the tag"),
        (Flaw::RereadsNoMore, ConformanceRule::Reread, "wants 68 bytes"),
        (Flaw::NamesWhatWasReread, ConformanceRule::Reread, "name: \"half\""),
        (Flaw::TrustsTheText, ConformanceRule::Panic, "mutated with seed"),
        (Flaw::StillExpectsARefusedReply, ConformanceRule::Rejection, "request 0 rejected"),
        (Flaw::RefusesTheOldest, ConformanceRule::Rejection, "several at once: request 2 rejected"),
        (Flaw::ForgetsWhatItReplaced, ConformanceRule::Rejection, "reads as Some(Ok)"),
        (Flaw::RefusesWithAYes, ConformanceRule::Rejection, "reads as Some(Ok)"),
        (Flaw::RefusesWithoutWords, ConformanceRule::Rejection, "reject writes an error"),
        (Flaw::RefusesWithHalfAMessage, ConformanceRule::Rejection, "request 0 rejected"),
        (Flaw::RefusesTooLong, ConformanceRule::Rejection, "request 0 rejected"),
        (Flaw::LetsLateRepliesThrough, ConformanceRule::LateReply, "the client sees"),
        (
            Flaw::DropsOnlyTheFirstOfALateReply,
            ConformanceRule::LateReply,
            "several at once: request 0 given up",
        ),
        (Flaw::DropsWhatComesNext, ConformanceRule::LateReply, "the client sees"),
        (
            Flaw::GivesUpWhatHasBegun,
            ConformanceRule::LateReply,
            "several at once: request 0 given up",
        ),
        (Flaw::GivesUpWithoutWords, ConformanceRule::LateReply, "give_up writes an error"),
        (Flaw::ForgetsTheLateReply, ConformanceRule::LateReply, "the client sees"),
        (Flaw::DropsWithoutNeed, ConformanceRule::LateReply, "no request was given up"),
    ];
    for (flaw, rule, word) in cases {
        let breach = verdict(Some(flaw)).expect_err(&format!("{flaw:?} gets away"));
        assert_eq!(breach.rule, rule, "{flaw:?}: {breach}");
        assert!(breach.detail.contains(word), "{flaw:?}: {breach}");
    }
}

#[test]
#[should_panic(expected = "toy breaks a rule. Operations: one after the other: request 0")]
fn conforms_panics_with_the_rule_and_the_place() {
    conforms::<Toy>(|| Arc::new(Some(Flaw::NamesTheWrongThing)), &fixtures());
}

#[test]
fn a_codec_is_not_sound_for_want_of_fixtures() {
    let breach = check::<Toy>(Arc::default, &[]).unwrap_err();
    assert_eq!(breach.rule, ConformanceRule::Operations);
}

#[test]
fn nothing_is_asked_once_framing_is_lost() {
    let mut run = CodecRun::<Toy>::new(&Arc::default());
    run.feed(Side::Client, &[0xff; 4]).unwrap();
    run.feed(Side::Client, &message("get a.b")).unwrap();
    run.feed(Side::Upstream, &message("ok")).unwrap();
    assert!(run.lost().is_some());
    assert!(run.requests().is_empty() && run.stray().is_empty());
    assert!(run.from_upstream().out().is_empty());
}

#[test]
fn a_rejected_message_is_dropped_and_its_error_sent_in_turn() {
    let refuse = |place| (place == 1).then_some(operation::RejectReason::Denied);
    let mut run = CodecRun::<Toy>::new(&Arc::default()).rejecting(refuse);
    run.feed(Side::Client, &[message("get a.b"), message("get c.d")].concat()).unwrap();
    assert_eq!(run.from_client().out(), message("get a.b"));
    assert!(run.from_upstream().out().is_empty());
    run.feed(Side::Upstream, &message("ok")).unwrap();
    let no = message("no denied: the suite says no");
    assert_eq!(run.from_upstream().out(), [message("ok"), no].concat());
}

#[test]
fn a_late_reply_is_dropped_and_its_error_sent_in_turn() {
    let mut run = CodecRun::<Toy>::new(&Arc::default());
    run.feed(Side::Client, &[message("get a.b"), message("get c.d")].concat()).unwrap();
    assert_eq!(run.give_up(1), Ok(false), "replies keep order");
    assert_eq!(run.give_up(0), Ok(true));
    assert_eq!(run.give_up(0), Ok(false), "that has been done");
    let no = message("no timed_out: the suite waits no longer");
    assert_eq!(run.from_upstream().out(), no);
    run.feed(Side::Upstream, &message("wait a moment")).unwrap();
    let late = message(&format!("ok{}", ",late".repeat(40)));
    run.feed(Side::Upstream, &late[..100]).unwrap();
    // The late reply is not over yet.
    assert_eq!(run.give_up(1), Ok(true));
    assert_eq!(run.from_upstream().out(), no);
    run.feed(Side::Upstream, &late[100..]).unwrap();
    run.feed(Side::Upstream, &message("ok,late,too")).unwrap();
    run.feed(Side::Client, &message("get e.f")).unwrap();
    run.feed(Side::Upstream, &message("ok")).unwrap();
    assert_eq!(run.from_upstream().out(), [no.clone(), no, message("ok")].concat());
    assert!(run.requests()[0].reply.is_none() && run.requests()[2].reply.is_some());
}

#[test]
fn requests_can_be_given_up_as_soon_as_they_have_gone_on() {
    let mut run = CodecRun::<Toy>::new(&Arc::default()).giving_up(|place| place == 0);
    run.feed(Side::Client, &message("get a.b")[..6]).unwrap();
    assert!(run.from_upstream().out().is_empty());
    run.feed(Side::Client, &message("get a.b")[6..]).unwrap();
    assert_eq!(run.from_client().out(), message("get a.b"));
    assert_eq!(run.from_upstream().out(), message("no timed_out: the suite waits no longer"));
}

#[test]
fn a_fixture_is_read_from_text() {
    let text = "# a comment\n\nexpect: get a.b rejected awaits code=Gone sent=1 items=2\n\
                expect: put! - silent\nexpect: get c.d open\n> 0aff\n>00\n< 7F\n";
    let fixture = Fixture::parse("f", text).unwrap();
    let first = Expected {
        long_poll: true,
        code: Some("Gone".into()),
        sent: Some(1),
        items: Some(2),
        ..Expected::settled("get", "a.b", Outcome::Rejected)
    };
    let expected = Fixture::new("f")
        .expects(first)
        .expects(Expected::silent("put!", ""))
        .expects(Expected::open("get", "c.d"))
        .client(&[0x0a, 0xff, 0])
        .upstream(&[0x7f]);
    assert_eq!(fixture, expected);
}

#[test]
fn a_wrong_line_is_named() {
    let cases = [
        ("> 0", "f:1: half a byte"),
        ("\n< 0g", "f:2: no hex digit: 'g'"),
        ("expect: get", "f:1: an expectation is a name, a resource and an end"),
        ("expect: get a.b fine", "f:1: no such end: fine"),
        ("expect: get a.b ok sent=x", "f:1: no number: x"),
        ("expect: get a.b ok fast", "f:1: no such fact: fast"),
        ("? 00", "f:1: neither `>`, `<`, `#` nor `expect:`"),
    ];
    for (text, error) in cases {
        assert_eq!(Fixture::parse("f", text).unwrap_err(), error);
    }
}
