//! Lines, and the fields in them.

use super::fault::{self, H1Error};
use std::ops::Range;

/// How far the lines at the front of what is held were read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineCursor {
    /// Where the line at hand begins.
    pub(super) start: usize,
    /// Everything before this was looked at: where the line at hand has no end yet.
    pub(super) seen: usize,
}

impl LineCursor {
    /// The line at hand, without its CRLF; `None` if its end is not here yet. A line that ends
    /// later than `most` bytes from the front is `too_long`.
    pub(super) fn line<'b>(
        &mut self,
        bytes: &'b [u8],
        most: usize,
        too_long: H1Error,
    ) -> Result<Option<&'b [u8]>, H1Error> {
        let near = &bytes[..bytes.len().min(most)];
        let unseen = near.get(self.seen..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            self.seen = near.len();
            return if bytes.len() >= most { Err(too_long) } else { Ok(None) };
        };
        let end = self.seen + at;
        let line = &bytes[self.start..end];
        let line = line.strip_suffix(b"\r").ok_or(fault::BARE_LF)?;
        self.start = end + 1;
        self.seen = end + 1;
        Ok(Some(line))
    }
}

/// Says of a line at fault that it has a CR in its midst, if that is so.
pub(super) fn blame(line: &[u8], otherwise: H1Error) -> H1Error {
    if memchr::memchr(b'\r', line).is_none() {
        return otherwise;
    }
    H1Error { in_body: otherwise.in_body, ..fault::BARE_CR }
}

/// A field line, taken apart.
pub(super) struct HeaderField<'b> {
    pub(super) name: &'b [u8],
    /// Without the whitespace around it.
    pub(super) value: &'b [u8],
    /// Where the value stands in the line.
    pub(super) place: Range<usize>,
    /// Whether the name has other characters than letters, digits and `-`.
    pub(super) odd: bool,
}

impl<'b> HeaderField<'b> {
    /// Reads a line that is not empty. What folds it differs for the `first` of them.
    pub(super) fn read(line: &'b [u8], first: bool) -> Result<Self, H1Error> {
        if let [b' ' | b'\t', ..] = line {
            let fault = if first { fault::WHITESPACE_BEFORE_HEADERS } else { fault::FOLDED_HEADER };
            return Err(fault);
        }
        let colon = memchr::memchr(b':', line).ok_or(fault::MISSING_COLON)?;
        let name = &line[..colon];
        let class = name.iter().fold(TOKEN | USUAL, |class, byte| class & CLASS[*byte as usize]);
        if name.is_empty() || class & TOKEN == 0 {
            return Err(match name {
                [] => fault::EMPTY_HEADER_NAME,
                [.., b' ' | b'\t'] => fault::SPACE_BEFORE_COLON,
                _ => fault::INVALID_HEADER_NAME,
            });
        }
        let value = &line[colon + 1..];
        if has_control(value) {
            return Err(fault::CONTROL_IN_HEADER);
        }
        let before = value.iter().take_while(|byte| is_blank(**byte)).count();
        let start = colon + 1 + before;
        let value = trim(value);
        let odd = class & USUAL == 0;
        Ok(HeaderField { name, value, place: start..start + value.len(), odd })
    }
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a list, without whitespace; empty ones are left out (RFC 9110 §5.6.1).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether there is a byte that no field value has (RFC 9110 §5.5). Without a branch a byte.
fn has_control(value: &[u8]) -> bool {
    value
        .iter()
        .fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Whether these are one or more characters of a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

pub(super) fn is_tchar(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// Whether a name has other characters than letters, digits and `-`.
pub(crate) fn is_odd(name: &str) -> bool {
    name.bytes().fold(USUAL, |class, byte| class & CLASS[byte as usize]) == 0
}

/// A character of a token.
const TOKEN: u8 = 1;
/// A character that nearly all names are made of.
const USUAL: u8 = 2;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-' {
            table[byte] = TOKEN | USUAL;
        }
        byte += 1;
    }
    let others = b"!#$%&'*+.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = TOKEN;
        at += 1;
    }
    table
};
