//! The config of an endpoint: `host:port`, or a map.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer,
};
use std::{borrow::Cow, fmt};
use values::spanned::Opt;
use values::{FromText, InRange, Zone, to_serde_error};
use values::{HostName, HostPort, SrvTarget};

/// An endpoint, as `host:port` or with its keys.
#[derive(Debug)]
pub(crate) enum EndpointConfig {
    /// `host:port`.
    Short(HostPort),
    /// A map.
    Long(Box<EndpointKeys>),
}

/// One endpoint with its keys. Either `address` or `srv` is required.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Endpoint")]
#[schemars(extend("anyOf" = [{ "required": ["address"] }, { "required": ["srv"] }]))]
pub(crate) struct EndpointKeys {
    /// `host:port`; all addresses of a name are used. Default: from `srv`.
    pub(crate) address: Opt<HostPort>,
    /// The name of an SRV record with hosts, ports, weights and priorities: `_db._tcp.example.net`,
    /// or the equivalent `db+srv://example.net`. Default: `address` is given.
    pub(crate) srv: Opt<SrvTarget>,
    /// Its weight among endpoints of the same priority; not with `srv`. Default: 1.
    pub(crate) weight: Opt<InRange<1, 1000>>,
    /// Endpoints of priority 0 are used first, those of higher numbers when too few before them are
    /// healthy; without gaps, and not with `srv`. Default: 0.
    pub(crate) priority: Opt<InRange<0, 127>>,
    /// Its zone. Default: none.
    pub(crate) zone: Opt<Zone>,
    /// The name that it is asked for (SNI) and that its certificate must have, with the cluster's
    /// `tls`. Default: the cluster's `tls.server_name`, or else the host as written.
    pub(crate) server_name: Opt<HostName>,
}

const KEYS: &[&str] = &["address", "srv", "weight", "priority", "zone", "server_name"];

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Endpoint", KEYS, EndpointVisitor)
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = EndpointConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`host:port`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EndpointConfig, E> {
        HostPort::from_text(text).map(EndpointConfig::Short).map_err(to_serde_error)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointConfig, A::Error> {
        let keys = EndpointKeys::deserialize(MapAccessDeserializer::new(map))?;
        Ok(EndpointConfig::Long(keys.into()))
    }
}

impl JsonSchema for EndpointConfig {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EndpointOrText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [HostPort::schema(), generator.subschema_for::<EndpointKeys>()] })
    }
}
