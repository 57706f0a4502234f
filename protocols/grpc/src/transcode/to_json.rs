//! Converts protobuf to JSON without a tree: a response needs its own length and its JSON's, whatever
//! it contains (protobuf, "ProtoJSON Format").

mod known;
mod map;
mod scalar;

use super::{
    field::{Field, MAX_DEPTH, WellKnown},
    wire::{LEN, Payload, WireError, next, next_packed, wire_type},
};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

/// Options of the JSON output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrintOptions {
    /// Write fields with default values too.
    pub(crate) defaults: bool,
    /// Use the field names of the `.proto` file.
    pub(crate) proto_names: bool,
}

/// Why a message can't be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrintError {
    /// The message does not match its descriptor.
    Wrong(String),
    /// The JSON exceeds this many bytes.
    TooLong(usize),
}

impl From<WireError> for PrintError {
    fn from(WireError(why): WireError) -> Self {
        PrintError::Wrong(why.to_owned())
    }
}

type PrintResult = Result<(), PrintError>;

fn invalid(why: impl Into<String>) -> PrintError {
    PrintError::Wrong(why.into())
}

/// Writes JSON.
pub(crate) struct Printer<'p> {
    pub(crate) out: Vec<u8>,
    style: PrintOptions,
    pool: &'p DescriptorPool,
    limit: usize,
}

/// A field that is present in a message.
struct PresentField<'a> {
    slot: Field,
    /// Its first occurrence: the index of the message part, and the bytes from there.
    piece: usize,
    rest: &'a [u8],
    /// Number of occurrences.
    times: usize,
    last: Payload<'a>,
}

impl<'p> Printer<'p> {
    /// `limit`: maximum JSON length in bytes, exceeded by at most the last value.
    pub(crate) fn new(pool: &'p DescriptorPool, style: PrintOptions, limit: usize) -> Self {
        Self { out: Vec::new(), style, pool, limit }
    }

