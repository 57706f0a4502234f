//! How a listener's protocol is written in the config.

use super::{Mongo, ProbePlan, Protocol, Tcp};
use crate::config::{Mistake, host_port};
use operation::Codec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, VariantAccess, Visitor};
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

/// What people write under `protocol`: a name, or `{ name: settings }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Raw TCP, which has nothing to set.
    Tcp(NoSettings),
    /// MongoDB.
    Mongo(mongo::Settings),
}

/// Nothing can be set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "nothing")]
pub(crate) struct NoSettings {}

/// The names of all protocols that can be read.
pub(crate) const NAMES: &[&str] = &["tcp", "mongo"];
/// The names of those that can't be read yet.
const LATER: &[&str] = &["http", "grpc"];

impl Written {
    /// What a health check asks of a service that speaks this, unless something else is said.
    pub(crate) fn probe(&self) -> ProbePlan {
        match self {
            Written::Tcp(_) => ProbePlan::default(),
            Written::Mongo(_) => ProbePlan::Mongo(Arc::default()),
        }
    }

    /// What it is called, and which attributes it has.
    pub(crate) fn describe(&self) -> &'static operation::Protocol {
        match self {
            Written::Tcp(_) => const { &Tcp::PROTOCOL },
            Written::Mongo(_) => const { &Mongo::PROTOCOL },
        }
    }

    /// The protocol with these settings, or all that is wrong with them.
    pub(crate) fn protocol(self) -> Result<Protocol, Vec<Mistake>> {
        match self {
            Written::Tcp(NoSettings {}) => Ok(Protocol::Tcp(Arc::new(()))),
            Written::Mongo(settings) => {
                let mistakes = mongo_mistakes(&settings);
                if !mistakes.is_empty() {
                    return Err(mistakes);
                }
                Ok(Protocol::Mongo(Arc::new(mongo::Listener::new(settings))))
            }
        }
    }
}

fn mongo_mistakes(settings: &mongo::Settings) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut address = |path: &[&str], text: &str| {
        if let Err(fault) = host_port(text) {
            mistakes.push(Mistake::new(&[&["mongo"], path].concat(), fault.message, fault.hint));
        }
    };
    if let Some(advertise) = &settings.advertise {
        address(&["advertise"], advertise);
    }
    for (member, listener) in &settings.members {
        address(&["members", member], member);
        address(&["members", member], listener);
    }
    let mut taken = BTreeMap::new();
    for (member, listener) in &settings.members {
        if let Some(other) = taken.insert(listener, member) {
            let message = format!("`{listener}` stands for two members: {other} and {member}");
            let hint = "each member needs a listener of its own";
            mistakes.push(Mistake::new(&["mongo", "members", member], message, hint));
        }
    }
    if !settings.rewrite_hello && (settings.advertise.is_some() || !settings.members.is_empty()) {
        let message = "`rewrite_hello: false` makes `advertise` and `members` useless";
        let hint = "leave out the one or the other";
        mistakes.push(Mistake::new(&["mongo", "rewrite_hello"], message, hint));
    }
    for (collection, key) in &settings.shard_keys {
        let path = ["mongo", "shard_keys", collection];
        let named =
            collection.split_once('.').is_some_and(|(db, rest)| !db.is_empty() && !rest.is_empty());
        if !named {
            let message = format!("`{collection}` is not a `database.collection`");
            mistakes.push(Mistake::new(&path, message, "write `shop.orders: [customer]`"));
        }
        if key.is_empty() || key.iter().any(String::is_empty) {
            let message = format!("the shard key of `{collection}` has a field without a name");
            mistakes.push(Mistake::new(&path, message, "name its fields: `[customer, _id]`"));
        }
    }
    mistakes
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Protocol", NAMES, WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a protocol's name, or `{ name: settings }`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, written: A) -> Result<Written, A::Error> {
        let (name, settings) = written.variant::<String>()?;
        match name.as_str() {
            "tcp" => settings.newtype_variant().map(Written::Tcp),
            "mongo" => settings.newtype_variant().map(Written::Mongo),
            other => Err(unknown(other)),
        }
    }
}

/// There is no protocol of this name, or not yet.
pub(super) fn unknown<E: Error>(name: &str) -> E {
    if LATER.contains(&name) {
        return E::custom(format_args!(
            "the protocol `{name}` is not part of this version yet\nthis version reads {}",
            NAMES.join(" and ")
        ));
    }
    E::unknown_variant(name, NAMES)
}

impl JsonSchema for Written {
    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tcp = generator.subschema_for::<NoSettings>();
        let mongo = generator.subschema_for::<mongo::Settings>();
        named("What a listener's clients speak: a name, or `{ name: settings }`.", &tcp, &mongo)
    }
}

/// The schema of a protocol's name, or `{ name: settings }`.
pub(super) fn named(description: &str, tcp: &Schema, mongo: &Schema) -> Schema {
    json_schema!({
        "description": description,
        "anyOf": [{ "enum": NAMES }, {
            "type": "object",
            "properties": {
                "tcp": {
                    "description": "Any bytes: one operation a connection.",
                    "anyOf": [tcp, { "type": "null" }],
                },
                "mongo": {
                    "description": "MongoDB's wire protocol.",
                    "anyOf": [mongo, { "type": "null" }],
                },
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }],
    })
}
