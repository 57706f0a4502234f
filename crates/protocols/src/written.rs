//! How protocols and health checks are written in the config: a name, or `{ name: settings }`.

use super::{
    entry::{NamedSchema, ProtocolEntry, ProtocolSettings, UncheckedProbe},
    registry::PROTOCOLS,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, VariantAccess, Visitor,
};
use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref, sync::Arc, sync::LazyLock};

/// The names of all protocols.
pub static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| PROTOCOLS.iter().map(|entry| entry.describe().name).collect());

/// What is written under `protocol`.
#[derive(Clone, Debug)]
pub struct ProtocolConfig(Arc<dyn ProtocolSettings>);

/// What is written under `probe`.
#[derive(Clone, Debug)]
pub struct ConfiguredProbe(Arc<dyn UncheckedProbe>);

impl Deref for ProtocolConfig {
    type Target = dyn ProtocolSettings;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Deref for ConfiguredProbe {
    type Target = dyn UncheckedProbe;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Settings that the row of their protocol reads.
trait FromRow: Sized {
    fn read(
        entry: &dyn ProtocolEntry,
        from: &mut dyn erased_serde::Deserializer<'_>,
    ) -> Result<Self, erased_serde::Error>;
}

impl FromRow for ProtocolConfig {
    fn read(
        entry: &dyn ProtocolEntry,
        from: &mut dyn erased_serde::Deserializer<'_>,
    ) -> Result<Self, erased_serde::Error> {
        entry.read(from).map(Self)
    }
}

impl FromRow for ConfiguredProbe {
    fn read(
        entry: &dyn ProtocolEntry,
        from: &mut dyn erased_serde::Deserializer<'_>,
    ) -> Result<Self, erased_serde::Error> {
        entry.read_probe(from).map(Self)
    }
}

impl<'de> Deserialize<'de> for ProtocolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Protocol", &[], RowVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ConfiguredProbe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Probe", &[], RowVisitor(PhantomData))
    }
}

struct RowVisitor<T>(PhantomData<T>);

impl<'de, T: FromRow> Visitor<'de> for RowVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a protocol's name, or `{ name: settings }`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, written: A) -> Result<T, A::Error> {
        let (name, settings) = written.variant::<String>()?;
        match PROTOCOLS.iter().find(|entry| entry.describe().name == name) {
            Some(entry) => settings.newtype_variant_seed(RowSeed(*entry, PhantomData)),
            None => Err(A::Error::unknown_variant(&name, &NAMES)),
        }
    }
}

struct RowSeed<T>(&'static dyn ProtocolEntry, PhantomData<T>);

impl<'de, T: FromRow> DeserializeSeed<'de> for RowSeed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let mut erased = <dyn erased_serde::Deserializer<'de>>::erase(deserializer);
        T::read(self.0, &mut erased).map_err(D::Error::custom)
    }
}

impl JsonSchema for ProtocolConfig {
    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let all: Vec<_> = PROTOCOLS.iter().map(|entry| entry.schema(generator)).collect();
        any_of("What a listener's clients speak: a name, or `{ name: settings }`.", &all)
    }
}

impl JsonSchema for ConfiguredProbe {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Probe".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let all: Vec<_> = PROTOCOLS.iter().map(|entry| entry.probe_schema(generator)).collect();
        any_of("What a health check asks: a name, or `{ name: settings }`.", &all)
    }
}

/// The schema of a protocol's name, or `{ name: settings }`.
fn any_of(description: &str, all: &[NamedSchema]) -> Schema {
    let names: Vec<&str> = all.iter().map(|it| it.name).collect();
    let properties: serde_json::Map<_, _> = all
        .iter()
        .map(|NamedSchema { name, description, schema }| {
            let value = serde_json::json!({
                "description": description,
                "anyOf": [schema, { "type": "null" }],
            });
            ((*name).to_owned(), value)
        })
        .collect();
    json_schema!({
        "description": description,
        "anyOf": [{ "enum": names }, {
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }],
    })
}
