//! Writes a protobuf message as JSON straight from its bytes: no tree of it is ever there, so an
//! answer takes its own length and its JSON's, whatever is in it (protobuf, "ProtoJSON Format").

mod known;
mod map;
mod scalar;

use super::{
    slot::{DEPTH, Known, Slot},
    wire::{LEN, Payload, Unreadable, next, next_packed, wire_type},
};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

/// How messages are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// Fields that have their default value are written too.
    pub(crate) defaults: bool,
    /// Fields have the names of the `.proto` file.
    pub(crate) proto_names: bool,
}

/// Why a message has no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unprintable {
    /// It is not what its descriptor says.
    Wrong(String),
    /// Its JSON is longer than this many bytes.
    TooLong(usize),
}

impl From<Unreadable> for Unprintable {
    fn from(Unreadable(why): Unreadable) -> Self {
        Unprintable::Wrong(why.to_owned())
    }
}

type Printed = Result<(), Unprintable>;

fn wrong(why: impl Into<String>) -> Unprintable {
    Unprintable::Wrong(why.into())
}

/// JSON that is being written.
pub(crate) struct Printer<'p> {
    pub(crate) out: Vec<u8>,
    style: Style,
    pool: &'p DescriptorPool,
    limit: usize,
}

/// A field that a message has.
struct Seen<'a> {
    slot: Slot,
    /// Where it is first: which piece of the message, and what follows there.
    piece: usize,
    rest: &'a [u8],
    /// How often it is there.
    times: usize,
    last: Payload<'a>,
}

impl<'p> Printer<'p> {
    /// `limit` is how long the JSON may become, in bytes, give or take its last value.
    pub(crate) fn new(pool: &'p DescriptorPool, style: Style, limit: usize) -> Self {
        Self { out: Vec::new(), style, pool, limit }
    }

    /// Writes a message. It may be in pieces, which are merged: a field that is there twice is.
    ///
    /// # Errors
    /// It is not what the descriptor says, too deep, or too long.
    pub(crate) fn message(
        &mut self,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
    ) -> Printed {
        if depth > DEPTH {
            return Err(wrong(format!("it is deeper than {DEPTH} messages")));
        }
        self.fits()?;
        match Known::of(message) {
            Some(known) => self.known(known, message, pieces, depth),
            None => {
                self.out.push(b'{');
                self.fields(message, pieces, depth, true)?;
                self.out.push(b'}');
                Ok(())
            }
        }
    }

    /// Writes one field of a message and nothing else, also where it has its default.
    ///
    /// # Errors
    /// As of [`message`](Self::message).
    pub(crate) fn alone(
        &mut self,
        message: &MessageDescriptor,
        slot: &Slot,
        bytes: &[u8],
    ) -> Printed {
        let pieces = [bytes];
        let seen = seen(message, &pieces)?;
        match seen.iter().find(|seen| seen.slot.number == slot.number) {
            Some(seen) => self.value(seen, &pieces, 0),
            None => self.default(slot),
        }
    }

    fn fits(&self) -> Printed {
        match self.out.len() > self.limit {
            true => Err(Unprintable::TooLong(self.limit)),
            false => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> Printed {
        let written = serde_json::to_writer(&mut self.out, text);
        written.map_err(|error| wrong(error.to_string()))
    }

    /// The fields of a message, by number, without the braces.
    fn fields(
        &mut self,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
        mut first: bool,
    ) -> Printed {
        let mut seen = seen(message, pieces)?;
        if self.style.defaults {
            for field in message.fields() {
                let at = seen.iter().position(|it| it.slot.number == field.number());
                if let Some(at) = at {
                    self.field(&seen.remove(at), pieces, depth, &mut first)?;
                } else if !field.supports_presence() {
                    let slot = Slot::field(field);
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

    fn name(&mut self, slot: &Slot, first: &mut bool) -> Printed {
        self.comma(first)?;
        self.text(slot.name(self.style.proto_names))?;
        self.out.push(b':');
        Ok(())
    }

    fn field(
        &mut self,
        seen: &Seen<'_>,
        pieces: &[&[u8]],
        depth: usize,
        first: &mut bool,
    ) -> Printed {
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

    fn default(&mut self, slot: &Slot) -> Printed {
        match (&slot.kind, slot.list, slot.map) {
            (_, _, true) => self.out.extend_from_slice(b"{}"),
            (_, true, _) => self.out.extend_from_slice(b"[]"),
            (Kind::Message(_), ..) => self.out.extend_from_slice(b"null"),
            (kind, ..) => self.scalar(kind, Payload::nothing(kind))?,
        }
        Ok(())
    }

    fn value(&mut self, seen: &Seen<'_>, pieces: &[&[u8]], depth: usize) -> Printed {
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
    fn one(&mut self, kind: &Kind, payload: Payload<'_>, depth: usize) -> Printed {
        match kind {
            Kind::Message(message) => self.message(message, &[content(payload)?], depth + 1),
            kind => self.scalar(kind, payload),
        }
    }

    fn list(&mut self, seen: &Seen<'_>, pieces: &[&[u8]], depth: usize) -> Printed {
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

    fn comma(&mut self, first: &mut bool) -> Printed {
        self.fits()?;
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        Ok(())
    }
}

/// The fields that a message has, by number. Of a oneof that is the last one.
fn seen<'a>(
    message: &MessageDescriptor,
    pieces: &[&'a [u8]],
) -> Result<Vec<Seen<'a>>, Unprintable> {
    let mut all: Vec<Seen<'a>> = Vec::new();
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
                    let Some(slot) = Slot::numbered(message, number) else { continue };
                    if let Some(oneof) = &slot.oneof {
                        all.retain(|it| it.slot.oneof.as_ref() != Some(oneof));
                        at = all.partition_point(|it| it.slot.number < number);
                    }
                    let seen = Seen { slot, piece, rest: before, times: 1, last: payload };
                    all.insert(at, seen);
                }
            }
        }
    }
    Ok(all)
}

/// Whether a list that is there holds anything: a packed one may not.
fn has_elements(seen: &Seen<'_>, pieces: &[&[u8]]) -> Result<bool, Unprintable> {
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

/// Goes through all that a field says, in order.
fn each<'a>(
    seen: &Seen<'a>,
    pieces: &[&'a [u8]],
    mut what: impl FnMut(Payload<'a>) -> Printed,
) -> Printed {
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

/// The bytes of a message.
fn content(payload: Payload<'_>) -> Result<&[u8], Unprintable> {
    match payload {
        Payload::Bytes(bytes) | Payload::Group(bytes) => Ok(bytes),
        _ => Err(wrong("a message has another type on the wire")),
    }
}

#[cfg(test)]
mod tests;
