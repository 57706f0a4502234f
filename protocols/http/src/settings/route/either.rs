//! Settings with a short and a long form.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Serialize,
    de::{
        Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
    ser::Serializer,
};
use std::{borrow::Cow, fmt};

/// A condition on a header or parameter: every key here must hold. Short form: the text that it
/// must equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueMatch {
    /// Exactly this.
    pub exact: Option<String>,
    /// It starts with this.
    pub prefix: Option<String>,
    /// It ends with this.
    pub suffix: Option<String>,
    /// It contains this.
    pub contains: Option<String>,
    /// A regular expression that must match all of it.
    pub regex: Option<String>,
    /// Whether it must be present or absent.
    pub present: Option<bool>,
    /// A whole number between the two, inclusive.
    pub range: Option<Vec<i64>>,
    /// This must not hold; the header may be absent.
    pub not: Option<Box<ValueMatch>>,
}

/// The long form.
#[derive(serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "HttpValueMatch")]
struct ValueMatchKeys {
    /// Exactly this. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    /// It starts with this. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// It ends with this. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<String>,
    /// It contains this. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    /// A regular expression that must match all of it. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    /// Whether it must be present (`true`) or absent (`false`). Default: present.
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    /// A whole number between the two, inclusive: `[1, 9]`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 2))]
    range: Option<Vec<i64>>,
    /// What must not hold; it may be absent. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<ValueMatch>>,
}

const KEYS: &[&str] =
    &["exact", "prefix", "suffix", "contains", "regex", "present", "range", "not"];

impl<'de> Deserialize<'de> for ValueMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("ValueMatch", KEYS, ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ValueMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or keys and values such as `{ prefix: beta }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ValueMatch, E> {
        Ok(ValueMatch { exact: Some(text.to_owned()), ..ValueMatch::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ValueMatch, A::Error> {
        let ValueMatchKeys { exact, prefix, suffix, contains, regex, present, range, not } =
            ValueMatchKeys::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ValueMatch { exact, prefix, suffix, contains, regex, present, range, not })
    }
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { exact, prefix, suffix, contains, regex, present, range, not } = self.clone();
        ValueMatchKeys { exact, prefix, suffix, contains, regex, present, range, not }.serialize(to)
    }
}

impl JsonSchema for ValueMatch {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpValueMatchOrText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<ValueMatchKeys>();
        json_schema!({ "anyOf": [{ "type": ["string", "number", "boolean"] }, keys] })
    }
}

/// Protocols that clients may upgrade to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeSettings {
    /// All, or none.
    All(bool),
    /// These.
    Only(Vec<String>),
}

impl<'de> Deserialize<'de> for UpgradeSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UpgradeVisitor)
    }
}

struct UpgradeVisitor;

impl<'de> Visitor<'de> for UpgradeVisitor {
    type Value = UpgradeSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false`, or a list of protocols such as `[websocket]`")
    }

    fn visit_bool<E: Error>(self, all: bool) -> Result<UpgradeSettings, E> {
        Ok(UpgradeSettings::All(all))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<UpgradeSettings, E> {
        Ok(UpgradeSettings::Only(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<UpgradeSettings, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(UpgradeSettings::Only(names))
    }
}

impl Serialize for UpgradeSettings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            UpgradeSettings::All(all) => to.serialize_bool(*all),
            UpgradeSettings::Only(names) => names.serialize(to),
        }
    }
}

impl JsonSchema for UpgradeSettings {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpUpgrade".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": ["boolean", "string"] },
                { "type": "array", "items": { "type": "string" } },
            ],
        })
    }
}
