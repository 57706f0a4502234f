//! The summary of a long request: its short parts, collected while it passes.
//!
//! A request may name its database after megabytes of documents. Its bytes pass as they arrive; the
//! summary keeps the short fields, and only the names of long ones. It is a message itself, so that
//! the same code reads both.

use crate::{
    bson_writer::BsonWriter,
    element::{cstring, kind, value_len},
    header::{HEADER_LEN, Header, flag, opcode},
    number::u32_at,
    sections::section_kind,
    violations::{BAD_DOCUMENT, DUPLICATE_FIELD, TOO_MANY_FIELDS, UNKNOWN_SECTION},
};
use operation::Violation;

/// The longest value, sequence or telemetry that is kept, in bytes.
const MAX_PART: usize = 2 * 1024;
/// The longest name of a field or sequence that is read, in bytes.
const MAX_NAME: usize = 1024;
/// How many bytes of an incomplete part are kept.
const MAX_PENDING: usize = MAX_PART + MAX_NAME + 16;
/// The longest summary, in bytes.
const MAX_SUMMARY: usize = 16 * 1024;
/// How many names are kept to detect duplicates.
const MAX_NAMES: usize = 256;

/// What is read next. Positions count from the end of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SummaryState {
    Flags,
    Section,
    /// In the body, which ends at this position.
    Body(usize),
    Done,
}

/// The summary of one `OP_MSG`.
#[derive(Debug)]
pub(crate) struct RequestSummary {
    header: Header,
    flags: u32,
    state: SummaryState,
    at: usize,
    /// The end of the sections.
    end: usize,
    /// Everything before this position is skipped.
    skip: usize,
    pending: Vec<u8>,
    /// The elements of the body, and the other sections.
    body: Option<Vec<u8>>,
    other_sections: Vec<u8>,
    /// Hashes of the names of the body's fields and of the sequences.
    name_hashes: Vec<u64>,
    has_telemetry: bool,
    broken: bool,
    violation: Option<Violation>,
}

impl RequestSummary {
    /// A summary of a message with this header, none of which has been read.
    pub(crate) fn new(header: Header) -> Self {
        Self {
            header,
            flags: 0,
            state: if header.opcode == opcode::MSG {
                SummaryState::Flags
            } else {
                SummaryState::Done
            },
            at: 0,
            end: (header.len as usize).saturating_sub(HEADER_LEN),
            skip: 0,
            pending: Vec::new(),
            body: None,
            other_sections: Vec::new(),
            name_hashes: Vec::new(),
            has_telemetry: false,
            broken: false,
            violation: None,
        }
    }

