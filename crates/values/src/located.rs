//! What a config file's types are made of: values that know their place and survive a mistake.

use crate::{At, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A value with its place. Reading one never fails: what is wrong is reported, and the value is
/// then missing, so that everything else can still be read and checked.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// Where it stands.
    pub at: At,
    /// `None` if it was wrong, which has been reported.
    pub value: Option<T>,
}

/// Tells `decode` to hand over the place too.
pub const LOCATED: &str = "$located";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LOCATED, LocatedVisitor(PhantomData))
    }
}

struct LocatedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
    type Value = Located<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<Located<T>, A::Error> {
        let Partly { at, value, .. } = read(&mut tries)?;
        Ok(Located { at, value })
    }
}

/// Reads a value, again and again as long as it is wrong, without what is known to be wrong with it.
fn read<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(tries: &mut A) -> Result<Partly<T>, A::Error> {
    let mut read = Partly { at: At::NOWHERE, value: None, rest: None };
    while let Some(at) = tries.next_element()? {
        let found = tries.next_element()?;
        let whole = tries.next_element()?.unwrap_or(false);
        let (value, rest) = if whole { (found, None) } else { (None, found) };
        read = Partly { at, value, rest };
    }
    Ok(read)
}

/// A value with its place, as [`Located`]; and what is left of it where something in it was wrong,
/// for what can be checked all the same.
#[derive(Clone, Debug)]
pub struct Partly<T> {
    /// Where it stands.
    pub at: At,
    /// `None` if something in it was wrong, which has been reported.
    pub value: Option<T>,
    /// What is left of it then.
    pub rest: Option<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Partly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LOCATED, PartlyVisitor(PhantomData))
    }
}

struct PartlyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartlyVisitor<T> {
    type Value = Partly<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<Partly<T>, A::Error> {
        read(&mut tries)
    }
}

impl<T: JsonSchema> JsonSchema for Partly<T> {
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

impl<T: JsonSchema> JsonSchema for Located<T> {
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

/// Things by name, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(Located<String>, Located<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names and what they stand for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
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

/// Tells `decode` that `off` may stand here.
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

/// Texts, each in its place: a list of them, or just one.
#[derive(Clone, Debug)]
pub struct OneOrMore(pub Vec<Located<String>>);

/// Tells `decode` that a value may stand for a list of it.
pub const ONE_OR_MORE: &str = "$one_or_more";

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MORE, OneOrMoreVisitor)
    }
}

struct OneOrMoreVisitor;

impl<'de> Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMore(texts))
    }
}

impl JsonSchema for OneOrMore {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
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
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a list of words")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Words, E> {
        Ok(Words(vec![word.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Words(words))
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = schemars::json_schema!({ "type": "string" });
        schemars::json_schema!({
            "anyOf": [word, { "type": "array", "items": word, "minItems": 1 }],
        })
    }
}

/// A key that may be left out, and whose value is written as text.
pub type Given<T> = Option<Located<Text<T>>>;

/// What was written, if something was and could be read.
pub fn given<T>(value: Given<T>) -> Option<T> {
    let Located { value, .. } = value?;
    value.map(|Text(value)| value)
}