    /// Writes a message. It may have several parts, which are merged (a repeated message field).
    ///
    /// # Errors
    /// The message does not match the descriptor, or is too deep or too long.
    pub(crate) fn message(
        &mut self,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
    ) -> PrintResult {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("it is deeper than {MAX_DEPTH} messages")));
        }
        self.fits()?;
        match WellKnown::of(message) {
            Some(known) => self.known(known, message, pieces, depth),
            None => {
                self.out.push(b'{');
                self.fields(message, pieces, depth, true)?;
                self.out.push(b'}');
                Ok(())
            }
        }
    }

    /// Writes one field of a message, even with its default value.
    ///
    /// # Errors
    /// As of [`message`](Self::message).
    pub(crate) fn single_field(
        &mut self,
        message: &MessageDescriptor,
        slot: &Field,
        bytes: &[u8],
    ) -> PrintResult {
        let pieces = [bytes];
        let seen = seen(message, &pieces)?;
        match seen.iter().find(|seen| seen.slot.number == slot.number) {
            Some(seen) => self.value(seen, &pieces, 0),
            None => self.default(slot),
        }
    }

    fn fits(&self) -> PrintResult {
        match self.out.len() > self.limit {
            true => Err(PrintError::TooLong(self.limit)),
            false => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> PrintResult {
        let written = serde_json::to_writer(&mut self.out, text);
        written.map_err(|error| invalid(error.to_string()))
    }

    /// Writes the fields of a message by number, without braces.
    fn fields(
        &mut self,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
        mut first: bool,
    ) -> PrintResult {
        let mut seen = seen(message, pieces)?;
        if self.style.defaults {
            for field in message.fields() {
                let at = seen.iter().position(|it| it.slot.number == field.number());
                if let Some(at) = at {
                    self.field(&seen.remove(at), pieces, depth, &mut first)?;
                } else if !field.supports_presence() {
                    let slot = Field::of_field(field);
                    self.name(&slot, &mut first)?;
                    self.default(&slot)?;
                }
            }
        }
        for seen in &seen {
            self.field(seen, pieces, depth, &mut first)?;
        }
        Ok(())
    }

    fn name(&mut self, slot: &Field, first: &mut bool) -> PrintResult {
        self.comma(first)?;
        self.text(slot.name(self.style.proto_names))?;
        self.out.push(b':');
        Ok(())
    }

    fn field(
        &mut self,
        seen: &PresentField<'_>,
        pieces: &[&[u8]],
        depth: usize,
        first: &mut bool,
    ) -> PrintResult {
        let slot = &seen.slot;
        let plain = !slot.presence && !slot.list && !slot.map;
        let empty = slot.list && !has_elements(seen, pieces)?;
        let default = empty || plain && seen.last == Payload::nothing(&slot.kind);
        if default && !self.style.defaults {
            return Ok(());
        }
        self.name(slot, first)?;
        self.value(seen, pieces, depth)
    }

    fn default(&mut self, slot: &Field) -> PrintResult {
        match (&slot.kind, slot.list, slot.map) {
            (_, _, true) => self.out.extend_from_slice(b"{}"),
            (_, true, _) => self.out.extend_from_slice(b"[]"),
            (Kind::Message(_), ..) => self.out.extend_from_slice(b"null"),
            (kind, ..) => self.scalar(kind, Payload::nothing(kind))?,
        }
        Ok(())
    }

    fn value(&mut self, seen: &PresentField<'_>, pieces: &[&[u8]], depth: usize) -> PrintResult {
        let slot = &seen.slot;
        match &slot.kind {
            Kind::Message(entry) if slot.map => self.map(entry, seen, pieces, depth),
            _ if slot.list => self.list(seen, pieces, depth),
            Kind::Message(message) if seen.times > 1 => {
                let mut parts = Vec::new();
                each(seen, pieces, |payload| {
                    parts.push(content(payload)?);
                    Ok(())
                })?;
                self.message(message, &parts, depth + 1)
            }
            kind => self.one(kind, seen.last, depth),
        }
    }

    /// One value.
    fn one(&mut self, kind: &Kind, payload: Payload<'_>, depth: usize) -> PrintResult {
        match kind {
            Kind::Message(message) => self.message(message, &[content(payload)?], depth + 1),
            kind => self.scalar(kind, payload),
        }
    }

    fn list(&mut self, seen: &PresentField<'_>, pieces: &[&[u8]], depth: usize) -> PrintResult {
        let kind = &seen.slot.kind;
        let packable = wire_type(kind) != LEN;
        let mut first = true;
        self.out.push(b'[');
        each(seen, pieces, |payload| match payload {
            Payload::Bytes(mut packed) if packable => {
                while let Some(payload) = next_packed(&mut packed, kind)? {
                    self.comma(&mut first)?;
                    self.scalar(kind, payload)?;
                }
                Ok(())
            }
            payload => {
                self.comma(&mut first)?;
                self.one(kind, payload, depth)
            }
        })?;
        self.out.push(b']');
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) -> PrintResult {
        self.fits()?;
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        Ok(())
    }
}

/// The present fields of a message, by number. Of a oneof, only the last.
fn seen<'a>(
    message: &MessageDescriptor,
    pieces: &[&'a [u8]],
) -> Result<Vec<PresentField<'a>>, PrintError> {
    let mut all: Vec<PresentField<'a>> = Vec::new();
    for (piece, bytes) in pieces.iter().enumerate() {
        let mut rest = *bytes;
        loop {
            let before = rest;
            let Some((number, payload)) = next(&mut rest)? else { break };
            match all.binary_search_by_key(&number, |seen| seen.slot.number) {
                Ok(at) => {
                    all[at].times += 1;
                    all[at].last = payload;
                }
                Err(mut at) => {
                    let Some(slot) = Field::numbered(message, number) else { continue };
                    if let Some(oneof) = &slot.oneof {
                        all.retain(|it| it.slot.oneof.as_ref() != Some(oneof));
                        at = all.partition_point(|it| it.slot.number < number);
                    }
                    let seen = PresentField { slot, piece, rest: before, times: 1, last: payload };
                    all.insert(at, seen);
                }
            }
        }
    }
    Ok(all)
}

/// Whether a present list has elements: a packed one may be empty.
fn has_elements(seen: &PresentField<'_>, pieces: &[&[u8]]) -> Result<bool, PrintError> {
    if wire_type(&seen.slot.kind) == LEN {
        return Ok(true);
    }
    let mut any = false;
    each(seen, pieces, |payload| {
        any |= payload != Payload::Bytes(&[]);
        Ok(())
    })?;
    Ok(any)
}

/// Visits all occurrences of a field, in order.
fn each<'a>(
    seen: &PresentField<'a>,
    pieces: &[&'a [u8]],
    mut what: impl FnMut(Payload<'a>) -> PrintResult,
) -> PrintResult {
    let mut left = seen.times;
    let mut rest = seen.rest;
    let mut more = pieces.iter().skip(seen.piece + 1);
    while left > 0 {
        match next(&mut rest)? {
            Some((number, payload)) if number == seen.slot.number => {
                left -= 1;
                what(payload)?;
            }
            Some(_) => {}
            None => match more.next() {
                Some(piece) => rest = piece,
                None => break,
            },
        }
    }
    Ok(())
}

/// The bytes of a message field.
fn content(payload: Payload<'_>) -> Result<&[u8], PrintError> {
    match payload {
        Payload::Bytes(bytes) | Payload::Group(bytes) => Ok(bytes),
        _ => Err(invalid("a message has another type on the wire")),
    }
}

#[cfg(test)]
mod tests;
