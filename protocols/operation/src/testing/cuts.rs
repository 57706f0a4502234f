//! The slices in which bytes arrive change nothing.

use super::{CodecRun, ConformanceRule, Fixture, FoundRequest, RuleBreach, Side, Stream};
use crate::{Codec, Reply};
use std::sync::Arc;

/// A turn is cut at every place up to here, in bytes from its beginning.
const CLOSELY: usize = 4 * 1024;
/// Beyond that, at every `STRIDE`th place.
const STRIDE: usize = 97;
/// And at every place this close to its end.
const ENDS: usize = 64;
/// The sizes of slices, in bytes.
const SLICES: [usize; 8] = [1, 2, 3, 5, 16, 61, 1021, 4096];

pub(super) fn harmless<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &CodecRun<C>,
) -> Result<(), RuleBreach> {
    for slice in SLICES {
        let place = format!("in slices of {slice}");
        let run = CodecRun::<C>::new(&shared()).play(fixture, slice).map_err(|b| b.at(&place))?;
        same(whole, &run).map_err(|b| b.at(place))?;
    }
    let run = CodecRun::<C>::new(&shared()).eager().play(fixture, 1);
    run.and_then(|run| same(whole, &run)).map_err(|b| b.at("asked again with each byte"))?;

    let whole = &CodecRun::<C>::new(&shared()).without_attributes().play(fixture, usize::MAX)?;
    // All turns are cut in one run: if no cut changes anything, earlier cuts change nothing here.
    let longest = fixture.turns.iter().map(|turn| turn.bytes.len()).max().unwrap_or_default();
    let spread = (CLOSELY..longest).step_by(STRIDE);
    for place in (1..longest.min(CLOSELY)).chain(spread) {
        let run = cut::<C>(&shared(), fixture, |_| place);
        run.and_then(|run| same(whole, &run))
            .map_err(|b| b.at(format!("each turn cut after {place} bytes")))?;
    }
    for place in 1..ENDS.min(longest) {
        let run = cut::<C>(&shared(), fixture, |len| len.saturating_sub(place));
        run.and_then(|run| same(whole, &run))
            .map_err(|b| b.at(format!("each turn cut {place} bytes before its end")))?;
    }
    Ok(())
}

/// As [`same`], for bytes that may violate the protocol.
pub(super) fn agree<C: Codec>(whole: &CodecRun<C>, cut: &CodecRun<C>) -> Result<(), RuleBreach> {
    if whole.lost().is_some() && cut.lost().is_some() {
        // Both lost the framing, though one may have passed more bytes before.
        return Ok(());
    }
    same(whole, cut)
}

/// Fails with the first difference between two runs over the same bytes.
pub(super) fn same<C: Codec>(whole: &CodecRun<C>, cut: &CodecRun<C>) -> Result<(), RuleBreach> {
    let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::Slices, detail));
    if whole.lost() != cut.lost() {
        return breach(format!("it was {:?} and is {:?}", whole.lost(), cut.lost()));
    }
    for (place, (a, b)) in whole.requests().iter().zip(cut.requests()).enumerate() {
        if !a.is_equal(b) {
            return breach(format!("request {place} was {a:?} and is {b:?}"));
        }
    }
    if whole.requests().len() != cut.requests().len() {
        let (a, b) = (whole.requests().len(), cut.requests().len());
        return breach(format!("{a} requests were found, and now {b}"));
    }
    let (a, b) = (whole.stray(), cut.stray());
    if a.len() != b.len() || a.iter().zip(b).any(|(a, b)| !are_equal_replies(a, b)) {
        return breach(format!("replies that settle nothing were {a:?} and are {b:?}"));
    }
    if whole.closed() != cut.closed() {
        return breach("whether a rejection has an error reply changes".into());
    }
    let sides = [
        ("client", whole.from_client(), cut.from_client()),
        ("upstream", whole.from_upstream(), cut.from_upstream()),
    ];
    for (side, a, b) in sides {
        if let Some(at) = first_difference(a, b) {
            return breach(format!("byte {at} of what the {side} sent goes on changed"));
        }
        if a.messages() != b.messages() {
            return breach(format!("the messages of the {side} end elsewhere"));
        }
    }
    Ok(())
}

/// Whether two replies are the same. Two with a violation need the same tag and outcome only: how much
/// was read before the violation, and which one came first, may depend on the slices.
fn are_equal_replies(a: &Reply, b: &Reply) -> bool {
    let broken = a.violation.is_some() && b.violation.is_some();
    a == b || broken && (a.tag, a.outcome) == (b.tag, b.outcome)
}

impl FoundRequest {
    /// Whether two requests and their results are the same; see [`are_equal_replies`].
    fn is_equal(&self, other: &Self) -> bool {
        let replies = match (&self.reply, &other.reply) {
            (Some(a), Some(b)) => are_equal_replies(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let broken = self.request.violation.is_some() && other.request.violation.is_some();
        let asked = |asked: &Self| (asked.request, asked.refused, asked.sent);
        let words = (&self.name, &self.resource, &self.attributes)
            == (&other.name, &other.resource, &other.attributes);
        let same = asked(self) == asked(other) && words;
        replies && (same || broken && self.request.tag == other.request.tag)
    }
}

fn first_difference(a: &Stream, b: &Stream) -> Option<usize> {
    let (a, b) = (a.out(), b.out());
    if a == b {
        return None;
    }
    Some(a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len())))
}

/// Plays a recording with one cut in each turn that is long enough.
fn cut<C: Codec>(
    shared: &Arc<C::Shared>,
    fixture: &Fixture,
    place: impl Fn(usize) -> usize,
) -> Result<CodecRun<C>, RuleBreach> {
    let mut run = CodecRun::new(shared).without_attributes();
    run.feed(Side::Client, &[])?;
    for turn in &fixture.turns {
        let (before, after) = turn.bytes.split_at(place(turn.bytes.len()).min(turn.bytes.len()));
        for part in [before, after].into_iter().filter(|part| !part.is_empty()) {
            run.feed(turn.from, part)?;
        }
    }
    Ok(run)
}
