//! Types of a config file: values that know their span and survive errors.

use crate::{Span, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A value with its span. Reading one never fails: an error is reported and the value is missing,
/// so that the rest can be read and checked.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// Its span.
    pub at: Span,
    /// `None` if it was invalid, which has been reported.
    pub value: Option<T>,
}

/// Asks `decode` for the span too.
pub const SPANNED: &str = "$spanned";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, SpannedVisitor(PhantomData))
    }
}

struct SpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<Spanned<T>, A::Error> {
        let PartlySpanned { at, value, .. } = read(&mut tries)?;
        Ok(Spanned { at, value })
    }
}

/// Reads a value, repeatedly while it is invalid, without its parts that are known to be invalid.
fn read<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    tries: &mut A,
) -> Result<PartlySpanned<T>, A::Error> {
    let mut read = PartlySpanned { at: Span::NOWHERE, value: None, rest: None };
    while let Some(at) = tries.next_element()? {
        let found = tries.next_element()?;
        let whole = tries.next_element()?.unwrap_or(false);
        let (value, rest) = if whole { (found, None) } else { (None, found) };
        read = PartlySpanned { at, value, rest };
    }
    Ok(read)
}

/// A value with its span, as [`Spanned`], and the valid rest of it if a part was invalid, for
/// further checks.
#[derive(Clone, Debug)]
pub struct PartlySpanned<T> {
    /// Its span.
    pub at: Span,
    /// `None` if a part of it was invalid, which has been reported.
    pub value: Option<T>,
    /// The valid rest in that case.
    pub rest: Option<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PartlySpanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, PartlySpannedVisitor(PhantomData))
    }
}

struct PartlySpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartlySpannedVisitor<T> {
    type Value = PartlySpanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<PartlySpanned<T>, A::Error> {
        read(&mut tries)
    }
}

impl<T: JsonSchema> JsonSchema for PartlySpanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A map with user-defined names, in the order of the file.
#[derive(Clone, Debug)]
pub struct NamedMap<T>(pub Vec<(Spanned<String>, Spanned<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NamedMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedMapVisitor(PhantomData))
    }
}

struct NamedMapVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedMapVisitor<T> {
    type Value = NamedMap<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names and what they stand for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedMap<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(NamedMap(entries))
    }
}

impl<T: JsonSchema> JsonSchema for NamedMap<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("NamedMap{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
            "additionalProperties": one,
        })
    }
}

/// A map, or `off`.
#[derive(Clone, Debug)]
pub enum MapOrOff<T> {
    /// A map.
    Map(T),
    /// `off`.
    Off,
}

/// Makes `decode` accept `off` here.
pub const OR_OFF: &str = "$or_off";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for MapOrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(OR_OFF, MapOrOffVisitor(PhantomData))
    }
}

struct MapOrOffVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOrOffVisitor<T> {
    type Value = MapOrOff<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values, or `off`")
    }

    fn visit_none<E: Error>(self) -> Result<MapOrOff<T>, E> {
        Ok(MapOrOff::Off)
    }

    fn visit_some<D: Deserializer<'de>>(self, map: D) -> Result<MapOrOff<T>, D::Error> {
        T::deserialize(map).map(MapOrOff::Map)
    }
}

impl<T: JsonSchema> JsonSchema for MapOrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [map, { "const": "off" }] })
    }
}

/// Texts with their spans: a list, or just one.
#[derive(Clone, Debug)]
pub struct TextList(pub Vec<Spanned<String>>);

/// Makes `decode` accept a single value in place of a list.
pub const ONE_OR_MORE: &str = "$one_or_more";

impl<'de> Deserialize<'de> for TextList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MORE, TextListVisitor)
    }
}

struct TextListVisitor;

impl<'de> Visitor<'de> for TextListVisitor {
    type Value = TextList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TextList, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(TextList(texts))
    }
}

impl JsonSchema for TextList {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TextList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = schemars::json_schema!({ "type": ["string", "number", "boolean"] });
        schemars::json_schema!({
            "anyOf": [text, { "type": "array", "items": text, "minItems": 1 }],
        })
    }
}

/// A word, or a list of words.
#[derive(Clone, Debug)]
pub struct WordList(pub Vec<String>);

impl<'de> Deserialize<'de> for WordList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordListVisitor)
    }
}

struct WordListVisitor;

impl<'de> Visitor<'de> for WordListVisitor {
    type Value = WordList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a list of words")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<WordList, E> {
        Ok(WordList(vec![word.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WordList, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(WordList(words))
    }
}

impl JsonSchema for WordList {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WordList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = schemars::json_schema!({ "type": "string" });
        schemars::json_schema!({
            "anyOf": [word, { "type": "array", "items": word, "minItems": 1 }],
        })
    }
}

/// An optional key whose value is written as text.
pub type Opt<T> = Option<Spanned<Text<T>>>;

/// The value, if it is set and valid.
pub fn opt_value<T>(value: Opt<T>) -> Option<T> {
    let Spanned { value, .. } = value?;
    value.map(|Text(value)| value)
}
