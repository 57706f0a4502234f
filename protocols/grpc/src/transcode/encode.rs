//! Writes JSON as a protobuf message while it is read: no tree of it is ever there, so a body takes
//! its own length and the message's, whatever is in it (protobuf, "ProtoJSON Format").

mod known;
mod scalar;

use super::{
    slot::{DEPTH, Known, Slot, is_null},
    wire::{GROUP, GROUP_END, LEN, Output, wire_type},
};
use prost_reflect::{Kind, MessageDescriptor, OneofDescriptor};
use scalar::Scalar;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The key of an `Any` that names its type.
const TYPE: &str = "@type";

/// Writes the fields of a message.
///
/// # Errors
/// The JSON does not fit, or is none.
pub(crate) fn content<'de, D: Deserializer<'de>>(it: Content<'_>, from: D) -> Result<(), D::Error> {
    it.deserialize(from)
}

/// Writes one field, with its tag; nothing if it is null.
///
/// # Errors
/// As of [`content`].
pub(crate) fn field<'de, D: Deserializer<'de>>(
    to: &mut Output,
    slot: &Slot,
    from: D,
) -> Result<(), D::Error> {
    Field { to, slot, depth: 0, taken: &mut Taken::default() }.deserialize(from)
}

/// Writes one value of a field, with its tag; of a list that is one more.
///
/// # Errors
/// As of [`content`].
pub(crate) fn one<'de, D: Deserializer<'de>>(
    to: &mut Output,
    slot: &Slot,
    from: D,
) -> Result<(), D::Error> {
    One { to, slot, depth: 0 }.deserialize(from)
}

/// The message that an object of JSON says.
pub(crate) struct Content<'a> {
    pub(crate) to: &'a mut Output,
    pub(crate) message: &'a MessageDescriptor,
    /// How many messages it lies in.
    pub(crate) depth: usize,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        fits(self.to, self.depth)?;
        match Known::of(self.message) {
            None => from.deserialize_map(Fields { content: self, any: false }),
            Some(known) => known::write(self, known, from),
        }
    }
}

/// Refuses what is too deep, and what became too long.
fn fits<E: Error>(to: &Output, depth: usize) -> Result<(), E> {
    if depth > DEPTH {
        return Err(E::custom(format_args!("it is deeper than {DEPTH} messages")));
    }
    if to.is_over() {
        return Err(E::custom("it is too long"));
    }
    Ok(())
}

/// The fields of a message; of one in an `Any`, with its type among them.
struct Fields<'a> {
    content: Content<'a>,
    any: bool,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Content { to, message, depth } = self.content;
        let mut taken = Taken::default();
        while let Some(slot) = map.next_key_seed(Name { message, any: self.any })? {
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(Field { to, slot: &slot, depth, taken: &mut taken })?;
        }
        Ok(())
    }
}

/// The fields of one message that were written: a field is given once, and one of a oneof.
#[derive(Default)]
struct Taken {
    numbers: Vec<u32>,
    oneofs: Vec<OneofDescriptor>,
}

impl Taken {
    fn take<E: Error>(&mut self, slot: &Slot) -> Result<(), E> {
        let name = slot.name(false);
        match self.numbers.binary_search(&slot.number) {
            Ok(_) => return Err(E::custom(format_args!("the field `{name}` is given twice"))),
            Err(at) => self.numbers.insert(at, slot.number),
        }
        let Some(oneof) = &slot.oneof else { return Ok(()) };
        if self.oneofs.contains(oneof) {
            let oneof = oneof.name();
            return Err(E::custom(format_args!("the oneof `{oneof}` is given twice")));
        }
        self.oneofs.push(oneof.clone());
        Ok(())
    }
}

/// Finds the field that a key names; none for the type of an `Any`.
struct Name<'a> {
    message: &'a MessageDescriptor,
    any: bool,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Slot>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Slot>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Slot>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<Slot>, E> {
        if self.any && name == TYPE {
            return Ok(None);
        }
        let unknown = || E::custom(format_args!("unrecognized field name '{name}'"));
        Slot::named(self.message, name).map(Some).ok_or_else(unknown)
    }
}

