//! A request that is read again with more bytes is the same request, in any slices.

use super::{CodecRun, ConformanceRule, Fixture, RuleBreach};
use crate::Codec;
use std::sync::Arc;

/// Slices to play a recording in.
const SLICES: [usize; 4] = [1, 61, 1021, 4096];

/// Plays the recording with each request read to its end before it is forwarded.
pub(super) fn reads_the_same_again<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &CodecRun<C>,
) -> Result<(), RuleBreach> {
    let rereading = |slice: usize| {
        let run = CodecRun::<C>::new(&shared()).without_attributes().rereading();
        run.play(fixture, slice).map_err(|b| b.at(format!("read again in slices of {slice}")))
    };
    let at_once = rereading(usize::MAX)?;
    same(whole, &at_once, false).map_err(|b| b.at("read again at once"))?;
    for slice in SLICES {
        let run = rereading(slice)?;
        same(&at_once, &run, true).map_err(|b| b.at(format!("read again in slices of {slice}")))?;
    }
    Ok(())
}

/// Fails with the first difference between two runs. `names`: whether name and resource must be equal,
/// which they need not be if one run did not read to the end.
fn same<C: Codec>(a: &CodecRun<C>, b: &CodecRun<C>, names: bool) -> Result<(), RuleBreach> {
    let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::Reread, detail));
    for (place, (a, b)) in a.requests().iter().zip(b.requests()).enumerate() {
        let named =
            |request: &super::FoundRequest| (request.name.clone(), request.resource.clone());
        if a.request.tag != b.request.tag || names && named(a) != named(b) {
            return breach(format!("request {place} was {a:?} and is {b:?}"));
        }
    }
    if a.requests().len() != b.requests().len() {
        return breach(format!(
            "{} requests were found, and now {}",
            a.requests().len(),
            b.requests().len()
        ));
    }
    if a.from_client().out() != b.from_client().out() {
        return breach("what is forwarded to the upstream changes".into());
    }
    Ok(())
}
