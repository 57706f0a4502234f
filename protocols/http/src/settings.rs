//! What people write under `protocol: { http: { … } }`, and under `http` of a cluster.
//!
//! Everything here serializes to what it was parsed from, for `/config`.

mod cluster;
mod cors;
mod route;
mod word;

pub use cluster::ClusterSettings;
pub use cors::CorsSettings;
pub use route::{
    BackoffSettings, BudgetSettings, EditSettings, HedgeSettings, MatchSettings, MirrorSettings,
    PatternRewrite, RedirectSettings, ReplySettings, RetrySettings, RewriteSettings, RouteSettings,
    UpgradeSettings, ValueMatch, WeightedSettings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use values::{Between, Count, OneOrMore, OrOff, Size, Text};
pub use word::{ForwardedSetting, RetryCondition, StatusRange, ViaName};

/// What an HTTP listener does with requests, and how much it bears. Every key is optional.
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
    /// Which other sites' pages may ask (CORS), on every route that says nothing else. Default: that is
    /// left to the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsSettings>,
    /// How many bytes a request's head may have: its target and all its headers. What is longer
    /// is refused with 431. Default: `64KiB`.
    pub max_head: Text<Size>,
    /// How many headers a request may have. More are refused with 431. Default: 100.
    pub max_headers: Text<Between<1, 10_000>>,
    /// How many bytes a request's target may have. What is longer is refused with 414.
    /// Default: `8KiB`.
    pub max_target: Text<Size>,
    /// How many bytes a request's body may have, or `off`. More are refused with 413. A route may
    /// say otherwise. Default: `off`.
    pub max_request_body: Text<OrOff<Size>>,
    /// How long nothing may move either way within a request and its answer, or `off`. A route's
    /// `idle_timeout` says otherwise. Default: `5m`.
    pub stream_idle_timeout: Text<OrOff<Duration>>,
    /// How long a client may take to send a whole request, from the end of its head, or `off`.
    /// The listener's `message_timeout` limits pauses in it besides. Default: `off`.
    pub request_timeout: Text<OrOff<Duration>>,
    /// Answer clients of HTTP/1 that have ended their half of the connection while their answer is
    /// due, as `nc -N` does. With `false` they are gone, and the service's request ends with
    /// them. Default: `false`.
    pub half_close: bool,
    /// How many requests an HTTP/2 client may have under way on one connection. Default: 128.
    pub max_concurrent_streams: Text<Between<1, 100_000>>,
    /// After how many requests a client's connection is closed, or `off`. Default: `off`.
    pub max_requests_per_connection: Text<OrOff<Count>>,
    /// How many proxies before this one are ours, so that what they say of the client in
    /// `x-forwarded-for` or `forwarded` is believed. Default: 0.
    pub trusted_hops: Text<Between<0, 100>>,
    /// Which headers tell services of the client: `x_forwarded` (`x-forwarded-for`, `-proto` and
    /// `-host`), `forwarded` (RFC 7239), `both`, or `off`. Default: `x_forwarded`.
    pub forwarded: Text<ForwardedSetting>,
    /// Give a request without an `x-request-id` one. Default: `true`.
    pub request_id: bool,
    /// Pass `traceparent` on, and begin a trace where there is none (W3C Trace Context).
    /// Default: `true`.
    pub trace: bool,
    /// The name by which the proxy adds itself to `via` both ways, or `off`. Default: `off`.
    pub via: Text<OrOff<ViaName>>,
    /// Answers that count as failed, the service's fault: `5xx`, `503`, `500-504`.
    /// Default: `5xx`.
    pub failed: OneOrMore<Text<StatusRange>>,
    /// Answers that count as rejected, the client's fault. What is in `failed` too counts as
    /// failed. Default: `4xx`.
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
            max_headers: Text(Between(100)),
            max_target: Text(Size(8 << 10)),
            max_request_body: Text(None),
            stream_idle_timeout: Text(Some(Duration::from_secs(5 * 60))),
            request_timeout: Text(None),
            half_close: false,
            max_concurrent_streams: Text(Between(128)),
            max_requests_per_connection: Text(None),
            trusted_hops: Text(Between(0)),
            forwarded: Text(ForwardedSetting::XForwarded),
            request_id: true,
            trace: true,
            via: Text(None),
            failed: class(5),
            rejected: class(4),
        }
    }
}
