//! Broken bytes cause no panic, no endless loop and no endless buffering, and slices change nothing.

use super::{CodecRun, Fixture, RuleBreach, Side, catch_panic, cuts};
use crate::{Codec, RejectReason};
use std::sync::Arc;

/// The number of broken recordings; the environment variable `CODEC_MUTATIONS` overrides it.
const MUTATIONS: u64 = 6_000;
/// Values that often break the reading of length fields.
const LENGTHS: [u32; 12] =
    [0, 1, 4, 5, 15, 16, 17, 0xffff, 16 << 20, 48_000_001, 0x7fff_ffff, 0xffff_ffff];

pub(super) fn survives<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixtures: &[Fixture],
) -> Result<(), RuleBreach> {
    let wanted = std::env::var("CODEC_MUTATIONS").ok().and_then(|number| number.parse().ok());
    for seed in 0..wanted.unwrap_or(MUTATIONS) {
        let mut random = Random(seed);
        let fixture = &fixtures[random.below(fixtures.len())];
        let mut broken = fixture.clone();
        for _ in 0..=random.below(3) {
            if let Some(turn) = random.pick(&mut broken.turns) {
                random.mutate(&mut turn.bytes);
            }
        }
        catch_panic(|| survive::<C>(shared, &broken, &mut random))
            .map_err(|b| b.at(format!("{} mutated with seed {seed}", fixture.name)))?;
    }
    Ok(())
}

fn survive<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    broken: &Fixture,
    random: &mut Random,
) -> Result<(), RuleBreach> {
    let refusals = random.below(4) == 0;
    let refusing = move |place: usize| {
        (refusals && place % 3 == 1).then_some(RejectReason::ALL[place % RejectReason::ALL.len()])
    };
    let late = random.below(4) == 0;
    let giving_up = move |place: usize| late && place % 3 != 1;
    // Eager, so that both runs see a violation in a message that never completes.
    let run = || CodecRun::<C>::new(&shared()).eager().rejecting(refusing).giving_up(giving_up);
    let whole = run().play(broken, usize::MAX)?;
    let mut cut = run();
    cut.feed(Side::Client, &[])?;
    for turn in &broken.turns {
        let mut rest = &turn.bytes[..];
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(1 + random.below(rest.len()));
            cut.feed(turn.from, slice)?;
            rest = after;
        }
    }
    cuts::agree(&whole, &cut)
}

/// A small random number generator (splitmix64), reproducible from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % (n.max(1) as u64)) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(from.len());
        from.get_mut(at)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.next() as u8);
        }
        // Broken fronts are reached most often, so half of all mutations go there.
        let span = if self.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
        let at = self.below(span);
        let len = 1 + self.below(40.min(bytes.len() - at));
        match self.below(7) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next() as u8,
            2 | 3 => {
                let number = LENGTHS[self.below(LENGTHS.len())].to_le_bytes();
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + len)),
            _ => {
                let again = bytes[at..at + len].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}
