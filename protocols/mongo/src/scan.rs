//! Reads a few fields from a message of any length while its bytes pass.
//!
//! The scan is fed slices that are cut anywhere, keeps at most a key between two of them, and skips
//! by length what it does not need: a reply of 16 MB costs a few additions per read.
//!
//! The states ([`ScanState`]) and what follows each:
//!
//! ```text
//! Flags ─ OP_INSERT ─▶ SequenceName           ReplyHead (OP_REPLY) ─▶ Document, then Done
//!   └─ OP_MSG ─▶ Section ◀─────────────────────────────────────┐
//!                  ├─ kind 0 ─▶ Document ─▶ Kind … its end ────┤
//!                  ├─ kind 3 ─▶ Document, skipped ─────────────┤
//!                  ├─ kind 1 ─▶ SequenceSize ─▶ SequenceName   │
//!                  │              ├─ not counted, skipped ─────┤
//!                  │              └─▶ SequenceDocument … end ──┘
//!                  └─ end of the sections, unknown kind ─▶ Done
//! Kind ─▶ Key ─┬─ fixed length: recorded by Value, or skipped ─▶ Kind
//!              ├─ length prefix: Size, then entered or skipped ─▶ Kind
//!              └─ regex: Strings(2), Strings(1) ─▶ Kind
//! ```
//!
//! A wrong length in any state leads to `Done`, with [`MessageFacts::broken`] set.
//!
//! Example: the reply `{ok: 1}` in an `OP_MSG`, 18 bytes after its header.
//!
//! ```text
//!  0  00 00 00 00              Flags     no checksum: the sections end at 18
//!  4  00                       Section   kind 0, the body
//!  5  0D 00 00 00              Document  13 bytes, to 18; ReplyBody is entered
//!  9  10 6F 6B 00 01 00 00 00  Kind      int32 "ok" = 1, recorded at once by `whole_element`
//! 17  00                       Kind      the document ends where its length says
//! 18                           Section   the sections end: Done
//! ```
//!
//! If a slice ends at 11, the element is read in parts: `Kind` takes `10`, `Key` carries `6F` over
//! and completes with the next slice, and `Value` records the number.

use crate::{
    element::{cstring, kind, nul},
    header::{flag, opcode},
    number::{fixed_len, number, prefixed_len, u32_at},
    sections::section_kind,
};

mod facts;
pub(crate) use facts::{DocumentKind, ElementAction, MessageFacts};
use facts::{action_for, counted_sequence};

/// The length of the longest fixed part, that of `OP_REPLY`. Every key that is looked for is
/// shorter.
const CARRY: usize = 32;
/// How deep the documents nest that are entered.
const MAX_DEPTH: usize = 5;

/// The state of reading one message. Positions count from the end of its header.
#[derive(Debug)]
pub(crate) struct Scan {
    state: ScanState,
    /// The current position.
    at: u32,
    /// Everything before this position is skipped.
    skip_until: u32,
    /// The end of the sections or documents.
    end: u32,
    /// The end of the current sequence.
    sequence_end: u32,
    root: DocumentKind,
    opcode: i32,
    /// The current document, and those around it.
    frame: DocumentFrame,
    outer_frames: [DocumentFrame; MAX_DEPTH],
    depth: usize,
    kind: u8,
    action: ElementAction,
    /// The part of a key or of a number that came with the previous slice.
    carry: [u8; CARRY],
    carried: usize,
}

/// A document that the scan has entered.
#[derive(Clone, Copy, Debug)]
struct DocumentFrame {
    document: DocumentKind,
    end: u32,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    Flags,
    ReplyHead,
    Section,
    Document,
    SequenceSize,
    SequenceName,
    SequenceDocument,
    Kind,
    Key,
    Size,
    Value,
    /// This many NUL-terminated strings.
    Strings(u8),
    Done,
}

impl Scan {
    /// The scan of a request, with `len` bytes after its header.
    pub(crate) fn request(opcode: i32, len: u32) -> Self {
        Self::new(opcode, len, DocumentKind::RequestBody)
    }

    /// The scan of a reply, with `len` bytes after its header.
    pub(crate) fn reply(opcode: i32, len: u32) -> Self {
        Self::new(opcode, len, DocumentKind::ReplyBody)
    }

