//! The operations of a recording are found, named and settled as expected.

use super::{Asked, Breach, ConformanceRule, Expected, Fixture, Run, Side};
use crate::Codec;
use std::sync::Arc;

/// Plays the recording as it was, and with everything of either side at once.
pub(super) fn met<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
) -> Result<Run<C>, Breach> {
    let whole = Run::<C>::new(&shared()).play(fixture, usize::MAX)?;
    marks(&whole, fixture, true)?;

    let at_once = Fixture::new("")
        .client(&said(fixture, Side::Client))
        .upstream(&said(fixture, Side::Upstream));
    let piled = Run::<C>::new(&shared()).play(&at_once, usize::MAX)?;
    // What a codec learns from a reply it may not know yet: whether a request awaits, say.
    marks(&piled, fixture, false).map_err(|b| b.at("with all requests ahead of all replies"))?;
    Ok(whole)
}

/// All that one side said.
pub(super) fn said(fixture: &Fixture, side: Side) -> Vec<u8> {
    let turns = fixture.turns.iter().filter(|turn| turn.from == side);
    turns.flat_map(|turn| turn.bytes.iter().copied()).collect()
}

fn marks<C: Codec>(run: &Run<C>, fixture: &Fixture, in_turn: bool) -> Result<(), Breach> {
    let breach = |detail: String| Err(Breach::new(ConformanceRule::Marks, detail));
    if let Some(violation) = run.lost() {
        return breach(format!("can't be read: {violation}"));
    }
    for (place, asked) in run.asked().iter().enumerate() {
        let Some(expected) = fixture.expect.get(place) else {
            return breach(format!("request {place} is one too many: {asked:?}"));
        };
        if let Some(fact) = differs(asked, expected, in_turn) {
            return breach(format!("request {place}, {expected:?}: {fact} in {asked:?}"));
        }
    }
    if let Some(missing) = fixture.expect.get(run.asked().len()) {
        return breach(format!("request {} was not found: {missing:?}", run.asked().len()));
    }
    if let Some(reply) = run.stray().first() {
        return breach(format!("a reply answers nothing that was asked: {reply:?}"));
    }
    for (side, stream) in [("client", run.from_client()), ("upstream", run.from_upstream())] {
        if stream.held() > 0 {
            return breach(format!("{} bytes from the {side} are never let go", stream.held()));
        }
    }
    Ok(())
}

/// The fact in which a request is not as it should be.
fn differs(asked: &Asked, expected: &Expected, in_turn: bool) -> Option<&'static str> {
    let reply = asked.reply;
    let code = reply.and_then(|reply| reply.code);
    let violation = asked.request.violation.or(reply.and_then(|reply| reply.violation));
    let facts = [
        ("the name differs", asked.name == expected.name),
        ("the resource differs", asked.resource == expected.resource),
        ("whether a reply is due differs", asked.request.tag.is_some() == expected.tagged),
        ("the outcome differs", reply.map(|reply| reply.outcome) == expected.outcome),
        ("it is no violation", violation.is_none()),
        ("whether it awaits differs", !in_turn || asked.request.long_poll == expected.awaits),
        ("the code differs", expected.code.is_none() || code == expected.code.as_deref()),
        ("the items sent differ", expected.sent.is_none() || asked.sent == expected.sent),
        (
            "the items in the reply differ",
            expected.items.is_none() || reply.map(|reply| reply.items) == expected.items,
        ),
    ];
    facts.into_iter().find(|(_, holds)| !holds).map(|(fact, _)| fact)
}
