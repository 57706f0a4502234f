//! The well-known types, which have a special JSON form.

use super::{Fields, MessageSeed, TYPE, fits, scalar::MapKeyReader, write as write_field};
use crate::transcode::{
    field::{ANY_DEPTH, Field, WellKnown, type_name},
    wire::{FIXED64, LEN, MessageWriter, VARINT},
};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A `google.protobuf.Value` that is null.
pub(super) const NULL: &[u8] = &[1 << 3, 0];

/// Writes one, without its tag and length.
pub(super) fn write<'de, D: Deserializer<'de>>(
    it: MessageSeed<'_>,
    known: WellKnown,
    from: D,
) -> Result<(), D::Error> {
    let MessageSeed { to, message, depth } = it;
    match known {
        WellKnown::Any => any(to, message, depth, from),
        WellKnown::Timestamp | WellKnown::Duration => time(to, message, from),
        WellKnown::FieldMask => from.deserialize_str(Mask(to)),
        WellKnown::Value => Json { to, depth }.deserialize(from),
        WellKnown::Struct => from.deserialize_map(Object { to, depth }),
        WellKnown::List => from.deserialize_seq(Array { to, depth }),
        WellKnown::Empty => {
            let content = MessageSeed { to, message, depth };
            from.deserialize_map(Fields { content, any: false })
        }
        WellKnown::Wrapper => {
            let missing = || D::Error::custom("the descriptor set lacks a wrapper's field");
            let slot = Field::numbered(message, 1).ok_or_else(missing)?;
            write_field(to, &slot, depth + 1, from)
        }
    }
}

/// Writes a timestamp or a duration. Both numbers are always written, to replace an earlier value in
/// the same message.
fn time<'de, D: Deserializer<'de>>(
    to: &mut MessageWriter,
    message: &MessageDescriptor,
    from: D,
) -> Result<(), D::Error> {
    let time = DynamicMessage::deserialize(message.clone(), from)?;
    let seconds = time.get_field_by_number(1).and_then(|it| it.as_i64()).unwrap_or_default();
    let nanos = time.get_field_by_number(2).as_deref().and_then(Value::as_i32).unwrap_or_default();
    for (number, value) in [(1, seconds), (2, nanos.into())] {
        to.tag(number, VARINT);
        to.varint(value.cast_unsigned());
    }
    Ok(())
}

/// A field mask: paths separated by commas, in camel case.
struct Mask<'a>(&'a mut MessageWriter);

impl Visitor<'_> for Mask<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field mask string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        for path in text.split(',').filter(|path| !path.is_empty()) {
            fits(self.0, 0)?;
            self.0.tag(1, LEN);
            let at = self.0.begin();
            for byte in path.bytes() {
                match byte {
                    b'_' => return Err(E::custom("invalid field mask")),
                    b'A'..=b'Z' => self.0.bytes.extend([b'_', byte.to_ascii_lowercase()]),
                    _ => self.0.bytes.push(byte),
                }
            }
            self.0.end(at);
        }
        Ok(())
    }
}

/// Any JSON, as `google.protobuf.Value`.
struct Json<'a> {
    to: &'a mut MessageWriter,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        fits(self.to, self.depth)?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.to.bytes.extend_from_slice(NULL);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.to.tag(4, VARINT);
        self.to.varint(value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.to.tag(2, FIXED64);
        self.to.bytes.extend(value.to_le_bytes());
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.to.field(3, text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.to.tag(6, LEN);
        let at = self.to.begin();
        Array { to: self.to, depth: self.depth + 1 }.visit_seq(list)?;
        self.to.end(at);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.to.tag(5, LEN);
        let at = self.to.begin();
        Object { to: self.to, depth: self.depth + 1 }.visit_map(map)?;
        self.to.end(at);
        Ok(())
    }
}

/// `google.protobuf.ListValue`.
struct Array<'a> {
    to: &'a mut MessageWriter,
    depth: usize,
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Array { to, depth } = self;
        while list.next_element_seed(Element { to, number: 1, depth })?.is_some() {}
        Ok(())
    }
}

/// A `google.protobuf.Value` in a message.
struct Element<'a> {
    to: &'a mut MessageWriter,
    number: u32,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.to.tag(self.number, LEN);
        let at = self.to.begin();
        Json { to: self.to, depth: self.depth + 1 }.deserialize(from)?;
        self.to.end(at);
        Ok(())
    }
}

/// `google.protobuf.Struct`.
struct Object<'a> {
    to: &'a mut MessageWriter,
    depth: usize,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { to, depth } = self;
        loop {
            let before = to.bytes.len();
            to.tag(1, LEN);
            let at = to.begin();
            to.tag(1, LEN);
            if map.next_key_seed(MapKeyReader { to, kind: &Kind::String })?.is_none() {
                to.bytes.truncate(before);
                return Ok(());
            }
            map.next_value_seed(Element { to, number: 2, depth })?;
            to.end(at);
        }
    }
}

/// Writes an `Any`. Its type may follow its content, so the text is read twice.
fn any<'de, D: Deserializer<'de>>(
    to: &mut MessageWriter,
    message: &MessageDescriptor,
    depth: usize,
    from: D,
) -> Result<(), D::Error> {
    let depth = depth + ANY_DEPTH;
    fits(to, depth)?;
    let text = <&'de RawValue as serde::Deserialize>::deserialize(from)?.get();
    let again = || serde_json::Deserializer::from_str(text);
    let url = again().deserialize_map(FindType).map_err(D::Error::custom)?;
    let name = type_name(&url).map_err(D::Error::custom)?;
    let unknown = || D::Error::custom(format_args!("message '{name}' not found"));
    let inner = message.parent_pool().get_message_by_name(name).ok_or_else(unknown)?;
    to.field(1, url.as_bytes());
    to.tag(2, LEN);
    let at = to.begin();
    let content = MessageSeed { to, message: &inner, depth };
    let written = match WellKnown::of(&inner) {
        None => again().deserialize_map(Fields { content, any: true }),
        Some(_) => again().deserialize_map(WrappedAny(content)),
    };
    written.map_err(D::Error::custom)?;
    to.end(at);
    Ok(())
}

/// Finds the type of an `Any`.
struct FindType;

impl<'de> Visitor<'de> for FindType {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an `@type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match (key == TYPE, found.is_some()) {
                (true, true) => return Err(A::Error::custom("`@type` is given twice")),
                (true, false) => found = Some(map.next_value::<String>()?),
                (false, _) => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        found.ok_or_else(|| A::Error::custom("an object for `google.protobuf.Any` needs `@type`"))
    }
}

/// An `Any` that holds a well-known type: `{ "@type": …, "value": … }`.
struct WrappedAny<'a>(MessageSeed<'a>);

impl<'de> Visitor<'de> for WrappedAny<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `@type` and `value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut content = Some(self.0);
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), content.take()) {
                (TYPE, rest) => {
                    content = rest;
                    map.next_value::<IgnoredAny>()?;
                }
                ("value", Some(it)) => map.next_value_seed(it)?,
                (key, _) => {
                    let message = format_args!("unrecognized field name '{key}'");
                    return Err(A::Error::custom(message));
                }
            }
        }
        match content {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("`value` is missing beside `@type`")),
        }
    }
}
