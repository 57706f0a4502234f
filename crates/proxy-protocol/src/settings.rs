//! The settings under `proxy_protocol` of a listener, and of a cluster.

use crate::{Accepted, MAX_V2, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use values::{Keyword, OneOrMore, Text};

/// From whom a listener expects the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ from: 10.0.0.0/8 }`")]
#[schemars(rename = "ListenerProxyProtocol")]
pub struct ListenerSettings {
    /// The load balancers: addresses, networks such as `10.0.0.0/8`, or globs. Their connections must
    /// begin with a header, which says who the client is; those of others must not, and none is read.
    pub from: OneOrMore<String>,
    /// The version that is accepted: `any`, `v1` or `v2`. Default: `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Text<Accepted>>,
    /// The longest header of version 2, in bytes: 536 to 4096. Default: 536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Text<values::InRange<536, 4096>>>,
}

impl ListenerSettings {
    /// The versions that are accepted.
    pub fn accepted(&self) -> Accepted {
        self.version.map_or(Accepted::Any, |it| it.0)
    }

    /// The longest header of version 2, in bytes.
    pub fn max(&self) -> usize {
        self.max.map_or(MAX_V2, |it| it.get())
    }
}

impl Keyword for Accepted {
    const EXPECTED: &str = "`any`, `v1` or `v2`";

    const WORDS: &[(&str, Self)] =
        &[("any", Accepted::Any), ("v1", Accepted::V1), ("v2", Accepted::V2)];
}

impl Keyword for Version {
    const EXPECTED: &str = "`v1` or `v2`";

    const WORDS: &[(&str, Self)] = &[("v1", Version::V1), ("v2", Version::V2)];
}
