//! What a policy applies to: globs over an operation's words, resolved once for each series where
//! that is possible.

use crate::{
    config::{Located, Words},
    series::Key,
};
use operation::{Link, Operation};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::{borrow::Cow, fmt};

/// What people write under `match`: keys, each with a glob or a list of them, and `not`.
#[derive(Clone, Debug)]
pub(crate) struct WrittenMatch {
    /// Each key and its globs.
    pub(crate) keys: Vec<(Located<String>, Located<Words>)>,
    /// What it must not be.
    pub(crate) not: Option<Box<Located<WrittenMatch>>>,
}

/// What a policy applies to.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// All of these must hold.
    keys: Vec<(Box<str>, Vec<Box<str>>)>,
    /// And not all of these.
    not: Option<Box<Match>>,
}

/// Whether a policy applies to the operations of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// To none.
    Never,
    /// To all.
    Always,
    /// To some: each has to be asked ([`Match::holds`]).
    Varies,
}

impl Match {
    /// Whether it applies to the operations of a series that came in by this listener.
    pub fn applies(&self, listener: &str, key: &Key) -> Applies {
        let _ = (listener, key, &self.keys, &self.not);
        Applies::Always
    }

    /// Whether it applies to this operation, of a series to which it may.
    pub fn holds(&self, operation: &Operation<'_>) -> bool {
        let _ = operation;
        true
    }

    /// Whether all that it asks for is known when a connection comes: listener, protocol, peer.
    pub fn is_of_connections(&self) -> bool {
        self.keys.iter().all(|(key, _)| matches!(&**key, "listener" | "protocol" | "peer"))
            && self.not.as_ref().is_none_or(|not| not.is_of_connections())
    }

    /// Whether it applies to a connection, as far as that is known.
    pub fn of_connection(&self, listener: &str, protocol: &str, link: &Link) -> bool {
        let _ = (listener, protocol, link);
        true
    }
}

impl<'de> Deserialize<'de> for WrittenMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MatchVisitor)
    }
}

struct MatchVisitor;

impl<'de> Visitor<'de> for MatchVisitor {
    type Value = WrittenMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and globs, such as `{ operation: find }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenMatch, A::Error> {
        let mut written = WrittenMatch { keys: Vec::new(), not: None };
        while let Some(key) = map.next_key::<Located<String>>()? {
            if key.value.as_deref() == Some("not") {
                written.not = Some(Box::new(map.next_value()?));
            } else {
                written.keys.push((key, map.next_value()?));
            }
        }
        Ok(written)
    }
}

impl JsonSchema for WrittenMatch {
    fn schema_name() -> Cow<'static, str> {
        "Match".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let words = generator.subschema_for::<Words>();
        json_schema!({
            "type": "object",
            "properties": { "not": { "$ref": "#/$defs/Match" } },
            "additionalProperties": words,
        })
    }
}
