//! Protobuf's wire format: a writer of messages and a reader of fields.
//!
//! Neither keeps a tree of the message, only its bytes.

use super::field::MAX_DEPTH;
use prost::encoding::{decode_varint, encode_varint};
use prost_reflect::Kind;

/// Wire types of a tag.
pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const LEN: u32 = 2;
pub(crate) const GROUP: u32 = 3;
pub(crate) const GROUP_END: u32 = 4;
pub(crate) const FIXED32: u32 = 5;

/// The wire type of a value of this kind outside packed lists.
pub(crate) fn wire_type(kind: &Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => LEN,
        _ => VARINT,
    }
}

/// Writes a message.
#[derive(Debug)]
pub(crate) struct MessageWriter {
    pub(crate) bytes: Vec<u8>,
    limit: usize,
    /// Names of the fields around an error, innermost first.
    unfit: Vec<String>,
}

impl MessageWriter {
    /// `limit`: maximum length in bytes, exceeded by at most the last value.
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, unfit: Vec::new() }
    }

    /// Adds an outer field name to the path of an error.
    pub(crate) fn add_error_field(&mut self, name: impl Into<String>) {
        self.unfit.push(name.into());
    }

    /// The path of the error, as prefix of its message: `book.author.name`. Empty without an error.
    pub(crate) fn error_path(&self) -> String {
        let names: Vec<_> = self.unfit.iter().rev().map(String::as_str).collect();
        if names.is_empty() { String::new() } else { format!("`{}`: ", names.join(".")) }
    }

    /// Whether the limit is exceeded.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes.len() > self.limit
    }

    pub(crate) fn varint(&mut self, value: u64) {
        encode_varint(value, &mut self.bytes);
    }

    pub(crate) fn tag(&mut self, number: u32, wire: u32) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    /// Writes a field of bytes.
    pub(crate) fn field(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, LEN);
        self.block(bytes);
    }

    /// Writes bytes with a length prefix.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins a block with a length prefix. Returns its start, for [`end`](Self::end).
    pub(crate) fn begin(&mut self) -> usize {
        self.bytes.push(0);
        self.bytes.len()
    }

    /// Inserts the length before the block that began at `from`.
    pub(crate) fn end(&mut self, from: usize) {
        let len = self.bytes.len() - from;
        // Most messages are short, with a length of one byte.
        if let Ok(short @ ..0x80) = u8::try_from(len) {
            self.bytes[from - 1] = short;
            return;
        }
        let mut prefix = Vec::with_capacity(10);
        encode_varint(len as u64, &mut prefix);
        self.bytes.splice(from - 1..from, prefix);
    }
}

/// A message is not valid protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireError(pub(crate) &'static str);

/// The encoded value of a field.
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
    /// The default value of a field of this kind.
    pub(crate) fn nothing(kind: &Kind) -> Self {
        match wire_type(kind) {
            VARINT => Payload::Varint(0),
            FIXED64 => Payload::Fixed64(0),
            FIXED32 => Payload::Fixed32(0),
            _ => Payload::Bytes(&[]),
        }
    }
}

/// Reads the next field of a message. Returns `None` at the end.
///
/// # Errors
/// The bytes are not a message.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Payload<'a>)>, WireError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (number, wire) = tag(rest)?;
    let payload = match wire {
        GROUP => Payload::Group(group(rest, number)?),
        GROUP_END => return Err(WireError("a group ends that did not begin")),
        wire => value(rest, wire)?,
    };
    Ok(Some((number, payload)))
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u32), WireError> {
    let wrong = WireError("a field's number can't be read");
    let tag = u32::try_from(varint(rest)?).map_err(|_| wrong)?;
    match tag >> 3 {
        0 => Err(wrong),
        number => Ok((number, tag & 7)),
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    decode_varint(rest).map_err(|_| WireError("a number of variable length can't be read"))
}

fn value<'a>(rest: &mut &'a [u8], wire: u32) -> Result<Payload<'a>, WireError> {
    const CUT: WireError = WireError("it is truncated");
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
        _ => return Err(WireError("a field has an unknown wire type")),
    })
}

/// Returns the fields of a group whose tag was read. Nested groups are skipped with a counter, without
/// recursion.
fn group<'a>(rest: &mut &'a [u8], number: u32) -> Result<&'a [u8], WireError> {
    let begin = *rest;
    let mut open = vec![number];
    loop {
        let before = rest.len();
        let (number, wire) = tag(rest)?;
        match wire {
            GROUP if open.len() == MAX_DEPTH => return Err(WireError("it is too deep")),
            GROUP => open.push(number),
            GROUP_END if open.pop() != Some(number) => {
                return Err(WireError("a group ends that did not begin"));
            }
            GROUP_END if open.is_empty() => return Ok(&begin[..begin.len() - before]),
            GROUP_END => {}
            wire => _ = value(rest, wire)?,
        }
    }
}

/// Reads the next value of a packed list. Returns `None` at the end.
///
/// # Errors
/// The bytes are not a list of this kind.
pub(crate) fn next_packed<'a>(
    rest: &mut &'a [u8],
    kind: &Kind,
) -> Result<Option<Payload<'a>>, WireError> {
    match wire_type(kind) {
        _ if rest.is_empty() => Ok(None),
        LEN => Err(WireError("a list of this kind can't be packed")),
        wire => value(rest, wire).map(Some),
    }
}
