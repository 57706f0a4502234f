//! Plays a fuzzer's bytes as one side of a connection, or both.
//!
//! Each function plays them at once and in slices, with some requests rejected, and returns the rule
//! that a codec broke. A panic is left to the caller.

use super::{CodecRun, Fixture, RuleBreach, Side, cuts};
use crate::{Codec, RejectReason};
use std::sync::Arc;

/// The bytes before each part of a conversation: its side and slices, and its length.
const HEAD: usize = 3;
/// The bit of a part's first byte for a part from the upstream; the other bits are the size of its
/// slices in bytes, 0 for all at once.
const UPSTREAM: u8 = 0x80;

/// The client sends these bytes, and gets no reply.
pub fn client<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    bytes: &[u8],
) -> Result<(), RuleBreach> {
    let part = Part { from: Side::Client, slice: some_slice(bytes), bytes };
    agree::<C>(&shared, Attributes::Read, RepliedByProxy::default(), &[part])?;
    let some = RepliedByProxy { rejected: 0b1001_0010, given_up: 0b0100_1001 };
    agree::<C>(&shared, Attributes::Ignored, some, &[part])
}

/// The upstream sends these bytes, after the client has sent `requests`. `given_up` has a bit for
/// each of eight requests: those are given up first.
pub fn upstream<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    requests: &[u8],
    given_up: u8,
    bytes: &[u8],
) -> Result<(), RuleBreach> {
    let sent = Part { from: Side::Client, slice: usize::MAX, bytes: requests };
    let part = Part { from: Side::Upstream, slice: some_slice(bytes), bytes };
    let replied = RepliedByProxy { given_up, ..RepliedByProxy::default() };
    agree::<C>(&shared, Attributes::Ignored, replied, &[sent, part])
}

/// Both sides send. The first byte has a bit for each of eight requests that are rejected; the request
/// after each of those is given up. Then follow parts: a byte with the side and the size of slices, a
/// length (two bytes, little-endian), and the part's bytes. [`script`] writes this format.
pub fn conversation<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    bytes: &[u8],
) -> Result<(), RuleBreach> {
    let Some((&rejected, mut rest)) = bytes.split_first() else { return Ok(()) };
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
    // A recording's script rejects none, and so gives up none.
    let given_up = rejected.rotate_left(1) & !rejected;
    agree::<C>(&shared, Attributes::Read, RepliedByProxy { rejected, given_up }, &parts)
}

/// A recording in the format of [`conversation`], without rejections, in slices of `slice` bytes (at
/// most 127; 0 for all at once).
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

/// Bytes that one side sends, in slices of `slice` bytes.
#[derive(Clone, Copy)]
struct Part<'b> {
    from: Side,
    slice: usize,
    bytes: &'b [u8],
}

/// Whether attributes are read, which takes most of the time.
#[derive(Clone, Copy, PartialEq)]
enum Attributes {
    Read,
    Ignored,
}

/// The requests to which the proxy replies itself: a bit for each of eight.
#[derive(Clone, Copy, Default)]
struct RepliedByProxy {
    rejected: u8,
    given_up: u8,
}

/// A size of slices that depends on the input alone.
fn some_slice(bytes: &[u8]) -> usize {
    1 + bytes.len() % 61
}

/// Plays the parts at once, with consecutive parts of one side joined, and in slices.
fn agree<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    attributes: Attributes,
    replied: RepliedByProxy,
    parts: &[Part<'_>],
) -> Result<(), RuleBreach> {
    let holds = |bits: u8, place: usize| bits >> (place % 8) & 1 == 1;
    let rejecting = move |place: usize| {
        holds(replied.rejected, place).then_some(RejectReason::ALL[place % RejectReason::ALL.len()])
    };
    let giving_up = move |place| holds(replied.given_up, place);
    let whole = parts.iter().fold(Fixture::new("fuzzed"), |fixture, part| match part.from {
        Side::Client => fixture.client(part.bytes),
        Side::Upstream => fixture.upstream(part.bytes),
    });
    let run = || {
        // Eager, so that both runs see a violation in a message that never completes.
        let run = CodecRun::<C>::new(&shared()).eager().rejecting(rejecting).giving_up(giving_up);
        if attributes == Attributes::Read { run } else { run.without_attributes() }
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
