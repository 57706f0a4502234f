//! Maps with names of the user's choice, and maps that can be switched off.

use crate::{NAME_PATTERN, spanned::Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};

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
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": NAME_PATTERN },
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
        json_schema!({ "anyOf": [map, { "const": "off" }] })
    }
}
