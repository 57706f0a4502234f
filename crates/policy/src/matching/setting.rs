//! The setting `match`: keys, each with a glob or a list of globs, and `not`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::{borrow::Cow, fmt};
use values::{OneOrMore, spanned::Spanned};

/// The globs of a key.
pub(crate) type Globs = OneOrMore<Spanned<String>>;

/// The setting `match`.
#[derive(Clone, Debug)]
pub struct MatchSetting {
    /// The keys and their globs.
    pub keys: Vec<(Spanned<String>, Spanned<Globs>)>,
    /// The excluded operations.
    pub not: Option<Box<Spanned<MatchSetting>>>,
}

impl<'de> Deserialize<'de> for MatchSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MatchVisitor)
    }
}

struct MatchVisitor;

impl<'de> Visitor<'de> for MatchVisitor {
    type Value = MatchSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and globs, such as `{ operation: find }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MatchSetting, A::Error> {
        let mut setting = MatchSetting { keys: Vec::new(), not: None };
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.value.as_deref() == Some("not") {
                setting.not = Some(Box::new(map.next_value()?));
            } else {
                setting.keys.push((key, map.next_value()?));
            }
        }
        Ok(setting)
    }
}

/// The schema of globs: YAML may parse one as a number or a boolean.
fn globs() -> Schema {
    let text = json_schema!({ "type": ["string", "number", "boolean"] });
    json_schema!({ "anyOf": [text, { "type": "array", "items": text, "minItems": 1 }] })
}

/// The keys of every protocol, and their descriptions.
const COMMON: [(&str, &str); 5] = [
    ("listener", "The listener's name."),
    ("protocol", "What the listener's clients speak."),
    ("operation", "What is done: `find`, `insert`, `session`."),
    ("resource", "What it is done to: `shop.orders`, or `shop.*`."),
    ("peer", "The client: an address, a network such as `10.0.0.0/8`, or a glob such as `10.0.*`."),
];

impl JsonSchema for MatchSetting {
    fn schema_name() -> Cow<'static, str> {
        "Match".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let globs = globs();
        let mut properties = serde_json::Map::new();
        for (key, meaning) in COMMON {
            let mut globs = globs.clone();
            globs.insert("description".into(), format!("{meaning} Default: any.").into());
            properties.insert(key.into(), globs.to_value());
        }
        let not = "What it must not be: a match of its own, of which not all may hold. \
                   Default: nothing.";
        let not = serde_json::json!({ "description": not, "$ref": "#/$defs/Match" });
        properties.insert("not".into(), not);
        json_schema!({
            "description": "What a policy applies to: all keys must match, each by one of its \
                globs (`*` is anything, `?` one character). Every attribute of a protocol is a key \
                as well: `app`, `user`, `driver`, `callsite`, `local`, `endpoint`, `cluster`.",
            "type": "object",
            "properties": properties,
            "additionalProperties": globs,
        })
    }
}
