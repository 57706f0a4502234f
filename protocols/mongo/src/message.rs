//! The parts of a request that is here, or of its front.

use crate::{
    element::{Elements, elements, kind},
    header::{self, HEADER, Header, flag, opcode},
    number::u32_at,
    shape,
};
use std::borrow::Cow;

/// How many sequences are looked at; the server takes no more than two.
const SEQUENCES: usize = 2;

/// Where everything is in the front of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'b> {
    pub(crate) header: Header,
    /// `OP_MSG`'s flags; none for other messages.
    pub(crate) flags: u32,
    /// The command, or a legacy query, from its length prefix to the cut; empty if not found.
    pub(crate) body: &'b [u8],
    /// The full collection name of a legacy message; empty for `OP_MSG`.
    pub(crate) namespace: &'b [u8],
    /// The section of kind 3: `{otel: {traceparent: …}}`; empty if there is none.
    pub(crate) telemetry: &'b [u8],
    /// Every section was understood and is here.
    pub(crate) whole: bool,
    /// Every section of an `OP_MSG` was understood; the last one may be cut, but none begins after
    /// the cut.
    pub(crate) mapped: bool,
    /// Some of an `OP_MSG` came as sequences.
    pub(crate) apart: bool,
    /// A legacy query as it came, with what may be wrapped around the command.
    outer: &'b [u8],
    sequences: [(&'b [u8], &'b [u8]); SEQUENCES],
}

impl<'b> Message<'b> {
    /// Finds the parts of the message that `bytes` begins with; what follows it is left alone.
    pub(crate) fn read(bytes: &'b [u8]) -> Option<Self> {
        let header = Header::read(bytes).ok()??;
        let bytes = &bytes[..bytes.len().min(header.len as usize)];
        let rest = bytes.get(HEADER..)?;
        let mut message = Self {
            header,
            flags: 0,
            body: &[],
            namespace: &[],
            telemetry: &[],
            whole: false,
            mapped: false,
            apart: false,
            outer: &[],
            sequences: [(&[], &[]); SEQUENCES],
        };
        match header.opcode {
            opcode::MSG => message.sections(rest),
            opcode::QUERY => {
                if let Ok((body, namespace)) = header::query(rest) {
                    (message.namespace, message.body) = (namespace, unwrap(body));
                    message.outer = body;
                    message.whole = document(body).is_some();
                }
            }
            _ => {
                if let Ok((_, namespace)) = header::legacy(rest) {
                    (message.namespace, message.whole) = (namespace, true);
                }
            }
        }
        Some(message)
    }

    /// A legacy query that asks for a command.
    pub(crate) fn legacy_command(&self) -> bool {
        self.header.opcode == opcode::QUERY && self.namespace.ends_with(b".$cmd")
    }

    /// The fields around a legacy command or query.
    pub(crate) fn wrapper(&self) -> Elements<'b> {
        elements(self.outer)
    }

    /// The documents of the sequence with this identifier, as far as they are here.
    pub(crate) fn sequence(&self, identifier: &[u8]) -> Option<&'b [u8]> {
        let found = self.sequences.iter().find(|(name, _)| !name.is_empty() && *name == identifier);
        found.map(|(_, documents)| *documents)
    }

    /// The command with the documents of its sequence inside, as it reads without sequences: as
    /// many as one shows of them.
    pub(crate) fn inline(&self) -> Cow<'b, [u8]> {
        let kept = ["updates", "deletes", "documents", "ops"];
        let found = kept.iter().find_map(|name| Some((name, self.sequence(name.as_bytes())?)));
        match found {
            Some((name, documents)) => Cow::Owned(shape::inline(self.body, name, documents)),
            None => Cow::Borrowed(self.body),
        }
    }

    /// Section upon section (specifications, message/OP_MSG); they may come in any order.
    fn sections(&mut self, rest: &'b [u8]) {
        let Some(flags) = u32_at(rest, 0) else { return };
        self.flags = flags;
        let sum = if flags & flag::CHECKSUM_PRESENT == 0 { 0 } else { 4 };
        let end = (self.header.len as usize).saturating_sub(HEADER + sum);
        let here = rest.len().min(end);
        let mut rest = rest.get(4..here).unwrap_or_default();
        while let Some((kind, section)) = rest.split_first() {
            let Some(len) = u32_at(section, 0).map(|len| len as usize) else { return };
            let left = end - (here - section.len());
            let part = &section[..len.min(section.len())];
            match kind {
                0 if self.body.is_empty() => self.body = part,
                1 => {
                    self.apart = true;
                    self.keep(part);
                }
                3 => self.telemetry = part,
                _ => return,
            }
            let Some(after) = section.get(len.max(5)..) else {
                self.mapped = len == left;
                return;
            };
            rest = after;
        }
        self.whole = here == end;
        self.mapped = self.whole;
    }

    fn keep(&mut self, section: &'b [u8]) {
        let Some(Ok((documents, name))) = section.get(4..).map(header::cstring) else { return };
        if let Some(free) = self.sequences.iter_mut().find(|(name, _)| name.is_empty()) {
            *free = (name, documents);
        }
    }
}

/// A legacy command may be wrapped: `{$query: {…}, $readPreference: …}`.
fn unwrap(body: &[u8]) -> &[u8] {
    match elements(body).next() {
        Some(first) if first.kind == kind::DOCUMENT && first.name == b"$query" => first.value,
        Some(first) if first.kind == kind::DOCUMENT && first.name == b"query" => first.value,
        _ => body,
    }
}

/// The document that `bytes` begin with, if it is all here.
pub(crate) fn document(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..u32_at(bytes, 0)? as usize)
}
