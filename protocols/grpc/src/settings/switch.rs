//! A feature that is off, on, or on with settings.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Serialize, Serializer,
    de::{Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// The settings if the feature is on. Written `true`, `false`, or as keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch<T>(pub Option<T>);

/// Settings with the names of their keys, for the suggestion after a misspelt key.
pub trait SwitchSettings: Default {
    /// The keys.
    const KEYS: &[&str];
}

impl<T> Default for Switch<T> {
    fn default() -> Self {
        Switch(None)
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => to.serialize_bool(false),
            Some(settings) => settings.serialize(to),
        }
    }
}

impl<'de, T: SwitchSettings + Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_struct("Switch", T::KEYS, SwitchVisitor(PhantomData))
    }
}

struct SwitchVisitor<T>(PhantomData<T>);

impl<'de, T: SwitchSettings + Deserialize<'de>> Visitor<'de> for SwitchVisitor<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`true`, `false`, or keys and values: {}", T::KEYS.join(", "))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Switch<T>, E> {
        Ok(Switch(on.then(T::default)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Switch<T>, E> {
        match text {
            "true" => self.visit_bool(true),
            "false" => self.visit_bool(false),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some).map(Switch)
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Switch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<T>()] })
    }
}
