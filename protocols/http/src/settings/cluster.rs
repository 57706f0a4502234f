//! What people write under `http` of a cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use values::{Between, Count, OrOff, Size, Text};

/// How a cluster's endpoints are spoken to by HTTP. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "HttpClusterSettings",
    expecting = "keys and values, such as `{ version: 2 }`"
)]
pub struct ClusterSettings {
    /// The version of HTTP that the endpoints speak: 1 for HTTP/1.1, or 2 for HTTP/2 without
    /// asking first. Default: 1 behind `http`, 2 behind `grpc`, and there 1 with `reverse_bridge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text<Between<1, 2>>>,
    /// After how many requests a connection to an endpoint is closed, or `off`. Default: `off`.
    pub max_requests_per_connection: Text<OrOff<Count>>,
    /// How long a connection is kept that has nothing to do, or `off`. It should be shorter than
    /// the endpoints' own time for that, or they close it just when it is needed. Default: `4s`.
    pub idle_timeout: Text<OrOff<Duration>>,
    /// How many requests may share one HTTP/2 connection, within what the endpoint itself allows.
    /// Default: 100.
    pub max_concurrent_streams: Text<Between<1, 100_000>>,
    /// How many connections with nothing to do each worker keeps to each endpoint. Default: 64.
    pub max_idle: Text<Between<0, 10_000>>,
    /// How many bytes an answer's head may have. What is longer counts as failed, and the client
    /// is told 502. Default: `64KiB`.
    pub max_head: Text<Size>,
}

impl ClusterSettings {
    /// The key of a cluster that they stand under.
    pub const KEY: &str = "http";

    /// The version that is spoken to endpoints of plain HTTP.
    pub fn version(&self) -> http::Version {
        match self.version {
            Some(Text(Between(2))) => http::Version::HTTP_2,
            _ => http::Version::HTTP_11,
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            version: None,
            max_requests_per_connection: Text(None),
            idle_timeout: Text(Some(Duration::from_secs(4))),
            max_concurrent_streams: Text(Between(100)),
            max_idle: Text(Between(64)),
            max_head: Text(Size(64 << 10)),
        }
    }
}
