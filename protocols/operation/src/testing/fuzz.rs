//! What a fuzzer's bytes are played as: one side of a connection, or both.
//!
//! Each function plays them whole and cut, with some requests refused, and returns the rule that
//! a codec broke. A panic is left to the caller.

use super::{Breach, Fixture, Run, Side, cuts};
use crate::{Codec, RejectReason};
use std::sync::Arc;

/// The bytes before each part of a conversation: how it is cut, and its length.
const HEAD: usize = 3;
/// The bit of a part's first byte that says that the upstream speaks; the others say in slices of
/// how many bytes it comes, 0 being all at once.
const UPSTREAM: u8 = 0x80;

/// The client sends these bytes, and gets no reply.
pub fn client<C: Codec>(shared: impl Fn() -> Arc<C::Shared>, bytes: &[u8]) -> Result<(), Breach> {
    let said = Part { from: Side::Client, slice: some_slice(bytes), bytes };
    agree::<C>(&shared, Attributes::Asked, Answered::default(), &[said])?;
    let some = Answered { refused: 0b1001_0010, given_up: 0b0100_1001 };
    agree::<C>(&shared, Attributes::Ignored, some, &[said])
}

/// The upstream sends these bytes, after the client has sent `requests`. `given_up` has a bit for
/// each of eight requests: those are given up before.
pub fn upstream<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    requests: &[u8],
    given_up: u8,
    bytes: &[u8],
) -> Result<(), Breach> {
    let asked = Part { from: Side::Client, slice: usize::MAX, bytes: requests };
    let said = Part { from: Side::Upstream, slice: some_slice(bytes), bytes };
    let answered = Answered { given_up, ..Answered::default() };
    agree::<C>(&shared, Attributes::Ignored, answered, &[asked, said])
}

/// Both sides speak. The first byte says which requests are refused, a bit for each of eight,
/// and the one after each of those is given up; then come parts, each of a byte that says who speaks and in slices of how many bytes, its
/// length (two bytes, little-endian), and what is said. [`script`] writes such bytes.
pub fn conversation<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    bytes: &[u8],
) -> Result<(), Breach> {
    let Some((&refused, mut rest)) = bytes.split_first() else { return Ok(()) };
    let mut parts = Vec::new();
    while let Some((&[how, low, high], after)) = rest.split_first_chunk::<HEAD>() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (bytes, after) = after.split_at(len);
        let from = if how & UPSTREAM == 0 { Side::Client } else { Side::Upstream };
        let slice = match how & !UPSTREAM {
            0 => usize::MAX,
            slice => slice.into(),
        };
        parts.push(Part { from, slice, bytes });
        rest = after;
    }
    // A recording's script refuses none: nor is any given up then.
    let given_up = refused.rotate_left(1) & !refused;
    agree::<C>(&shared, Attributes::Asked, Answered { refused, given_up }, &parts)
}

/// A recording as [`conversation`] reads it: nothing refused, and cut in slices of `slice` bytes
/// (at most 127; 0 is not at all).
pub fn script(fixture: &Fixture, slice: u8) -> Vec<u8> {
    let mut out = vec![0];
    for turn in &fixture.turns {
        for part in turn.bytes.chunks(u16::MAX.into()) {
            let side = if turn.from == Side::Upstream { UPSTREAM } else { 0 };
            out.push(side | slice & !UPSTREAM);
            out.extend((part.len() as u16).to_le_bytes());
            out.extend(part);
        }
    }
    out
}

/// What one side sends, in slices of `slice` bytes.
#[derive(Clone, Copy)]
struct Part<'b> {
    from: Side,
    slice: usize,
    bytes: &'b [u8],
}

/// Whether attributes are asked for, which takes most of the time.
#[derive(Clone, Copy, PartialEq)]
enum Attributes {
    Asked,
    Ignored,
}

/// Which requests the proxy answers itself: a bit for each of eight.
#[derive(Clone, Copy, Default)]
struct Answered {
    refused: u8,
    given_up: u8,
}

/// A slice that differs from input to input and is the same each time.
fn some_slice(bytes: &[u8]) -> usize {
    1 + bytes.len() % 61
}

/// Plays the parts whole, what one side says in a row at once, and cut.
fn agree<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    attributes: Attributes,
    answered: Answered,
    parts: &[Part<'_>],
) -> Result<(), Breach> {
    let holds = |bits: u8, place: usize| bits >> (place % 8) & 1 == 1;
    let refusing = move |place: usize| {
        holds(answered.refused, place).then_some(RejectReason::ALL[place % RejectReason::ALL.len()])
    };
    let giving_up = move |place| holds(answered.given_up, place);
    let whole = parts.iter().fold(Fixture::new("fuzzed"), |fixture, part| match part.from {
        Side::Client => fixture.client(part.bytes),
        Side::Upstream => fixture.upstream(part.bytes),
    });
    let run = || {
        // Eager, so that what is wrong with a message that never comes whole is seen in both.
        let run = Run::<C>::new(&shared()).eager().refusing(refusing).giving_up(giving_up);
        if attributes == Attributes::Asked { run } else { run.without_attributes() }
    };
    let whole = run().play(&whole, usize::MAX)?;
    let mut cut = run();
    cut.feed(Side::Client, &[])?;
    for part in parts {
        for bytes in part.bytes.chunks(part.slice) {
            cut.feed(part.from, bytes)?;
        }
    }
    cuts::agree(&whole, &cut)
}
