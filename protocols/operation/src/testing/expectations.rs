//! The operations of a recording are found, named and settled as expected.

use super::{CodecRun, ConformanceRule, Expected, Fixture, FoundRequest, RuleBreach, Side};
use crate::Codec;
use std::sync::Arc;

/// Plays the recording turn by turn, and then with all bytes of each side at once.
pub(super) fn met<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
) -> Result<CodecRun<C>, RuleBreach> {
    let whole = CodecRun::<C>::new(&shared()).play(fixture, usize::MAX)?;
    marks(&whole, fixture, true)?;

    let at_once = Fixture::new("")
        .client(&bytes_from(fixture, Side::Client))
        .upstream(&bytes_from(fixture, Side::Upstream));
    let piled = CodecRun::<C>::new(&shared()).play(&at_once, usize::MAX)?;
    // The codec may not know yet what it learns from replies, such as whether a request is a long poll.
    marks(&piled, fixture, false).map_err(|b| b.at("with all requests ahead of all replies"))?;
    Ok(whole)
}

/// All bytes from one side.
pub(super) fn bytes_from(fixture: &Fixture, side: Side) -> Vec<u8> {
    let turns = fixture.turns.iter().filter(|turn| turn.from == side);
    turns.flat_map(|turn| turn.bytes.iter().copied()).collect()
}

fn marks<C: Codec>(run: &CodecRun<C>, fixture: &Fixture, in_turn: bool) -> Result<(), RuleBreach> {
    let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::Operations, detail));
    if let Some(violation) = run.lost() {
        return breach(format!("can't be read: {violation}"));
    }
    for (place, asked) in run.requests().iter().enumerate() {
        let Some(expected) = fixture.expect.get(place) else {
            return breach(format!("request {place} is one too many: {asked:?}"));
        };
        if let Some(difference) = differs(asked, expected, in_turn) {
            return breach(format!("request {place}, {expected:?}: {difference} in {asked:?}"));
        }
    }
    if let Some(missing) = fixture.expect.get(run.requests().len()) {
        return breach(format!("request {} was not found: {missing:?}", run.requests().len()));
    }
    if let Some(reply) = run.stray().first() {
        return breach(format!("a reply belongs to no request: {reply:?}"));
    }
    for (side, stream) in [("client", run.from_client()), ("upstream", run.from_upstream())] {
        if stream.held() > 0 {
            return breach(format!("{} bytes from the {side} are never let go", stream.held()));
        }
    }
    Ok(())
}

/// The first difference between a request and the expected one.
fn differs(asked: &FoundRequest, expected: &Expected, in_turn: bool) -> Option<&'static str> {
    let reply = asked.reply;
    let code = reply.and_then(|reply| reply.code);
    let violation = asked.request.violation.or(reply.and_then(|reply| reply.violation));
    let checks = [
        ("the name differs", asked.name == expected.name),
        ("the resource differs", asked.resource == expected.resource),
        ("whether a reply is due differs", asked.request.tag.is_some() == expected.tagged),
        ("the outcome differs", reply.map(|reply| reply.outcome) == expected.outcome),
        ("it is no violation", violation.is_none()),
        (
            "whether it is a long poll differs",
            !in_turn || asked.request.long_poll == expected.long_poll,
        ),
        ("the code differs", expected.code.is_none() || code == expected.code.as_deref()),
        ("the items sent differ", expected.sent.is_none() || asked.sent == expected.sent),
        (
            "the items in the reply differ",
            expected.items.is_none() || reply.map(|reply| reply.items) == expected.items,
        ),
    ];
    checks.into_iter().find(|(_, holds)| !holds).map(|(difference, _)| difference)
}