/// What a field says, with its tag; nothing if it is null.
struct Field<'a> {
    to: &'a mut Output,
    slot: &'a Slot,
    depth: usize,
    taken: &'a mut Taken,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_none()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        let Field { to, slot, taken, .. } = self;
        let says_null = match &slot.kind {
            Kind::Message(message) => Known::of(message) == Some(Known::Value),
            Kind::Enum(of) => is_null(of),
            _ => false,
        };
        if !says_null || slot.list || slot.map {
            return Ok(());
        }
        taken.take(slot)?;
        match &slot.kind {
            Kind::Message(_) => to.field(slot.number, known::NULL),
            _ => {
                to.tag(slot.number, wire_type(&slot.kind));
                to.varint(0);
            }
        }
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let Field { to, slot, depth, taken } = self;
        taken.take(slot)?;
        write(to, slot, depth, from).inspect_err(|_| to.unfit_in(slot.name(false)))
    }
}

/// Writes what a field says that is no null, with its tag.
fn write<'de, D: Deserializer<'de>>(
    to: &mut Output,
    slot: &Slot,
    depth: usize,
    from: D,
) -> Result<(), D::Error> {
    match &slot.kind {
        Kind::Message(entry) if slot.map => {
            from.deserialize_map(Entries { to, slot, entry, depth })
        }
        _ if slot.list => from.deserialize_seq(List { to, slot, depth }),
        _ => One { to, slot, depth }.deserialize(from),
    }
}

/// One value, with its tag.
struct One<'a> {
    to: &'a mut Output,
    slot: &'a Slot,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let One { to, slot, depth } = self;
        fits(to, depth)?;
        let Kind::Message(message) = &slot.kind else {
            to.tag(slot.number, wire_type(&slot.kind));
            return Scalar { to, kind: &slot.kind }.deserialize(from);
        };
        if slot.group {
            to.tag(slot.number, GROUP);
            Content { to, message, depth: depth + 1 }.deserialize(from)?;
            to.tag(slot.number, GROUP_END);
            return Ok(());
        }
        to.tag(slot.number, LEN);
        let at = to.begin();
        Content { to, message, depth: depth + 1 }.deserialize(from)?;
        to.end(at);
        Ok(())
    }
}

/// A list.
struct List<'a> {
    to: &'a mut Output,
    slot: &'a Slot,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let List { to, slot, depth } = self;
        if !slot.packed {
            while list.next_element_seed(One { to, slot, depth })?.is_some() {}
            return Ok(());
        }
        let before = to.bytes.len();
        to.tag(slot.number, LEN);
        let at = to.begin();
        while list.next_element_seed(Scalar { to, kind: &slot.kind })?.is_some() {
            fits(to, depth)?;
        }
        match to.bytes.len() == at {
            true => to.bytes.truncate(before),
            false => to.end(at),
        }
        Ok(())
    }
}

/// A map: each entry is a message of a key and a value.
struct Entries<'a> {
    to: &'a mut Output,
    slot: &'a Slot,
    entry: &'a MessageDescriptor,
    depth: usize,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Entries { to, slot, entry, depth } = self;
        let key = entry.map_entry_key_field().kind();
        let value = Slot::field(entry.map_entry_value_field());
        loop {
            fits(to, depth)?;
            let before = to.bytes.len();
            to.tag(slot.number, LEN);
            let at = to.begin();
            to.tag(1, wire_type(&key));
            if map.next_key_seed(scalar::Key { to, kind: &key })?.is_none() {
                to.bytes.truncate(before);
                return Ok(());
            }
            map.next_value_seed(One { to, slot: &value, depth: depth + 1 })?;
            to.end(at);
        }
    }
}

#[cfg(test)]
mod tests;
