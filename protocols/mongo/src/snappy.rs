//! Raw snappy, decoded as it arrives, with a bounded window.
//!
//! Written from the format's description (google/snappy, format_description.txt). The usual
//! decoders need the whole block, and memory for all of its output.

use crate::violations::{BAD_COMPRESSION, DECOMPRESSION_BOMB};
use operation::Violation;

/// How far back a copy may reach, in bytes. Encoders use blocks of 64 KiB; this leaves room for
/// larger ones.
pub(crate) const WINDOW: usize = 256 * 1024;
/// How many bytes more are kept before the window is moved, so that it is moved rarely.
const SLACK: usize = 128 * 1024;
/// The longest piece that is passed on, in bytes.
const MAX_PIECE: usize = 16 * 1024;
/// The longest tag: a literal or a copy with four bytes of operand.
const MAX_TAG_LEN: usize = 5;

/// The decoder of one block.
pub(crate) struct SnappyDecoder {
    /// The latest output: all of it, or at least the last [`WINDOW`] bytes.
    window: Vec<u8>,
    /// How many bytes of `window` the sink has got.
    sent: usize,
    /// How many bytes of output may still come.
    room: u32,
    state: SnappyState,
}

enum SnappyState {
    /// Within the length that opens the block.
    Length { value: u64, shift: u32 },
    /// Within a tag, whose first `len` bytes came with the last slice.
    Tag { carry: [u8; MAX_TAG_LEN], len: usize },
    /// Within a literal.
    Literal { left: u32 },
}

const NO_CARRY: SnappyState = SnappyState::Tag { carry: [0; MAX_TAG_LEN], len: 0 };

enum Tag {
    Literal { len: u64 },
    Copy { len: usize, offset: usize },
}

impl SnappyDecoder {
    /// A decoder of a block with exactly `size` bytes of output.
    pub(crate) fn new(size: u32) -> Self {
        let state = SnappyState::Length { value: 0, shift: 0 };
        Self { window: Vec::new(), sent: 0, room: size, state }
    }

    /// Whether the block is complete.
    pub(crate) fn ended(&self) -> bool {
        self.room == 0 && matches!(self.state, SnappyState::Tag { len: 0, .. })
    }

    /// Decodes more of the block; `sink` gets pieces of at most 16 KiB.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let used = match self.state {
                SnappyState::Length { value, shift } => self.length(value, shift, bytes[0])?,
                SnappyState::Tag { carry, len } => self.tag(carry, len, bytes, sink)?,
                SnappyState::Literal { left } => {
                    let n = bytes.len().min(left as usize).min(MAX_PIECE);
                    self.make_room(n, sink);
                    self.window.extend_from_slice(&bytes[..n]);
                    let left = left - n as u32;
                    self.state = if left == 0 { NO_CARRY } else { SnappyState::Literal { left } };
                    n
                }
            };
            bytes = &bytes[used..];
        }
        self.flush(sink);
        Ok(())
    }

    fn length(&mut self, value: u64, shift: u32, byte: u8) -> Result<usize, Violation> {
        let value = value | u64::from(byte & 0x7F) << shift;
        self.state = match byte & 0x80 {
            0 if value > u64::from(self.room) => return Err(DECOMPRESSION_BOMB),
            0 if value < u64::from(self.room) => return Err(BAD_COMPRESSION),
            0 => NO_CARRY,
            _ if shift == 28 => return Err(BAD_COMPRESSION),
            _ => SnappyState::Length { value, shift: shift + 7 },
        };
        Ok(1)
    }

    /// Reads and applies a tag, of which the first `len` bytes may be in `carry`.
    fn tag(
        &mut self,
        mut carry: [u8; MAX_TAG_LEN],
        len: usize,
        bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Violation> {
        let (tag, used) = if len == 0 && bytes.len() >= MAX_TAG_LEN {
            let Some((tag, size)) = read_tag(bytes) else { return Err(BAD_COMPRESSION) };
            (tag, size)
        } else {
            let taken = bytes.len().min(MAX_TAG_LEN - len);
            carry[len..len + taken].copy_from_slice(&bytes[..taken]);
            let Some((tag, size)) = read_tag(&carry[..len + taken]) else {
                self.state = SnappyState::Tag { carry, len: len + taken };
                return Ok(taken);
            };
            (tag, size - len)
        };
        match tag {
            Tag::Literal { len } => {
                let left = u32::try_from(len).map_err(|_| DECOMPRESSION_BOMB)?;
                self.room = self.room.checked_sub(left).ok_or(DECOMPRESSION_BOMB)?;
                self.state = SnappyState::Literal { left };
            }
            Tag::Copy { len, offset } => {
                self.room = self.room.checked_sub(len as u32).ok_or(DECOMPRESSION_BOMB)?;
                if offset == 0 || offset > self.window.len().min(WINDOW) {
                    return Err(BAD_COMPRESSION);
                }
                self.make_room(len, sink);
                self.copy(len, offset);
                self.state = NO_CARRY;
            }
        }
        Ok(used)
    }

    /// Appends `len` bytes from `offset` back. If they overlap, they repeat.
    fn copy(&mut self, mut len: usize, offset: usize) {
        while len > 0 {
            let n = len.min(offset);
            let from = self.window.len() - offset;
            self.window.extend_from_within(from..from + n);
            len -= n;
        }
    }

    fn make_room(&mut self, n: usize, sink: &mut dyn FnMut(&[u8])) {
        if self.window.len() + n > WINDOW + SLACK {
            self.flush(sink);
            let old = self.window.len().saturating_sub(WINDOW);
            self.window.copy_within(old.., 0);
            self.window.truncate(self.window.len() - old);
            self.sent = self.window.len();
        }
    }

    fn flush(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.window[self.sent..].chunks(MAX_PIECE).for_each(sink);
        self.sent = self.window.len();
    }
}

/// The tag at the start, and its length; `None` if it is incomplete.
fn read_tag(bytes: &[u8]) -> Option<(Tag, usize)> {
    let tag = *bytes.first()?;
    let high = tag >> 2;
    Some(match tag & 3 {
        0 if high < 60 => (Tag::Literal { len: u64::from(high) + 1 }, 1),
        0 => {
            let size = usize::from(high) - 59;
            (Tag::Literal { len: operand(bytes, size)? + 1 }, 1 + size)
        }
        1 => {
            let offset = usize::from(tag >> 5) << 8 | operand(bytes, 1)? as usize;
            (Tag::Copy { len: usize::from(high & 7) + 4, offset }, 2)
        }
        kind => {
            let size = if kind == 2 { 2 } else { 4 };
            let offset = operand(bytes, size)? as usize;
            (Tag::Copy { len: usize::from(high) + 1, offset }, 1 + size)
        }
    })
}

/// The little-endian number of `size` bytes after a tag's first.
fn operand(bytes: &[u8], size: usize) -> Option<u64> {
    let bytes = bytes.get(1..1 + size)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

#[cfg(test)]
mod tests;
