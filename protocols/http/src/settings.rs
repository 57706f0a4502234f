//! Settings under `protocol: { http: { … } }` and under `http` of a cluster.
//!
//! Everything here serializes to what it was parsed from, for `/config`.

mod cluster;
mod cors;
mod route;
mod version;
mod word;

use crate::{header_policy::CertificateStyle, routes::upgraded_clusters};
pub use cluster::{ClusterSettings, UnfitCluster, unfit_clusters};
pub use cors::CorsSettings;
pub use route::{
    BackoffSettings, BudgetSettings, EditSettings, HedgeSettings, MatchSettings, MirrorSettings,
    PatternRewrite, RedirectSettings, ReplySettings, RetrySettings, RewriteSettings, RouteSettings,
    UpgradeSettings, ValueMatch, WeightedSettings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use values::{Count, InRange, OneOrMore, OrOff, Size, Text};
pub use version::UpstreamVersion;
pub use word::{ForwardedSetting, RetryCondition, StatusRange, ViaName};

/// How an HTTP listener handles requests, and its limits. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "HttpSettings",
    expecting = "keys and values, such as `{ routes: [{ name: all, cluster: shop }] }`"
)]
pub struct Settings {
    /// Where requests go: the first route that matches. Default: all to the listener's `cluster`,
    /// as the route `default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSettings>,
    /// CORS: which other origins' pages may call, on every route without a `cors` of its own.
    /// Default: left to the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsSettings>,
    /// Largest head of a request, in bytes: its target and all its headers. Larger ones are
    /// rejected with 431. Default: `64KiB`.
    pub max_head: Text<Size>,
    /// Most headers of a request. More are rejected with 431. Default: 100.
    pub max_headers: Text<InRange<1, 10_000>>,
    /// Longest target of a request, in bytes. Longer ones are rejected with 414. Default: `8KiB`.
    pub max_target: Text<Size>,
    /// Largest body of a request, in bytes, or `off`. Larger ones are rejected with 413. Routes may
    /// override it. Default: `off`.
    pub max_request_body: Text<OrOff<Size>>,
    /// Longest time without a byte in either direction during a request and its response, or `off`.
    /// Routes may override it with `idle_timeout`. Default: `5m`.
    pub stream_idle_timeout: Text<OrOff<Duration>>,
    /// How long a client may take to send a whole request, from the end of its head, or `off`. The
    /// listener's `message_timeout` limits pauses in it as well. Default: `off`.
    pub request_timeout: Text<OrOff<Duration>>,
    /// Send responses to HTTP/1 clients that have closed their sending side, as `nc -N` does. With
    /// `false` such clients count as gone, and their requests are cancelled. Default: `false`.
    pub half_close: bool,
    /// Most concurrent requests of an HTTP/2 client on one connection. Default: 128.
    pub max_concurrent_streams: Text<InRange<1, 100_000>>,
    /// Most requests on a client's connection, which is then closed, or `off`. Default: `off`.
    pub max_requests_per_connection: Text<OrOff<Count>>,
    /// Number of trusted proxies before this one, whose entries in `x-forwarded-for` or `forwarded`
    /// are believed. Default: 0.
    pub trusted_hops: Text<InRange<0, 100>>,
    /// Headers that pass on the client's address: `x_forwarded` (`x-forwarded-for`, `-proto` and
    /// `-host`), `forwarded` (RFC 7239), `both`, or `off`. Default: `x_forwarded`.
    pub forwarded: Text<ForwardedSetting>,
    /// Headers that pass on the client's certificate: `xfcc` (`x-forwarded-client-cert`), `rfc9440`
    /// (`client-cert` and `client-cert-chain`), or `off`. Such headers of clients are removed, unless
    /// `trusted_hops` trusts them. Default: `off`.
    pub client_certificate_header: Text<CertificateStyle>,
    /// Add an `x-request-id` to requests without one. Default: `true`.
    pub request_id: bool,
    /// Pass `traceparent` on, and start a trace where there is none (W3C Trace Context). Default:
    /// `true`.
    pub trace: bool,
    /// The name by which the proxy adds itself to `via` in requests and responses, or `off`.
    /// Default: `off`.
    pub via: Text<OrOff<ViaName>>,
    /// Statuses that count as failed, the service's fault: `5xx`, `503`, `500-504`. Default: `5xx`.
    pub failed: OneOrMore<Text<StatusRange>>,
    /// Statuses that count as rejected, the client's fault. `failed` takes precedence. Default:
    /// `4xx`.
    pub rejected: OneOrMore<Text<StatusRange>>,
}

impl Default for Settings {
    fn default() -> Self {
        let class = |digit: u16| {
            OneOrMore(vec![Text(StatusRange { from: digit * 100, to: digit * 100 + 99 })])
        };
        Self {
            routes: Vec::new(),
            cors: None,
            max_head: Text(Size(64 << 10)),
            max_headers: Text(InRange(100)),
            max_target: Text(Size(8 << 10)),
            max_request_body: Text(None),
            stream_idle_timeout: Text(Some(Duration::from_secs(5 * 60))),
            request_timeout: Text(None),
            half_close: false,
            max_concurrent_streams: Text(InRange(128)),
            max_requests_per_connection: Text(None),
            trusted_hops: Text(InRange(0)),
            forwarded: Text(ForwardedSetting::XForwarded),
            client_certificate_header: Text(CertificateStyle::Off),
            request_id: true,
            trace: true,
            via: Text(None),
            failed: class(5),
            rejected: class(4),
        }
    }
}

impl Settings {
    /// The clusters that can't change a connection's protocol as the routes to them allow.
    pub fn unfit_clusters(
        &self,
        clusters: &BTreeMap<Arc<str>, ClusterSettings>,
    ) -> Vec<UnfitCluster> {
        let fault = |version| match version {
            UpstreamVersion::Http1 => None,
            UpstreamVersion::Http2 => Some("speaks HTTP/2, where no connection can change"),
            UpstreamVersion::Auto => Some("may speak HTTP/2, where no connection can change"),
        };
        let hint = "lead it to a cluster with `http: { version: 1 }`";
        let upgraded = upgraded_clusters(&self.routes).into_iter();
        let upgraded = upgraded.map(|(path, name)| (Some(path), name.to_owned()));
        unfit_clusters(upgraded, fault, clusters, hint)
    }
}
