//! A request of which more is read before it goes on is the same request, however its bytes come.

use super::{Breach, ConformanceRule, Fixture, Run};
use crate::Codec;
use std::sync::Arc;

/// Slices to play a recording in.
const SLICES: [usize; 4] = [1, 61, 1021, 4096];

/// Plays the recording with each request read to its end before it goes on.
pub(super) fn reads_the_same_again<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &Run<C>,
) -> Result<(), Breach> {
    let rereading = |slice: usize| {
        let run = Run::<C>::new(&shared()).without_attributes().rereading();
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

/// Says in what two runs differ. The words may, where one of them did not read to the end.
fn same<C: Codec>(a: &Run<C>, b: &Run<C>, words: bool) -> Result<(), Breach> {
    let breach = |detail: String| Err(Breach::new(ConformanceRule::Reread, detail));
    for (place, (a, b)) in a.asked().iter().zip(b.asked()).enumerate() {
        let told = |it: &super::Asked| (it.name.clone(), it.resource.clone());
        if a.request.tag != b.request.tag || words && told(a) != told(b) {
            return breach(format!("request {place} was {a:?} and is {b:?}"));
        }
    }
    if a.asked().len() != b.asked().len() {
        return breach(format!(
            "{} requests were found, and now {}",
            a.asked().len(),
            b.asked().len()
        ));
    }
    if a.from_client().out() != b.from_client().out() {
        return breach("what goes on to the upstream changes".into());
    }
    Ok(())
}
