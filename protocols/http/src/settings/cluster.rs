//! Settings under `http` of a cluster.

use crate::pool::PoolPlan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use values::{Count, InRange, OrOff, Size, Text};

/// How the proxy speaks HTTP to a cluster's endpoints. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "HttpClusterSettings",
    expecting = "keys and values, such as `{ version: 2 }`"
)]
pub struct ClusterSettings {
    /// The HTTP version of the endpoints: 1 for HTTP/1.1, or 2 for HTTP/2 with prior knowledge.
    /// Default: 1 behind `http`, 2 behind `grpc`, and there 1 with `reverse_bridge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text<InRange<1, 2>>>,
    /// Most requests on a connection to an endpoint, which is then closed, or `off`. Default:
    /// `off`.
    pub max_requests_per_connection: Text<OrOff<Count>>,
    /// How long an idle connection is kept, or `off`. It should be shorter than the endpoints' own
    /// idle timeout, or they close connections just when they are needed. Default: `4s`.
    pub idle_timeout: Text<OrOff<Duration>>,
    /// Most requests that share one HTTP/2 connection, within the endpoint's own limit. Default:
    /// 100.
    pub max_concurrent_streams: Text<InRange<1, 100_000>>,
    /// Most idle connections that each worker keeps to each endpoint. Default: 64.
    pub max_idle: Text<InRange<0, 10_000>>,
    /// Largest head of a response, in bytes. Larger ones count as failed, and the client gets 502.
    /// Default: `64KiB`.
    pub max_head: Text<Size>,
}

impl ClusterSettings {
    /// Their key in a cluster.
    pub const KEY: &str = "http";

    /// The version for endpoints of plain HTTP.
    pub fn version(&self) -> http::Version {
        match self.version {
            Some(Text(InRange(2))) => http::Version::HTTP_2,
            _ => http::Version::HTTP_11,
        }
    }

    /// Protocol and limits of the connections; `http2` is the default of the version.
    pub fn pool_plan(&self, http2: bool) -> PoolPlan {
        PoolPlan {
            http2: self.version.map_or(http2, |version| version.get() == 2),
            max_requests: self.max_requests_per_connection.0.map_or(u64::MAX, |it| it.0 as u64),
            max_streams: self.max_concurrent_streams.get(),
            idle_timeout: self.idle_timeout.0,
            max_idle: self.max_idle.get(),
            max_head: usize::try_from(self.max_head.bytes()).unwrap_or(usize::MAX),
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            version: None,
            max_requests_per_connection: Text(None),
            idle_timeout: Text(Some(Duration::from_secs(4))),
            max_concurrent_streams: Text(InRange(100)),
            max_idle: Text(InRange(64)),
            max_head: Text(Size(64 << 10)),
        }
    }
}

/// A cluster whose HTTP version a listener can't use.
#[derive(Debug)]
pub struct UnfitCluster {
    /// The keys that lead to it; `None` for the listener's own `cluster`.
    pub path: Option<Vec<String>>,
    /// What is wrong with it.
    pub message: String,
    /// How to fix it.
    pub hint: &'static str,
}

/// The clusters among `named` whose settings set this HTTP version; each is unfit for the reason in
/// `message`.
pub fn unfit_clusters(
    named: impl IntoIterator<Item = (Option<Vec<String>>, String)>,
    version: http::Version,
    settings: &BTreeMap<Arc<str>, ClusterSettings>,
    (message, hint): (&str, &'static str),
) -> Vec<UnfitCluster> {
    let has_version = |cluster: &str| {
        let settings = settings.get(cluster).filter(|it| it.version.is_some());
        settings.is_some_and(|it| it.version() == version)
    };
    let unfit = named.into_iter().filter(|(_, name)| has_version(name));
    unfit
        .map(|(path, name)| UnfitCluster { path, message: format!("`{name}` {message}"), hint })
        .collect()
}
