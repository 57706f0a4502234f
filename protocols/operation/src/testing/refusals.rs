//! After a rejected request, every reply is still attributed to its request.

use super::{CodecRun, ConformanceRule, Fixture, RuleBreach, Side};
use crate::{Codec, Outcome, RejectReason};
use std::sync::Arc;

/// Rejects each request of the recording in turn, and then all of them.
pub(super) fn keep_step<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &CodecRun<C>,
) -> Result<(), RuleBreach> {
    for place in 0..whole.requests().len() {
        let refused = move |other| other == place;
        refuse::<C>(shared, fixture, whole, refused)
            .map_err(|b| b.at(format!("request {place} rejected")))?;
    }
    refuse::<C>(shared, fixture, whole, |_| true).map_err(|b| b.at("all requests rejected"))
}

/// Plays the recording with some requests rejected, then reads what the client received with another
/// codec that saw all requests: every reply must be there and be readable.
fn refuse<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &CodecRun<C>,
    refused: impl Fn(usize) -> bool + Copy + 'static,
) -> Result<(), RuleBreach> {
    let reason = move |place: usize| {
        let reason = RejectReason::ALL[place % RejectReason::ALL.len()];
        refused(place).then_some(reason)
    };
    let mut run = CodecRun::<C>::new(&shared()).rejecting(reason);
    let mut reader = CodecRun::<C>::new(&shared());
    run.feed(Side::Client, &[])?;
    reader.feed(Side::Client, &[])?;
    let (answered, mut came, mut read) = (answered(whole), 0, 0);
    for turn in &fixture.turns {
        let mut bytes = turn.bytes.clone();
        if turn.from == Side::Upstream {
            // A service sends no reply to a rejected request, but one to what replaces it.
            let silent = |place: usize| refused(place) && !run.requests()[place].replaced;
            bytes.retain(|_| {
                let place = answered.get(came).copied().flatten();
                came += 1;
                !place.is_some_and(silent)
            });
        }
        run.feed(turn.from, &bytes)?;
        if run.closed() {
            // The connection must be closed, so there are no further replies.
            return Ok(());
        }
        if turn.from == Side::Client {
            reader.feed(Side::Client, &bytes)?;
        }
        let out = run.from_upstream().out();
        reader.feed(Side::Upstream, &out[read..])?;
        read = out.len();
    }
    gone_on(&run, whole, refused)?;
    settled(&run, &reader, whole, refused)
}

/// The request that each byte from the upstream answers, if it is known.
fn answered<C: Codec>(whole: &CodecRun<C>) -> Vec<Option<usize>> {
    let mut answered = Vec::new();
    for message in whole.from_upstream().messages() {
        answered.resize(message.came, message.operation);
    }
    answered
}

/// Checks that the upstream received every message except the rejected ones, unchanged.
fn gone_on<C: Codec>(
    run: &CodecRun<C>,
    whole: &CodecRun<C>,
    refused: impl Fn(usize) -> bool,
) -> Result<(), RuleBreach> {
    let (sent, mut start) = (whole.from_client(), 0);
    let mut expected = Vec::new();
    for message in sent.messages() {
        if !message.operation.is_some_and(&refused) {
            expected.extend_from_slice(&sent.out()[start..message.went]);
        }
        start = message.went;
    }
    let unended = sent.out().len() - start;
    let seen = run.from_client().not_injected();
    if seen != expected && unended == 0 {
        let detail = format!("the upstream sees {} bytes, not {}", seen.len(), expected.len());
        return Err(RuleBreach::new(ConformanceRule::Rejection, detail));
    }
    Ok(())
}

/// Checks that every request ended as before, and each rejected one with an error, for the proxy and
/// for its client.
pub(super) fn settled<C: Codec>(
    run: &CodecRun<C>,
    reader: &CodecRun<C>,
    whole: &CodecRun<C>,
    refused: impl Fn(usize) -> bool,
) -> Result<(), RuleBreach> {
    let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::Rejection, detail));
    if let Some(lost) = run.lost().or(reader.lost()) {
        return breach(format!("what follows can't be read: {lost}"));
    }
    if run.requests().len() != whole.requests().len()
        || reader.requests().len() != whole.requests().len()
    {
        return breach("other requests are found".into());
    }
    if let Some(reply) = run.stray().iter().chain(reader.stray()).next() {
        return breach(format!("a reply belongs to no request: {reply:?}"));
    }
    let upstream = reader.from_upstream();
    if upstream.held() > 0 || upstream.at_boundary() != whole.from_upstream().at_boundary() {
        return breach("the client is left within a reply".into());
    }
    // If an older reply never comes in the recording, an error behind it is never sent.
    let waits = whole.requests().iter().position(|a| a.request.tag.is_some() && a.reply.is_none());
    for (place, was) in whole.requests().iter().enumerate() {
        let was_outcome = was.reply.map(|reply| reply.outcome);
        let proxied = run.requests()[place].reply.map(|reply| reply.outcome);
        let read = reader.requests()[place].reply.map(|reply| reply.outcome);
        if !refused(place) {
            if proxied != was_outcome || read != was_outcome {
                let detail = format!("request {place} was {was_outcome:?} and is {proxied:?}");
                return breach(format!("{detail}, {read:?} to its client"));
            }
        } else if was.request.tag.is_some() {
            let is_error = matches!(read, Some(Outcome::Rejected | Outcome::Failed));
            let too_early = read.is_none() && waits.is_some_and(|older| older < place);
            if !is_error && !too_early {
                return breach(format!("the error for request {place} reads as {read:?}"));
            }
        }
    }
    Ok(())
}