    /// Reads the next bytes of the message.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while self.state != SummaryState::Done && !bytes.is_empty() {
            let passed = self.skip.saturating_sub(self.at).min(bytes.len());
            self.at += passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return;
            }
            if self.pending.is_empty() {
                let used = self.parse_part(bytes);
                if used == 0 {
                    self.buffer(&mut bytes);
                } else {
                    (self.at, bytes) = (self.at + used, &bytes[used.min(bytes.len())..]);
                }
                continue;
            }
            let (had, mut rest) = (self.pending.len(), bytes);
            self.buffer(&mut rest);
            let pending = std::mem::take(&mut self.pending);
            let used = self.parse_part(&pending);
            if used == 0 {
                (self.pending, bytes) = (pending, rest);
            } else {
                // The pending bytes were an incomplete part, so at least these are used.
                let used = used.max(had);
                (self.at, bytes) = (self.at + used, &bytes[used - had..]);
            }
        }
    }

    /// How many of the next `len` bytes are not needed.
    pub(crate) fn skippable(&self, len: usize) -> usize {
        match self.state {
            SummaryState::Done => len,
            _ => len.min(self.skip.saturating_sub(self.at)),
        }
    }

    /// Skips bytes that are [`skippable`](RequestSummary::skippable).
    pub(crate) fn skip(&mut self, len: usize) {
        self.at += len;
    }

    /// How many bytes of the message are needed to read the next part.
    pub(crate) fn bytes_needed(&self) -> usize {
        HEADER_LEN + self.skip.max(self.at + self.pending.len()) + 1
    }

    /// The violation that was found since the last call.
    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Whether the message was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        let between = self.state == SummaryState::Section && self.at >= self.end;
        !self.broken && (between || self.state == SummaryState::Done)
    }

    /// The summary as a message; `None` if the message is not an `OP_MSG`. A body that was not read
    /// to its end is marked as truncated.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        let open = self.broken || matches!(self.state, SummaryState::Body(_));
        let body = self.body.map_or(Vec::new(), |elements| {
            let mut document = BsonWriter::new();
            document.elements(&elements);
            let document = if open { document.finish_truncated() } else { document.finish() };
            [&[section_kind::BODY][..], &document].concat()
        });
        let len = (HEADER_LEN + 4 + body.len() + self.other_sections.len()) as u32;
        let mut message = Header { len, ..self.header }.to_bytes();
        message.extend(self.flags.to_le_bytes());
        message.extend(body);
        message.extend(self.other_sections);
        (self.header.opcode == opcode::MSG).then_some(message)
    }

    /// Keeps bytes until the rest of their part is here.
    fn buffer(&mut self, bytes: &mut &[u8]) {
        let (more, rest) =
            bytes.split_at(bytes.len().min(MAX_PENDING - self.pending.len().min(MAX_PENDING)));
        self.pending.extend_from_slice(more);
        *bytes = rest;
        if more.is_empty() {
            self.fail(BAD_DOCUMENT);
        }
    }

    /// Reads a part at the start of `bytes`. Returns its length; 0 if it is incomplete.
    fn parse_part(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            SummaryState::Flags => {
                let Some(flags) = u32_at(bytes, 0) else { return 0 };
                let sum = if flags & flag::CHECKSUM_PRESENT == 0 { 0 } else { 4 };
                self.flags = flags & !flag::CHECKSUM_PRESENT;
                (self.end, self.state) = (self.end.saturating_sub(sum), SummaryState::Section);
                4
            }
            SummaryState::Section if self.at >= self.end => {
                self.state = SummaryState::Done;
                bytes.len()
            }
            SummaryState::Section => self.parse_section(bytes),
            SummaryState::Body(end) => self.parse_element(bytes, end),
            SummaryState::Done => bytes.len(),
        }
    }

    /// The start of a section: its kind, its length, and a sequence's identifier.
    fn parse_section(&mut self, bytes: &[u8]) -> usize {
        let (Some(kind), Some(len)) = (bytes.first(), u32_at(bytes, 1)) else { return 0 };
        let end = (self.at + 1).saturating_add(len as usize);
        if len < 5 || end > self.end {
            return self.fail(BAD_DOCUMENT);
        }
        match *kind {
            section_kind::BODY if self.body.is_none() => {
                (self.body, self.state) = (Some(Vec::new()), SummaryState::Body(end));
                return 5;
            }
            section_kind::SEQUENCE => {
                let Some((name, _)) = bytes.get(5..).and_then(cstring) else {
                    let long = bytes.len() > MAX_NAME;
                    return if long { self.fail(BAD_DOCUMENT) } else { 0 };
                };
                let front = 5 + name.len() + 1;
                if front > len as usize + 1 {
                    return self.fail(BAD_DOCUMENT);
                }
                let used = match name {
                    b"nsInfo" => self.keep_section(bytes, len as usize + 1),
                    _ => self.skip_to(end, front),
                };
                if used > 0 {
                    self.record_name(name);
                }
                return used;
            }
            section_kind::TELEMETRY if !self.has_telemetry => {
                let used = self.keep_section(bytes, len as usize + 1);
                self.has_telemetry = used > 0;
                return used;
            }
            section_kind::BODY | section_kind::TELEMETRY => self.violation = Some(DUPLICATE_FIELD),
            _ => return self.fail(UNKNOWN_SECTION),
        }
        self.skip_to(end, 5)
    }

    /// Skips everything before `end`, of which `used` bytes are here.
    fn skip_to(&mut self, end: usize, used: usize) -> usize {
        self.skip = end;
        used
    }

    /// Keeps a short section, and skips a long one.
    fn keep_section(&mut self, bytes: &[u8], len: usize) -> usize {
        if len > MAX_PART || self.kept_len() + len > MAX_SUMMARY {
            return self.skip_to(self.at + len, 1);
        }
        let Some(section) = bytes.get(..len) else { return 0 };
        self.other_sections.extend_from_slice(section);
        len
    }

    /// An element of the body, or the body's end.
    fn parse_element(&mut self, bytes: &[u8], end: usize) -> usize {
        let Some((&kind, rest)) = bytes.split_first() else { return 0 };
        if kind == 0 {
            self.state = SummaryState::Section;
            return if self.at + 1 == end { 1 } else { self.fail(BAD_DOCUMENT) };
        }
        let Some((name, value)) = cstring(rest) else {
            let long = rest.len() > MAX_NAME;
            return if long { self.fail(BAD_DOCUMENT) } else { 0 };
        };
        let Some(len) = value_len(kind, value) else {
            let long = value.len() > MAX_PART;
            return if long { self.fail(BAD_DOCUMENT) } else { 0 };
        };
        let front = 1 + name.len() + 1;
        let total = front.saturating_add(len);
        if self.at.saturating_add(total) >= end {
            return self.fail(BAD_DOCUMENT);
        }
        if len <= MAX_PART && bytes.len() < total {
            return 0;
        }
        self.record_name(name);
        let room = MAX_SUMMARY.saturating_sub(self.kept_len());
        let body = self.body.get_or_insert_default();
        match bytes.get(..total).filter(|_| len <= MAX_PART && total <= room) {
            Some(element) => body.extend_from_slice(element),
            // The field exists, and its value is not known.
            None if front <= room => {
                body.push(kind::MIN_KEY);
                body.extend_from_slice(name);
                body.push(0);
            }
            None => {}
        }
        self.skip_to(self.at + total, total.min(bytes.len()))
    }

    fn kept_len(&self) -> usize {
        self.other_sections.len() + self.body.as_ref().map_or(0, Vec::len)
    }

    /// Records a name, which must not occur twice.
    fn record_name(&mut self, name: &[u8]) {
        let hash = crate::call_sites::fnv1a(name);
        if self.name_hashes.contains(&hash) {
            self.violation = Some(DUPLICATE_FIELD);
        } else if self.name_hashes.len() < MAX_NAMES {
            self.name_hashes.push(hash);
        } else {
            self.violation = Some(TOO_MANY_FIELDS);
        }
    }

    /// The message cannot be read any further.
    fn fail(&mut self, violation: Violation) -> usize {
        (self.state, self.broken, self.violation) = (SummaryState::Done, true, Some(violation));
        1
    }
}

#[cfg(test)]
mod tests;
