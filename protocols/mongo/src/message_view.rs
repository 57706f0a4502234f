//! The parts of a request, or of its front.

use crate::{
    element::{Elements, cstring, elements, has_duplicates, is_complete, kind},
    header::{self, HEADER_LEN, Header, flag, opcode},
    number::u32_at,
    request_summary::RequestSummary,
    sections::{section_kind, sections},
    shape,
};
use std::borrow::Cow;

/// How many sequences are recorded. The server accepts two; with the third, a duplicate is still
/// reported as one and not as an unknown section.
const MAX_SEQUENCES: usize = 3;

/// Where the parts of a request are in its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'b> {
    pub(crate) header: Header,
    /// `OP_MSG`'s flags; 0 for other messages.
    pub(crate) flags: u32,
    /// The command or the legacy query, from its length on, as far as it is here; empty if not
    /// found.
    pub(crate) body: &'b [u8],
    /// The full collection name of a legacy message; empty for `OP_MSG`.
    pub(crate) namespace: &'b [u8],
    /// The section of kind 3: `{otel: {traceparent: …}}`; empty if there is none.
    pub(crate) telemetry: &'b [u8],
    /// Every section is known and is here.
    pub(crate) complete: bool,
    /// Every section of an `OP_MSG` is known. The last one may be truncated, but none begins after
    /// the bytes that are here.
    pub(crate) sections_located: bool,
    /// The `OP_MSG` has sections of kind 1.
    pub(crate) has_sequences: bool,
    /// A section occurs twice. Servers differ in which one they use.
    pub(crate) has_duplicate_section: bool,
    /// A section is of an unknown kind; what follows it cannot be read.
    pub(crate) has_unknown_section: bool,
    /// More bytes of the message follow.
    pub(crate) truncated: bool,
    /// All bytes of the message that are here.
    bytes: &'b [u8],
    /// A legacy query as sent, including what wraps the command.
    query_document: &'b [u8],
    sequences: [(&'b [u8], &'b [u8]); MAX_SEQUENCES],
}

impl<'b> MessageView<'b> {
    /// Finds the parts of the message at the start of `bytes`; bytes after it are ignored.
    pub(crate) fn read(bytes: &'b [u8]) -> Option<Self> {
        let header = Header::read(bytes).ok()??;
        let bytes = &bytes[..bytes.len().min(header.len as usize)];
        let rest = bytes.get(HEADER_LEN..)?;
        let mut message = Self {
            header,
            flags: 0,
            body: &[],
            namespace: &[],
            telemetry: &[],
            complete: false,
            sections_located: false,
            has_sequences: false,
            has_duplicate_section: false,
            has_unknown_section: false,
            truncated: bytes.len() < header.len as usize,
            bytes,
            query_document: &[],
            sequences: [(&[], &[]); MAX_SEQUENCES],
        };
        match header.opcode {
            opcode::MSG => message.read_sections(rest),
            opcode::QUERY => {
                if let Some((namespace, body)) = header::query(rest) {
                    (message.namespace, message.body) = (namespace, unwrap_query(body));
                    message.query_document = body;
                    message.complete = document(body).is_some();
                }
            }
            _ => {
                if let Some(namespace) = header::legacy(rest) {
                    (message.namespace, message.complete) = (namespace, true);
                }
            }
        }
        Some(message)
    }

    /// All bytes of the message that are here.
    pub(crate) fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Whether this is an `OP_QUERY` that runs a command.
    pub(crate) fn legacy_command(&self) -> bool {
        self.header.opcode == opcode::QUERY && self.namespace.ends_with(b".$cmd")
    }

