//! Converts JSON to protobuf while parsing, without a tree: a body needs its own length and the
//! message's, whatever it contains (protobuf, "ProtoJSON Format").

mod known;
mod scalar;

use super::{
    field::{Field, MAX_DEPTH, WellKnown, is_null},
    wire::{GROUP, GROUP_END, LEN, MessageWriter, wire_type},
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
/// The JSON is invalid or does not match the message type.
pub(crate) fn content<'de, D: Deserializer<'de>>(
    it: MessageSeed<'_>,
    from: D,
) -> Result<(), D::Error> {
    it.deserialize(from)
}

/// Writes one field with its tag; nothing for null.
///
/// # Errors
/// As of [`content`].
pub(crate) fn field<'de, D: Deserializer<'de>>(
    to: &mut MessageWriter,
    slot: &Field,
    from: D,
) -> Result<(), D::Error> {
    FieldSeed { to, slot, depth: 0, taken: &mut SeenFields::default() }.deserialize(from)
}

/// Writes one value of a field with its tag; for a list, one element.
///
/// # Errors
/// As of [`content`].
pub(crate) fn one<'de, D: Deserializer<'de>>(
    to: &mut MessageWriter,
    slot: &Field,
    from: D,
) -> Result<(), D::Error> {
    ValueSeed { to, slot, depth: 0 }.deserialize(from)
}

/// Deserializes a JSON object as a message.
pub(crate) struct MessageSeed<'a> {
    pub(crate) to: &'a mut MessageWriter,
    pub(crate) message: &'a MessageDescriptor,
    /// Nesting depth, in messages.
    pub(crate) depth: usize,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        fits(self.to, self.depth)?;
        match WellKnown::of(self.message) {
            None => from.deserialize_map(Fields { content: self, any: false }),
            Some(known) => known::write(self, known, from),
        }
    }
}

/// Rejects excessive depth and length.
fn fits<E: Error>(to: &MessageWriter, depth: usize) -> Result<(), E> {
    if depth > MAX_DEPTH {
        return Err(E::custom(format_args!("it is deeper than {MAX_DEPTH} messages")));
    }
    if to.is_over() {
        return Err(E::custom("it is too long"));
    }
    Ok(())
}

/// The fields of a message. Within an `Any`, `@type` is among them.
struct Fields<'a> {
    content: MessageSeed<'a>,
    any: bool,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let MessageSeed { to, message, depth } = self.content;
        let mut taken = SeenFields::default();
        while let Some(slot) = map.next_key_seed(Name { message, any: self.any })? {
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(FieldSeed { to, slot: &slot, depth, taken: &mut taken })?;
        }
        Ok(())
    }
}

/// The fields of a message already written: each field and each oneof may occur once.
#[derive(Default)]
struct SeenFields {
    numbers: Vec<u32>,
    oneofs: Vec<OneofDescriptor>,
}

impl SeenFields {
    fn take<E: Error>(&mut self, slot: &Field) -> Result<(), E> {
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

/// Finds the field of a key; `None` for `@type`.
struct Name<'a> {
    message: &'a MessageDescriptor,
    any: bool,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Field>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Field>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<Field>, E> {
        if self.any && name == TYPE {
            return Ok(None);
        }
        let unknown = || E::custom(format_args!("unrecognized field name '{name}'"));
        Field::named(self.message, name).map(Some).ok_or_else(unknown)
    }
}

/// A field's value with its tag; nothing for null.
struct FieldSeed<'a> {
    to: &'a mut MessageWriter,
    slot: &'a Field,
    depth: usize,
    taken: &'a mut SeenFields,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_none()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        let FieldSeed { to, slot, taken, .. } = self;
        let says_null = match &slot.kind {
            Kind::Message(message) => WellKnown::of(message) == Some(WellKnown::Value),
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
        let FieldSeed { to, slot, depth, taken } = self;
        taken.take(slot)?;
        write(to, slot, depth, from).inspect_err(|_| to.add_error_field(slot.name(false)))
    }
}

/// Writes a field's non-null value with its tag.
fn write<'de, D: Deserializer<'de>>(
    to: &mut MessageWriter,
    slot: &Field,
    depth: usize,
    from: D,
) -> Result<(), D::Error> {
    match &slot.kind {
        Kind::Message(entry) if slot.map => {
            from.deserialize_map(Entries { to, slot, entry, depth })
        }
        _ if slot.list => from.deserialize_seq(List { to, slot, depth }),
        _ => ValueSeed { to, slot, depth }.deserialize(from),
    }
}

/// One value with its tag.
struct ValueSeed<'a> {
    to: &'a mut MessageWriter,
    slot: &'a Field,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let ValueSeed { to, slot, depth } = self;
        fits(to, depth)?;
        let Kind::Message(message) = &slot.kind else {
            to.tag(slot.number, wire_type(&slot.kind));
            return Scalar { to, kind: &slot.kind }.deserialize(from);
        };
        if slot.group {
            to.tag(slot.number, GROUP);
            MessageSeed { to, message, depth: depth + 1 }.deserialize(from)?;
            to.tag(slot.number, GROUP_END);
            return Ok(());
        }
        to.tag(slot.number, LEN);
        let at = to.begin();
        MessageSeed { to, message, depth: depth + 1 }.deserialize(from)?;
        to.end(at);
        Ok(())
    }
}

/// A list.
struct List<'a> {
    to: &'a mut MessageWriter,
    slot: &'a Field,
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
            while list.next_element_seed(ValueSeed { to, slot, depth })?.is_some() {}
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

/// A map: each entry is a message with a key and a value.
struct Entries<'a> {
    to: &'a mut MessageWriter,
    slot: &'a Field,
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
        let value = Field::of_field(entry.map_entry_value_field());
        loop {
            fits(to, depth)?;
            let before = to.bytes.len();
            to.tag(slot.number, LEN);
            let at = to.begin();
            to.tag(1, wire_type(&key));
            if map.next_key_seed(scalar::MapKeyReader { to, kind: &key })?.is_none() {
                to.bytes.truncate(before);
                return Ok(());
            }
            map.next_value_seed(ValueSeed { to, slot: &value, depth: depth + 1 })?;
            to.end(at);
        }
    }
}

#[cfg(test)]
mod tests;
