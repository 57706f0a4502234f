//! Lines and header fields.

use super::error::{self, H1Error};
use std::ops::Range;

/// How far the lines of the held bytes were parsed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineCursor {
    /// Start of the current line.
    pub(super) start: usize,
    /// Bytes before this were searched for the end of the line.
    pub(super) seen: usize,
}

impl LineCursor {
    /// The current line without CRLF; `None` if it is incomplete. A line that ends later than
    /// `most` bytes from the start is `too_long`.
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
        let line = line.strip_suffix(b"\r").ok_or(error::BARE_LF)?;
        self.start = end + 1;
        self.seen = end + 1;
        Ok(Some(line))
    }
}

/// Replaces the error of an invalid line if it contains a CR.
pub(super) fn blame(line: &[u8], otherwise: H1Error) -> H1Error {
    if memchr::memchr(b'\r', line).is_none() {
        return otherwise;
    }
    H1Error { in_body: otherwise.in_body, ..error::BARE_CR }
}

/// A parsed field line.
pub(super) struct HeaderField<'b> {
    pub(super) name: &'b [u8],
    /// Without surrounding whitespace.
    pub(super) value: &'b [u8],
    /// Range of the value in the line.
    pub(super) place: Range<usize>,
    /// Whether the name has characters other than letters, digits and `-`.
    pub(super) odd: bool,
}

impl<'b> HeaderField<'b> {
    /// Parses a non-empty line. Folding gives another error in the `first` one.
    pub(super) fn read(line: &'b [u8], first: bool) -> Result<Self, H1Error> {
        if let [b' ' | b'\t', ..] = line {
            let fault = if first { error::WHITESPACE_BEFORE_HEADERS } else { error::FOLDED_HEADER };
            return Err(fault);
        }
        let colon = memchr::memchr(b':', line).ok_or(error::MISSING_COLON)?;
        let name = &line[..colon];
        let class = name.iter().fold(TOKEN | USUAL, |class, byte| class & CLASS[*byte as usize]);
        if name.is_empty() || class & TOKEN == 0 {
            return Err(match name {
                [] => error::EMPTY_HEADER_NAME,
                [.., b' ' | b'\t'] => error::SPACE_BEFORE_COLON,
                _ => error::INVALID_HEADER_NAME,
            });
        }
        let value = &line[colon + 1..];
        if has_control(value) {
            return Err(error::CONTROL_IN_HEADER);
        }
        let before = value.iter().take_while(|byte| is_blank(**byte)).count();
        let start = colon + 1 + before;
        let value = trim(value);
        let odd = class & USUAL == 0;
        Ok(HeaderField { name, value, place: start..start + value.len(), odd })
    }
}

/// Without surrounding spaces and tabs.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a list, without whitespace and empty ones (RFC 9110 §5.6.1).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether it has a byte that is invalid in field values (RFC 9110 §5.5). No branch per byte.
fn has_control(value: &[u8]) -> bool {
    value
        .iter()
        .fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Whether these are one or more token characters (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

pub(super) fn is_tchar(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// Whether a name has characters other than letters, digits and `-`.
pub(crate) fn is_odd(name: &str) -> bool {
    name.bytes().fold(USUAL, |class, byte| class & CLASS[byte as usize]) == 0
}

/// A token character.
const TOKEN: u8 = 1;
/// A character of usual header names.
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