    /// The fields around a legacy command or query.
    pub(crate) fn query_fields(&self) -> Elements<'b> {
        elements(self.query_document)
    }

    /// Whether a legacy command contains another one as `$query` that is not its first field, or a
    /// duplicate field around it.
    pub(crate) fn has_misplaced_query(&self) -> bool {
        let wrapped = self.query_document.as_ptr() != self.body.as_ptr();
        let names: Vec<&[u8]> = self.query_fields().map(|field| field.name).collect();
        let late = names.iter().skip(1).any(|name| *name == b"$query");
        late || wrapped && has_duplicates(names)
    }

    /// Whether this is an `OP_QUERY`: its command may be inside another document.
    pub(crate) fn is_legacy_query(&self) -> bool {
        !self.query_document.is_empty()
    }

    /// The documents of the sequence with this identifier, as far as they are here.
    pub(crate) fn sequence(&self, identifier: &[u8]) -> Option<&'b [u8]> {
        let found = self.sequences.iter().find(|(name, _)| !name.is_empty() && *name == identifier);
        found.map(|(_, documents)| *documents)
    }

    /// The command with the documents of its sequences inserted as arrays; at most as many as a
    /// shape shows.
    pub(crate) fn body_with_sequences(&self) -> Cow<'b, [u8]> {
        let kept = ["updates", "deletes", "documents", "ops", "nsInfo"];
        kept.iter().fold(Cow::Borrowed(self.body), |body, name| {
            match self.sequence(name.as_bytes()) {
                Some(documents) => Cow::Owned(shape::with_sequence(&body, name, documents)),
                None => body,
            }
        })
    }

    fn read_sections(&mut self, rest: &'b [u8]) {
        let Some(flags) = u32_at(rest, 0) else { return };
        self.flags = flags;
        let checksum = if flags & flag::CHECKSUM_PRESENT == 0 { 0 } else { 4 };
        let end = (self.header.len as usize).saturating_sub(HEADER_LEN + checksum);
        let here = rest.len().min(end);
        let mut sections = sections(rest.get(4..here).unwrap_or_default());
        for section in sections.by_ref() {
            match section.kind {
                section_kind::BODY if self.body.is_empty() => self.body = section.bytes,
                section_kind::SEQUENCE => {
                    self.has_sequences = true;
                    self.has_unknown_section = !self.add_sequence(section.bytes);
                }
                section_kind::TELEMETRY if self.telemetry.is_empty() => {
                    self.telemetry = section.bytes;
                }
                section_kind::BODY | section_kind::TELEMETRY => self.has_duplicate_section = true,
                _ => self.has_unknown_section = true,
            }
            if self.has_unknown_section {
                return;
            }
            if !section.is_complete() {
                let left = end - (here - section.available);
                // A sequence whose identifier is truncated may be any sequence.
                let identified = section.kind != section_kind::SEQUENCE
                    || section.bytes.get(4..).is_some_and(|rest| rest.contains(&0));
                self.sections_located = section.len == left && identified;
                return;
            }
        }
        self.complete = sections.is_at_end() && here == end;
        self.sections_located = self.complete;
    }

    /// Records a sequence. Returns `false` if there are too many.
    fn add_sequence(&mut self, section: &'b [u8]) -> bool {
        // If the identifier is truncated, this is the last section that is here.
        let Some((name, documents)) = section.get(4..).and_then(cstring) else {
            return true;
        };
        self.has_duplicate_section |=
            self.sequences.iter().any(|(known, _)| *known == name && !name.is_empty());
        let free = self.sequences.iter_mut().find(|(name, _)| name.is_empty());
        free.map(|free| *free = (name, documents)).is_some()
    }

    /// Whether the command and the telemetry are in the first `len` bytes of the message. Sequences
    /// need not be.
    pub(crate) fn ends_within(&self, len: usize) -> bool {
        let end = |part: &[u8]| part.as_ptr().addr() + part.len();
        let parts = [self.body, self.telemetry].into_iter().filter(|part| !part.is_empty());
        parts.map(end).max().is_none_or(|end| end <= self.bytes.as_ptr().addr() + len)
    }

    /// The summary of an `OP_MSG`, as a message.
    pub(crate) fn summary(&self) -> Option<Vec<u8>> {
        let mut digest = RequestSummary::new(self.header);
        digest.feed(&self.bytes[HEADER_LEN..]);
        digest.finish()
    }

    /// Whether a sequence has the name of a field of the body: a duplicate field.
    pub(crate) fn has_sequence_named(&self, name: &[u8]) -> bool {
        self.has_sequences && self.sequence(name).is_some()
    }

    /// Whether the command is here to its end, so that a field that is not found is absent.
    pub(crate) fn has_complete_body(&self) -> bool {
        is_complete(self.body)
            && (self.query_document.is_empty() || is_complete(self.query_document))
    }
}

/// A legacy command may be wrapped: `{$query: {…}, $readPreference: …}`.
fn unwrap_query(body: &[u8]) -> &[u8] {
    match elements(body).next() {
        Some(first) if first.kind == kind::DOCUMENT && first.name == b"$query" => first.value,
        Some(first) if first.kind == kind::DOCUMENT && first.name == b"query" => first.value,
        _ => body,
    }
}

/// The document at the start of `bytes`, if all of it is here.
pub(crate) fn document(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..u32_at(bytes, 0)? as usize)
}
