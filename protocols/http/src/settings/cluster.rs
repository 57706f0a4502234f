//! Settings under `http` of a cluster.

use super::version::UpstreamVersion;
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
    /// The HTTP version of the endpoints: 1 for HTTP/1.1, 2 for HTTP/2, or `auto` for what TLS agrees
    /// upon with each connection (ALPN). Default: 1 behind `http`, 2 behind `grpc`, and there 1 with
    /// `reverse_bridge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text<UpstreamVersion>>,
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
    pub fn version(&self) -> UpstreamVersion {
        self.version.map_or(UpstreamVersion::Http1, |Text(version)| version)
    }

    /// Whether TLS has to agree on the version, which takes a cluster with `tls`.
    pub fn needs_tls(&self) -> bool {
        self.version() == UpstreamVersion::Auto
    }

    /// Protocol and limits of the connections. With `needs_http2` the services speak HTTP/2, unless
    /// the settings say that they speak HTTP/1.1.
    pub fn pool_plan(&self, needs_http2: bool) -> PoolPlan {
        let version = match self.version {
            Some(Text(UpstreamVersion::Auto)) | None if needs_http2 => UpstreamVersion::Http2,
            _ => self.version(),
        };
        PoolPlan {
            version,
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

/// The clusters among `named` whose settings have a version with a `fault`, which is text that follows
/// the cluster's name.
pub fn unfit_clusters(
    named: impl IntoIterator<Item = (Option<Vec<String>>, String)>,
    fault: impl Fn(UpstreamVersion) -> Option<&'static str>,
    settings: &BTreeMap<Arc<str>, ClusterSettings>,
    hint: &'static str,
) -> Vec<UnfitCluster> {
    let fault = |cluster: &str| fault(settings.get(cluster)?.version?.0);
    let unfit = named.into_iter().filter_map(|(path, name)| {
        let message = format!("`{name}` {}", fault(&name)?);
        Some(UnfitCluster { path, message, hint })
    });
    unfit.collect()
}
