//! A refused request never leaves the other operations, or its own reply, out of step.

use super::{Breach, ConformanceRule, Fixture, Run, Side, Turn, expectations};
use crate::{Codec, Outcome, RejectReason};
use std::sync::Arc;

/// Refuses each request of the recording in turn, and then all of them.
pub(super) fn keep_step<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &Run<C>,
) -> Result<(), Breach> {
    for place in 0..whole.asked().len() {
        let refused = move |other| other == place;
        refuse::<C>(shared, fixture, whole, refused)
            .map_err(|b| b.at(format!("request {place} refused")))?;
    }
    refuse::<C>(shared, fixture, whole, |_| true).map_err(|b| b.at("all requests refused"))
}

/// Plays the recording with some requests refused, then reads what the client got as the client
/// would: it has asked everything, and every reply must be there and make sense.
fn refuse<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &Run<C>,
    refused: impl Fn(usize) -> bool + Copy + 'static,
) -> Result<(), Breach> {
    let reason = move |place: usize| {
        let reason = RejectReason::ALL[place % RejectReason::ALL.len()];
        refused(place).then_some(reason)
    };
    let mut run = Run::<C>::new(&shared()).refusing(reason);
    let mut reader = Run::<C>::new(&shared());
    run.feed(Side::Client, &[])?;
    reader.feed(Side::Client, &[])?;
    let mut read = 0;
    for turn in without_replies(fixture, whole, refused) {
        run.feed(turn.from, &turn.bytes)?;
        if run.closed() {
            // Nothing but closing is left, so there is no step to keep.
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

/// The turns of a recording as they would have been, had the upstream never seen some requests.
fn without_replies<C: Codec>(
    fixture: &Fixture,
    whole: &Run<C>,
    refused: impl Fn(usize) -> bool,
) -> Vec<Turn> {
    let mut keep = vec![true; expectations::said(fixture, Side::Upstream).len()];
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

/// What the upstream saw is every message but the refused ones, as it was.
fn gone_on<C: Codec>(
    run: &Run<C>,
    whole: &Run<C>,
    refused: impl Fn(usize) -> bool,
) -> Result<(), Breach> {
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
        return Err(Breach::new(ConformanceRule::Refusal, detail));
    }
    Ok(())
}

/// Whether every request ended as before, and each refused one with a no, for the proxy and for
/// its client.
pub(super) fn settled<C: Codec>(
    run: &Run<C>,
    reader: &Run<C>,
    whole: &Run<C>,
    refused: impl Fn(usize) -> bool,
) -> Result<(), Breach> {
    let breach = |detail: String| Err(Breach::new(ConformanceRule::Refusal, detail));
    if let Some(lost) = run.lost().or(reader.lost()) {
        return breach(format!("what follows can't be read: {lost}"));
    }
    if run.asked().len() != whole.asked().len() || reader.asked().len() != whole.asked().len() {
        return breach("other requests are found".into());
    }
    if let Some(reply) = run.stray().iter().chain(reader.stray()).next() {
        return breach(format!("a reply answers nothing that was asked: {reply:?}"));
    }
    let upstream = reader.from_upstream();
    if upstream.held() > 0 || upstream.at_boundary() != whole.from_upstream().at_boundary() {
        return breach("the client is left in the midst of a reply".into());
    }
    // Where an older reply never comes in the recording, a refusal behind it never has its turn.
    let waits = whole.asked().iter().position(|a| a.request.tag.is_some() && a.reply.is_none());
    for (place, was) in whole.asked().iter().enumerate() {
        let was_outcome = was.reply.map(|reply| reply.outcome);
        let proxied = run.asked()[place].reply.map(|reply| reply.outcome);
        let read = reader.asked()[place].reply.map(|reply| reply.outcome);
        if !refused(place) {
            if proxied != was_outcome || read != was_outcome {
                let detail = format!("request {place} was {was_outcome:?} and is {proxied:?}");
                return breach(format!("{detail}, {read:?} to its client"));
            }
        } else if was.request.tag.is_some() {
            let no = matches!(read, Some(Outcome::Rejected | Outcome::Failed));
            let too_early = read.is_none() && waits.is_some_and(|older| older < place);
            if !no && !too_early {
                return breach(format!("the refusal of request {place} reads as {read:?}"));
            }
        }
    }
    Ok(())
}
