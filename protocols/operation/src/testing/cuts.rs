//! Where the bytes happen to be cut changes nothing.

use super::{Breach, Fixture, Rule, Run, Side, Stream};
use crate::Codec;
use std::{collections::BTreeSet, sync::Arc};

/// Every place up to here is cut at, in bytes.
const CLOSELY: usize = 4 * 1024;
/// How far around the end of a message every place is cut at, in bytes.
const AROUND: usize = 24;
/// How many bytes a fixture's cuts may make a codec read.
const WORK: usize = 32 * 1024 * 1024;
/// Slices to play a recording in; 1 is one byte at a time.
const SLICES: [usize; 8] = [1, 2, 3, 5, 16, 61, 1021, 4096];

pub(super) fn harmless<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &Run<C>,
) -> Result<(), Breach> {
    for slice in SLICES {
        let place = format!("in slices of {slice}");
        let run = Run::<C>::new(&shared()).play(fixture, slice).map_err(|b| b.at(&place))?;
        same(whole, &run).map_err(|b| b.at(place))?;
    }
    let run = Run::<C>::new(&shared()).eager().play(fixture, 1);
    run.and_then(|run| same(whole, &run)).map_err(|b| b.at("asked again with each byte"))?;

    for place in places(fixture, whole) {
        let run = cut_at::<C>(&shared(), fixture, place);
        run.and_then(|run| same(whole, &run)).map_err(|b| b.at(format!("cut at {place}")))?;
    }
    Ok(())
}

/// Says in what two runs over the same bytes differ.
pub(super) fn same<C: Codec>(whole: &Run<C>, cut: &Run<C>) -> Result<(), Breach> {
    let breach = |detail: String| Err(Breach::new(Rule::Cuts, detail));
    if whole.lost() != cut.lost() {
        return breach(format!("it was {:?} and is {:?}", whole.lost(), cut.lost()));
    }
    for (place, (a, b)) in whole.asked().iter().zip(cut.asked()).enumerate() {
        if a != b {
            return breach(format!("request {place} was {a:?} and is {b:?}"));
        }
    }
    if whole.asked().len() != cut.asked().len() {
        let (a, b) = (whole.asked().len(), cut.asked().len());
        return breach(format!("{a} requests were found, and now {b}"));
    }
    if whole.stray() != cut.stray() || whole.closed() != cut.closed() {
        return breach("what replies settle changes".into());
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

fn first_difference(a: &Stream, b: &Stream) -> Option<usize> {
    let (a, b) = (a.out(), b.out());
    if a == b {
        return None;
    }
    Some(a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len())))
}

/// Plays a recording with one cut, so many bytes into all that both sides say.
fn cut_at<C: Codec>(
    shared: &Arc<C::Shared>,
    fixture: &Fixture,
    mut place: usize,
) -> Result<Run<C>, Breach> {
    let mut run = Run::new(shared);
    run.feed(Side::Client, &[])?;
    for turn in &fixture.turns {
        if (1..turn.bytes.len()).contains(&place) {
            let (before, after) = turn.bytes.split_at(place);
            run.feed(turn.from, before)?;
            run.feed(turn.from, after)?;
        } else {
            run.feed(turn.from, &turn.bytes)?;
        }
        // Past the cut no turn is cut again.
        place = place.saturating_sub(turn.bytes.len());
    }
    Ok(run)
}

/// Where to cut: everywhere at first, then around the ends of messages, and here and there.
fn places<C: Codec>(fixture: &Fixture, whole: &Run<C>) -> BTreeSet<usize> {
    let len = fixture.len();
    let most = WORK / len.max(1);
    let mut places: BTreeSet<usize> = (1..len.min(CLOSELY)).collect();
    let (mut client, mut upstream) = (0, 0);
    let mut start = 0;
    for turn in &fixture.turns {
        let (stream, before) = match turn.from {
            Side::Client => (whole.from_client(), &mut client),
            Side::Upstream => (whole.from_upstream(), &mut upstream),
        };
        let here = *before..*before + turn.bytes.len();
        for message in stream.messages().iter().filter(|m| here.contains(&m.came)) {
            let end = start + message.came - *before;
            places.extend(end.saturating_sub(AROUND)..(end + AROUND).min(len));
        }
        *before += turn.bytes.len();
        start += turn.bytes.len();
    }
    let stride = (len / most.max(1)).max(97);
    places.extend((1..len).step_by(stride));
    places
}
