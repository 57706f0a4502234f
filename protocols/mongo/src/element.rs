//! The elements of a BSON document in a slice that may be truncated.
//!
//! Source: the BSON specification, version 1.1. Nothing is copied or trusted: a length that exceeds
//! its document ends the iteration.

pub(crate) mod kind;

use crate::number::{fixed_len, number, prefixed_len, u32_at};

/// One element of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Its type: see [`kind`].
    pub(crate) kind: u8,
    /// Its key.
    pub(crate) name: &'a [u8],
    /// Its value; a truncated document or array as far as it is here.
    pub(crate) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The text of a string; `None` for other types, and for invalid UTF-8.
    pub(crate) fn text(&self) -> Option<&'a str> {
        if self.kind == kind::STRING { self.utf8() } else { None }
    }

    /// The name in a string or a symbol: servers accept both as a collection name.
    pub(crate) fn name_text(&self) -> Option<&'a str> {
        if matches!(self.kind, kind::STRING | kind::SYMBOL) { self.utf8() } else { None }
    }

    fn utf8(&self) -> Option<&'a str> {
        std::str::from_utf8(self.value.get(4..self.value.len().checked_sub(1)?)?).ok()
    }

    /// Whether this is a number or boolean other than zero, as the server tests `ok` and `hello`.
    pub(crate) fn truthy(&self) -> bool {
        match self.kind {
            kind::DOUBLE => self.value.first_chunk().is_some_and(|v| f64::from_le_bytes(*v) != 0.0),
            kind::BOOLEAN | kind::INT32 | kind::INT64 => self.value.iter().any(|b| *b != 0),
            _ => false,
        }
    }

    /// A number, rounded towards zero; booleans count as 0 and 1.
    pub(crate) fn number(&self) -> Option<i64> {
        number(self.kind, self.value)
    }

    /// The bytes of binary data.
    pub(crate) fn binary(&self) -> Option<&'a [u8]> {
        if self.kind == kind::BINARY { self.value.get(5..) } else { None }
    }

    /// The elements of a document or an array.
    pub(crate) fn elements(&self) -> Option<Elements<'a>> {
        self.is_container().then(|| elements(self.value))
    }

    /// Whether the value is a document or an array.
    pub(crate) fn is_container(&self) -> bool {
        matches!(self.kind, kind::DOCUMENT | kind::ARRAY)
    }
}

/// The elements of a document or array that begins with its length and may be truncated anywhere.
///
/// The iteration ends where the bytes end or are invalid. A truncated document or array is returned
/// as far as it is here; other values only whole.
pub(crate) fn elements(document: &[u8]) -> Elements<'_> {
    let len = document_len(document).filter(|len| *len >= 5);
    let here = document.get(4..document.len().min(len.unwrap_or(0))).unwrap_or_default();
    let cut = len.is_none_or(|len| len > document.len());
    Elements {
        rest: here,
        cut,
        end: if here.is_empty() { WalkEnd::Early } else { WalkEnd::NotYet },
    }
}

/// Whether all of a document is here and valid.
pub(crate) fn is_complete(document: &[u8]) -> bool {
    let mut walk = elements(document);
    while walk.next().is_some() {}
    walk.is_complete()
}

/// Whether a name occurs twice.
pub(crate) fn has_duplicates(mut names: Vec<&[u8]>) -> bool {
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    names.len() < count
}

/// See [`elements`].
#[derive(Clone)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    /// The document is longer than the bytes that are here.
    cut: bool,
    end: WalkEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WalkEnd {
    NotYet,
    Terminator,
    Early,
}

impl Elements<'_> {
    /// Whether the iteration ended at the document's terminator.
    pub(crate) fn is_complete(&self) -> bool {
        self.end == WalkEnd::Terminator
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.end != WalkEnd::NotYet {
            return None;
        }
        let Some((element, rest)) = element(self.rest, self.cut) else {
            let proper = self.rest == [0] && !self.cut;
            self.end = if proper { WalkEnd::Terminator } else { WalkEnd::Early };
            return None;
        };
        self.rest = rest;
        Some(element)
    }
}

/// The element at the start of `bytes`, and the bytes after it.
#[inline]
fn element(bytes: &[u8], cut: bool) -> Option<(Element<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (name, rest) = cstring(rest)?;
    let (value, rest) = match rest.split_at_checked(value_len(kind, rest)?) {
        Some(parts) => parts,
        None if cut && matches!(kind, kind::DOCUMENT | kind::ARRAY) => (rest, &[][..]),
        None => return None,
    };
    Some((Element { kind, name, value }, rest))
}

/// The bytes before the first NUL, and those after it.
#[inline]
pub(crate) fn cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = nul(bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The position of the first NUL. Compares eight bytes at a time: most keys are no longer.
#[inline]
pub(crate) fn nul(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // The lowest set bit marks the first byte that borrowed: the first that is 0.
        let word = u64::from_le_bytes(*word);
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(8 * at + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == 0).map(|at| 8 * words.len() + at)
}

/// The length of the value at the start of `bytes`; `None` if it is not here or invalid.
#[inline]
pub(crate) fn value_len(kind: u8, bytes: &[u8]) -> Option<usize> {
    if let Some(size) = fixed_len(kind) {
        return Some(size as usize);
    }
    if kind == kind::REGEX {
        let (pattern, rest) = cstring(bytes)?;
        let (options, _) = cstring(rest)?;
        return Some(pattern.len() + options.len() + 2);
    }
    prefixed_len(kind, u32_at(bytes, 0)?).map(|size| size as usize)
}

/// The int32 at the start, if it can be a length.
fn document_len(bytes: &[u8]) -> Option<usize> {
    // Not negative, so that adding small numbers cannot overflow.
    usize::try_from(i32::from_le_bytes(*bytes.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests;
