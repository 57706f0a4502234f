//! Protobuf's wire format: a message that is being written, and the fields of one that is read.
//!
//! Neither keeps a tree of the message: what is held is the bytes themselves.

use super::slot::DEPTH;
use prost::encoding::{decode_varint, encode_varint};
use prost_reflect::Kind;

/// The types that a tag can say.
pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const LEN: u32 = 2;
pub(crate) const GROUP: u32 = 3;
pub(crate) const GROUP_END: u32 = 4;
pub(crate) const FIXED32: u32 = 5;

/// The type that a value of this kind has outside of packed lists.
pub(crate) fn wire_type(kind: &Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => LEN,
        _ => VARINT,
    }
}

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    limit: usize,
    /// The names of the fields in which something does not fit, the innermost first.
    unfit: Vec<String>,
}

impl Output {
    /// `limit` is how long it may become, in bytes, give or take its last value.
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, unfit: Vec::new() }
    }

    /// What was to be written in this field does not fit.
    pub(crate) fn unfit_in(&mut self, name: impl Into<String>) {
        self.unfit.push(name.into());
    }

    /// Where something does not fit, as a message begins: `book.author.name`. Empty if nowhere.
    pub(crate) fn place(&self) -> String {
        let names: Vec<_> = self.unfit.iter().rev().map(String::as_str).collect();
        if names.is_empty() { String::new() } else { format!("`{}`: ", names.join(".")) }
    }

    /// Whether it is longer than it may be.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes.len() > self.limit
    }

    pub(crate) fn varint(&mut self, value: u64) {
        encode_varint(value, &mut self.bytes);
    }

    pub(crate) fn tag(&mut self, number: u32, wire: u32) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    /// A field of bytes.
    pub(crate) fn field(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, LEN);
        self.block(bytes);
    }

    /// Bytes with their length before them.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins what will have its length before it; where, [`end`](Self::end) is to be told.
    pub(crate) fn begin(&mut self) -> usize {
        self.bytes.push(0);
        self.bytes.len()
    }

    /// Puts the length before what began there.
    pub(crate) fn end(&mut self, from: usize) {
        let len = self.bytes.len() - from;
        // Nearly every message is short, and its length one byte.
        if let Ok(short @ ..0x80) = u8::try_from(len) {
            self.bytes[from - 1] = short;
            return;
        }
        let mut prefix = Vec::with_capacity(10);
        encode_varint(len as u64, &mut prefix);
        self.bytes.splice(from - 1..from, prefix);
    }
}

/// A message can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// Text, bytes, a message, or a packed list.
    Bytes(&'a [u8]),
    /// The fields of a group.
    Group(&'a [u8]),
}

impl Payload<'_> {
    /// What a field of this kind says by not being there.
    pub(crate) fn nothing(kind: &Kind) -> Self {
        match wire_type(kind) {
            VARINT => Payload::Varint(0),
            FIXED64 => Payload::Fixed64(0),
            FIXED32 => Payload::Fixed32(0),
            _ => Payload::Bytes(&[]),
        }
    }
}

/// Takes the next field off a message; none at its end.
///
/// # Errors
/// It is no message.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Payload<'a>)>, Unreadable> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (number, wire) = tag(rest)?;
    let payload = match wire {
        GROUP => Payload::Group(group(rest, number)?),
        GROUP_END => return Err(Unreadable("a group ends that did not begin")),
        wire => value(rest, wire)?,
    };
    Ok(Some((number, payload)))
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u32), Unreadable> {
    let wrong = Unreadable("a field's number can't be read");
    let tag = u32::try_from(varint(rest)?).map_err(|_| wrong)?;
    match tag >> 3 {
        0 => Err(wrong),
        number => Ok((number, tag & 7)),
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    decode_varint(rest).map_err(|_| Unreadable("a number of variable length can't be read"))
}

fn value<'a>(rest: &mut &'a [u8], wire: u32) -> Result<Payload<'a>, Unreadable> {
    const CUT: Unreadable = Unreadable("it is cut off");
    Ok(match wire {
        VARINT => Payload::Varint(varint(rest)?),
        FIXED64 => {
            let (bytes, after) = rest.split_first_chunk().ok_or(CUT)?;
            *rest = after;
            Payload::Fixed64(u64::from_le_bytes(*bytes))
        }
        FIXED32 => {
            let (bytes, after) = rest.split_first_chunk().ok_or(CUT)?;
            *rest = after;
            Payload::Fixed32(u32::from_le_bytes(*bytes))
        }
        LEN => {
            let len = usize::try_from(varint(rest)?).map_err(|_| CUT)?;
            let (bytes, after) = rest.split_at_checked(len).ok_or(CUT)?;
            *rest = after;
            Payload::Bytes(bytes)
        }
        _ => return Err(Unreadable("a field has a type that there is not")),
    })
}

/// The fields of a group, whose tag was read. Groups within it are counted and not called for.
fn group<'a>(rest: &mut &'a [u8], number: u32) -> Result<&'a [u8], Unreadable> {
    let begin = *rest;
    let mut open = vec![number];
    loop {
        let before = rest.len();
        let (number, wire) = tag(rest)?;
        match wire {
            GROUP if open.len() == DEPTH => return Err(Unreadable("it is too deep")),
            GROUP => open.push(number),
            GROUP_END if open.pop() != Some(number) => {
                return Err(Unreadable("a group ends that did not begin"));
            }
            GROUP_END if open.is_empty() => return Ok(&begin[..begin.len() - before]),
            GROUP_END => {}
            wire => _ = value(rest, wire)?,
        }
    }
}

/// A packed list's next value; none at its end.
///
/// # Errors
/// It is no list of this kind.
pub(crate) fn next_packed<'a>(
    rest: &mut &'a [u8],
    kind: &Kind,
) -> Result<Option<Payload<'a>>, Unreadable> {
    match wire_type(kind) {
        _ if rest.is_empty() => Ok(None),
        LEN => Err(Unreadable("a list of this kind can't be packed")),
        wire => value(rest, wire).map(Some),
    }
}
