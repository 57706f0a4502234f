//! The reply to an abandoned request is dropped; every other reply passes.

use super::{CodecRun, ConformanceRule, Fixture, RuleBreach, Side, refusals};
use crate::Codec;
use std::{ops::Range, sync::Arc};

/// A request is abandoned before each of this many bytes of its reply.
const FRONT: usize = 32;
/// A late reply is cut at each of its first `CLOSELY` bytes, then at every `STRIDE`th byte.
const CLOSELY: usize = 32;
const STRIDE: usize = 1009;
/// Sizes of the slices that it comes in, in bytes.
const SLICES: [usize; 4] = [1, 7, 61, usize::MAX];

/// Gives up each request of the recording at every moment until its reply begins, and then all of them
/// as soon as they are forwarded.
pub(super) fn late_reply_is_dropped<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
    whole: &CodecRun<C>,
) -> Result<(), RuleBreach> {
    let replies = replies(whole);
    let scene = Scene { shared, fixture, whole, replies: &replies };
    for (place, reply) in replies.iter().enumerate() {
        let Some(reply) = reply else { continue };
        let begun = (0..reply.len().min(FRONT)).map(|begun| (reply.start + begun, usize::MAX));
        let cuts = (1..CLOSELY).chain((CLOSELY..reply.len()).step_by(STRIDE));
        let late = cuts.map(|cut| (reply.start, reply.start + cut));
        for (moment, cut) in begun.chain(late) {
            let splits = |at: usize| at == moment || at == cut;
            let given_up = |other, came| other == place && came >= moment;
            scene
                .play(given_up, splits)
                .map_err(|b| b.at(format!("request {place} given up at {moment}, cut at {cut}")))?;
        }
    }
    for slice in SLICES {
        let splits = |at: usize| slice == 1 || at.is_multiple_of(slice);
        let odd = |place: usize, _| place % 2 == 1;
        scene
            .play(|_, _| true, splits)
            .and_then(|()| scene.play(odd, splits))
            .map_err(|b| b.at(format!("many requests given up, in slices of {slice}")))?;
    }
    Ok(())
}

/// The range of each request's reply in what the upstream sent. Bytes before the end of a reply
/// belong to it: replies are not interleaved.
fn replies<C: Codec>(whole: &CodecRun<C>) -> Vec<Option<Range<usize>>> {
    let mut replies = vec![None; whole.requests().len()];
    let messages = whole.from_upstream().messages();
    let mut start = 0;
    for (at, message) in messages.iter().enumerate() {
        let Some(place) = message.operation else { continue };
        let over = !messages[at + 1..].iter().any(|later| later.operation == Some(place));
        if over && whole.requests()[place].reply.is_some() {
            replies[place] = Some(start..message.came);
            start = message.came;
        }
    }
    replies
}

/// A recording, and its run without late replies.
struct Scene<'a, C, S> {
    shared: &'a S,
    fixture: &'a Fixture,
    whole: &'a CodecRun<C>,
    replies: &'a [Option<Range<usize>>],
}

impl<C: Codec, S: Fn() -> Arc<C::Shared>> Scene<'_, C, S> {
    /// Plays the recording, and gives up each request for which `given_up` returns `true` at a
    /// number of bytes from the upstream. `splits` returns whether the upstream's bytes are cut at a
    /// place. Then reads what the client received with another codec.
    fn play(
        &self,
        given_up: impl Fn(usize, usize) -> bool,
        splits: impl Fn(usize) -> bool,
    ) -> Result<(), RuleBreach> {
        let mut run = CodecRun::<C>::new(&(self.shared)()).without_attributes();
        let mut reader = CodecRun::<C>::new(&(self.shared)()).without_attributes();
        run.feed(Side::Client, &[])?;
        reader.feed(Side::Client, &[])?;
        let mut tried = vec![false; self.replies.len()];
        let (mut came, mut read) = (0, 0);
        for turn in &self.fixture.turns {
            if turn.from == Side::Client {
                run.feed(Side::Client, &turn.bytes)?;
                reader.feed(Side::Client, &turn.bytes)?;
                continue;
            }
            let mut rest = &turn.bytes[..];
            while !rest.is_empty() {
                for place in 0..run.requests().len().min(tried.len()) {
                    let due = self.replies[place].is_some() && !tried[place];
                    if due && given_up(place, came) {
                        tried[place] = true;
                        run.give_up(place)?;
                    }
                }
                let len = (1..rest.len()).find(|len| splits(came + len)).unwrap_or(rest.len());
                run.feed(Side::Upstream, &rest[..len])?;
                (came, rest) = (came + len, &rest[len..]);
            }
            let out = run.from_upstream().out();
            reader.feed(Side::Upstream, &out[read..])?;
            read = out.len();
        }
        self.only_late_replies_are_missing(&run)?;
        refusals::settled(&run, &reader, self.whole, |place| run.requests()[place].refused)
            .map_err(|b| RuleBreach { rule: ConformanceRule::LateReply, ..b })
    }

    /// Checks that everything was forwarded except the late replies, which have errors in their place.
    fn only_late_replies_are_missing(&self, run: &CodecRun<C>) -> Result<(), RuleBreach> {
        let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::LateReply, detail));
        if run.from_client().out() != self.whole.from_client().out() {
            return breach("what is forwarded to the upstream changes".into());
        }
        let (was, mut start) = (self.whole.from_upstream(), Default::default());
        let mut expected = Vec::new();
        for message in was.messages() {
            let (came, went) = std::mem::replace(&mut start, (message.came, message.went));
            let late = |(place, reply): (usize, &Option<Range<usize>>)| {
                run.requests().get(place).is_some_and(|asked| asked.refused)
                    && reply.as_ref().is_some_and(|reply| reply.contains(&came))
            };
            if message.unsolicited || !self.replies.iter().enumerate().any(late) {
                expected.extend_from_slice(&was.out()[went..message.went]);
            }
        }
        expected.extend_from_slice(&was.out()[start.1..]);
        let seen = run.from_upstream().not_injected();
        if seen != expected {
            let same = seen.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            let (seen, expected) = (seen.len(), expected.len());
            return breach(format!(
                "the client sees {seen} bytes of replies, not {expected}; they differ at {same}"
            ));
        }
        Ok(())
    }
}
