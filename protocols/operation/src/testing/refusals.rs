//! After a rejected request, every reply is still attributed to its request.

use super::{CodecRun, ConformanceRule, Fixture, RuleBreach, Side, Turn, expectations};
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
    let mut read = 0;
    for turn in without_replies(fixture, whole, refused) {
        run.feed(turn.from, &turn.bytes)?;
        if run.closed() {
            // The connection must be closed, so there are no further replies.
            return Ok(());
        }
        if turn.from == Side::Client {
            reader.feed(Side::Client, &turn.bytes)?;
        }
        let out = run.from_upstream().out();
        reader.feed(Side::Upstream, &out[read..])?;
        read = out.len();
    }
    gone_on(&run, whole, refused)?;
    settled(&run, &reader, whole, refused)
}

/// The turns of a recording without the upstream's replies to some requests.
fn without_replies<C: Codec>(
    fixture: &Fixture,
    whole: &CodecRun<C>,
    refused: impl Fn(usize) -> bool,
) -> Vec<Turn> {
    let mut keep = vec![true; expectations::bytes_from(fixture, Side::Upstream).len()];
    let mut start = 0;
    for message in whole.from_upstream().messages() {
        if message.operation.is_some_and(&refused) {
            keep[start..message.came].fill(false);
        }
        start = message.came;
    }
    let mut keep = keep.into_iter();
    let mut turns = fixture.turns.clone();
    for turn in turns.iter_mut().filter(|turn| turn.from == Side::Upstream) {
        turn.bytes.retain(|_| keep.next() == Some(true));
    }
    turns
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
    let seen = run.from_client().out();
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
