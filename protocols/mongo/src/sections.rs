//! The sections of an `OP_MSG` (specifications, message/OP_MSG), in any order.

use crate::number::u32_at;

/// Kinds of sections.
pub(crate) mod section_kind {
    /// One document: the command or the reply.
    pub(crate) const BODY: u8 = 0;
    /// A length, a NUL-terminated identifier, and documents.
    pub(crate) const SEQUENCE: u8 = 1;
    /// One document: `{otel: {traceparent: …}}`.
    pub(crate) const TELEMETRY: u8 = 3;
}

/// One section. Each kind that is known begins with its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'b> {
    pub(crate) kind: u8,
    /// The length that the section states, without its kind.
    pub(crate) len: usize,
    /// What is here of the section, from its length on.
    pub(crate) bytes: &'b [u8],
    /// How many bytes are here from its length on, those of later sections included.
    pub(crate) available: usize,
}

impl Section<'_> {
    /// Whether all of the section is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.available >= self.len.max(SHORTEST)
    }
}

/// The length of an empty document; no section is shorter.
const SHORTEST: usize = 5;

/// Walks over the sections in the bytes after an `OP_MSG`'s flags. The last one may be truncated.
/// A section whose length is not here is not returned.
pub(crate) struct Sections<'b> {
    rest: &'b [u8],
    truncated: bool,
}

/// The sections in the bytes after an `OP_MSG`'s flags.
pub(crate) fn sections(bytes: &[u8]) -> Sections<'_> {
    Sections { rest: bytes, truncated: false }
}

impl Sections<'_> {
    /// Whether every byte belongs to a section that was returned complete.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty() && !self.truncated
    }
}

impl<'b> Iterator for Sections<'b> {
    type Item = Section<'b>;

    #[inline]
    fn next(&mut self) -> Option<Section<'b>> {
        let (&kind, from_len) = self.rest.split_first()?;
        let len = u32_at(from_len, 0)? as usize;
        let bytes = &from_len[..len.min(from_len.len())];
        let section = Section { kind, len, bytes, available: from_len.len() };
        let rest = from_len.get(len.max(SHORTEST)..);
        self.truncated = rest.is_none();
        self.rest = rest.unwrap_or_default();
        Some(section)
    }
}