    fn new(code: i32, len: u32, root: DocumentKind) -> Self {
        let state = match code {
            opcode::MSG | opcode::INSERT => ScanState::Flags,
            opcode::REPLY => ScanState::ReplyHead,
            _ => ScanState::Done,
        };
        let frame = DocumentFrame { document: root, end: len };
        Self {
            state,
            at: 0,
            skip_until: 0,
            end: len,
            sequence_end: 0,
            root,
            opcode: code,
            frame,
            outer_frames: [frame; MAX_DEPTH],
            depth: 0,
            kind: 0,
            action: ElementAction::Skip,
            carry: [0; CARRY],
            carried: 0,
        }
    }

    /// Reads the next bytes of the message, and records its fields.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], facts: &mut MessageFacts) {
        while self.state != ScanState::Done {
            if self.at < self.skip_until {
                let gap = ((self.skip_until - self.at) as usize).min(bytes.len());
                self.at += gap as u32;
                bytes = &bytes[gap..];
            }
            if self.at < self.skip_until || self.advance(&mut bytes, facts).is_none() {
                return;
            }
        }
    }

    /// How many of the next `len` bytes the scan does not need.
    pub(crate) fn skippable(&self, len: usize) -> usize {
        match self.state {
            ScanState::Done => len,
            _ => len.min(self.skip_until.saturating_sub(self.at) as usize),
        }
    }

    /// Skips what it does not need of the next `len` bytes, before they are here. Returns how many:
    /// the next bytes to feed are those after them.
    pub(crate) fn skip(&mut self, len: usize) -> usize {
        let unseen = self.skippable(len);
        self.at += unseen as u32;
        unseen
    }

    /// Must be called when the message ends: records whether it was truncated.
    pub(crate) fn finish(&self, facts: &mut MessageFacts) {
        let between = self.state == ScanState::Section && self.at >= self.end;
        facts.broken |= self.at < self.skip_until || !(between || self.state == ScanState::Done);
    }

    /// Reads one part; `None` while it is incomplete.
    fn advance(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        match self.state {
            ScanState::Flags => {
                let flags = u32::from_le_bytes(self.take_bytes(bytes)?);
                self.flags(flags, facts);
            }
            ScanState::ReplyHead => {
                let head = self.take_bytes(bytes)?;
                self.reply_head(head, facts);
            }
            ScanState::Section if self.at >= self.end => self.state = ScanState::Done,
            ScanState::Section => {
                let [kind] = self.take_bytes(bytes)?;
                self.state = match kind {
                    section_kind::BODY | section_kind::TELEMETRY => ScanState::Document,
                    section_kind::SEQUENCE => ScanState::SequenceSize,
                    _ => ScanState::Done,
                };
                // Telemetry is a document too, but is not entered.
                self.action =
                    if kind == 0 { ElementAction::Enter(self.root) } else { ElementAction::Skip };
            }
            ScanState::Document => {
                let len = u32::from_le_bytes(self.take_bytes(bytes)?);
                let end = (self.at - 4).saturating_add(len);
                if len < 5 || end > self.end {
                    self.fail(facts);
                } else if let ElementAction::Enter(place) = self.action {
                    self.enter(DocumentFrame { document: place, end }, facts);
                } else {
                    (self.skip_until, self.state) = (end, ScanState::Section);
                }
            }
            ScanState::SequenceSize | ScanState::SequenceName | ScanState::SequenceDocument => {
                self.sequence(bytes, facts)?;
            }
            ScanState::Kind => self.kind(bytes, facts)?,
            ScanState::Key => self.key(bytes, facts)?,
            ScanState::Size => self.size(bytes, facts)?,
            ScanState::Value => self.value(bytes, facts)?,
            ScanState::Strings(left) => {
                self.take_cstring(bytes)?;
                self.carried = 0;
                self.state = if left > 1 { ScanState::Strings(left - 1) } else { ScanState::Kind };
            }
            ScanState::Done => {}
        }
        Some(())
    }

    fn flags(&mut self, flags: u32, facts: &mut MessageFacts) {
        if self.opcode == opcode::INSERT {
            // The full collection name, and documents to the end, like a sequence.
            (self.sequence_end, self.state) = (self.end, ScanState::SequenceName);
            return;
        }
        facts.flags = flags;
        if flags & flag::CHECKSUM_PRESENT != 0 {
            self.end = self.end.saturating_sub(4);
        }
        self.state = ScanState::Section;
    }

    /// `int32 flags; int64 cursorID; int32 startingFrom; int32 numberReturned`.
    fn reply_head(&mut self, head: [u8; 20], facts: &mut MessageFacts) {
        facts.flags = u32_at(&head, 0).unwrap_or_default();
        facts.cursor_id = number(kind::INT64, &head[4..]);
        let returned = u32_at(&head, 16).unwrap_or_default();
        // A document takes at least five bytes: a higher count is not trusted.
        facts.documents = u64::from(returned.min(self.end.saturating_sub(self.at) / 5));
        self.action = ElementAction::Enter(self.root);
        self.state = if facts.documents > 0 { ScanState::Document } else { ScanState::Done };
    }

    fn sequence(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        match self.state {
            ScanState::SequenceSize => {
                let size = u32::from_le_bytes(self.take_bytes(bytes)?);
                self.sequence_end = (self.at - 4).saturating_add(size);
                self.state = ScanState::SequenceName;
                if size < 5 || self.sequence_end > self.end {
                    self.fail(facts);
                }
            }
            ScanState::SequenceName => {
                let legacy = self.opcode == opcode::INSERT;
                let counted = self.take_cstring(bytes)?.is_some_and(counted_sequence) || legacy;
                self.carried = 0;
                self.state = ScanState::SequenceDocument;
                if !counted {
                    (self.skip_until, self.state) = (self.sequence_end, ScanState::Section);
                }
                if self.at > self.sequence_end {
                    self.fail(facts);
                }
            }
            _ if self.at >= self.sequence_end => self.state = ScanState::Section,
            _ => {
                let len = u32::from_le_bytes(self.take_bytes(bytes)?);
                let end = (self.at - 4).saturating_add(len);
                if len < 5 || end > self.sequence_end {
                    self.fail(facts);
                } else {
                    facts.documents += 1;
                    self.skip_until = end;
                }
            }
        }
        Some(())
    }

    /// The type of the next element, or the end of the document.
    fn kind(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        let end = self.frame.end;
        if self.at >= end {
            self.fail(facts);
            return Some(());
        }
        if self.whole_element(bytes, facts).is_some() {
            return Some(());
        }
        [self.kind] = self.take_bytes(bytes)?;
        if self.kind != 0 {
            self.state = ScanState::Key;
        } else if self.at != end {
            self.fail(facts);
        } else {
            self.depth -= 1;
            self.frame = self.outer_frames[self.depth];
            if self.depth == 0 {
                let done = self.opcode == opcode::REPLY;
                self.state = if done { ScanState::Done } else { ScanState::Section };
            }
        }
        Some(())
    }

    /// Reads an element at once, up to its value. `None` if that is not possible; nothing was
    /// consumed then, and the element is read part by part.
    fn whole_element(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        let (&kind, rest) = bytes.split_first().filter(|(kind, _)| **kind != 0)?;
        let (key, rest) = cstring(rest).filter(|(key, _)| key.len() < CARRY)?;
        let value = rest.first_chunk::<8>()?;
        let len = fixed_len(kind).or_else(|| prefixed_len(kind, u32_at(value, 0)?))?;
        *bytes = rest;
        self.at += 2 + key.len() as u32;
        match action_for(self.frame.document, key, kind, facts) {
            ElementAction::Enter(place) => {
                let end = self.at.saturating_add(len);
                self.take_bytes::<4>(bytes)?;
                self.enter(DocumentFrame { document: place, end }, facts);
                return Some(());
            }
            ElementAction::Record(note) => {
                number(kind, value).into_iter().for_each(|value| facts.record(note, value));
            }
            ElementAction::Skip => {}
        }
        self.skip_value(len, facts);
        Some(())
    }

    fn key(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        let (place, kind) = (self.frame.document, self.kind);
        let key = self.take_cstring(bytes)?;
        self.action = key.map_or(ElementAction::Skip, |key| action_for(place, key, kind, facts));
        self.carried = 0;
        match (fixed_len(kind), self.action) {
            (Some(_), ElementAction::Record(_)) => self.state = ScanState::Value,
            (Some(len), _) => self.skip_value(len, facts),
            (None, _) if kind == kind::REGEX => self.state = ScanState::Strings(2),
            (None, _) => self.state = ScanState::Size,
        }
        Some(())
    }

    /// The length prefix of a value.
    fn size(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        let len = u32::from_le_bytes(self.take_bytes(bytes)?);
        match (prefixed_len(self.kind, len), self.action) {
            (None, _) => self.fail(facts),
            (Some(len), ElementAction::Enter(place)) => {
                let end = (self.at - 4).saturating_add(len);
                self.enter(DocumentFrame { document: place, end }, facts);
            }
            (Some(len), _) => self.skip_value(len - 4, facts),
        }
        Some(())
    }

    fn value(&mut self, bytes: &mut &[u8], facts: &mut MessageFacts) -> Option<()> {
        let value = match fixed_len(self.kind) {
            Some(8) => number(self.kind, &self.take_bytes::<8>(bytes)?),
            Some(4) => number(self.kind, &self.take_bytes::<4>(bytes)?),
            Some(1) => number(self.kind, &self.take_bytes::<1>(bytes)?),
            _ => {
                self.skip_value(fixed_len(self.kind).unwrap_or_default(), facts);
                return Some(());
            }
        };
        if let (ElementAction::Record(note), Some(value)) = (self.action, value) {
            facts.record(note, value);
        }
        self.skip_value(0, facts);
        Some(())
    }

    /// Skips `len` bytes, to the next element.
    fn skip_value(&mut self, len: u32, facts: &mut MessageFacts) {
        (self.skip_until, self.state) = (self.at.saturating_add(len), ScanState::Kind);
        if self.skip_until > self.frame.end {
            self.fail(facts);
        }
    }

    fn enter(&mut self, frame: DocumentFrame, facts: &mut MessageFacts) {
        let outer = if self.depth == 0 { self.end } else { self.frame.end };
        match self.outer_frames.get_mut(self.depth) {
            Some(free) if frame.end <= outer => {
                *free = std::mem::replace(&mut self.frame, frame);
                self.depth += 1;
                self.state = ScanState::Kind;
            }
            _ => self.fail(facts),
        }
    }

    /// The message cannot be read any further.
    fn fail(&mut self, facts: &mut MessageFacts) {
        facts.broken = true;
        (self.skip_until, self.state) = (self.at, ScanState::Done);
    }

    /// The next `N` bytes, once they are all here.
    fn take_bytes<const N: usize>(&mut self, bytes: &mut &[u8]) -> Option<[u8; N]> {
        if self.carried == 0
            && let Some((part, rest)) = bytes.split_first_chunk::<N>()
        {
            *bytes = rest;
            self.at += N as u32;
            return Some(*part);
        }
        let more = bytes.len().min(N.saturating_sub(self.carried));
        self.carry_over(bytes, more);
        let part = self.carry.first_chunk::<N>().filter(|_| self.carried >= N).copied();
        if part.is_some() {
            self.carried = 0;
        }
        part
    }

    /// The next string, once its NUL is here; `Some(None)` if it is longer than every key that is
    /// looked for. The caller releases it by setting `carried` to 0.
    fn take_cstring<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8]) -> Option<Option<&'a [u8]>> {
        let Some(end) = nul(bytes) else {
            self.carry_over(bytes, bytes.len());
            return None;
        };
        if self.carried == 0 {
            let string = &bytes[..end];
            *bytes = &bytes[end + 1..];
            self.at += end as u32 + 1;
            return Some(Some(string).filter(|string| string.len() < CARRY));
        }
        self.carry_over(bytes, end);
        *bytes = &bytes[1..];
        self.at += 1;
        Some(self.carry.get(..self.carried).filter(|string| string.len() < CARRY))
    }

    /// Keeps the next `len` bytes for the next slice, or as many as fit.
    fn carry_over(&mut self, bytes: &mut &[u8], len: usize) {
        let (part, rest) = bytes.split_at(len);
        let free = &mut self.carry[self.carried.min(CARRY)..];
        let fits = part.len().min(free.len());
        free[..fits].copy_from_slice(&part[..fits]);
        self.carried += fits;
        self.at += len as u32;
        *bytes = rest;
    }
}

#[cfg(test)]
mod tests;
