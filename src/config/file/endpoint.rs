//! What people write about an endpoint: `host:port`, or a map with more to it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer,
};
use std::{borrow::Cow, fmt};
use values::located::Given;
use values::{Between, FromText, Zone, told};
use values::{Dialled, Srv};

/// An endpoint, in short or with its keys.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// `host:port`.
    Short(Dialled),
    /// A map.
    Long(Keys),
}

/// One endpoint, where `host:port` does not say it all. Either `address` or `srv` is required.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Endpoint")]
#[schemars(extend("anyOf" = [{ "required": ["address"] }, { "required": ["srv"] }]))]
pub(crate) struct Keys {
    /// `host:port`; a name stands for all addresses that it has. Default: what `srv` tells.
    pub(crate) address: Given<Dialled>,
    /// The name of an SRV record, which tells hosts, ports, weights and priorities:
    /// `_db._tcp.example.net`, or `db+srv://example.net`, which means the same.
    /// Default: `address` is given.
    pub(crate) srv: Given<Srv>,
    /// Its share beside the others of its priority; not beside `srv`. Default: 1.
    pub(crate) weight: Given<Between<1, 1000>>,
    /// 0 is served first, greater ones when too few before them are healthy; without gaps, and
    /// not beside `srv`. Default: 0.
    pub(crate) priority: Given<Between<0, 127>>,
    /// The zone that it is in. Default: none.
    pub(crate) zone: Given<Zone>,
}

const KEYS: &[&str] = &["address", "srv", "weight", "priority", "zone"];

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Endpoint", KEYS, EndpointVisitor)
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`host:port`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Endpoint, E> {
        Dialled::from_text(text).map(Endpoint::Short).map_err(told)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(map)).map(Endpoint::Long)
    }
}

impl JsonSchema for Endpoint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EndpointOrText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Dialled::schema(), generator.subschema_for::<Keys>()] })
    }
}
